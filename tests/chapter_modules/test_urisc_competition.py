"""Records of trained networks become the competition's tables: sorted, never mixed, and what was not run says so."""

from typing import Any

import pytest

from chapters.competition_gap import error_rates, network_f1
from chapters.urisc_competition import (
    CHAPTER,
    Network,
    best_of_architecture,
    compared_splits,
    compared_tracks,
    gathered,
    leaderboard_table,
    main_experiment,
    metric_of,
    networks,
    networks_table,
    our_board,
    plot_board,
    published_scores,
    report_records,
    seed_score,
    survey_table,
    tissue_of,
    tracks_table,
    trained_networks,
)
from emseg.runs.session import Run

DEFAULTS: dict[str, Any] = {
    "data": "synthetic",
    "track": "track1",
    "split": "block",
    "network": "unet",
    "encoder": "plain",
    "encoder_depth": 3,
    "base_channels": 8,
    "attention": "none",
    "reduction": 4,
    "pretraining": "none",
    "pretraining_steps": 0,
    "plan": "small",
    "n_steps": 600,
    "crop_size": 0,
    "size_px": 0,
    "seed": 0,
    "device": "cpu",
}
_OF_NETWORK = {"unet": 0.80, "linknet": 0.77, "casenet": 0.74}
_PIXEL_SIZES = {"track1": 2.18, "track2": 2.18 * 9958 / 1024, "isbi_like": 4.0}
_OF_DATA = {"track1": 0.0, "track2": -0.1, "isbi_like": 0.05}


def made(
    f1: float,
    *,
    finished: int = 0,
    kind: str = "synthetic",
    n_images: int = 8,
    n_parameters: int = 1000,
    **changes: Any,
) -> dict[str, Any]:
    """Return what matters here of a record of the baseline chapter; background F1 lies halfway to 1."""
    metrics = {"test_membrane_f1": f1, "test_background_f1": (1 + f1) / 2}
    metrics |= {"n_training_images": n_images, "n_parameters": n_parameters}
    parameters = {**DEFAULTS, **changes}
    pixel_size_nm = _PIXEL_SIZES[parameters["track"]]
    metrics |= {"test_membrane_precision": f1 - 0.02, "test_membrane_recall": f1 + 0.02}
    return {
        "chapter": CHAPTER,
        "run_id": f"run-{f1}-{finished}-{sorted(changes.items())}",
        "finished": f"2026-11-22T00:00:{finished:02d}Z",
        "parameters": parameters,
        "data": [{"name": "made", "kind": kind, "fingerprint": "f00d", "pixel_size_nm": pixel_size_nm}],
        "metrics": {name: {"value": value, "spread": 0.03} for name, value in metrics.items()},
    }


def synthetic_matrix(n_seeds: int = 2, track1_px: int = 2489) -> list[dict[str, Any]]:
    """Return the runs of three networks on three synthetic sets; Track 1 has 2,489 px where Track 2 has 256."""
    sizes = {"track1": track1_px, "track2": 0, "isbi_like": 0}
    return [
        made(value + shift + 0.01 * seed, network=network, track=track, seed=seed, size_px=sizes[track])
        for network, value in _OF_NETWORK.items()
        for track, shift in _OF_DATA.items()
        for seed in range(n_seeds)
    ]


def test_a_score_is_the_mean_over_seeds_of_one_network_on_one_data_set():
    runs = main_experiment(trained_networks(synthetic_matrix()), ("synthetic", "track1"))
    assert [one.architecture for one in networks(runs)] == ["unet", "linknet", "casenet"]
    score = seed_score(runs, networks(runs)[0], "test_membrane_f1")
    assert (score.mean, score.n) == (pytest.approx(0.805), 2)
    assert score.over_seeds == pytest.approx(0.01 / 2**0.5)
    assert score.over_images == pytest.approx(0.03)
    assert seed_score(runs, networks(runs)[0], "test_v_rand") is None


