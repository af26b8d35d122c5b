"""Made annotations have the errors that were asked for, and better rounds hold a part of the errors of worse ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from membrane.dataset.made_files import lossy, made_pair, save

from chapters.urisc_dataset import (
    ERROR_KINDS,
    FIRST_ROUND,
    SECOND_ROUND,
    AnnotationErrors,
    errors_of_one_kind,
    file_rounds,
    report_round,
    round_title,
    rounds_table,
    synthetic_round,
    trace,
    trace_images,
    window_of_errors,
)
from emseg.errors import InputError, UsageError
from emseg.membrane.dataset import ArrayImage, open_membrane_set
from emseg.membrane.scoring import ScoreSettings
from emseg.runs.session import Run

SET = open_membrane_set("synthetic", track="isbi_like", n_train=1, n_validation=1, n_test=2, size_px=256)
TRACINGS = trace_images(SET.test, 4.0, seed=0)
ONE = TRACINGS[0]
PLAIN = ScoreSettings(pixel_size_nm=4.0)


def test_no_errors_give_the_truth():
    np.testing.assert_array_equal(ONE.annotate(AnnotationErrors()), ONE.membrane)


@settings(deadline=None, max_examples=25)
@given(low=st.floats(0, 1), high=st.floats(0, 1))
def test_more_missed_is_never_less_missed(low: float, high: float):
    few, many = (ONE.annotate(AnnotationErrors(missed=share)) for share in sorted((low, high)))
    assert not (few & ~ONE.membrane).any()
    assert not (many & ~few).any()


@settings(deadline=None, max_examples=25)
@given(low=st.floats(0, 1), high=st.floats(0, 1))
def test_more_spurious_outlines_only_add(low: float, high: float):
    few, many = (ONE.annotate(AnnotationErrors(spurious=share)) for share in sorted((low, high)))
    assert not (ONE.membrane & ~few).any()
    assert not (few & ~many).any()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5, 1.0])
def test_the_share_of_stretches_that_is_missed_is_the_one_asked_for(share: float):
    left = np.unique(ONE.stretches[ONE.annotate(AnnotationErrors(missed=share))])
    assert abs(1 - len(left) / ONE.n_stretches - share) <= 1 / ONE.n_stretches


def test_every_membrane_pixel_belongs_to_a_stretch():
    np.testing.assert_array_equal(ONE.stretches > 0, ONE.membrane)
    assert ONE.n_stretches == len(np.unique(ONE.stretches)) - 1


def test_displacement_moves_lines_by_the_distance_asked_for():
    field = ONE.field.astype(np.float64)
    assert np.sqrt((field**2).sum(axis=2).mean()) == pytest.approx(1.0, abs=1e-5)
    moved = synthetic_round("moved", TRACINGS, AnnotationErrors(displacement_nm=8.0), PLAIN)
    farther = synthetic_round("farther", TRACINGS, AnnotationErrors(displacement_nm=16.0), PLAIN)
    assert farther.f1 < moved.f1 < 1
    # Of a displacement in a random direction a line shows the part across it: 2 / pi of it on average.
    distances = [one.assd_nm for one in moved.scores]
    assert np.mean(distances) == pytest.approx(8.0 * 2 / np.pi, rel=0.35)


def test_a_straight_line_is_carried_off_whole_by_a_constant_field():
    mask = np.zeros((64, 64), bool)
    mask[30:34] = True
    traced = trace(mask, 1.0, seed=0)
    object.__setattr__(traced, "field", np.broadcast_to(np.float32([1, 0]), (64, 64, 2)).copy())
    np.testing.assert_array_equal(
        np.flatnonzero(traced.annotate(AnnotationErrors(displacement_nm=5))[:, 9]), [25, 26, 27, 28]
    )


def test_the_second_round_is_better_in_every_score():
    first = synthetic_round("1st", TRACINGS, FIRST_ROUND, PLAIN)
    second = synthetic_round("2nd", TRACINGS, SECOND_ROUND, PLAIN)
    for worse, better in zip(first.scores, second.scores, strict=True):
        assert better.membrane.f1 > worse.membrane.f1
        assert better.cells.v_rand >= worse.cells.v_rand
        assert better.assd_nm < worse.assd_nm


@pytest.mark.parametrize("kind", ERROR_KINDS)
def test_one_kind_of_error_reaches_the_f1_asked_for(kind: str):
    errors = errors_of_one_kind(TRACINGS, kind, 0.9)
    others = {name: getattr(errors, name) for name in ERROR_KINDS if name != kind}
    assert not any(others.values())
    assert synthetic_round(kind, TRACINGS, errors, PLAIN).f1 == pytest.approx(0.9, abs=0.02)


def test_displaced_lines_keep_cells_apart_where_missed_ones_do_not():
    displaced, missed = (
        synthetic_round(kind, TRACINGS, errors_of_one_kind(TRACINGS, kind, 0.9), PLAIN)
        for kind in ("displacement_nm", "missed")
    )
    v_rand = [np.mean([one.cells.v_rand for one in found.scores]) for found in (displaced, missed)]
    assert v_rand[0] > 0.98 > 0.95 > v_rand[1]


def test_rounds_are_reproducible_and_differ_by_seed():
    again, other = trace_images(SET.test, 4.0, seed=0), trace_images(SET.test, 4.0, seed=1)
    np.testing.assert_array_equal(again[1].annotate(FIRST_ROUND), TRACINGS[1].annotate(FIRST_ROUND))
    assert (other[1].annotate(FIRST_ROUND) != TRACINGS[1].annotate(FIRST_ROUND)).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"missed": 1.1}, "`missed` must be at most 1; got 1.1"),
        ({"spurious": -0.1}, "`spurious` must be at least 0"),
        ({"displacement_nm": 1e6}, "`displacement_nm` must be at most 500"),
    ],
)
def test_errors_out_of_range_are_refused(arguments: dict[str, Any], message: str):
    with pytest.raises(UsageError, match=message):
        AnnotationErrors(**arguments)


def test_what_cannot_be_made_is_said():
    with pytest.raises(InputError, match=r"must (?:hold|contain) membrane"):
        trace(np.zeros((32, 32), bool), 4.0, seed=0)
    with pytest.raises(UsageError, match="`kind` must be one of 'missed', 'spurious'"):
        errors_of_one_kind(TRACINGS, "moved", 0.9)
    with pytest.raises(UsageError, match="out of reach with spurious outlines alone"):
        errors_of_one_kind(TRACINGS, "spurious", 0.01)


def made_rounds(folder: Path) -> Path:
    for place in range(3):
        _, label = made_pair(place)
        first = label.copy()
        first[:24] = 255  # the upper half was not annotated
        for name, values in (("1st", first), ("2nd", lossy(label)), ("final", label)):
            save(folder / "Human_Annotation_Process" / name / f"{place}.png", values)
    return folder


def test_rounds_of_urisc_are_scored_against_the_final_one(tmp_path: Path):
    folder = made_rounds(tmp_path)
    first, second = file_rounds(folder, PLAIN)
    assert (first.name, len(first.scores)) == ("1st round", 3)
    for place, scores in enumerate(first.scores):
        truth = made_pair(place)[1] == 0
        recall = truth[24:].sum() / truth.sum()
        assert scores.membrane.recall == pytest.approx(recall)
        assert scores.membrane.f1 == pytest.approx(2 * recall / (1 + recall))
    assert second.f1 == 1.0
    assert len(file_rounds(folder, PLAIN, n_images=2)[0].scores) == 2


def test_rounds_that_do_not_match_are_named(tmp_path: Path):
    with pytest.raises(InputError, match="Human_Annotation_Process must be a folder of U-RISC"):
        file_rounds(tmp_path, PLAIN)
    folder = made_rounds(tmp_path)
    path = folder / "Human_Annotation_Process" / "2nd" / "1.png"
    save(path, made_pair(1, (40, 40))[1])
    with pytest.raises(InputError, match="2nd round and final must have one size"):
        file_rounds(folder, PLAIN)
    path.unlink()
    with pytest.raises(InputError, match="every label must have an image"):
        file_rounds(folder, PLAIN)


def test_table_and_metrics_carry_the_scores():
    first = synthetic_round("1st round (model)", TRACINGS, FIRST_ROUND, PLAIN)
    run = Run("a/b", seed=0)
    report_round(run, "round1", first)
    assert run.metrics["round1_membrane_f1"].value == pytest.approx(first.f1)
    assert run.metrics["round1_assd_nm"].unit == "nm"
    text = repr(rounds_table([first]))
    assert f"F1: {first.f1:.3f} ± {run.metrics['round1_membrane_f1'].spread:.3f}" in text
    v_rand = np.mean([scores.cells.v_rand for scores in first.scores])
    assert round_title(first) == f"1st round (model)\nF1 {first.f1:.2f}, V-Rand {v_rand:.2f}"


def test_the_window_shown_has_errors_of_every_annotation():
    """It is the one with most of the rarest errors, not the one with most errors."""
    truth = np.zeros((64, 64), bool)
    missed, spurious = truth.copy(), truth.copy()
    missed[:32] = True  # many errors above
    missed[40:44, 40:44] = spurious[48:50, 48:50] = True  # the only place with both
    rows, columns = window_of_errors(truth, [missed, spurious], 32)
    assert spurious[rows, columns].any()
    assert missed[rows, columns].any()


def test_an_image_without_a_label_cannot_be_annotated():
    with pytest.raises(InputError, match="has no label"):
        trace_images([ArrayImage("blank", np.zeros((8, 8), np.uint8))], 4.0, seed=0)
