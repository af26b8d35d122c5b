from emseg.frequency.attention.build import ATTENTIONS, build_attention
from emseg.frequency.attention.efficient import EfficientChannelAttention
from emseg.frequency.attention.fanet import FanetAttention
from emseg.frequency.attention.fca import FCANET_SIZES, FcaAttention
from emseg.frequency.attention.squeeze_excite import SqueezeExcite

__all__ = [
    "ATTENTIONS",
    "FCANET_SIZES",
    "EfficientChannelAttention",
    "FanetAttention",
    "FcaAttention",
    "SqueezeExcite",
    "build_attention",
]
