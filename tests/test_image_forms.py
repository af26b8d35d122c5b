"""One reader for every form in which a grey image is stored; containers, loops and implausible sizes are named."""

import struct
from pathlib import Path

import mrcfile
import numpy as np
import psutil
import pytest
import tifffile
import zarr
from image_files import encoded, tiff
from PIL import Image

from emseg import images
from emseg.errors import InputError
from emseg.images import count_pages, find_images, image_size, read_gray

GREY = np.random.default_rng(0).integers(0, 256, (40, 56), dtype=np.uint8)
WIDE = np.random.default_rng(1).integers(0, 65_536, (40, 56), dtype=np.uint16)
STACK = np.stack([GREY, 255 - GREY, GREY // 2])
OPAQUE = np.full_like(GREY, 255)


def png_of_16_bit_colours(*channels: np.ndarray) -> bytes:
    import cv2

    return bytes(cv2.imencode(".png", np.stack(channels, -1))[1])


GREY_AS_COLOUR = {
    "RGB PNG": encoded(Image.fromarray(np.stack([GREY] * 3, -1)), "PNG"),
    "RGBA PNG": encoded(Image.fromarray(np.stack([GREY, GREY, GREY, OPAQUE], -1)), "PNG"),
    "LA PNG": encoded(Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(OPAQUE)]), "PNG"),
    "palette PNG": encoded(Image.fromarray(GREY).convert("P"), "PNG"),
    "palette TIFF": encoded(Image.fromarray(GREY).convert("P"), "TIFF"),
    "RGB BMP": encoded(Image.fromarray(np.stack([GREY] * 3, -1)), "BMP"),
    "RGB PPM": encoded(Image.fromarray(np.stack([GREY] * 3, -1)), "PPM"),
    "RGB TIFF": tiff(np.stack([GREY] * 3, -1), photometric="rgb"),
    "RGBA TIFF": tiff(np.stack([GREY, GREY, GREY, OPAQUE], -1), photometric="rgb", extrasamples=["unassalpha"]),
    "RGB TIFF, a plane for each colour": tiff(np.stack([GREY] * 3), photometric="rgb", planarconfig="separate"),
    "RGB TIFF, deflated": tiff(np.stack([GREY] * 3, -1), photometric="rgb", compression="zlib"),
}


@pytest.mark.parametrize("name", GREY_AS_COLOUR)
@pytest.mark.parametrize("as_label", [False, True])
def test_grey_stored_as_colour_is_grey(tmp_path, name, as_label):
    """The competition publishes its ground truth so."""
    (tmp_path / "image").write_bytes(GREY_AS_COLOUR[name])
    found = read_gray(tmp_path / "image", as_label=as_label, memory_map=True)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, GREY)


def test_16_bits_of_colour_are_kept(tmp_path):
    (tmp_path / "rgb.png").write_bytes(png_of_16_bit_colours(WIDE, WIDE, WIDE))
    np.testing.assert_array_equal(read_gray(tmp_path / "rgb.png"), WIDE)
    (tmp_path / "rgba.png").write_bytes(png_of_16_bit_colours(WIDE, WIDE, WIDE, np.full_like(WIDE, 65_535)))
    np.testing.assert_array_equal(read_gray(tmp_path / "rgba.png"), WIDE)
    (tmp_path / "colour.png").write_bytes(png_of_16_bit_colours(WIDE, WIDE, WIDE ^ 1))  # differs in the last bit
    with pytest.raises(InputError, match="colour image"):
        read_gray(tmp_path / "colour.png")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (encoded(Image.fromarray(np.stack([GREY, GREY, GREY ^ 1], -1)), "PNG"), "it is a colour image"),
        (encoded(Image.fromarray(np.stack([GREY, GREY, GREY, OPAQUE - 1], -1)), "PNG"), "it has an alpha channel"),
        (tiff(np.stack([GREY, GREY ^ 1, GREY], -1), photometric="rgb"), "it is a colour image"),
        (tiff(np.stack([GREY, GREY], -1), extrasamples=["unassalpha"]), "it has an alpha channel"),
        (encoded(Image.fromarray(np.stack([GREY] * 3, -1)).convert("CMYK"), "TIFF"), "its pixels are SEPARATED"),
    ],
)
def test_what_has_no_one_value_a_pixel_is_refused(tmp_path, content, said):
    (tmp_path / "image").write_bytes(content)
    with pytest.raises(InputError, match=said):
        read_gray(tmp_path / "image")


