"""dct_pool: equal to scipy and the textbook in every layout and dtype, equivariant, differentiable, and thrifty."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.channel_description import textbook_description
from tolerances import assert_routes_agree
from torch.nn import functional

from chapters.channel_attention import held_bytes
from emseg.errors import InputError, UsageError
from emseg.frequency import TOP16, dct_basis, dct_pool
from emseg.frequency import projection as projection_module

# Largest error allowed, relative to the largest value: sums in float32 or float64, the result rounded to the dtype.
TOLERANCE = {torch.float64: 1e-13, torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 8e-3}
NORMALIZATIONS = ("none", "mean", "ortho")
LAYOUTS = ("contiguous", "channels last", "sliced", "transposed")
# Channels a group on either side of JOINT_CHANNELS and of WIDE_GROUP, which BLOCKS divides and does not.
GROUP_SIZES = (1, 3, projection_module.JOINT_CHANNELS, projection_module.WIDE_GROUP + 1)

seeds = st.integers(min_value=0, max_value=2**32 - 1)


def noise(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0, layout: str = "contiguous") -> torch.Tensor:
    """Random maps in one of the layouts; the mean is not zero, as behind a ReLU."""
    generator = torch.Generator().manual_seed(seed)
    if layout == "sliced":
        wide = torch.randn((*shape[:-1], 2 * shape[-1]), generator=generator, dtype=torch.float64) + 1
        return wide.to(dtype)[..., ::2]
    if layout == "transposed":
        turned = torch.randn((*shape[:2], shape[3], shape[2]), generator=generator, dtype=torch.float64) + 1
        return turned.to(dtype).mT
    x = (torch.randn(shape, generator=generator, dtype=torch.float64) + 1).to(dtype)
    return x.to(memory_format=torch.channels_last) if layout == "channels last" else x


def scipy_transform(x: torch.Tensor, normalization: str = "mean") -> torch.Tensor:
    """Eq. 1 by scipy for every map; scipy's unnormalised transform is twice Eq. 1 along each axis."""
    values = x.to(torch.float64).numpy()
    if normalization == "ortho":
        return torch.from_numpy(np.asarray(scipy.fft.dctn(values, axes=(-2, -1), norm="ortho")))
    pixels = values.shape[-2] * values.shape[-1] if normalization == "mean" else 1
    return torch.from_numpy(np.asarray(scipy.fft.dctn(values, axes=(-2, -1)))) / (4 * pixels)


def chosen(whole: torch.Tensor, frequencies: tuple[tuple[int, int], ...]) -> torch.Tensor:
    """Eq. 5 from the whole transform of every map."""
    parts = whole.chunk(len(frequencies), dim=1)
    return torch.cat([part[:, :, h, w] for part, (h, w) in zip(parts, frequencies, strict=True)], dim=1)


def assert_close(got: torch.Tensor, wanted: torch.Tensor, tolerance: float) -> None:
    error = (got.to(torch.float64) - wanted).abs().max()
    assert error <= tolerance * max(1e-300, float(wanted.abs().max())), f"error {error:.3g}"


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("shape", "group_size"), [((9, 14), 1), ((20, 31), 33), ((40, 31), 8), ((150, 131), 3), ((131, 150), 8)]
)
def test_each_frequency_equals_scipys(shape: tuple[int, int], group_size: int, layout: str, dtype: torch.dtype) -> None:
    """Every entry of Table 1, in every layout and dtype, on maps on both sides of JOINT_PIXELS; half precision is
    wrong by the rounding of the result only.
    """
    x = noise(2, group_size * 4, *shape, dtype=dtype, layout=layout)
    whole = scipy_transform(x)
    for first in range(1, len(TOP16), 3):
        frequencies = ((0, 0), *TOP16[first : first + 3])
        got = dct_pool(x, frequencies)
        assert got.dtype == dtype
        assert_close(got, chosen(whole, frequencies), TOLERANCE[dtype])


@given(
    height=st.integers(7, 40),
    width=st.integers(7, 40),
    batch=st.integers(1, 3),
    group_size=st.sampled_from(GROUP_SIZES),
    normalization=st.sampled_from(NORMALIZATIONS),
    layout=st.sampled_from(LAYOUTS),
    seed=seeds,
)
@settings(max_examples=60, deadline=None)
def test_any_size_from_call_to_call(
    height: int, width: int, batch: int, group_size: int, normalization: str, layout: str, seed: int
) -> None:
    """Odd, even and oblong sizes one after another, any batch: equal to scipy under every normalisation."""
    x = noise(batch, 16 * group_size, height, width, seed=seed, layout=layout)
    assert_close(dct_pool(x, normalization=normalization), chosen(scipy_transform(x, normalization), TOP16), 1e-13)


