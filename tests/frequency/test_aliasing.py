"""Pooling before the transform: the staircase, its leakage spectrum in closed form, and what it costs."""

import math
from collections.abc import Iterator

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from chapters.dct_derivation.feature_maps import power_law_spectrum, random_maps, rectified_maps
from chapters.dct_derivation.pooling_loss import (
    Stage,
    backbone_stages,
    expected_loss,
    expected_pooling,
    full_and_pooled,
    measured_loss,
    measured_pooling,
    monte_carlo_deviations,
    n_same_entries,
    report_by_stage,
    same_entry,
)
from emseg.errors import InputError, UsageError
from emseg.frequency.aliasing import (
    adaptive_pool_matrix,
    alias_frequencies,
    expected_agreement,
    leakage_closed_form,
    leakage_spectrum,
    measured_agreement,
    pixel_weights,
    staircase_basis,
)
from emseg.frequency.dct import TOP16, dct2, dct_basis, dct_coefficients

SIZES = [(256, 56), (128, 28), (64, 14), (32, 7), (200, 56), (25, 7), (336, 56), (50, 14), (7, 7), (9, 1), (5, 7)]
INTEGER_RATIOS = [(7, 7), (12, 3), (28, 7), (56, 7), (84, 14), (336, 56), (5, 1), (15, 5), (1, 1)]


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def without_type_checks() -> Iterator[None]:
    """Call the library as its users do: the tests' checking of annotations would refuse bad arguments first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


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


def test_nothing_is_lost_when_nothing_is_pooled() -> None:
    """At the size FcaNet pools to, such as 56 for the first stage of a 224-pixel image, the gains are the identity."""
    assert (leakage_spectrum(56, 56) - torch.eye(56, dtype=torch.float64)).abs().max() < 1e-12
    assert expected_loss(backbone_stages(224, 224), [0.0, 1.0], "scaled").abs().max() < 1e-12


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


@pytest.mark.parametrize("alpha", [0.0, 1.0, 2.0])
@pytest.mark.parametrize(("height", "width", "pooled"), [(32, 32, 7), (25, 42, 7), (28, 28, 14)])
def test_expected_agreement_is_what_random_maps_show(height: int, width: int, pooled: int, alpha: float) -> None:
    """The closed form of r_squared, gain and relative error lies within sampling error of 3000 maps."""
    n_maps = 3000
    stage = Stage(height, width, pooled)
    maps = random_maps(power_law_spectrum(height, width, alpha), n_maps, torch.Generator().manual_seed(5))
    expected = expected_pooling(stage, alpha, "scaled")
    measured = measured_pooling(maps, pooled, "scaled")
    below_one = 1 - 1e-12  # (0, 0) is the mean exactly where whole bins are pooled
    r, rho = (found.r_squared.clamp(max=below_one).sqrt().atanh() for found in (measured, expected))
    lossy = expected.r_squared < below_one
    assert ((r - rho) * math.sqrt(n_maps - 3))[lossy].abs().max() < 4.5
    assert measured.r_squared[~lossy].sub(1).abs().sum() < 1e-6
    assert (measured.relative_error - expected.relative_error).abs().max() < 0.15 * expected.relative_error.max()
    standard_error = (expected.gain.square() * (1 / expected.r_squared - 1).clamp(min=0) / n_maps).sqrt()
    assert ((measured.gain - expected.gain).abs() <= 4.5 * standard_error + 1e-6).all()


def test_monte_carlo_deviations_look_standard_normal() -> None:
    """Over stages and exponents, deviations have a spread near one standard error and no mean to speak of."""
    stages = (Stage(64, 64, 14), Stage(32, 32, 7), Stage(25, 42, 7))
    z = monte_carlo_deviations(stages, [0.0, 1.0], 600, torch.Generator().manual_seed(1))
    assert z.shape == (96,)
    assert 0.75 < z.std().item() < 1.3
    assert z.abs().max() < 4.5


def test_a_wrong_expectation_would_be_noticed() -> None:
    """The same check fails when the spectrum handed to the formula is not that of the maps."""
    maps = random_maps(power_law_spectrum(32, 32, 0.0), 600, torch.Generator().manual_seed(2))
    wrong = expected_pooling(Stage(32, 32, 7), 0.3, "scaled").r_squared
    z = (measured_pooling(maps, 7, "scaled").r_squared.sqrt().atanh() - wrong.clamp(max=0.999999).sqrt().atanh()) * 24
    assert z.abs().max() > 4.5


def test_the_smoother_the_map_the_less_pooling_costs() -> None:
    """Expected loss falls with alpha at every stage up to 1.5, raw and scaled (beyond, uneven bins leak the lowest)."""
    stages = backbone_stages(1024, 1024)
    for indexing in ("raw", "scaled"):
        loss = expected_loss(stages, [0.0, 0.5, 1.0, 1.5], indexing).mean(dim=-1)
        assert (loss.diff(dim=0) < 0).all()


def test_raw_frequencies_lose_less_than_scaled_ones_until_both_are_the_same() -> None:
    """At 56, 28 and 14 the raw indices are low and almost nothing is lost; at 7 raw and scaled coincide."""
    stages = backbone_stages(1024, 1024)
    raw, scaled = (expected_loss(stages, [1.0], indexing)[0].mean(dim=-1) for indexing in ("raw", "scaled"))
    assert (raw[:3] < 0.1 * scaled[:3]).all()
    assert raw[3].item() == pytest.approx(scaled[3].item())


def test_fcanet_and_fanet_measure_different_frequencies_before_the_last_stage() -> None:
    """Of Table 1's entries only (0, 0) is one frequency to both at 256; at 32, pooled to 7, all sixteen are."""
    first, last = same_entry(Stage(256, 256, 56), 1.0), same_entry(Stage(32, 32, 7), 1.0)
    assert first.r_squared[0] > 0.999
    assert first.r_squared[1:].max() < 0.01
    assert last.r_squared.min() > 0.7
    assert n_same_entries((Stage(256, 256, 56), Stage(32, 32, 7)), 1.0) == [1, 16]


