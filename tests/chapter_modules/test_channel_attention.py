"""The chapter on channel attention: what attention reads, and the statistics of the single-frequency experiment."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from chapters.channel_attention import (
    attention_maps,
    effective_dimension,
    frequencies_differ,
    frequency_grid,
    listed_advantage,
    mean_spectrum,
    mirror_ceiling,
    mirror_gap,
    order_correlation,
    paired_difference,
    plot_comparison,
    plot_gate,
    plot_heat_map,
    reliability,
    significant_correlation,
    spearman,
    table1_ranks,
)
from chapters.section_quality import Accuracies
from emseg.errors import UsageError
from emseg.frequency import TOP16
from emseg.frequency.attention import SqueezeExcite
from emseg.frequency.resnet import ResNet, ResNetDesign

ALL = frequency_grid()
SMALL = ResNetDesign(depths=(1, 1), base_channels=16, in_channels=1, n_classes=4)


def accuracy_of(values, n_seeds: int = 3) -> np.ndarray:
    """Return the same accuracy for every seed."""
    return np.repeat(np.asarray(values, dtype=float)[:, None], n_seeds, axis=1)


def test_the_grid_is_the_49_frequencies_and_its_steps_are_parts_of_it():
    assert len(ALL) == 49
    assert frequency_grid(3) == ((0, 0), (0, 3), (0, 6), (3, 0), (3, 3), (3, 6), (6, 0), (6, 3), (6, 6))
    assert set(TOP16) <= set(ALL)


def test_ranks_are_table_1s_order_and_0_for_the_rest():
    ranks = dict(zip(ALL, table1_ranks(ALL).tolist(), strict=True))
    assert [ranks[pair] for pair in TOP16] == list(range(1, 17))
    assert sum(rank == 0 for rank in ranks.values()) == 33


def test_accuracies_in_table_1s_order_correlate_fully_and_reversed_ones_inversely():
    ranks = table1_ranks(ALL)
    falling = np.where(ranks > 0, 1 - 0.01 * ranks, 0.5)
    found = order_correlation(ALL, accuracy_of(falling), seed=0)
    assert found.value == pytest.approx(1)
    assert found.p == pytest.approx(1e-4)
    assert found.n == 16
    assert order_correlation(ALL, accuracy_of(-falling), seed=0).value == pytest.approx(-1)
    assert order_correlation(ALL, accuracy_of(-falling), seed=0).p == 1


def test_frequencies_that_are_not_listed_do_not_touch_the_order_correlation():
    rng = np.random.default_rng(0)
    values = rng.random(49)
    changed = np.where(table1_ranks(ALL) > 0, values, rng.random(49))
    assert order_correlation(ALL, accuracy_of(values), seed=0) == order_correlation(ALL, accuracy_of(changed), seed=0)


def test_the_p_value_of_the_order_agrees_with_the_exact_one_for_few_frequencies():
    """Five listed frequencies have 120 orders: p by drawing lies within four standard errors of p by counting."""
    from itertools import permutations

    few = [*TOP16[:5], (6, 6)]
    values = np.array([0.9, 0.7, 0.8, 0.6, 0.65, 0.1])
    found = order_correlation(few, accuracy_of(values), seed=0)
    merit = -np.arange(1, 6)
    exact = np.mean(
        [spearman(merit[list(order)], values[:5]) >= found.value - 1e-12 for order in permutations(range(5))]
    )
    assert found.p == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 9999))


def test_the_advantage_is_the_difference_of_two_means():
    listed = table1_ranks(ALL) > 0
    found = listed_advantage(ALL, accuracy_of(np.where(listed, 0.8, 0.7)), seed=0)
    assert found.value == pytest.approx(0.1)
    assert found.p == pytest.approx(1e-4)
    assert listed_advantage(ALL, accuracy_of(np.full(49, 0.5)), seed=0).p == 1


def test_p_values_are_uniform_where_there_is_no_effect():
    """Of 200 experiments on noise about one in ten has p below 0.1 (binomial: 6 to 36 at four standard errors)."""
    rng = np.random.default_rng(3)
    p = [listed_advantage(frequency_grid(3), rng.normal(size=(9, 2)), seed=k).p for k in range(200)]
    assert 6 <= np.sum(np.array(p) < 0.1) <= 36


@given(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=20), st.integers(0, 1000))
def test_spearman_is_scipys(values, seed):
    other = np.random.default_rng(seed).integers(0, 5, len(values)).astype(float)
    if len(set(values)) > 1 and len(set(other)) > 1:
        assert spearman(np.array(values), other) == pytest.approx(stats.spearmanr(values, other).statistic, abs=1e-9)
    else:
        assert spearman(np.array(values), other) == 0


def test_the_significant_correlation_has_the_p_value_of_the_level():
    for n in (7, 16, 49):
        r = significant_correlation(n)
        t = r * np.sqrt((n - 2) / (1 - r * r))
        assert stats.t.sf(t, n - 2) == pytest.approx(0.05)


def test_reliability_is_1_without_noise_and_0_without_differences():
    assert reliability(accuracy_of(np.linspace(0, 1, 49))) == pytest.approx(1)
    assert reliability(accuracy_of(np.full(49, 0.5))) == 0
    offsets = np.linspace(0, 1, 49)[:, None] + np.array(
        [0.0, 5.0, -2.0]
    )  # a seed that is better everywhere is no noise
    assert reliability(offsets) == pytest.approx(1)


def test_reliability_finds_the_share_of_variance_that_was_put_in():
    """True differences of sd 1, noise of sd 1, 3 seeds: the means' variance is 1 + 1/3, of which 3/4 is no noise."""
    rng = np.random.default_rng(1)
    found = [reliability(rng.normal(size=(49, 1)) + rng.normal(size=(49, 3))) for _ in range(200)]
    assert np.mean(found) == pytest.approx(0.75, abs=0.02)


