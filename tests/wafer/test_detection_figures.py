"""The figures of detections show what they are given: the right outlines, numbers, units and legends."""

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from wafer.section_scenes import CLASSES, SIZE, detection, random_scene, rectangle, truth_of

from chapters.fanet_training.confusion import confusion_matrix
from chapters.fanet_training.detection_figures import class_colour, draw_outline, plot_failures, plot_predictions
from chapters.fanet_training.detection_score_figures import (
    NOT_RUN,
    PAPER,
    ScoreBar,
    moving_mean,
    plot_confusion,
    plot_precision_recall,
    plot_score_bars,
    plot_training,
)
from emseg.errors import UsageError
from emseg.figures import COLOURS
from emseg.wafer.scores import failures, score_detections

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


def test_the_confusion_figure_prints_every_count_but_the_corner() -> None:
    truth, found = random_scene(3, crowds=False, n_classes=4)
    matrix = confusion_matrix(truth, found)
    figure = plot_confusion(matrix)
    ax = figure.axes[0]
    for text in ax.texts:
        column, row = text.get_position()
        assert int(text.get_text()) == matrix.counts[row, column]
    assert len(ax.texts) == 24
    shares = np.asarray(ax.images[0].get_array())
    assert np.allclose(shares[:-1].sum(axis=1), 100)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == [*CLASSES, "missed"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == [*CLASSES, "nothing there"]
    assert figure.axes[1].get_ylabel() == "share of the row (%)"


def test_precision_recall_draws_defined_classes_with_their_average_precision() -> None:
    truth, found = random_scene(1)
    scores = score_detections(truth, found, n_resamples=0)
    left, right = plot_precision_recall(scores).axes
    for ax, metric, threshold in ((left, "ap50", 0), (right, "ap75", 5)):
        assert len(ax.lines) == 3  # no region of the fourth class
        for label, line in enumerate(ax.lines):
            assert line.get_label() == f"{CLASSES[label]}, AP {scores.by_class[CLASSES[label]][metric].value:.1f} %"
            assert np.allclose(line.get_ydata(), 100 * scores.precision[label, threshold])
        assert ax.get_xlabel() == "recall (%)"
        assert [text.get_text() for text in ax.get_legend().get_texts()] == [line.get_label() for line in ax.lines]
    assert left.get_ylabel() == "precision (%)"


def test_score_bars_are_as_long_as_the_scores_and_name_what_was_not_run() -> None:
    ours = "ours, synthetic, 3 seeds"
    bars = [
        ScoreBar("none", PAPER, 34.5),
        ScoreBar("none", ours, 61.0, (55.0, 66.0)),
        ScoreBar("FANet", PAPER, 38.1),
        ScoreBar("FANet", ours, None),
    ]
    figure = plot_score_bars(bars, "ap50")
    ax = figure.axes[0]
    drawn = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    assert [patch.get_width() for patch in drawn] == [34.5, 61.0, 38.1]
    assert to_hex(drawn[0].get_facecolor()) == to_hex(drawn[2].get_facecolor()) != to_hex(drawn[1].get_facecolor())
    assert [text.get_text() for text in ax.texts] == [NOT_RUN]
    assert 0.5 < ax.texts[0].get_position()[1] < 1.5  # beside FANet
    (whisker,) = ax.collections
    assert np.ptp(whisker.get_segments()[0][:, 0]) == pytest.approx(11)
    assert ax.get_xlabel() == "mask AP50 (%)"
    assert legend_of(figure) == [PAPER, ours]


def test_training_curves_are_the_values_and_their_moving_mean() -> None:
    steps, values = np.arange(0, 200, 2), np.linspace(3, 1, 100)
    figure = plot_training({"mask": (steps, values), "class": (steps, 2 * values)}, window=5)
    ax = figure.axes[0]
    raw, smooth = ax.lines[:2]
    assert np.array_equal(raw.get_ydata(), values)
    assert np.allclose(smooth.get_ydata()[2:-2], values[2:-2])  # a line's mean is its middle
    assert ax.get_xlabel() == "training step"
    assert ax.get_ylabel() == "loss, mean over 5 values"
    assert legend_of(figure) == ["mask", "class"]
    assert to_hex(raw.get_color()).upper() == COLOURS["blue"]


@pytest.mark.parametrize("window", [1, 2, 5, 30])
def test_the_moving_mean_is_the_textbooks(window: int) -> None:
    values = np.random.default_rng(0).random(12)
    expected = [values[max(i - window // 2, 0) : i + (window - 1) // 2 + 1].mean() for i in range(len(values))]
    assert np.allclose(moving_mean(values, window), expected)


def test_bad_requests_are_named() -> None:
    truth = truth_of([(1, 1, rectangle(0, 0, 9, 9))], 1)
    with pytest.raises(UsageError, match="at least one image; got none"):
        plot_predictions(truth, [], {})
    with pytest.raises(UsageError, match="image 4 is not"):
        plot_predictions(truth, [], {4: IMAGE})
    with pytest.raises(UsageError, match="at least one error in the images given"):
        plot_failures((), truth, [], {1: IMAGE})
    with pytest.raises(UsageError, match="at least one bar"):
        plot_score_bars([])
    with pytest.raises(UsageError, match=r"`metric` must be one of ap, .*; got 'ap500'\. Did you mean 'ap50'"):
        plot_score_bars([ScoreBar("none", PAPER, 1.0)], "ap500")
    with pytest.raises(UsageError, match="'mask' has 2 for 3 steps"):
        plot_training({"mask": ([1, 2, 3], [1.0, 2.0])})
    with pytest.raises(UsageError, match="at least one loss"):
        plot_training({})
    with pytest.raises(UsageError, match="`window` must be at least 1"):
        moving_mean([1.0], 0)
