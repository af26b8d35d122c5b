"""Pretraining against none: pairs that differ in nothing else, gathered as they were trained, said as it is."""

import numpy as np
import pandas as pd
import pytest
from membrane.pretraining.small_pretraining import SMALL_DESIGN, SMALL_PRETRAINING, small_set

from chapters.urisc_transfer import (
    CHAPTER,
    METRICS,
    Transfer,
    gain_text,
    plot_transfer,
    report_pretraining,
    report_transfer,
    run_transfer,
    transfer_of_records,
    transfer_table,
)
from emseg.errors import UsageError
from emseg.intervals import difference_over_seeds
from emseg.membrane.training import TrainingPlan
from emseg.runs.session import Run

PLAN = TrainingPlan(n_steps=2, batch_size=1, crop_size=32, device="cpu", validate_every=0)
SET = small_set()


def network(pretraining, fraction, seed, f1):
    setting = {"pretraining": pretraining, "label_fraction": fraction, "seed": seed}
    cost = {"n_labelled": round(10 * fraction), "seconds": 1.0}
    return setting | cost | dict.fromkeys(METRICS, np.nan) | {"membrane_f1": f1}


def transfer_of(*networks):
    return Transfer(pd.DataFrame(networks))


NETWORKS = [
    network(pretraining, fraction, seed, 0.5 + 0.1 * seed + gain * (pretraining == "moco"))
    for fraction, gain in ((0.1, 0.04), (1.0, 0.02))
    for seed in (0, 1, 2)
    for pretraining in ("none", "moco")
]
KNOWN = transfer_of(*NETWORKS)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("transfer")
    return run_transfer(SMALL_DESIGN, PLAN, SMALL_PRETRAINING, SET, folder, fractions=[0.5, 1.0], n_seeds=2), folder


def test_every_share_and_seed_is_trained_both_ways(trained):
    transfer, _ = trained
    settings = transfer.networks[["pretraining", "label_fraction", "seed"]]
    assert list(settings.itertuples(index=False, name=None)) == [
        (pretraining, fraction, seed) for seed in (0, 1) for fraction in (0.5, 1.0) for pretraining in ("none", "moco")
    ]
    assert transfer.fractions == [0.5, 1.0]
    assert (transfer.n_labelled(0.5), transfer.n_labelled(1.0)) == (1, 2)
    assert transfer.pretrainings == ["none", "moco"]
    assert {seed: one.n_images for seed, one in transfer.pretrained.items()} == {0: 2, 1: 2}


def test_a_comparison_is_not_trained_twice(trained, monkeypatch):
    transfer, folder = trained
    monkeypatch.setattr("emseg.membrane.training.membrane_trainer.MembraneTask", None)
    monkeypatch.setattr("emseg.membrane.pretraining.pretrain_encoder.MomentumContrast", None)
    again = run_transfer(SMALL_DESIGN, PLAN, SMALL_PRETRAINING, SET, folder, fractions=[0.5, 1.0], n_seeds=2)
    pd.testing.assert_frame_equal(again.networks, transfer.networks)


def test_the_two_of_a_pair_differ_in_their_start_alone(trained):
    """The settings that decide the weights agree but for the start."""
    import json

    _, folder = trained
    settings = [json.loads(path.read_text()) for path in folder.glob("unet-*/settings.json")]
    starts = [one.pop("start") for one in settings]
    assert len(settings) == 8
    assert sum(start == {} for start in starts) == 4
    without_start = [json.dumps(one, sort_keys=True) for one in settings]
    assert all(without_start.count(one) == 2 for one in without_start)


def test_a_share_that_cannot_be_is_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(UsageError, match="`label_fraction` must be above 0"):
        run_transfer(SMALL_DESIGN, PLAN, SMALL_PRETRAINING, SET, tmp_path, fractions=[1.0, 0.0], n_seeds=1)
    with pytest.raises(UsageError, match="needs a fraction of labels and a seed"):
        run_transfer(SMALL_DESIGN, PLAN, SMALL_PRETRAINING, SET, tmp_path, fractions=[], n_seeds=1)
    assert not list(tmp_path.iterdir())


def test_gains_are_paired_by_seed():
    gain = KNOWN.gain("moco", 0.1)
    assert gain.value == pytest.approx(0.04)
    assert gain.interval == pytest.approx((0.04, 0.04)), "what seeds share cancels"
    assert KNOWN.gain("moco", None).value == pytest.approx(0.03)


def test_a_seed_that_lacks_its_partner_does_not_count():
    alone = transfer_of(*NETWORKS, network("moco", 0.1, 7, 0.99))
    assert alone.gain("moco", 0.1) == KNOWN.gain("moco", 0.1)
    assert alone.gain("moco", None) == KNOWN.gain("moco", None)
    assert transfer_of(network("moco", 0.1, 7, 0.99)).gain("moco", 0.1) is None


