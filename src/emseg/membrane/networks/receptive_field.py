"""Which pixels of the image one output pixel can depend on: for the halo of tiles, and to compare attributions with.

    output p depends on input q   only if   p - before <= q <= p + after,    the same for rows and columns

Found by following impulses: in a twin of the network whose weights are all 1, a column of the image that is 1 where all
else is 0 reaches exactly the outputs that can depend on it. After every convolution what was reached is set to 1 again,
so that nothing grows without bound. What is reached repeats with the stride, so `stride` columns tell all. Width and
attention change nothing about it, hence the twin is narrow and has none.

A refined network sees what its second network reaches of what the first one reaches: their reaches add up.

This is the theoretical field: a trained network uses a small part of it. Attention that pools over the whole map ties
each output to every pixel, and so do normalisations while training; `whole_image` says the former.

Source: Araujo, Norris and Sim 2019 (Computing receptive fields of convolutional neural networks) for the notion.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor, nn

from emseg.membrane.networks.build import build_network
from emseg.membrane.networks.design import MIN_BASE_CHANNELS, NetworkDesign
from emseg.membrane.networks.network import MembraneNetwork
from emseg.membrane.networks.refinement import RefinedNetwork

N_TOGETHER = 4  # impulses in one batch: the twin of a ResNet-152 then takes some 100 MB


@dataclass(frozen=True)
class ReceptiveField:
    """Reach of an output pixel, in pixels: `before` it (above, left) and `after` it (below, right), over all positions.

    `stride` is the period of positions: tiles that start at multiples of it see the same grid as the whole image.
    `whole_image` is true where a channel attention pools the whole map; no halo then gives identical tiles.
    """

    before: int
    after: int
    stride: int
    whole_image: bool

    @property
    def size(self) -> int:
        """Pixels a side of the smallest window that holds the field at every position."""
        return self.before + 1 + self.after

    @property
    def halo(self) -> int:
        """Pixels around a tile that give its inside the same answer as the whole image, unless `whole_image`."""
        return max(self.before, self.after)


def receptive_field(network: MembraneNetwork | NetworkDesign) -> ReceptiveField:
    """Return the theoretical receptive field of the network's answer, `forward`.

    scSE and the attentions of the encoder make it the whole image; `before` and `after` are then those of the
    convolutions.
    """
    if isinstance(network, RefinedNetwork):
        return _one_behind_the_other(receptive_field(network.first), receptive_field(network.second))
    design = network.design if isinstance(network, MembraneNetwork) else network
    decoder = None if design.decoder_channels is None else (MIN_BASE_CHANNELS,) * design.encoder_depth
    twin = replace(
        design,
        base_channels=MIN_BASE_CHANNELS,
        decoder_channels=decoder,
        attention="none",
        attention_options={},
        encoder_weights=None,
        in_channels=1,
    )
    before, after = _reach(twin)
    return ReceptiveField(before, after, design.stride, whole_image=design.attention != "none")


def _one_behind_the_other(first: ReceptiveField, second: ReceptiveField) -> ReceptiveField:
    return ReceptiveField(
        first.before + second.before,
        first.after + second.after,
        max(first.stride, second.stride),  # both are powers of 2
        whole_image=first.whole_image or second.whole_image,
    )


@lru_cache(maxsize=32)
def _reach(design: NetworkDesign) -> tuple[int, int]:
    """Return `before` and `after`, from images wide enough that no impulse reaches their ends."""
    twin, stride = build_network(design, seed=0).eval(), design.stride
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
    for module in twin.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(_saturate)
    width = 8 * stride
    while True:
        reached = _reached(twin, width, stride)
        before = max(last - source for source, (_, last) in reached.items())
        after = max(source - first for source, (first, _) in reached.items())
        if (
            min(first for first, _ in reached.values()) > stride
            and max(b for _, b in reached.values()) < width - stride
        ):
            return before, after
        width *= 2


def _saturate(_module: nn.Module, _args: object, output: Tensor) -> Tensor:
    return (output > 0).to(output.dtype)


def _reached(twin: MembraneNetwork, width: int, stride: int) -> dict[int, tuple[int, int]]:
    """Return the first and the last output column that each of `stride` columns in the middle reaches."""
    middle = width // 2
    columns = range(middle, middle + stride)
    reached = {}
    with torch.inference_mode():
        for start in range(0, stride, N_TOGETHER):
            group = columns[start : start + N_TOGETHER]
            x = torch.zeros(len(group), 1, stride, width)
            for number, column in enumerate(group):
                x[number, :, :, column] = 1.0
            touched = (twin(x) > 0).any(dim=2)[:, 0]
            for column, row in zip(group, touched, strict=True):
                outputs = row.nonzero()[:, 0]
                reached[column] = (int(outputs[0]), int(outputs[-1]))
    return reached
