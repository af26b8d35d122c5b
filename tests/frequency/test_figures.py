"""The figures of the chapter show what they say: the right curves, frames and numbers."""

import re
from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.patches import Rectangle

from chapters.dct_derivation import figures, pooling_figures
from chapters.dct_derivation.feature_maps import section_drawing
from chapters.dct_derivation.pooling_loss import backbone_stages, expected_loss
from emseg.frequency.dct import TOP16, dct2, dct_basis, printed_inverse


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.mark.parametrize("size", [1, 3, 8])
def test_the_curve_passes_through_the_samples(size: int) -> None:
    """In every panel the dots are the basis and lie on the curve."""
    shown = [axis for axis in figures.plot_cosines(size).axes if axis.get_visible()]
    assert len(shown) == size
    for frequency, axis in enumerate(shown):
        _, curve, dots = axis.lines
        assert np.allclose(dots.get_ydata(), dct_basis(size, [frequency])[0])
        assert np.allclose(
            np.interp(dots.get_xdata(), curve.get_xdata(), curve.get_ydata()), dots.get_ydata(), atol=1e-2
        )


@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_all_cosines_together_rebuild_the_sequence(size: int) -> None:
    """The line of the last panel meets every number, that of the first is the mean."""
    sequence = torch.randn(size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    axes = figures.plot_rebuild(sequence).axes
    first, last = axes[0].lines[0], axes[-1].lines[0]
    assert np.allclose(first.get_ydata(), sequence.mean())
    assert np.allclose(np.interp(np.arange(size), last.get_xdata(), last.get_ydata()), sequence, atol=2e-3)


def test_a_mirrored_sequence_has_no_jump() -> None:
    """Below, the continuation repeats the end values; above, it jumps from the last to the first."""
    above, below = figures.plot_extensions(torch.tensor([1.0, 2.0, 5.0])).axes
    assert above.lines[0].get_ydata().tolist() == [1, 2, 5] * 3
    assert below.lines[0].get_ydata().tolist() == [5, 2, 1, 1, 2, 5, 5, 2, 1]


def test_the_gallery_frames_table_1_in_its_order() -> None:
    """Sixteen frames, and the number in each stands in the cell of its entry."""
    axis = figures.plot_gallery(14).axes[0]
    frames = [patch for patch in axis.patches if isinstance(patch, Rectangle)]
    assert len(frames) == len(TOP16)
    for text, (h, w) in zip(axis.texts, TOP16, strict=True):
        assert text.get_text() == str(TOP16.index((h, w)) + 1)
        column, row = text.get_position()
        assert (row // 16, column // 16) == (h, w)


def test_the_ghost_panel_shows_what_eq2_adds() -> None:
    """Third panel less first is the fourth, and the second equals the first."""
    drawing = section_drawing(24)
    axes = figures.plot_printed_inverse(drawing, dct2(drawing), printed_inverse(dct2(drawing))).axes[:4]
    first, second, third, fourth = (np.asarray(axis.images[0].get_array()) for axis in axes)
    assert np.allclose(first, second)
    assert np.allclose(third - first, fourth)
    assert fourth.max() > 0.3


def test_the_section_drawing_is_one_bright_shape_inside_the_map() -> None:
    """Values are 0 and 1, the rim is dark, and the shape covers some percent."""
    drawing = section_drawing(96)
    assert set(drawing.unique().tolist()) == {0.0, 1.0}
    assert drawing[0].sum() + drawing[-1].sum() + drawing[:, 0].sum() + drawing[:, -1].sum() == 0
    assert 0.03 < drawing.mean() < 0.3


def test_readings_name_their_periods() -> None:
    """Entry h = 6 on 256 pixels: 3 periods raw, 24 in FcaNet at 56, 108 scaled on the full map."""
    titles = " ".join(axis.get_title() for axis in figures.plot_readings(6, 256, 56).axes)
    assert re.findall(r"([\d.]+) periods", titles) == ["3", "24", "108"]


def test_leakage_figure_marks_the_frequency_asked_for_and_its_aliases() -> None:
    """28 pooled to 7, k = 6: aliases 8, 20 and 22."""
    axis = pooling_figures.plot_leakage([(28, 7)], 6).axes[0]
    dots = {line.get_label(): line for line in axis.lines}
    assert dots["frequency asked for"].get_xdata() == [6]
    assert np.asarray(dots["leakage"].get_xdata()).tolist() == [8, 20, 22]


def test_the_heat_map_prints_the_losses_it_colours() -> None:
    """Every cell holds its value in percent, rounded; colours and numbers come from one array."""
    stages = backbone_stages(1024, 1024)
    loss = expected_loss(stages, [1.0], "scaled")[0]
    axis = pooling_figures.plot_loss_by_entry({"scaled": loss}, stages).axes[0]
    assert len(axis.texts) == loss.numel()
    for text, value in zip(axis.texts, (100 * loss).flatten().tolist(), strict=True):
        shown = float(text.get_text().lstrip("<"))
        assert abs(shown - value) <= (0.1 if value < 9.95 else 0.5)


def test_the_smoothness_figure_shows_means_and_the_networks_maps_apart() -> None:
    """Lines hold the means over Table 1; the network's markers stand to the right of every alpha."""
    stages, alphas = backbone_stages(1024, 1024), [0.0, 1.0]
    loss = {"raw": expected_loss(stages, alphas, "raw")}
    axis = pooling_figures.plot_loss_by_smoothness(alphas, loss, stages, {"raw": loss["raw"][0]}).axes[0]
    curve, marker = axis.lines[0], axis.lines[1]
    assert np.allclose(curve.get_ydata(), 100 * loss["raw"].mean(dim=-1)[:, 0])
    assert marker.get_xdata()[0] > max(alphas)


def test_the_staircase_figure_shows_unequal_pixel_weights() -> None:
    """32 to 7: the bars are the pixel weights, 0.76 to 1.68."""
    _, below = pooling_figures.plot_staircase(32, 7, 6).axes
    heights = [patch.get_height() for patch in below.patches]
    assert len(heights) == 32
    assert min(heights) == pytest.approx(16 / 21)
    assert max(heights) == pytest.approx(176 / 105)
