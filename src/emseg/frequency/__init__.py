from emseg.frequency.aliasing import adaptive_pool_matrix, leakage_closed_form, leakage_spectrum, staircase_basis
from emseg.frequency.attention import (
    ATTENTIONS,
    FCANET_SIZES,
    EfficientChannelAttention,
    FanetAttention,
    FcaAttention,
    SqueezeExcite,
    build_attention,
)
from emseg.frequency.dct import TOP16, dct2, dct_basis, dct_coefficients, idct2, scaled_index
from emseg.frequency.pooling import dct_pool
from emseg.frequency.resnet import RESNET18, RESNET34, RESNET50, ResNet, ResNetDesign, load_weights

__all__ = [
    "ATTENTIONS",
    "FCANET_SIZES",
    "RESNET18",
    "RESNET34",
    "RESNET50",
    "TOP16",
    "EfficientChannelAttention",
    "FanetAttention",
    "FcaAttention",
    "ResNet",
    "ResNetDesign",
    "SqueezeExcite",
    "adaptive_pool_matrix",
    "build_attention",
    "dct2",
    "dct_basis",
    "dct_coefficients",
    "dct_pool",
    "idct2",
    "leakage_closed_form",
    "leakage_spectrum",
    "load_weights",
    "scaled_index",
    "staircase_basis",
]
