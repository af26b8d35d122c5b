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
from hypothesis import given, settings
from hypothesis import strategies as st
from membrane.dataset.made_files import made_pair, made_urisc, save

from emseg.errors import InputError
from emseg.membrane.dataset import file_images, open_membrane_set, store, synthetic_sets
from emseg.membrane.dataset.bands import read_bands
from emseg.membrane.dataset.tiled_file import TILE_PX, write_tiles

SHAPE = (2 * TILE_PX + 37, 3 * TILE_PX + 11)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EMSEG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "membrane"


@pytest.fixture
def as_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat small images as large ones."""
    monkeypatch.setattr(file_images, "LARGEST_IN_MEMORY_PX", 0)


@settings(deadline=None, max_examples=60)
@given(data=st.data(), packed=st.booleans(), band=st.integers(1, 700))
def test_a_window_of_tiles_is_that_of_the_array(
    data: Any, packed: bool, band: int, tmp_path_factory: pytest.TempPathFactory
):
    height, width = (data.draw(st.integers(1, 3 * TILE_PX)) for _ in "hw")
    values = np.random.default_rng(height * width).integers(0, 256, (height, width), dtype=np.uint8)
    array = values > 127 if packed else values
    path = tmp_path_factory.mktemp("tiles") / "one.npy"
    with path.open("wb") as file:
        bands = (array[start : start + band] for start in range(0, height, band))
        tiles = write_tiles(file, path, bands, height, width, packed=packed)
    assert path.stat().st_size == tiles.n_bytes
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    rows, columns = (
        slice(top, data.draw(st.integers(top + 1, height))),
        slice(left, data.draw(st.integers(left + 1, width))),
    )
    read = tiles.read(rows, columns)
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array[rows, columns])


def test_numpy_opens_the_tiles_without_us(tmp_path: Path):
    array = np.arange(300 * 300, dtype=np.uint32).reshape(300, 300).astype(np.uint8)
    with (tmp_path / "one.npy").open("wb") as file:
        write_tiles(file, tmp_path / "one.npy", [array], 300, 300, packed=False)
    tiles = np.load(tmp_path / "one.npy")
    np.testing.assert_array_equal(tiles.transpose(0, 2, 1, 3).reshape(512, 512)[:300, :300], array)


@pytest.mark.parametrize("rows", [[(200, 300)], [(400, 300)], [(300, 299)], [(200, 300), (101, 300)]])
def test_rows_that_are_not_the_images_are_refused(rows: list[tuple[int, int]], tmp_path: Path):
    bands = [np.zeros(shape, np.uint8) for shape in rows]
    with (tmp_path / "one.npy").open("wb") as file, pytest.raises(InputError, match="300"):
        write_tiles(file, tmp_path / "one.npy", bands, 300, 300, packed=False)


TIFF_KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "strips": {"rowsperstrip": 19},
    "deflate": {"compression": "zlib", "rowsperstrip": 50},
    "one deflated strip": {"compression": "zlib", "rowsperstrip": SHAPE[0]},
    "tiles": {"tile": (64, 48), "compression": "zlib"},
    "white is zero": {"photometric": "miniswhite", "compression": "zlib", "rowsperstrip": 50},
    "big endian": {"byteorder": ">"},
}


@pytest.mark.parametrize("kind", TIFF_KINDS)
def test_bands_of_a_tiff_are_the_image_whatever_its_layout(kind: str, tmp_path: Path):
    image, _ = made_pair(1, SHAPE)
    path = save(tmp_path / "one.tif", image, **TIFF_KINDS[kind])
    read = np.concatenate([band.copy() for band in read_bands(path)])
    np.testing.assert_array_equal(read, 255 - image if kind == "white is zero" else image)


def test_a_compressed_tiff_is_decoded_a_strip_at_a_time(tmp_path: Path):
    path = save(tmp_path / "one.tif", made_pair(1, SHAPE)[0], compression="zlib", rowsperstrip=50)
    assert max(len(band) for band in read_bands(path)) == 50


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_large_images_are_read_from_tiles_as_from_memory(suffix: str, tmp_path: Path, as_tiles: None):
    image, label = made_pair(4, SHAPE)
    path, label_path = save(tmp_path / f"a{suffix}", image), save(tmp_path / f"b{suffix}", label)
    pair = file_images.FilePair("a", path, label_path)
    (opened,) = file_images.open_files({"train": [pair]}).parts["train"]
    window = (slice(200, 530), slice(250, 777))
    assert isinstance(opened, file_images.StoredImage)
    np.testing.assert_array_equal(opened.read(window), image[window])
    np.testing.assert_array_equal(opened.read(), image)
    np.testing.assert_array_equal(opened.read_membrane(window), label[window] == 0)
    again = pickle.loads(pickle.dumps(opened))  # as loaders in other processes get it
    np.testing.assert_array_equal(again.read_membrane(window), label[window] == 0)
    assert len(pickle.dumps(opened)) < 2000


def test_tiles_and_memory_give_one_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = made_urisc(tmp_path)
    in_memory = open_membrane_set("urisc", folder=folder).fingerprint
    monkeypatch.setattr(file_images, "LARGEST_IN_MEMORY_PX", 0)
    assert open_membrane_set("urisc", folder=folder).fingerprint == in_memory


def test_images_beyond_the_memory_of_a_set_become_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(file_images, "MEMORY_PX", 2 * 48 * 56)
    opened = open_membrane_set("urisc", folder=made_urisc(tmp_path))
    kinds = [isinstance(image, file_images.StoredImage) for part in opened.parts.values() for image in part]
    assert kinds == [False, False, *11 * [True]]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were decoded."""
    seen: list[Path] = []

    def spy(path: Path) -> Any:
        seen.append(path)
        return read_bands(path)

    monkeypatch.setattr(store, "read_bands", spy)
    return seen


