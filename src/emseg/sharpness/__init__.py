"""Sharpness indices of electron micrographs, and what downsampling does to them."""

from emseg.sharpness.downsampling import (
    KERNEL_LABELS,
    RESAMPLING_KERNELS,
    TRACK_1_SHAPE,
    TRACK_2_SHAPE,
    TRACK_FACTOR,
    ResamplingKernel,
    downsample,
    reduced_shape,
)
from emseg.sharpness.indices import INDEX_LABELS, INDEX_NAMES, Axis, Sharpness, available_threads, sharpness, survey

__all__ = [
    "INDEX_LABELS",
    "INDEX_NAMES",
    "KERNEL_LABELS",
    "RESAMPLING_KERNELS",
    "TRACK_1_SHAPE",
    "TRACK_2_SHAPE",
    "TRACK_FACTOR",
    "Axis",
    "ResamplingKernel",
    "Sharpness",
    "available_threads",
    "downsample",
    "reduced_shape",
    "sharpness",
    "survey",
]
