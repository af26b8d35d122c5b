"""The figures of the data chapter show what they are given."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import matplotlib.pyplot as plt
import numpy as np
import pytest
import shapely
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from wafer.made_wafers import picture, random_wafer

from chapters.wafer_dataset import (
    TileStatistics,
    Window,
    find_scenes,
    plot_classes,
    plot_leak,
    plot_scenes,
    plot_seen,
    plot_sizes,
    plot_wafer_zoom,
    typical_place,
)
from emseg.errors import UsageError
from emseg.synthetic.wafer import SyntheticWafer, WaferDesign, synthesize_wafer
from emseg.wafer.splits import PixelLeak, pixel_leak
from emseg.wafer.tiles import TilePlace


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    yield
    plt.close("all")


@cache
def small_wafer() -> SyntheticWafer:
    return synthesize_wafer(WaferDesign(512, 512, 48, "scn", "tape"), seed=1)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for ax in figure.axes for text in (*ax.texts, ax.title, ax._left_title)]  # type: ignore[attr-defined]


def test_regions_to_image_lie_in_good_sections_alone() -> None:
    truth = small_wafer().truth
    figure = plot_wafer_zoom(small_wafer().image, truth, Window(100, 50, 200))
    *outlines, regions = [one for one in figure.axes[1].collections if isinstance(one, PolyCollection)]
    assert [len(one.get_paths()) for one in outlines] == [truth.count(name) for name in truth.class_names]
    good = [shapely.Polygon(section.polygon) for section in truth.sections if section.label == "good"]
    drawn = [shapely.Polygon(path.vertices[:4, ::-1]) for path in regions.get_paths()]
    assert len(drawn) == len(good)
    assert sum(section.contains(region) for section, region in zip(good, drawn, strict=True)) > 0.9 * len(good)


def test_sections_without_an_angle_have_no_region_and_lengths_are_physical_where_known() -> None:
    wafer = random_wafer(0)
    bare = replace(wafer, sections=tuple(replace(section, angle_deg=None) for section in wafer.sections))
    figure = plot_wafer_zoom(picture(bare), bare, Window(20, 30, 100))
    assert len(figure.axes[1].collections) == len(wafer.class_names)
    assert "50 µm" in texts(figure)
    assert "(a) 0.4 mm wide" in texts(figure)
    unknown = replace(bare, pixel_size_um=None)
    assert {"20 px", "(a) 200 px wide"} <= set(texts(plot_wafer_zoom(picture(bare), unknown, Window(20, 30, 100))))


def test_a_situation_that_no_wafer_shows_says_so() -> None:
    scenes = find_scenes([small_wafer()])
    shown = dict(list(scenes.items())[:1])
    figure = plot_scenes([small_wafer()], shown)
    assert texts(figure).count("not on these wafers") == 4
    (panel,) = [ax for ax in figure.axes if ax.images]
    window = next(iter(shown.values())).window
    np.testing.assert_array_equal(panel.images[0].get_array(), window.of(small_wafer().image))


def test_classes_have_columns_and_tissues_have_rows() -> None:
    figure = plot_classes([small_wafer(), small_wafer()], n_each=1)
    assert len(figure.axes) == 8
    assert [ax.get_title() for ax in figure.axes[:4]] == ["good", "incomplete", "fold", "damaged"]
    assert texts(figure).count("SCN") == 2


def test_the_bars_of_sizes_sum_to_the_sections() -> None:
    areas = np.array([20.0, 50.0, 120.0]) ** 2
    none = np.zeros(3, dtype=bool)
    one = TileStatistics(("good", "fold"), ("good", "fold", "good"), areas, none, none, np.array([3]))
    figure = plot_sizes({"training": one, "validation": one, "real": one})
    for ax in figure.axes[:3]:
        top = np.array([bar.get_y() + bar.get_height() for bar in ax.patches]).reshape(2, -1)
        assert top.max(axis=0).sum() == 3
    assert not figure.axes[3].axison


def test_what_is_shaded_is_the_leak() -> None:
    tile = TilePlace("a", 100, 100, 50, 50)
    train = [TilePlace("a", 60, 60, 50, 50), TilePlace("a", 100, 145, 50, 50), TilePlace("b", 100, 100, 50, 50)]
    leak = pixel_leak(train, [tile])
    figure = plot_seen(np.zeros((50, 50), np.uint8), tile, train, leak.mean)
    shade = figure.axes[1].images[1].get_array()
    assert shade is not None
    assert float((np.asarray(shade)[..., 3] > 0).mean()) == pytest.approx(leak.mean)
    assert len(figure.axes[1].patches) == 3  # two training tiles of this wafer, and the tile
    with pytest.raises(UsageError, match="the image must be the tile's"):
        plot_seen(np.zeros((40, 50), np.uint8), tile, train, leak.mean)


def test_the_typical_tile_is_nearest_to_the_mean() -> None:
    assert typical_place(PixelLeak(np.array([0.0, 0.9, 0.4, 0.1]))) == 2


def test_bars_of_the_leak_sum_to_all_tiles_and_points_are_means() -> None:
    leaks = {"crops": PixelLeak(np.array([0.1, 0.3, 0.5])), "wafer": PixelLeak(np.zeros(4))}
    figure = plot_leak(leaks, {0.1: leaks["crops"], 0.0: leaks["wafer"]}, 0.7, 0.1)
    left, right = figure.axes
    assert sum(bar.get_height() for bar in left.patches) == pytest.approx(200)
    means = next(line for line in right.lines if line.get_label() == "mean of whole wafers")
    np.testing.assert_allclose(means.get_xydata(), [(0, 0), (10, 30)])
