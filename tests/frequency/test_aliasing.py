"""Pooling before the transform: the staircase and its leakage spectrum in closed form."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from emseg.errors import UsageError
from emseg.frequency.aliasing import (
    adaptive_pool_matrix,
    alias_frequencies,
    leakage_closed_form,
    leakage_spectrum,
    pixel_weights,
    staircase_basis,
)
from emseg.frequency.dct import dct2

SIZES = [(256, 56), (128, 28), (64, 14), (32, 7), (200, 56), (25, 7), (336, 56), (50, 14), (7, 7), (9, 1), (5, 7)]
INTEGER_RATIOS = [(7, 7), (12, 3), (28, 7), (56, 7), (84, 14), (336, 56), (5, 1), (15, 5), (1, 1)]


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("size", "pooled"), SIZES)
def test_the_pool_matrix_is_torchs_adaptive_average_pooling(size: int, pooled: int) -> None:
    """The matrix gives what torch gives, also where the pooled axis does not divide the full one, or is longer."""
    x = noise(3, size)
    wanted = functional.adaptive_avg_pool1d(x, pooled)
    assert (x @ adaptive_pool_matrix(size, pooled).mT - wanted).abs().max() < 1e-14


@pytest.mark.parametrize(("size", "pooled"), SIZES)
@pytest.mark.parametrize("normalization", ["none", "mean", "ortho"])
def test_pooling_then_projecting_is_projecting_on_the_staircase(size: int, pooled: int, normalization: str) -> None:
    """Coefficients of the pooled map are the full map's products with two staircases."""
    x = noise(2, size, size + 3)
    small = functional.adaptive_avg_pool2d(x, (pooled, pooled))
    rows = staircase_basis(size, pooled, normalization=normalization)
    columns = staircase_basis(size + 3, pooled, normalization=normalization)
    difference = rows @ x @ columns.mT - dct2(small, normalization=normalization)
    assert difference.abs().max() < 1e-11 * max(1.0, dct2(small, normalization=normalization).abs().max().item())


@pytest.mark.parametrize(("size", "pooled"), INTEGER_RATIOS)
def test_the_closed_form_is_the_leakage_spectrum(size: int, pooled: int) -> None:
    """Dirichlet gains with alternating signs at 2mn +- k and nothing elsewhere, to 1e-12, for every frequency."""
    spectrum = leakage_spectrum(size, pooled)
    for frequency in range(pooled):
        assert (leakage_closed_form(size, pooled, frequency) - spectrum[frequency]).abs().max() < 1e-12


@given(pooled=st.integers(1, 20), ratio=st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_whole_bins_keep_unit_energy(pooled: int, ratio: int) -> None:
    """Where the pooled size divides the full one, the squared gains of every coefficient sum to one."""
    spectrum = leakage_spectrum(pooled * ratio, pooled)
    assert spectrum.square().sum(dim=1).sub(1).abs().max() < 1e-12


@given(pooled=st.integers(1, 20), size=st.integers(1, 80))
@settings(max_examples=60, deadline=None)
def test_only_aliases_leak(pooled: int, size: int) -> None:
    """Coefficient k of the pooled axis holds indices 2m gcd +- k of the full axis and no others."""
    spectrum = leakage_spectrum(size, pooled)
    for frequency in range(pooled):
        other = torch.ones(size, dtype=torch.bool)
        other[list(alias_frequencies(size, pooled, frequency))] = False
        assert spectrum[frequency][other].abs().sum() < 1e-11


@pytest.mark.parametrize(("size", "pooled"), SIZES)
def test_a_constant_never_leaks(size: int, pooled: int) -> None:
    """The mean of the map reaches pooled coefficient 0 in full and no other, since every bin is an average."""
    first = leakage_spectrum(size, pooled)[:, 0]
    assert first[0].item() == pytest.approx(1)
    assert first[1:].abs().sum() < 1e-12


def test_the_gain_falls_to_about_two_thirds_at_the_last_frequency() -> None:
    """With many pixels a bin, D(k) tends to sinc(k / 2n): 2 / pi as k nears n, and 1 at k = 0."""
    last = leakage_spectrum(56 * 40, 56, [0, 28, 55]).gather(1, torch.tensor([[0], [28], [55]])).flatten()
    wanted = [1.0, math.sin(math.pi / 4) / (math.pi / 4), math.sin(math.pi * 55 / 112) / (math.pi * 55 / 112)]
    assert last.tolist() == pytest.approx(wanted, rel=1e-3)


def test_fcanets_mean_is_no_mean_at_256() -> None:
    """Adaptive bins from 256 to 56 overlap: pixels weigh 0.76 to 1.68, and where 56 divides the size, all weigh 1."""
    weights = pixel_weights(256, 56)
    assert weights.min().item() == pytest.approx(16 / 21)
    assert weights.max().item() == pytest.approx(176 / 105)
    assert weights.mean().item() == pytest.approx(1)
    assert (pixel_weights(336, 56) - 1).abs().max() < 1e-12


def test_a_constant_map_has_no_other_coefficients_after_pooling() -> None:
    """The staircases of k > 0 sum to zero."""
    assert staircase_basis(256, 56)[1:].sum(dim=1).abs().max() < 1e-12


def test_nothing_leaks_when_nothing_is_pooled() -> None:
    """At the size FcaNet pools to, such as 56 for the first stage of a 224-pixel image, the gains are the identity."""
    assert (leakage_spectrum(56, 56) - torch.eye(56, dtype=torch.float64)).abs().max() < 1e-12


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: adaptive_pool_matrix(0, 7), "`size` must be a whole number of at least 1; got 0"),
        (lambda: adaptive_pool_matrix(8, 2.5), "`pooled_size` must be a whole number of at least 1; got 2.5"),
        (lambda: staircase_basis(32, 7, [7]), "from 0 to 6"),
        (lambda: leakage_closed_form(32, 7, 1), "got 32 and 7. Use leakage_spectrum"),
        (lambda: leakage_closed_form(28, 7, 9), "from 0 to 6"),
    ],
)
def test_undefined_requests_are_refused(call: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()  # type: ignore[operator]
