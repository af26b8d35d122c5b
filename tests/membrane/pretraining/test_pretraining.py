"""Pretraining by momentum contrast: seeded, resumable to the bit, blind to labels, and watched for collapse."""

import multiprocessing
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from membrane.pretraining.small_pretraining import SMALL_DESIGN as DESIGN
from membrane.pretraining.small_pretraining import SMALL_PRETRAINING

from emseg.errors import InputError, UsageError
from emseg.membrane.dataset import ArrayImage
from emseg.membrane.networks import NetworkDesign, build_network
from emseg.membrane.pretraining import SHORT, PretrainingPlan, load_encoder, pretrain
from emseg.membrane.pretraining.moco import (
    Embedder,
    MomentumContrast,
    Views,
    contrast_accuracy,
    embedding_spread,
)
from emseg.training import work_folder

PLAN = replace(SMALL_PRETRAINING, n_steps=9, warm_up_steps=2, queue=12, checkpoint_seconds=0.0)


def image(name="a", side=48, seed=0, membrane=None):
    return ArrayImage(name, np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8), membrane)


IMAGES = (image("a", seed=1), image("b", 64, seed=2))


def without_times(curves):
    return {name: values for name, values in curves.items() if name != "seconds"}


def bits(path):
    return path.read_bytes()


# --- views


def test_a_draw_is_a_function_of_the_seed_and_its_number():
    views, again, other = Views(IMAGES, PLAN), Views(IMAGES, PLAN), Views(IMAGES, replace(PLAN, seed=1))
    for draw in (7, 0, 3):
        assert torch.equal(views.pair(draw), again.pair(draw))
        assert not torch.equal(views.pair(draw), other.pair(draw))
    assert not torch.equal(views.pair(0), views.pair(1))
    assert not torch.equal(*views.pair(0)), "the two views of a pair differ"


def test_views_have_our_networks_range_and_shape_and_leave_torchs_generator_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    pairs = torch.cat([Views(IMAGES, PLAN)[step] for step in range(2)])
    assert torch.equal(torch.get_rng_state(), before)
    assert pairs.shape == (8, 2, 1, 16, 16)
    assert pairs.min() >= -1
    assert pairs.max() <= 1


def test_the_two_views_of_a_pair_are_of_one_patch():
    """On a picture whose grey tells the place, the two views of a pair are nearer than views of two pairs."""
    ramp = np.repeat(np.linspace(0, 255, 400).astype(np.uint8)[:, None], 400, axis=1)
    views = Views([ArrayImage("ramp", ramp)], PLAN)
    means = torch.stack([views.pair(draw) for draw in range(60)]).mean((2, 3, 4))
    within = (means[:, 0] - means[:, 1]).abs().mean()
    between = (means[:, 0] - means[:, 1].roll(1)).abs().mean()
    assert within < 0.5 * between


def test_images_are_shown_as_often_as_their_area_says():
    small, large = image("small", 32), ArrayImage("large", np.full((32, 96), 255, np.uint8))
    views = Views([small, large], PLAN)
    share = np.mean([views.patch(draw).min() == 255 for draw in range(400)])
    assert 0.68 < share < 0.82


def test_a_step_shows_the_draws_of_its_own_number():
    views = Views(IMAGES, PLAN)
    assert torch.equal(views[2], torch.stack([views.pair(draw) for draw in range(8, 12)]))


class Unlabelled:
    """An image that allows nothing but what pretraining may do; asking for its label is an error."""

    name, height, width = "unlabelled", 48, 48
    labelled = True

    def read(self, window=None):
        return image().read(window)

    def read_membrane(self, window=None):
        raise AssertionError("pretraining asked for a label")


def test_labels_are_never_read_and_do_not_matter(tmp_path):
    assert pretrain(DESIGN, replace(PLAN, n_steps=3), [Unlabelled()], tmp_path / "a", progress=False).n_images == 1
    labelled = [image("a", seed=1, membrane=np.ones((48, 48), bool)), image("b", 64, seed=2)]
    one = pretrain(DESIGN, PLAN, labelled, tmp_path / "b", progress=False)
    other = pretrain(DESIGN, PLAN, IMAGES, tmp_path / "c", progress=False)
    assert one.sha256 == other.sha256


