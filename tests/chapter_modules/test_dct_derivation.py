"""The chapter on the cosine transform: what pooling costs, the maps it is measured on, and figures that show it."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch.nn import functional

from chapters.dct_derivation import (
    Stage,
    attention_inputs,
    backbone_stages,
    expected_loss,
    expected_pooling,
    measured_loss,
    measured_pooling,
    monte_carlo_deviations,
    n_same_entries,
    power_law_spectrum,
    random_maps,
    rectified_loss,
    rectified_maps,
    report_by_stage,
    section_drawing,
    staircase_frames,
)
from emseg.errors import InputError, UsageError
from emseg.frequency.aliasing import leakage_spectrum
from emseg.frequency.dct import TOP16, dct2, dct_basis


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_nothing_is_lost_when_nothing_is_pooled() -> None:
    """Where FcaNet's sizes are the map's own, as on a 224-pixel image, no variance is lost."""
    assert expected_loss(backbone_stages(224, 224), [0.0, 1.0], "scaled").abs().max() < 1e-12


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
    first, last = (expected_pooling(Stage(*sizes), 1.0, "scaled", TOP16) for sizes in ((256, 256, 56), (32, 32, 7)))
    assert first.r_squared[0] > 0.999
    assert first.r_squared[1:].max() < 0.01
    assert last.r_squared.min() > 0.7
    assert n_same_entries((Stage(256, 256, 56), Stage(32, 32, 7)), 1.0) == [1, 16]


def test_measured_loss_of_sparse_maps_is_zero_without_pooling() -> None:
    """Rectified maps at FcaNet's own sizes lose nothing, and larger ones do."""
    own = [Stage(size, size, size) for size in (56, 28, 14, 7)]
    assert rectified_loss(own, 1.0, 20, torch.Generator(), "scaled").abs().max() < 1e-6
    larger = [random_maps(power_law_spectrum(4 * n, 4 * n, 1.0), 20, torch.Generator()) for n in (56, 28, 14, 7)]
    assert (measured_loss(larger, "scaled").mean(dim=1) > 0.01).all()


def test_pooled_coefficients_are_the_pipeline_of_fcanet() -> None:
    """The map's own coefficient is compared with pooling followed by FcaNet's filter, over two batches."""
    x = noise(70, 20, 26).float()
    filter_ = dct_basis(14, [6])[0, :, None] * dct_basis(14, [10])[0] / 14**2
    pooled = (functional.adaptive_avg_pool2d(x.double(), 14) * filter_).sum(dim=(1, 2))
    full = dct2(x.double(), normalization="mean")[:, 6, 10]
    found = measured_pooling(x, 14, "scaled")
    entry = TOP16.index((3, 5))
    assert found.r_squared[entry].item() == pytest.approx(np.corrcoef(full, pooled)[0, 1] ** 2, rel=1e-4)
    assert found.gain[entry].item() == pytest.approx(np.polyfit(full, pooled, 1)[0], rel=1e-4)
    error = (pooled - full).square().mean() / full.square().mean()
    assert found.relative_error[entry].item() == pytest.approx(error.item(), rel=1e-4)


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

        def metric(self, name: str, value: float, *, n: int, label: str, data: object) -> None:
            self.rows[name] = value

    ledger = Ledger()
    report_by_stage(ledger, "lost", torch.tensor([[1.0, 3.0], [5.0, 7.0]]), n=2, label="Lost")
    assert ledger.rows == {"lost_stage_1": 2.0, "lost_stage_2": 6.0, "lost": 4.0}


def test_attention_inputs_have_the_sizes_of_a_resnet_and_leave_the_random_state_alone() -> None:
    """Four stages with strides 4 to 32 and 64 to 512 channels, each channel normalised; the seed alone decides."""
    images = torch.rand((2, 1, 64, 64), generator=torch.Generator().manual_seed(1))
    before = torch.random.get_rng_state()
    maps = attention_inputs(images, seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert [tuple(stage.shape) for stage in maps] == [(128, 16, 16), (256, 8, 8), (512, 4, 4), (1024, 2, 2)]
    assert maps[0].reshape(2, 64, 16, 16).mean(dim=(0, 2, 3)).abs().max() < 1e-4
    assert all(torch.equal(a, b) for a, b in zip(maps, attention_inputs(images, seed=3), strict=True))


@pytest.mark.parametrize("shape", [(1, 64, 64), (1, 3, 64, 64), (1, 1, 31, 64)])
def test_attention_inputs_refuse_what_is_no_batch_of_grey_images(shape: tuple[int, ...]) -> None:
    with pytest.raises((InputError, TypeError), match=r"shape|Type-check"):
        attention_inputs(torch.zeros(shape), seed=0)


def test_the_section_drawing_is_one_bright_shape_inside_the_map() -> None:
    """Values are 0 and 1, the rim is dark, and the shape covers some percent."""
    drawing = section_drawing(96)
    assert set(drawing.unique().tolist()) == {0.0, 1.0}
    assert drawing[0].sum() + drawing[-1].sum() + drawing[:, 0].sum() + drawing[:, -1].sum() == 0
    assert 0.03 < drawing.mean() < 0.3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: power_law_spectrum(8, 8, -1.0), "`alpha` must be a finite number at least 0 and at most 4; got -1.0"),
        (lambda: power_law_spectrum(8, 8, math.nan), "got nan"),
        (lambda: rectified_maps(noise(2, 3, 3), 0.0), "greater than 0 and below 1; got 0.0"),
        (lambda: random_maps(torch.ones(3, 3), 0, torch.Generator()), "`n_maps` must be a whole number of at least 1"),
    ],
)
def test_undefined_requests_are_refused(call: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()  # type: ignore[operator]


def test_the_staircase_figure_shows_a_picture_for_each_frequency_with_its_losses() -> None:
    """Blue is the gain of the intended frequency; white noise loses 1 minus its square where bins do not overlap."""
    frames = staircase_frames(Stage(28, 28, 7), 1.0)
    assert list(frames) == [f"(0, {w})" for w in range(7)]
    figure, alt = frames["(0, 6)"]
    (gain,) = figure.axes[1].lines[-1].get_ydata()
    assert gain == pytest.approx(float(leakage_spectrum(28, 7, [6])[0, 6]))
    assert f"white noise: {100 * (1 - gain**2):.2g} %" in alt
    assert "no alias" in frames["(0, 0)"][1]
    plt.close("all")
