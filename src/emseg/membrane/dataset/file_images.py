"""Images and labels in files, opened for reading by windows: small ones in memory, large ones as tiles in the cache.

All headers are looked at before any file is decoded, so that what is wrong is named at once.
"""

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from emseg.errors import InputError
from emseg.membrane.dataset import store
from emseg.membrane.dataset.bands import read_bands
from emseg.membrane.dataset.headers import Header, read_header
from emseg.membrane.dataset.images import ArrayImage, MembraneImage, Window, no_label, require_window
from emseg.membrane.dataset.labels import LabelBands
from emseg.membrane.dataset.tiled_file import TiledFile

LARGEST_IN_MEMORY_PX = 2048 * 2048 - 1
MEMORY_PX = 512 * 2**20
"""Pixels of all images of a set that may lie in memory together, at two bytes each with their labels."""


@dataclass(frozen=True)
class FilePair:
    """An image's file, and its label's where there is one."""

    name: str
    image: Path
    label: Path | None


@dataclass(frozen=True, eq=False)
class StoredImage:
    """An image whose pixels lie in the cache as tiles."""

    name: str
    image: TiledFile
    label: TiledFile | None

    @property
    def height(self) -> int:
        """Number of rows."""
        return self.image.height

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.image.width

    @property
    def labelled(self) -> bool:
        """Whether there is a label."""
        return self.label is not None

    def read(self, window: Window | None = None) -> NDArray[np.uint8]:
        """Return the grey values [row, column] of a window, by default of the whole image."""
        return self.image.read(*require_window(self, window))

    def read_membrane(self, window: Window | None = None) -> NDArray[np.bool_]:
        """Return the membrane mask [row, column] of a window; raise `InputError` if the image has no label."""
        if self.label is None:
            raise no_label(self.name)
        return self.label.read(*require_window(self, window))


@dataclass(frozen=True, eq=False)
class OpenedFiles:
    """The images of each part, and a digest of the bytes of all files."""

    parts: Mapping[str, tuple[MembraneImage, ...]]
    digest: str


def open_files(parts: Mapping[str, Sequence[FilePair]], *, dark: bool = True, progress: bool = True) -> OpenedFiles:
    """Return the images of all parts; `dark`: in the labels membrane is dark.

    Large files are converted here, once; a bar says how far this is if it lasts. Raises `InputError` for the first file
    that cannot be used.
    """
    headers = {pair.image: _checked(pair) for pairs in parts.values() for pair in pairs}
    in_memory = _choose_in_memory(headers)
    label_kind = store.DARK_LABEL if dark else store.BRIGHT_LABEL
    work = [
        (path, kind, header)
        for pairs in parts.values()
        for pair in pairs
        if not in_memory[pair.image]
        for path, kind, header in _files(pair, label_kind, headers[pair.image])
        if store.find_stored(path, kind) is None
    ]
    if work:
        store.require_room(sum(_n_bytes(header, kind) for _, kind, header in work))
        bar = tqdm(work, unit="file", desc="converting", file=sys.stderr, disable=None if progress else True)
        for path, kind, _ in bar:
            store.store(path, kind)
    digest = hashlib.sha256()
    opened: dict[str, tuple[MembraneImage, ...]] = {}
    for part, pairs in parts.items():
        images = []
        for pair in pairs:
            image, sha256 = _in_memory(pair, dark) if in_memory[pair.image] else _as_tiles(pair, label_kind)
            digest.update(f"{part}\0{pair.name}\0{sha256}\n".encode())
            images.append(image)
        opened[part] = tuple(images)
    return OpenedFiles(opened, digest.hexdigest()[:16])


def _checked(pair: FilePair) -> Header:
    header = read_header(pair.image)
    if pair.label is not None:
        label = read_header(pair.label)
        if (label.height, label.width) != (header.height, header.width):
            raise InputError(
                f"a label must have its image's size; {pair.label} has {label.height} x {label.width}, "
                f"{pair.image} has {header.height} x {header.width}. Is it the label of another track?"
            )
    return header


def _choose_in_memory(headers: Mapping[Path, Header]) -> dict[Path, bool]:
    left = MEMORY_PX
    chosen = {}
    for path, header in headers.items():
        n = header.height * header.width
        chosen[path] = n <= min(LARGEST_IN_MEMORY_PX, left)
        left -= n if chosen[path] else 0
    return chosen


def _files(pair: FilePair, label_kind: str, header: Header) -> list[tuple[Path, str, Header]]:
    label = [] if pair.label is None else [(pair.label, label_kind, header)]
    return [(pair.image, store.IMAGE, header), *label]


def _n_bytes(header: Header, kind: str) -> int:
    pixels = header.height * header.width
    return pixels if kind == store.IMAGE else pixels // 8


def _in_memory(pair: FilePair, dark: bool) -> tuple[ArrayImage, str]:
    image = np.concatenate([band.copy() for band in read_bands(pair.image)])
    if pair.label is None:
        return ArrayImage(pair.name, image), _sha256(pair.image)
    label = np.concatenate(list(LabelBands(pair.label, dark=dark)))
    return ArrayImage(pair.name, image, label), f"{_sha256(pair.image)} {_sha256(pair.label)}"


def _as_tiles(pair: FilePair, label_kind: str) -> tuple[StoredImage, str]:
    image = store.store(pair.image, store.IMAGE)
    if pair.label is None:
        return StoredImage(pair.name, image.tiles, None), image.sha256
    label = store.store(pair.label, label_kind)
    return StoredImage(pair.name, image.tiles, label.tiles), f"{image.sha256} {label.sha256}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