# --- what is learned


def test_the_spread_is_one_on_the_sphere_and_zero_when_collapsed():
    directions = torch.nn.functional.normalize(torch.randn(4000, 16, generator=torch.Generator().manual_seed(0)))
    assert embedding_spread(directions) == pytest.approx(1, abs=0.02)
    assert embedding_spread(directions[:1].repeat(9, 1)) == pytest.approx(0, abs=1e-6)


def test_the_accuracy_counts_queries_nearer_to_their_key_than_to_any_negative():
    axes = torch.eye(4)
    queries = keys = axes[:2]
    assert contrast_accuracy(queries, keys, axes[2:]) == 1
    assert contrast_accuracy(queries, keys, axes[1:]) == 0.5, "the second query's own key is in the queue"
    assert contrast_accuracy(queries, axes[2:], axes[:2]) == 0


def test_the_loss_is_the_cross_entropy_of_its_definition():
    """The loss of lightly against the textbook: the own key among the queue's, at a temperature."""
    module = MomentumContrast(build_network(DESIGN, seed=0).encoder, PLAN)
    generator = torch.Generator().manual_seed(0)
    queries, keys = (torch.nn.functional.normalize(torch.randn(4, 8, generator=generator)) for _ in range(2))
    queue = module.queue.clone()
    found = module.loss(queries.requires_grad_(), keys)
    own, others = (queries * keys).sum(1) / PLAN.temperature, queries @ queue.T / PLAN.temperature
    expected = (torch.log(own.exp() + others.exp().sum(1)) - own).mean()
    torch.testing.assert_close(found, expected)
    assert torch.equal(module.queue[:4], keys), "the keys took the place of the oldest"


def test_the_momentum_network_follows_the_query_network(tmp_path):
    module = MomentumContrast(build_network(DESIGN, seed=0).encoder, replace(PLAN, momentum=0.75))
    start = module.key.head.layers[0].weight.clone()
    with torch.no_grad():
        module.query.head.layers[0].weight.add_(1.0)
    module(torch.rand(4, 2, 1, 16, 16), 0)
    torch.testing.assert_close(module.key.head.layers[0].weight, start + 0.25)
    assert not any(parameter.requires_grad for parameter in module.key.parameters())


def test_keys_come_back_in_the_order_of_their_queries():
    """With one image a group of its own statistics the shuffling must not show: in evaluation mode nothing changes."""
    module = MomentumContrast(build_network(DESIGN, seed=0).encoder, replace(PLAN, key_groups=2)).eval()
    views = torch.rand(4, 1, 16, 16)
    torch.testing.assert_close(module.keys(views, 3), module.key(views).detach())


@pytest.mark.parametrize("encoder", ["plain", "resnet18", "resnet50"])
def test_every_encoder_has_its_deepest_map(encoder):
    design = NetworkDesign(encoder=encoder, base_channels=4, encoder_depth=3)
    embedder = Embedder(build_network(design, seed=0).encoder, PLAN)
    assert embedder.head.layers[0].in_features == design.level_channels[-1]
    assert embedder(torch.rand(2, 1, 32, 32)).shape == (2, PLAN.embedding)


def test_what_is_learned_tells_places_apart_better_than_random_weights_do(tmp_path):
    """On squares of a grey of their own; the control has a learning rate of next to nothing."""
    rng = np.random.default_rng(0)
    squares = ArrayImage("squares", np.kron(rng.integers(0, 256, (16, 16)), np.ones((24, 24))).astype(np.uint8))
    plan = replace(
        PLAN,
        n_steps=60,
        batch_size=16,
        min_scale=0.5,
        learning_rate=1e-2,
        momentum=0.99,
        queue=64,
        hidden=32,
        embedding=16,
        key_groups=1,
        checkpoint_seconds=60.0,
    )
    late = {}
    for name, rate in (("learned", plan.learning_rate), ("random", 1e-9)):
        made = pretrain(DESIGN, replace(plan, learning_rate=rate), [squares], tmp_path / name, progress=False)
        late[name] = {curve: np.mean(values[-20:]) for curve, values in made.curves.items()}
    assert late["learned"]["loss"] < late["random"]["loss"] - 0.1
    assert late["learned"]["accuracy"] > late["random"]["accuracy"]
    assert late["learned"]["spread"] > 0.2, "nothing has collapsed"


