"""Networks that differ in their attention alone: same weights, same crops, same bits; scores kept and found again."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from chapters import section_quality
from chapters.channel_attention import comparison_table, report_comparison, report_single_frequencies
from chapters.section_quality import (
    Accuracies,
    Experiment,
    QualityDesign,
    QualityPlan,
    QualityRun,
    as_input,
    available_workers,
    build_network,
    frequency_pairs,
    parameter_counts,
    run_experiment,
    score_network,
    score_runs,
    scores_folder,
    train_network,
)
from emseg.errors import UsageError
from emseg.frequency.attention import FanetAttention
from emseg.reported import load_claims
from emseg.runs.digest import imported_modules
from emseg.runs.session import Run

CHAPTER = "fanet/channel_attention"
SHORT = QualityPlan(n_steps=3, batch=8, n_train=32, n_held_out=24, data_seed=1)
SE, FANET = QualityDesign("se"), QualityDesign("fanet")


@pytest.fixture(scope="module")
def crops():
    return SHORT.crops()


def trained(design, seed, crops):
    (score,) = score_runs([QualityRun(design, seed, SHORT)], None, n_workers=1, crops=crops)[0].values()
    return score


def state_without_attention(network):
    return {name: value for name, value in network.state_dict().items() if ".attention." not in name}


def test_networks_of_one_seed_differ_in_nothing_but_their_attention():
    base = state_without_attention(build_network(QualityDesign("none"), 4))
    for attention in ("se", "eca", "fca", "fanet"):
        other = state_without_attention(build_network(QualityDesign(attention), 4))
        assert base.keys() == other.keys()
        assert all(torch.equal(base[name], other[name]) for name in base)


def test_se_fcanet_and_fanet_begin_with_the_same_layers_and_have_as_many_parameters():
    states = [build_network(QualityDesign(one), 4).state_dict() for one in ("se", "fca", "fanet")]
    for other in states[1:]:
        assert states[0].keys() == other.keys()
        assert all(torch.equal(states[0][name], other[name]) for name in other)
    assert len({parameter_counts(build_network(QualityDesign(one), 4)) for one in ("se", "fca", "fanet")}) == 1


def test_the_single_frequency_0_0_is_squeeze_and_excitation(crops):
    """The design of (0, 0) is SE's, and FANet with (0, 0) alone gives what SE gives, to rounding."""
    runs = Experiment(SHORT, QualityDesign(), ((2, 3), (0, 0)), 2, 2).single_runs()
    assert runs[0][0].design == replace(FANET, frequencies=((2, 3),))
    assert runs[1][1].design.attention == "se"
    mean_only = build_network(replace(FANET, frequencies=((0, 0),)), 0).eval()
    assert isinstance(mean_only.layer1[0].attention, FanetAttention)
    x = as_input(torch.from_numpy(crops[1].images))
    with torch.no_grad():
        torch.testing.assert_close(mean_only(x), build_network(SE, 0).eval()(x))


def test_training_can_be_repeated_to_the_bit_and_depends_on_the_seed(crops):
    first, again = (trained(FANET, 2, crops) for _ in range(2))
    assert (first.accuracy, first.loss) == (again.accuracy, again.loss)
    assert trained(FANET, 3, crops).loss != first.loss


def test_training_leaves_the_global_random_state_and_the_number_of_threads_alone(crops):
    before, n_threads = torch.get_rng_state(), torch.get_num_threads()
    trained(SE, 0, crops)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == n_threads


def test_no_crop_is_learnt_from_and_scored_on():
    both = np.concatenate([one.images for one in replace(SHORT, n_train=64, n_held_out=64).crops()])
    assert len(np.unique(both.reshape(128, -1), axis=0)) == 128


def test_a_network_learns_the_crops_it_is_shown():
    """Forty crops, seen sixty times, are told apart: the labels fit the images and the gradient reaches all layers."""
    plan = QualityPlan(n_steps=120, batch=20, n_train=40, n_held_out=24)
    shown, _ = plan.crops()
    network = train_network(QualityRun(SE, 0, plan), shown)
    assert score_network(network, shown).accuracy > 0.8


