"""Images and labels in files: how they are paired, divided and opened, and a user's own folder as a set.

    FOLDER/{train,validation,test}/{image,label}    divided by the user; test/label may be missing
    FOLDER/image, FOLDER/label                      one series, of files or of one stack each, divided as requested:

    block        test = the last third, one contiguous stretch of tissue
    interleaved  test = every third section; its neighbours on both sides are training images

Every fifth of the rest is for validation. A label has the name of its image, and a stack a page for each of its pages;
where there is one file of each, they pair whatever their names. FOLDER/set.json is optional, as is each of its entries:

    {"name": "my cortex", "pixel_size_nm": 4.0, "kind": "real", "membrane": "dark"}

"membrane" is "dark" (0 on membrane, the default) or "bright"; the default "kind" is "licensed".
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import Field
from tqdm import tqdm

from emseg.checks import require_one_of, validated
from emseg.errors import InputError, UsageError, suggest
from emseg.files import digest_of, read_json
from emseg.images import IMAGE_SUFFIXES, count_pages, find_images, image_size, read_gray
from emseg.membrane.dataset import image_store
from emseg.membrane.dataset.labels import read_label
from emseg.membrane.dataset.membrane_set import PARTS, ArrayImage, MembraneSet, require_crop

BLOCK, INTERLEAVED = "block", "interleaved"
SPLITS = (BLOCK, INTERLEAVED)
TEST_EVERY, VALIDATION_EVERY = 3, 5  # one in three; of the rest one in five
SMALLEST_SERIES = 8
LARGEST_IN_MEMORY_PX = 2048 * 2048 - 1
MEMORY_PX = 512 * 2**20
"""Pixels of all images of a set that may be in memory together, at two bytes each with their labels."""
IMAGE, LABEL, STATEMENT = "image", "label", "set.json"
_PART_FOLDERS = {"train": ("train", "training"), "validation": ("validation", "val"), "test": ("test", "testing")}
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class FilePair:
    """An image's file, its label's if it has one, and the page of both if they are stacks."""

    name: str
    image: Path
    label: Path | None
    page: int | None = None


@validated
class FolderStatement:
    """The content of `set.json`."""

    name: Annotated[str, Field(min_length=1)]
    pixel_size_nm: Annotated[float, Field(gt=0, lt=1e6)] | None = None
    kind: Literal["synthetic", "real", "licensed"] = "licensed"
    membrane: Literal["dark", "bright"] = "dark"


def folder_set(folder: Path, split: str, counts: Mapping[str, int], size_px: int) -> MembraneSet:
    """Return the user's own set; `split` divides a series, and is "block" for a folder that is already divided."""
    statement, pairs, notes = pair_folder(folder, split)
    described = {"name": statement.name, "kind": statement.kind, "pixel_size_nm": statement.pixel_size_nm}
    return set_of_files(pairs, counts, size_px, "folder", dark=statement.membrane == "dark", notes=notes, **described)


def first_look(folder: Path, split: str, size_px: int = 0) -> None:
    """Raise what `folder_set` would for a folder's layout, `size_px`, and the first image and label of each part."""
    statement, pairs, _ = pair_folder(folder, split)
    for files in pairs.values():
        for pair in files[:1]:
            read_gray(pair.image, page=pair.page)
            if pair.label is not None:
                read_label(pair.label, dark=statement.membrane == "dark", page=pair.page)
        if all(min(image_size(pair.image, page=pair.page)) < size_px for pair in files):
            smallest = min(files, key=lambda pair: min(image_size(pair.image, page=pair.page)))
            require_crop(smallest.name, *image_size(smallest.image, page=smallest.page), size_px)


def pair_folder(folder: Path, split: str) -> tuple[FolderStatement, dict[str, tuple[FilePair, ...]], str]:
    """Return what a folder declares, its files by part, and how they were divided; no image is opened."""
    if not folder.is_dir():
        raise InputError(
            f"{folder} is not a folder. Name one that has {IMAGE}/ and {LABEL}/, or train/, validation/ and test/ with "
            f"{IMAGE}/ and {LABEL}/ in each; data='synthetic' needs none."
        )
    statement = read_statement(folder)
    if (folder / IMAGE).is_dir():
        series = pair_files(folder / IMAGE, folder / LABEL)
        pairs = {part: tuple(series[place] for place in places) for part, places in divide(len(series), split).items()}
        notes = f"one series, split {split}"
    elif split != BLOCK:
        raise UsageError(f"{folder} comes divided, so `split` must be {BLOCK!r}; got {split!r}.")
    else:
        pairs, notes = {part: _part(folder, part) for part in PARTS}, "divided by its owner"
    return statement, pairs, notes