def test_eq5_equals_the_double_sum_of_a_textbook() -> None:
    """Parts of the channels in order, each summed with its own cosine, written out as loops."""
    x, frequencies = noise(2, 6, 5, 4), [(4, 0), (1, 3), (0, 0)]
    wanted = torch.tensor([textbook_description(maps.tolist(), frequencies) for maps in x], dtype=torch.float64)
    assert_close(dct_pool(x, frequencies, normalization="none"), wanted, 1e-13)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(3, 5, 1, 1), (2, 40, 9, 33), (1, 64, 96, 70)])
def test_the_lowest_frequency_is_the_mean(shape: tuple[int, ...], layout: str) -> None:
    """With (0, 0) alone and "mean", dct_pool is global average pooling."""
    x = noise(*shape, layout=layout)
    assert_routes_agree(dct_pool(x, [(0, 0)]), functional.adaptive_avg_pool2d(x, 1)[..., 0, 0])


def test_scaled_indices_are_raw_ones_times_the_seventh() -> None:
    """On 56 x 35 pixels the scaled index (h, w) is (8 h, 5 w)."""
    x = noise(2, 16, 56, 35)
    wanted = chosen(scipy_transform(x, "ortho"), tuple((8 * h, 5 * w) for h, w in TOP16))
    assert_close(dct_pool(x, normalization="ortho", indexing="scaled"), wanted, 1e-13)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_flipping_the_map_flips_the_sign_of_odd_frequencies(layout: str) -> None:
    """Upside down, component (h, w) is multiplied by (-1)^h; mirrored, by (-1)^w."""
    x = noise(2, 32, 20, 13, layout=layout)
    h, w = (torch.tensor(axis).repeat_interleave(2) for axis in zip(*TOP16, strict=True))
    assert_routes_agree(dct_pool(x.flip(2)), dct_pool(x) * (-1.0) ** h)
    assert_routes_agree(dct_pool(x.flip(3)), dct_pool(x) * (-1.0) ** w)


def test_turning_the_map_swaps_the_two_indices() -> None:
    """The transposed map has at (w, h) what the map has at (h, w)."""
    x = noise(2, 32, 20, 13)
    assert_routes_agree(dct_pool(x.mT, [(w, h) for h, w in TOP16]), dct_pool(x))


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_images_and_channels_of_a_group_may_be_reordered(seed: int) -> None:
    """Reordering images, channels within their group, or whole groups with their frequencies reorders the result."""
    rng = np.random.default_rng(seed)
    x = noise(3, 48, 9, 8, seed=seed)
    images, groups = rng.permutation(3).tolist(), rng.permutation(16).tolist()
    channels = [3 * group + channel for group in range(16) for channel in rng.permutation(3)]
    assert_routes_agree(dct_pool(x[images]), dct_pool(x)[images])
    assert_routes_agree(dct_pool(x[:, channels]), dct_pool(x)[:, channels])
    moved = [3 * group + channel for group in groups for channel in range(3)]
    assert_routes_agree(dct_pool(x[:, moved], [TOP16[group] for group in groups]), dct_pool(x)[:, moved])


@given(seed=seeds, factor=st.floats(-4, 4))
@settings(max_examples=20, deadline=None)
def test_it_is_linear(seed: int, factor: float) -> None:
    """The description of a sum of maps is the sum of their descriptions."""
    x, y = noise(2, 16, 8, 9, seed=seed), noise(2, 16, 8, 9, seed=seed ^ 1)
    assert (dct_pool(factor * x + y) - factor * dct_pool(x) - dct_pool(y)).abs().max() < 1e-13


@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
@pytest.mark.parametrize("group_size", GROUP_SIZES)
@pytest.mark.filterwarnings("ignore:`torch.jit.script:FutureWarning", "ignore:`torch.jit.script:DeprecationWarning")
def test_derivatives_of_first_and_second_order_agree_with_finite_differences(group_size: int, layout: str) -> None:
    """Backward, backward of backward and forward mode."""
    x = noise(1, 2 * group_size, 3, 4, layout=layout).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda t: dct_pool(t, [(1, 2), (0, 3)]), (x,), fast_mode=True, check_forward_ad=True
    )
    assert torch.autograd.gradgradcheck(lambda t: dct_pool(t, [(1, 2), (0, 3)]).square(), (x,), fast_mode=True)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