def test_the_score_counts_right_answers(crops):
    """A network that always says "fold" is right on the folds, a quarter of the crops."""
    network = build_network(SE, 0).eval()
    with torch.no_grad():
        network.fc.weight.zero_()
        network.fc.bias.copy_(torch.tensor([0.0, 0.0, 1.0, 0.0]))
    score = score_network(network, crops[1])
    assert score.accuracy == pytest.approx(0.25)
    assert score.loss == pytest.approx(np.log(3 + np.e) - 0.25)


def runs(*seeds: int) -> list[QualityRun]:
    return [QualityRun(SE, seed, SHORT) for seed in seeds]


def test_an_interrupted_run_resumes(tmp_path, crops, monkeypatch):
    """Scores that were kept are not trained again; a spoilt file counts as none."""
    first, n_kept = score_runs(runs(0, 1), tmp_path, n_workers=1, crops=crops)
    assert n_kept == 0
    assert len(list(tmp_path.glob("*.json"))) == 2
    trained = []
    real = section_quality.train_network
    monkeypatch.setattr(
        section_quality, "train_network", lambda run, crops: trained.append(run.seed) or real(run, crops)
    )
    second, n_kept = score_runs(runs(0, 1, 2), tmp_path, n_workers=1, crops=crops)
    assert trained == [2]
    assert n_kept == 2
    assert [second[run] for run in runs(1, 0)] == [first[run] for run in runs(1, 0)]
    next(iter(tmp_path.glob("*.json"))).write_text('{"cut": ')
    third, _ = score_runs(runs(0, 1, 2), tmp_path, n_workers=1, crops=crops)
    assert third.keys() == second.keys()
    assert len(trained) == 2


def test_a_kept_score_belongs_to_its_parameters_its_code_and_torchs_version(tmp_path, crops, monkeypatch):
    score_runs(runs(0), tmp_path, n_workers=1, crops=crops)
    (run,) = runs(0)
    assert section_quality._kept(run, tmp_path) is not None
    for other in (
        replace(run, plan=replace(SHORT, n_steps=4)),
        replace(run, plan=replace(SHORT, data_seed=2)),
        replace(run, design=FANET),
        replace(run, device="cuda"),
    ):
        assert section_quality._kept(other, tmp_path) is None
    monkeypatch.setattr(section_quality, "_code_digest", lambda: "another code")
    assert section_quality._kept(run, tmp_path) is None


def test_the_digest_of_the_code_covers_the_training_and_the_network(monkeypatch):
    """A change of this module or of the library's attention makes a kept score old."""
    found = []
    monkeypatch.setattr(section_quality, "library_digest", lambda notebook, chapter: found.append(notebook) or "digest")
    assert section_quality._code_digest.__wrapped__() == "digest"
    covered = imported_modules([cell.source for cell in found[0].cells])
    assert {"chapters.section_quality", "emseg.frequency.attention", "emseg.synthetic.wafer.section_crops"} <= set(
        covered
    )


def test_no_more_workers_than_cores_are_started():
    assert available_workers(0) == available_workers(1) == 1
    assert available_workers(10**6) <= 10**4


def test_without_a_folder_nothing_is_kept(crops):
    assert scores_folder("none") is None
    assert score_runs(runs(0), None, n_workers=1, crops=crops)[1] == 0


@pytest.mark.slow
def test_scores_do_not_depend_on_how_many_are_trained_side_by_side(tmp_path, crops):
    one, _ = score_runs(runs(0, 1), None, n_workers=1, crops=crops)
    two, _ = score_runs(runs(0, 1), tmp_path, n_workers=2, crops=crops)
    assert [s.loss for s in two.values()] == pytest.approx([s.loss for s in one.values()], rel=1e-5)
    kept = {json.loads(file.read_text())["score"]["loss"] for file in tmp_path.glob("*.json")}
    assert kept == {score.loss for score in two.values()}


def experiment(**changes) -> Experiment:
    given = {"frequencies": ((0, 0), (0, 6), (6, 0), (6, 6)), "n_seeds": 2, "n_comparison_seeds": 3}
    return Experiment(SHORT, QualityDesign(), **(given | changes))


