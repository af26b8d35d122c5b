"""Which membrane network: one of U-RISC's three, at the paper's size or at a laptop's.

    unet       encoder ResNet-50 in the paper; decoder with concatenated skips     Ronneberger et al. 2015
    linknet    encoder ResNet-18 in the paper; decoder with added skips            Chaurasia and Culurciello 2017
    casenet    backbone ResNet-152 in the paper; side outputs and their fusion     Yu et al. 2017

    encoder    resnet18, resnet34, resnet50, resnet101, resnet152; `base_channels` = 64 is the standard width
               plain: the original U-Net's double convolutions, `base_channels` = 64 at first, doubled at every level

A design is plain data: it goes to JSON and back, and is all that a file of weights needs to be understood. What a
design does not name has its default, so files from before a field was there are read as they were meant.

Source: Shi et al. 2022 (U-RISC), Segmentation Networks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal, get_args

from emseg.errors import UsageError, suggest
from emseg.frequency.resnet import RESNET18, RESNET34, RESNET50, ResNetDesign
from emseg.membrane.networks.attention_places import (
    ATTENTION_NAMES,
    require_encoder_attention,
    scse_reduction,
    smallest_coarse_map,
)

Architecture = Literal["unet", "linknet", "casenet"]
ARCHITECTURES: tuple[str, ...] = get_args(Architecture)

PLAIN = "plain"
RESNETS: Mapping[str, ResNetDesign] = {
    "resnet18": RESNET18,
    "resnet34": RESNET34,
    "resnet50": RESNET50,
    "resnet101": ResNetDesign(block="bottleneck", depths=(3, 4, 23, 3)),
    "resnet152": ResNetDesign(block="bottleneck", depths=(3, 8, 36, 3)),
}
ENCODERS = (PLAIN, *RESNETS)

STANDARD_BASE_CHANNELS = 64
MIN_BASE_CHANNELS = 4  # LinkNet's decoder works at a quarter of the width
MIN_DECODER_CHANNELS = 8  # of a default decoder; smp's narrowest has 16
MAX_DEPTH = 5
MIN_DEPTHS = {"plain": 1, "resnet": 2}  # the first stage of a ResNet has stride 4


@dataclass(frozen=True)
class NetworkDesign:
    """A membrane network of one output channel; the defaults are the paper's U-Net.

    `encoder_depth` counts halvings: the stride is 2^depth. `decoder_channels` are the U-Net's, one a halving, coarse to
    fine; None mirrors a plain encoder, and scales smp's 256, 128, 64, 32, 16 with the width of a ResNet.
    `attention_options` are listed in `emseg.membrane.networks.attention_places`. `encoder_weights` names weights that
    smp can fetch for a ResNet of standard width, for example "imagenet"; None starts from random ones. `in_channels` is
    1, the image, or 2 for a network that refines what another one found (`emseg.membrane.networks.refinement`).
    """

    architecture: Architecture = "unet"
    encoder: str = "resnet50"
    encoder_depth: int = 5
    base_channels: int = STANDARD_BASE_CHANNELS
    decoder_channels: tuple[int, ...] | None = None
    attention: str = "none"
    attention_options: Mapping[str, object] = field(default_factory=dict, hash=False)
    encoder_weights: str | None = None
    in_channels: int = 1

    def __post_init__(self) -> None:
        _require_choice("architecture", self.architecture, ARCHITECTURES)
        _require_choice("encoder", self.encoder, ENCODERS)
        _require_choice("attention", self.attention, ATTENTION_NAMES)
        self._require_depth()
        _require_whole("in_channels", self.in_channels)
        _require_whole("base_channels", self.base_channels)
        if self.base_channels < MIN_BASE_CHANNELS:
            raise UsageError(f"`base_channels` must be at least {MIN_BASE_CHANNELS}; got {self.base_channels}.")
        self._require_decoder()
        self._require_attention()
        self._require_weights()

    @property
    def stride(self) -> int:
        """How many pixels one pixel of the coarsest map stands for."""
        return int(2**self.encoder_depth)

    @property
    def min_size(self) -> int:
        """Smallest height and width of an image; above 1 only with FANet's attention."""
        return (smallest_coarse_map(self.attention, self.attention_options) - 1) * self.stride + 1

    @property
    def resnet(self) -> ResNetDesign | None:
        """The residual network of the encoder, or None for the plain one; its classifier is not used."""
        if self.encoder == PLAIN:
            return None
        full = RESNETS[self.encoder]
        return ResNetDesign(
            block=full.block,
            depths=full.depths[: self.encoder_depth - 1],
            base_channels=self.base_channels,
            in_channels=self.in_channels,
            n_classes=1,
        )

    @property
    def level_channels(self) -> tuple[int, ...]:
        """Channels of the encoder's maps from fine to coarse, the image itself left out."""
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
        """Return the fields as JSON knows them; `from_dict` reads them back."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        if self.decoder_channels is not None:
            values["decoder_channels"] = list(self.decoder_channels)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> "NetworkDesign":
        """Return the design that `to_dict` described; raises `UsageError` for a name that no design has."""
        known = [item.name for item in fields(cls)]
        for name in values:
            if name not in known:
                raise UsageError(f"a membrane network's design has no {name!r}.{suggest(str(name), known)}")
        channels = values.get("decoder_channels")
        tuples = {"decoder_channels": tuple(channels)} if isinstance(channels, list) else {}  # JSON has no tuples
        return cls(**{**values, **tuples})  # type: ignore[arg-type]  # every value is checked in __post_init__

    def _require_depth(self) -> None:
        least = MIN_DEPTHS["plain" if self.encoder == PLAIN else "resnet"]
        _require_whole("encoder_depth", self.encoder_depth)
        if not least <= self.encoder_depth <= MAX_DEPTH:
            raise UsageError(
                f"`encoder_depth` must be {least} to {MAX_DEPTH} for the encoder {self.encoder!r}; "
                f"got {self.encoder_depth}."
            )

    def _require_decoder(self) -> None:
        if self.decoder_channels is None:
            return
        if self.architecture != "unet":
            raise UsageError(
                f"`decoder_channels` belong to the U-Net; got {self.decoder_channels!r} with "
                f"architecture={self.architecture!r}. Leave them out."
            )
        given: object = self.decoder_channels
        if not isinstance(given, list | tuple):
            raise UsageError(f"`decoder_channels` must be a list of whole numbers; got {given!r}.")
        object.__setattr__(self, "decoder_channels", tuple(self.decoder_channels))
        for channels in self.decoder_channels:
            _require_whole("decoder_channels", channels)
        if len(self.decoder_channels) != self.encoder_depth:
            raise UsageError(
                f"`decoder_channels` must have one entry for each of the {self.encoder_depth} halvings of the encoder; "
                f"got {len(self.decoder_channels)}: {self.decoder_channels}. "
                f"Use encoder_depth={len(self.decoder_channels)}, or {self.encoder_depth} entries."
            )

    def _require_attention(self) -> None:
        if not isinstance(self.attention_options, Mapping):
            raise UsageError(
                f"`attention_options` must be a mapping of names to values; got {self.attention_options!r}."
            )
        object.__setattr__(self, "attention_options", dict(self.attention_options))
        first = 0 if self.resnet is None else 1  # the first convolution of a ResNet is no block
        require_encoder_attention(
            self.attention, self.attention_options, self.level_channels[first:], self.level_strides[first:]
        )
        if self.attention == "scse":
            if self.architecture != "unet":
                raise UsageError(
                    f"the attention 'scse' stands in the U-Net's decoder; got architecture={self.architecture!r}. "
                    "Use architecture='unet', or an attention of the encoder: 'se', 'eca', 'fca', 'fanet'."
                )
            scse_reduction(self.attention_options, self.unet_channels)

    def _require_weights(self) -> None:
        if self.encoder_weights is None:
            return
        if not isinstance(self.encoder_weights, str):
            raise UsageError(f"`encoder_weights` must be a name or null; got {self.encoder_weights!r}.")
        if self.encoder == PLAIN or self.base_channels != STANDARD_BASE_CHANNELS:
            raise UsageError(
                f"`encoder_weights` exist for ResNets of base_channels={STANDARD_BASE_CHANNELS}; got "
                f"{self.encoder_weights!r} for {self.encoder!r} with base_channels={self.base_channels}. "
                "Leave them out, or choose such an encoder."
            )


def _require_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(
            f"`{name}` must be one of {', '.join(map(repr, allowed))}; got {value!r}.{suggest(str(value), allowed)}"
        )


def _require_whole(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"`{name}` must be a whole number of at least 1; got {value!r}.")