def test_the_gradient_is_the_cosine_in_the_layout_of_the_map(layout: str, dtype: torch.dtype) -> None:
    """Each channel's gradient is its cosine times what came back, rounded once, with the strides of the map."""
    x = noise(2, 6, 12, 10, dtype=dtype, layout=layout).requires_grad_()
    came = torch.linspace(-1, 2, 12, dtype=torch.float64).reshape(2, 6).to(dtype)
    dct_pool(x, [(2, 3), (0, 1), (5, 0)], normalization="none").backward(came)
    cosines = [dct_basis(12, [h]).mT @ dct_basis(10, [w]) for h, w in [(2, 3), (0, 1), (5, 0)]]
    wanted = came.double()[..., None, None] * torch.stack(cosines).repeat_interleave(2, dim=0)
    assert x.grad is not None
    assert x.grad.stride() == x.stride()
    half_unit = torch.finfo(dtype).eps / 2 if dtype.itemsize == 2 else 4 * torch.finfo(dtype).eps
    assert bool(((x.grad.double() - wanted).abs() <= half_unit * wanted.abs() * 1.01 + 1e-15).all())


def test_it_runs_under_vmap() -> None:
    """torch.func.vmap over a further axis is a loop over it."""
    x = noise(3, 2, 16, 8, 9)
    assert_routes_agree(torch.func.vmap(dct_pool)(x), torch.stack([dct_pool(maps) for maps in x]))


def test_half_precision_sums_in_float32() -> None:
    """A float16 map of 512 x 512 equal values past 2048 keeps its mean, where float16 sums would stall or overflow."""
    x = torch.full((1, 2, 512, 512), 2049.0, dtype=torch.float16)
    assert dct_pool(x, [(0, 0)]).tolist() == [[2048.0, 2048.0]]  # 2049 is no float16 number: the map holds 2048
    ramp = torch.linspace(0, 1, 512).repeat(512, 1)[None, None].to(torch.bfloat16)
    assert dct_pool(ramp, [(0, 0)]).item() == pytest.approx(ramp.double().mean().item(), rel=2**-8)


def test_autocast_does_not_reduce_the_sums() -> None:
    """Under bfloat16 autocast a float32 map is still summed in float32."""
    x = noise(2, 32, 40, 40, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = dct_pool(x)
    assert got.dtype == torch.float32
    assert_close(got, chosen(scipy_transform(x, "mean"), TOP16), 1e-5)


def test_inference_mode_does_not_spoil_later_training() -> None:
    """Tables cached while inference mode was on can still be used under autograd."""
    with torch.inference_mode():
        dct_pool(noise(1, 16, 23, 29))
    x = noise(1, 16, 23, 29).requires_grad_()
    dct_pool(x).sum().backward()
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())


def test_tensors_without_values_do_not_enter_the_cache() -> None:
    """After a pass that only works out shapes, a real map of that size is pooled as ever."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode() as mode:
        assert dct_pool(mode.from_tensor(noise(2, 16, 31, 37))).shape == (2, 16)
    x = noise(2, 16, 31, 37)
    assert_close(dct_pool(x), chosen(scipy_transform(x, "mean"), TOP16), 1e-13)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_same_input_gives_the_same_bits(dtype: torch.dtype, layout: str) -> None:
    """Under torch's deterministic mode it runs, and twice the same call gives equal bits, gradient included."""
    x = noise(2, 64, 70, 65, dtype=dtype, layout=layout).requires_grad_()
    torch.use_deterministic_algorithms(True)
    try:
        first, second = dct_pool(x), dct_pool(x)
        gradients = [torch.autograd.grad(y.square().sum(), x)[0] for y in (first, second)]
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(first, second)
    assert torch.equal(*gradients)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", ["contiguous", "channels last", "sliced"])
@pytest.mark.parametrize("shape", [(2, 256, 64, 64), (1, 64, 128, 128)])
def test_no_temporary_is_as_large_as_the_map(shape: tuple[int, ...], layout: str, dtype: torch.dtype) -> None:
    """Forward holds at most two fifths of the map at a time, all temporaries together; forward and backward that and
    the gradient.
    """
    x = noise(*shape, dtype=dtype, layout=layout)
    dct_pool(x)
    assert held_bytes(lambda: dct_pool(x)) < 0.4 * x.nbytes
    x.requires_grad_()
    assert held_bytes(lambda: torch.autograd.grad(dct_pool(x).sum(), x)) < 1.4 * x.nbytes


def run_alone(script: str) -> None:
    """Run a script in a fresh interpreter, where annotations are not checked, as for the library's users."""
    source = Path(projection_module.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)],
        capture_output=True, text=True, env=environment(source), timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def environment(source: Path) -> dict[str, str]:
    """Return this process's variables, with the library under test first on the path."""
    return {**os.environ, "PYTHONPATH": str(source)}