def test_runs_of_another_budget_or_kind_of_data_are_never_averaged():
    """A longer training and a real set are experiments of their own; where a run was computed makes none."""
    real = made(0.5, data="isbi2012", kind="real", finished=3)
    longer = made(0.95, n_steps=9000, size_px=2489, finished=4)
    elsewhere = made(0.81, seed=7, device="cuda", size_px=2489, finished=5)
    trained = trained_networks([*synthetic_matrix(), real, longer, elsewhere])
    runs = main_experiment(trained, ("synthetic", "track1"))
    assert len(runs) == 7
    assert seed_score(runs, networks(runs)[0], "test_membrane_f1").mean == pytest.approx((0.80 + 0.81 + 0.81) / 3)
    assert metric_of(main_experiment(trained, ("isbi2012", "")), "test_membrane_f1") == [0.5]
    assert {one["parameters"]["data"] for one in gathered(trained, "synthetic")} == {"synthetic"}
    assert {one["parameters"]["data"] for one in gathered(trained, "isbi2012")} == {"isbi2012"}


def test_the_newest_run_of_a_seed_counts_and_other_chapters_do_not():
    stray = {**made(0.1), "chapter": "urisc/urisc_transfer"}
    runs = trained_networks([made(0.9, finished=9), made(0.2, finished=3), stray])
    assert metric_of(runs, "test_membrane_f1") == [0.9]


def test_pretrained_networks_are_rows_of_their_own_and_no_match_for_the_papers_three():
    moco = made(0.99, pretraining="moco", pretraining_steps=400, size_px=2489)
    runs = main_experiment(trained_networks([*synthetic_matrix(), moco]), ("synthetic", "track1"))
    assert best_of_architecture(runs, "unet", "test_membrane_f1").mean == pytest.approx(0.805)
    titles = [one.title for one in networks(runs)]
    assert "U-Net-transfer (moco, steps 400), plain, 8 channels" in titles
    assert (
        Network("unet", "plain", 3, 8, "fanet, reduction 4", "none").title
        == "U-Net, plain, 8 channels, fanet, reduction 4"
    )


def test_metrics_of_a_run_hold_one_kind_of_data_and_only_what_was_run():
    real = made(0.81, data="isbi2012", kind="real")
    trained = trained_networks([*synthetic_matrix(), real])
    synthetic, isbi = Run("urisc/urisc_competition", seed=0), Run("urisc/urisc_competition", seed=0)
    report_records(synthetic, trained, "synthetic")
    assert synthetic.metrics["track_drop"].value == pytest.approx(0.1)
    assert synthetic.metrics["resolution_drop"].value == pytest.approx(0.05)
    assert synthetic.metrics["track1_mean_f1"].value == pytest.approx(0.775)
    assert not any(name.startswith("isbi_best") for name in synthetic.metrics)
    report_records(isbi, trained, "isbi2012")
    assert isbi.metrics["isbi_best_membrane_f1"].value == pytest.approx(0.81)
    assert isbi.metrics["isbi_best_background_f1"].value == pytest.approx(0.905)
    assert not any(name.startswith("track") or name.endswith("mean_f1") for name in isbi.metrics)
    nothing = Run("urisc/urisc_competition", seed=0)
    report_records(nothing, trained_networks([]), "urisc")
    assert nothing.metrics == {}


def test_tables_say_not_run_and_show_the_papers_numbers_as_printed():
    empty, full = repr(our_board(trained_networks([]))), repr(our_board(trained_networks(synthetic_matrix())))
    assert empty.count("not run") == 6 * 6
    assert full.count("not run") == 3 * 6
    assert "0.805 ± 0.030" in full
    board = repr(leaderboard_table())
    assert board.count(".92128 ± .012") == 2
    assert "printed twice; the text gives 0.99" in board
    table = repr(networks_table(trained_networks(synthetic_matrix())))
    assert "not found; 0.97 in the text" in table
    assert "0.855 / 0.927" in table, "ISBI-like"
    assert "0.805 / 0.90" in table, "Track 1"
    assert "Hypercolumns" in repr(survey_table())
    tracks = repr(tracks_table(trained_networks(synthetic_matrix())))
    assert "+0.100" in tracks
    assert "leaders" not in tracks, "a stand-in's number is in no column of the paper's"


