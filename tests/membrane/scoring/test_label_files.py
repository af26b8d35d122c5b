"""Files of labels: what has one reading only is read, in whatever form it is stored, and anything else is named."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from image_files import encoded, tiff
from PIL import Image

from emseg.errors import InputError
from emseg.images import read_gray
from emseg.membrane.dataset.labels import read_label
from emseg.membrane.scoring.score_files import read_prediction

BRIGHT = np.random.default_rng(0).random((37, 45)) < 0.8
GREY = np.where(BRIGHT, 255, 0).astype(np.uint8)


def palette(indices: np.ndarray, colours: list[tuple[int, int, int]]) -> Image.Image:
    image = Image.fromarray(indices.astype(np.uint8), "L").convert("P")
    image.putdata(indices.ravel().tolist())
    image.putpalette([channel for colour in colours for channel in colour])
    return image


THREE = np.random.default_rng(2).integers(0, 3, BRIGHT.shape)
ONE_BIT = Image.fromarray(BRIGHT)
BLACK_WHITE = palette(BRIGHT, [(0, 0, 0), (255, 255, 255)])
WHITE_BLACK = palette(~BRIGHT, [(255, 255, 255), (0, 0, 0), (200, 0, 0)])  # the red does not occur
ACCEPTED = {
    "1-bit PNG": encoded(ONE_BIT, "PNG"),
    "1-bit BMP": encoded(ONE_BIT, "BMP"),
    "1-bit PBM": encoded(ONE_BIT, "PPM"),
    "1-bit TIFF": encoded(ONE_BIT, "TIFF"),
    "1-bit TIFF, fax": encoded(ONE_BIT, "TIFF", compression="group4"),
    "1-bit TIFF, LZW": encoded(ONE_BIT, "TIFF", compression="tiff_lzw"),
    "1-bit TIFF by tifffile": tiff(BRIGHT),
    "1-bit TIFF, 0 is white": tiff(~BRIGHT, photometric="miniswhite"),
    "palette of two colours PNG": encoded(palette(BRIGHT, [(60, 0, 0), (0, 255, 0)]), "PNG"),
    "palette of two colours TIFF": encoded(palette(~BRIGHT, [(0, 255, 0), (60, 0, 0)]), "TIFF"),
    "grey palette PNG": encoded(BLACK_WHITE, "PNG"),
    "grey palette PNG, turned": encoded(WHITE_BLACK, "PNG"),
    "grey palette PNG, 1-bit": encoded(BLACK_WHITE, "PNG", bits=1),
    "grey palette TIFF": encoded(WHITE_BLACK, "TIFF"),
    "16-bit TIFF, 0 and 255": tiff(GREY.astype(np.uint16)),
    "float TIFF, 0 and 255": tiff(GREY.astype(np.float32)),
    "int32 TIFF, 0 and 1": tiff(BRIGHT.astype(np.int32)),
    "int32 TIFF, 0 and 255": tiff(GREY.astype(np.int32)),
    "uint32 TIFF, 0 and 255": tiff(GREY.astype(np.uint32)),
    "int64 TIFF, 0 and 255": tiff(GREY.astype(np.int64)),
    "int16 TIFF, 0 and 255": tiff(GREY.astype(np.int16)),
    "int8 TIFF, 0 and 1, big-endian": tiff(BRIGHT.astype(np.int8), byteorder=">"),
}
LEFT_TO_READ_GRAY = {
    "8-bit PNG": encoded(Image.fromarray(GREY), "PNG"),
    "8-bit TIFF": tiff(GREY),
    "16-bit TIFF": tiff(GREY.astype(np.uint16)),
    "float TIFF": tiff(GREY.astype(np.float32)),
    "colour PNG": encoded(Image.fromarray(np.stack([GREY] * 3, -1)), "PNG"),
    "colour palette PNG": encoded(palette(THREE, [(0, 0, 0), (255, 0, 0), (0, 255, 0)]), "PNG"),
    "colour palette TIFF": encoded(palette(THREE, [(0, 0, 0), (255, 0, 0), (0, 255, 0)]), "TIFF"),
    "transparent palette PNG": encoded(BLACK_WHITE, "PNG", transparency=0),
    "text": b"no image at all, only text",
    "nothing": b"",
    "PNG that ends in its header": encoded(ONE_BIT, "PNG")[:20],
    "TIFF that ends in its header": tiff(BRIGHT)[:9],
}


def put(folder: Path, content: bytes) -> Path:
    path = folder / "file"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ACCEPTED)
def test_every_form_of_a_label_is_the_same_label(tmp_path, name):
    path = put(tmp_path, ACCEPTED[name])
    np.testing.assert_array_equal(read_label(path), ~BRIGHT)
    prediction = read_prediction(path, "dark")
    np.testing.assert_array_equal(prediction.probability, ~BRIGHT)
    assert (prediction.kind, prediction.probability.dtype) == ("label", np.bool_)
    np.testing.assert_array_equal(read_prediction(path, "bright").probability, BRIGHT)


@pytest.mark.parametrize("name", LEFT_TO_READ_GRAY)
def test_every_other_file_is_read_or_refused_as_an_image_is(tmp_path, name):
    path, found = put(tmp_path, LEFT_TO_READ_GRAY[name]), []
    for as_label in (False, True):
        try:
            found.append(read_gray(path, as_label=as_label))
        except InputError as error:
            found.append(str(error))
    np.testing.assert_array_equal(*found)


def test_a_grey_palette_keeps_its_greys(tmp_path):
    indices = np.random.default_rng(1).integers(0, 3, (20, 30))
    greys = np.array([90, 7, 250], np.uint8)
    path = put(tmp_path, encoded(palette(indices, [(int(grey),) * 3 for grey in greys]), "PNG"))
    np.testing.assert_array_equal(read_gray(path, as_label=True), greys[indices])


@pytest.mark.parametrize("make", [lambda mask: mask, lambda mask: np.where(mask, 255, 0).astype(np.int32)])
def test_a_page_of_several_is_the_one_asked_for(tmp_path, make):
    masks = [np.roll(BRIGHT, shift, 1) for shift in range(3)]
    path = tmp_path / "stack.tif"
    with tifffile.TiffWriter(path) as writer:
        for mask in masks:
            writer.write(make(mask), photometric="minisblack")
    for page, mask in enumerate(masks):
        np.testing.assert_array_equal(read_gray(path, page=page, as_label=True), np.where(mask, 255, 0))
    with pytest.raises(InputError, match="it contains 3 pages"):
        read_label(path)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (
            np.arange(12, dtype=np.int32).reshape(3, 4),
            r"integers \(int32\).*; they lie in 0 to 11. Divide by the value",
        ),
        (np.array([[0, 7, 255]], np.uint32), r"integers \(uint32\).*; they lie in 0 to 255"),
        (np.array([[0, 700, 4095]], np.uint16), r"integers \(uint16\).*; they lie in 0 to 4095"),
    ],
)
def test_integers_that_are_no_mask_are_not_told_to_apply_the_sigmoid(tmp_path, image, said):
    with pytest.raises(InputError, match=said) as caught:
        read_prediction(put(tmp_path, tiff(image)), "dark")
    assert "sigmoid" not in str(caught.value)


@pytest.mark.parametrize("name", ["1-bit PNG", "1-bit TIFF", "1-bit BMP", "grey palette PNG"])
def test_a_file_that_was_cut_short_is_named(tmp_path, name):
    path = put(tmp_path, ACCEPTED[name][: int(0.7 * len(ACCEPTED[name]))])
    with pytest.raises(InputError, match=r"damaged|truncated"):
        read_label(path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("colour palette PNG", "it has a colour palette"),
        ("transparent palette PNG", "it has an alpha channel"),
        ("text", "it contains text"),
        ("nothing", "the file is empty"),
    ],
)
def test_what_is_ambiguous_stays_refused(tmp_path, name, said):
    with pytest.raises(InputError, match=said):
        read_prediction(put(tmp_path, LEFT_TO_READ_GRAY[name]), "dark")
