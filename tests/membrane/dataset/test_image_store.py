"""Large images are converted once, whole or not at all; their windows are those of the file."""

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from membrane.dataset.made_files import made_pair, made_urisc, save

from emseg.errors import InputError
from emseg.membrane.dataset import ArrayImage, folder_set, image_store, known_sets, open_membrane_set
from emseg.membrane.dataset.image_store import CHUNK, StoredArray, find_file, store_drawn, store_file

SHAPE = (2 * CHUNK + 37, CHUNK + 111)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EMSEG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "membrane"


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat small images as large ones."""
    monkeypatch.setattr(folder_set, "LARGEST_IN_MEMORY_PX", 0)


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_a_stored_window_is_that_of_the_array(data: Any, tmp_path_factory: pytest.TempPathFactory):
    height, width = (data.draw(st.integers(1, 3 * CHUNK)) for _ in "hw")
    image = np.random.default_rng(height * width).integers(0, 256, (height, width), dtype=np.uint8)
    mask = image > 127
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMSEG_CACHE", str(tmp_path_factory.mktemp("store")))
        pair = store_drawn("one", lambda: (image, mask), (height, width))
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    rows = slice(top, data.draw(st.integers(top + 1, height)))
    columns = slice(left, data.draw(st.integers(left + 1, width)))
    for one, array in zip(pair, (image, mask), strict=True):
        assert (one.shape, one.dtype, one.size) == (array.shape, array.dtype, array.size)
        np.testing.assert_array_equal(one[rows, columns], array[rows, columns], strict=True)


def test_zarr_opens_an_image_without_us(tmp_path: Path):
    image, _ = made_pair(3, SHAPE)
    entry = store_file(save(tmp_path / "a.png", image), None)
    np.testing.assert_array_equal(zarr.open_array(entry.array.store.root)[:], image)


TIFF_KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "deflate": {"compression": "zlib", "rowsperstrip": 50},
    "tiles": {"tile": (64, 48), "compression": "zlib"},
    "white is zero": {"photometric": "miniswhite", "compression": "zlib", "rowsperstrip": 50},
    "big endian": {"byteorder": ">"},
}


@pytest.mark.parametrize("kind", TIFF_KINDS)
def test_a_tiff_is_stored_whatever_its_layout(kind: str, tmp_path: Path):
    image, _ = made_pair(1, SHAPE)
    entry = store_file(save(tmp_path / "one.tif", image, **TIFF_KINDS[kind]), None)
    whole = entry[slice(0, SHAPE[0]), slice(0, SHAPE[1])]
    np.testing.assert_array_equal(whole, 255 - image if kind == "white is zero" else image)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_large_images_are_read_from_the_store_as_from_memory(suffix: str, tmp_path: Path, stored: None):
    image, label = made_pair(4, SHAPE)
    path, label_path = save(tmp_path / f"a{suffix}", image), save(tmp_path / f"b{suffix}", label)
    pair = folder_set.FilePair("a", path, label_path)
    (opened,) = folder_set.open_files({"train": [pair]})[0]["train"]
    window = (slice(200, 530), slice(250, 577))
    assert isinstance(opened, ArrayImage)
    assert isinstance(opened.image, StoredArray)
    np.testing.assert_array_equal(opened.read(window), image[window])
    np.testing.assert_array_equal(opened.read(), image)
    np.testing.assert_array_equal(opened.read_membrane(window), label[window] == 0)
    again = pickle.loads(pickle.dumps(opened))  # as loaders in other processes get it
    np.testing.assert_array_equal(again.read_membrane(window), label[window] == 0)
    assert len(pickle.dumps(opened)) < 4000


def test_store_and_memory_give_one_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = made_urisc(tmp_path)
    in_memory = open_membrane_set("urisc", folder=folder).fingerprint
    monkeypatch.setattr(folder_set, "LARGEST_IN_MEMORY_PX", 0)
    assert open_membrane_set("urisc", folder=folder).fingerprint == in_memory


def test_images_beyond_the_memory_of_a_set_are_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(folder_set, "MEMORY_PX", 2 * 48 * 56)
    opened = open_membrane_set("urisc", folder=made_urisc(tmp_path))
    kinds = [isinstance(image.image, StoredArray) for part in opened.parts.values() for image in part]
    assert kinds == [False, False, *11 * [True]]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were decoded."""
    seen: list[Path] = []
    read_gray = image_store.read_gray

    def spy(path: Path, **options: Any) -> Any:
        seen.append(path)
        return read_gray(path, **options)

    monkeypatch.setattr(image_store, "read_gray", spy)
    return seen


