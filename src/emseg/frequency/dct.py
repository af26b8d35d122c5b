"""The discrete cosine transform of a feature map: FANet's Eqs. 1 to 4 and their exact inverse.

Every map is a sum of cosines, and each coefficient states how much of one cosine it contains:

    f_hw = a_h a_w sum_u sum_v x_uv cos(pi h (2u + 1) / 2H) cos(pi w (2v + 1) / 2W)         (Eq. 1; a = 1)
    x_uv = sum_h sum_w b_h b_w f_hw cos(pi h (2u + 1) / 2H) cos(pi w (2v + 1) / 2W)         (the exact inverse)

    x  [..., height, width]   map; u is the row, v the column
    f  [..., height, width]   coefficients; index h counts half periods down the map, w half periods across it

    normalization   a_0       a_k (k > 0)   b_0       b_k (k > 0)   what it is
    "none"          1         1             1/N       2/N           Eq. 1 as printed; f_00 = H W GAP(x), Eq. 3
    "mean"          1/N       1/N           1         2             f_00 = GAP(x), the average that SENet pools
    "ortho"         sqrt 1/N  sqrt 2/N      sqrt 1/N  sqrt 2/N      keeps energy; scipy's norm="ortho", FcaNet's choice

Deviation: Eq. 2 of FANet prints the inverse with b = 1 throughout. That is no inverse under any of the three
normalizations, because the zero frequencies need half the weight of the others.

A small map is transformed by two matrix products, a large one by one real Fourier transform (Makhoul's reordering):
take the even positions of a sequence in order, then its odd positions backwards, v = x0 x2 x4 ... x5 x3 x1. With V =
FFT(v) and w_k = exp(-i pi k / 2N), the sum of Eq. 1 along one axis is

    f_k = Re(w_k V_k),   f_(N-k) = -Im(w_k V_k),   k = 0 .. N/2,

so a real FFT contains all N coefficients. Along the second axis values are complex, and the real part is taken over the
pair (V_k, V_-k):  B_k = (w_k V_k + conj(w_k) V_-k) / 2.  The inverse: V_k = conj(w_k) (f_k - i f_(N-k)), with f_N = 0.

Source: Sun et al. 2021 (FANet), Eqs. 1 to 4, Table 1; Qin et al. 2021 (FcaNet) for the order of Table 1 and the
scaled index; J. Makhoul, "A fast cosine transform in one and two dimensions", IEEE Trans. ASSP 28 (1980) 27-34.
"""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any, Literal, get_args

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from emseg.checks import require_count, require_one_of
from emseg.errors import InputError, UsageError

Normalization = Literal["none", "mean", "ortho"]
Indexing = Literal["raw", "scaled"]
AxisWeight = tuple[float, float]  # at index 0, at all other indices
Maps = Float[Tensor, "*batch height width"]
Basis = Float[Tensor, "frequency position"]

# Table 1 of FANet, which is FcaNet's top 16 in FcaNet's order: (h, w), rows first.
TOP16: tuple[tuple[int, int], ...] = (
    (0, 0), (0, 1), (6, 0), (0, 5), (0, 2), (1, 0), (1, 2), (4, 0),
    (5, 0), (1, 6), (3, 0), (0, 4), (0, 6), (0, 3), (3, 5), (2, 2),
)  # fmt: skip
PARTS = 7  # the 7 x 7 division of the frequency plane (FANet, section 4.3)

# Up to this many rows and columns, two matrix products beat the Fourier transform (measured: benchmarks/dct.py).
MATRIX_LIMIT = 256

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# A size that a compiler or exporter leaves open is a SymInt, and must not be asked for its value.
_WHOLE = (int, torch.SymInt)


def require_map(x: object, name: str = "x") -> None:
    """Raise `InputError` unless `x` is a tensor of real floating-point maps [..., height, width] that contain pixels.

    NaN and infinity pass: they show in the result of a sum, and a test for them would make a GPU wait at every layer.
    """
    if not isinstance(x, Tensor):
        raise InputError(f"`{name}` must be a torch tensor; got {type(x).__name__}. Use torch.as_tensor({name}).")
    if x.dtype not in _DTYPES:
        raise InputError(
            f"`{name}` must contain float16, bfloat16, float32 or float64 numbers; got {x.dtype}. Use {name}.float()."
        )
    if x.ndim < 2:
        raise InputError(
            f"`{name}` must have the shape (..., height, width); got shape {tuple(x.shape)}. "
            f"Use {name}[None, :] for one row."
        )
    if x.shape[-1] == 0 or x.shape[-2] == 0:
        raise InputError(
            f"`{name}` must have at least one row and one column; got shape {tuple(x.shape)}. "
            "Check the crop that made it."
        )


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which maps of `dtype` are summed: float32 for half precision, else `dtype` itself."""
    return torch.float32 if dtype.itemsize == 2 else dtype


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which nothing is cast; the meta device has no autocast that could be switched off."""
    available = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if available else nullcontext()