# --- the folder


def test_a_finished_pretraining_is_returned_and_its_encoder_loads(tmp_path):
    made = pretrain(DESIGN, PLAN, IMAGES, tmp_path, progress=False)
    assert made.curves["step"] == list(range(1, 10))
    assert set(made.curves) == {"step", "seconds", "loss", "accuracy", "spread", "learning_rate"}
    again = pretrain(DESIGN, PLAN, IMAGES, tmp_path, progress=False)
    assert again.curves == made.curves
    assert not (tmp_path / "checkpoint.pt").exists()
    network = build_network(DESIGN, seed=3)
    report = load_encoder(network.encoder, made.weights)
    assert (report.format, report.n_loaded, report.folded) == ("network", report.n_tensors, None)
    assert report.sha256 == made.sha256


def test_the_encoder_moves_away_from_its_initial_weights(tmp_path):
    made = pretrain(DESIGN, PLAN, IMAGES, tmp_path, progress=False)
    network = build_network(DESIGN, seed=PLAN.seed)
    before = network.encoder.conv1.weight.clone()
    load_encoder(network.encoder, made.weights)
    assert (network.encoder.conv1.weight - before).abs().max() > 1e-4


def test_the_decoder_does_not_matter_to_a_pretraining(tmp_path):
    """So that networks of one encoder can share it."""
    made = pretrain(DESIGN, PLAN, IMAGES, tmp_path, progress=False)
    same = pretrain(replace(DESIGN, architecture="linknet"), PLAN, IMAGES, tmp_path, progress=False)
    assert same.sha256 == made.sha256


def stopped_after(monkeypatch, n_checkpoints, stop):
    """Let pretraining call `stop` just after so many checkpoints are written."""
    write, count = work_folder.write_checkpoint, [0]

    def write_and_stop(*arguments):
        write(*arguments)
        count[0] += 1
        if count[0] == n_checkpoints:
            stop()

    monkeypatch.setattr(work_folder, "write_checkpoint", write_and_stop)


class PowerCut(BaseException):
    """What no code of the pretraining catches."""


def cut():
    raise PowerCut


def test_an_interrupted_pretraining_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    """Cut off at four different steps; weights and every number of the curves are those of one that was not."""
    whole = pretrain(DESIGN, PLAN, IMAGES, tmp_path / "whole", progress=False)
    for n_checkpoints in (1, 2, 3, 1):
        stopped_after(monkeypatch, n_checkpoints, cut)
        with pytest.raises(PowerCut):
            pretrain(DESIGN, PLAN, IMAGES, tmp_path / "cut", progress=False)
        monkeypatch.undo()
    assert (tmp_path / "cut" / work_folder.CHECKPOINT).is_file()
    resumed = pretrain(DESIGN, PLAN, IMAGES, tmp_path / "cut", progress=False)
    assert bits(resumed.weights) == bits(whole.weights)
    assert without_times(resumed.curves) == without_times(whole.curves)


def until_killed(folder):
    """Pretrain, and be killed as the kernel kills."""
    torch.set_num_threads(1)
    stopped_after(pytest.MonkeyPatch(), 4, lambda: os.kill(os.getpid(), signal.SIGKILL))
    pretrain(DESIGN, PLAN, IMAGES, folder, progress=False)


@pytest.mark.slow
def test_a_killed_pretraining_goes_on_to_the_same_bits(tmp_path):
    """The same by SIGKILL in another process."""
    torch.set_num_threads(1)
    process = multiprocessing.get_context("spawn").Process(target=until_killed, args=(tmp_path / "killed",))
    process.start()
    process.join(300)
    assert process.exitcode == -signal.SIGKILL
    assert (tmp_path / "killed" / work_folder.CHECKPOINT).is_file()
    resumed = pretrain(DESIGN, PLAN, IMAGES, tmp_path / "killed", progress=False)
    assert bits(resumed.weights) == bits(pretrain(DESIGN, PLAN, IMAGES, tmp_path / "whole", progress=False).weights)


