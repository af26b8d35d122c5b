"""Pretrained encoders: what is loaded is what the file says, all of it, or nothing."""

import argparse
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from membrane.pretraining.checkpoints import (
    CEM500K_MEAN,
    CEM500K_STD,
    momentum_contrast_state,
    perturbed,
    write_cem500k,
)
from safetensors.torch import save_file
from torch import nn

from emseg.errors import InputError
from emseg.membrane.networks import NetworkDesign, build_network
from emseg.membrane.pretraining import (
    IMAGENET,
    OURS,
    Normalization,
    load_cem500k,
    load_encoder,
)

SMALL = NetworkDesign(encoder="resnet18", base_channels=8)
DEEPER = NetworkDesign(encoder="resnet34", base_channels=8)
WIDER = NetworkDesign(encoder="resnet18", base_channels=16)
SHALLOW = NetworkDesign(encoder="resnet18", base_channels=8, encoder_depth=4)
ATTENTIVE = NetworkDesign(encoder="resnet18", base_channels=16, attention="se", attention_options={"reduction": 4})


def encoder_of(design, seed=0):
    return build_network(design, seed=seed).encoder


def donor(design=SMALL):
    """The state dict of an encoder that was trained elsewhere."""
    return perturbed(encoder_of(design, seed=1)).state_dict()


def snapshot(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# --- what is loaded


def test_a_resnet50_in_cem500ks_format_is_loaded_whole(tmp_path):
    """Every tensor but the projection head comes from the file, by torchvision's own names for a ResNet-50."""
    from torchvision.models import resnet50

    authors = resnet50(weights=None)
    authors.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    del authors.fc
    perturbed(authors)
    path = write_cem500k(tmp_path / "cem500k_mocov2_resnet50_200ep.pth.tar", authors.state_dict())
    network = build_network(NetworkDesign(encoder="resnet50", decoder_channels=(8, 8, 8, 8, 8)), seed=0)
    report = load_encoder(network.encoder, path)
    loaded, given = network.encoder.state_dict(), authors.state_dict()
    assert report.format == "cem500k"
    assert report.n_loaded == report.n_tensors == len(given) == len(loaded)
    assert report.kept == report.unused == ()
    assert report.epoch == 200
    assert report.folded == Normalization((CEM500K_MEAN,), (CEM500K_STD,))
    assert "318 of the encoder's 318 tensors" in str(report)
    untouched = set(given) - {"conv1.weight", "bn1.running_mean"}
    assert all(torch.equal(loaded[name], given[name]) for name in untouched)


def test_inside_the_image_the_loaded_network_answers_as_the_authors_does(tmp_path):
    """The stem fed our grey gives what the donor's stem gives for its own; only the padded border differs."""
    authors = perturbed(encoder_of(SMALL, seed=1)).eval()
    encoder = encoder_of(SMALL).eval()
    load_cem500k(encoder, write_cem500k(tmp_path / "c.pth.tar", authors.state_dict()))
    grey = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))

    def stem(network, x):
        return network.bn1(network.conv1(x))

    with torch.no_grad():
        theirs = stem(authors, (grey - CEM500K_MEAN) / CEM500K_STD)
        ours = stem(encoder, (grey - 0.5) / 0.5)
    inside = (..., slice(2, -2), slice(2, -2))  # the kernel reaches 3 px, the stride is 2
    torch.testing.assert_close(ours[inside], theirs[inside], rtol=1e-4, atol=1e-5)
    border = torch.ones_like(ours, dtype=torch.bool)
    border[inside] = False
    assert (ours - theirs)[border].abs().max() > 0.05


def test_without_folding_the_answers_would_differ_everywhere(tmp_path):
    authors = perturbed(encoder_of(SMALL, seed=1)).eval()
    grey = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs = authors.bn1(authors.conv1((grey - CEM500K_MEAN) / CEM500K_STD))
        unfolded = authors.bn1(authors.conv1((grey - 0.5) / 0.5))
    assert (theirs - unfolded)[..., 2:-2, 2:-2].abs().mean() > 0.1


