"""Records of trained detectors become Table 2: sorted, never mixed, and what was not run says so."""

from typing import Any

import pandas as pd
import pytest

from chapters.fanet_results import (
    CHAPTER,
    attention_pairs,
    best_attentions,
    choice_pairs,
    choices_table,
    differences_table,
    experiments,
    leak_gain,
    main_experiment,
    mean_difference,
    network_scores,
    pairs,
    plot_differences,
    plot_gains,
    reading,
    report_table2,
    seed_spread,
    table2,
    trained_networks,
)
from chapters.wafer_dataset import report_leak
from emseg.errors import UsageError
from emseg.files import find_root
from emseg.intervals import SeedDifference
from emseg.runs.digest import code_digests
from emseg.runs.gathering import records_frame, report_gathered
from emseg.runs.project import find_chapter
from emseg.runs.session import Run

DEFAULTS: dict[str, Any] = {
    "detector": "mask_rcnn",
    "depth": 34,
    "attention": "none",
    "fanet_indexing": "raw",
    "fanet_normalization": "mean",
    "data": "synthetic",
    "preset": "laptop",
    "data_seed": 0,
    "split": "wafer",
    "size": "small",
    "reduction": 4,
    "schedule": "small",
    "n_steps": 100,
    "batch": 0,
    "learning_rate": 0.0,
    "precision": "fp32",
    "seed": 0,
}
_OF_ATTENTION = {"none": 50.0, "se": 52.0, "eca": 51.0, "fca": 53.0, "fanet": 54.0}


def networks(records: list[dict[str, Any]]) -> pd.DataFrame:
    return trained_networks(records_frame(records))


def made(ap: float, *, finished: int = 0, **changes: Any) -> dict[str, Any]:
    """Return what matters here of a record of the training chapter."""
    metrics = {"ap": ap, "ap50": ap + 20, "fresh_ap": ap - 3}
    return {
        "chapter": CHAPTER,
        "profile": "lab",
        "seeds": [0],
        "digests": {},
        "run_id": f"run-{ap}-{finished}-{changes}",
        "finished": f"2026-11-21T00:00:{finished:02d}Z",
        "parameters": {**DEFAULTS, **changes},
        "data": [{"name": "synthetic wafers", "kind": "synthetic", "fingerprint": "f00d", "n_images": 3}],
        "metrics": {name: {"value": value} for name, value in metrics.items()},
    }


def whole_table(n_seeds: int = 3) -> list[dict[str, Any]]:
    """Return records of every cell: attentions differ as above, Mask Scoring by 4, depth by 1, seeds by 2."""
    return [
        made(
            value + 4 * (detector == "ms_rcnn") + (depth == 50) + 2 * seed,
            detector=detector,
            depth=depth,
            attention=name,
            seed=seed,
        )
        for name, value in _OF_ATTENTION.items()
        for detector in ("mask_rcnn", "ms_rcnn")
        for depth in (34, 50)
        for seed in range(n_seeds)
    ]


def test_differences_are_taken_between_networks_of_one_detector_depth_and_seed():
    """So what detector, depth and seed do to both cancels, and the interval has no width here."""
    runs = networks(whole_table())
    of_one = attention_pairs(runs, "fanet", "se").query("detector == 'ms_rcnn' and depth == 50")
    for paired, value, n in [
        (attention_pairs(runs, "fanet", "fca"), 1.0, 12),
        (attention_pairs(runs, "se", "none"), 2.0, 12),
        (of_one, 2.0, 3),
        (pairs(runs, {"detector": "ms_rcnn"}, {"detector": "mask_rcnn"}), 4.0, 30),
        (pairs(runs, {"depth": 50}, {"depth": 34}), 1.0, 30),
    ]:
        difference = mean_difference(paired)
        assert difference is not None
        assert (difference.value, difference.n) == (pytest.approx(value), n)
        assert difference.interval == pytest.approx((value, value))
    assert best_attentions(runs) == dict.fromkeys([(d, n) for d in ("mask_rcnn", "ms_rcnn") for n in (34, 50)], "fanet")
    assert seed_spread(runs) == pytest.approx(2.0)
    assert network_scores(runs, "ap").loc["ms_rcnn", 50, "fanet", "raw", "mean"]["mean"] == pytest.approx(61.0)