@pytest.mark.slow
def test_it_compiles_into_one_graph_with_sizes_left_open() -> None:
    """torch.compile(fullgraph=True): equal values and gradients, and new sizes soon need no new graph."""
    run_alone("""
        import torch
        from emseg.frequency import dct_pool
        from torch._dynamo.utils import counters

        try:
            torch.compile(lambda t: t.sin() + 1)(torch.ones(3))
            backend = "inductor"
        except Exception:  # this machine has no C++ compiler: the graph can still be made
            backend = "aot_eager"
        for indexing, layout in (("raw", torch.contiguous_format), ("scaled", torch.channels_last)):
            torch._dynamo.reset()
            counters.clear()
            pool = torch.compile(lambda t: dct_pool(t, indexing=indexing), fullgraph=True, backend=backend)
            for number, shape in enumerate([(2, 32, 20, 20), (2, 32, 30, 21), (2, 32, 40, 41), (2, 32, 33, 26)]):
                x = torch.randn(shape).to(memory_format=layout).requires_grad_()
                got, wanted = pool(x), dct_pool(x, indexing=indexing)
                assert (got - wanted).abs().max() < 1e-6
                ours, theirs = (torch.autograd.grad(y.square().sum(), x)[0] for y in (got, wanted))
                assert (ours - theirs).abs().max() < 1e-6
                if number == 2:
                    graphs = counters["stats"]["unique_graphs"]
            assert counters["stats"]["unique_graphs"] == graphs, counters["stats"]
    """)


@pytest.mark.slow
def test_it_exports_with_sizes_left_open() -> None:
    """torch.export with batch, height and width open: one program serves every size, in float32 and bfloat16."""
    run_alone("""
        import torch
        from emseg.frequency import FanetAttention, FcaAttention, dct_pool
        from torch.export import Dim, export

        class Pool(torch.nn.Module):
            def __init__(self, indexing):
                super().__init__()
                self.indexing = indexing

            def forward(self, x):
                return dct_pool(x, indexing=self.indexing)

        sizes = {0: Dim("batch", min=1, max=64), 2: Dim("height", min=7, max=4096), 3: Dim("width", min=7, max=4096)}
        cases = [(Pool("raw"), torch.float32, True), (Pool("raw"), torch.bfloat16, False),
                 (Pool("scaled"), torch.float32, False), (FanetAttention(32), torch.float32, False),
                 (FcaAttention(32, 14), torch.float32, False)]
        for module, dtype, strict in cases:
            x = torch.randn(2, 32, 20, 24, dtype=dtype)
            program = export(module, (x,), dynamic_shapes=(sizes,), strict=strict).module()
            for shape in [(1, 32, 7, 9), (5, 32, 70, 41)]:
                x = torch.randn(shape).to(dtype)
                error = (program(x) - module(x)).abs().max() / module(x).abs().max()
                assert error < (1e-5 if dtype == torch.float32 else 1e-2), (module, dtype, error)
    """)


@pytest.mark.parametrize(
    ("x", "keywords", "error", "message"),
    [
        (torch.zeros(16, 8, 8), {}, InputError, r"shape \(batch, channel, height, width\); got shape \(16, 8, 8\)"),
        (torch.zeros(2, 16, 8, 8, dtype=torch.int32), {}, InputError, "got torch.int32"),
        (torch.zeros(2, 16, 0, 8), {}, InputError, "at least one row and one column"),
        (np.zeros((2, 16, 8, 8)), {}, InputError, "must be a torch tensor; got ndarray"),
        (torch.zeros(2, 24, 8, 8), {}, UsageError, "multiple of the number of frequencies.*got 24 channels and 16"),
        (torch.zeros(2, 16, 6, 8), {}, UsageError, "`frequency h` must be a whole number from 0 to 5.*got 6"),
        (torch.zeros(2, 16, 8, 6), {}, UsageError, "`frequency w` must be a whole number from 0 to 5.*got 6"),
        (torch.zeros(2, 16, 6, 8), {"indexing": "scaled"}, UsageError, "at least 7 pixels along each axis"),
        (torch.zeros(2, 16, 8, 8), {"frequencies": []}, UsageError, "at least one pair"),
        (torch.zeros(2, 16, 8, 8), {"frequencies": [(0, -1)]}, UsageError, "got -1"),
        (torch.zeros(2, 16, 8, 8), {"frequencies": [(0, 0.5)]}, UsageError, "got 0.5"),
        (torch.zeros(2, 16, 8, 8), {"frequencies": [3]}, UsageError, r"must be a pair \(h, w\); got 3"),
        (torch.zeros(2, 16, 8, 8), {"normalization": "otho"}, UsageError, "Did you mean 'ortho'"),
        (torch.zeros(2, 16, 8, 8), {"indexing": "row"}, UsageError, "Did you mean 'raw'"),
    ],
)
def test_what_is_undefined_is_refused(
    x: object, keywords: dict[str, object], error: type[ValueError], message: str, without_type_checks: None
) -> None:
    with pytest.raises(error, match=message):
        dct_pool(x, **keywords)  # type: ignore[arg-type]