def test_three_colour_channels_become_one_that_sees_a_grey_image_alike(tmp_path):
    """A colour network shown grey in all three channels, normalised by ImageNet's numbers, is the oracle."""
    state = donor()
    state["conv1.weight"] = torch.rand(8, 3, 7, 7, generator=torch.Generator().manual_seed(3)) - 0.5
    state["fc.weight"] = torch.ones(10, 64)
    torch.save(state, tmp_path / "torchvision.pth")
    encoder = encoder_of(SMALL).eval()
    report = load_encoder(encoder, tmp_path / "torchvision.pth")
    assert report.format == "torchvision"
    assert report.folded == IMAGENET
    grey = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET.mean, IMAGENET.std))
    colour = nn.functional.conv2d((grey - mean) / std, state["conv1.weight"], stride=2, padding=3)
    expected = (colour - state["bn1.running_mean"].view(1, -1, 1, 1)) / (state["bn1.running_var"] + 1e-5).sqrt().view(
        1, -1, 1, 1
    ) * state["bn1.weight"].view(1, -1, 1, 1) + state["bn1.bias"].view(1, -1, 1, 1)
    with torch.no_grad():
        ours = encoder.bn1(encoder.conv1((grey - 0.5) / 0.5))
    torch.testing.assert_close(ours[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prefix", ["module.", ""])
def test_mocos_own_checkpoints_are_read(tmp_path, prefix):
    state = donor()
    state["conv1.weight"] = torch.rand(8, 3, 7, 7)
    torch.save({"epoch": 7, "state_dict": momentum_contrast_state(state, prefix)}, tmp_path / "moco.pth.tar")
    report = load_encoder(encoder_of(SMALL), tmp_path / "moco.pth.tar")
    assert (report.format, report.epoch, report.n_loaded) == ("moco", 7, report.n_tensors)


def test_the_encoder_of_a_whole_trained_network_is_taken(tmp_path):
    network = perturbed(build_network(SMALL, seed=1))
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, tmp_path / "w.safetensors")
    encoder = encoder_of(SMALL)
    report = load_encoder(encoder, tmp_path / "w.safetensors")
    assert (report.format, report.folded) == ("network", None)
    assert same(snapshot(encoder), network.encoder.state_dict())


def test_an_attention_that_the_file_lacks_stays_as_it_was_and_is_named(tmp_path):
    encoder = encoder_of(ATTENTIVE)
    before = snapshot(encoder)
    report = load_encoder(encoder, write_cem500k(tmp_path / "c.pth.tar", donor(WIDER)))
    assert report.kept
    assert all("attention" in name for name in report.kept)
    assert all(torch.equal(encoder.state_dict()[name], before[name]) for name in report.kept)
    assert "left as they were: " in str(report)


def test_stages_that_a_shallow_encoder_leaves_out_are_not_used_and_named(tmp_path):
    report = load_encoder(encoder_of(SHALLOW), write_cem500k(tmp_path / "c.pth.tar", donor()))
    assert report.n_loaded == report.n_tensors
    assert report.unused
    assert all(name.startswith("layer4.") for name in report.unused)


def test_a_digest_that_the_user_gives_is_held_to(tmp_path):
    path = write_cem500k(tmp_path / "c.pth.tar", donor())
    report = load_cem500k(encoder_of(SMALL), path)
    assert load_cem500k(encoder_of(SMALL), path, sha256=report.sha256.upper()).sha256 == report.sha256
    with pytest.raises(InputError, match=f"must have the SHA-256 {'0' * 64}; it has {report.sha256}"):
        load_cem500k(encoder_of(SMALL), path, sha256="0" * 64)


# --- what is refused


def test_a_state_of_which_no_name_matches_is_refused(tmp_path):
    """The way in which the paper's public code loads CEM500K matches nothing, and torch does not say so."""
    state = momentum_contrast_state(donor())
    careless = encoder_of(SMALL)
    before = snapshot(careless)
    careless.load_state_dict(state, strict=False)  # no error
    assert same(snapshot(careless), before), "the control: nothing was loaded, in silence"
    torch.save({name.replace("encoder_q", "online"): value for name, value in state.items()}, tmp_path / "s.pth")
    with pytest.raises(
        InputError, match=r"must contain a pretrained encoder .* its first tensors are module.online.conv1"
    ):
        load_encoder(encoder_of(SMALL), tmp_path / "s.pth")
    write_cem500k(tmp_path / "t.pth", {f"backbone.{name}": value for name, value in donor().items()})
    with pytest.raises(InputError, match=r"none of the \d+ tensors of .* has the name of one of the encoder's \d+"):
        load_cem500k(encoder_of(SMALL), tmp_path / "t.pth")


def not_finite():
    state = donor()
    state["layer1.0.conv1.weight"][0, 0, 0, 0] = torch.nan
    return state


REFUSED = {
    "shapes": (
        SMALL,
        lambda: donor(WIDER),
        r"\d+ of the \d+ tensors .* conv1.weight \(16, 1, 7, 7\) for \(8, 1, 7, 7\)",
    ),
    "too shallow": (DEEPER, donor, r"it lacks \d+ tensors: layer1.2.conv1.weight"),
    "too deep": (SMALL, lambda: donor(DEEPER), r"it has additional blocks, \d+ tensors: layer1.2"),
    "fewer stages": (SMALL, lambda: donor(SHALLOW), r"it lacks \d+ tensors: layer4.0"),
    "one tensor less": (
        SMALL,
        lambda: {n: t for n, t in donor().items() if n != "layer3.0.conv2.weight"},
        "it lacks 1 tensors: layer3.0.conv2.weight",
    ),
    "not finite": (SMALL, not_finite, "layer1.0.conv1.weight contain NaN"),
    "no bn1": (
        SMALL,
        lambda: {n: t for n, t in donor().items() if "bn1.running" not in n},
        "must contain bn1.running_mean",
    ),
}


@pytest.mark.parametrize(("design", "state", "message"), REFUSED.values(), ids=REFUSED)
def test_a_file_that_does_not_fit_is_refused_and_changes_nothing(tmp_path, design, state, message):
    encoder = encoder_of(design)
    before = snapshot(encoder)
    path = write_cem500k(tmp_path / "c.pth.tar", state())
    with pytest.raises(InputError, match=message):
        load_encoder(encoder, path)
    assert same(snapshot(encoder), before)


@pytest.mark.parametrize(
    "norms",
    [[0.5], [0.5, 0.0], ["a", "b"], None, [146.08, 32.49], [-0.5, 0.1], [0.5, 1.5], [float("nan"), 0.1], {"mean": 0.5}],
)
def test_norms_that_are_none_are_refused(tmp_path, norms):
    with pytest.raises(InputError, match=r"must contain `norms` as \[mean, std\]"):
        load_encoder(encoder_of(SMALL), write_cem500k(tmp_path / "c.pth.tar", donor(), norms=norms))


@pytest.mark.parametrize("norms", [{"mean": 0.5, "std": 0.25}, {"mean": [0.5], "std": [0.25]}, [[0.5], [0.25]]])
def test_norms_may_be_named_or_listed(tmp_path, norms):
    report = load_encoder(encoder_of(SMALL), write_cem500k(tmp_path / "c.pth.tar", donor(), norms=norms))
    assert report.folded == Normalization((0.5,), (0.25,))


def test_grey_of_unknown_normalisation_must_be_told(tmp_path):
    torch.save(donor(), tmp_path / "grey.pth")
    with pytest.raises(InputError, match="does not give the normalisation of its grey images"):
        load_encoder(encoder_of(SMALL), tmp_path / "grey.pth")
    assert load_encoder(encoder_of(SMALL), tmp_path / "grey.pth", normalization=OURS).folded is None
    with pytest.raises(InputError, match=r"a mean and a std for each input channel of conv1.weight; it has 3 for 1"):
        load_encoder(encoder_of(SMALL), tmp_path / "grey.pth", normalization=IMAGENET)


UNREADABLE = {
    "no file": (lambda path: None, "there is no"),
    "empty": (lambda path: path.write_bytes(b""), "cannot be read"),
    "text": (lambda path: path.write_text("weights"), "cannot be read"),
    "cut short": (lambda path: path.write_bytes(write_cem500k(path, donor()).read_bytes()[:5000]), "cannot be read"),
    "a list": (lambda path: torch.save([1, 2], path), "must contain tensors by name; it contains a list"),
    "no tensors": (lambda path: torch.save({"a": 1}, path), "its first tensors are no tensors at all"),
}


@pytest.mark.parametrize(("write", "message"), UNREADABLE.values(), ids=UNREADABLE)
def test_an_unreadable_file_is_refused_in_one_sentence(tmp_path, write, message):
    path = tmp_path / "c.pth.tar"
    write(path)
    with pytest.raises(InputError, match=message):
        load_encoder(encoder_of(SMALL), path)


def test_a_broken_safetensors_file_is_refused(tmp_path):
    (tmp_path / "e.safetensors").write_bytes(b"12345678{}")
    with pytest.raises(InputError, match=r"must be a whole .safetensors file"):
        load_encoder(encoder_of(SMALL), tmp_path / "e.safetensors")


def test_where_cem500k_is_to_be_had_is_said_when_it_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"Get cem500k_mocov2_resnet50_200ep.pth.tar from Zenodo record 6453140"):
        load_cem500k(encoder_of(SMALL), tmp_path / "none.pth.tar")


