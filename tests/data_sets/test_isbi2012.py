"""The loader of ISBI 2012, on small copies in the same layout and on the real files where they are."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emseg.data import isbi2012
from emseg.data.isbi2012 import load_isbi2012
from emseg.errors import InputError, UsageError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the layout of the real one; slice n is n everywhere, its label is membrane in the n left columns."""
    for split, kinds in (("train", ("image", "label")), ("test", ("image",))):
        for kind in kinds:
            (tmp_path / split / kind).mkdir(parents=True)
            for number in range(30):
                pixels = np.full((512, 512), number, np.uint8)
                if kind == "label":
                    pixels = np.where(np.arange(512) < number, 0, 255).astype(np.uint8)[None].repeat(512, axis=0)
                Image.fromarray(pixels).save(tmp_path / split / kind / f"{number}.png")
    monkeypatch.setattr(isbi2012, "dataset_path", lambda name: tmp_path)
    return tmp_path


def test_sections_come_in_the_order_of_their_numbers_not_of_their_names(folder: Path) -> None:
    images, labels = load_isbi2012("train")
    assert images.shape == labels.shape == (30, 512, 512)
    np.testing.assert_array_equal(images[:, 0, 0], np.arange(30))
    np.testing.assert_array_equal((labels == isbi2012.MEMBRANE)[:, 0].sum(axis=-1), np.arange(30))


def test_chosen_sections_come_in_the_order_chosen(folder: Path) -> None:
    images, labels = load_isbi2012("test", slices=[12, 3])
    assert images[:, 0, 0].tolist() == [12, 3]
    assert labels is None


@pytest.mark.parametrize(
    ("split", "slices", "message"),
    [
        ("validation", None, "`split` must be 'train' .* got 'validation'"),
        ("train", [30], r"`slices` must name sections from 0 to 29; got \[30\]"),
        ("train", [-1, 2], r"got \[-1\]"),
        ("train", [], "got none"),
    ],
)
def test_a_wrong_request_is_refused(folder: Path, split: str, slices: list[int] | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_isbi2012(split, slices)  # type: ignore[call-overload]


def test_a_label_with_grey_levels_is_refused(folder: Path) -> None:
    Image.fromarray(np.full((512, 512), 248, np.uint8)).save(folder / "train/label/4.png")
    with pytest.raises(InputError, match="contains 0 and 255 alone"):
        load_isbi2012(slices=[4])


def test_a_section_of_another_size_is_refused(folder: Path) -> None:
    Image.fromarray(np.zeros((512, 500), np.uint8)).save(folder / "train/image/4.png")
    with pytest.raises(InputError, match=r"4\.png is \(512, 500\) uint8"):
        load_isbi2012(slices=[4])


@pytest.mark.real_data
@pytest.mark.skipif("not os.environ.get('EMSEG_DATA')", reason="EMSEG_DATA is not set: the real images are not read")
def test_a_fifth_of_the_real_pixels_is_membrane_and_membrane_is_the_darker_class() -> None:
    assert os.environ["EMSEG_DATA"]
    images, labels = load_isbi2012()
    membrane = labels == isbi2012.MEMBRANE
    assert membrane.mean() == pytest.approx(0.2196, abs=5e-4)
    assert images[membrane].mean() + 30 < images[~membrane].mean()
    assert load_isbi2012("test")[0].shape == (30, 512, 512)
