"""Channel attention by name, for everything that is compared with one attention in place of another.

What the names stand for:

    none    the map as it is                           (ResNet)
    se      means, fully connected                     `SqueezeExcite`
    eca     means, nearest channels                    `EfficientChannelAttention`
    fca     frequencies of the map pooled by stage     `FcaAttention`
    fanet   frequencies of the map itself              `FanetAttention`, with its defaults

Sources: those of the four modules.
"""

from torch import nn

from emseg.errors import UsageError, suggest
from emseg.frequency.attention.efficient import EfficientChannelAttention
from emseg.frequency.attention.fanet import FanetAttention
from emseg.frequency.attention.fca import FCANET_SIZES, FcaAttention
from emseg.frequency.attention.squeeze_excite import SqueezeExcite

ATTENTIONS = ("none", "se", "eca", "fca", "fanet")


def build_attention(name: str, channels: int, *, stage: int | None = None, reduction: int = 16) -> nn.Module:
    """Return the attention called `name`, for maps of `channels` channels.

    `stage` counts a backbone's stages from 1 to 4; only "fca" needs it, to know its pooled size. ECA has no hidden
    layer and takes no `reduction`.
    """
    if name not in ATTENTIONS:
        raise UsageError(
            f"`name` must be one of {', '.join(map(repr, ATTENTIONS))}; got {name!r}.{suggest(str(name), ATTENTIONS)}"
        )
    if name == "se":
        return SqueezeExcite(channels, reduction=reduction)
    if name == "eca":
        return EfficientChannelAttention(channels)
    if name == "fca":
        if stage is None or not 1 <= stage <= len(FCANET_SIZES):
            raise UsageError(
                f'`stage` must be 1 to {len(FCANET_SIZES)} for "fca", which pools by stage; got {stage!r}. '
                "Give the stage, or use FcaAttention with a pooled_size."
            )
        return FcaAttention(channels, FCANET_SIZES[stage - 1], reduction=reduction)
    if name == "fanet":
        return FanetAttention(channels, reduction=reduction)
    return nn.Identity()
