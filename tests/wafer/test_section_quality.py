"""Networks that differ in their attention alone: same weights, same crops, same bits; scores kept and found again."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from chapters.wafer_dataset import quality_cells
from chapters.wafer_dataset.quality_cells import Cell, cells_folder, choose_device, score_cells
from chapters.wafer_dataset.quality_experiment import (
    Experiment,
    Outcome,
    frequency_pairs,
    parameter_counts,
    run_experiment,
)
from chapters.wafer_dataset.quality_reporting import comparison_table, report_comparison, report_single_frequencies
from chapters.wafer_dataset.section_quality import (
    NetworkDesign,
    Training,
    as_input,
    build_network,
    held_out_crops,
    n_parameters,
    score_network,
    single_frequency,
    train_and_score,
    train_network,
    training_crops,
)
from emseg.errors import UsageError
from emseg.frequency.attention import FanetAttention
from emseg.reported import load_claims
from emseg.runs.session import Run

CHAPTER = "fanet/channel_attention"
SHORT = Training(n_steps=3, batch=8, n_train=32, n_held_out=24, data_seed=1)
SE, FANET = NetworkDesign("se"), NetworkDesign("fanet")


@pytest.fixture(scope="module")
def crops():
    return training_crops(SHORT), held_out_crops(SHORT)


def state_without_attention(network):
    return {name: value for name, value in network.state_dict().items() if ".attention." not in name}


def test_networks_of_one_seed_differ_in_nothing_but_their_attention():
    base = state_without_attention(build_network(NetworkDesign("none"), 4))
    for attention in ("se", "eca", "fca", "fanet"):
        other = state_without_attention(build_network(NetworkDesign(attention), 4))
        assert base.keys() == other.keys()
        assert all(torch.equal(base[name], other[name]) for name in base)


def test_se_fcanet_and_fanet_begin_with_the_same_layers_and_have_as_many_parameters():
    states = [build_network(NetworkDesign(one), 4).state_dict() for one in ("se", "fca", "fanet")]
    for other in states[1:]:
        assert states[0].keys() == other.keys()
        assert all(torch.equal(states[0][name], other[name]) for name in other)
    assert len({n_parameters(build_network(NetworkDesign(one), 4)) for one in ("se", "fca", "fanet")}) == 1


def test_the_single_frequency_0_0_is_squeeze_and_excitation(crops):
    """The design of (0, 0) is SE's, and FANet with (0, 0) alone gives what SE gives, to rounding."""
    assert single_frequency((0, 0), FANET) == replace(FANET, attention="se")
    assert single_frequency((2, 3), SE).frequencies == ((2, 3),)
    mean_only = build_network(replace(FANET, frequencies=((0, 0),)), 0).eval()
    assert isinstance(mean_only.layer1[0].attention, FanetAttention)
    x = as_input(torch.from_numpy(crops[1].images))
    with torch.no_grad():
        torch.testing.assert_close(mean_only(x), build_network(SE, 0).eval()(x))


def test_training_can_be_repeated_to_the_bit_and_depends_on_the_seed(crops):
    first, again = (train_and_score(FANET, SHORT, *crops, seed=2) for _ in range(2))
    assert (first.accuracy, first.loss, first.recall) == (again.accuracy, again.loss, again.recall)
    assert train_and_score(FANET, SHORT, *crops, seed=3).loss != first.loss