def test_measured_loss_of_sparse_maps_is_zero_without_pooling() -> None:
    """Rectified maps at FcaNet's own sizes lose nothing."""
    maps = [rectified_maps(random_maps(power_law_spectrum(n, n, 1.0), 20, torch.Generator())) for n in (56, 28, 14, 7)]
    assert measured_loss(maps, "scaled").abs().max() < 1e-6


def test_pooled_coefficients_are_the_pipeline_of_fcanet() -> None:
    """full_and_pooled compares the map's own coefficient with adaptive pooling followed by FcaNet's filter."""
    x = noise(3, 20, 26).float()
    full, pooled = full_and_pooled(x, 14, "scaled")
    entry = TOP16.index((3, 5))
    filter_ = dct_basis(14, [6])[0, :, None] * dct_basis(14, [10])[0] / 14**2
    wanted = (functional.adaptive_avg_pool2d(x.double(), 14) * filter_).sum(dim=(1, 2))
    assert (pooled[:, entry] - wanted).abs().max() < 1e-6
    assert (full[:, entry] - dct_coefficients(x, [(6, 10)])[:, 0]).abs().max() < 1e-6


def test_measured_agreement_ignores_scale_and_offset_but_not_noise() -> None:
    """r_squared is one for any line, and relative_error still tells the values apart."""
    x = noise(50, 2)
    line = measured_agreement(x, 3 * x + 1)
    assert line.r_squared.tolist() == pytest.approx([1, 1])
    assert line.gain.tolist() == pytest.approx([3, 3])
    assert (line.relative_error > 1).all()
    assert measured_agreement(x, x + noise(50, 2, seed=1)).r_squared.max() < 0.8