def test_our_rates_are_those_of_the_best_network():
    trained = trained_networks(synthetic_matrix())
    rates = error_rates(trained, ("synthetic", "isbi_like"), 0.2)
    ours = next(rates[name] for name in rates if name.startswith("ours"))
    assert ours.recall == pytest.approx(0.875)
    assert set(error_rates(trained_networks([]), ("synthetic", "isbi_like"), 0.2)) == {"the paper's 0.97"}
    assert network_f1(trained, ("synthetic", "track1"))["U-Net"] == (pytest.approx(0.805), pytest.approx(0.9025))


def test_the_board_draws_the_papers_scores_alone():
    drawn = plot_board()
    for ax, track in zip(drawn.axes, ("Track 1", "Track 2"), strict=True):
        values = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "o"]
        assert values == [row.value for row in published_scores(track)]
    assert "Human, 2nd round (misprint)" in [text.get_text() for text in drawn.axes[0].get_yticklabels()]


@pytest.mark.parametrize(
    ("changes", "side_um", "labelled_um2", "crop_um"),
    [
        ({"track": "track1", "size_px": 2489}, 5.426, 8 * 5.426**2, 0.4186),
        ({"track": "track1"}, 2.232, 8 * 2.232**2, 0.4186),
        ({"track": "track2"}, 5.427, 8 * 5.427**2, 4.070),
        ({"track": "isbi_like", "n_images": 4, "crop_size": 100}, 2.048, 4 * 2.048**2, 0.4),
        ({"track": "track1", "data": "urisc", "plan": "paper"}, 21.708, 8 * 21.708**2, 2.232),
    ],
)
def test_a_run_says_how_much_tissue_its_images_show(changes, side_um, labelled_um2, crop_um):
    tissue = tissue_of(made(0.9, **changes))
    assert (tissue.side_um, tissue.crop_um) == (pytest.approx(side_um, rel=1e-3), pytest.approx(crop_um, rel=1e-3))
    assert tissue.labelled_um2 == pytest.approx(labelled_um2, rel=2e-3)


def test_tracks_of_unequal_tissue_are_shown_with_it_and_not_subtracted():
    """1,024 px of Track 1 are a sixth of the tissue of 256 px of Track 2."""
    trained = trained_networks(synthetic_matrix(track1_px=0))
    table = repr(tracks_table(trained))
    assert table.count("not compared: unequal tissue") == 3
    assert "+0.100" not in table
    assert "Track 2: 5.9 times" in table
    run = Run("urisc/urisc_competition", seed=0)
    report_records(run, trained, "synthetic")
    assert "track_drop" not in run.metrics
    assert run.metrics["track1_labelled_um2"].value == pytest.approx(39.9, rel=1e-2)
    assert run.metrics["track2_labelled_um2"].value == pytest.approx(235.6, rel=1e-2)
    assert run.metrics["track1_mean_f1"].value == pytest.approx(0.775), "the other comparisons stay"


def test_tracks_of_equal_tissue_are_preferred_and_said_to_be_equal():
    both = trained_networks([*synthetic_matrix(track1_px=0, n_seeds=3), *synthetic_matrix()])
    assert not compared_tracks(both, "synthetic").unequal
    table = repr(tracks_table(both))
    assert "+0.100" in table
    assert table.count(": equal") == 2
    assert "Track 2: 9.7 times" in table, "the crop"


