"""Normalisation and half precision: where f_00 overflows, and what the gates of a fresh attention layer do."""

import pytest
import torch

from chapters.dct_derivation.feature_maps import attention_inputs, power_law_spectrum, random_maps, rectified_maps
from chapters.dct_derivation.normalization import gate_starts, largest_mean_in_half
from emseg.errors import InputError
from emseg.frequency.dct import dct2


@pytest.mark.parametrize("normalization", ["none", "mean", "ortho"])
def test_the_largest_mean_is_where_float16_ends(normalization: str) -> None:
    """Just below the limit f_00 is finite in float16, just above it is not."""
    limit = largest_mean_in_half(256, 256, normalization)
    for factor, finite in ((0.999, True), (1.002, False)):
        f00 = (dct2(torch.full((256, 256), limit * factor), normalization=normalization)[0, 0]).to(torch.float16)
        assert bool(f00.isfinite()) is finite


def test_the_three_limits() -> None:
    """65,504 divided by 65,536, by 256 and by 1."""
    limits = [largest_mean_in_half(256, 256, name) for name in ("none", "ortho", "mean")]
    assert limits == pytest.approx([65504 / 65536, 65504 / 256, 65504])


def test_unnormalised_coefficients_kill_the_gates() -> None:
    """Sparse maps of mean near 0.3 leave most gates flat under "none" and none flat under "mean"."""
    generator = torch.Generator().manual_seed(0)
    maps = rectified_maps(random_maps(power_law_spectrum(128, 128, 1.0), 64, generator))
    starts = gate_starts(maps, generator, n_channels=64)
    assert starts["none"].dead_share > 0.5
    assert starts["mean"].dead_share == 0
    assert starts["mean"].spread < starts["ortho"].spread < starts["none"].spread
    assert starts["none"].largest_input == pytest.approx(128**2 * starts["mean"].largest_input, rel=1e-4)


def test_gates_need_two_groups() -> None:
    with pytest.raises(InputError, match="got 64 channels and 4 maps"):
        gate_starts(torch.ones(4, 8, 8), torch.Generator(), n_channels=64)


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
