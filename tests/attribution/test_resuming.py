"""A run that was killed goes on, to the same maps bit by bit; memory bounds how much is computed at once."""

import json

import numpy as np
import pytest
import torch
from attribution.small_networks import make, make_image
from torch import nn

from emseg.attribution import attribute_pixels, integrated_gradients
from emseg.errors import InputError, UsageError

SHAPE = (32, 40)
TARGETS = [(3, 5), (31, 20), (16, 39), (20, 4), (9, 9)]
IMAGE = make_image(*SHAPE)
TWO_TARGETS_MIB = 0.3  # the graph of the tiny U-Net on the image, and sums of two targets but not of five


class KilledError(BaseException):
    """No `Exception`, as KeyboardInterrupt: those of a network mean that it refuses a size or a batch."""


def killed_after(network: nn.Module, n_forward: int) -> nn.Module:
    left = [n_forward]

    def hook(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KilledError

    network.register_forward_hook(hook)
    return network


@pytest.mark.parametrize("n_forward", [14, 24])
@pytest.mark.parametrize("save_every_s", [0.0, 1e9])
def test_a_killed_run_goes_on_to_the_same_maps(tmp_path, monkeypatch, n_forward, save_every_s):
    monkeypatch.setattr(integrated_gradients, "SAVE_EVERY_S", save_every_s)
    options = {"n_steps": 7, "memory_mib": TWO_TARGETS_MIB}
    straight = attribute_pixels(make("tiny U-Net"), IMAGE, TARGETS, resume_folder=tmp_path / "straight", **options)
    with pytest.raises(KilledError):
        attribute_pixels(
            killed_after(make("tiny U-Net"), n_forward), IMAGE, TARGETS, resume_folder=tmp_path / "killed", **options
        )
    resumed = attribute_pixels(make("tiny U-Net"), IMAGE, TARGETS, resume_folder=tmp_path / "killed", **options)
    assert np.array_equal(resumed.maps, straight.maps)
    assert np.isfinite(resumed.maps).all()


def test_finished_maps_are_not_computed_again(tmp_path):
    first = attribute_pixels(make("tiny U-Net"), IMAGE, TARGETS, n_steps=3, resume_folder=tmp_path)
    known_by = 2  # passes by which the network is recognised
    again = attribute_pixels(
        killed_after(make("tiny U-Net"), known_by), IMAGE, TARGETS, n_steps=3, resume_folder=tmp_path
    )
    assert np.array_equal(first.maps, again.maps)
    assert np.array_equal(first.completeness_gap, again.completeness_gap)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"n_steps": 4}, "n_steps was 3 and is now 4"),
        ({"baseline": 0.5}, "baseline was"),
        ({"quadrature": "riemann_left"}, "quadrature was riemann_right"),
        ({"precision": "bf16"}, "precision was fp32"),
    ],
)
def test_a_folder_of_other_settings_is_refused(tmp_path, change, named):
    attribute_pixels(make("tiny U-Net"), IMAGE, TARGETS, n_steps=3, resume_folder=tmp_path)
    with pytest.raises(InputError, match=named):
        attribute_pixels(make("tiny U-Net"), IMAGE, TARGETS, resume_folder=tmp_path, **{"n_steps": 3, **change})


def test_a_folder_of_other_weights_or_targets_is_refused(tmp_path):
    attribute_pixels(make("tiny U-Net"), IMAGE, TARGETS, n_steps=3, resume_folder=tmp_path)
    with pytest.raises(InputError, match="network was"):
        attribute_pixels(make("tiny U-Net", seed=1), IMAGE, TARGETS, n_steps=3, resume_folder=tmp_path)
    with pytest.raises(InputError, match="targets was"):
        attribute_pixels(make("tiny U-Net"), IMAGE, TARGETS[1:], n_steps=3, resume_folder=tmp_path)


def test_a_broken_folder_is_named(tmp_path):
    (tmp_path / "a file").write_text("x")
    with pytest.raises(UsageError, match="is a file"):
        attribute_pixels(make("local"), IMAGE, TARGETS, n_steps=2, resume_folder=tmp_path / "a file")
    attribute_pixels(make("local"), IMAGE, TARGETS, n_steps=2, resume_folder=tmp_path / "maps")
    (tmp_path / "maps" / "maps.npy").write_bytes(b"x")
    with pytest.raises(InputError, match="cannot be used"):
        attribute_pixels(make("local"), IMAGE, TARGETS, n_steps=2, resume_folder=tmp_path / "maps")
    assert json.loads((tmp_path / "maps" / "settings.json").read_text())["n_steps"] == 2


@pytest.mark.parametrize("backward", ["full", "windowed"])
def test_little_memory_gives_the_same_maps_in_smaller_portions(tmp_path, backward):
    network = make("gated")  # one window: it pools over the whole image
    much = attribute_pixels(network, IMAGE, TARGETS, n_steps=3, backward=backward)
    with pytest.raises(UsageError, match="takes") as refusal:
        attribute_pixels(
            network, IMAGE, TARGETS, n_steps=3, backward=backward, memory_mib=0.01, resume_folder=tmp_path / "less"
        )
    assert "crop the image" in str(refusal.value)
    little = attribute_pixels(
        network, IMAGE, TARGETS, n_steps=3, backward=backward, memory_mib=0.5, resume_folder=tmp_path / "little"
    )
    np.testing.assert_allclose(little.maps, much.maps, atol=1e-5 * np.abs(much.maps).max())


def test_too_little_memory_says_how_much_is_needed():
    with pytest.raises(UsageError, match=r"here \d+ MiB, of which the graph .* takes \d+ and the maps .* got 0.001"):
        attribute_pixels(make("tiny U-Net"), IMAGE, TARGETS, n_steps=3, memory_mib=0.001)


@pytest.mark.parametrize("second", ["another network", "another channel", "another map"])
def test_two_functions_of_one_name_never_share_maps(tmp_path, second):
    """Lambdas have no weights and one name: what they return for the image tells them apart."""
    networks = [make("tiny U-Net", seed=seed) for seed in (0, 1)]

    def request(number):
        return {
            "another network": lambda x: networks[number](x),
            "another channel": lambda x: torch.cat([networks[0](x), networks[1](x)], dim=1)[:, number : number + 1],
            "another map": lambda x: networks[0](x) * (1 + number),
        }[second]

    found = [attribute_pixels(request(n), IMAGE, TARGETS, n_steps=3, resume_folder=tmp_path / str(n)) for n in (0, 1)]
    assert not np.allclose(found[0].maps, found[1].maps)
    again = attribute_pixels(request(0), IMAGE, TARGETS, n_steps=3, resume_folder=tmp_path / "0")
    assert np.array_equal(again.maps, found[0].maps)
    with pytest.raises(InputError, match=r"network was|returned other logits for this image"):
        attribute_pixels(request(1), IMAGE, TARGETS, n_steps=3, resume_folder=tmp_path / "0")


def test_a_folder_of_another_channel_is_refused(tmp_path):
    network = nn.Conv2d(1, 2, 3, padding=1).eval()
    attribute_pixels(network, IMAGE, TARGETS, n_steps=3, channel=0, resume_folder=tmp_path)
    with pytest.raises(InputError, match="channel was 0 and is now 1"):
        attribute_pixels(network, IMAGE, TARGETS, n_steps=3, channel=1, resume_folder=tmp_path)