def test_reliability_of_two_seeds_is_the_corrected_correlation_of_both():
    """Two seeds of equal variance: 2 r / (1 + r), Spearman and Brown's formula."""
    rng = np.random.default_rng(4)
    a = rng.normal(size=4000)
    two = np.stack([a + rng.normal(size=4000), a + rng.normal(size=4000)], axis=1)
    two /= two.std(axis=0)
    r = np.corrcoef(two.T)[0, 1]
    assert reliability(two) == pytest.approx(2 * r / (1 + r), abs=1e-6)


def test_noise_alone_has_a_large_p_and_real_differences_a_small_one():
    rng = np.random.default_rng(5)
    assert frequencies_differ(rng.normal(size=(49, 3)), seed=0).p > 0.05
    assert frequencies_differ(rng.normal(size=(49, 3)) + 2 * rng.normal(size=(49, 1)), seed=0).p < 0.01


def test_the_mirror_gap_is_the_noise_of_one_mean():
    rng = np.random.default_rng(6)
    symmetric = {pair: rng.normal() for pair in ALL if pair[0] <= pair[1]}
    means = np.array([symmetric[min(h, w), max(h, w)] for h, w in ALL])
    assert mirror_gap(ALL, accuracy_of(means)) == 0
    found = [mirror_gap(ALL, accuracy_of(means + 0.1 * rng.normal(size=49), 1)) for _ in range(200)]
    assert np.sqrt(np.mean(np.square(found))) == pytest.approx(0.1, rel=0.05)


def test_no_accuracies_that_are_alike_for_mirrored_frequencies_beat_the_mirror_ceiling():
    """Over random symmetric accuracies and the best symmetric order itself."""
    ceiling = mirror_ceiling(ALL)
    assert 0.5 < ceiling < 1
    merit = -table1_ranks(ALL)
    listed = merit < 0
    rng = np.random.default_rng(7)
    for _ in range(500):
        symmetric = {pair: rng.normal() for pair in ALL if pair[0] <= pair[1]}
        means = np.array([symmetric[min(h, w), max(h, w)] for h, w in ALL])
        assert spearman(merit[listed], means[listed]) <= ceiling + 1e-9


def test_the_paired_interval_is_students():
    found = Accuracies(np.zeros((1, 2)), {"se": [0.6, 0.7, 0.65], "none": [0.5, 0.65, 0.62], "own": [1.0]}, 7, 0, 1.0)
    expected = stats.ttest_rel(found.compared["se"], found.compared["none"]).confidence_interval(0.95)
    assert paired_difference(found, "se", "none") == pytest.approx((0.06, expected.low, expected.high))
    with pytest.raises(UsageError, match="at least 3 seeds"):
        paired_difference(found, "own", "own")