def test_experiments_are_never_mixed():
    """A run with another budget, split or data set is no pair, and no seed of the same cell."""
    other = [made(10.0, attention="fanet", n_steps=900), made(20.0, attention="fca", split="crops")]
    runs = networks([*whole_table(), *other])
    assert [len(found) for found in experiments(runs)] == [60, 1, 1]
    assert mean_difference(attention_pairs(runs, "fanet", "fca")).value == pytest.approx(1.0)
    assert set(main_experiment(runs)["n_steps"]) == {100}
    assert len(main_experiment(runs, split="crops")) == 1
    assert main_experiment(runs, split="region").empty


def test_the_newest_run_of_a_seed_counts_and_other_chapters_do_not():
    """A cell that was run again replaces itself."""
    stray = {**made(1.0), "chapter": "fanet/dct_derivation"}
    runs = networks([made(60.0, finished=9), made(50.0, finished=3), stray])
    assert runs["ap"].tolist() == [60.0]


def test_open_choices_are_cells_of_their_own_for_fanet_alone():
    """Scaled indices are compared with raw ones of the same seed; for SE the parameter means nothing."""
    scaled = [made(51.0 + 2 * seed, attention="fanet", fanet_indexing="scaled", seed=seed) for seed in range(3)]
    same = made(77.0, attention="se", fanet_indexing="scaled", finished=5)
    runs = networks([*whole_table(), *scaled, same])
    found = mean_difference(choice_pairs(runs, "fanet_indexing", "scaled"))
    assert (found.value, found.n) == (pytest.approx(-3.0), 3)
    assert len(attention_pairs(runs, "fanet", "fca")) == 12
    assert network_scores(runs, "ap").loc["mask_rcnn", 34, "se", "raw", "mean"]["count"] == 3
    with pytest.raises(UsageError, match="`choice` must be one of"):
        choice_pairs(runs, "indexing", "scaled")


def test_the_leak_is_validation_minus_fresh_within_a_split():
    """Made records score 3 points less on fresh wafers."""
    records = [made(50.0 + seed, split="crops", seed=seed) for seed in range(3)]
    runs = networks(records)
    assert leak_gain(runs, split="crops").value == pytest.approx(3.0)
    assert leak_gain(runs, split="wafer") is None
    run = Run("fanet/wafer_dataset", seed=0)
    report_leak(run, runs, "crops")
    report_leak(run, runs, "wafer")
    assert list(run.metrics) == ["crops_gain_ap"]


def test_what_nobody_has_run_says_not_run():
    """No record, one seed, half a table: never a number that is not there."""
    empty = table2(networks([]))
    assert len(empty.rows) == 20
    assert {cell.text for row in empty.rows for cell in row[4:7]} == {"not run"}
    assert {(row[1].text, row[2].text) for row in differences_table(networks([])).rows} == {
        ("not run", "too few pairs")
    }
    run = Run("fanet/fanet_results", seed=0)
    report_table2(run, networks([]))
    report_gathered(run, [])
    assert {name: metric.value for name, metric in run.metrics.items()} == {"n_cells": 0, "n_runs": 0}

    one = networks([made(50.0, attention="se"), made(51.0, attention="fanet")])
    assert mean_difference(attention_pairs(one, "fanet", "se")) is None
    assert seed_spread(one) is None
    single = next(row for row in differences_table(one).rows if row[0].text == "FANet − SE")
    assert [cell.text for cell in single[1:]] == ["not run", "too few pairs", "+0.1, +1.8, +1.5, +2.9"]
    row = next(row for row in table2(one).rows if row[2].text == "FANet" and row[3].text == "1 †")
    assert [cell.text for cell in row[4:]] == ["51.0", "71.0", "not run", "not run", "+3.6"]


