"""Any image file is read as 8-bit grey, and what was done to its greys is said."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from emseg.errors import InputError, UsageError
from emseg.wafer.wafer_source import open_wafer_image

GREY = np.random.default_rng(0).integers(0, 200, (200, 300)).astype(np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (200, 300, 3)).astype(np.uint8)
LUMINANCE = (COLOUR @ np.array([0.299, 0.587, 0.114])).round()


def test_grey_of_8_bits_stays_as_it_is():
    wafer = open_wafer_image(GREY)
    np.testing.assert_array_equal(np.asarray(wafer), GREY)
    np.testing.assert_array_equal(wafer[10:20, 5:50], GREY[10:20, 5:50])
    assert wafer.notes == ()


@pytest.mark.parametrize("name", ["whole.png", "tiled.tif", "planar.tif", "array"])
def test_colour_becomes_luminance_and_says_so(tmp_path, name):
    source = tmp_path / name
    if name == "whole.png":
        Image.fromarray(COLOUR).save(source)
    elif name == "tiled.tif":
        tifffile.imwrite(source, COLOUR, tile=(64, 64), compression="zlib", photometric="rgb")
    elif name == "planar.tif":
        planes = np.moveaxis(COLOUR, -1, 0)
        tifffile.imwrite(source, planes, planarconfig="separate", photometric="rgb", compression="zlib")
    else:
        source = COLOUR
    wafer = open_wafer_image(source)
    assert wafer.shape == (200, 300)
    assert np.abs(np.asarray(wafer).astype(float) - LUMINANCE).max() <= 1
    assert sum("luminance" in note for note in wafer.notes) == 1


def test_16_bits_are_stretched_between_percentiles_without_the_mosaics_border():
    deep = np.zeros((400, 300), np.uint16)
    deep[200:] = np.random.default_rng(2).normal(30_000, 1_000, (200, 300))
    wafer = open_wafer_image(deep)
    inside = np.asarray(wafer)[200:]
    assert inside.std() > 35, "the border would have left a few greys for the sections"
    assert any(note.startswith("Greys of ") and "percentiles" in note for note in wafer.notes)


def test_a_given_grey_range_is_used():
    deep = np.arange(60_000, dtype=np.uint16).reshape(200, 300)
    wafer = open_wafer_image(deep, grey_range=(1000, 52_000))
    np.testing.assert_array_equal(np.asarray(wafer), np.clip((deep - 1000.0) / 200, 0, 255).round())
    with pytest.raises(UsageError, match="black below white"):
        open_wafer_image(deep, grey_range=(10, 10))


def test_floats_with_nan_are_read():
    image = np.random.default_rng(3).random((200, 300)).astype(np.float32)
    image[:50] = np.nan
    assert np.asarray(open_wafer_image(image))[:50].max() == 0


def test_a_saturated_image_is_said():
    bright = GREY.copy()
    bright[:100] = 255
    assert any("saturated" in note for note in open_wafer_image(bright).notes)


def test_an_image_turned_by_its_tag_is_shown_as_viewers_do(tmp_path):
    tifffile.imwrite(tmp_path / "turned.tif", GREY, extratags=[(274, "H", 1, 6, False)])
    np.testing.assert_array_equal(np.asarray(open_wafer_image(tmp_path / "turned.tif")), np.rot90(GREY, -1))


@pytest.mark.parametrize("bad", [np.zeros((2, 3, 4, 5)), np.zeros((3, 0)), np.zeros(7), np.zeros((5, 5), complex)])
def test_what_is_no_image_is_refused(bad):
    with pytest.raises(InputError, match="a wafer image must be an array"):
        open_wafer_image(bad)


def test_files_at_fault_are_named(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        open_wafer_image(tmp_path / "none.tif")
    tifffile.imwrite(tmp_path / "cut.tif", GREY)
    whole = (tmp_path / "cut.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut\.tif is a truncated"):
        open_wafer_image(tmp_path / "cut.tif")
    tifffile.imwrite(tmp_path / "two.tif", np.stack([GREY, GREY]), metadata={"axes": "QYX"})
    with pytest.raises(InputError, match="contains 2 pages"):
        open_wafer_image(tmp_path / "two.tif")
