"""The cosine transform: equal to scipy and to the textbook, invertible, differentiable, and strict with its input."""

import math

import numpy as np
import pytest
import scipy.fft
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.dct import fcanet_filter_row, textbook_coefficient, textbook_dct2, textbook_printed_inverse
from tolerances import assert_routes_agree

from emseg.errors import InputError, UsageError
from emseg.frequency import dct as dct_module
from emseg.frequency.dct import (
    TOP16,
    dct2,
    dct_basis,
    dct_coefficients,
    idct2,
    resolve_frequencies,
    scaled_index,
)

NORMALIZATIONS = ("none", "mean", "ortho")
# Largest error allowed, relative to the largest value: sums in float32 or float64, results rounded to the dtype.
TOLERANCE = {torch.float64: 1e-13, torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 8e-3}
ROUND_TRIP = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 8e-2}

sizes = st.integers(min_value=1, max_value=40)
seeds = st.integers(min_value=0, max_value=2**32 - 1)
normalizations = st.sampled_from(NORMALIZATIONS)


def noise(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def scipy_dct2(x: torch.Tensor, normalization: str) -> torch.Tensor:
    """Eq. 1 by scipy, whose unnormalised transform is twice Eq. 1 along each axis."""
    values = x.to(torch.float64).numpy()
    if normalization == "ortho":
        return torch.from_numpy(np.asarray(scipy.fft.dctn(values, axes=(-2, -1), norm="ortho")))
    divisor = 4.0 * (x.shape[-1] * x.shape[-2] if normalization == "mean" else 1)
    return torch.from_numpy(np.asarray(scipy.fft.dctn(values, axes=(-2, -1)))) / divisor


def assert_close(got: torch.Tensor, wanted: torch.Tensor, tolerance: float) -> None:
    error = (got.to(torch.float64) - wanted).abs().max()
    assert error <= tolerance * max(1e-300, float(wanted.abs().max())), f"error {error:.3g}"


@pytest.fixture(params=["matrix", "fourier"])
def route(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Force one of the two ways of computing, whatever the size."""
    monkeypatch.setattr(dct_module, "MATRIX_LIMIT", 10**9 if request.param == "matrix" else 0)
    return request.param


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2), (3, 5, 7), (2, 3, 8, 6), (31, 64)])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_dct2_equals_scipy_under_every_normalization(route: str, shape: tuple[int, ...], normalization: str) -> None:
    """Both routes give scipy.fft.dctn over the last two axes, one-pixel and odd sizes and any batch axes included."""
    x = noise(*shape)
    assert_close(dct2(x, normalization=normalization), scipy_dct2(x, normalization), 1e-13)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_dct2_keeps_the_dtype_and_its_accuracy(route: str, dtype: torch.dtype, normalization: str) -> None:
    """In half precision the error is that of rounding the result, not of summing 3000 products in half precision."""
    x = noise(2, 48, 64, dtype=dtype)
    got = dct2(x, normalization=normalization)
    assert got.dtype == dtype
    assert_close(got, scipy_dct2(x, normalization), TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", ROUND_TRIP)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_idct2_returns_the_map_in_every_dtype(route: str, dtype: torch.dtype, normalization: str) -> None:
    """Forward and inverse give the map back to the accuracy of its dtype."""
    x = noise(2, 33, 40, dtype=dtype)
    assert_close(
        idct2(dct2(x, normalization=normalization), normalization=normalization), x.double(), ROUND_TRIP[dtype]
    )


@given(height=sizes, width=sizes, seed=seeds, normalization=normalizations, limit=st.sampled_from([0, 10**9]))
@settings(max_examples=60, deadline=None)
def test_round_trip_is_exact_for_every_size(height: int, width: int, seed: int, normalization: str, limit: int) -> None:
    """idct2 undoes dct2 and dct2 undoes idct2, with an error under 1e-12, for odd, even, one-pixel and oblong maps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dct_module, "MATRIX_LIMIT", limit)
        x = noise(height, width, seed=seed)
        assert (idct2(dct2(x, normalization=normalization), normalization=normalization) - x).abs().max() < 1e-12
        back = dct2(idct2(x, normalization=normalization), normalization=normalization)
        assert (back - x).abs().max() < 1e-12


@given(height=sizes, width=sizes, seed=seeds)
@settings(max_examples=30, deadline=None)
def test_ortho_keeps_energy(height: int, width: int, seed: int) -> None:
    """Parseval: under "ortho" the squares of the coefficients sum to the squares of the pixels."""
    x = noise(height, width, seed=seed)
    assert dct2(x, normalization="ortho").square().sum().item() == pytest.approx(x.square().sum().item(), rel=1e-12)


def test_dct2_equals_the_double_sum_of_eq1() -> None:
    """Eq. 1, written out as two loops."""
    x = noise(6, 5)
    assert_close(dct2(x), torch.tensor(textbook_dct2(x.tolist()), dtype=torch.float64), 1e-13)


@pytest.mark.parametrize("shape", [(1, 1), (5, 8), (16, 9)])
def test_eq2_as_printed_returns_the_map_plus_its_means(shape: tuple[int, int]) -> None:
    """The sum of all cosines with weight one is H W / 4 (x + row means + column means + grand mean), not the map."""
    x = noise(*shape) + 1.0
    down, across = (dct_basis(size) for size in shape)
    printed = down.mT @ dct2(x) @ across
    assert_close(printed, torch.tensor(textbook_printed_inverse(dct2(x).tolist()), dtype=torch.float64), 1e-12)
    means = x + x.mean(dim=0) + x.mean(dim=1, keepdim=True) + x.mean()
    assert_close(printed, x.numel() / 4 * means, 1e-12)


@given(height=sizes, width=sizes, seed=seeds)
@settings(max_examples=25, deadline=None)
def test_eq3_the_lowest_coefficient_is_the_sum(height: int, width: int, seed: int) -> None:
    """f_00 = H W GAP(x) under "none" and GAP(x) under "mean"."""
    x = noise(height, width, seed=seed) + 3.0
    gap = torch.nn.functional.adaptive_avg_pool2d(x[None], 1).item()
    assert dct2(x)[0, 0].item() == pytest.approx(height * width * gap, rel=1e-12)
    assert dct_coefficients(x, [(0, 0)], normalization="mean").item() == pytest.approx(gap, rel=1e-12)


def test_eq3_overflows_float16_at_256() -> None:
    """A 256 x 256 map of ones has f_00 = 65,536, which float16 cannot hold; as a mean it is 1."""
    ones = torch.ones(256, 256, dtype=torch.float16)
    assert dct2(ones)[0, 0].isinf()
    assert dct2(ones, normalization="mean")[0, 0] == 1
    assert dct2(ones, normalization="ortho")[0, 0] == 256
    assert dct2(ones * 0.99)[0, 0].isfinite()


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_chosen_coefficients_are_those_of_the_whole_transform(normalization: str) -> None:
    """Eq. 4 by two thin products equals the matching entries of dct2, in the order asked for and with repeats."""
    x = noise(2, 3, 20, 11)
    pairs = [*TOP16, (19, 10), (0, 0)]
    whole = dct2(x, normalization=normalization)
    wanted = torch.stack([whole[..., h, w] for h, w in pairs], dim=-1)
    assert_close(dct_coefficients(x, pairs, normalization=normalization), wanted, 1e-13)


def test_scaled_indexing_reads_another_frequency() -> None:
    """On 56 pixels FcaNet's (6, 0) is index 48 of Eq. 1."""
    x = noise(56, 56)
    got = dct_coefficients(x, [(6, 3)], normalization="none", indexing="scaled")
    assert got.item() == pytest.approx(textbook_coefficient(x.tolist(), 48, 24), rel=1e-10)


@pytest.mark.parametrize(
    ("frequency", "size", "index"), [(6, 7, 6), (6, 14, 12), (6, 56, 48), (6, 256, 216), (3, 13, 3), (0, 900, 0)]
)
def test_scaled_index_is_fcanets(frequency: int, size: int, index: int) -> None:
    """The index times size // 7."""
    assert scaled_index(frequency, size) == index


@pytest.mark.parametrize("size", [1, 7, 14, 25])
def test_ortho_basis_is_fcanets_filter(size: int) -> None:
    """The rows of the orthonormal basis are FcaNet's filters, and they are orthonormal."""
    basis = dct_basis(size, normalization="ortho")
    wanted = torch.tensor([fcanet_filter_row(size, k) for k in range(size)], dtype=torch.float64)
    assert (basis - wanted).abs().max() < 1e-14
    assert (basis @ basis.mT - torch.eye(size, dtype=torch.float64)).abs().max() < 1e-13


def test_the_basis_keeps_its_digits_at_high_frequencies() -> None:
    """cos(pi k (2u + 1) / 2N) is right to 12 digits for k, u near 4096."""
    size, k = 4096, 4095
    row = dct_basis(size, [k])[0]
    wanted = [(-1) ** u * math.sin(math.pi * (2 * u + 1) / (2 * size)) for u in (0, 1, 2047, 4095)]
    assert row[[0, 1, 2047, 4095]].tolist() == pytest.approx(wanted, rel=1e-12)


def test_table1_has_sixteen_distinct_entries_and_mostly_axis_aligned_ones() -> None:
    """Twelve of the sixteen pairs vary along one axis only, or along none."""
    assert len(set(TOP16)) == 16
    assert TOP16[0] == (0, 0)
    assert sum(h == 0 or w == 0 for h, w in TOP16) == 12
    assert all(0 <= h < 7 and 0 <= w < 7 for h, w in TOP16)


def test_gradients_flow_through_both_routes(route: str) -> None:
    """First and second derivatives agree with finite differences."""
    x = noise(3, 4).requires_grad_()
    for transform in (dct2, idct2):
        assert torch.autograd.gradcheck(lambda t, f=transform: f(t, normalization="ortho"), (x,))
        squared = lambda t, f=transform: f(t, normalization="mean").square()  # noqa: E731
        assert torch.autograd.gradgradcheck(squared, (x,), fast_mode=True)


def test_gradients_flow_to_the_chosen_coefficients() -> None:
    """dct_coefficients is differentiable, and the gradient is the basis itself."""
    x = noise(1, 7, 8).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: dct_coefficients(t), (x,))
    dct_coefficients(x, [(2, 3)], normalization="none").sum().backward()
    assert x.grad is not None
    outer = dct_basis(7, [2]).mT @ dct_basis(8, [3])
    assert (x.grad[0] - outer).abs().max() < 1e-14


