"""Outlines are drawn where they lie, in the colour of their class, and the legend counts them."""

import dataclasses
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from wafer.made_wafers import QUALITIES, picture, random_wafer, rectangle

from emseg.errors import InputError, UsageError
from emseg.figures import COLOURS
from emseg.sections import Section, WaferSections
from emseg.wafer.formats.benchmark_folder import Benchmark
from emseg.wafer.section_figures import LONGEST_SIDE_PX, class_colours, draw_outlines, plot_tiles, plot_wafer
from emseg.wafer.tiles import Tiling
from emseg.wafer.wafer_benchmark import benchmark_from_wafers


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def benchmark(tmp_path: Path) -> Benchmark:
    sections = random_wafer(0)
    tiling = Tiling(64, 0.5, keep_empty=False)
    return benchmark_from_wafers([(picture(sections), sections)], tmp_path / "made", tiling=tiling)


def test_an_outline_lies_on_the_edge_of_the_pixels_that_it_surrounds() -> None:
    """A dark square is drawn and outlined; the line's colour is found where the square ends, and nowhere else."""
    image = np.full((100, 100), 255, np.uint8)
    image[20:60, 30:80] = 0
    sections = WaferSections("w", 100, 100, (Section(rectangle(20, 30, 60, 80)),))
    figure = plot_wafer(image, sections, width_in=4.0)
    (ax,) = figure.axes
    figure.set_dpi(100)
    figure.canvas.draw()
    colours = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)  # type: ignore[attr-defined]
    coloured = np.abs(colours - (0x00, 0x9E, 0x73)).max(axis=2) < 60
    coloured[int(0.9 * len(coloured)) :] = False  # the legend
    rows, columns = np.nonzero(coloured)
    left, bottom = ax.transData.transform((30, 60))
    right, top = ax.transData.transform((80, 20))
    height = len(coloured)
    assert (columns.min(), columns.max()) == (pytest.approx(left, abs=1.5), pytest.approx(right, abs=1.5))
    assert (rows.min(), rows.max()) == (pytest.approx(height - top, abs=1.5), pytest.approx(height - bottom, abs=1.5))


def test_classes_keep_their_colours_whichever_are_present() -> None:
    colours = class_colours(QUALITIES)
    assert list(colours.values()) == [COLOURS[name] for name in ("green", "orange", "sky", "vermilion")]
    _, ax = plt.subplots()
    draw_outlines(ax, [(rectangle(0, 0, 5, 5), "fold")], QUALITIES, width=1)
    drawn = [len(collection.get_paths()) for collection in ax.collections]
    assert drawn == [0, 0, 1, 0]


def test_the_legend_counts_sections_and_a_scale_bar_needs_a_pixel_size() -> None:
    sections = random_wafer(0)
    figure = plot_wafer(picture(sections), sections)
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == [f"{name} ({sections.count(name)})" for name in QUALITIES]
    assert [text.get_text() for text in figure.axes[0].texts] == ["100 µm"]
    bare = dataclasses.replace(sections, pixel_size_um=None)
    assert not plot_wafer(picture(sections), bare).axes[0].texts


def test_a_large_wafer_is_averaged_down_and_keeps_its_coordinates() -> None:
    image = np.zeros((10, 2 * LONGEST_SIDE_PX), np.uint8)
    sections = WaferSections("wide", *image.shape, (Section(rectangle(1, 10, 9, 5000)),))
    (ax,) = plot_wafer(image, sections).axes
    assert ax.images[0].get_array().shape == (5, LONGEST_SIDE_PX)
    assert ax.get_xlim() == (0, 2 * LONGEST_SIDE_PX)
    assert ax.get_ylim() == (10, 0)


def test_tiles_are_chosen_by_the_seed_and_crowds_are_dotted(benchmark: Benchmark) -> None:
    first, again, other = (plot_tiles(benchmark, "region", n_tiles=4, seed=seed) for seed in (0, 0, 1))
    shown = [[np.asarray(ax.images[0].get_array()) for ax in figure.axes] for figure in (first, again, other)]
    np.testing.assert_array_equal(shown[0], shown[1])
    assert not np.array_equal(shown[0], shown[2])
    everything = plot_tiles(benchmark, "region", n_tiles=100)
    coco = benchmark.read("region", "train")
    n_crowds = sum(one.crowd for one in coco.annotations)
    assert n_crowds > 0
    assert f"too little visible ({n_crowds})" in everything.legends[0].get_texts()[-1].get_text()


def test_what_cannot_be_shown_is_named(benchmark: Benchmark) -> None:
    with pytest.raises(UsageError, match="`n_tiles` must be a whole number of at least 1; got 0"):
        plot_tiles(benchmark, "region", n_tiles=0)
    with pytest.raises(UsageError, match="must be one of region"):
        plot_tiles(benchmark, "wafer")
    sections = random_wafer(0)
    with pytest.raises(InputError, match="outlines and image must be of one size"):
        plot_wafer(picture(sections)[1:], sections)
