"""Training: the same weights after a kill, a finished run at once, and everything that cannot work named beforehand."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from membrane.training import killed
from membrane.training.toy_membranes import TINY_DESIGN, TINY_PLAN, toy_set

from emseg.errors import InputError, UsageError
from emseg.membrane.networks import NetworkDesign, build_network, load_network
from emseg.membrane.training import Start, train_network
from emseg.membrane.training.membrane_trainer import MembraneTask
from emseg.tiling.resume import digest_of_weights

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One training, with whatever it says and warns of."""
    return train_network(TINY_DESIGN, TINY_PLAN, toy_set(), tmp_path_factory.mktemp("work"))


def same_weights(one, other):
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in one.state_dict().items())


def test_a_training_lowers_the_loss_and_finds_the_lines(tmp_path):
    plan = TINY_PLAN.changed(n_steps=60, warm_up_steps=10, checkpoint_seconds=60.0, validate_every=30)
    trained = train_network(TINY_DESIGN, plan, toy_set(), tmp_path)
    assert trained.curves["step"] == list(range(1, 61))
    assert sum(trained.curves["loss"][-10:]) < 0.6 * sum(trained.curves["loss"][:10])
    assert trained.validation["step"] == [30, 60]
    assert trained.validation["best_membrane_f1"][-1] > 0.8
    assert max(trained.curves["learning_rate"]) == pytest.approx(plan.learning_rate)
    assert not trained.network.training


def test_two_trainings_with_one_seed_are_one(trained, tmp_path):
    again = train_network(TINY_DESIGN, TINY_PLAN, toy_set(), tmp_path)
    assert same_weights(trained.network, again.network)
    other = train_network(TINY_DESIGN, TINY_PLAN.changed(seed=1), toy_set(), tmp_path / "other")
    assert not same_weights(trained.network, other.network)


def test_what_only_watches_changes_no_weight(trained, tmp_path):
    plan = TINY_PLAN.changed(validate_every=0, checkpoint_seconds=100.0, n_workers=1)
    again = train_network(TINY_DESIGN, plan, toy_set(), tmp_path)
    assert again.validation == {}
    torch.testing.assert_close(again.network.state_dict(), trained.network.state_dict())


def test_a_training_leaves_the_random_generators_alone(tmp_path):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    train_network(TINY_DESIGN, TINY_PLAN.changed(n_steps=3), toy_set(), tmp_path)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_a_training_stopped_after_any_step_gives_the_same_weights(trained, tmp_path, monkeypatch, stop):
    from emseg.training.lightning_steps import StepModule

    after = StepModule.on_train_batch_end

    def interrupt(self, outputs, batch, batch_idx):
        after(self, outputs, batch, batch_idx)
        if self.first_step + batch_idx + 1 == stop:
            raise RuntimeError("the power fails")

    monkeypatch.setattr(StepModule, "on_train_batch_end", interrupt)
    with pytest.raises(RuntimeError, match="the power fails"):
        train_network(TINY_DESIGN, TINY_PLAN, toy_set(), tmp_path)
    monkeypatch.undo()
    resumed = train_network(TINY_DESIGN, TINY_PLAN, toy_set(), tmp_path)
    assert same_weights(trained.network, resumed.network)
    assert resumed.curves["loss"] == trained.curves["loss"]
    assert resumed.validation == trained.validation


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("seconds", [0.0, 0.3])
def test_killing_at_any_moment_loses_nothing(tmp_path, seconds):
    """SIGKILL at moments drawn over a training's whole life, then to the end: what an undisturbed one gives."""
    report = killed.kill(tmp_path, 3, 0, killed.PLAN.changed(checkpoint_seconds=seconds))
    assert sum(report["kills"].values()) == 3
    assert report["lost"] == []


def test_a_finished_training_is_not_repeated(trained):
    begun = time.perf_counter()
    again = train_network(TINY_DESIGN, TINY_PLAN, toy_set(), trained.weights.parent)
    assert time.perf_counter() - begun < 1
    assert same_weights(trained.network, again.network)
    assert again.curves == trained.curves
    assert same_weights(load_network(trained.weights), again.network)
    assert again.seconds == trained.seconds
    assert sorted(path.name for path in trained.weights.parent.iterdir()) == [
        "curves.csv",
        "finished.json",
        "settings.json",
        "validation.csv",
        "weights.safetensors",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"design": replace(TINY_DESIGN, base_channels=5)}, "design base_channels=4, but 5 was requested"),
        ({"plan": TINY_PLAN.changed(learning_rate=0.5)}, "plan learning_rate=0.01, but 0.5 was requested"),
        ({"membrane_set": toy_set(n_train=2)}, "data train=.* was requested"),
        ({"start": Start("other", "abc", lambda network: None)}, 'start digest=null, but "abc" was requested'),
    ],
)
def test_the_folder_of_another_training_is_refused(trained, change, message):
    given = {"design": TINY_DESIGN, "plan": TINY_PLAN, "membrane_set": toy_set(), "start": None} | change
    start = given.pop("start")
    with pytest.raises(UsageError, match=f"a work folder contains one training.*{message}"):
        train_network(*given.values(), trained.weights.parent, start=start)


