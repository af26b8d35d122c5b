"""A map of a network changes with its weights, a map of the image does not; deletion follows the linear theory."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from emseg.attribution.attribute import Attribution
from emseg.attribution.captum_methods import attribute_with_captum
from emseg.attribution.sanity import (
    cascading_randomisation,
    deletion_curve,
    insertion_curve,
    rank_correlation,
)
from emseg.errors import UsageError

IMAGE = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)
TARGETS = [(8, 8), (4, 11)]


def _network(seed=0):
    generator = torch.Generator().manual_seed(seed)
    layers = nn.Sequential(*(nn.Conv2d(1 if i == 0 else 4, 1 if i == 3 else 4, 3, padding=1) for i in range(4)))
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return layers.eval()


def _saliency(network):
    return attribute_with_captum(network, IMAGE, TARGETS, method="saliency")


def _edges(network):
    """A detector of edges that looks at the image alone: what the check must catch."""
    edges = np.abs(np.gradient(IMAGE)[0])
    maps = np.stack([edges] * len(TARGETS)).astype(np.float32)
    return Attribution(maps=maps, targets=np.array(TARGETS), scores=np.zeros(2), baseline_scores=np.zeros(2))


def test_maps_of_the_network_lose_their_ranks_and_maps_of_the_image_keep_them():
    honest = cascading_randomisation(_network(), _saliency, n_stages=2, seed=1)
    assert np.allclose(honest.correlation[0], 1.0)
    assert honest.correlation[-1].mean() < 0.6
    assert honest.n_layers == (0, 2, 4)
    assert np.allclose(cascading_randomisation(_network(), _edges, n_stages=2).correlation, 1.0)


def test_the_callers_network_keeps_its_weights_and_the_last_layers_go_first():
    network = _network()
    before = [parameter.clone() for parameter in network.parameters()]
    seen = []

    def attribute(one):
        seen.append([bool((a != b).any()) for a, b in zip(before, one.parameters(), strict=True)])
        return _saliency(one)

    cascading_randomisation(network, attribute, n_stages=4)
    assert not any(seen[0])
    assert seen[1] == [False] * 6 + [True, False]
    assert seen[4][0::2] == [True] * 4
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def test_the_rank_correlation_is_spearmans_of_absolute_values():
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=(2, 9, 9)).astype(np.float32)
    expected = spearmanr(np.abs(first).ravel(), np.abs(second).ravel()).statistic
    assert rank_correlation(first, second) == pytest.approx(float(expected))
    signed = spearmanr(first.ravel(), second.ravel()).statistic
    assert rank_correlation(first, second, signed=True) == pytest.approx(float(signed))
    assert rank_correlation(first, np.zeros_like(first)) == 0.0


def test_deletion_and_insertion_of_a_linear_network_are_the_running_sums_of_its_map():
    """f(x) = w x: deleting the pixels of set D lowers the score by the sum of their attributions."""
    conv = nn.Conv2d(1, 1, 5, padding=2, bias=False).eval()
    found = attribute_with_captum(conv, IMAGE, TARGETS, method="integrated_gradients")
    shares = [0.0, 0.02, 0.05, 0.5, 1.0]
    deleted = deletion_curve(conv, IMAGE, found, shares=shares)
    inserted = insertion_curve(conv, IMAGE, found, shares=shares)
    for one, down, up in zip(found.maps, deleted.scores, inserted.scores, strict=True):
        sums = np.concatenate([[0.0], np.cumsum(np.sort(one, axis=None)[::-1])])
        counts = [round(share * one.size) for share in shares]
        assert np.allclose(down, down[0] - sums[counts], atol=1e-4)
        assert np.allclose(up, sums[counts], atol=1e-4)
    assert np.allclose(deleted.relative[:, [0, -1]], [0, 1])


@pytest.mark.parametrize("shares", [[0.1, 1.0], [0.0], [0.0, 0.5, 0.5], [0.0, 1.5]])
def test_shares_that_do_not_rise_from_0_to_1_are_refused(shares):
    with pytest.raises(UsageError, match="must rise from 0"):
        deletion_curve(_network(), IMAGE, _saliency(_network()), shares=shares)


def test_more_stages_than_layers_are_refused():
    with pytest.raises(UsageError, match="number of layers with weights, 4; got 5"):
        cascading_randomisation(_network(), _saliency, n_stages=5)
