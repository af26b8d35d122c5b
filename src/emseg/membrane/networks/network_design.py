"""Which membrane network: one of U-RISC's three, at the paper's size or at a laptop's.

    unet       encoder ResNet-50 in the paper; decoder with concatenated skips     Ronneberger et al. 2015
    linknet    encoder ResNet-18 in the paper; decoder with added skips            Chaurasia and Culurciello 2017
    casenet    backbone ResNet-152 in the paper; side outputs and their fusion     Yu et al. 2017

    encoder    resnet18, resnet34, resnet50, resnet101, resnet152; `base_channels` = 64 is the standard width
               plain: the original U-Net's double convolutions, `base_channels` = 64 at first, doubled at every level

    attention  place                           options
    none
    scse       the U-Net's decoder, as in smp  reduction
    se         every block of the encoder      reduction, bias
    eca        every block of the encoder      kernel_size
    fca        every block of the encoder      reduction, frequencies
    fanet      every block of the encoder      reduction, frequencies, normalization, indexing, layers

In a block of a ResNet the attention follows the last normalisation, before the residual sum; in a block of the plain
encoder, the double convolution. Its options are the keyword arguments of the classes in `emseg.frequency.attention`.
FcaNet pools each stage to its size on an image of 224 pixels, 224 / stride: 56, 28, 14, 7 for a ResNet.

A design is plain data: it goes to JSON and back. Omitted fields have their defaults, so files from before a field
existed keep their meaning.

Sources: Shi et al. 2022 (U-RISC), Segmentation Networks; Roy et al. 2018 (scSE), through segmentation-models-pytorch
(smp). FANet's attention in a U-Net's encoder is in neither paper: it combines the two.
"""

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Annotated, Any, Literal, get_args

import torch
from pydantic import Field

from emseg.checks import Count, Items, plain, require_count, validated
from emseg.errors import UsageError
from emseg.frequency.attention import BlockAttention, block_attention, block_options, require_options
from emseg.frequency.dct import TOP16
from emseg.frequency.resnet import RESNET18, RESNET34, RESNET50, ResNetDesign

Architecture = Literal["unet", "linknet", "casenet"]
Encoder = Literal["plain", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]
Attention = Literal["none", "scse", "se", "eca", "fca", "fanet"]
ARCHITECTURES: tuple[str, ...] = get_args(Architecture)
ENCODERS: tuple[str, ...] = get_args(Encoder)
RESNETS: Mapping[str, ResNetDesign] = {
    "resnet18": RESNET18,
    "resnet34": RESNET34,
    "resnet50": RESNET50,
    "resnet101": ResNetDesign(block="bottleneck", depths=(3, 4, 23, 3)),
    "resnet152": ResNetDesign(block="bottleneck", depths=(3, 8, 36, 3)),
}
STANDARD_BASE_CHANNELS = 64
MIN_BASE_CHANNELS = 4  # LinkNet's decoder works at a quarter of the width
MIN_DECODER_CHANNELS = 8  # of a default decoder; smp's narrowest has 16
MAX_DEPTH = 5
SCSE_REDUCTION = 16  # smp's
FCANET_PARTS = 7  # FcaNet divides its frequencies by 7; a scaled index reads up to there


