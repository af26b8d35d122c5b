"""Large images, converted or drawn once, as tiles in the user's cache.

    <cache>/membrane/KEY.npy    the tiles (see `tiled_file`)
    <cache>/membrane/KEY.json   what they were made from: the file's path, size, time of change and SHA-256

KEY is a digest of the file's path and of what it is read as; of a drawn image, of its recipe. An entry is used as long
as the file has the same size and time of change, else made again. It is written beside its place and renamed, its JSON
last: a process that was killed leaves no entry that looks whole, entries made before stay, and two processes may make
the same one.
"""

import hashlib
import json
import os
import secrets
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from emseg.data.registry import cache_root
from emseg.errors import InputError
from emseg.files import write_atomically
from emseg.membrane.dataset.bands import read_bands
from emseg.membrane.dataset.headers import read_header
from emseg.membrane.dataset.labels import LabelBands
from emseg.membrane.dataset.tiled_file import TiledFile, write_tiles

VERSION = 1  # raised when entries made before must not be used
IMAGE, DARK_LABEL, BRIGHT_LABEL = "image", "dark label", "bright label"


@dataclass(frozen=True)
class StoredFile:
    """A file as tiles, and the SHA-256 of the file itself."""

    tiles: TiledFile
    sha256: str


def store_root() -> Path:
    """Return the folder of the store; it need not exist."""
    return cache_root().parent / "membrane"


def find_stored(path: Path, kind: str) -> StoredFile | None:
    """Return the entry of a file if there is one and the file has not changed since."""
    return _find(_place(path, kind), _made_from(path))


def store(path: Path, kind: str) -> StoredFile:
    """Return the entry of a file, made if need be; raise `InputError` for a file that cannot be used."""
    found = find_stored(path, kind)
    if found is not None:
        return found
    header, place, made_from = read_header(path), _place(path, kind), _made_from(path)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    bands = read_bands(path) if kind == IMAGE else LabelBands(path, dark=kind == DARK_LABEL)
    return _make(place, bands, (header.height, header.width), kind != IMAGE, made_from, sha256)


def keep_pair(
    name: str, draw: Callable[[], tuple[NDArray[np.uint8], NDArray[np.bool_]]], shape: tuple[int, int]
) -> tuple[TiledFile, TiledFile]:
    """Return the tiles of a drawn image and its membrane mask, from the store if `name` is there, else drawn now.

    `name` must say all that the drawing depends on.
    """
    kinds = (IMAGE, DARK_LABEL)
    places = {kind: _place_of(f"{name}\0{kind}") for kind in kinds}
    made_from = {"version": VERSION, "drawn": name}
    found = {kind: _find(place, made_from) for kind, place in places.items()}
    if None in found.values():
        require_room(2 * shape[0] * shape[1])
        image, membrane = draw()
        for kind, array in zip(kinds, (image, membrane), strict=True):
            found[kind] = _make(places[kind], [array], shape, kind != IMAGE, made_from, "")
    image_file, label_file = found[IMAGE], found[DARK_LABEL]
    assert image_file is not None
    assert label_file is not None
    return image_file.tiles, label_file.tiles


def _find(place: Path, made_from: dict[str, Any]) -> StoredFile | None:
    try:
        statement = json.loads(place.with_suffix(".json").read_text(encoding="utf-8"))
        tiles = TiledFile(place, statement["height"], statement["width"], statement["packed"], statement["offset"])
        same = statement["made_from"] == made_from and place.stat().st_size == tiles.n_bytes
    except (OSError, ValueError, KeyError):
        return None
    return StoredFile(tiles, statement["sha256"]) if same else None


def _make(
    place: Path,
    bands: Iterable[NDArray[Any]],
    shape: tuple[int, int],
    packed: bool,
    made_from: dict[str, Any],
    sha256: str,
) -> StoredFile:
    with _written_whole(place) as unfinished, unfinished.open("wb") as file:
        tiles = write_tiles(file, place, bands, *shape, packed=packed)
    statement = {
        "made_from": made_from,
        "sha256": sha256,
        "height": tiles.height,
        "width": tiles.width,
        "packed": tiles.packed,
        "offset": tiles.offset,
    }
    write_atomically(place.with_suffix(".json"), json.dumps(statement, indent=1) + "\n")
    return StoredFile(tiles, sha256)


def require_room(n_bytes: int) -> None:
    """Raise `InputError` if the disk of the store has not so many bytes free."""
    folder = store_root()
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise InputError(
            f"these images take {n_bytes / 1e9:.1f} GB as tiles, and the cache {folder} has {free / 1e9:.1f} GB free. "
            "Make room, set EMSEG_CACHE to a folder on another disk, or ask for fewer images."
        )


def _place(path: Path, kind: str) -> Path:
    return _place_of(f"{path.resolve()}\0{kind}")


def _place_of(name: str) -> Path:
    return store_root() / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.npy"


def _made_from(path: Path) -> dict[str, Any]:
    status = path.stat()
    return {"version": VERSION, "path": str(path.resolve()), "size": status.st_size, "changed_ns": status.st_mtime_ns}


@contextmanager
def _written_whole(place: Path) -> Iterator[Path]:
    """Yield the path of an unfinished file that takes the name `place` when the body is done, and goes if it fails."""
    place.parent.mkdir(parents=True, exist_ok=True)
    begin = f".{place.stem}.{socket.gethostname()}-"
    for old in place.parent.glob(f"{begin}*.tmp"):  # left by a process that was killed
        owner = old.name.removeprefix(begin).split("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            old.unlink(missing_ok=True)
    unfinished = place.parent / f"{begin}{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        yield unfinished
        unfinished.replace(place)
    except OSError as error:
        raise InputError(
            f"tiles could not be written to {place.parent}: {error.strerror or error}. Free some space, or set "
            "EMSEG_CACHE to another folder, then run again; images that were done stay done."
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)