def test_rectified_maps_are_as_sparse_as_asked() -> None:
    """One pixel in five stays, and none is negative."""
    sparse = rectified_maps(noise(4, 30, 30), 0.2)
    assert sparse.min() == 0
    assert (sparse > 0).double().mean().item() == pytest.approx(0.2, abs=1e-3)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 1.7])
def test_random_maps_have_the_spectrum_asked_for(alpha: float) -> None:
    """Mean squared coefficients over 2000 maps follow the spectrum, and a pixel has variance one on average."""
    spectrum = power_law_spectrum(12, 10, alpha)
    maps = random_maps(spectrum, 2000, torch.Generator().manual_seed(3))
    measured = dct2(maps, normalization="ortho").double().square().mean(dim=0)
    assert (measured / spectrum - 1).abs().max() < 6 * math.sqrt(2 / 2000)
    assert spectrum.mean().item() == pytest.approx(1)


def test_report_by_stage_names_every_stage_and_the_mean() -> None:
    """Four stages give four metrics and one over all."""

    class Ledger:
        def __init__(self) -> None:
            self.rows: dict[str, float] = {}

        def metric(self, name: str, value: float, *, n: int, label: str) -> None:
            self.rows[name] = value

    ledger = Ledger()
    report_by_stage(ledger, "lost", torch.tensor([[1.0, 3.0], [5.0, 7.0]]), n=2, label="Lost")
    assert ledger.rows == {"lost_stage_1": 2.0, "lost_stage_2": 6.0, "lost": 4.0}


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: adaptive_pool_matrix(0, 7), UsageError, "`size` must be at least 1; got 0"),
        (lambda: adaptive_pool_matrix(8, 2.5), UsageError, "`pooled_size` must be a whole number; got 2.5"),
        (lambda: staircase_basis(32, 7, [7]), UsageError, "from 0 to 6"),
        (lambda: leakage_closed_form(32, 7, 1), UsageError, "got 32 and 7. Use leakage_spectrum"),
        (lambda: leakage_closed_form(28, 7, 9), UsageError, "from 0 to 6"),
        (lambda: expected_agreement(torch.ones(8), (2, 2), [(0, 0)]), InputError, r"got shape \(8,\)"),
        (lambda: expected_agreement(-torch.ones(8, 8), (2, 2), [(0, 0)]), InputError, "a negative value or NaN"),
        (lambda: expected_agreement(torch.zeros(8, 8), (2, 2), [(0, 1)]), InputError, r"it is 0 at \(0, 1\)"),
        (lambda: expected_agreement(torch.ones(8, 8), (2, 2), [(0, 1)], [(0, 1), (1, 1)]), UsageError, "got 1 and 2"),
        (lambda: expected_agreement(torch.ones(8, 8), (4, 4), [(4, 0)]), UsageError, "from 0 to 3"),
        (lambda: measured_agreement(noise(2, 3), noise(2, 3)), InputError, "at least 3 maps"),
        (lambda: measured_agreement(noise(5, 3), noise(5, 2)), InputError, r"got \(5, 3\) and \(5, 2\)"),
        (lambda: power_law_spectrum(8, 8, -1.0), UsageError, "between 0"),
        (lambda: power_law_spectrum(8, 8, math.nan), UsageError, "got nan"),
        (lambda: rectified_maps(noise(2, 3, 3), 0.0), UsageError, "between 0 and 1; got 0.0"),
        (lambda: random_maps(torch.ones(3, 3), 0, torch.Generator()), UsageError, "`n_maps` must be at least 1"),
        (lambda: measured_loss([noise(4, 9, 9)], "raw"), InputError, "each of 4 stages is needed; got 1"),
    ],
)  # fmt: skip
def test_undefined_requests_are_refused(call: object, error: type[ValueError], message: str) -> None:
    with pytest.raises(error, match=message):
        call()  # type: ignore[operator]
