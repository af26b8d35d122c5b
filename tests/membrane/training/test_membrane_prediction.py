"""Prediction: the network's own sigmoid, tiles that join without a seam, eight views that agree with their images."""

import numpy as np
import pytest
import torch
from membrane.training.toy_membranes import TINY_DESIGN, toy_image

from emseg.errors import InputError, UsageError
from emseg.membrane.networks import NetworkDesign, build_network, receptive_field
from emseg.membrane.training import predict_membrane
from emseg.membrane.training.membrane_prediction import LARGEST_HALO, dihedral, dihedral_inverse, grid_for


@pytest.fixture(scope="module")
def network():
    return build_network(TINY_DESIGN, seed=0).eval()


def test_a_prediction_is_the_sigmoid_of_the_logits(network):
    image = toy_image("a", 0, side=52).image
    x = torch.from_numpy((image.astype(np.float32) / 255 - 0.5) / 0.5)[None, None]
    with torch.no_grad():
        expected = torch.sigmoid(network(x))[0, 0].numpy()
    np.testing.assert_allclose(predict_membrane(network, image), expected, atol=1e-6)


def test_tiles_join_to_what_the_whole_image_gives(network):
    """The halo that is found from the receptive field suffices, and half of it does not."""
    image = toy_image("a", 1, side=208).image
    whole = predict_membrane(network, image, tile=208)
    radius = receptive_field(network).reach
    assert 8 < radius < 40
    tiled = predict_membrane(network, image, tile=112)
    np.testing.assert_allclose(tiled, whole, atol=1e-6)
    assert np.abs(predict_membrane(network, image, tile=112, halo=radius // 4) - whole).max() > 1e-4


def test_attention_that_looks_at_the_whole_image_has_the_largest_halo():
    design = NetworkDesign(
        encoder="plain", base_channels=8, encoder_depth=2, attention="se", attention_options={"reduction": 4}
    )
    attentive = build_network(design, seed=0)
    assert grid_for(attentive, (2000, 2000), tile=1024, halo=None).halo == LARGEST_HALO
    assert grid_for(attentive, (2000, 2000), tile=256, halo=None).halo == (256 - 4) // 3


def test_views_are_eight_different_ones_and_are_undone():
    x = torch.arange(12.0).reshape(1, 1, 3, 4)
    seen = [dihedral(x, k) for k in range(8)]
    assert len({tuple(one.flatten().tolist()) + tuple(one.shape) for one in seen}) == 8
    for k in range(8):
        assert torch.equal(dihedral_inverse(dihedral(x, k), k), x)


def test_augmented_prediction_turns_with_the_image(network):
    """The mean over all turns and mirror images no longer knows which way is up."""
    image = toy_image("a", 2, side=48).image
    once = predict_membrane(network, image, tta=True)
    turned = predict_membrane(network, np.rot90(image).copy(), tta=True)
    np.testing.assert_allclose(turned, np.rot90(once), atol=1e-5)
    plain = predict_membrane(network, image), predict_membrane(network, np.rot90(image).copy())
    assert np.abs(plain[1] - np.rot90(plain[0])).max() > 1e-3


def test_a_network_stays_as_it_was(network):
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    predict_membrane(network, toy_image("a", 3, side=40).image, tile=32, halo=8)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    network.eval()


def test_small_images_are_one_tile_and_large_ones_begin_at_multiples_of_the_stride(network):
    assert grid_for(network, (300, 500), tile=512, halo=None).n_tiles == 1
    grid = grid_for(network, (300, 500), tile=128, halo=16)
    assert grid.n_tiles > 6
    assert grid.multiple == network.stride == 4


@pytest.mark.parametrize(
    ("image", "options", "error", "message"),
    [
        (np.zeros((40, 40), np.float32), {}, InputError, r"uint8 \(row, column\); got float32"),
        (np.zeros((40, 40, 3), np.uint8), {}, InputError, r"of shape \(40, 40, 3\)"),
        (
            np.zeros((40, 40), np.uint8),
            {"precision": "half"},
            UsageError,
            "must be one of 'fp32', 'bf16', 'fp16'; got",
        ),
        (np.zeros((40, 40), np.uint8), {"tile": 30, "halo": 4}, UsageError, "`tile` must be divisible by `multiple`"),
    ],
)
def test_what_cannot_be_predicted_is_refused(network, image, options, error, message):
    with pytest.raises(error, match=message):
        predict_membrane(network, image, **options)