def test_without_resume_a_folder_is_used_anew(tmp_path):
    train_network(TINY_DESIGN, TINY_PLAN, toy_set(), tmp_path)
    anew = train_network(TINY_DESIGN, TINY_PLAN.changed(n_steps=3), toy_set(), tmp_path, resume=False)
    assert len(anew.curves["step"]) == 3


def test_a_network_starts_from_what_it_is_given(tmp_path):
    source = build_network(TINY_DESIGN, seed=99)
    start = Start("other", digest_of_weights(source), lambda network: network.load_state_dict(source.state_dict()))
    tiny = TINY_PLAN.changed(n_steps=1, warm_up_steps=0, learning_rate=1e-12, validate_every=0)
    trained = train_network(TINY_DESIGN, tiny, toy_set(), tmp_path, start=start)
    kernel = "encoder.levels.0.0.weight"
    name = kernel if kernel in source.state_dict() else next(iter(source.state_dict()))
    torch.testing.assert_close(trained.network.state_dict()[name], source.state_dict()[name], atol=1e-9, rtol=0)
    assert digest_of_weights(build_network(TINY_DESIGN, seed=98)) != start.digest


def test_a_loss_that_is_no_number_stops_the_training(tmp_path):
    plan = TINY_PLAN.changed(learning_rate=1e30, schedule="constant", warm_up_steps=0, n_steps=40)
    with pytest.raises(UsageError, match=r"the loss must stay finite; it was nan at step .* Lower `learning_rate`"):
        train_network(TINY_DESIGN, plan, toy_set(), tmp_path)


def test_too_little_memory_says_what_to_lower(tmp_path, monkeypatch):
    def fails(self, network, batch, step):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(MembraneTask, "losses", fails)
    with pytest.raises(UsageError, match=r"smaller batch_size \(now 2\) or crop_size \(now 32\), or precision='bf16'"):
        train_network(TINY_DESIGN, TINY_PLAN, toy_set(), tmp_path)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", "pickle"])
def test_a_checkpoint_that_is_none_is_refused_and_runs_nothing(tmp_path, content):
    (tmp_path / "checkpoint.pt").write_bytes(b"" if content == "pickle" else content)
    if content == "pickle":
        torch.save({"step": Danger(tmp_path / "ran")}, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match=r"checkpoint\.pt is not a checkpoint of a training"):
        train_network(TINY_DESIGN, TINY_PLAN, toy_set(), tmp_path)
    assert not (tmp_path / "ran").exists()


class Danger:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"device": "tpu"}, "`device` must be auto, cpu, cuda or cuda:N; got 'tpu'"),
        ({"device": "cuda:77"}, "`device` 'cuda:77' is not there"),
        ({"precision": "fp16"}, "precision='fp16' needs a GPU"),
    ],
)
def test_a_device_that_is_not_there_is_named_before_anything_is_written(tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        train_network(TINY_DESIGN, TINY_PLAN.changed(**changes), toy_set(), tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_a_set_without_training_images_is_refused(tmp_path):
    with pytest.raises(UsageError, match="toy membranes has none to train on"):
        train_network(TINY_DESIGN, TINY_PLAN, toy_set(n_train=0), tmp_path)


def test_bf16_trains_and_says_so(tmp_path):
    trained = train_network(TINY_DESIGN, TINY_PLAN.changed(precision="bf16"), toy_set(), tmp_path)
    assert trained.precision == json.loads((tmp_path / "settings.json").read_text())["plan"]["precision"] == "bf16"
    assert torch.isfinite(torch.tensor(trained.curves["loss"])).all()
    assert {value.dtype for value in trained.network.parameters()} == {torch.float32}


def test_side_outputs_are_supervised(tmp_path):
    """A CASENet's first side output has weights of its own, which only its own loss reaches."""
    design = NetworkDesign(architecture="casenet", encoder="resnet18", base_channels=4)
    start = build_network(design, seed=TINY_PLAN.seed).state_dict()
    plan = TINY_PLAN.changed(n_steps=2, warm_up_steps=0, validate_every=0, crop_size=64)
    end = train_network(design, plan, toy_set(), tmp_path).network.state_dict()
    unchanged = [name for name, value in start.items() if value.ndim > 1 and torch.equal(value, end[name])]
    assert unchanged == []