def require_size(size: int, name: str = "size") -> int:
    """Return `size`, or raise `UsageError` unless it is a whole number of at least 1."""
    if isinstance(size, bool) or not isinstance(size, _WHOLE) or size < 1:
        return require_count(name, size)
    return size


def require_index(frequency: int, size: int, name: str = "frequency") -> int:
    """Return `frequency`, or raise `UsageError` unless it is a whole number from 0 to size - 1."""
    if isinstance(frequency, bool) or not hasattr(frequency, "__index__") or not 0 <= frequency < size:
        raise UsageError(
            f"`{name}` must be a whole number from 0 to {size - 1}, as many as the axis has pixels; "
            f"got {frequency!r}. Use a larger map or a lower frequency."
        )
    return frequency if isinstance(frequency, _WHOLE) else int(frequency)


def forward_weight(size: int, normalization: Normalization) -> AxisWeight:
    """Return (a_0, a_k) of one axis: see the table at the top of this module."""
    require_one_of("normalization", normalization, get_args(Normalization))
    if normalization == "none":
        return 1.0, 1.0
    if normalization == "mean":
        return 1.0 / size, 1.0 / size
    return math.sqrt(1.0 / size), math.sqrt(2.0 / size)


def scaled_index(frequency: int, size: int, parts: int = PARTS) -> int:
    """Return FcaNet's index on a map of `size` pixels for the index `frequency` of a `parts`-fold division.

    FcaNet reads h of its 7 x 7 division as h * (size // 7), on 56 pixels 8 h (`indexing="scaled"`); FANet's Eq. 4 uses
    h as it is ("raw"), which is another frequency.
    """
    size, parts = require_size(size), require_size(parts, "parts")
    if size < parts:
        raise UsageError(
            f"a scaled index needs at least {parts} pixels along each axis, one for each part; got {size}. "
            'Use indexing="raw" on so small a map.'
        )
    return require_index(frequency, parts) * (size // parts)


def resolve_frequencies(
    frequencies: Sequence[Sequence[int]], height: int, width: int, indexing: Indexing = "raw"
) -> tuple[tuple[int, int], ...]:
    """Return the pairs (h, w) as indices on a map of height x width, after checking that the map has them."""
    require_one_of("indexing", indexing, get_args(Indexing))
    pairs: list[Any] = list(frequencies)
    if not pairs:
        raise UsageError("`frequencies` must contain at least one pair (h, w); got none. Use TOP16 for Table 1.")
    resolved = []
    for pair in pairs:
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise UsageError(f"each of `frequencies` must be a pair (h, w); got {pair!r}. Write [(0, 0), (0, 1)].")
        h, w = pair
        if indexing == "scaled":
            resolved.append((scaled_index(h, height), scaled_index(w, width)))
        else:
            resolved.append((require_index(h, height, "frequency h"), require_index(w, width, "frequency w")))
    return tuple(resolved)


def dct_basis(
    size: int,
    frequencies: Sequence[int] | None = None,
    *,
    normalization: Normalization = "none",
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
) -> Basis:
    """Return the cosines a_k cos(pi k (2u + 1) / 2N) of an axis of `size` pixels, one row a frequency.

    `frequencies` defaults to all of 0 .. size - 1. The coefficients of one axis are `dct_basis(size) @ x`.
    """
    size = require_size(size)
    if dtype not in _DTYPES:
        raise UsageError(
            f"`dtype` must be float16, bfloat16, float32 or float64; got {dtype}. Cosines are not integers."
        )
    chosen = range(size) if frequencies is None else [require_index(k, size) for k in frequencies]
    return cosines(size, chosen, normalization, dtype, device)


def cosines(
    size: int,
    frequencies: Sequence[int],
    normalization: Normalization,
    dtype: torch.dtype,
    device: torch.device | str | None,
) -> Basis:
    """Return `dct_basis` without its checks, which cannot be decided while a size is left open."""
    zero, other = forward_weight(size, normalization)
    index = torch.tensor(frequencies, dtype=torch.int64)
    turns = index[:, None] * (2 * torch.arange(size) + 1)
    if not torch.compiler.is_exporting():  # ONNX has no remainder by a size that is left open
        turns = turns % (4 * size)  # modulo 2 pi, in whole numbers: high frequencies keep all their digits
    weight = torch.full((len(frequencies),), other, dtype=torch.float64).masked_fill_(index == 0, zero)
    table = weight[:, None] * torch.cos(turns.to(torch.float64) * (math.pi / (2 * size)))
    return table.to(dtype).to(device or "cpu")


@lru_cache(maxsize=64)
def cached_basis(
    size: int,
    frequencies: tuple[int, ...] | None,
    normalization: Normalization,
    dtype: torch.dtype,
    device: torch.device,
) -> Basis:
    """Return `dct_basis` from a cache. The tensor is shared: read it, never write to it."""
    with torch.inference_mode(False):  # a table that inference mode had made could never be used in training
        return dct_basis(size, frequencies, normalization=normalization, dtype=dtype, device=device)


@lru_cache(maxsize=64)
def _inverse_basis(size: int, normalization: Normalization, dtype: torch.dtype, device: torch.device) -> Basis:
    """Return b_k cos(pi k (2u + 1) / 2N), b being 1/N and 2/N over the forward weights. Shared: read only."""
    zero, other = forward_weight(size, normalization)
    with torch.inference_mode(False):
        basis = dct_basis(size) * (2.0 / (size * other))
        basis[0] = 1.0 / (size * zero)
        return basis.to(dtype).to(device)


def dct2(x: Maps, *, normalization: Normalization = "none") -> Maps:
    """Return all coefficients of each map: Eq. 1 over the last two axes, any batch axes before them.

    The result has the dtype and device of `x`. Half precision is summed in float32, also under autocast, and rounded
    once at the end; under "none" a coefficient past float16's 65,504 then becomes infinite, as f_00 of a 256 x 256
    map of mean 1 does. Coefficients of two maps may be compared under "none" only if the maps have one size.
    """
    require_map(x)
    height, width = x.shape[-2:]
    weights = forward_weight(height, normalization), forward_weight(width, normalization)
    work = x.to(working_dtype(x.dtype))
    with without_autocast(x.device):
        if max(height, width) > MATRIX_LIMIT:
            return _dct2_by_fft(work, *weights).to(x.dtype)
        rows = cached_basis(height, None, normalization, work.dtype, x.device)
        columns = cached_basis(width, None, normalization, work.dtype, x.device)
        return (rows @ (work @ columns.mT)).to(x.dtype)


def idct2(f: Maps, *, normalization: Normalization = "none") -> Maps:
    """Return the maps whose coefficients under `normalization` are `f`: the exact inverse of `dct2`."""
    require_map(f, "f")
    height, width = f.shape[-2:]
    weights = forward_weight(height, normalization), forward_weight(width, normalization)
    work = f.to(working_dtype(f.dtype))
    with without_autocast(f.device):
        if max(height, width) > MATRIX_LIMIT:
            return _idct2_by_fft(work, *weights).to(f.dtype)
        rows = _inverse_basis(height, normalization, work.dtype, f.device)
        columns = _inverse_basis(width, normalization, work.dtype, f.device)
        return (rows.mT @ (work @ columns)).to(f.dtype)


def dct_coefficients(
    x: Maps,
    frequencies: Sequence[tuple[int, int]] = TOP16,
    *,
    normalization: Normalization = "mean",
    indexing: Indexing = "raw",
) -> Float[Tensor, "*batch frequency"]:
    """Return Eq. 4 for every map and every pair (h, w), by two thin matrix products instead of a whole transform.

    The default "mean" makes (0, 0) the global average that SENet pools. `indexing="scaled"` reads each pair as FcaNet
    does (`scaled_index`). Half precision is summed in float32; the result has the dtype of `x`.
    """
    require_map(x)
    height, width = x.shape[-2:]
    pairs = resolve_frequencies(frequencies, height, width, indexing)
    row_set, column_set = sorted({h for h, _ in pairs}), sorted({w for _, w in pairs})
    work = x.to(working_dtype(x.dtype))
    rows = cached_basis(height, tuple(row_set), normalization, work.dtype, x.device)
    columns = cached_basis(width, tuple(column_set), normalization, work.dtype, x.device)
    with without_autocast(x.device):
        plane = rows @ (work @ columns.mT)
    h = torch.tensor([row_set.index(pair[0]) for pair in pairs], device=x.device)
    w = torch.tensor([column_set.index(pair[1]) for pair in pairs], device=x.device)
    return plane[..., h, w].to(x.dtype)


@lru_cache(maxsize=128)
def _twiddle(
    size: int, length: int, weight: AxisWeight, dtype: torch.dtype, device: torch.device
) -> Complex[Tensor, " length"]:
    """Return weight_k exp(-i pi k / 2N) for k = 0 .. length - 1, rounded once from float64."""
    with torch.inference_mode(False):
        angle = torch.arange(length, dtype=torch.float64) * (-math.pi / (2 * size))
        scale = torch.full((length,), weight[1], dtype=torch.float64)
        scale[0] = weight[0]
        return torch.polar(torch.ones_like(angle), angle).mul_(scale).to(dtype).to(device)


def _mirrored(spectrum: Tensor) -> Tensor:
    """Return the rows 0, N-1, N-2, .. 1: index -k modulo N."""
    size = spectrum.shape[-2]
    return spectrum.index_select(-2, torch.arange(size, 0, -1, device=spectrum.device) % size)


def _fold(x: Maps) -> Maps:
    """Reorder both axes: even positions in order, then odd positions backwards."""
    folded = torch.empty_like(x, memory_format=torch.contiguous_format)
    rows, columns = (x.shape[-2] + 1) // 2, (x.shape[-1] + 1) // 2
    folded[..., :rows, :columns] = x[..., 0::2, 0::2]
    folded[..., :rows, columns:] = x[..., 0::2, 1::2].flip(-1)
    folded[..., rows:, :columns] = x[..., 1::2, 0::2].flip(-2)
    folded[..., rows:, columns:] = x[..., 1::2, 1::2].flip(-1, -2)
    return folded


def _unfold(folded: Maps) -> Maps:
    """Undo `_fold`."""
    x = torch.empty_like(folded)
    rows, columns = (folded.shape[-2] + 1) // 2, (folded.shape[-1] + 1) // 2
    x[..., 0::2, 0::2] = folded[..., :rows, :columns]
    x[..., 0::2, 1::2] = folded[..., :rows, columns:].flip(-1)
    x[..., 1::2, 0::2] = folded[..., rows:, :columns].flip(-2)
    x[..., 1::2, 1::2] = folded[..., rows:, columns:].flip(-1, -2)
    return x


def _dct2_by_fft(x: Maps, row_weight: AxisWeight, column_weight: AxisWeight) -> Maps:
    """Return Eq. 1 over the last two axes by one real Fourier transform, each axis scaled by its weight."""
    height, width = x.shape[-2:]
    spectrum = torch.fft.rfft2(_fold(x))
    half = spectrum.shape[-1]
    row_twiddle = _twiddle(height, height, row_weight, spectrum.dtype, x.device)[:, None]
    # The conjugate mirrors the angle, not the weight, and the weight is real: one table serves both terms.
    paired = spectrum * row_twiddle
    paired.addcmul_(_mirrored(spectrum), row_twiddle.conj().resolve_conj())
    paired *= _twiddle(width, half, column_weight, spectrum.dtype, x.device) * 0.5
    f = torch.empty_like(x, memory_format=torch.contiguous_format)
    f[..., :half] = paired.real
    f[..., half:] = paired.imag[..., 1 : (width + 1) // 2].flip(-1).neg_()
    return f


def _idct2_by_fft(f: Maps, row_weight: AxisWeight, column_weight: AxisWeight) -> Maps:
    """Return the map whose coefficients under these (forward) weights are `f`."""
    height, width = f.shape[-2:]
    row_weight, column_weight = (1 / row_weight[0], 1 / row_weight[1]), (1 / column_weight[0], 1 / column_weight[1])
    half = width // 2 + 1
    mirrored = torch.zeros_like(f[..., :half])
    mirrored[..., 1:] = f[..., width - half + 1 :].flip(-1)
    rows = torch.complex(f[..., :half].contiguous(), mirrored.neg_())
    rows *= _twiddle(width, half, column_weight, rows.dtype, f.device).conj()
    row_twiddle = _twiddle(height, height, row_weight, rows.dtype, f.device).conj().resolve_conj()[:, None]
    shifted = row_twiddle * -1j
    shifted[0] = 0  # f_N = 0
    spectrum = rows * row_twiddle
    spectrum.addcmul_(_mirrored(rows), shifted)
    return _unfold(torch.fft.irfft2(spectrum, s=(height, width)))
