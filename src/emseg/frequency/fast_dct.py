"""The two-dimensional cosine transform of a large map by one real Fourier transform (Makhoul's reordering).

Take the even positions of a sequence in order, then its odd positions backwards: v = x0 x2 x4 ... x5 x3 x1. With
V = FFT(v) and w_k = exp(-i pi k / 2N), the sum of Eq. 1 along one axis is

    f_k = Re(w_k V_k),   f_(N-k) = -Im(w_k V_k),   k = 0 .. N/2,

so a real FFT, which keeps only k = 0 .. N/2, holds all N coefficients. Along the second axis values are complex, and
the real part is taken over the pair (V_k, V_-k):  B_k = (w_k V_k + conj(w_k) V_-k) / 2.  The inverse runs backwards:
V_k = conj(w_k) (f_k - i f_(N-k)), with f_N = 0.

    x          [..., height, width]   real, float32 or float64
    f          [..., height, width]   coefficients of Eq. 1, times `row_weight` and `column_weight`
    *_weight   (at index 0, at all other indices): the normalisation of that axis

A matrix product costs height * width * (height + width) multiplications, this one height * width * log(height * width).
Which of the two is faster at which size was measured by `benchmarks/dct.py`; `emseg.frequency.dct` chooses.

Source: J. Makhoul, "A fast cosine transform in one and two dimensions", IEEE Trans. ASSP 28 (1980) 27-34.
"""

import math
from functools import lru_cache

import torch
from jaxtyping import Complex, Float
from torch import Tensor

AxisWeight = tuple[float, float]


@lru_cache(maxsize=128)
def _twiddle(
    size: int, length: int, weight: AxisWeight, dtype: torch.dtype, device: torch.device
) -> Complex[Tensor, " length"]:
    """Return weight_k exp(-i pi k / 2N) for k = 0 .. length - 1, rounded once from float64."""
    with torch.inference_mode(False):  # a table that inference mode had made could never be used in training
        angle = torch.arange(length, dtype=torch.float64) * (-math.pi / (2 * size))
        scale = torch.full((length,), weight[1], dtype=torch.float64)
        scale[0] = weight[0]
        return torch.polar(torch.ones_like(angle), angle).mul_(scale).to(dtype).to(device)


def _mirrored_rows(size: int, device: torch.device) -> Tensor:
    """Return the row indices 0, N-1, N-2, .. 1: index -k modulo N."""
    return torch.arange(size, 0, -1, device=device) % size


def _fold(x: Float[Tensor, "*batch height width"]) -> Float[Tensor, "*batch height width"]:
    """Reorder both axes: even positions in order, then odd positions backwards."""
    folded = torch.empty_like(x, memory_format=torch.contiguous_format)
    rows, columns = (x.shape[-2] + 1) // 2, (x.shape[-1] + 1) // 2
    folded[..., :rows, :columns] = x[..., 0::2, 0::2]
    folded[..., :rows, columns:] = x[..., 0::2, 1::2].flip(-1)
    folded[..., rows:, :columns] = x[..., 1::2, 0::2].flip(-2)
    folded[..., rows:, columns:] = x[..., 1::2, 1::2].flip(-1, -2)
    return folded


def _unfold(folded: Float[Tensor, "*batch height width"]) -> Float[Tensor, "*batch height width"]:
    """Undo `_fold`."""
    x = torch.empty_like(folded)
    rows, columns = (folded.shape[-2] + 1) // 2, (folded.shape[-1] + 1) // 2
    x[..., 0::2, 0::2] = folded[..., :rows, :columns]
    x[..., 0::2, 1::2] = folded[..., :rows, columns:].flip(-1)
    x[..., 1::2, 0::2] = folded[..., rows:, :columns].flip(-2)
    x[..., 1::2, 1::2] = folded[..., rows:, columns:].flip(-1, -2)
    return x


def dct2_by_fft(
    x: Float[Tensor, "*batch height width"], row_weight: AxisWeight, column_weight: AxisWeight
) -> Float[Tensor, "*batch height width"]:
    """Return Eq. 1 over the last two axes, each axis scaled by its weight."""
    height, width = x.shape[-2:]
    spectrum = torch.fft.rfft2(_fold(x))
    half = spectrum.shape[-1]
    row_twiddle = _twiddle(height, height, row_weight, spectrum.dtype, x.device)[:, None]
    # The conjugate mirrors the angle, not the weight, and the weight is real: one table serves both terms.
    paired = spectrum * row_twiddle
    paired.addcmul_(spectrum.index_select(-2, _mirrored_rows(height, x.device)), row_twiddle.conj().resolve_conj())
    paired *= _twiddle(width, half, column_weight, spectrum.dtype, x.device) * 0.5
    f = torch.empty_like(x, memory_format=torch.contiguous_format)
    f[..., :half] = paired.real
    f[..., half:] = paired.imag[..., 1 : (width + 1) // 2].flip(-1).neg_()
    return f


def idct2_by_fft(
    f: Float[Tensor, "*batch height width"], row_weight: AxisWeight, column_weight: AxisWeight
) -> Float[Tensor, "*batch height width"]:
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
    spectrum.addcmul_(rows.index_select(-2, _mirrored_rows(height, f.device)), shifted)
    return _unfold(torch.fft.irfft2(spectrum, s=(height, width)))