@validated
class NetworkDesign:
    """A membrane network of one output channel; the defaults are the paper's U-Net.

    `encoder_depth` counts halvings: the stride is 2^depth. `decoder_channels` are the U-Net's, one per halving, coarse
    to fine; None mirrors a plain encoder, and scales smp's 256, 128, 64, 32, 16 with the width of a ResNet.
    `encoder_weights` names weights that smp can fetch for a ResNet of standard width, for example "imagenet"; None
    starts from random ones. `in_channels` is 1, the image, or 2 for a network that refines another one's output
    (`emseg.membrane.networks.membrane_network`). Raises `UsageError` for what cannot be built.
    """

    architecture: Architecture = "unet"
    encoder: Encoder = "resnet50"
    encoder_depth: int = 5
    base_channels: Annotated[int, Field(ge=MIN_BASE_CHANNELS)] = STANDARD_BASE_CHANNELS
    decoder_channels: Items[Count] | None = None
    attention: Attention = "none"
    attention_options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    encoder_weights: str | None = None
    in_channels: Count = 1

    def __post_init__(self) -> None:
        least = 1 if self.encoder == "plain" else 2  # the first stage of a ResNet has stride 4
        if not least <= self.encoder_depth <= MAX_DEPTH:
            raise UsageError(
                f"`encoder_depth` must be {least} to {MAX_DEPTH} for the encoder {self.encoder!r}; "
                f"got {self.encoder_depth}."
            )
        depth, channels = self.encoder_depth, self.decoder_channels
        if channels is not None and (self.architecture != "unet" or len(channels) != depth):
            raise UsageError(
                f"`decoder_channels` belong to the U-Net, one entry for each of {depth} halvings of its encoder; got "
                f"{len(channels)} with architecture={self.architecture!r}. Leave them out, or give {depth}."
            )
        object.__setattr__(self, "attention_options", {k: _tuples(v) for k, v in self.attention_options.items()})
        first = 0 if self.resnet is None else 1  # the first convolution of a ResNet is no block
        _require_attention(self, self.level_channels[first:], self.level_strides[first:])
        if self.encoder_weights and (self.encoder == "plain" or self.base_channels != STANDARD_BASE_CHANNELS):
            raise UsageError(
                f"`encoder_weights` exist for ResNets of base_channels={STANDARD_BASE_CHANNELS}; got "
                f"{self.encoder_weights!r} for {self.encoder!r} with base_channels={self.base_channels}. "
                "Leave them out, or choose such an encoder."
            )

    @property
    def stride(self) -> int:
        """Side, in pixels, of what one pixel of the coarsest map covers."""
        return int(2**self.encoder_depth)

    @property
    def min_size(self) -> int:
        """Smallest height and width of an image; above 1 only with FANet's attention, whose frequencies must fit."""
        if self.attention != "fanet":
            return 1
        pairs: Sequence[Sequence[int]] = self.attention_options.get("frequencies", TOP16)
        scaled = self.attention_options.get("indexing", "raw") == "scaled"
        highest = FCANET_PARTS - 1 if scaled else max(max(pair) for pair in pairs)
        return highest * self.stride + 1

    @property
    def resnet(self) -> ResNetDesign | None:
        """The residual network of the encoder, or None for the plain one; its classifier is not used."""
        if self.encoder == "plain":
            return None
        full = RESNETS[self.encoder]
        depths = full.depths[: self.encoder_depth - 1]
        return ResNetDesign(full.block, depths, self.base_channels, in_channels=self.in_channels, n_classes=1)

    @property
    def level_channels(self) -> tuple[int, ...]:
        """Channels of the encoder's maps from fine to coarse, without the image itself."""
        if self.resnet is None:
            return tuple(self.base_channels * 2**level for level in range(self.encoder_depth + 1))
        return (self.base_channels, *self.resnet.out_channels)

    @property
    def level_strides(self) -> tuple[int, ...]:
        """Strides of those maps."""
        first = 0 if self.resnet is None else 1
        return tuple(2**level for level in range(first, self.encoder_depth + 1))

    @property
    def unet_channels(self) -> tuple[int, ...]:
        """Channels of the U-Net's decoder blocks, coarse to fine."""
        if self.decoder_channels is not None:
            return self.decoder_channels
        if self.resnet is None:
            return self.level_channels[-2::-1]
        scaled = (4 * self.base_channels // 2**block for block in range(MAX_DEPTH))
        return tuple(max(channels, MIN_DECODER_CHANNELS) for channels in scaled)[-self.encoder_depth :]

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON represents them; `NetworkDesign(**values)` reads them back."""
        return plain(self)


def attention_options(name: str) -> tuple[str, ...]:
    """Return the names of the options of the attention `name`."""
    return ("reduction",) if name == "scse" else block_options(name)


def encoder_attention(name: str, options: Mapping[str, Any]) -> BlockAttention:
    """Return the maker of the attention of one block of the encoder; the identity for "none" and "scse"."""
    return block_attention("none", {}) if name == "scse" else block_attention(name, options)


def _require_attention(design: NetworkDesign, channels: Sequence[int], strides: Sequence[int]) -> None:
    """Raise `UsageError` unless the options are the attention's and every stage of the network can have it."""
    name, options = design.attention, design.attention_options
    require_options(name, options, attention_options(name))
    if name == "scse":
        _require_scse(design)
    make = encoder_attention(name, options)
    with torch.device("meta"):  # no memory, and no random number is drawn
        for width, stride in zip(channels, strides, strict=True):
            try:
                make(width, stride)
            except UsageError as error:
                raise UsageError(
                    f"the attention {name!r} must suit every stage of the encoder; at stride {stride}: {error} "
                    "More `base_channels` are another way."
                ) from None


def _require_scse(design: NetworkDesign) -> None:
    if design.architecture != "unet":
        raise UsageError(
            f"the attention 'scse' belongs to the U-Net's decoder; got architecture={design.architecture!r}. "
            "Use architecture='unet', or an attention of the encoder: 'se', 'eca', 'fca', 'fanet'."
        )
    reduction = require_count("reduction", design.attention_options.get("reduction", SCSE_REDUCTION))
    narrowest = min(design.unet_channels)
    if narrowest < reduction:
        raise UsageError(
            f"scSE's `reduction` must not exceed the narrowest decoder block, or no hidden unit is left; got "
            f"reduction={reduction} and decoder_channels={design.unet_channels}. "
            f'Use attention_options={{"reduction": {narrowest}}} or a wider decoder.'
        )


def _tuples(value: Any) -> Any:
    """Return a value from JSON with tuples instead of lists."""
    return tuple(_tuples(part) for part in value) if isinstance(value, list | tuple) else value
