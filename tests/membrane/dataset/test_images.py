"""Images are read by windows, and windows that leave them are refused."""

import pickle
from typing import Any

import numpy as np
import pytest

from emseg.errors import InputError, UsageError
from emseg.membrane.dataset import ArrayImage, MembraneSet

GREY = np.arange(12 * 20, dtype=np.uint8).reshape(12, 20)
MASK = GREY % 7 == 0
IMAGE = ArrayImage("one", GREY, MASK)


def test_a_window_is_the_same_part_of_image_and_label():
    window = (slice(3, 9), slice(11, 20))
    np.testing.assert_array_equal(IMAGE.read(window), GREY[window])
    np.testing.assert_array_equal(IMAGE.read_membrane(window), MASK[window])


def test_a_reading_belongs_to_the_caller():
    before = GREY.copy()
    IMAGE.read()[:] = 0
    IMAGE.read_membrane((slice(0, 2), slice(0, 2)))[:] = True
    np.testing.assert_array_equal(GREY, before)
    np.testing.assert_array_equal(IMAGE.read_membrane(), MASK)


@pytest.mark.parametrize(
    "window",
    [
        (slice(0, 13), slice(0, 20)),
        (slice(-1, 5), slice(0, 20)),
        (slice(5, 5), slice(0, 20)),
        (slice(0, 12, 2), slice(0, 20)),
        (slice(0, 12),),
        (3, slice(0, 20)),
        [slice(0, 12), slice(0, 20)],
    ],
)
def test_a_window_that_leaves_the_image_is_refused(window: Any):
    with pytest.raises(UsageError, match="`window` must"):
        IMAGE.read(window)


def test_a_crop_of_a_crop_is_the_right_place():
    crop = ArrayImage("one", GREY, MASK, window=(slice(2, 11), slice(4, 18))).central_crop(6)
    assert (crop.height, crop.width, crop.name, crop.labelled) == (6, 6, "one", True)
    inner = (slice(1, 4), slice(2, 6))
    np.testing.assert_array_equal(crop.read(inner), GREY[4:7, 10:14])
    np.testing.assert_array_equal(crop.read_membrane(inner), MASK[4:7, 10:14])
    with pytest.raises(UsageError, match="must lie within"):
        crop.read((slice(0, 7), slice(0, 6)))


def test_the_central_crop_leaves_equal_margins():
    np.testing.assert_array_equal(IMAGE.central_crop(8).read(), GREY[2:10, 6:14])
    assert IMAGE.central_crop(0) is IMAGE
    with pytest.raises(UsageError, match=r"got 13, and one has 12 x 20\. Set it to 12, or to 0"):
        IMAGE.central_crop(13)


def test_asking_for_a_label_that_is_not_there_says_so():
    with pytest.raises(InputError, match="one has no label"):
        ArrayImage("one", GREY).read_membrane()


@pytest.mark.parametrize(
    ("image", "membrane", "message"),
    [
        (GREY.astype(np.float32), None, "must be a grey image, uint8"),
        (np.zeros((4, 4, 3), np.uint8), None, r"got uint8 \(4, 4, 3\)"),
        (GREY, GREY, "must be boolean, True on membrane; got uint8"),
        (GREY, MASK[:-1], r"must have the image's size, \(12, 20\); got \(11, 20\)"),
    ],
)
def test_other_arrays_are_refused(image: Any, membrane: Any, message: str):
    with pytest.raises(InputError, match=message):
        ArrayImage("one", image, membrane)


def test_an_image_goes_to_another_process():
    again = pickle.loads(pickle.dumps(ArrayImage("one", GREY, window=(slice(0, 4), slice(0, 4)))))
    np.testing.assert_array_equal(again.read(), GREY[:4, :4])


def made_set(**changes: Any) -> MembraneSet:
    values: dict[str, Any] = {
        "name": "set",
        "kind": "synthetic",
        "pixel_size_nm": 4.0,
        "train": (IMAGE,),
        "validation": (IMAGE,),
        "test": (ArrayImage("unlabelled", GREY), IMAGE),
        "fingerprint": "f",
    }
    return MembraneSet(**(values | changes))


def test_test_images_without_labels_are_kept_apart():
    opened = made_set()
    assert opened.n_images == 4
    assert [image.name for image in opened.labelled_test] == ["one"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "licenced"}, "Did you mean 'licensed'"),
        ({"pixel_size_nm": 0.0}, "`pixel_size_nm` must be a positive length"),
        ({"train": (IMAGE, IMAGE)}, "one is in train twice"),
        ({"train": (ArrayImage("blank", GREY),)}, "every image of train must have a label; blank of set has none"),
        ({"validation": (ArrayImage("blank", GREY),)}, "every image of validation must have a label"),
    ],
)
def test_a_set_that_cannot_be_learnt_from_is_refused(changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        made_set(**changes)
