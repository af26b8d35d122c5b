"""Training a refinement: the first network stays bit for bit, a kill in either stage loses nothing, both are scored."""

import json
from dataclasses import replace

import pytest
import torch
from membrane.training.toy_membranes import TINY_DESIGN, TINY_PLAN, same_weights, toy_set

from chapters.urisc_baselines import (
    plot_training,
    report_cost,
    report_scores,
    report_training,
    scores_table,
    train_and_score,
    with_steps,
    work_name,
)
from emseg.errors import UsageError
from emseg.membrane.networks import RefinedNetwork, build_network, load_network
from emseg.membrane.training import Start, train_network
from emseg.runs.session import Run
from emseg.tiling.resume import digest_of_weights
from emseg.training.lightning_steps import StepModule

SECOND_DESIGN = replace(TINY_DESIGN, in_channels=2)
FIRST_PLAN = TINY_PLAN.changed(n_steps=40, warm_up_steps=8, validate_every=20, checkpoint_seconds=60.0)
N_STEPS, N_REFINING = 40, 6

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def outcome(folder):
    return train_and_score(TINY_DESIGN, FIRST_PLAN, toy_set(), folder, refinement_steps=N_REFINING, progress=False)


def test_the_first_network_is_unchanged_bit_for_bit_and_the_second_has_learnt(outcome, tmp_path):
    alone = train_network(TINY_DESIGN, FIRST_PLAN, toy_set(), tmp_path, progress=False)
    network = outcome.trained.network
    assert isinstance(network, RefinedNetwork)
    assert same_weights(network.first, alone.network)
    assert same_weights(outcome.first.trained.network, alone.network)
    assert network.last_convolution.weight.any()
    start = build_network(SECOND_DESIGN, seed=FIRST_PLAN.seed).state_dict()
    kernels = [name for name, value in start.items() if value.ndim == 4]
    assert not any(torch.equal(network.second.state_dict()[name].cpu(), start[name]) for name in kernels)


def test_a_vanishing_learning_rate_leaves_the_scores_of_the_first(outcome, folder):
    plan = with_steps(FIRST_PLAN, 1).changed(learning_rate=1e-30)
    trained = train_network(
        SECOND_DESIGN, plan, toy_set(), folder / "still", first=outcome.first.trained, progress=False
    )
    x = torch.randn(1, 1, 40, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(trained.network(x), outcome.first.trained.network(x))


def test_each_stage_has_a_folder_and_the_second_names_the_first(outcome):
    first, second = outcome.first.work_dir, outcome.work_dir
    digest = digest_of_weights(outcome.first.trained.network)
    assert first.parent == second.parent
    assert f"-seed0-refines-{digest[:10]}-" in second.name
    assert "refines" not in first.name
    settings = json.loads((second / "settings.json").read_text())
    assert settings["first"] == {"design": TINY_DESIGN.to_dict(), "digest": digest}
    assert settings["plan"]["n_steps"] == N_REFINING
    assert settings["plan"]["warm_up_steps"] == 1  # the first stage's share, a fifth
    assert json.loads((first / "settings.json").read_text())["first"] == {}


def test_another_first_network_or_other_steps_have_another_folder(outcome):
    first = outcome.first.trained
    other = replace(first, network=build_network(TINY_DESIGN, seed=9))
    plan = with_steps(FIRST_PLAN, N_REFINING)
    names = {
        work_name(SECOND_DESIGN, plan, toy_set(), first=first),
        work_name(SECOND_DESIGN, plan, toy_set(), first=other),
        work_name(SECOND_DESIGN, with_steps(FIRST_PLAN, 7), toy_set(), first=first),
    }
    assert len(names) == 3
    assert outcome.work_dir.name in names


@pytest.mark.parametrize(("stage_steps", "stop"), [(N_STEPS, 30), (N_REFINING, 1), (N_REFINING, 4)])
def test_a_kill_in_either_stage_gives_the_same_bits(outcome, tmp_path, monkeypatch, stage_steps, stop):
    plan = FIRST_PLAN.changed(checkpoint_seconds=0.0)
    after = StepModule.on_train_batch_end

    def interrupt(self, outputs, batch, batch_idx):
        after(self, outputs, batch, batch_idx)
        if self.plan.n_steps == stage_steps and self.first_step + batch_idx + 1 == stop:
            raise RuntimeError("the power fails")

    monkeypatch.setattr(StepModule, "on_train_batch_end", interrupt)
    with pytest.raises(RuntimeError, match="the power fails"):
        train_and_score(TINY_DESIGN, plan, toy_set(), tmp_path, refinement_steps=N_REFINING, progress=False)
    monkeypatch.undo()
    done = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/weights.safetensors")}
    assert len(done) == (0 if stage_steps == N_STEPS else 1)
    resumed = train_and_score(TINY_DESIGN, plan, toy_set(), tmp_path, refinement_steps=N_REFINING, progress=False)
    assert same_weights(resumed.trained.network, outcome.trained.network)
    assert resumed.trained.curves["loss"] == outcome.trained.curves["loss"]
    assert resumed.parts["test"].scores == outcome.parts["test"].scores
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in done.items()), "the first stage is not repeated"