@pytest.mark.parametrize("compression", ["zstd", "lzw", "jpeg2000", "lerc", "jpegxl", "webp", "packbits", "lzma"])
def test_tiffs_of_all_lossless_codecs_are_read(tmp_path, compression):
    colours = np.stack([GREY] * 3, -1)  # WebP has no grey
    image, options = (colours, {"photometric": "rgb"}) if compression == "webp" else (GREY, {})
    arguments = {"lossless": True} if compression == "webp" else {}
    (tmp_path / "image.tif").write_bytes(tiff(image, compression=compression, compressionargs=arguments, **options))
    np.testing.assert_array_equal(read_gray(tmp_path / "image.tif"), GREY)


def ifd(entries: list[tuple[int, int, int, int]], following: int) -> bytes:
    """Return a page of a little-endian TIFF: entries (tag, type, count, value) and the offset of the next page."""
    packed = [
        struct.pack("<HHI", *one[:3]) + struct.pack("<HH" if one[1] == 3 else "<I", *one[3:], *(0,) * (one[1] == 3))
        for one in entries
    ]
    return struct.pack("<H", len(entries)) + b"".join(packed) + struct.pack("<I", following)


def layout(width: int, height: int, bits: int, n_bytes: int) -> list[tuple[int, int, int, int]]:
    """Return the entries of an uncompressed grey page whose pixels begin at byte 8."""
    size = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, bits), (259, 3, 1, 1), (262, 3, 1, 1)]
    return [*size, (273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, n_bytes)]


def test_12_bits_a_pixel_are_unpacked(tmp_path):
    pixels = WIDE[:, :56] % 4096
    pairs = pixels.reshape(-1, 2).astype(int)
    packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], -1)
    data = packed.astype(np.uint8).tobytes()
    head = b"II*\0" + struct.pack("<I", 8 + len(data))
    (tmp_path / "image.tif").write_bytes(head + data + ifd(layout(56, 40, 12, len(data)), 0))
    np.testing.assert_array_equal(read_gray(tmp_path / "image.tif"), pixels)