def test_another_seed_gives_another_encoder(tmp_path):
    one, other = (
        pretrain(DESIGN, replace(PLAN, seed=seed), IMAGES, tmp_path / str(seed), progress=False) for seed in (0, 1)
    )
    assert one.sha256 != other.sha256


def test_the_number_of_loading_processes_does_not_matter(tmp_path):
    one = pretrain(DESIGN, PLAN, IMAGES, tmp_path / "0", progress=False)
    other = pretrain(DESIGN, replace(PLAN, n_workers=1), IMAGES, tmp_path / "1", progress=False)
    assert one.sha256 == other.sha256


def test_the_folder_of_another_pretraining_is_refused(tmp_path):
    pretrain(DESIGN, replace(PLAN, n_steps=3), IMAGES, tmp_path, progress=False)
    with pytest.raises(UsageError, match=r"a work folder contains one training; .* has one with plan n_steps=3"):
        pretrain(DESIGN, PLAN, IMAGES, tmp_path, progress=False)
    with pytest.raises(UsageError, match="has one with data fingerprint="):
        pretrain(DESIGN, replace(PLAN, n_steps=3), IMAGES, tmp_path, fingerprint="others", progress=False)
    assert len(pretrain(DESIGN, PLAN, IMAGES, tmp_path, resume=False, progress=False).curves["step"]) == 9


# --- what is refused

BAD_PLANS = {
    "no steps": ({"n_steps": 0}, "`n_steps` must be at least 1; got 0"),
    "not whole": ({"n_steps": 1.5}, "`n_steps` must be a whole number"),
    "uneven queue": ({"queue": 100}, "the queue takes whole batches; got queue=100, batch_size=32"),
    "groups": ({"key_groups": 3}, "`key_groups` must divide the batch"),
    "lonely groups": ({"key_groups": 32}, "`key_groups` must divide the batch into parts of at least 2"),
    "momentum": ({"momentum": 1.0}, "`momentum` must be below 1"),
    "temperature": ({"temperature": 0.0}, "`temperature` must be greater than 0"),
    "scale": ({"min_scale": 1.5}, "`min_scale` must be at most 1"),
    "rate": ({"learning_rate": float("nan")}, "`learning_rate` must be finite; got nan"),
    "optimizer": ({"optimizer": "adam"}, "`optimizer` must be one of 'sgd', 'adamw'; got 'adam'. Did you mean 'adamw'"),
    "precision": ({"precision": "fp16"}, "`precision` must be one of 'auto', 'fp32', 'bf16'"),
    "warm-up": ({"warm_up_steps": 300}, "the warm-up must end before the pretraining"),
    "checkpoints": ({"checkpoint_seconds": -1.0}, "`checkpoint_seconds` must be at least 0"),
}


@pytest.mark.parametrize(("change", "message"), BAD_PLANS.values(), ids=BAD_PLANS)
def test_a_plan_that_cannot_be_is_refused(change, message):
    with pytest.raises(UsageError, match=message):
        replace(SHORT, **change)


def test_images_must_be_there_and_as_large_as_a_view(tmp_path):
    with pytest.raises(InputError, match="at least one image"):
        pretrain(DESIGN, PLAN, [], tmp_path, progress=False)
    with pytest.raises(InputError, match="tiny is 8 x 8"):
        pretrain(DESIGN, PLAN, [image("tiny", 8)], tmp_path, progress=False)


def test_a_loss_that_is_no_number_stops_the_pretraining(tmp_path, monkeypatch):
    monkeypatch.setattr(Views, "__getitem__", lambda self, step: torch.full((4, 2, 1, 16, 16), torch.nan))
    with pytest.raises(UsageError, match="the loss must stay finite; it was nan at step 1"):
        pretrain(DESIGN, PLAN, IMAGES, tmp_path, progress=False)


def test_the_learning_rate_rises_and_falls_to_zero():
    plan = PretrainingPlan(n_steps=110, warm_up_steps=10, learning_rate=0.03)
    rates = [plan.rate_at(step) for step in range(110)]
    assert rates[0] == pytest.approx(0.003)
    assert rates[9] == rates[10] == max(rates) == pytest.approx(0.03)
    assert rates[60] == pytest.approx(0.015)
    assert rates[-1] < 1e-5
