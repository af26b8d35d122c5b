"""Statistics of a set are those of its pixels, however it is read, and stand beside the paper's."""

import math
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chapters.urisc_dataset import (
    line_width_px,
    measure_membrane,
    paper_fraction,
    report_set,
    set_statistics,
    statistics_table,
)
from emseg.errors import InputError
from emseg.membrane.dataset import ArrayImage, MembraneImage, MembraneSet, open_membrane_set
from emseg.runs.session import Run


def masked(name: str, membrane: np.ndarray) -> ArrayImage:
    return ArrayImage(name, np.where(membrane, 40, 160).astype(np.uint8), membrane)


def made_set(*images: MembraneImage, test: tuple[MembraneImage, ...] = ()) -> MembraneSet:
    return MembraneSet("made", "synthetic", 4.0, images, (), test, "f")


def striped(width: int, height: int = 64, pitch: int = 32) -> np.ndarray:
    mask = np.zeros((height, 128), bool)
    for start in range(8, 128, pitch):
        mask[:, start : start + width] = True
    return mask


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 6, 12])
def test_the_width_of_straight_lines_is_found_exactly(width: int):
    assert line_width_px(striped(width)) == pytest.approx(width, abs=1e-5)


@pytest.mark.parametrize("width", [7, 13])
def test_wide_odd_lines_are_found_to_a_sixth_of_a_pixel(width: int):
    assert line_width_px(striped(width)) == pytest.approx(width, abs=0.17)


def test_no_membrane_has_no_width():
    assert math.isnan(line_width_px(np.zeros((8, 8), bool)))


@given(st.lists(st.floats(0.01, 0.9), min_size=2, max_size=6))
def test_mean_deviation_and_imbalance_follow_from_the_pixels(shares: list[float]):
    masks = [np.arange(10_000).reshape(100, 100) < 10_000 * share for share in shares]
    found = set_statistics(made_set(*(masked(str(i), mask) for i, mask in enumerate(masks))))
    fractions = [mask.mean() for mask in masks]
    assert found.fraction == pytest.approx(np.mean(fractions))
    assert found.fraction_sd == pytest.approx(np.std(fractions, ddof=1))
    assert found.imbalance == pytest.approx((1 - np.mean(fractions)) / np.mean(fractions))


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_the_trivial_scores_are_those_of_trivial_predictions(share: float):
    truth = np.arange(10_000).reshape(100, 100) < 10_000 * share
    found = set_statistics(made_set(masked("one", truth)))
    everything, nothing = np.ones_like(truth), ~np.zeros_like(truth)
    assert found.f1_of_all_membrane == pytest.approx(2 * (everything & truth).sum() / (everything.sum() + truth.sum()))
    assert found.f1_of_all_background == pytest.approx(2 * (nothing & ~truth).sum() / (nothing.sum() + (~truth).sum()))


def test_unlabelled_images_count_as_images_only():
    blank = ArrayImage("blank", np.zeros((64, 128), np.uint8))
    found = set_statistics(made_set(masked("one", striped(4)), test=(blank,)))
    assert found.n_images == (1, 0, 1)
    assert len(found.fractions) == 1
    assert math.isnan(found.fraction_sd)
    with pytest.raises(InputError, match="made has no labelled image"):
        set_statistics(made_set(test=(blank,)))


def test_reading_in_bands_changes_nothing_but_the_seams(monkeypatch: pytest.MonkeyPatch):
    image = masked("tall", striped(6, height=500))
    fraction, width = measure_membrane(image)
    monkeypatch.setattr("chapters.urisc_dataset.BAND_ROWS", 60)
    in_bands = measure_membrane(image)
    assert in_bands[0] == fraction
    assert in_bands[1] == pytest.approx(width, abs=1e-5)


def test_the_table_has_our_sets_and_the_papers_two():
    found = set_statistics(made_set(masked("one", striped(4)), masked("two", striped(8))))
    table = repr(statistics_table({"made": found}))
    assert "5.10 ± 2.00" in table
    assert "21.65 ± 2.00" in table
    assert "12.50 ± " not in table  # the mean of 12.5 % and 25 % is neither
    assert "18.75 ± 8.84" in table
    assert paper_fraction("ISBI 2012") == pytest.approx((0.2165, 0.02))


def test_a_set_of_unknown_resolution_reports_no_lengths():
    opened = made_set(masked("one", striped(4)))
    unknown = MembraneSet("made", "licensed", None, opened.train, (), (), "f")
    run = Run("a/b", seed=0)
    report_set(run, "x", set_statistics(unknown))
    assert "x_line_width_px" in run.metrics
    assert "x_line_width_nm" not in run.metrics
    assert "unknown" in repr(statistics_table({"made": set_statistics(unknown)}))


def test_synthetic_sets_lie_near_the_papers_fractions():
    track1 = set_statistics(open_membrane_set("synthetic", track="track1", size_px=768))
    isbi_like = set_statistics(open_membrane_set("synthetic", track="isbi_like", size_px=256))
    assert track1.fraction == pytest.approx(paper_fraction("U-RISC")[0], abs=0.012)
    assert isbi_like.fraction == pytest.approx(paper_fraction("ISBI 2012")[0], abs=0.03)
    assert track1.width_px * 2.18 == pytest.approx(30.0, rel=0.05)  # as the tissue was drawn


@pytest.mark.real_data
def test_thirty_real_sections_are_measured_in_two_seconds(real_data: Path):
    opened = open_membrane_set("isbi2012")
    set_statistics(made_set(masked("one", striped(4))))  # not the time of imports
    start = time.process_time()
    found = set_statistics(opened)
    assert time.process_time() - start < 2.0
    assert found.fraction == pytest.approx(0.2196, abs=2e-4)  # measured apart from this code
    assert found.fraction_sd == pytest.approx(0.0238 * math.sqrt(30 / 29), abs=1e-4)  # measured with n, not n - 1