def stack_files(folder: Path) -> dict[str, Path]:
    """Write the three images of `STACK` as every kind of stack."""
    options = {
        "plain.tif": {"metadata": None},
        "shaped.tif": {},
        "deflated.tif": {"compression": "zlib"},
        "imagej.tif": {"imagej": True},
        "one_page_for_all.tif": {"imagej": True, "truncate": True},  # as ImageJ writes stacks of more than 4 GB
        "ome.tif": {"ome": True, "metadata": {"axes": "ZYX"}},
    }
    for name, how in options.items():
        tifffile.imwrite(folder / name, STACK, photometric="minisblack", **how)
    np.save(folder / "stack.npy", STACK)
    with mrcfile.new(folder / "stack.mrc") as file:
        file.set_data((STACK // 2).astype(np.int8))
    flat = zarr.create_array(folder / "flat.zarr", shape=STACK.shape, chunks=(1, 16, 16), dtype="u1")
    flat[:] = STACK
    group = zarr.create_group(folder / "ome.zarr")
    for level in range(2):
        array = group.create_array(str(level), shape=(1, 1, *STACK[:, :: level + 1].shape), dtype="u1")
        array[:] = STACK[None, None, :, :: level + 1]
    return {path.name: path for path in folder.iterdir()}


def test_every_kind_of_stack_is_a_series_of_images(tmp_path):
    files = stack_files(tmp_path)
    assert len(files) == 10
    for name, path in files.items():
        assert (name, count_pages(path), image_size(path, page=2)) == (name, 3, (40, 56))
        for page, image in enumerate(STACK // 2 if name == "stack.mrc" else STACK):
            for memory_map in (False, True):
                np.testing.assert_array_equal(read_gray(path, page=page, memory_map=memory_map), image, name)
        with pytest.raises(InputError, match="it contains 3 pages"):
            read_gray(path)


def test_the_pixels_of_a_zarr_array_are_not_counted_against_its_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "_UNBOUNDED", 1e-6)
    path = stack_files(tmp_path)["flat.zarr"]
    np.testing.assert_array_equal(read_gray(path, page=1), STACK[1])
    with pytest.raises(InputError, match="bytes allow"):
        read_gray(tmp_path / "stack.npy", page=1)


def test_imods_unsigned_bytes_are_no_negative_greys(tmp_path):
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(GREY.view(np.int8))
    content = bytearray((tmp_path / "a.mrc").read_bytes())
    content[152:160] = struct.pack("<II", 1146047817, 0)
    (tmp_path / "a.mrc").write_bytes(content)
    found = read_gray(tmp_path / "a.mrc")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, GREY)


def stored(image: np.ndarray, orientation: int) -> np.ndarray:
    """Return what a camera stores that a viewer turns into `image`, by the table of EXIF."""
    return {
        1: image,
        2: image[:, ::-1],
        3: image[::-1, ::-1],
        4: image[::-1],
        5: image.T,
        6: np.rot90(image),
        7: image[::-1, ::-1].T,
        8: np.rot90(image, -1),
    }[orientation]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once_for_every_format(tmp_path, orientation):
    pixels = np.ascontiguousarray(stored(GREY, orientation))
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    Image.fromarray(pixels).convert("RGB").save(tmp_path / "rgb.png", exif=exif)
    tag = (274, "H", 1, orientation, True)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack", extratags=[tag])
    tifffile.imwrite(tmp_path / "zlib.tif", pixels, photometric="minisblack", extratags=[tag], compression="zlib")
    Image.fromarray(pixels).convert("P").save(tmp_path / "palette.tif", tiffinfo={274: orientation})
    for path in tmp_path.iterdir():
        assert image_size(path) == GREY.shape
        np.testing.assert_array_equal(read_gray(path, memory_map=True), GREY, path.name)
    smooth = np.add.outer(np.arange(40), 2 * np.arange(56)).astype(np.uint8)
    jpeg = tmp_path / "a.jpg"
    Image.fromarray(np.ascontiguousarray(stored(smooth, orientation))).save(jpeg, exif=exif, quality=95)
    assert np.abs(read_gray(jpeg).astype(int) - smooth).max() < 8


def test_a_chain_of_pages_that_ends_in_a_loop_is_refused(tmp_path):
    data, entries = bytes(64 * 48), layout(64, 48, 8, 64 * 48)
    first = 8 + len(data)
    second = first + len(ifd(entries, 0))
    head = b"II*\0" + struct.pack("<I", first) + data
    for path, back in ((tmp_path / "loop.tif", first), (tmp_path / "self.tif", second)):
        path.write_bytes(head + ifd(entries, second) + ifd(entries, back))
        for read in (read_gray, count_pages, image_size):
            with pytest.raises(InputError, match="chain of pages has a loop"):
                read(path)


@pytest.mark.parametrize("read", [read_gray, image_size, lambda path: read_gray(path, memory_map=True)])
def test_31_gib_in_3_kib_are_refused_before_memory_is_asked_for(tmp_path, read):
    path, data = tmp_path / "a.tif", bytes(3072)
    head = b"II*\0" + struct.pack("<I", 8 + len(data)) + data
    path.write_bytes(head + ifd(layout(250_000, 130_000, 8, 3072), 0))
    with pytest.raises(InputError, match=r"a\.tif is a damaged file: it announces 130000 x 250000 pixels"):
        read(path)


def test_an_image_larger_than_the_free_memory_is_refused(tmp_path, monkeypatch):
    memory = psutil.virtual_memory()._replace(available=1000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    for name, content in {"a.png": encoded(Image.fromarray(GREY), "PNG"), "a.tif": tiff(GREY)}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=r"of memory to decode, .* Save it as an uncompressed TIFF"):
            read_gray(tmp_path / name)
    np.testing.assert_array_equal(read_gray(tmp_path / "a.tif", memory_map=True), GREY)


def test_containers_are_named_with_the_remedy(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(300))
    with pytest.raises(InputError, match=r"it contains an HDF5 file\. Save its images as TIFF"):
        read_gray(tmp_path / "a.h5")
    (tmp_path / "b.n5").mkdir()
    with pytest.raises(InputError, match=r"it is an N5 container\. Save its images as TIFF"):
        read_gray(tmp_path / "b.n5")
    assert "Save the images of its .h5 and .n5 files as TIFF" in find_images([str(tmp_path)])[1][0]


@pytest.mark.parametrize("name", ["stack.npy", "stack.mrc", "flat.zarr"])
def test_a_damaged_array_is_a_damaged_file(tmp_path, name):
    path = stack_files(tmp_path)[name]
    target = path / "zarr.json" if path.is_dir() else path
    target.write_bytes(target.read_bytes()[:250])
    for read in (read_gray, count_pages, image_size):
        with pytest.raises(InputError, match=f"{name} is a truncated or damaged"):
            read(path)