def test_another_format_is_not_taken_for_cem500k(tmp_path):
    torch.save({"state_dict": momentum_contrast_state(donor())}, tmp_path / "moco.pth.tar")
    with pytest.raises(InputError, match=r"must be the CEM500K checkpoint, .* it has the format moco"):
        load_cem500k(encoder_of(SMALL), tmp_path / "moco.pth.tar")


@pytest.mark.parametrize("old_format", [False, True], ids=["zip", "legacy"])
def test_metadata_beside_the_weights_is_skipped_and_numpys_numbers_are_read(tmp_path, old_format):
    path = tmp_path / "c.pth.tar"
    metadata = {"args": argparse.Namespace(lr=0.03), "root": Path("images"), "best": np.float32(0.5), "epoch": 200}
    content = {"state_dict": momentum_contrast_state(donor()), "norms": [np.float64(0.25), np.float64(0.125)]}
    torch.save(content | metadata, path, _use_new_zipfile_serialization=not old_format)
    report = load_cem500k(encoder_of(SMALL), path)
    assert (report.folded, report.epoch, report.n_loaded) == (Normalization((0.25,), (0.125,)), 200, report.n_tensors)


# --- programs in pickles


class Payload:
    """A program in a pickle: whoever unpickles it makes a file."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self):
        return Path.touch, (self.witness,)


PLACES = {
    "beside": lambda payload: {"state_dict": momentum_contrast_state(donor()), "norms": [0.5, 0.5], "arch": payload},
    "among the tensors": lambda payload: {"state_dict": {**momentum_contrast_state(donor()), "z": payload}},
    "alone": lambda payload: payload,
}


@pytest.mark.parametrize("old_format", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("content", PLACES.values(), ids=PLACES)
def test_a_program_in_the_file_does_not_run(tmp_path, content, old_format):
    """The control runs it, so that the test knows that it would have."""
    path, witness = tmp_path / "cem500k_mocov2_resnet50_200ep.pth.tar", tmp_path / "the program ran"
    torch.save(content(Payload(witness)), path, _use_new_zipfile_serialization=not old_format)
    for load in (load_encoder, load_cem500k):
        encoder = encoder_of(SMALL)
        before = snapshot(encoder)
        with pytest.raises(InputError, match="runs no program; it cannot be read"):
            load(encoder, path)
        assert same(snapshot(encoder), before)
    assert not witness.exists()
    torch.load(path, weights_only=False)
    assert witness.exists(), "the control: this file's program does run when it is let"


def test_a_bare_pickle_does_not_run_either(tmp_path):
    path, witness = tmp_path / "c.pth.tar", tmp_path / "the program ran"
    path.write_bytes(pickle.dumps(Payload(witness)))
    with pytest.raises(InputError, match="cannot be read"):
        load_encoder(encoder_of(SMALL), path)
    assert not witness.exists()
    pickle.loads(path.read_bytes())
    assert witness.exists()
