"""A label of two values is two classes, whatever the values and their type; anything else is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import encoded, tiff
from membrane.dataset.made_files import lossy, made_pair, save
from PIL import Image

from emseg.errors import InputError
from emseg.membrane.dataset import folder_set, open_membrane_set, read_label

LABEL = made_pair(3)[1]
MEMBRANE = LABEL == 0


@pytest.mark.parametrize("values", [(0, 1), (0, 2), (1, 2), (0, 100), (0, 127), (0, 255), (254, 255), (3, 200)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int32", "int64", "float32", "float64"])
def test_two_values_are_two_classes_in_their_order(tmp_path: Path, values: tuple[int, int], dtype: str):
    low, high = values
    path = tmp_path / "label.tif"
    path.write_bytes(tiff(np.where(MEMBRANE, high, low).astype(dtype)))
    np.testing.assert_array_equal(read_label(path, dark=False), MEMBRANE)
    path.write_bytes(tiff(np.where(MEMBRANE, low, high).astype(dtype)))
    np.testing.assert_array_equal(read_label(path), MEMBRANE)


def test_negative_values_and_masks_are_classes_too(tmp_path: Path):
    path = tmp_path / "label.tif"
    for image in (np.where(MEMBRANE, -1, 0).astype(np.int8), np.where(MEMBRANE, 0.0, 0.25), ~MEMBRANE):
        path.write_bytes(tiff(image))
        np.testing.assert_array_equal(read_label(path), MEMBRANE)
    np.save(tmp_path / "label.npy", ~MEMBRANE)
    np.testing.assert_array_equal(read_label(tmp_path / "label.npy"), MEMBRANE)


@pytest.mark.parametrize(
    "image",
    [
        lossy(LABEL),
        lossy(LABEL).astype(np.uint16) * 257,
        lossy(LABEL) / np.float32(255),
        np.where(MEMBRANE, 120, np.where(np.roll(MEMBRANE, 1, 1), 130, LABEL)).astype(np.uint8),  # as resized
    ],
    ids=["lossy", "lossy, 16 bits", "lossy, float", "resized"],
)
def test_lossy_and_resized_labels_are_cut_at_122(tmp_path: Path, image: Any):
    path = tmp_path / "label.tif"
    path.write_bytes(tiff(image))
    np.testing.assert_array_equal(read_label(path), MEMBRANE)


def test_a_label_of_one_class_is_background_and_never_all_membrane(tmp_path: Path):
    path = tmp_path / "label.tif"
    for dtype in ("uint8", "uint16", "int32"):
        for value, dark in ((255, True), (1, True), (0, False)):
            path.write_bytes(tiff(np.full((8, 9), value, dtype)))
            assert not read_label(path, dark=dark).any()
        path.write_bytes(tiff(np.zeros((8, 9), dtype)))
        with pytest.raises(InputError, match=r"looks inverted: dark pixels are 100% .*--truth-membrane bright"):
            read_label(path)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.arange(90).reshape(9, 10).astype(np.uint8) % 5, r"from 0 to 4 \(uint8\).* number cells, .*find_boundaries"),
        (np.arange(900).reshape(30, 30).astype(np.uint16), r"from 0 to 899 \(uint16\)"),
        (np.arange(900).reshape(30, 30).astype(np.int32), r"from 0 to 899 \(int32\)"),
        (made_pair(0)[0], r"must be a label, of two values .* Is it the image or a probability map"),
        (np.linspace(0, 1, 90, dtype=np.float32).reshape(9, 10), r"from 0 to 1 \(float32\)"),
    ],
)
def test_what_is_no_label_is_refused_with_what_it_holds(tmp_path: Path, image: Any, said: str):
    path = tmp_path / "label.tif"
    path.write_bytes(tiff(image))
    with pytest.raises(InputError, match=said):
        read_label(path)


def series(folder: Path, n: int = 9) -> list[tuple[Any, Any]]:
    return [made_pair(place) for place in range(n)]


def test_one_bit_labels_train_as_they_score(tmp_path: Path):
    for place, (image, label) in enumerate(series(tmp_path)):
        save(tmp_path / "image" / f"{place}.png", image)
        (tmp_path / "label").mkdir(exist_ok=True)
        (tmp_path / "label" / f"{place}.png").write_bytes(encoded(Image.fromarray(label == 255), "PNG"))
    opened = open_membrane_set("folder", folder=tmp_path)
    found = {image.name: image.read_membrane() for part in opened.parts.values() for image in part}
    assert len(found) == 9
    for place in range(9):
        np.testing.assert_array_equal(found[str(place)], made_pair(place)[1] == 0)


@pytest.mark.parametrize("stored", [False, True])
def test_a_stack_of_images_and_one_of_labels_pair_by_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: bool
):
    """As ISBI 2012 is distributed: train-volume.tif and train-labels.tif."""
    pages = series(tmp_path)
    save(tmp_path / "image" / "train-volume.tif", np.stack([image for image, _ in pages]), photometric="minisblack")
    save(tmp_path / "label" / "train-labels.tif", np.stack([label for _, label in pages]), photometric="minisblack")
    monkeypatch.setenv("EMSEG_CACHE", str(tmp_path / "cache" / "data"))
    if stored:
        monkeypatch.setattr(folder_set, "LARGEST_IN_MEMORY_PX", 0)
    opened = open_membrane_set("folder", folder=tmp_path)
    assert [image.name for image in opened.test] == ["train-volume#6", "train-volume#7", "train-volume#8"]
    found = {image.name: image for part in opened.parts.values() for image in part}
    for place, (image, label) in enumerate(pages):
        np.testing.assert_array_equal(found[f"train-volume#{place}"].read(), image)
        np.testing.assert_array_equal(found[f"train-volume#{place}"].read_membrane(), label == 0)


def test_stacks_of_different_length_are_no_pair(tmp_path: Path):
    pages = series(tmp_path)
    save(tmp_path / "image" / "a.tif", np.stack([image for image, _ in pages]), photometric="minisblack")
    save(tmp_path / "label" / "b.tif", np.stack([label for _, label in pages[1:]]), photometric="minisblack")
    with pytest.raises(InputError, match=r"b\.tif must have a page for each image of .*a\.tif; it has 8, not 9"):
        open_membrane_set("folder", folder=tmp_path)
