"""Wafer images of any size are read, and those that cannot be used are told what to do."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
import tifffile
from PIL import Image

from emseg.errors import InputError, UsageError
from emseg.wafer.annotated_wafer import read_wafer_image, require_8_bit, to_8_bit

GREY = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "pgm"])
def test_8_bit_grey_is_read_as_it_is(suffix: str, tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / f"wafer.{suffix}")
    np.testing.assert_array_equal(read_wafer_image(tmp_path / f"wafer.{suffix}"), GREY)


def test_an_uncompressed_tiff_is_mapped_and_not_read(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "wafer.tif", GREY)
    assert isinstance(read_wafer_image(tmp_path / "wafer.tif"), np.memmap)


def test_an_image_of_30k_by_30k_pixels_is_read_without_a_complaint_about_its_size(tmp_path: Path) -> None:
    """Pillow alone refuses it as a decompression bomb; as TIFF it costs no memory (the file is sparse)."""
    path = tmp_path / "huge.tif"
    tifffile.memmap(path, shape=(30_000, 30_000), dtype=np.uint8)[29_999, 29_999] = 7
    image = read_wafer_image(path)
    assert image.shape == (30_000, 30_000)
    assert image[29_999, 29_999] == 7


def test_a_compressed_image_that_memory_cannot_hold_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(GREY).save(tmp_path / "wafer.png")
    free: Any = type("Memory", (), {"available": 1000})()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    with pytest.raises(InputError, match=r"has 40 x 50 pixels and takes about .* Save it as an uncompressed TIFF"):
        read_wafer_image(tmp_path / "wafer.png")


def test_16_bits_are_refused_with_the_range_to_give_and_read_with_it(tmp_path: Path) -> None:
    deep = (GREY.astype(np.uint16) + 20) * 200
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    with pytest.raises(InputError, match=r"must have 8 bits; .* is uint16 of 4000 to .*--grey-range \d+ \d+"):
        read_wafer_image(tmp_path / "deep.png")
    np.testing.assert_array_equal(read_wafer_image(tmp_path / "deep.png", grey_range=(4000, 55_000)), GREY)


def test_greys_beyond_the_range_are_cut_off_and_the_others_spread_evenly() -> None:
    image = np.array([[0, 100, 200, 300, 1000]], dtype=np.float32)
    np.testing.assert_array_equal(to_8_bit(image, 100, 300), [[0, 0, 128, 255, 255]])
    with pytest.raises(UsageError, match=r"black below white; got \(5, 5\)"):
        to_8_bit(image, 5, 5)


@pytest.mark.parametrize(
    ("mode", "message"),
    [("RGB", "must be grey; it is a colour image"), ("1", "it is a 1-bit image"), ("P", "has a colour palette")],
)
def test_colour_and_1_bit_images_are_refused(mode: str, message: str, tmp_path: Path) -> None:
    Image.fromarray(np.stack([GREY, GREY, 255 - GREY], -1)).convert(mode).save(tmp_path / "wafer.png")
    with pytest.raises(InputError, match=message):
        read_wafer_image(tmp_path / "wafer.png")


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "wafer.png").write_text("not an image")
    with pytest.raises(InputError, match="it contains text"):
        read_wafer_image(tmp_path / "wafer.png")
    with pytest.raises(InputError, match="does not exist"):
        read_wafer_image(tmp_path / "nowhere.png")
    with pytest.raises(InputError, match="must be grey; got colour, 4 x 4 x 3"):
        require_8_bit(np.zeros((4, 4, 3), np.uint8))
