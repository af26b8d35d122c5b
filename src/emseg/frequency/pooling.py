"""One frequency component for each channel of a feature map: FANet's Eqs. 4 and 5, at the cost of a mean.

The channels are divided into n equal parts X^0 .. X^(n-1) in order, and part i is summed with cosine (h_i, w_i):

    F^i = a_h a_w sum_u sum_v X^i_uv cos(pi h_i (2u + 1) / 2H) cos(pi w_i (2v + 1) / 2W)       (Eq. 4)
    F   = concat(F^0, ..., F^(n-1))                                                            (Eq. 5)

    X^i  [batch, channel / n, height, width]   part i of the feature map
    F    [batch, channel]                      multi-frequency description; under "mean" a part with (0, 0) is GAP

The full-resolution map is read once, whatever its height and width, and no temporary is as large as the map
(`emseg.frequency.projection`).

Deviation: Eq. 4 prints no normalisation and the paper names none; the default "mean" divides by H W, so that the
values are of the size that SENet's are (`emseg.frequency.dct` has the normalizations and the readings of an index).

Source: Sun et al. 2021 (FANet), Eqs. 4 and 5, Table 1.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from emseg.errors import InputError, UsageError
from emseg.frequency.dct import (
    TOP16,
    Indexing,
    Normalization,
    cached_basis,
    cosines,
    require_map,
    resolve_frequencies,
    without_autocast,
    working_dtype,
)
from emseg.frequency.projection import (
    Maps,
    Project,
    Sums,
    project_contiguous,
    project_in_blocks,
    project_written_out,
)


def dct_pool(
    x: Maps,
    frequencies: Sequence[tuple[int, int]] = TOP16,
    *,
    normalization: Normalization = "mean",
    indexing: Indexing = "raw",
) -> Sums:
    """Return F of Eq. 5: channel group i summed with the cosine `frequencies[i]`, a pair (h, w).

    Half precision is summed in float32, also under autocast, and the result has the dtype of `x`. Differentiable any
    number of times, forwards and backwards; safe under `torch.compile` and `torch.export` with sizes left open; the
    same input gives the same bits. Values of maps of two sizes may be compared under "mean" only. On an accelerator,
    float32 products follow `torch.set_float32_matmul_precision`. Raises `InputError` where `x` is not such a map, and
    `UsageError` where the frequencies do not divide the channels or exceed the map's size.
    """
    require_map(x)
    if x.ndim != 4:
        raise InputError(
            f"`x` must have the shape (batch, channel, height, width); got shape {tuple(x.shape)}. "
            "Use x[None] for the maps of one image."
        )
    rows, columns = _weights(x, frequencies, normalization, indexing)
    require_groups(x.shape[1], rows.shape[0])
    with without_autocast(x.device):
        if torch.compiler.is_exporting():
            exported = project_contiguous if x.dtype == rows.dtype else project_in_blocks
            return exported(x, rows, columns).to(x.dtype)
        if torch.compiler.is_compiling():
            return project_written_out(x, rows, columns).to(x.dtype)
        total: Tensor = Project.apply(x, rows, columns)
    return total.to(x.dtype)


def require_groups(channels: int, groups: int) -> None:
    """Raise `UsageError` unless the channels can be divided into `groups` equal parts."""
    if channels % groups:
        raise UsageError(
            f"the number of channels must be a multiple of the number of frequencies, one for each equal part; "
            f"got {channels} channels and {groups} frequencies. Use a number of frequencies that divides {channels}."
        )


def _weights(
    x: Tensor, frequencies: Sequence[tuple[int, int]], normalization: Normalization, indexing: Indexing
) -> tuple[Tensor, Tensor]:
    """Return the cosines of both axes, [group, height] and [group, width], from the cache where there is one to use."""
    # An exporter has to see the arithmetic, since its sizes may be open. A compiler must not: it would work the cosines
    # out anew for every pixel. Tensors that only stand for others, as in tracing, must not enter the cache.
    height, width = x.shape[-2:]
    dtype = working_dtype(x.dtype)
    compiled = torch.compiler.is_compiling()
    if not compiled and type(x) in (Tensor, torch.nn.Parameter):
        given = tuple(tuple(pair) if isinstance(pair, list) else pair for pair in frequencies)
        return _cached_weights(given, height, width, normalization, indexing, dtype, x.device)
    pairs = resolve_frequencies(frequencies, height, width, indexing)
    table = _opaque_table if compiled and not torch.compiler.is_exporting() else cosines
    h, w = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return table(height, h, normalization, dtype, x.device), table(width, w, normalization, dtype, x.device)


@lru_cache(maxsize=64)
def _cached_weights(
    frequencies: tuple[tuple[int, int], ...],
    height: int,
    width: int,
    normalization: Normalization,
    indexing: Indexing,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Return the same, with all its checks made once for each size; a small map costs less than its checks."""
    pairs = resolve_frequencies(frequencies, height, width, indexing)
    h, w = tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs)
    rows = cached_basis(height, h, normalization, dtype, device)
    return rows, cached_basis(width, w, normalization, dtype, device)


@torch.library.custom_op("emseg::cosines", mutates_args=())
def _opaque_table(
    size: int, frequencies: Sequence[int], normalization: str, dtype: torch.dtype, device: torch.device
) -> Tensor:
    return cached_basis(size, tuple(frequencies), normalization, dtype, device).clone()


@_opaque_table.register_fake
def _(size: int, frequencies: Sequence[int], normalization: str, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.empty(len(frequencies), size, dtype=dtype, device=device)
