"""The figures of detections show what they are given: the right outlines, numbers, units and legends."""

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from wafer.section_scenes import CLASSES, SIZE, detection, rectangle, truth_of

from chapters.drawing.detections import (
    class_colour,
    draw_outline,
    plot_failures,
    plot_predictions,
)
from emseg.wafer.scores import failures

IMAGE = np.random.default_rng(0).integers(0, 255, (SIZE, SIZE)).astype(np.uint8)


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    yield
    plt.close("all")


def outlines(ax: plt.Axes) -> list[Polygon]:
    return [patch for patch in ax.patches if isinstance(patch, Polygon)]


def legend_of(figure: Figure) -> list[str]:
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_an_outline_lies_on_the_outermost_pixels() -> None:
    _, ax = plt.subplots()
    draw_outline(ax, rectangle(10, 20, 30, 40).astype(bool), "red")
    (outline,) = outlines(ax)
    columns, rows = outline.get_xy().T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 39, 20, 59)
    draw_outline(ax, np.zeros((5, 5), bool), "red")
    assert len(outlines(ax)) == 1


def test_predictions_stand_beside_the_truth_in_the_colours_of_their_classes() -> None:
    """Two regions and a crowd at the left; at the right what reaches the score; nothing of other tiles."""
    mask, other = rectangle(10, 10, 40, 40), rectangle(90, 10, 40, 40)
    truth = truth_of([(1, 1, mask), (1, 3, other), (1, -2, rectangle(10, 90, 40, 40)), (2, 4, mask)], 2)
    found = [detection(1, 3, other, 0.87), detection(1, 1, mask, 0.2), detection(2, 4, mask, 0.9)]
    figure = plot_predictions(truth, found, {1: IMAGE}, pixel_size_um=3.2)
    left, right = figure.axes
    assert [to_hex(one.get_edgecolor()).upper() for one in outlines(left)] == [class_colour(k) for k in (0, 2, 1)]
    assert [one.get_linestyle() for one in outlines(left)] == ["-", "-", ":"]
    assert [to_hex(one.get_edgecolor()).upper() for one in outlines(right)] == [class_colour(2)]
    assert [text.get_text() for text in right.texts] == ["0.87"]
    assert [ax.get_title() for ax in figure.axes] == ["truth", "found, score 0.5 or more"]
    assert left.texts[0].get_text().endswith("µm")
    assert legend_of(figure) == list(CLASSES)
    assert np.array_equal(left.images[0].get_array(), IMAGE)


def test_neighbouring_classes_have_colours_of_their_own() -> None:
    assert len({class_colour(k) for k in range(6)}) == 6


def test_the_gallery_has_a_row_a_kind_and_frames_the_error() -> None:
    """A missed section near the corner: the frame, moved into the window, lies about it."""
    mask, missed = rectangle(60, 60, 40, 40), rectangle(0, 130, 20, 30)
    truth = truth_of([(1, 1, mask), (1, 2, missed)], 2)
    found = [detection(1, 3, mask, 0.9)]
    errors = failures(truth, found)
    figure = plot_failures(errors, truth, found, {1: IMAGE}, n_each=2, pixel_size_um=3.2)
    missed_row, wrong_row = figure.axes[0], figure.axes[2]
    assert [ax.texts[-1].get_text() for ax in (missed_row, wrong_row)] == ["missed", "wrong class"]
    assert missed_row.get_title() == "incomplete"
    assert wrong_row.get_title() == "good,\nfound as fold 0.90"
    frame = [one for one in missed_row.patches if isinstance(one, Rectangle)][-1]
    side = missed_row.images[0].get_array().shape[0]
    assert side == missed_row.images[0].get_array().shape[1] == 68
    assert np.array_equal(missed_row.images[0].get_array(), IMAGE[:68, SIZE - 68 :])
    assert (frame.get_x(), frame.get_y()) == (130 - (SIZE - 68) - 3, 0)
    assert legend_of(figure) == ["truth", "found, score 0.5 or more", "the error"]
    assert not figure.axes[1].images  # only one missed section


def test_a_perfect_detector_has_a_gallery_that_says_so() -> None:
    truth = truth_of([(1, 1, rectangle(0, 0, 40, 40))], 1)
    found = [detection(1, 1, rectangle(0, 0, 40, 40), 0.9)]
    errors = failures(truth, found)
    assert errors == ()
    figure = plot_failures(errors, truth, found, {1: IMAGE})
    assert [text.get_text() for text in figure.texts] == ["no error in 1 tiles, score 0.5 or more"]