def test_tracks_are_compared_over_the_seeds_that_both_have():
    lucky = [made(0.99, network=network, size_px=2489, seed=5) for network in _OF_NETWORK]
    trained = trained_networks([*synthetic_matrix(), *lucky])
    run = Run("urisc/urisc_competition", seed=0)
    report_records(run, trained, "synthetic")
    assert run.metrics["track_drop"].value == pytest.approx(0.1)
    assert run.metrics["track1_mean_f1"].value > 0.8


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"n_steps": 900}, "other settings"), ({"n_images": 4}, "unequal tissue"), ({"size_px": 2000}, "unequal tissue")],
)
def test_tracks_of_other_budgets_or_numbers_of_images_are_not_compared(changes, reason):
    runs = [made(0.9, **{"size_px": 2489, **changes}), made(0.8, track="track2")]
    compared = compared_tracks(trained_networks(runs), "synthetic")
    assert compared.unequal == reason
    assert compared.drop() is None


def test_tracks_without_runs_are_not_run_and_not_called_unequal():
    table = repr(tracks_table(trained_networks([made(0.9, track="track2")])))
    assert "not compared" not in table
    assert "0.900" in table
    assert "+" not in table


def test_a_record_older_than_a_parameter_belongs_to_the_runs_that_have_it_off():
    old = made(0.8, seed=0)
    new = made(0.9, seed=1, refinement_steps=0, refit=False, boundary_weight=0.0)
    changed = made(0.5, seed=2, refit=True)
    runs = main_experiment(trained_networks([old, new, changed]), ("synthetic", "track1"))
    assert runs.seed.tolist() == [0, 1]


def test_of_two_equal_experiments_the_newer_is_the_main_one():
    """So new records of another image size are shown as soon as they are as many as the old ones."""
    runs = [made(0.8, finished=3), made(0.7, size_px=2489, finished=9), made(0.6, size_px=512, finished=1)]
    assert metric_of(main_experiment(trained_networks(runs), ("synthetic", "track1")), "test_membrane_f1") == [0.7]


def test_the_best_score_is_that_of_all_runs_whatever_their_budget():
    """The longer run is one network, the matrix has three: it is not the main experiment, yet it is the best."""
    matrix = [made(value, data="isbi2012", kind="real", network=name) for name, value in _OF_NETWORK.items()]
    longer = made(0.83, data="isbi2012", kind="real", n_steps=8000, n_parameters=2_000_000)
    trained = trained_networks([*matrix, longer])
    run = Run("urisc/urisc_competition", seed=0)
    report_records(run, trained, "isbi2012")
    assert run.metrics["isbi_unet_membrane_f1"].value == pytest.approx(0.80)
    assert run.metrics["isbi_best_membrane_f1"].value == pytest.approx(0.83)
    assert run.metrics["isbi_best_background_f1"].value == pytest.approx(0.915)
    assert run.metrics["isbi_best_membrane_parameters"].value == 2_000_000
    assert len(gathered(trained, "isbi2012")) == 4


def test_splits_are_compared_over_runs_that_are_alike_in_all_else():
    def isbi(f1: float, split: str, **changes: Any) -> dict[str, Any]:
        return made(f1, data="isbi2012", kind="real", split=split, **changes)

    pairs = [isbi(0.80, "block"), isbi(0.84, "interleaved"), isbi(0.82, "block", seed=1)]
    longer = [isbi(0.83, "block", n_steps=6000), isbi(0.85, "interleaved", n_steps=6000)]
    trained = trained_networks([*pairs, *longer, made(0.9, split="interleaved")])
    assert [len(runs) for runs in compared_splits(trained).values()] == [
        2,
        2,
    ]  # seed 1 has no partner, and synthetic tissue no sections
    run = Run("urisc/urisc_competition", seed=0)
    report_records(run, trained, "isbi2012")
    assert run.metrics["isbi_block_membrane_f1"].value == pytest.approx(0.815)
    assert run.metrics["isbi_interleaved_membrane_f1"].value == pytest.approx(0.845)
    assert run.metrics["isbi_block_membrane_f1"].n == 2
    assert {one["parameters"]["split"] for one in gathered(trained, "isbi2012")} == {"block", "interleaved"}


def test_one_split_alone_is_compared_with_nothing():
    run = Run("urisc/urisc_competition", seed=0)
    report_records(run, trained_networks([made(0.8, data="isbi2012", kind="real")]), "isbi2012")
    assert "isbi_block_membrane_f1" not in run.metrics