def test_a_file_is_converted_once_and_again_when_it_changes(tmp_path: Path, decoded: list[Path]):
    path = save(tmp_path / "a.png", made_pair(0)[0])
    first = store.store(path, store.IMAGE)
    assert store.store(path, store.IMAGE) == first
    assert len(decoded) == 1
    save(path, made_pair(1)[0])
    os.utime(path, ns=(1, 1))
    second = store.store(path, store.IMAGE)
    assert second.sha256 != first.sha256
    np.testing.assert_array_equal(second.tiles.read(slice(0, 48), slice(0, 56)), made_pair(1)[0])


@pytest.mark.parametrize("damage", ["cut the tiles", "remove the tiles", "spoil the statement"])
def test_a_damaged_entry_is_made_again(damage: str, tmp_path: Path, decoded: list[Path]):
    path = save(tmp_path / "a.png", made_pair(0)[0])
    place = store.store(path, store.IMAGE).tiles.path
    if damage == "cut the tiles":
        place.write_bytes(place.read_bytes()[:-1])
    elif damage == "remove the tiles":
        place.unlink()
    else:
        place.with_suffix(".json").write_text("{")
    again = store.store(path, store.IMAGE)
    assert len(decoded) == 2
    np.testing.assert_array_equal(again.tiles.read(slice(0, 48), slice(0, 56)), made_pair(0)[0])


def test_tiles_that_go_missing_while_they_are_used_are_named(tmp_path: Path):
    stored = store.store(save(tmp_path / "a.png", made_pair(0)[0]), store.IMAGE)
    stored.tiles.path.unlink()
    with pytest.raises(InputError, match=r"can no longer be read .*Open the set again"):
        stored.tiles.read(slice(0, 4), slice(0, 4))


def test_a_label_that_is_refused_leaves_nothing(tmp_path: Path, cache: Path):
    path = save(tmp_path / "a.png", 255 - made_pair(0)[1])
    with pytest.raises(InputError, match="looks inverted"):
        store.store(path, store.DARK_LABEL)
    assert list(cache.iterdir()) == []


def test_a_full_disk_is_said_before_and_during(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(InputError, match="set EMSEG_CACHE"):
        store.require_room(2**60)

    def full(*arguments: Any, **options: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "write_tiles", full)
    with pytest.raises(InputError, match=r"No space left on device.*images that were done stay done"):
        store.store(save(tmp_path / "a.png", made_pair(0)[0]), store.IMAGE)
    assert list(cache.iterdir()) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from emseg.membrane.dataset import store, tiled_file
original, calls = tiled_file._write_row, []
def dies(*arguments):
    original(*arguments)
    calls.append(1)
    if len(calls) == 4:  # in the middle of the second file
        os.kill(os.getpid(), signal.SIGKILL)
tiled_file._write_row = dies
for name in sys.argv[1:]:
    store.store(Path(name), store.IMAGE)
"""


def test_a_conversion_that_is_killed_keeps_what_was_done(tmp_path: Path, cache: Path, decoded: list[Path]):
    names = [save(tmp_path / f"{name}.png", made_pair(5, (600, 40))[0]) for name in "ab"]
    done = subprocess.run([sys.executable, "-c", KILLED, *map(str, names)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(cache.glob(".*.tmp"))) == 1
    for name in names:
        stored = store.store(name, store.IMAGE)
        np.testing.assert_array_equal(stored.tiles.read(slice(0, 600), slice(0, 40)), made_pair(5, (600, 40))[0])
    assert decoded == [names[1]]
    assert not list(cache.glob(".*.tmp"))


@pytest.mark.parametrize("track", ["track1", "track2"])
def test_large_synthetic_images_are_drawn_once_and_kept(track: str, cache: Path, monkeypatch: pytest.MonkeyPatch):
    """Drawn in bands and read from tiles, they are those that are drawn whole in memory."""
    asked: dict[str, Any] = {"n_train": 1, "n_validation": 1, "n_test": 1, "size_px": 48, "seed": 7}
    in_memory = open_membrane_set("synthetic", track=track, **asked)
    monkeypatch.setattr(synthetic_sets, "LARGEST_DRAWN_AGAIN_PX", 0)
    monkeypatch.setattr(synthetic_sets, "BAND_ROWS", 19)
    synthetic_sets._drawn.cache_clear()
    kept = open_membrane_set("synthetic", track=track, **asked)
    monkeypatch.setattr(synthetic_sets, "synthesize_tissue", None)  # nothing is drawn any more
    synthetic_sets._drawn.cache_clear()
    again = open_membrane_set("synthetic", track=track, **asked)
    synthetic_sets._drawn.cache_clear()
    assert in_memory.fingerprint == kept.fingerprint == again.fingerprint
    for one, two in zip(in_memory.train + in_memory.test, again.train + again.test, strict=True):
        assert isinstance(two, file_images.StoredImage)
        np.testing.assert_array_equal(two.read(), one.read())
        np.testing.assert_array_equal(two.read_membrane(), one.read_membrane())
    assert len(list(cache.glob("*.npy"))) == 6