def set_of_files(
    pairs: Mapping[str, Sequence[FilePair]],
    counts: Mapping[str, int],
    size_px: int,
    origin: str,
    *,
    dark: bool = True,
    **described: Any,
) -> MembraneSet:
    """Return a set of files, `counts` images of each part (0 for all) and the central `size_px` of each (0: whole).

    `origin` begins the fingerprint; `described`: what else a `MembraneSet` has.
    """
    parts, digest = open_files({part: choose(pairs[part], counts[part], part) for part in PARTS}, dark=dark)
    cropped: dict[str, Any] = {
        part: tuple(one.central_crop(size_px) for one in images) for part, images in parts.items()
    }
    return MembraneSet(**cropped, **described, fingerprint=f"{origin}:{digest}" + (f":{size_px}" if size_px else ""))


def read_statement(folder: Path) -> FolderStatement:
    """Return the content of `set.json`, the defaults if there is none; raises `InputError` for an invalid one."""
    path = folder / STATEMENT
    if not path.is_file():
        return FolderStatement(folder.name)
    stated, allowed = read_json(path), [field.name for field in fields(FolderStatement)]
    if not isinstance(stated, dict):
        raise InputError(f"{path} must be an object with some of {', '.join(allowed)}; got {stated!r}.")
    try:
        return FolderStatement(**{"name": folder.name, **stated})
    except UsageError as error:
        raise InputError(f"{path}: {error}") from None


def _part(folder: Path, part: str) -> tuple[FilePair, ...]:
    place = next((folder / name for name in _PART_FOLDERS[part] if (folder / name).is_dir()), None)
    if place is None:
        raise InputError(
            f"{folder} must have {IMAGE}/ and {LABEL}/, or train/, validation/ and test/; {part}/ is missing. "
            "Add it, or give all images as one series."
        )
    without = part == "test" and not (place / LABEL).is_dir()
    return pair_files(place / IMAGE, None if without else place / LABEL)


def pair_files(images: Path, labels: Path | None) -> tuple[FilePair, ...]:
    """Return images with their labels in natural order (2 before 10); `labels` None: there are none.

    Every page of a stack is an image. Raises `InputError` for a folder that is missing or empty, for an image without a
    label, a label without an image, and for stacks of different length.
    """
    image_files = _list_images(images)
    label_files = image_files if labels is None else _list_images(labels)
    if len(image_files) == len(label_files) == 1:
        label_files = dict(zip(image_files, label_files.values(), strict=True))
    extra = [name for name in label_files if name not in image_files]
    if missing := [name for name in image_files if name not in label_files]:
        raise InputError(
            f"every image must have a label of its name; {image_files[missing[0]].name} has none in {labels} "
            f"({len(missing)} such images).{suggest(missing[0], extra)} Add it, or move the image away."
        )
    if extra:
        raise InputError(
            f"every label must have an image of its name; {label_files[extra[0]].name} in {labels} has none in "
            f"{images} ({len(extra)} such labels). Add it, or move the label away."
        )
    pairs: list[FilePair] = []
    for name, path in image_files.items():
        label, n = label_files[name] if labels else None, count_pages(path)
        if label is not None and (n_labels := count_pages(label)) != n:
            raise InputError(f"{label} must have a page for each image of {path}; it has {n_labels}, not {n}.")
        pairs += [FilePair(f"{name}#{k}", path, label, k) for k in range(n)] if n > 1 else [FilePair(name, path, label)]
    return tuple(pairs)


