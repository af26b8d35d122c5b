"""The attention of a backbone's blocks by name and options, checked before anything is built.

    name     options
    none
    se       reduction
    eca      kernel_size
    fca      reduction, frequencies
    fanet    reduction, frequencies, normalization, indexing, layers

The options are the keyword arguments of the attention's class in `emseg.frequency.attention`; their defaults are that
class's. FcaNet's pooled size belongs to the stage and is no option.
"""

import inspect
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from emseg.errors import UsageError, suggest
from emseg.frequency.attention import (
    FCANET_SIZES,
    EfficientChannelAttention,
    FanetAttention,
    FcaAttention,
    SqueezeExcite,
    build_attention,
)
from emseg.frequency.resnet import AttentionMaker

CLASSES: Mapping[str, type[nn.Module]] = {
    "se": SqueezeExcite,
    "eca": EfficientChannelAttention,
    "fca": FcaAttention,
    "fanet": FanetAttention,
}


def attention_options(name: str) -> tuple[str, ...]:
    """Return the names of the options that the attention `name` has."""
    if name not in CLASSES:
        return ()
    parameters = inspect.signature(CLASSES[name]).parameters.values()
    return tuple(parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY)


def attention_maker(name: str, options: Mapping[str, object] | None = None) -> AttentionMaker:
    """Return what makes the attention of one block from its channels and its stage, 1 to 4.

    Raises `UsageError` for an option that the attention does not have; the values are checked when one is made.
    """
    given, known = dict(options or {}), attention_options(name)
    pairs = given.get("frequencies")
    if isinstance(pairs, list):  # JSON has no tuples
        given["frequencies"] = tuple(tuple(pair) if isinstance(pair, list) else pair for pair in pairs)
    for option in given:
        if option not in known:
            has = f"has {', '.join(known)}" if known else "has none"
            raise UsageError(
                f"`attention_options` must be options of the attention {name!r}, which {has}; got {option!r}."
                + suggest(str(option), known)
            )

    def make(channels: int, stage: int) -> nn.Module:
        if not given:
            return build_attention(name, channels, stage=stage)
        if name == "fca":
            return FcaAttention(channels, FCANET_SIZES[stage - 1], **given)  # type: ignore[arg-type]
        return CLASSES[name](channels, **given)

    return make


def require_attention(name: str, options: Mapping[str, object], out_channels: Sequence[int]) -> None:
    """Raise `UsageError` unless every stage, of so many channels each, can have this attention."""
    make = attention_maker(name, options)
    with torch.device("meta"):  # no memory, and no random number is drawn
        for stage, channels in enumerate(out_channels, start=1):
            make(channels, stage)
