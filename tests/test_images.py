"""Reading grey images by their content, and naming every file that is none."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_files import encoded, tiff
from PIL import Image

from emseg.errors import InputError, UsageError
from emseg.images import count_pages, read_gray, require_gray

GRAY8 = np.random.default_rng(0).integers(0, 256, (23, 31), dtype=np.uint8)
GRAY16 = np.random.default_rng(1).integers(0, 65_536, (23, 31), dtype=np.uint16)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF", "JPEG2000"])
def test_lossless_8_bit_files_give_back_every_pixel(tmp_path, kind):
    (tmp_path / "image").write_bytes(encoded(Image.fromarray(GRAY8), kind))
    found = read_gray(tmp_path / "image")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, GRAY8)


@pytest.mark.parametrize("kind", ["PNG", "PPM", "TIFF"])
def test_16_bit_files_keep_16_bits(tmp_path, kind):
    (tmp_path / "image").write_bytes(encoded(Image.fromarray(GRAY16), kind))
    found = read_gray(tmp_path / "image")
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, GRAY16)


def test_a_jpeg_is_read_as_pillow_decodes_it(tmp_path):
    (tmp_path / "image.jpg").write_bytes(encoded(Image.fromarray(GRAY8), "JPEG", quality=95))
    np.testing.assert_array_equal(read_gray(tmp_path / "image.jpg"), np.asarray(Image.open(tmp_path / "image.jpg")))


TIFF_LAYOUTS = (
    {},
    {"byteorder": ">"},
    {"bigtiff": True},
    {"tile": (16, 16)},
    {"rowsperstrip": 5},
    {"compression": "zlib"},
)


@pytest.mark.parametrize("memory_map", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
@pytest.mark.parametrize("options", TIFF_LAYOUTS, ids=lambda options: " ".join(map(str, options.values())))
def test_every_layout_of_a_tiff_gives_the_same_image(tmp_path, options, dtype, memory_map):
    image = GRAY16.astype(dtype)
    (tmp_path / "image.tif").write_bytes(tiff(image, **options))
    found = read_gray(tmp_path / "image.tif", memory_map=memory_map)
    np.testing.assert_array_equal(found, image)
    assert found.dtype.newbyteorder("=") == image.dtype


@pytest.mark.parametrize("memory_map", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_zero_that_means_white_is_inverted_so_that_large_is_bright(tmp_path, dtype, memory_map):
    """Of integers only: of floats white as zero has no meaning."""
    image = GRAY16.astype(dtype)
    (tmp_path / "image.tif").write_bytes(tiff(image, photometric="miniswhite"))
    found = read_gray(tmp_path / "image.tif", memory_map=memory_map)
    np.testing.assert_array_equal(found, ~image)
    assert found.dtype == image.dtype


def test_an_uncompressed_tiff_is_mapped_not_read(tmp_path):
    (tmp_path / "image.tif").write_bytes(tiff(GRAY16, byteorder=">"))
    mapped = read_gray(tmp_path / "image.tif", memory_map=True)
    assert isinstance(mapped, np.memmap)
    assert not mapped.flags.writeable


def test_a_compression_that_tifffile_lacks_is_read_all_the_same(tmp_path):
    (tmp_path / "image.tif").write_bytes(encoded(Image.fromarray(GRAY8), "TIFF", compression="tiff_lzw"))
    np.testing.assert_array_equal(read_gray(tmp_path / "image.tif"), GRAY8)


@pytest.mark.parametrize(("dtype", "expected"), [("int8", "float32"), ("int16", "float32"), ("int32", "float64")])
def test_other_integers_become_the_float_type_that_holds_them(tmp_path, dtype, expected):
    image = np.array([[-100, 0, 100], [1, 2, 3]], dtype)
    (tmp_path / "image.tif").write_bytes(tiff(image))
    found = read_gray(tmp_path / "image.tif")
    assert found.dtype == expected
    np.testing.assert_array_equal(found, image)


def test_the_content_decides_not_the_extension(tmp_path):
    """Archives rename files; a PNG called .tif is a PNG."""
    (tmp_path / "image.tif").write_bytes(encoded(Image.fromarray(GRAY8), "PNG"))
    (tmp_path / "image.png").write_bytes(tiff(GRAY16))
    np.testing.assert_array_equal(read_gray(tmp_path / "image.tif"), GRAY8)
    np.testing.assert_array_equal(read_gray(tmp_path / "image.png"), GRAY16)


def test_pages_of_a_tiff_are_counted_and_read_one_by_one(tmp_path):
    stack = np.stack([GRAY8, 255 - GRAY8, GRAY8 // 2])
    (tmp_path / "stack.tif").write_bytes(tiff(stack))
    assert count_pages(tmp_path / "stack.tif") == 3
    for page in range(3):
        np.testing.assert_array_equal(read_gray(tmp_path / "stack.tif", page=page), stack[page])


def test_the_small_levels_of_a_pyramid_are_not_pages(tmp_path):
    with tifffile.TiffWriter(tmp_path / "pyramid.tif") as writer:
        writer.write(GRAY8, photometric="minisblack", subfiletype=0)
        writer.write(GRAY8[::2, ::2], photometric="minisblack", subfiletype=1)
    assert count_pages(tmp_path / "pyramid.tif") == 1
    np.testing.assert_array_equal(read_gray(tmp_path / "pyramid.tif"), GRAY8)


def test_an_image_larger_than_pillows_limit_is_read(tmp_path):
    """Image.open refuses 179 million pixels; a wafer at full resolution has more."""
    Image.fromarray(np.zeros((14_000, 13_000), np.uint8)).save(tmp_path / "wafer.png", compress_level=1)
    assert read_gray(tmp_path / "wafer.png").shape == (14_000, 13_000)


COLOUR = Image.fromarray(np.stack([GRAY8, GRAY8, 255 - GRAY8], axis=2))
NAN = np.where(GRAY8 > 250, np.nan, GRAY8).astype(np.float32)
INFINITE = np.where(GRAY8 > 250, np.inf, GRAY8).astype(np.float64)

BAD_FILES = {
    "empty.png": (b"", "the file is empty"),
    "text.png": (b"slice,score\n1,0.5\n" * 9, "must contain an image .* it contains text"),
    "unknown.tif": (bytes(range(200, 256)), "it contains data of an unknown kind"),
    "paper.tif": (b"%PDF-1.7 ....", "it contains a PDF document"),
    "pointer.png": (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer, not the image itself"),
    "truncated.png": (encoded(Image.fromarray(GRAY8), "PNG")[:300], "truncated or damaged PNG"),
    "header only.png": (encoded(Image.fromarray(GRAY8), "PNG")[:20], "truncated or damaged PNG"),
    "truncated.jpg": (encoded(Image.fromarray(GRAY8), "JPEG")[:400], "truncated or damaged JPEG"),
    "truncated.bmp": (encoded(Image.fromarray(GRAY8), "BMP")[:1200], "truncated or damaged BMP"),
    "truncated.tif": (tiff(GRAY16)[:-100], "truncated TIFF file"),
    "truncated zlib.tif": (tiff(GRAY16, compression="zlib")[:-100], "truncated TIFF file"),
    "header only.tif": (tiff(GRAY16)[:12], "truncated or damaged TIFF"),
    "signature only.tif": (b"II*\x00", "truncated or damaged TIFF"),
    "damaged.png": (encoded(Image.fromarray(GRAY8), "PNG").replace(b"IDAT", b"IDAX"), "truncated or damaged PNG"),
    "colour.png": (encoded(COLOUR, "PNG"), r"it is a colour image \(RGB\)\. Convert it to grey first"),
    "colour.jpg": (encoded(COLOUR, "JPEG"), "it is a colour image"),
    "colour.ppm": (encoded(COLOUR, "PPM"), "it is a colour image"),
    "colour.tif": (tiff(np.asarray(COLOUR), photometric="rgb"), r"colour image \(3 samples a pixel\)"),
    "palette.png": (encoded(COLOUR.quantize(16), "PNG"), "it has a colour palette"),
    "palette.tif": (encoded(COLOUR.quantize(16), "TIFF"), "it has a colour palette"),
    "alpha.png": (encoded(Image.merge("LA", [Image.fromarray(GRAY8)] * 2), "PNG"), "it has an alpha channel"),
    "one bit.png": (encoded(Image.fromarray(GRAY8).convert("1"), "PNG"), "it is a 1-bit image"),
    "one bit.tif": (encoded(Image.fromarray(GRAY8).convert("1"), "TIFF"), "it is a 1-bit image"),
    "one bit.pbm": (encoded(Image.fromarray(GRAY8).convert("1"), "PPM"), "it is a 1-bit image"),
    "stack.tif": (tiff(np.stack([GRAY8, GRAY8])), "contains 2 pages"),
    "volume.tif": (tiff(np.zeros((4, 16, 16), np.uint8), volumetric=True, tile=(4, 16, 16)), "two-dimensional"),
    "nan.tif": (tiff(NAN), r"must be finite; got \d+ NaN of 713 pixels"),
    "infinite.tif": (tiff(INFINITE), r"must be finite; got \d+ infinite of 713 pixels"),
    "complex.tif": (tiff(GRAY8.astype(np.complex64)), "real grey values; got complex64"),
}


def test_an_array_of_python_objects_is_no_damaged_file(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([[1, 2], [3, 4]], object))
    with pytest.raises(
        InputError, match=r"objects\.npy must contain numbers; it contains Python objects\. Save it as uint8"
    ):
        read_gray(tmp_path / "objects.npy")


@pytest.mark.parametrize("memory_map", [False, True])
@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_is_no_grey_image_is_named_in_one_sentence(tmp_path, name, memory_map):
    content, message = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_gray(tmp_path / name, memory_map=memory_map)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1)])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_one_pixel_and_one_row_are_images(tmp_path, kind, shape):
    """Whether a measure is defined on them is for the measure to say."""
    (tmp_path / "image").write_bytes(encoded(Image.fromarray(np.full(shape, 7, np.uint8)), kind))
    np.testing.assert_array_equal(read_gray(tmp_path / "image"), np.full(shape, 7))


@pytest.mark.parametrize("reader", [read_gray, count_pages])
def test_missing_files_directories_and_denied_access_are_named(tmp_path, monkeypatch, reader):
    with pytest.raises(InputError, match="does not exist"):
        reader(tmp_path / "none.png")
    with pytest.raises(InputError, match="it is a directory"):
        reader(tmp_path)
    (tmp_path / "file.png").write_bytes(encoded(Image.fromarray(GRAY8), "PNG"))
    with pytest.raises(InputError, match=r"cannot be read: Not a directory|does not exist"):
        reader(tmp_path / "file.png" / "image.png")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # the tests may run as root, whom no access right stops
    with pytest.raises(InputError, match="permission was denied"):
        reader(tmp_path / "file.png")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_access_rights_are_respected(tmp_path):
    (tmp_path / "image.png").write_bytes(b"x")
    (tmp_path / "image.png").chmod(0)
    with pytest.raises(InputError, match="permission was denied"):
        read_gray(tmp_path / "image.png")


@pytest.mark.parametrize(("content", "page"), [(tiff(np.stack([GRAY8, GRAY8])), 2), (tiff(GRAY8), -1)])
def test_a_page_that_is_not_there_is_a_wrong_request(tmp_path, content, page):
    (tmp_path / "stack.tif").write_bytes(content)
    with pytest.raises(UsageError, match=r"page must (lie in 0 to|be 0)"):
        read_gray(tmp_path / "stack.tif", page=page)
    (tmp_path / "image.png").write_bytes(encoded(Image.fromarray(GRAY8), "PNG"))
    with pytest.raises(UsageError, match="page must be 0"):
        read_gray(tmp_path / "image.png", page=1)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros((3, 3), bool), r"mask\.astype\(np\.uint8\) \* 255"),
        (np.zeros((3, 0)), "must not be empty; got 3 x 0"),
        (np.zeros((3, 3, 3)), "must be grey; got colour"),
        (np.zeros((9, 8, 7)), "got a stack, 9 x 8 x 7"),
        (3.0, "got a single number"),
        ("image.png", "must contain real grey values"),
        (np.array([[None, 1]]), "must contain real grey values; got object"),
        ([[1.0, float("nan"), float("-inf")]], "1 NaN and 1 infinite of 3 pixels"),
    ],
)
def test_an_array_that_is_no_grey_image_is_named(value, message):
    with pytest.raises(InputError, match="scan " + ".*" + message):
        require_gray(value, "scan")


def test_a_crash_inside_a_decoder_is_a_damaged_file(tmp_path):
    """A PNG that announces more pixels than it holds."""
    content = bytearray(encoded(Image.fromarray(GRAY8), "PNG"))
    content[16:24] = struct.pack(">II", 31, 600)
    (tmp_path / "image.png").write_bytes(content)
    with pytest.raises(InputError, match="truncated or damaged PNG"):
        read_gray(tmp_path / "image.png")


@pytest.mark.parametrize(
    "content",
    [
        encoded(Image.fromarray(GRAY8), "PNG")[:16] + struct.pack(">II", 1 << 30, 1 << 30) + bytes(900),
        b"P5 1000000000 1000000000 255\n" + bytes(100),
        tiff(GRAY8).replace(struct.pack("<HHII", 256, 4, 1, 31), struct.pack("<HHII", 256, 4, 1, 1 << 31)),
    ],
    ids=["png", "pgm", "tiff"],
)
def test_a_header_that_announces_the_impossible_is_refused_before_memory_is_asked_for(tmp_path, content):
    (tmp_path / "image").write_bytes(content)
    with pytest.raises(InputError, match=r"bytes allow|truncated or damaged"):
        read_gray(tmp_path / "image")


DAMAGEABLE = {
    "PNG": encoded(Image.fromarray(GRAY8), "PNG"),
    "JPEG": encoded(Image.fromarray(GRAY8), "JPEG"),
    "BMP": encoded(Image.fromarray(GRAY8), "BMP"),
    "TIFF": tiff(GRAY16),
    "TIFF zlib": tiff(GRAY16, compression="zlib", tile=(16, 16)),
}


@pytest.mark.parametrize("kind", DAMAGEABLE)
@given(data=st.data())
@settings(deadline=None, max_examples=60, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happened_to_a_file_it_is_an_image_or_an_input_error(tmp_path, kind, data):
    """Cut anywhere, any bytes overwritten: never another exception, never a sentence without the file's name."""
    content = bytearray(DAMAGEABLE[kind])
    for position in data.draw(st.lists(st.integers(0, min(len(content), 400) - 1), max_size=4)):
        content[position] = data.draw(st.integers(0, 255))
    length = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    (tmp_path / "image").write_bytes(content[:length])
    try:
        image = read_gray(tmp_path / "image")
    except InputError as error:
        problem = str(error)
    else:
        problem = None
        assert image.ndim == 2
        assert image.dtype in (np.uint8, np.uint16, np.float32, np.float64)
    assert problem is None or str(tmp_path / "image") in problem
