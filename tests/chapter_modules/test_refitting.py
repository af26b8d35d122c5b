"""A refit learns from the validation images too, and is scored at the thresholds that they chose before."""

from dataclasses import replace

import pytest
from membrane.training.toy_membranes import TINY_DESIGN, TINY_PLAN, same_weights, toy_set

from chapters.urisc_baselines import (
    plot_training,
    report_cost,
    report_scores,
    report_training,
    scores_table,
    train_and_score,
)
from emseg.errors import UsageError
from emseg.membrane.training import train_network
from emseg.runs.session import Run

N_STEPS = 12
PLAN = TINY_PLAN.changed(n_steps=N_STEPS, warm_up_steps=3, validate_every=6, checkpoint_seconds=60.0)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def outcome(folder):
    return train_and_score(TINY_DESIGN, PLAN, toy_set(), folder, refit=True, progress=False)


def test_the_network_is_that_of_a_training_on_both_parts(outcome, tmp_path):
    images = toy_set()
    both = replace(images, train=(*images.train, *images.validation), validation=())
    alone = train_network(TINY_DESIGN, PLAN.changed(validate_every=0), both, tmp_path, progress=False)
    assert same_weights(outcome.trained.network, alone.network)
    assert not same_weights(outcome.trained.network, outcome.first.trained.network)
    assert outcome.trained.n_images == len(images.train) + len(images.validation)


def test_thresholds_and_validation_scores_are_those_of_the_first_training(outcome):
    assert outcome.second_stage == "refit"
    assert outcome.threshold == outcome.first.threshold
    assert outcome.v_rand_threshold == outcome.first.v_rand_threshold
    assert outcome.parts["validation"] is outcome.first.parts["validation"]
    assert list(outcome.parts) == ["validation", "test"]
    assert outcome.parts["test"].predictions != outcome.first.parts["test"].predictions


def test_the_first_stage_is_the_same_as_without_a_refit_and_nothing_is_repeated(outcome, folder, monkeypatch):
    monkeypatch.setattr("emseg.membrane.training.membrane_trainer.MembraneTask", None)
    alone = train_and_score(TINY_DESIGN, PLAN, toy_set(), folder, progress=False)
    assert alone.second_stage == ""
    assert alone.work_dir == outcome.first.work_dir
    assert alone.parts["test"].scores == outcome.first.parts["test"].scores
    again = train_and_score(TINY_DESIGN, PLAN, toy_set(), folder, refit=True, progress=False)
    assert again.parts["test"].scores == outcome.parts["test"].scores


def test_a_record_counts_both_trainings_and_has_the_test_scores_before(outcome):
    run = Run("urisc/urisc_baselines", seed=0)
    report_training(run, outcome.trained)
    report_scores(run, outcome, n_resamples=200, seed=0)
    report_cost(run, outcome)
    values = {name: metric.value for name, metric in run.metrics.items()}
    assert (values["n_steps_first"], values["n_steps_refit"], values["n_steps"]) == (N_STEPS, N_STEPS, 2 * N_STEPS)
    first, second = outcome.trained.stages
    assert values["training_seconds"] == pytest.approx(first.seconds + second.seconds)
    f1 = [image.membrane.f1 for image in outcome.first.parts["test"].scores]
    assert values["test_membrane_f1_first"] == pytest.approx(sum(f1) / len(f1))
    f1 = [image.membrane.f1 for image in outcome.parts["test"].scores]
    assert values["test_membrane_f1"] == pytest.approx(sum(f1) / len(f1))
    firsts = [name for name in values if name.endswith("_first")]
    assert not [name for name in firsts if name.startswith(("validation", "threshold", "seconds_per_megapixel"))]
    assert scores_table(run, outcome).header[-1] == "Test images, before refit"


def test_the_curves_of_both_trainings_stand_in_a_row(outcome):
    loss, f1, _, _ = plot_training(outcome).axes
    assert loss.lines[0].get_xdata().tolist() == list(range(1, 2 * N_STEPS + 1))
    assert f1.lines[0].get_xdata().tolist() == [6, N_STEPS]


def test_a_refit_of_a_refinement_is_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(UsageError, match=r"`refit` and `refinement_steps` exclude each other; .* Refit, or refine"):
        train_and_score(TINY_DESIGN, PLAN, toy_set(), tmp_path, refit=True, refinement_steps=3)
    assert not list(tmp_path.iterdir())