def test_what_is_there_is_not_repeated(outcome, folder, monkeypatch):
    monkeypatch.setattr("emseg.membrane.training.membrane_trainer.MembraneTask", None)
    again = train_and_score(TINY_DESIGN, FIRST_PLAN, toy_set(), folder, refinement_steps=N_REFINING, progress=False)
    assert again.parts["test"].scores == outcome.parts["test"].scores
    assert again.first.parts["test"].scores == outcome.first.parts["test"].scores
    assert same_weights(load_network(again.trained.weights), outcome.trained.network)


def test_without_refinement_nothing_is_refined(outcome, folder):
    alone = train_and_score(TINY_DESIGN, FIRST_PLAN, toy_set(), folder, progress=False)
    assert alone.first is None
    assert alone.work_dir == outcome.first.work_dir
    assert alone.parts["test"].scores == outcome.first.parts["test"].scores
    run = Run("urisc/urisc_baselines", seed=0)
    report_training(run, alone.trained)
    assert not [name for name in run.metrics if name.endswith(("_first", "_refinement"))]
    assert run.metrics["n_steps"].value == N_STEPS


def test_a_record_names_both_stages_and_the_scores_before(outcome):
    run = Run("urisc/urisc_baselines", seed=0)
    report_training(run, outcome.trained)
    report_scores(run, outcome, n_resamples=200, seed=0)
    report_cost(run, outcome)
    values = {name: metric.value for name, metric in run.metrics.items()}
    first, second = outcome.trained.stages
    assert (values["n_steps_first"], values["n_steps_refinement"]) == (N_STEPS, N_REFINING)
    assert values["n_steps"] == N_STEPS + N_REFINING
    assert (values["training_seconds_first"], values["training_seconds_refinement"]) == (first.seconds, second.seconds)
    assert values["training_seconds"] == pytest.approx(first.seconds + second.seconds)
    crops = (N_STEPS + N_REFINING) * FIRST_PLAN.batch_size
    assert values["crops_per_second"] == pytest.approx(crops / values["training_seconds"])
    assert values["n_parameters"] > 2 * first.n_parameters
    assert values["threshold_first"] == outcome.first.threshold
    f1 = [image.membrane.f1 for image in outcome.first.parts["test"].scores]
    assert values["test_membrane_f1_first"] == pytest.approx(sum(f1) / len(f1))
    assert "validation_v_rand_first" in values
    assert values["seconds_per_megapixel_first"] == outcome.first.seconds_per_megapixel
    table = scores_table(run, outcome)
    assert table.header[-1] == "Test images, before refinement"
    assert table.rows[0][3].text.startswith(f"{values['test_membrane_f1_first']:.2f}"[:3])


def test_the_curves_of_both_stages_stand_in_a_row(outcome):
    loss, f1, _, _ = plot_training(outcome).axes
    assert loss.lines[0].get_xdata().tolist() == list(range(1, N_STEPS + N_REFINING + 1))
    assert f1.lines[0].get_xdata().tolist() == [20, 40, N_STEPS + N_REFINING]


@pytest.mark.parametrize("steps", [-1, 2.5, True, "20"])
def test_steps_that_are_none_are_refused_before_anything_is_trained(tmp_path, steps):
    with pytest.raises(UsageError, match="`refinement_steps` must be a whole number of at least 0; got"):
        train_and_score(TINY_DESIGN, FIRST_PLAN, toy_set(), tmp_path, refinement_steps=steps)
    assert not list(tmp_path.iterdir())


def test_designs_of_other_channels_are_refused_before_anything_is_written(outcome, tmp_path):
    work_dir = tmp_path / "work"
    with pytest.raises(UsageError, match=r"the design must have in_channels=1: .*got in_channels=2"):
        train_network(SECOND_DESIGN, TINY_PLAN, toy_set(), work_dir)
    with pytest.raises(UsageError, match=r"the design must have in_channels=2: .*got in_channels=1"):
        train_network(TINY_DESIGN, TINY_PLAN, toy_set(), work_dir, first=outcome.first.trained)
    assert not work_dir.exists()


def test_the_folder_of_a_refinement_of_another_network_is_refused(outcome):
    first = replace(outcome.first.trained, network=build_network(TINY_DESIGN, seed=9))
    plan = with_steps(FIRST_PLAN, N_REFINING)
    with pytest.raises(UsageError, match=r"a work folder contains one training.*with first digest="):
        train_network(SECOND_DESIGN, plan, toy_set(), outcome.work_dir, first=first)


def test_the_optimizer_gets_the_second_networks_weights_alone(outcome, tmp_path, monkeypatch):
    given, configure = [], StepModule.configure_optimizers

    def noted(self):
        optimizer = configure(self)
        given.append((self.network, [weight for group in optimizer.param_groups for weight in group["params"]]))
        return optimizer

    monkeypatch.setattr(StepModule, "configure_optimizers", noted)
    start = Start("none", "", lambda network: None)
    plan = with_steps(FIRST_PLAN, 1)
    train_network(SECOND_DESIGN, plan, toy_set(), tmp_path, first=outcome.first.trained, start=start, progress=False)
    ((network, weights),) = given
    assert {id(weight) for weight in weights} == {id(weight) for weight in network.second.parameters()}