def test_effective_dimension_counts_independent_channels():
    rng = np.random.default_rng(8)
    one = rng.normal(size=(20_000, 1))
    assert effective_dimension(np.repeat(one, 8, axis=1)) == pytest.approx(1)
    assert effective_dimension(rng.normal(size=(20_000, 8)) * np.arange(1, 9)) == pytest.approx(8, rel=0.01)
    twice = rng.normal(size=(20_000, 4)).repeat(2, axis=1)
    assert effective_dimension(twice) == pytest.approx(4, rel=0.01)


def test_the_maps_are_those_that_the_attention_weights():
    """Attention times map plus shortcut, behind a ReLU, is what the block hands on."""
    network = ResNet(
        SMALL, lambda channels, _: SqueezeExcite(channels, reduction=4), generator=torch.Generator().manual_seed(0)
    ).eval()
    images = torch.randn(3, 1, 56, 56, generator=torch.Generator().manual_seed(1))
    maps = attention_maps(network, images)
    assert [tuple(one.shape) for one in maps] == [(3, 16, 14, 14), (3, 32, 7, 7)]
    with torch.no_grad():
        stem = network.maxpool(torch.relu(network.bn1(network.conv1(images))))
        expected = torch.relu(network.layer1[0].attention(maps[0]) + stem)
        torch.testing.assert_close(network.layer1(stem), expected)
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_a_network_without_attention_layers_is_refused():
    with pytest.raises(UsageError, match="blocks with a submodule `attention`"):
        attention_maps(torch.nn.Conv2d(1, 1, 3), torch.zeros(1, 1, 8, 8))


def test_a_map_of_one_cosine_has_all_its_variance_at_that_frequency_whatever_its_mean():
    u = torch.arange(20) + 0.5
    wave = torch.cos(torch.pi * 3 * u / 20)[:, None] * torch.cos(torch.pi * 2 * u / 20)
    spectrum = mean_spectrum(wave[None, None] + 7)
    assert spectrum[3, 2] == pytest.approx(1, abs=1e-6)
    assert spectrum.sum() == pytest.approx(1)


def test_the_gate_is_drawn_with_the_papers_equations():
    """Within the canvas, from the frequency components to the factors."""
    axis = plot_gate().axes[0]
    written = " ".join(text.get_text() for text in axis.texts)
    assert all(f"(Eq. {number})" in written for number in (4, 5, 6))
    box = axis.get_window_extent()
    assert all(box.containsx(text.get_window_extent().x1) for text in axis.texts)
    plt.close("all")


def test_the_comparison_draws_differences_from_the_reference_with_their_intervals():
    found = Accuracies(np.zeros((1, 2)), {"none": [0.5, 0.6, 0.7], "se": [0.6, 0.6, 0.9]}, 6, 0, 1.0)
    axis = plot_comparison(found).axes[0]
    _, seeds, interval, mean = axis.lines
    np.testing.assert_allclose(sorted(seeds.get_xdata()), [0, 10, 20], atol=1e-9)
    assert mean.get_xdata() == pytest.approx([10])
    assert interval.get_xdata() == pytest.approx([10 - 24.84, 10 + 24.84], abs=0.01)
    plt.close("all")


def test_the_heat_map_prints_what_it_colours_and_frames_table_1():
    """Points relative to (0, 0) in the tried cells, and sixteen numbered frames whichever cells were tried."""
    frequencies = frequency_grid(3)
    accuracy = np.random.default_rng(0).random((9, 3))
    left = plot_heat_map(frequencies, accuracy).axes[0]
    texts = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in left.texts}
    for pair, mean in zip(frequencies, accuracy.mean(axis=1), strict=True):
        assert float(texts[pair].replace("\N{MINUS SIGN}", "-")) == pytest.approx(
            100 * (mean - accuracy[0].mean()), abs=0.051
        )
    assert len(left.patches) == len(TOP16)
    plt.close("all")


def test_a_step_beyond_the_grid_is_refused():
    with pytest.raises(UsageError, match="`step` must be a whole number from 1 to 6; got 7"):
        frequency_grid(7)
