"""What an attribution needs on the way is let go when it ends."""

import gc
import weakref

import pytest
from attribution.small_networks import make, make_image
from torch import Tensor, nn

from emseg.attribution import attribute_pixels
from emseg.attribution.inputs import Calling
from emseg.attribution.windowed import TorchPass

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