def test_inference_mode_does_not_spoil_later_training(route: str) -> None:
    """Tables cached while inference mode was on can still be used under autograd."""
    with torch.inference_mode():
        dct2(noise(19, 23))
        dct_coefficients(noise(19, 23), [(1, 17)])
    x = noise(19, 23).requires_grad_()
    (dct2(x).sum() + dct_coefficients(x, [(1, 17)]).sum()).backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_autocast_does_not_reduce_the_sums(route: str) -> None:
    """Under bfloat16 autocast a float32 map is still transformed in float32."""
    x = noise(40, 40, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got, chosen = dct2(x), dct_coefficients(x, [(3, 2)], normalization="none")
    assert got.dtype == torch.float32
    assert_close(got, scipy_dct2(x, "none"), 1e-5)
    assert chosen.item() == pytest.approx(got[3, 2].item(), rel=1e-4)


def test_any_memory_layout_gives_the_same(route: str) -> None:
    """Channels-last and sliced maps give what a copy of them gives."""
    x = noise(2, 6, 10, 12)
    assert_routes_agree(dct2(x.to(memory_format=torch.channels_last)), dct2(x))
    sliced = noise(3, 20, 24)[:, ::2, 1::2]
    assert_routes_agree(dct2(sliced), dct2(sliced.contiguous()))
    assert_routes_agree(idct2(sliced), idct2(sliced.contiguous()))


def test_the_map_is_left_alone(route: str) -> None:
    """Neither direction writes to its input."""
    x = noise(5, 6)
    kept = x.clone()
    dct2(x), idct2(x)
    assert torch.equal(x, kept)


def test_nan_shows_in_the_result() -> None:
    """A NaN pixel is not refused; it makes every coefficient that sees it NaN."""
    x = noise(4, 4)
    x[1, 2] = math.nan
    assert dct2(x).isnan().all()


def test_an_empty_batch_stays_empty() -> None:
    """No maps in, no maps out."""
    assert dct2(torch.zeros(0, 3, 5, 4)).shape == (0, 3, 5, 4)
    assert dct_coefficients(torch.zeros(0, 7, 7)).shape == (0, 16)


BAD_MAPS = [
    (np.zeros((4, 4)), "must be a torch tensor; got ndarray"),
    ([[1.0, 2.0]], "must be a torch tensor; got list"),
    (torch.zeros(8), r"must have the shape \(\.\.\., height, width\); got shape \(8,\)"),
    (torch.tensor(1.0), r"got shape \(\)"),
    (torch.zeros(4, 4, dtype=torch.int64), "got torch.int64"),
    (torch.zeros(4, 4, dtype=torch.uint8), "got torch.uint8"),
    (torch.zeros(4, 4, dtype=torch.bool), "got torch.bool"),
    (torch.zeros(4, 4, dtype=torch.complex64), "got torch.complex64"),
    (torch.zeros(3, 0, 4), r"at least one row and one column; got shape \(3, 0, 4\)"),
    (torch.zeros(4, 0), r"at least one row and one column; got shape \(4, 0\)"),
]


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize(("bad", "message"), BAD_MAPS)
@pytest.mark.parametrize("function", [dct2, idct2, dct_coefficients])
def test_what_is_no_map_is_refused(function: object, bad: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        function(bad)  # type: ignore[operator]


BAD_FREQUENCIES = [
    ([(7, 0)], "`frequency h` must be a whole number from 0 to 6"),
    ([(0, 9)], "`frequency w` must be a whole number from 0 to 8"),
    ([(-1, 0)], "got -1"),
    ([(1.5, 0)], "got 1.5"),
    ([(True, 0)], "got True"),
    ([("1", 0)], "got '1'"),
    ([], "at least one pair"),
    ([3], r"must be a pair \(h, w\); got 3"),
    ([(1, 2, 3)], r"must be a pair \(h, w\)"),
    (["ab"], r"must be a pair \(h, w\)"),
]


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize(("frequencies", "message"), BAD_FREQUENCIES)
def test_frequencies_that_the_map_has_not_are_refused(frequencies: list[object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        dct_coefficients(torch.zeros(7, 9), frequencies)  # type: ignore[arg-type]


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: dct2(torch.zeros(4, 4), normalization="orto"),
            "one of 'none', 'mean', 'ortho'; got 'orto'. Did you mean 'ortho'",
        ),
        (lambda: idct2(torch.zeros(4, 4), normalization=None), "got None"),
        (lambda: dct_basis(0), "must be a whole number of at least 1; got 0"),
        (lambda: dct_basis(4.0), "must be a whole number of at least 1; got 4.0"),
        (lambda: dct_basis(4, [4]), "from 0 to 3"),
        (lambda: dct_basis(4, dtype=torch.int32), "got torch.int32"),
        (lambda: scaled_index(6, 6), "needs at least 7 pixels along each axis, one for each part; got 6"),
        (lambda: scaled_index(7, 56), "from 0 to 6"),
        (lambda: resolve_frequencies([(0, 0)], 8, 8, "skaled"), "Did you mean 'scaled'"),
        (lambda: dct_coefficients(torch.zeros(5, 9), indexing="scaled"), "got 5"),
    ],
)
def test_undefined_requests_are_refused(call: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()  # type: ignore[operator]