def test_the_table_shows_gains_over_no_attention_beside_the_papers():
    """Mean and spread over seeds, never the paper's level; ECA is not in the paper."""
    runs = networks(whole_table())
    kept = str.maketrans({"\u00a0": " ", "\u2011": "-"})  # the table keeps a name on one line
    rows = {
        tuple(cell.text.translate(kept) for cell in row[:3]): [cell.text for cell in row[3:]]
        for row in table2(runs).rows
    }
    of_fanet = ["3 †", "61.0 ± 2.0", "81.0 ± 2.0", "not run", "+4.0 (+4.0 to +4.0)", "+7.7"]
    assert rows["MS R-CNN", "R50", "FANet"] == of_fanet
    assert rows["Mask R-CNN", "R34", "ECA"][-1] == "not in it"
    assert rows["Mask R-CNN", "R34", "none"][-2:] == ["reference", "reference"]
    first = differences_table(runs).rows[0]
    assert [cell.text for cell in first[:3]] == ["FANet − FcaNet", "+1.0 (+1.0 to +1.0)", "FANet is higher"]
    assert [row[2].text for row in choices_table(runs).rows] == ["not run"] * 3
    assert "split by wafer, small networks, 100 steps, fp32" in table2(runs).caption


def test_runs_of_the_present_library_have_no_mark():
    """A record whose digest of the library is today's is not older."""
    today = code_digests(find_chapter(find_root(), CHAPTER))
    current = {**made(50.0), "digests": today}
    runs = networks([current, made(51.0, seed=1)])
    assert runs["older"].tolist() == [False, True]
    run = Run("fanet/fanet_results", seed=0)
    report_table2(run, runs)
    assert run.metrics["n_older"].value == 1


@pytest.mark.parametrize(
    ("interval", "words"),
    [((0.1, 2.0), "A is higher"), ((-2.0, -0.1), "B is higher"), ((-1.0, 1.0), "cannot be distinguished")],
)
def test_a_difference_reads_by_its_interval(interval, words):
    """Only an interval without zero names the higher one; without an interval nothing is decided."""
    assert reading(SeedDifference(0.5, interval, 12), "A", "B") == words
    assert reading(SeedDifference(0.5, None, 2), "A", "B") == "too few pairs"


def test_the_run_holds_every_mean_and_difference():
    """With the number of pairs and the interval, under names that claims can use."""
    run = Run("fanet/fanet_results", seed=0)
    report_table2(run, networks(whole_table()))
    assert run.metrics["fanet_minus_fca"].interval == pytest.approx((1.0, 1.0))
    assert run.metrics["fanet_best_of"].value == 4
    assert run.metrics["ap_ms_rcnn_50_fanet"].spread == pytest.approx(2.0)
    assert run.metrics["n_cells"].value == 20
    assert run.metrics["pair_spread"].value == pytest.approx(0.0, abs=1e-9)  # made so that all pairs differ alike


def test_figures_show_every_pair_and_the_papers_differences():
    """Dots are pairs; each row with the paper's four differences has four ticks."""
    runs = networks(whole_table())
    (ax,) = plot_differences(runs).axes
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert sum(len(line.get_xdata()) for line in dots) == 6 * 12
    ticks = [float(line.get_xdata()[0]) for line in ax.lines if line.get_marker() == "|"]
    assert len(ticks) == 5 * 4
    assert ticks[:4] == pytest.approx([1.3, 1.5, 1.3, 1.7])
    gains = plot_gains(runs).axes
    assert [ax.get_title(loc="left") for ax in gains][:2] == ["Mask R-CNN, ResNet-34", "Mask R-CNN, ResNet-50"]
    ours = [float(line.get_xdata()[0]) for line in gains[0].lines if line.get_marker() == "D"]
    assert ours == pytest.approx([2.0, 1.0, 3.0, 4.0])
    assert [float(line.get_xdata()[0]) for line in gains[0].lines if line.get_marker() == "v"] == pytest.approx(
        [3.5, 2.3, 3.6]
    )
    (empty,) = plot_differences(networks([])).axes
    assert [text.get_text() for text in empty.texts] == ["not run"] * 6
    with pytest.raises(UsageError, match="`metric` must be one of"):
        plot_differences(runs, "map")
