"""The one-pass indices against the textbook loops and the plain float64 formulas, and the properties that follow."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from reference.sharpness import numpy_indices, textbook_indices

from emseg.errors import InputError, UsageError
from emseg.sharpness import INDEX_NAMES, Sharpness, sharpness
from emseg.sharpness.indices import BAND_PIXELS, MINIMUM_BAND_ROWS
from emseg.sharpness.sharpness_kernels import RUN, TILE_COLUMNS

RELATIVE_TOLERANCE = 1e-10
DTYPES = (np.uint8, np.uint16, np.float32, np.float64)

small_images = st.sampled_from((np.uint8, np.uint16)).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=2, max_dims=2, min_side=3, max_side=9))
)


def noise(shape: tuple[int, int], dtype: type, seed: int = 0) -> np.ndarray:
    top = 60_000 if dtype == np.uint16 else 255
    return (np.random.default_rng(seed).random(shape) * top).astype(dtype)


def texture(size: int = 128, seed: int = 0) -> np.ndarray:
    """Noise with a 1/f amplitude, as natural images have, around mid-grey."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.rfftfreq(size), indexing="ij"))
    frequency[0, 0] = np.inf
    image = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((size, size))) / frequency, (size, size))
    return 128 + 30 * image / image.std()


def gaussian_blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Periodic, so that only the texture matters."""
    rows, columns = np.meshgrid(np.fft.fftfreq(image.shape[0]), np.fft.rfftfreq(image.shape[1]), indexing="ij")
    transfer = np.exp(-2 * (np.pi * sigma) ** 2 * (rows**2 + columns**2))
    return np.fft.irfft2(np.fft.rfft2(image) * transfer, image.shape)


def assert_close(found: Sharpness, expected: dict[str, float], energy: float) -> None:
    """Agreement to 1e-10 of the value; of the sum of squares for Vollath, which is a difference of two such sums."""
    for name in INDEX_NAMES:
        scale = energy if name.startswith("vollath") else abs(expected[name])
        assert abs(getattr(found, name) - expected[name]) <= RELATIVE_TOLERANCE * scale, name


@given(small_images)
@settings(deadline=None, max_examples=60)
def test_integer_images_equal_the_textbook_loops_exactly(image):
    """Brenner and SMD2 are integers and equal to the last digit; the others to the rounding of the loops."""
    found, expected = sharpness(image), textbook_indices(image)
    for name in ("brenner_gap1", "brenner_gap2", "smd2"):
        assert getattr(found, name) == expected[name], name
    assert_close(found, expected, float((image.astype(float) ** 2).sum()))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape",
    [
        (2, 3),
        (3, 3),
        (31, 17),
        (MINIMUM_BAND_ROWS + 1, 700),
        (5, TILE_COLUMNS * 2 + 1),
        (4, RUN + 2),
        (3, 2 * RUN + 1),
        (BAND_PIXELS // 1000 * 2 + 1, 1000),
    ],
)
def test_every_type_and_shape_equals_the_plain_float64_formulas(shape, dtype):
    """Odd sizes, images narrower than a tile, wider than a run, taller than a band."""
    image = noise(shape, dtype)
    assert_close(sharpness(image), numpy_indices(image), float((image.astype(float) ** 2).sum()))


@pytest.mark.parametrize("dtype", [*DTYPES, ">u2", ">f4", ">f8", np.int16, np.float16, np.int32])
@pytest.mark.parametrize("layout", ["transposed", "every other column", "reversed", "broadcast"])
def test_memory_layout_and_byte_order_do_not_matter(layout, dtype):
    image = (np.random.default_rng(1).random((60, 45)) * 200).astype(dtype)
    laid_out = {
        "transposed": np.asfortranarray(image),
        "every other column": np.repeat(image, 2, axis=1)[:, ::2],
        "reversed": np.ascontiguousarray(image[::-1, ::-1])[::-1, ::-1],
        "broadcast": np.broadcast_to(image[0], image.shape),
    }[layout]
    contiguous = np.ascontiguousarray(laid_out).astype(np.dtype(dtype).newbyteorder("="))
    assert_close(sharpness(laid_out), numpy_indices(contiguous), float((contiguous.astype(float) ** 2).sum()))


@given(small_images)
@settings(deadline=None, max_examples=60)
def test_transposing_swaps_the_axes(image):
    """Differences along y are differences along x of the transposed image, to the last digit."""
    along_y, transposed = sharpness(image, axis="y"), sharpness(np.ascontiguousarray(image.T), axis="x")
    assert along_y.raw() == transposed.raw()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_number_of_threads_does_not_change_a_digit(dtype):
    image = noise((3 * BAND_PIXELS // 1000 + 5, 1000), dtype)
    results = [sharpness(image, n_threads=n).raw() for n in (1, 2, 5)]
    assert results[0] == results[1] == results[2]


@given(small_images, st.integers(1, 1000))
@settings(deadline=None, max_examples=60)
def test_adding_a_constant_grey_changes_nothing_but_the_edge_of_vollath(image, grey):
    """Vollath as written loses (F + L) a + N a^2, with F and L the sums of the first and the last column."""
    image = image.astype(np.float64)
    before, after = sharpness(image), sharpness(image + grey)
    energy = float(((image + grey) ** 2).sum())
    for name in ("brenner_gap1", "brenner_gap2", "smd2", "variance", "vollath_centred"):
        assert getattr(after, name) == pytest.approx(getattr(before, name), rel=1e-12, abs=1e-12 * energy)
    edge = grey * (image[:, 0].sum() + image[:, -1].sum()) + image.shape[0] * grey**2
    assert after.vollath == pytest.approx(before.vollath - edge, abs=1e-12 * energy)


@given(small_images, st.integers(2, 257))
@settings(deadline=None, max_examples=60)
def test_a_factor_on_the_grey_scale_is_squared_in_every_index(image, factor):
    before, after = sharpness(image.astype(np.float64)), sharpness(image.astype(np.float64) * factor)
    for name in INDEX_NAMES:
        tolerance = 1e-12 * factor**2 * float((image.astype(float) ** 2).sum())
        assert getattr(after, name) == pytest.approx(factor**2 * getattr(before, name), abs=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_flat_image_has_no_sharpness_but_vollath_keeps_its_edge(dtype):
    """A flat grey c scores 0; Vollath as written scores -N c^2 for its N missing products."""
    flat = sharpness(np.full((40, 60), 100, dtype))
    for name in ("brenner_gap1", "brenner_gap2", "smd2", "variance", "vollath_centred"):
        assert getattr(flat, name) == 0
    assert flat.vollath == pytest.approx(-40 * 100**2, rel=1e-14)
    assert flat.vollath_f4 == pytest.approx(40 * 100**2, rel=1e-14)  # of the one product more


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", INDEX_NAMES)
def test_every_index_falls_with_blur_on_noise_free_natural_texture(name, seed):
    image = texture(seed=seed)
    values = [getattr(sharpness(gaussian_blur(image, sigma)), name) for sigma in (0, 0.5, 1, 2, 4)]
    assert values == sorted(values, reverse=True)


def test_white_noise_raises_every_index_but_the_centred_vollath():
    """Noise of variance s^2 adds 2 s^2 a pixel to Brenner and s^2 to Variance, and has no covariance with itself."""
    image = texture(size=512)
    noisy = image + 10 * np.random.default_rng(1).standard_normal(image.shape)
    clean, fooled = sharpness(image).per_pixel(), sharpness(noisy).per_pixel()
    assert fooled["brenner_gap2"] - clean["brenner_gap2"] == pytest.approx(200, rel=0.05)
    assert fooled["variance"] - clean["variance"] == pytest.approx(100, rel=0.1)
    assert fooled["smd2"] > 1.5 * clean["smd2"]
    assert abs(fooled["vollath_centred"] - clean["vollath_centred"]) < 3


@pytest.mark.parametrize("offset", [1e4, 1e8])
def test_a_large_offset_costs_floating_point_images_no_digits(offset):
    """The plain sum f^2 - (sum f)^2 / n would lose all of them at 1e8."""
    image = np.random.default_rng(2).standard_normal((300, 700)) + offset
    found, expected = sharpness(image), numpy_indices(image)
    for name in ("brenner_gap1", "brenner_gap2", "smd2", "variance", "vollath_centred"):
        scale = expected["variance" if name == "vollath_centred" else name]  # a covariance near 0 of so much variance
        assert getattr(found, name) == pytest.approx(expected[name], abs=RELATIVE_TOLERANCE * scale)


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65_535)])
def test_the_largest_images_do_not_overflow(dtype, top):
    """Columns of black and white, 10,000 x 10,000: every sum is known in closed form and near its largest value."""
    size = 10_000
    image = np.broadcast_to((np.arange(size) % 2 * top).astype(dtype), (size, size))
    found = sharpness(image)
    assert found.brenner_gap1 == float(size * (size - 1) * top**2)
    assert found.brenner_gap2 == 0
    assert found.smd2 == 0
    assert found.variance == pytest.approx(size**2 * top**2 / 4, rel=1e-15)
    assert found.vollath == pytest.approx(-(size**2) * top**2 / 4, rel=1e-15)
    assert found.vollath_centred == pytest.approx(-size * (size - 1) * top**2 / 4, rel=1e-14)
    white = sharpness(np.broadcast_to(dtype(top), (size, size)))
    assert (white.variance, white.brenner_gap1, white.mean) == (0, 0, top)


def test_a_checkerboard_reaches_the_largest_smd2():
    """Each of the (N-1)(M-1) terms is 255^2, in runs as long as the 32-bit sums allow."""
    image = (np.indices((3, RUN + 7)).sum(axis=0) % 2 * 255).astype(np.uint8)
    assert sharpness(image).smd2 == 2 * (RUN + 6) * 255**2


@pytest.mark.parametrize("layout", ["contiguous", "strided", "big-endian"])
@pytest.mark.parametrize("dtype", ["uint16", "float32", "float64"])
def test_no_copy_of_the_image_is_made(dtype, layout):
    """Measured by tracemalloc on 24 million pixels: bands at most, where a float64 copy would take 192 MB."""
    image = np.zeros((6000, 4000), dtype)
    if layout == "strided":
        image = np.zeros((6000, 8000), dtype)[:, ::2]
    elif layout == "big-endian":
        image = image.astype(image.dtype.newbyteorder(">"))
    sharpness(image[:10])
    tracemalloc.start()
    sharpness(image, n_threads=2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (0.5e6 if layout == "contiguous" else 24e6)


def test_a_memory_mapped_image_is_measured_where_it_lies(tmp_path):
    image = noise((200, 300), np.uint16)
    image.astype(">u2").tofile(tmp_path / "image.raw")
    mapped = np.memmap(tmp_path / "image.raw", ">u2", "r", shape=image.shape)
    assert sharpness(mapped).raw() == sharpness(image).raw()


def test_values_per_pixel_and_per_area_divide_by_the_size_of_the_image():
    found = sharpness(noise((200, 500), np.uint8), pixel_size_nm=2.18)
    assert found.n_pixels == 100_000
    assert found.area_um2 == pytest.approx(100_000 * 2.18**2 / 1e6)
    for name, total in found.raw().items():
        assert found.per_pixel()[name] == total / 100_000
        assert found.per_um2()[name] == pytest.approx(total / found.area_um2)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((0, 5), np.uint8), "must not be empty; got 0 x 5"),
        (np.zeros((1, 1), np.uint8), "at least 2 rows and 3 columns; got 1 x 1"),
        (np.zeros((1, 50), np.uint8), "at least 2 rows and 3 columns; got 1 x 50"),
        (np.zeros((50, 2), np.uint8), "at least 2 rows and 3 columns; got 50 x 2"),
        (np.zeros((5, 5, 3), np.uint8), "must be grey; got colour, 5 x 5 x 3"),
        (np.zeros((9, 5, 7), np.uint8), "two-dimensional .* got a stack, 9 x 5 x 7"),
        (np.zeros(5, np.uint8), "two-dimensional .* got 5"),
        (np.zeros((5, 5), bool), "got booleans"),
        (np.zeros((5, 5), complex), "real grey values; got complex128"),
        (np.full((5, 5), "a"), "real grey values"),
        (np.array([[1.0, np.nan, 2.0]] * 3), "3 NaN of 9 pixels"),
        (np.array([[1.0, np.inf, -np.inf]] * 3), "6 infinite of 9 pixels"),
        (np.array([[1e200, -1e200, 1e200]] * 3), "exceed float64"),
    ],
)
def test_an_image_without_indices_is_refused_by_name(image, message):
    with pytest.raises(InputError, match=message):
        sharpness(image)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"axis": "z"}, "`axis` must be one of 'x', 'y'; got 'z'"),
        ({"pixel_size_nm": 0}, "`pixel_size_nm` must be a finite number greater than 0 nm; got 0"),
        ({"pixel_size_nm": float("nan")}, "greater than 0 nm; got nan"),
        ({"n_threads": 0}, "`n_threads` must be a whole number of at least 1; got 0"),
    ],
)
def test_a_wrong_option_is_refused_by_name(options, message):
    with pytest.raises(UsageError, match=message):
        sharpness(np.zeros((5, 5), np.uint8), **options)


def test_a_value_per_area_needs_the_pixel_size():
    with pytest.raises(UsageError, match="needs the pixel size"):
        sharpness(np.zeros((5, 5), np.uint8)).per_um2()
