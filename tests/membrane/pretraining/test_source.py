"""What a training starts from: nothing, a pretraining on the set's training images, or a file."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from membrane.pretraining.checkpoints import perturbed, write_cem500k

from emseg.errors import InputError
from emseg.membrane.dataset import ArrayImage, MembraneSet
from emseg.membrane.networks import NetworkDesign, build_network
from emseg.membrane.pretraining import SHORT, pretrained_start
from emseg.membrane.pretraining.source import work_name
from emseg.membrane.training import TrainingPlan, train_network

DESIGN = NetworkDesign(encoder="resnet18", base_channels=4, encoder_depth=3)
PLAN = replace(
    SHORT,
    n_steps=3,
    batch_size=4,
    crop_size=16,
    warm_up_steps=1,
    queue=8,
    hidden=8,
    embedding=8,
    precision="fp32",
    device="cpu",
)


class HeldOut:
    """An image to choose by or to report on: pretraining may not so much as look at it."""

    name, height, width, labelled = "held out", 48, 48, True

    def read(self, window=None):
        raise AssertionError("pretraining read an image that is held out")

    def read_membrane(self, window=None):
        raise AssertionError("pretraining asked for a label")


class Unlabelled(ArrayImage):
    def read_membrane(self, window=None):
        raise AssertionError("pretraining asked for a label")


def small_set(kind=ArrayImage, held_out=()):
    rng = np.random.default_rng(0)
    train = tuple(
        kind(name, rng.integers(0, 256, (48, 48), dtype=np.uint8), rng.random((48, 48)) < 0.2) for name in "ab"
    )
    return MembraneSet("small", "synthetic", 4.0, train, held_out, held_out, "small:0")


def test_none_is_no_start(tmp_path):
    assert pretrained_start("none", DESIGN, small_set(), PLAN, tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_images_that_are_held_out_are_never_read_and_labels_neither(tmp_path):
    held_out = small_set(Unlabelled, held_out=(HeldOut(),))
    start = pretrained_start("moco", DESIGN, held_out, PLAN, tmp_path, progress=False)
    assert start.name == "moco"


def test_a_pretraining_is_run_once_and_loaded_into_the_network(tmp_path, monkeypatch):
    start = pretrained_start("moco", DESIGN, small_set(), PLAN, tmp_path, progress=False)
    network = build_network(DESIGN, seed=5)
    before = network.encoder.conv1.weight.clone()
    report = start.load(network)
    assert report.n_loaded == report.n_tensors
    assert not torch.equal(network.encoder.conv1.weight, before)
    monkeypatch.setattr("emseg.membrane.pretraining.training._trained", None)
    again = pretrained_start("moco", DESIGN, small_set(), PLAN, tmp_path, progress=False)
    assert again.digest == start.digest == report.sha256


def test_the_file_of_a_pretraining_is_a_source_itself(tmp_path):
    start = pretrained_start("moco", DESIGN, small_set(), PLAN, tmp_path, progress=False)
    (file,) = tmp_path.glob("moco-*/weights.safetensors")
    by_path = pretrained_start(str(file), DESIGN, small_set(), PLAN, tmp_path)
    assert (by_path.name, by_path.digest) == ("weights.safetensors", start.digest)


def test_a_training_takes_the_start(tmp_path):
    """One step with a vanishing learning rate leaves the encoder where the pretraining left it."""
    start = pretrained_start("moco", DESIGN, small_set(), PLAN, tmp_path, progress=False)
    plan = TrainingPlan(
        n_steps=1, batch_size=1, crop_size=32, learning_rate=1e-12, device="cpu", validate_every=0, seed=3
    )
    trained = train_network(DESIGN, plan, small_set(), tmp_path / "training", start=start, progress=False)
    expected = build_network(DESIGN, seed=3)
    start.load(expected)
    torch.testing.assert_close(trained.network.encoder.conv1.weight, expected.encoder.conv1.weight, rtol=0, atol=1e-9)


def test_a_name_that_is_no_file_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(
        InputError, match=r"`pretraining` must be none, moco, cem500k or the path .* there is no mocov3"
    ):
        pretrained_start("mocov3", DESIGN, small_set(), PLAN, tmp_path)


def test_cem500k_is_a_file_of_the_users_and_tried_before_anything_runs(tmp_path):
    encoder = perturbed(build_network(DESIGN, seed=1).encoder).state_dict()
    file = write_cem500k(tmp_path / "cem500k.pth.tar", encoder)
    start = pretrained_start("cem500k", DESIGN, small_set(), PLAN, tmp_path, file=file)
    network = build_network(DESIGN, seed=0)
    assert start.load(network).sha256 == start.digest
    assert torch.equal(network.encoder.layer1[0].conv1.weight, encoder["layer1.0.conv1.weight"])
    with pytest.raises(InputError, match="have other shapes"):
        pretrained_start("cem500k", replace(DESIGN, base_channels=8), small_set(), PLAN, tmp_path, file=file)
    with pytest.raises(InputError, match=r"Get cem500k_mocov2_resnet50_200ep.pth.tar from Zenodo"):
        pretrained_start("cem500k", DESIGN, small_set(), PLAN, tmp_path)


def test_the_folder_is_named_by_what_decides_the_encoder():
    names = {
        work_name(DESIGN, PLAN, small_set()),
        work_name(replace(DESIGN, base_channels=8), PLAN, small_set()),
        work_name(DESIGN, replace(PLAN, seed=1), small_set()),
        work_name(DESIGN, replace(PLAN, momentum=0.9), small_set()),
        work_name(DESIGN, PLAN, replace(small_set(), fingerprint="small:1")),
    }
    assert len(names) == 5
    assert work_name(replace(DESIGN, architecture="linknet"), PLAN, small_set()) in names
    assert work_name(DESIGN, replace(PLAN, n_workers=3), small_set()) in names
