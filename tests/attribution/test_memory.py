"""What an attribution needs on the way is let go when it ends."""

import gc
import re
import weakref

import pytest
import torch
from attribution.small_networks import make, make_image
from torch import Tensor, nn

from chapters.channel_attention import held_bytes
from emseg.attribution import attribute_pixels
from emseg.attribution.inputs import Calling
from emseg.attribution.windowed import TorchPass
from emseg.errors import UsageError
from emseg.training.memory_use import MIB

SHAPE = (32, 40)


def outputs_seen(network: nn.Module) -> "list[weakref.ref[Tensor]]":
    seen: list[weakref.ref[Tensor]] = []
    for layer in network.modules():
        layer.register_forward_hook(lambda module, inputs, output: seen.append(weakref.ref(output)))
    return seen


@pytest.mark.parametrize("backward", ["full", "windowed"])
@pytest.mark.parametrize("name", ["tiny U-Net", "local"])
def test_no_map_of_a_forward_pass_outlives_the_attribution(name, backward):
    network = make(name)
    seen = outputs_seen(network)
    attribute_pixels(network, make_image(*SHAPE), [(3, 5), (16, 39)], n_steps=3, backward=backward)
    gc.collect()
    assert len(seen) > 5
    assert not [one for one in seen if one() is not None]


def test_a_graph_whose_tensors_are_noted_is_let_go_with_its_pass():
    network = make("local")
    seen = outputs_seen(network)
    graph = TorchPass(Calling(network), make_image(*SHAPE)[None, None], keep=True)
    assert graph.tensors
    assert graph.gradient(3, 5)[0].any()
    del graph
    gc.collect()
    assert not [one for one in seen if one() is not None]


@pytest.mark.parametrize("backward", ["full", "windowed"])
@pytest.mark.parametrize("name", ["ResNet U-Net", "gated", "tiny U-Net"])
def test_no_more_memory_is_used_than_allowed(name, backward):
    """At the least that is accepted, which holds one point and one target, and at four times that, shared by many.

    The network, its kernels in another layout and one pass without gradients come on top.
    """
    network, image = make(name).requires_grad_(False), make_image(256, 256)
    targets = [(row, column) for row in range(5, 256, 60) for column in range(7, 256, 60)]

    def attribute(memory_mib: float) -> None:
        attribute_pixels(network, image, targets, n_steps=3, backward=backward, memory_mib=memory_mib)

    with pytest.raises(UsageError, match="`memory_mib` must contain") as refusal:
        attribute(len(targets) * image.nbytes / 2**20)
    least = float(re.search(r"here (\d+) MiB", str(refusal.value))[1]) + 1
    maps = len(targets) * image.nbytes / 2**20  # in numpy, which the profiler does not see
    with torch.no_grad():
        beside = held_bytes(lambda: network(image[None, None])) / MIB
    if backward == "windowed":  # which keeps the kernels in another layout
        beside += sum(weight.nbytes for weight in network.parameters()) / 2**20
    for allowed in (least, 4 * least):
        assert held_bytes(lambda allowed=allowed: attribute(allowed)) / MIB + maps < allowed + beside