def _list_images(folder: Path) -> dict[str, Path]:
    """Return the image files of a folder by name without suffix, in natural order."""
    if not folder.is_dir():
        raise InputError(f"{folder} must be a folder of images; there is none.")
    found: dict[str, Path] = {}
    for path in find_images([str(folder)])[0]:
        if path.is_dir():
            raise InputError(f"{path} must be a file here; it is a zarr array. Save it as TIFF.")
        if (other := found.setdefault(path.stem, path)) != path:
            raise InputError(f"each name must occur once; {folder} has {other.name} and {path.name}. Remove one.")
    if not found:
        raise InputError(f"{folder} must contain images ({', '.join(IMAGE_SUFFIXES)}); it has none.")
    return found


def divide(n: int, split: str = BLOCK) -> dict[str, tuple[int, ...]]:
    """Return by part the places of a series of `n` images; raises `InputError` for fewer than eight."""
    require_one_of("split", split, SPLITS)
    if n < SMALLEST_SERIES:
        raise InputError(f"a series to divide must have at least {SMALLEST_SERIES} labelled images; got {n}.")
    test = range(n - round(n / TEST_EVERY), n) if split == BLOCK else range(TEST_EVERY - 1, n, TEST_EVERY)
    rest = [place for place in range(n) if place not in test]
    validation = tuple(rest[VALIDATION_EVERY - 1 :: VALIDATION_EVERY])
    train = tuple(place for place in rest if place not in validation)
    return {"train": train, "validation": validation, "test": tuple(test)}


def choose(items: Sequence[_Item], n: int, part: str) -> tuple[_Item, ...]:
    """Return `n` items spread evenly over a part, in its order; all for n = 0."""
    if n > len(items):
        raise UsageError(f"`n_{part}` must not exceed the {len(items)} images there are; got {n}. 0 takes all.")
    return tuple(items[(2 * i + 1) * len(items) // (2 * n)] for i in range(n)) if n else tuple(items)


def open_files(
    parts: Mapping[str, Sequence[FilePair]], *, dark: bool = True
) -> tuple[dict[str, tuple[ArrayImage, ...]], str]:
    """Return the images of each part, small ones in memory, large ones from the store, and a digest of all files.

    All sizes are checked before any file is decoded. Large files are converted here, once, with a progress bar. Raises
    `InputError` for the first file that cannot be used.
    """
    pairs = [(part, pair) for part, chosen in parts.items() for pair in chosen]
    large, left = set(), MEMORY_PX
    files: dict[tuple[Path, bool | None, int | None], float] = {}  # to convert, with their bytes in the store
    for _, pair in pairs:
        height, width = image_size(pair.image, page=pair.page)
        if pair.label is not None and (own := image_size(pair.label, page=pair.page)) != (height, width):
            raise InputError(
                f"a label must have its image's size; {pair.label} has {own[0]} x {own[1]}, "
                f"{pair.image} has {height} x {width}. Is it the label of another track?"
            )
        if height * width <= min(LARGEST_IN_MEMORY_PX, left):
            left -= height * width
            continue
        large.add(pair)
        files[pair.image, None, pair.page] = height * width
        if pair.label is not None:
            files[pair.label, dark, pair.page] = height * width / 8
    missing = {file: n_bytes for file, n_bytes in files.items() if image_store.find_file(*file) is None}
    if missing:
        image_store.require_room(sum(missing.values()))
        for file in tqdm(missing, unit="file", desc="converting", file=sys.stderr, disable=None):
            image_store.store_file(*file)
    opened: dict[str, tuple[ArrayImage, ...]] = dict.fromkeys(parts, ())
    lines = ""
    for part, pair in pairs:
        image, sha256 = _open(pair, dark, pair in large)
        lines += f"{part}\0{image.name}\0{sha256}\n"
        opened[part] += (image,)
    return opened, digest_of(lines)


def _open(pair: FilePair, dark: bool, large: bool) -> tuple[ArrayImage, str]:
    """Return an image with its label, and the SHA-256 of its files."""
    paths = [pair.image] if pair.label is None else [pair.image, pair.label]
    if large:
        stored = [
            image_store.store_file(path, kind, pair.page) for path, kind in zip(paths, (None, dark), strict=False)
        ]
        return ArrayImage(pair.name, *stored), " ".join(one.sha256 for one in stored)
    label = None if pair.label is None else read_label(pair.label, dark=dark, page=pair.page)
    image = image_store.read_micrograph(pair.image, pair.page)
    return ArrayImage(pair.name, np.ascontiguousarray(image), label), " ".join(map(image_store.sha256_of, paths))