def record(pretraining, fraction, seed, f1, *, finished="2026-01-01", chapter=CHAPTER, **parameters):
    of = {"data": "isbi2012", "n_steps": 400, "pretraining": pretraining, "label_fraction": fraction, "seed": seed}
    return {
        "run_id": f"{pretraining}-{fraction}-{seed}-{finished}",
        "chapter": chapter,
        "finished": finished,
        "parameters": of | parameters,
        "metrics": {"test_membrane_f1": {"value": f1}, "n_training_images": {"value": 10 * fraction}},
        "data": [{"name": "isbi2012", "kind": "real", "fingerprint": "x", "n_images": 30, "pixel_size_nm": 4.0}],
    }


RECORDS = [
    record(pretraining, fraction, seed, 0.7 + 0.01 * (pretraining == "moco"))
    for pretraining in ("none", "moco")
    for fraction in (0.1, 1.0)
    for seed in (0, 1)
]


def test_records_that_agree_in_all_else_are_compared():
    others = [record("none", 0.1, 0, 0.1, n_steps=1), record("moco", 0.1, 0, 0.9, n_steps=1)]
    foreign = record("moco", 0.1, 0, 0.0, finished="2026-09-09", chapter="urisc/other")
    transfer = transfer_of_records([*others, *RECORDS, foreign], data="isbi2012")
    assert len(transfer.networks) == 8
    assert transfer.gain("moco", 0.1).value == pytest.approx(0.01)
    assert transfer.n_labelled(0.1) == 1


def test_what_does_not_decide_a_comparison_may_differ():
    moved = [one | {"parameters": one["parameters"] | {"device": "cuda"}} for one in RECORDS[:4]]
    assert len(transfer_of_records([*moved, *RECORDS[4:]], data="isbi2012").networks) == 8


def test_a_file_that_is_pinned_is_compared_with_records_from_before_it_could_be():
    pinned = [record("cem500k", 0.1, seed, 0.75, pretraining_sha256="0" * 64) for seed in (0, 1)]
    transfer = transfer_of_records([*pinned, *RECORDS], data="isbi2012")
    assert transfer.gain("cem500k", 0.1).value == pytest.approx(0.05)


def test_of_a_cell_that_was_run_twice_the_newest_counts():
    newer = record("moco", 0.1, 0, 0.9, finished="2026-02-02")
    assert transfer_of_records([newer, *RECORDS], data="isbi2012").scores("moco", 0.1)[0] == 0.9


def test_without_records_nothing_was_run():
    assert transfer_of_records([], data="isbi2012").networks.empty
    assert transfer_of_records(RECORDS, data="urisc").networks.empty


def noted(transfer):
    run = Run("urisc/urisc_transfer", seed=0)
    report_transfer(run, transfer)
    report_pretraining(run, transfer)
    return run


def test_the_run_notes_gains_with_their_intervals(trained):
    metrics = noted(KNOWN).metrics
    assert metrics["moco_gain_f1"].value == pytest.approx(0.03)
    assert metrics["moco_gain_f1_fewest"].value == pytest.approx(0.04)
    assert metrics["moco_gain_f1_most"].interval == pytest.approx((0.02, 0.02))
    assert metrics["moco_gain_f1_fewest_low"].value == pytest.approx(0.04)
    assert metrics["none_f1_fewest"].value == pytest.approx(0.6)
    assert (metrics["n_labelled_fewest"].value, metrics["n_labelled_most"].value) == (1, 10)
    metrics = noted(trained[0]).metrics
    assert metrics["collapsed_loss"].value == pytest.approx(np.log(9))
    assert metrics["pretraining_over_training"].value > 0


def test_gathered_records_bring_their_data_into_the_run():
    run = noted(transfer_of_records(RECORDS, data="isbi2012"))
    assert run.data_kinds == ["real"]
    assert run.metrics["n_runs"].value == 8


def test_the_table_gives_the_gain_of_each_fraction_and_says_what_was_not_run():
    text = repr(transfer_table(KNOWN))
    assert "1 labelled image, MoCo v2" in text
    assert "Difference of F1: +0.040 (+0.040 to +0.040)" in text
    assert repr(transfer_table(Transfer())).count("not run") == 5


def test_a_difference_of_one_seed_has_no_interval():
    assert gain_text(difference_over_seeds([(0.5, 0.52)])) == "−0.020"
    assert gain_text(None) == "not run"


def texts(figure):
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def test_figures_draw_what_there_is_and_say_what_was_not_run():
    import matplotlib.pyplot as plt

    drawn = plot_transfer(KNOWN)
    diamonds = [line for line in drawn.axes[1].lines if line.get_marker() == "D" and line.get_color() == "black"]
    assert [float(line.get_ydata()[0]) for line in diamonds] == pytest.approx([0.04, 0.02])
    assert texts(plot_transfer(Transfer())) == ["not run", "not run"]
    plt.close("all")