def test_training_leaves_the_global_random_state_and_the_number_of_threads_alone(crops):
    before, n_threads = torch.get_rng_state(), torch.get_num_threads()
    train_and_score(SE, SHORT, *crops, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == n_threads


def test_no_crop_is_learnt_from_and_scored_on():
    training = replace(SHORT, n_train=64, n_held_out=64)
    both = np.concatenate([training_crops(training).images, held_out_crops(training).images])
    assert len(np.unique(both.reshape(128, -1), axis=0)) == 128


def test_a_network_learns_the_crops_it_is_shown():
    """Forty crops, seen sixty times, are told apart: the labels fit the images and the gradient reaches all layers."""
    training = Training(n_steps=120, batch=20, n_train=40, n_held_out=24)
    shown = training_crops(training)
    network = train_network(SE, training, shown, seed=0)
    assert score_network(network, shown).accuracy > 0.8


def test_the_score_counts_right_answers_by_class(crops):
    """A network that always says "fold" is right on the folds and on nothing else."""
    network = build_network(SE, 0).eval()
    with torch.no_grad():
        network.fc.weight.zero_()
        network.fc.bias.copy_(torch.tensor([0.0, 0.0, 1.0, 0.0]))
    score = score_network(network, crops[1])
    assert score.recall == (0, 0, 1, 0)
    assert score.accuracy == pytest.approx(0.25)
    assert score.loss == pytest.approx(np.log(3 + np.e) - 0.25)


def cells(*seeds: int) -> list[Cell]:
    return [Cell(SE, seed, SHORT, "cpu") for seed in seeds]


def test_a_killed_run_goes_on_where_it_was(tmp_path, crops, monkeypatch):
    """Scores that were kept are not trained again; a spoilt file counts as none."""
    first = score_cells(cells(0, 1), tmp_path, n_workers=1, crops=crops)
    assert first.n_kept == 0
    assert len(list(tmp_path.glob("*.json"))) == 2
    trained = []
    real = quality_cells.train_and_score
    monkeypatch.setattr(
        quality_cells,
        "train_and_score",
        lambda *args, seed, **more: trained.append(seed) or real(*args, seed=seed, **more),
    )
    second = score_cells(cells(0, 1, 2), tmp_path, n_workers=1, crops=crops)
    assert trained == [2]
    assert second.n_kept == 2
    assert second.accuracy(cells(1, 0)) == first.accuracy(cells(1, 0))
    next(iter(tmp_path.glob("*.json"))).write_text('{"cut": ')
    assert score_cells(cells(0, 1, 2), tmp_path, n_workers=1, crops=crops).by_cell.keys() == second.by_cell.keys()
    assert len(trained) == 2


def test_a_kept_score_belongs_to_its_parameters_its_code_and_torchs_version(tmp_path, crops, monkeypatch):
    score_cells(cells(0), tmp_path, n_workers=1, crops=crops)
    for other in (replace(SHORT, n_steps=4), replace(SHORT, data_seed=2)):
        assert quality_cells._kept(replace(cells(0)[0], training=other), tmp_path) is None
    assert quality_cells._kept(replace(cells(0)[0], design=FANET), tmp_path) is None
    assert quality_cells._kept(replace(cells(0)[0], device="cuda"), tmp_path) is None
    monkeypatch.setattr(quality_cells, "_code_digest", lambda: "another code")
    assert quality_cells._kept(cells(0)[0], tmp_path) is None


def test_without_a_folder_nothing_is_kept(crops):
    assert cells_folder("none") is None
    assert score_cells(cells(0), None, n_workers=1, crops=crops).n_kept == 0


@pytest.mark.slow
def test_scores_do_not_depend_on_how_many_are_trained_side_by_side(tmp_path, crops):
    one = score_cells(cells(0, 1), None, n_workers=1, crops=crops)
    two = score_cells(cells(0, 1), tmp_path, n_workers=2, crops=crops)
    assert [s.loss for s in one.by_cell.values()] == [s.loss for s in two.by_cell.values()]
    assert {json.loads(file.read_text())["score"]["loss"] for file in tmp_path.glob("*.json")} == {
        score.loss for score in two.by_cell.values()
    }


def experiment(**changes) -> Experiment:
    given = {"frequencies": ((0, 0), (0, 6), (6, 0), (6, 6)), "n_seeds": 2, "n_comparison_seeds": 3}
    return Experiment(SHORT, NetworkDesign(), **(given | changes))


def test_the_experiment_trains_each_network_once(tmp_path, crops):
    """Four frequencies with two seeds and seven attentions with three; SE's first two seeds are those of (0, 0)."""
    plan = experiment()
    distinct = {cell for group in (*plan.single_cells(), *plan.comparison_cells().values()) for cell in group}
    assert len(distinct) == 4 * 2 + 7 * 3 - 2
    outcome = run_experiment(plan, tmp_path, n_workers=1, crops=crops)
    assert outcome.n_networks == len(distinct)
    assert outcome.compared["se"][:2] == outcome.single[0].tolist()
    assert run_experiment(plan, tmp_path, n_workers=1).n_kept == len(distinct)


def test_every_claim_of_the_chapter_finds_its_metric(crops):
    """All but the two that the notebook itself measures."""
    rng = np.random.default_rng(0)
    plan = experiment()
    names = ("none", "se", "eca", "fca", "fanet", "fanet_ortho", "own")
    outcome = Outcome(rng.random((4, 2)), {name: rng.random(3).tolist() for name in names}, 24, 0, 1.0)
    run = Run(CHAPTER, seed=0)
    report_single_frequencies(run, plan.frequencies, outcome, seed=0)
    report_comparison(run, outcome, parameter_counts(plan))
    wanted = {claim.metric for claim in load_claims(CHAPTER)}
    assert wanted - set(run.metrics) == {"effective_dimension_ratio"}
    means = outcome.single.mean(axis=1)
    assert run.metrics["worst_frequency_drop"].value == pytest.approx(means[0] - means.min())
    assert run.metrics["mean_frequency_drop"].value == pytest.approx(means[0] - means[1:].mean())
    gap = np.mean(outcome.compared["fanet"]) - np.mean(outcome.compared["se"])
    assert run.metrics["fanet_minus_se"].value == pytest.approx(gap)
    assert run.metrics["fanet_parameters_over_se"].value == 1
    table = comparison_table(outcome, parameter_counts(plan))
    assert len(table.rows) == len(names)
    assert table.rows[1][4].text == ""


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: NetworkDesign("fcanet"), "must be one of none, se, eca, fca, fanet; got 'fcanet'"),
        (lambda: Training(batch=64, n_train=32), "`batch` must be from 1 to n_train; got 64"),
        (lambda: Training(n_steps=1), "`n_steps` must be at least 2; got 1"),
        (lambda: experiment(frequencies=((0, 1),)), r"must hold \(0, 0\)"),
        (lambda: experiment(n_seeds=1), "at least 2 seeds are needed"),
        (lambda: frequency_pairs([0, 1], [0]), "one row index h and one column index w; got 2 and 1"),
        (lambda: choose_device("gpu"), "must be auto, cpu or cuda; got 'gpu'"),
        (lambda: score_cells(cells(0), None, n_workers=0), "`n_workers` must be at least 1"),
        (
            lambda: score_cells([*cells(0), Cell(SE, 0, replace(SHORT, n_steps=9), "cpu")], None, n_workers=1),
            "must share one training; got 2",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused(call, message):
    with pytest.raises(UsageError, match=message):
        call()
