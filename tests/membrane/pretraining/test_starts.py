"""What a training starts from: nothing, a pretraining on the set's training images, or a file."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from membrane.pretraining.checkpoints import perturbed, write_cem500k
from membrane.pretraining.small_pretraining import SMALL_DESIGN, SMALL_PRETRAINING, small_set

from emseg.errors import InputError, UsageError
from emseg.membrane.dataset import ArrayImage
from emseg.membrane.networks import build_network
from emseg.membrane.pretraining import pretrain, pretrained_start
from emseg.membrane.pretraining.pretrain_encoder import work_name
from emseg.membrane.training import TrainingPlan, train_network


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


def test_none_is_no_start(tmp_path):
    assert pretrained_start("none", SMALL_DESIGN, small_set(), SMALL_PRETRAINING, tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_images_that_are_held_out_are_never_read_and_labels_neither(tmp_path):
    held_out = small_set(Unlabelled, held_out=(HeldOut(),))
    start = pretrained_start("moco", SMALL_DESIGN, held_out, SMALL_PRETRAINING, tmp_path, progress=False)
    assert start.name == "moco"


def test_a_pretraining_is_run_once_and_loaded_into_the_network(tmp_path, monkeypatch):
    start = pretrained_start("moco", SMALL_DESIGN, small_set(), SMALL_PRETRAINING, tmp_path, progress=False)
    network = build_network(SMALL_DESIGN, seed=5)
    before = network.encoder.conv1.weight.clone()
    report = start.load(network)
    assert report.n_loaded == report.n_tensors
    assert not torch.equal(network.encoder.conv1.weight, before)
    monkeypatch.setattr("emseg.membrane.pretraining.pretrain_encoder.MomentumContrast", None)
    again = pretrained_start("moco", SMALL_DESIGN, small_set(), SMALL_PRETRAINING, tmp_path, progress=False)
    assert again.digest == start.digest == report.sha256


def test_the_file_of_a_pretraining_is_a_source_itself(tmp_path):
    start = pretrained_start("moco", SMALL_DESIGN, small_set(), SMALL_PRETRAINING, tmp_path, progress=False)
    (file,) = tmp_path.glob("moco-*/weights.safetensors")
    by_path = pretrained_start(str(file), SMALL_DESIGN, small_set(), SMALL_PRETRAINING, tmp_path)
    assert (by_path.name, by_path.digest) == ("weights.safetensors", start.digest)


def test_a_training_takes_the_start(tmp_path):
    """One step with a vanishing learning rate leaves the encoder where the pretraining left it."""
    start = pretrained_start("moco", SMALL_DESIGN, small_set(), SMALL_PRETRAINING, tmp_path, progress=False)
    plan = TrainingPlan(
        n_steps=1, batch_size=1, crop_size=32, learning_rate=1e-12, device="cpu", validate_every=0, seed=3
    )
    trained = train_network(SMALL_DESIGN, plan, small_set(), tmp_path / "training", start=start, progress=False)
    expected = build_network(SMALL_DESIGN, seed=3)
    start.load(expected)
    torch.testing.assert_close(trained.network.encoder.conv1.weight, expected.encoder.conv1.weight, rtol=0, atol=1e-9)


def test_a_name_that_is_no_file_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(
        InputError, match=r"`pretraining` must be none, moco, cem500k or the path .* there is no mocov3"
    ):
        pretrained_start("mocov3", SMALL_DESIGN, small_set(), SMALL_PRETRAINING, tmp_path)


def test_cem500k_is_a_file_of_the_users_and_tried_before_anything_runs(tmp_path):
    encoder = perturbed(build_network(SMALL_DESIGN, seed=1).encoder).state_dict()
    file = write_cem500k(tmp_path / "cem500k.pth.tar", encoder)
    start = pretrained_start("cem500k", SMALL_DESIGN, small_set(), SMALL_PRETRAINING, tmp_path, file=file)
    network = build_network(SMALL_DESIGN, seed=0)
    assert start.load(network).sha256 == start.digest
    assert torch.equal(network.encoder.layer1[0].conv1.weight, encoder["layer1.0.conv1.weight"])
    wider = replace(SMALL_DESIGN, base_channels=8)
    with pytest.raises(InputError, match="have other shapes"):
        pretrained_start("cem500k", wider, small_set(), SMALL_PRETRAINING, tmp_path, file=file)
    missing = tmp_path / "missing.pth.tar"
    with pytest.raises(InputError, match=r"there is no .*missing.pth.tar. Get cem500k_mocov2_resnet50_200ep.pth.tar"):
        pretrained_start("cem500k", SMALL_DESIGN, small_set(), SMALL_PRETRAINING, tmp_path, file=missing)


def test_a_start_from_a_file_says_how_much_of_it_was_loaded(tmp_path):
    """One tensor that the encoder lacks is counted in the file and not as loaded."""
    encoder = perturbed(build_network(SMALL_DESIGN, seed=1).encoder).state_dict()
    file = write_cem500k(tmp_path / "cem500k.pth.tar", {**encoder, "layer1.0.conv1.extra": torch.ones(3)})
    start = pretrained_start("cem500k", SMALL_DESIGN, small_set(), SMALL_PRETRAINING, tmp_path, file=file)
    report = start.report
    assert (report.n_loaded, report.n_tensors, report.n_in_file) == (len(encoder), len(encoder), len(encoder) + 1)
    assert f"loaded from the {len(encoder) + 1} of cem500k.pth.tar" in str(report)
    made = pretrained_start("moco", SMALL_DESIGN, small_set(), SMALL_PRETRAINING, tmp_path, progress=False)
    assert made.report.n_loaded == len(encoder)


@pytest.mark.parametrize("pretraining", ["cem500k", "path"])
def test_another_file_than_the_one_that_is_pinned_is_refused(tmp_path, pretraining):
    encoder = build_network(SMALL_DESIGN, seed=1).encoder.state_dict()
    file = write_cem500k(tmp_path / "cem500k.pth.tar", encoder)
    name = str(file) if pretraining == "path" else pretraining
    given = (name, SMALL_DESIGN, small_set(), SMALL_PRETRAINING, tmp_path)
    digest = pretrained_start(*given, file=file).report.sha256
    assert pretrained_start(*given, file=file, sha256=digest.upper()).digest == digest
    message = f"cem500k.pth.tar must have the SHA-256 {'0' * 64}; it has {digest}. Get the file again"
    with pytest.raises(InputError, match=message):
        pretrained_start(*given, file=file, sha256="0" * 64)
    with pytest.raises(UsageError, match=f"a SHA-256 has 64 digits 0-9, a-f; got '{digest[:12]}'"):
        pretrained_start(*given, file=file, sha256=digest[:12])


def test_a_file_that_changes_before_the_training_takes_it_is_refused(tmp_path):
    file = write_cem500k(tmp_path / "cem500k.pth.tar", build_network(SMALL_DESIGN, seed=1).encoder.state_dict())
    start = pretrained_start("cem500k", SMALL_DESIGN, small_set(), SMALL_PRETRAINING, tmp_path, file=file)
    write_cem500k(file, build_network(SMALL_DESIGN, seed=2).encoder.state_dict())
    with pytest.raises(InputError, match=f"must have the SHA-256 {start.digest}; it has"):
        start.load(build_network(SMALL_DESIGN, seed=0))


@pytest.mark.parametrize("options", [{}, {"file": ""}, {"file": Path()}], ids=["none", "empty", "empty path"])
def test_cem500k_without_a_file_is_told_which_parameter_names_it(tmp_path, options):
    message = r"`pretraining_file` must name the CEM500K checkpoint .*; got none. Get cem500k_mocov2_resnet50_200ep"
    with pytest.raises(UsageError, match=message):
        pretrained_start("cem500k", SMALL_DESIGN, small_set(), SMALL_PRETRAINING, tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_a_design_of_two_channels_is_not_pretrained(tmp_path):
    with pytest.raises(UsageError, match="pretraining sees the image alone; got a design with in_channels=2"):
        pretrain(replace(SMALL_DESIGN, in_channels=2), SMALL_PRETRAINING, small_set().train, tmp_path / "work")
    assert not list(tmp_path.iterdir())


def test_the_folder_is_named_by_what_decides_the_encoder():
    names = {
        work_name(SMALL_DESIGN, SMALL_PRETRAINING, small_set()),
        work_name(replace(SMALL_DESIGN, base_channels=8), SMALL_PRETRAINING, small_set()),
        work_name(SMALL_DESIGN, replace(SMALL_PRETRAINING, seed=1), small_set()),
        work_name(SMALL_DESIGN, replace(SMALL_PRETRAINING, momentum=0.9), small_set()),
        work_name(SMALL_DESIGN, SMALL_PRETRAINING, replace(small_set(), fingerprint="small:1")),
    }
    assert len(names) == 5
    assert work_name(replace(SMALL_DESIGN, architecture="linknet"), SMALL_PRETRAINING, small_set()) in names
    assert work_name(SMALL_DESIGN, replace(SMALL_PRETRAINING, n_workers=3), small_set()) in names
