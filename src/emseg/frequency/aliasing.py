"""What average pooling before the cosine transform does to a coefficient: FcaNet's order of work against FANet's.

FcaNet shrinks a map to n pixels a side by adaptive average pooling and transforms the small map; FANet transforms the
full map of N pixels. Both are linear, so pooling and then projecting on a cosine equals projecting the full map on
one *staircase*, the cosine held constant over each bin. The staircase's own cosine transform is the leakage spectrum
G: coefficient k of the pooled map is

    g_k = sum_k' G_kk' f_k',        G_kk = what is left of the requested frequency, all other G_kk' = leakage.

Where n divides N = r n, each bin averages r neighbours, which multiplies cosine k' by the Dirichlet kernel D, and n
samples cannot distinguish k' = 2 m n + k or 2 m n - k from k:

    G_kk' = (-1)^m D(k')   for k' = 2 m n +- k,  0 otherwise,      D(k') = sin(pi k' / 2n) / (r sin(pi k' / 2N)).

Each row has the energy sum_k' G_kk'^2 = 1, so for white maps G_kk^2 = D(k)^2 is the fraction of the pooled
coefficient's variance that is the requested frequency; D(k) falls from 1 at k = 0 towards about 2/pi at k = n. Where n
does not divide N the bins overlap and weigh pixels unequally; with c = gcd(N, n) the aliases are k' = 2 m c +- k, and
coefficient 0 has some too: it is no longer the mean of the map. The mean itself never leaks into k > 0.

    N, n         pixels along one axis of the full and of the pooled map
    f_k', g_k    coefficients of the full and of the pooled map, orthonormal, the pooled ones times sqrt(N / n): then
                 G is the identity when nothing is pooled, and G_kk' is also the gain under "mean" for k, k' > 0
    G            [frequency, N], one axis; in two dimensions the gains of the axes multiply

Source: FANet, section 2.2 ("down-samples feature map before calculating frequency components"); FcaNet's code for the
pooling and the scaled index. The closed forms are derived in the chapter "DCT derivation".
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from emseg.checks import require_count
from emseg.errors import UsageError
from emseg.frequency.dct import Normalization, dct_basis, require_index, require_size


def adaptive_pool_matrix(
    size: int, pooled_size: int, *, dtype: torch.dtype = torch.float64, device: torch.device | str | None = None
) -> Float[Tensor, "pooled size"]:
    """Return the matrix of adaptive average pooling along one axis, as torch's `adaptive_avg_pool1d` applies it.

    Row i averages the pixels floor(iN/n) .. ceil((i+1)N/n) - 1. Its rows sum to 1. Its columns sum to n / N only where
    n divides N; elsewhere the bins overlap, and pixels count unequally.
    """
    size, pooled_size = require_size(size), require_count("pooled_size", pooled_size)
    bins = torch.arange(pooled_size)[:, None]
    start = (bins * size) // pooled_size
    stop = ((bins + 1) * size + pooled_size - 1) // pooled_size
    position = torch.arange(size)
    inside = (position >= start) & (position < stop)
    return (inside.to(torch.float64) / (stop - start)).to(dtype).to(device or "cpu")


def pixel_weights(size: int, pooled_size: int) -> Float[Tensor, " size"]:
    """Return how often each pixel counts in the mean of the pooled axis, 1 where all count alike."""
    return adaptive_pool_matrix(size, pooled_size).sum(dim=0) * (size / pooled_size)


def staircase_basis(
    size: int,
    pooled_size: int,
    frequencies: Sequence[int] | None = None,
    *,
    normalization: Normalization = "none",
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
) -> Float[Tensor, "frequency position"]:
    """Return the full-size weights of pooling an axis and then projecting on its cosines, one row a frequency.

    `staircase_basis(N, n) @ x` equals `dct_basis(n) @ pooled x`; `frequencies` (default: all) are indices on the pooled
    axis, and `normalization` is that of the pooled axis.
    """
    cosines = dct_basis(require_count("pooled_size", pooled_size), frequencies, normalization=normalization)
    return (cosines @ adaptive_pool_matrix(size, pooled_size)).to(dtype).to(device or "cpu")


def leakage_spectrum(
    size: int, pooled_size: int, frequencies: Sequence[int] | None = None
) -> Float[Tensor, "frequency size"]:
    """Return G by transforming the staircase: any two sizes, float64."""
    staircase = staircase_basis(size, pooled_size, frequencies, normalization="ortho")
    return staircase @ dct_basis(size, normalization="ortho").mT * math.sqrt(size / pooled_size)


def alias_frequencies(size: int, pooled_size: int, frequency: int) -> tuple[int, ...]:
    """Return the indices k' = 2 m gcd(size, pooled_size) +- k of the full axis that can enter pooled coefficient k."""
    size, pooled_size = require_count("size", size), require_count("pooled_size", pooled_size)
    k = require_index(frequency, pooled_size)
    period = 2 * math.gcd(size, pooled_size)
    return tuple(index for index in range(size) if (index - k) % period == 0 or (index + k) % period == 0)


def leakage_closed_form(size: int, pooled_size: int, frequency: int) -> Float[Tensor, " size"]:
    """Return row k of G from the formula at the top of this module; `pooled_size` must divide `size`."""
    size, pooled_size = require_count("size", size), require_count("pooled_size", pooled_size)
    if size % pooled_size:
        raise UsageError(
            f"the closed form is valid where `pooled_size` divides `size`; got {size} and {pooled_size}. "
            "Use leakage_spectrum, which takes any two sizes."
        )
    n, ratio, k = pooled_size, size // pooled_size, require_index(frequency, pooled_size)
    row = torch.zeros(size, dtype=torch.float64)
    if k == 0:  # D(2 m n) = sin(pi m) / ... = 0: all other aliases vanish
        row[0] = 1.0
        return row
    for alias in alias_frequencies(size, pooled_size, k):
        m = (alias + k) // (2 * n)  # the whole number of 2 n nearest to the alias
        dirichlet = math.sin(math.pi * alias / (2 * n)) / (ratio * math.sin(math.pi * alias / (2 * size)))
        row[alias] = (-1) ** m * dirichlet
    return row
