"""Large images in the user's cache, converted or drawn once, as zarr arrays of which windows can be read.

    <cache>/membrane/PLACE-STATE    zarr 3, chunks of 512 x 512; images uint8, uncompressed; masks bool, compressed

PLACE is a digest of the file's path and of what it is read as, STATE of its size and modification time; of a drawn
image, of its recipe. An entry is written to a temporary folder and renamed: an interrupted conversion leaves none that
looks complete, and two processes may make the same one.
"""

import os
import shutil
import socket
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from emseg.data.registry import cache_root
from emseg.errors import InputError
from emseg.files import digest_of, digest_of_file
from emseg.images import read_gray
from emseg.membrane.dataset.labels import read_label

VERSION = 3  # raised when older entries must not be used
CHUNK = 512


class StoredArray:
    """An image (uint8) or a mask (bool) on disk, [height, width]; `sha256` is that of the file it was made from."""

    ndim = 2

    def __init__(self, array: Any) -> None:
        self.array, self.shape, self.dtype, self.size = array, array.shape, array.dtype, array.size
        self.sha256 = str(array.attrs["sha256"])

    def __getitem__(self, window: tuple[slice, slice]) -> NDArray[Any]:
        """Return a window; the slices must have plain bounds within the image."""
        place = Path(self.array.store.root)
        try:
            if not (place / "zarr.json").is_file():  # zarr reads what is missing as zeros
                raise FileNotFoundError("it was removed")
            return np.asarray(self.array[window])
        except (OSError, ValueError) as error:
            raise InputError(
                f"{place}, made from an image and kept in the cache, can no longer be read ({error}). "
                "Open the set again to make it anew."
            ) from error


def store_root() -> Path:
    """Return the folder of the store; it need not exist."""
    return cache_root().parent / "membrane"


def read_micrograph(path: Path, page: int | None = None) -> NDArray[np.uint8]:
    """Return a grey image of 8 bits, mapped where possible; raises InputError for any other."""
    image = read_gray(path, page=page, memory_map=True)
    if image.dtype != np.uint8:
        low, high = image.min(), image.max()
        raise InputError(
            f"{path} must be 8-bit grey; it contains {image.dtype}, {low:g} to {high:g}. Convert all images with the "
            f"same black and white, for example by np.interp(image, ({low:g}, {high:g}), (0, 255)).astype(np.uint8)."
        )
    return image


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, computed once for all pages of a stack."""
    return _sha256(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=16)
def _sha256(path: Path, _changed: int) -> str:
    return digest_of_file(path)


def find_file(path: Path, dark: bool | None, page: int | None = None) -> StoredArray | None:
    """Return the entry of an image file (`dark` None) or of a label if there is one and the file has not changed."""
    return _find(_place_of_file(path, dark, page))


def store_file(path: Path, dark: bool | None, page: int | None = None) -> StoredArray:
    """Return the entry of an image file or label, made if needed; raises InputError for a file that cannot be used."""
    if (found := find_file(path, dark, page)) is not None:
        return found
    array = read_micrograph(path, page) if dark is None else read_label(path, dark=dark, page=page)
    return _make(_place_of_file(path, dark, page), array, sha256_of(path))


def store_drawn(
    name: str, draw: Callable[[], tuple[NDArray[np.uint8], NDArray[np.bool_]]], shape: tuple[int, int]
) -> tuple[StoredArray, StoredArray]:
    """Return a drawn image and its mask, from the store if it has `name`, which has all that the drawing depends on."""
    places = [_entry(f"{name}\0{kind}", "") for kind in ("image", "mask")]
    image, mask = (_find(place) for place in places)
    if image is None or mask is None:
        require_room(2 * shape[0] * shape[1])
        image, mask = (_make(place, array, "") for place, array in zip(places, draw(), strict=True))
    return image, mask


def require_room(n_bytes: float) -> None:
    """Raise `InputError` if the disk of the store has less than `n_bytes` free."""
    folder = store_root()
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise InputError(
            f"these images take {n_bytes / 1e9:.1f} GB as zarr arrays, and the cache {folder} has {free / 1e9:.1f} GB "
            "free. Make room, set EMSEG_CACHE to a folder on another disk, or ask for fewer images."
        )


def _entry(place: str, state: str) -> Path:
    return store_root() / f"{digest_of(place)}-{digest_of(str(VERSION), state)}"


def _place_of_file(path: Path, dark: bool | None, page: int | None) -> Path:
    status = path.stat()
    place = f"{path.resolve()}\0{dark}" + ("" if page is None else f"\0{page}")
    return _entry(place, f"{status.st_size}:{status.st_mtime_ns}")


def _find(place: Path) -> StoredArray | None:
    import zarr

    try:
        array = zarr.open_array(place, mode="r")
        return StoredArray(array) if _n_bytes(place) == array.attrs["n_bytes"] else None
    except (OSError, ValueError, KeyError):
        return None


def _n_bytes(place: Path) -> int:
    return sum(file.stat().st_size for file in (place / "c").glob("*/*"))


def _make(place: Path, array: NDArray[Any], sha256: str) -> StoredArray:
    """Write an entry, replacing a damaged one and those of earlier states of its file."""
    import zarr

    begin = f".{place.name}.{socket.gethostname()}-"
    unfinished = place.parent / f"{begin}{os.getpid()}.tmp"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        for old in place.parent.glob(f"{begin}*.tmp"):  # left by an interrupted process
            if not psutil.pid_exists(int(old.name.removeprefix(begin).removesuffix(".tmp"))):
                shutil.rmtree(old, ignore_errors=True)
        layout: dict[str, Any] = {"shape": array.shape, "chunks": tuple(min(CHUNK, length) for length in array.shape)}
        layout |= {"compressors": "auto" if array.dtype == np.bool_ else None, "config": {"write_empty_chunks": True}}
        made = zarr.create_array(unfinished, dtype=array.dtype, **layout)
        made[:] = array
        made.update_attributes({"sha256": sha256, "n_bytes": _n_bytes(unfinished)})
        whole = _find(place) is not None  # another process has made it meanwhile
        for old in place.parent.glob(f"{place.name.split('-')[0]}-*"):
            if not whole or old != place:
                shutil.rmtree(old, ignore_errors=True)
        if not whole:
            unfinished.rename(place)
    except OSError as error:
        raise InputError(
            f"an image could not be written to {place.parent}: {error.strerror or error}. Free some space, or set "
            "EMSEG_CACHE to another folder, then run again; finished images are kept."
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return StoredArray(zarr.open_array(place, mode="r"))
