"""U-RISC and a user's folder are read as they are laid out; what is wrong with a file is said by name."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from membrane.dataset.made_files import lossy, made_pair, made_urisc, save

from emseg.errors import InputError, UsageError
from emseg.membrane.dataset import open_membrane_set


def test_a_track_is_read_in_its_parts_with_labels_of_any_kind(tmp_path: Path):
    opened = open_membrane_set("urisc", folder=made_urisc(tmp_path))
    assert [len(images) for images in opened.parts.values()] == [8, 2, 3]
    assert (opened.kind, opened.pixel_size_nm) == ("licensed", 2.18)
    for place, image in enumerate(opened.train):  # PNG, TIFF and lossy labels alike
        grey, label = made_pair(place)
        np.testing.assert_array_equal(image.read(), grey)
        np.testing.assert_array_equal(image.read_membrane(), label == 0)


def test_images_are_in_the_order_of_their_numbers(tmp_path: Path):
    opened = open_membrane_set("urisc", folder=made_urisc(tmp_path, n_train=11))
    assert [image.name for image in opened.train] == [str(number) for number in range(1, 12)]


def test_resized_labels_are_made_binary_at_122(tmp_path: Path):
    folder = made_urisc(tmp_path, "Track2")
    label = np.full((48, 56), 255, np.uint8)
    label[10:12], label[20], label[30] = 0, 122, 123
    save(folder / "label" / "Track2" / "train" / "1.png", label)
    opened = open_membrane_set("urisc", track="track2", folder=folder)
    assert opened.pixel_size_nm == pytest.approx(21.2, rel=1e-3)
    assert np.flatnonzero(opened.train[0].read_membrane()[:, 0]).tolist() == [10, 11, 20]


def test_private_test_images_are_opened_without_labels(tmp_path: Path):
    opened = open_membrane_set("urisc", folder=made_urisc(tmp_path, private_test=True))
    assert len(opened.test) == 3
    assert not opened.labelled_test
    assert "no labels" in opened.notes


def test_validation_images_are_taken_from_training_where_there_is_no_val(tmp_path: Path):
    opened = open_membrane_set("urisc", folder=made_urisc(tmp_path, n_val=0, n_train=8))
    names = [image.name for image in (*opened.train, *opened.validation)]
    assert len(opened.validation) == 2
    assert sorted(names, key=int) == [str(number) for number in range(1, 9)]
    assert "2 training images are for validation" in opened.notes


def test_fewer_and_smaller_images_can_be_asked_for(tmp_path: Path):
    folder = made_urisc(tmp_path)
    opened = open_membrane_set("urisc", folder=folder, n_train=3, n_validation=1, n_test=2, size_px=32)
    assert [len(images) for images in opened.parts.values()] == [3, 1, 2]
    assert opened.train[0].read_membrane().shape == (32, 32)
    assert opened.fingerprint != open_membrane_set("urisc", folder=folder).fingerprint


def test_the_fingerprint_is_that_of_the_bytes(tmp_path: Path):
    first = open_membrane_set("urisc", folder=made_urisc(tmp_path / "a"))
    second = open_membrane_set("urisc", folder=made_urisc(tmp_path / "b"))
    assert first.fingerprint == second.fingerprint
    save(tmp_path / "b" / "imgs" / "Track1" / "test" / "1.png", made_pair(77)[0])
    assert open_membrane_set("urisc", folder=tmp_path / "b").fingerprint != first.fingerprint


def image_of(folder: Path) -> Path:
    return folder / "imgs" / "Track1" / "train" / "1.png"


def label_of(folder: Path) -> Path:
    return folder / "label" / "Track1" / "train" / "1.png"


def remove_track(folder: Path) -> None:
    (folder / "imgs" / "Track1").rename(folder / "imgs" / "Track9")


def remove_labels(folder: Path) -> None:
    (folder / "label").rename(folder / "labels")


def remove_label(folder: Path) -> None:
    label_of(folder).unlink()


def add_label(folder: Path) -> None:
    save(label_of(folder).with_name("99.png"), made_pair(0)[1])


def same_name_twice(folder: Path) -> None:
    save(image_of(folder).with_suffix(".tiff"), made_pair(0)[0])


def resize_label(folder: Path) -> None:
    save(label_of(folder), made_pair(0, (40, 56))[1])


def colour_image(folder: Path) -> None:
    save(image_of(folder), np.full((48, 56, 3), (9, 8, 9), np.uint8))


def colour_label(folder: Path) -> None:
    save(label_of(folder), np.random.default_rng(0).integers(0, 256, (48, 56, 3), np.uint8))


def deep_image(folder: Path) -> None:
    save(image_of(folder), made_pair(0)[0].astype(np.uint16) * 257)


def float_label(folder: Path) -> None:
    path = label_of(folder)
    path.unlink()
    save(path.with_suffix(".tif"), np.arange(48 * 56, dtype=np.float32).reshape(48, 56))


def invert_label(folder: Path) -> None:
    save(label_of(folder), 255 - made_pair(0)[1])


def image_as_label(folder: Path) -> None:
    save(label_of(folder), made_pair(0)[0])


def cells_as_label(folder: Path) -> None:
    save(label_of(folder), np.arange(48 * 56).reshape(48, 56).astype(np.uint8) % 7)


def cut_image(folder: Path) -> None:
    path = image_of(folder)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_tiff(folder: Path) -> None:
    path = image_of(folder)
    path.unlink()
    tiff = save(path.with_suffix(".tiff"), made_pair(0)[0])
    tiff.write_bytes(tiff.read_bytes()[:-500])


def text_as_image(folder: Path) -> None:
    image_of(folder).write_text("no image")


def empty_part(folder: Path) -> None:
    for path in (folder / "imgs" / "Track1" / "test").iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove_track, "imgs/Track1 must be a folder of U-RISC.*get the data from its authors.*imgs/ and label/.*syn"),
        (remove_labels, "label/Track1 must be a folder of U-RISC"),
        (remove_label, r"every image must have a label of its name; 1\.png has none"),
        (add_label, r"every label must have an image of its name; 99\.png"),
        (same_name_twice, r"each name must occur once; .* has 1\.png and 1\.tiff"),
        (resize_label, r"must have its image's size; .*1\.png has 40 x 56, .* has 48 x 56"),
        (colour_image, r"imgs/Track1/train/1\.png must be grey; it is a colour image"),
        (colour_label, r"label/Track1/train/1\.png must be grey; it is a colour image"),
        (deep_image, r"1\.png must be 8-bit grey; it contains uint16, \d+ to \d+\. .*np\.interp"),
        (float_label, r"1\.tif must be a label, of two values .* from 0 to 2687 \(float32\)"),
        (invert_label, r"label/Track1/train/1\.png looks inverted: dark pixels are \d+%"),
        (image_as_label, r"must be a label, of two values .* Is it the image or a probability map\?"),
        (cells_as_label, r"from 0 to 6 \(uint8\).*If its values number cells, .*find_boundaries"),
        (cut_image, r"1\.png is a truncated or damaged PNG"),
        (cut_tiff, r"1\.tiff is a truncated TIFF"),
        (text_as_image, r"1\.png must contain an image"),
        (empty_part, r"test must contain images \(\.png, .*\); it has none"),
    ],
)
def test_what_is_wrong_is_said_by_name(damage: Callable[[Path], None], message: str, tmp_path: Path):
    folder = made_urisc(tmp_path)
    damage(folder)
    with pytest.raises(InputError, match=message):
        open_membrane_set("urisc", folder=folder)


def made_series(folder: Path, n: int = 9, *, bright: bool = False) -> Path:
    for place in range(n):
        image, label = made_pair(place)
        save(folder / "image" / f"s{place}.png", image)
        save(folder / "label" / f"s{place}.tif", 255 - label if bright else lossy(label))
    return folder


def test_a_users_series_is_divided_as_asked(tmp_path: Path):
    block = open_membrane_set("folder", folder=made_series(tmp_path))
    assert [image.name for image in block.test] == ["s6", "s7", "s8"]
    assert [image.name for image in block.validation] == ["s4"]
    interleaved = open_membrane_set("folder", folder=tmp_path, split="interleaved")
    assert [image.name for image in interleaved.test] == ["s2", "s5", "s8"]
    assert (block.kind, block.pixel_size_nm) == ("licensed", None)
    assert block.fingerprint != interleaved.fingerprint
    np.testing.assert_array_equal(block.test[0].read_membrane(), made_pair(6)[1] == 0)


def test_a_users_statement_is_heard(tmp_path: Path):
    made_series(tmp_path, bright=True)
    said = {"name": "cortex", "pixel_size_nm": 8, "kind": "real", "membrane": "bright"}
    (tmp_path / "set.json").write_text(json.dumps(said))
    opened = open_membrane_set("folder", folder=tmp_path)
    assert (opened.name, opened.kind, opened.pixel_size_nm) == ("cortex", "real", 8)
    np.testing.assert_array_equal(opened.test[0].read_membrane(), made_pair(6)[1] == 0)


def test_a_users_own_division_is_kept(tmp_path: Path):
    for place, part in enumerate(("train", "val", "test")):
        image, label = made_pair(place)
        save(tmp_path / part / "image" / "a.png", image)
        if part != "test":
            save(tmp_path / part / "label" / "a.png", label)
    opened = open_membrane_set("folder", folder=tmp_path)
    assert [len(images) for images in opened.parts.values()] == [1, 1, 1]
    assert not opened.labelled_test
    with pytest.raises(UsageError, match="comes divided"):
        open_membrane_set("folder", folder=tmp_path, split="interleaved")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not valid JSON"),
        ("[4]", "must be an object"),
        ('{"pixel_size": 4}', "Did you mean 'pixel_size_nm'"),
        ('{"pixel_size_nm": "4"}', "`pixel_size_nm` must be a number; got '4'"),
        ('{"pixel_size_nm": -4}', "`pixel_size_nm` must be greater than 0; got -4"),
        ('{"kind": "private"}', "`kind` must be one of"),
        ('{"membrane": "white"}', "`membrane` must be one of 'dark', 'bright'"),
        ('{"name": 3}', "`name` must be text"),
    ],
)
def test_a_statement_that_cannot_be_used_is_refused(text: str, message: str, tmp_path: Path):
    (made_series(tmp_path) / "set.json").write_text(text)
    with pytest.raises(InputError, match=message):
        open_membrane_set("folder", folder=tmp_path)


def test_a_folder_that_is_none_or_lacks_a_part_is_named(tmp_path: Path):
    with pytest.raises(InputError, match="is not a folder"):
        open_membrane_set("folder", folder=tmp_path / "nowhere")
    save(tmp_path / "train" / "image" / "a.png", made_pair(0)[0])
    save(tmp_path / "train" / "label" / "a.png", made_pair(0)[1])
    with pytest.raises(InputError, match="validation/ is missing"):
        open_membrane_set("folder", folder=tmp_path)
