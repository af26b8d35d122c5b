"""Sharpness indices of electron micrographs, and what downsampling does to them."""

from emseg.sharpness.downsampling import (
    KERNEL_LABELS,
    RESAMPLING_KERNELS,
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
    "Axis",
    "ResamplingKernel",
    "Sharpness",
    "available_threads",
    "downsample",
    "reduced_shape",
    "sharpness",
    "survey",
]