def test_a_file_is_converted_once_and_again_when_it_changes(tmp_path: Path, decoded: list[Path], cache: Path):
    path = save(tmp_path / "a.png", made_pair(0)[0])
    first = store_file(path, None)
    assert store_file(path, None).sha256 == first.sha256
    assert len(decoded) == 1
    save(path, made_pair(1)[0])
    os.utime(path, ns=(1, 1))
    second = store_file(path, None)
    assert second.sha256 != first.sha256
    np.testing.assert_array_equal(second[slice(0, 48), slice(0, 56)], made_pair(1)[0])
    assert len(list(cache.iterdir())) == 1  # that of the former state is gone


@pytest.mark.parametrize("damage", ["remove a chunk", "cut a chunk", "spoil the statement"])
def test_a_damaged_entry_is_made_again(damage: str, tmp_path: Path, decoded: list[Path]):
    path = save(tmp_path / "a.png", made_pair(0)[0])
    place = Path(store_file(path, None).array.store.root)
    chunk = place / "c" / "0" / "0"
    if damage == "remove a chunk":
        chunk.unlink()
    elif damage == "cut a chunk":
        chunk.write_bytes(chunk.read_bytes()[:-1])
    else:
        (place / "zarr.json").write_text("{")
    assert find_file(path, None) is None
    again = store_file(path, None)
    assert len(decoded) == 2
    np.testing.assert_array_equal(again[slice(0, 48), slice(0, 56)], made_pair(0)[0])


def test_an_entry_that_goes_missing_while_it_is_used_is_named(tmp_path: Path):
    entry = store_file(save(tmp_path / "a.png", made_pair(0)[0]), None)
    Path(entry.array.store.root).rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"can no longer be read .*Open the set again"):
        entry[slice(0, 4), slice(0, 4)]


def test_a_label_that_is_refused_leaves_nothing(tmp_path: Path, cache: Path):
    path = save(tmp_path / "a.png", 255 - made_pair(0)[1])
    with pytest.raises(InputError, match="looks inverted"):
        store_file(path, True)
    assert not cache.exists() or list(cache.iterdir()) == []


def test_a_full_disk_is_reported_before_and_during(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(InputError, match="set EMSEG_CACHE"):
        image_store.require_room(2**60)

    def full(*arguments: Any, **options: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zarr, "create_array", full)
    with pytest.raises(InputError, match=r"No space left on device.*finished images are kept"):
        store_file(save(tmp_path / "a.png", made_pair(0)[0]), None)
    assert list(cache.iterdir()) == []


KILLED = """
import os, signal, sys
from pathlib import Path
import zarr
from emseg.membrane.dataset import image_store
original, calls = zarr.Array.update_attributes, []
def dies(*arguments):
    calls.append(1)
    if len(calls) == 2:  # the second file is written, its statement is not
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments)
zarr.Array.update_attributes = dies
for name in sys.argv[1:]:
    image_store.store_file(Path(name), None)
"""


def test_a_conversion_that_is_killed_keeps_what_was_done(tmp_path: Path, cache: Path, decoded: list[Path]):
    names = [save(tmp_path / f"{name}.png", made_pair(5, (600, 40))[0]) for name in "ab"]
    done = subprocess.run([sys.executable, "-c", KILLED, *map(str, names)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(cache.glob(".*.tmp"))) == 1
    for name in names:
        entry = store_file(name, None)
        np.testing.assert_array_equal(entry[slice(0, 600), slice(0, 40)], made_pair(5, (600, 40))[0])
    assert decoded == [names[1]]
    assert not list(cache.glob(".*.tmp"))


@pytest.mark.parametrize("track", ["track1", "track2"])
def test_large_synthetic_images_are_drawn_once_and_kept(track: str, cache: Path, monkeypatch: pytest.MonkeyPatch):
    """Drawn in bands and read from tiles, they are those that are drawn whole in memory."""
    asked: dict[str, Any] = {"n_train": 1, "n_validation": 1, "n_test": 1, "size_px": 48, "seed": 7}
    in_memory = open_membrane_set("synthetic", track=track, **asked)
    monkeypatch.setattr(known_sets, "LARGEST_DRAWN_AGAIN_PX", 0)
    monkeypatch.setattr(known_sets, "BAND_ROWS", 19)
    known_sets._drawn.cache_clear()
    kept = open_membrane_set("synthetic", track=track, **asked)
    monkeypatch.setattr("emseg.synthetic.tissue.synthesize_tissue", None)  # nothing is drawn any more
    known_sets._drawn.cache_clear()
    again = open_membrane_set("synthetic", track=track, **asked)
    known_sets._drawn.cache_clear()
    assert in_memory.fingerprint == kept.fingerprint == again.fingerprint
    for one, two in zip(in_memory.train + in_memory.test, again.train + again.test, strict=True):
        assert isinstance(two, ArrayImage)
        assert isinstance(two.image, StoredArray)
        np.testing.assert_array_equal(two.read(), one.read())
        np.testing.assert_array_equal(two.read_membrane(), one.read_membrane())
    assert len(list(cache.iterdir())) == 6
