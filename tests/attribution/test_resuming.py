"""A run that was killed goes on, to the same maps bit by bit; memory bounds how much is computed at once."""

import json

import numpy as np
import pytest
import torch
from attribution.small_networks import make, make_image
from torch import nn

from emseg.attribution import attribute_pixels, map_store
from emseg.attribution.memory import MIB, GraphSize, metering, portions
from emseg.attribution.packing import PackingOptions
from emseg.attribution.passes import Calling, FullPasses
from emseg.attribution.windowed import WindowedPasses
from emseg.errors import InputError, UsageError

SHAPE = (32, 40)
TARGETS = [(3, 5), (31, 20), (16, 39), (20, 4), (9, 9)]
IMAGE = make_image(*SHAPE)
TWO_TARGETS_MIB = 2 * 2 * 4 * 32 * 40 / MIB
"""What sums and maps of two targets take."""


class KilledError(Exception):
    pass


def killed_after(network: nn.Module, n_forward: int) -> nn.Module:
    left = [n_forward]

    def hook(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KilledError

    network.register_forward_hook(hook)
    return network


def memory_for_two_targets() -> float:
    network = make("tiny U-Net").requires_grad_(False)
    return WindowedPasses(Calling(network), torch.device("cpu")).measure(IMAGE).peak / MIB + 1.01 * TWO_TARGETS_MIB


@pytest.mark.parametrize("packing", ["none", "auto"])
@pytest.mark.parametrize("n_forward", [7, 17])
@pytest.mark.parametrize("save_every_s", [0.0, 1e9])
def test_a_killed_run_goes_on_to_the_same_maps(tmp_path, monkeypatch, packing, n_forward, save_every_s):
    monkeypatch.setattr(map_store, "SAVE_EVERY_S", save_every_s)
    options = {
        "n_steps": 7,
        "packing": packing,
        "packing_options": PackingOptions(cell_px=5, n_sampled=1),
        "memory_mib": memory_for_two_targets(),
    }
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
    probes = 5  # two scores, two comparisons with torch, one measurement of memory
    again = attribute_pixels(
        killed_after(make("tiny U-Net"), probes), IMAGE, TARGETS, n_steps=3, resume_folder=tmp_path
    )
    assert np.array_equal(first.maps, again.maps)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"n_steps": 4}, "n_steps was 3 and is now 4"),
        ({"baseline": 0.5}, "baseline was"),
        ({"quadrature": "riemann_left"}, "quadrature was riemann_right"),
        ({"packing": "auto"}, "packing was none"),
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
    network = make("tiny U-Net")
    much = attribute_pixels(network, IMAGE, TARGETS, n_steps=3, backward=backward)
    calling = Calling(network.requires_grad_(False))
    with metering(network) as meter:
        FullPasses(calling).forward(IMAGE[None, None])
    size = meter.size if backward == "full" else WindowedPasses(calling, torch.device("cpu")).measure(IMAGE)
    little = attribute_pixels(
        network,
        IMAGE,
        TARGETS,
        n_steps=3,
        backward=backward,
        memory_mib=size.peak / MIB + 1.01 * TWO_TARGETS_MIB,
        resume_folder=tmp_path,
    )
    assert np.array_equal(little.maps, much.maps)


def test_windows_keep_less_than_torchs_graph():
    network, image = make("ResNet U-Net").requires_grad_(False), make_image(64, 64)
    with metering(network) as meter:
        FullPasses(Calling(network)).forward(image[None, None])
    windowed = WindowedPasses(Calling(network), torch.device("cpu")).measure(image)
    assert 0 < windowed.kept < 0.6 * meter.size.kept


@pytest.mark.parametrize(("memory_mib", "targets_at_once"), [(12.5, 1), (14.1, 2), (300, 100)])
def test_portions_stay_below_the_bound(memory_mib, targets_at_once):
    graph = GraphSize(kept=6 * MIB, largest=MIB)
    found = portions(
        graph, MIB // 4, 100, 50, memory_mib, maps_on_disk=True, steps_at_once=1, device=torch.device("cpu")
    )
    assert (found.targets_at_once, found.points_at_once) == (targets_at_once, 1)
    assert found.points_at_once * graph.peak + found.targets_at_once * 2 * MIB <= memory_mib * MIB


def test_too_little_memory_says_how_much_is_needed():
    graph = GraphSize(kept=6 * MIB, largest=MIB)
    with pytest.raises(UsageError, match=r"here 112 MiB, of which .* takes 10 and the maps of all targets 100; got 50"):
        portions(graph, MIB // 4, 100, 50, 50, maps_on_disk=False, steps_at_once=None, device=torch.device("cpu"))