def test_the_experiment_trains_each_network_once(tmp_path, crops):
    """Four frequencies with two seeds and seven attentions with three; SE's first two seeds are those of (0, 0)."""
    plan = experiment()
    distinct = {run for group in (*plan.single_runs(), *plan.comparison_runs().values()) for run in group}
    assert len(distinct) == 4 * 2 + 7 * 3 - 2
    found = run_experiment(plan, tmp_path, n_workers=1, crops=crops)
    assert found.n_networks == len(distinct)
    assert found.compared["se"][:2] == found.single[0].tolist()
    assert run_experiment(plan, tmp_path, n_workers=1).n_kept == len(distinct)


def test_every_claim_of_the_chapter_finds_its_metric(crops):
    """All but the two that the notebook itself measures."""
    rng = np.random.default_rng(0)
    plan = experiment()
    names = ("none", "se", "eca", "fca", "fanet", "fanet_ortho", "own")
    found = Accuracies(rng.random((4, 2)), {name: rng.random(3).tolist() for name in names}, 24, 0, 1.0)
    run = Run(CHAPTER, seed=0)
    report_single_frequencies(run, plan.frequencies, found, seed=0)
    report_comparison(run, found, plan.parameter_counts())
    wanted = {claim.metric for claim in load_claims(CHAPTER)}
    assert wanted - set(run.metrics) == {"effective_dimension_ratio"}
    means = found.single.mean(axis=1)
    assert run.metrics["worst_frequency_drop"].value == pytest.approx(means[0] - means.min())
    assert run.metrics["mean_frequency_drop"].value == pytest.approx(means[0] - means[1:].mean())
    assert run.metrics["mean_frequency_drop"].interval is None  # two seeds
    gap = np.mean(found.compared["fanet"]) - np.mean(found.compared["se"])
    assert run.metrics["fanet_minus_se"].value == pytest.approx(gap)
    assert run.metrics["fanet_parameters_over_se"].value == 1
    table = comparison_table(found, plan.parameter_counts())
    assert len(table.rows) == len(names)
    assert table.rows[1][4].text == ""


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: QualityDesign("fcanet"),
            "must be one of 'none', 'se', 'eca', 'fca', 'fanet'; got 'fcanet'",
        ),
        (lambda: QualityPlan(batch=64, n_train=32), "`batch` must be at most n_train; got 64"),
        (lambda: QualityPlan(n_steps=1), "`n_steps` must be at least 2; got 1"),
        (lambda: experiment(frequencies=((0, 1),)), r"must (?:hold|contain) \(0, 0\)"),
        (lambda: experiment(n_seeds=1), "at least 2 seeds are needed"),
        (lambda: frequency_pairs([0, 1], [0]), "one row index h and one column index w; got 2 and 1"),
        (lambda: score_runs(runs(0), None, n_workers=0), "`n_workers` must be a whole number of at least 1; got 0"),
        (
            lambda: score_runs([*runs(0), QualityRun(SE, 0, replace(SHORT, n_steps=9))], None, n_workers=1),
            "must share one plan; got 2",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused(call, message):
    with pytest.raises(UsageError, match=message):
        call()


@pytest.mark.parametrize("n", [1, 2, 4, 8, 16])
def test_as_many_frequencies_as_divide_16_are_taken_in_order(n):
    assert frequency_pairs([6] * n, list(range(7))[:n] + [0] * (n - 7)) == tuple(
        (6, w) for w in (list(range(7))[:n] + [0] * (n - 7))
    )


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        ([0, 1], [0], "one row index h and one column index w; got 2 and 1. Give both lists the same length"),
        ([], [], "the number of frequencies must divide 16.*got 0. Give 1, 2, 4, 8 or 16"),
        ([0, 1, 2], [0, 1, 2], "the number of frequencies must divide 16.*got 3"),
        ([0] * 32, [0] * 32, "must divide 16.*got 32"),
        ([0, 7], [0, 1], "`own_rows` must be a whole number from 0 to 6; got 7"),
        ([0, 1], [0, -1], "`own_columns` must be a whole number from 0 to 6; got -1"),
    ],
)
def test_other_frequencies_are_refused_in_one_sentence(rows, columns, message):
    with pytest.raises(UsageError, match=message):
        frequency_pairs(rows, columns)
