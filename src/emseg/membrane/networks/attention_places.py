"""Where a network's attention stands, and with which options; checked before anything is built.

    name     place                                               options
    none
    scse     the U-Net's decoder, as in smp                      reduction
    se       every block of the encoder                          reduction
    eca      every block of the encoder                          kernel_size
    fca      every block of the encoder                          reduction, frequencies
    fanet    every block of the encoder                          reduction, frequencies, normalization, indexing, layers

A block of a ResNet has it behind the last normalisation, before the residual sum; a block of the plain encoder behind
its double convolution. The options are the keyword arguments of the classes in `emseg.frequency.attention`, their
defaults those of the classes.

FcaNet pools each stage to the size that it has on an image of 224 pixels, 224 / stride: 56, 28, 14, 7 for a ResNet.

Sources: Roy et al. 2018 (scSE), through segmentation-models-pytorch (smp); those of `emseg.frequency.attention`.
FANet's attention in a U-Net's encoder is neither paper's: it is where the two meet.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from emseg.errors import UsageError, suggest
from emseg.frequency.attention import EfficientChannelAttention, FanetAttention, FcaAttention, SqueezeExcite
from emseg.frequency.dct import TOP16, require_size

ATTENTION_NAMES = ("none", "scse", "se", "eca", "fca", "fanet")
SCSE_REDUCTION = 16  # smp's
FCANET_IMAGE_SIZE = 224
FCANET_PARTS = 7  # of its division of the frequencies, which a scaled index reads

# Makes the attention of one block from its channels and the stride of its maps.
BlockAttention = Callable[[int, int], nn.Module]

_CLASSES: Mapping[str, type[nn.Module]] = {
    "se": SqueezeExcite,
    "eca": EfficientChannelAttention,
    "fca": FcaAttention,
    "fanet": FanetAttention,
}


def attention_options(name: str) -> tuple[str, ...]:
    """Return the names of the options that the attention `name` has."""
    if name == "scse":
        return ("reduction",)
    if name not in _CLASSES:
        return ()
    parameters = inspect.signature(_CLASSES[name]).parameters.values()
    return tuple(parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY)


def encoder_attention(name: str, options: Mapping[str, object]) -> BlockAttention:
    """Return what makes the attention of one block of the encoder; nothing for "none" and "scse"."""
    given = dict(options)
    pairs = given.get("frequencies")
    if isinstance(pairs, list):  # JSON has no tuples
        given["frequencies"] = tuple(tuple(pair) if isinstance(pair, list) else pair for pair in pairs)

    def make(channels: int, stride: int) -> nn.Module:
        if name not in _CLASSES:
            return nn.Identity()
        if name == "fca":
            return FcaAttention(channels, FCANET_IMAGE_SIZE // stride, **given)  # type: ignore[arg-type]
        return _CLASSES[name](channels, **given)

    return make


def require_encoder_attention(
    name: str, options: Mapping[str, object], channels: Sequence[int], strides: Sequence[int]
) -> None:
    """Raise `UsageError` unless the options are the attention's and every stage can have it."""
    known = attention_options(name)
    for option in options:
        if option not in known:
            has = f"has {', '.join(known)}" if known else "has none"
            raise UsageError(
                f"`attention_options` must be options of the attention {name!r}, which {has}; got {option!r}."
                + suggest(str(option), known)
            )
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


def smallest_coarse_map(name: str, options: Mapping[str, object]) -> int:
    """Return how many pixels a side the coarsest map must have: FANet's frequencies must lie within it."""
    if name != "fanet":
        return 1
    if options.get("indexing", "raw") == "scaled":
        return FCANET_PARTS
    pairs: Sequence[Sequence[int]] = options.get("frequencies", TOP16)  # type: ignore[assignment]  # checked by the layer
    return 1 + max(max(pair) for pair in pairs)


def scse_reduction(options: Mapping[str, object], decoder_channels: Sequence[int]) -> int:
    """Return how much narrower scSE's hidden layer is, or raise `UsageError` where no hidden unit is left."""
    given = options.get("reduction", SCSE_REDUCTION)
    reduction = require_size(given, "reduction")  # type: ignore[arg-type]
    if min(decoder_channels) < reduction:
        raise UsageError(
            f"scSE's `reduction` must not exceed the narrowest decoder block, or no hidden unit is left; got "
            f"reduction={reduction} and decoder_channels={tuple(decoder_channels)}. "
            f'Use attention_options={{"reduction": {min(decoder_channels)}}} or a wider decoder.'
        )
    return reduction
