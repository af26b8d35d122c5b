"""A folder of tiles and COCO annotations that detectors are trained on: layout, reading, writing, and reuse.

    images/WAFER_rROW_cCOLUMN.png          8-bit grey tiles; a place of a wafer has one file, whatever splits use it
    annotations/SPLIT/train.json           COCO; SPLIT is crops, region or wafer (see `emseg.wafer.splits`), or "given"
    annotations/SPLIT/validation.json
    benchmark.json                         kind, class names, pixel size, counts, fingerprint, parameters

The fingerprint is the SHA-256 of all pixels and annotations, independent of the PNG encoder. A folder is written next
to its place and renamed when complete. An existing one is reused if it was made from the same parameters, made again if
files are missing, and otherwise refused, never overwritten. Training reads only folders that we wrote.
"""

import hashlib
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import psutil
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import ExifTags, Image

from emseg.checks import changes_between, require_one_of
from emseg.data import DATA_KINDS
from emseg.errors import InputError, UsageError, suggest
from emseg.files import DIGEST_LENGTH, digest_of, read_json, write_json
from emseg.images import read_gray
from emseg.wafer.formats.coco import CocoSet, coco_document, document_of_set, name_in, read_coco, require_images
from emseg.wafer.splits import TRAIN, VALIDATION, Split
from emseg.wafer.tiles import Tile

IMAGES, ANNOTATIONS, STATEMENT = "images", "annotations", "benchmark.json"

GIVEN_SPLIT = "given"  # the split of a user's folder
_NAMES = {TRAIN: ("train", "training", "train2017"), VALIDATION: ("validation", "val", "valid", "test", "val2017")}
# Where programs put the COCO file of the part NAME: ours and COCO's, CVAT's, Roboflow's, Label Studio's exports.
_LAYOUTS = (
    "annotations/{}.json",
    "annotations/instances_{}.json",
    "{}/annotations/instances_default.json",
    "{}/_annotations.coco.json",
    "{}/result.json",
)
_COMPRESSION = 1  # of PNG: the fastest that compresses at all


@dataclass(frozen=True)
class SplitFiles:
    """The two COCO files of a split, and the folders that their file names are relative to (`name_in`)."""

    train: Path
    validation: Path
    train_images: Path
    validation_images: Path


@dataclass(frozen=True, eq=False)
class Benchmark:
    """A COCO folder; `statement` is the content of `benchmark.json`, empty for a user's folder."""

    folder: Path
    splits: Mapping[str, SplitFiles]
    class_names: tuple[str, ...]
    kind: str
    fingerprint: str
    pixel_size_um: float | None
    statement: Mapping[str, Any]

    def split(self, name: str) -> SplitFiles:
        """Return the files of a split; raises `UsageError` that lists the existing ones."""
        if name not in self.splits:
            raise UsageError(
                f"`split` must be one of {', '.join(self.splits)} for {self.folder}; got {name!r}."
                + suggest(name, self.splits)
            )
        return self.splits[name]

    def read(self, split: str, which: str) -> CocoSet:
        """Return the checked annotations of "train" or "validation" of a split."""
        require_one_of("which", which, (TRAIN, VALIDATION))
        files = self.split(split)
        images = getattr(files, f"{which}_images")
        return read_coco(getattr(files, which), image_folder=images, class_names=self.class_names)


def open_benchmark(folder: str | Path) -> Benchmark:
    """Return the benchmark in `folder`: one that we wrote, or a user's COCO folder.

    A user's folder contains annotations/train.json and annotations/val.json (also validation.json, instances_val.json
    and the like) and its images in images/, in images/train and images/val, or in the folder itself; or it is laid out
    as CVAT, Roboflow or Label Studio export it. Its one split is "given". Raises `InputError`, naming what is missing.
    """
    folder = Path(folder)
    return _open_ours(folder) if (folder / STATEMENT).is_file() else _open_given(folder)


def own_benchmark(folder: str | Path, into: str | Path) -> Benchmark:
    """Return the benchmark in `folder`; a user's COCO folder is first rewritten into the folder `into`.

    Boxes and areas are computed from the outlines, categories are numbered from 1. Images that are 8-bit grey as they
    are stored are linked; others that can be read as grey (rotated by their EXIF data, stored as RGB) are written
    as PNG. Image ids stay. Raises `InputError` for what `read_coco` refuses.
    """
    given, place = open_benchmark(folder), Path(into)
    if given.statement:
        return given
    parameters = {"folder": str(given.folder.resolve()), "annotations": given.fingerprint}
    if (kept := find_kept(place, parameters)) is not None:
        return kept
    with made_whole(place) as unfinished:
        (unfinished / IMAGES).mkdir()
        counts = {}
        for which in (TRAIN, VALIDATION):
            coco, source = given.read(GIVEN_SPLIT, which), getattr(given.split(GIVEN_SPLIT), f"{which}_images")
            names = []
            for image in coco.images:
                name = f"{which}_{image.id:06d}_{Path(image.file_name).name}"
                names.append(_place_image(source / image.file_name, unfinished / IMAGES / name))
            _write_document(unfinished, GIVEN_SPLIT, which, document_of_set(coco, names))
            counts[which] = len(names)
        statement: dict[str, Any] = {"kind": given.kind, "fingerprint": given.fingerprint, "parameters": parameters}
        statement |= {"class_names": given.class_names, "pixel_size_um": None, "counts": {GIVEN_SPLIT: counts}}
        write_json(unfinished / STATEMENT, statement | {"n_images": sum(counts.values())})
    return open_benchmark(place)


def write_tiles(image: UInt8[np.ndarray, "row column"], tiles: Sequence[Tile], folder: Path) -> dict[str, str]:
    """Write the pixels of `tiles` below `folder`/images; return the SHA-256 of each tile's pixels by file name.

    One wafer at a time, so that only one is in memory; `write_annotations` of all splits comes last.
    """
    (folder / IMAGES).mkdir(parents=True, exist_ok=True)
    digests = {}
    for tile in tiles:
        if tile.file_name not in digests:
            pixels = np.ascontiguousarray(tile.pixels(image))
            digests[tile.file_name] = hashlib.sha256(pixels.tobytes()).hexdigest()
            write_png(folder / IMAGES / tile.file_name, pixels)
    return digests


def write_png(path: Path, pixels: NDArray[Any]) -> None:
    """Write an 8-bit PNG quickly; raises `InputError` if the disk does not accept it."""
    _, encoded = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, _COMPRESSION])
    try:
        path.write_bytes(encoded.tobytes())
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{path} could not be written: {reason}. Free some space or choose another folder.") from error


def write_annotations(
    folder: Path,
    splits: Sequence[Split],
    digests: Mapping[str, str],
    *,
    class_names: Sequence[str],
    kind: str,
    pixel_size_um: float | None,
    parameters: Mapping[str, Any],
) -> Benchmark:
    """Write annotations and `benchmark.json` next to tiles that `write_tiles` wrote, and return the open benchmark.

    Of the tiles in `digests`, those that no split uses are removed.
    """
    whole = hashlib.sha256()
    counts: dict[str, dict[str, int]] = {}
    for split in splits:
        for which, tiles in ((TRAIN, split.train), (VALIDATION, split.validation)):
            document = coco_document(tiles, class_names, f"emseg wafer tiles, split {split.name}, {which}")
            text = _write_document(folder, split.name, which, document)
            whole.update(f"{split.name}/{which}\n{text}".encode())
            counts.setdefault(split.name, {})[which] = len(tiles)
    names = sorted({tile.file_name for split in splits for tile in (*split.train, *split.validation)})
    for unused in set(digests) - set(names):
        (folder / IMAGES / unused).unlink(missing_ok=True)
    whole.update("".join(f"{digests[name]}  {name}\n" for name in names).encode())
    statement = {
        "kind": require_one_of("kind", kind, DATA_KINDS),
        "fingerprint": whole.hexdigest()[:DIGEST_LENGTH],
        "class_names": list(class_names),
        "pixel_size_um": pixel_size_um,
        "counts": counts,
        "n_images": len(names),
        "parameters": dict(parameters),
    }
    write_json(folder / STATEMENT, statement)
    return open_benchmark(folder)


def require_wafer_name(name: str) -> str:
    """Return `name`, or raise `UsageError` where it cannot be part of a file's name."""
    if not re.fullmatch(r"[\w.-]+", name, re.ASCII) or name.startswith("."):
        raise UsageError(f"a wafer's name must be letters, digits, '.', '_' and '-', for it names files; got {name!r}.")
    return name


def find_kept(place: Path, parameters: Mapping[str, Any]) -> Benchmark | None:
    """Return the benchmark in `place` if it was made from these parameters and is complete; None if it must be made.

    Raises `UsageError`, naming what differs, if the folder contains anything else.
    """
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return None
    if not (place / STATEMENT).is_file():
        raise UsageError(f"{place} is not empty and contains no benchmark of ours. Choose another folder or remove it.")
    there, asked = read_json(place / STATEMENT).get("parameters", {}), json.loads(json.dumps(parameters))
    different = changes_between(*(dict(pd.json_normalize(one).iloc[0]) for one in (there, asked)))
    if different:
        raise UsageError(
            f"{place} contains a benchmark made from other parameters: {'; '.join(different[:3])}. "
            "Choose another folder, remove this one, or ask for what it contains."
        )
    return open_benchmark(place) if _is_whole(place) else None


@contextmanager
def made_whole(place: Path) -> Iterator[Path]:
    """Yield an empty folder next to `place` that takes its name when the body is done, and is removed if it fails."""
    place.parent.mkdir(parents=True, exist_ok=True)
    begin = f".{place.name}.unfinished-{socket.gethostname()}-"
    for old in place.parent.glob(f"{begin}*"):  # left by a process that was killed
        owner = old.name.removeprefix(begin)
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(old, ignore_errors=True)
    unfinished = place.with_name(f"{begin}{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir()
        yield unfinished
        if (place / STATEMENT).is_file() and not _is_whole(place):
            shutil.rmtree(place)
        try:
            unfinished.rename(place)
        except OSError:
            if not _is_whole(place):  # another process may have made the same in the meantime
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write_document(folder: Path, split: str, which: str, document: Mapping[str, Any]) -> str:
    text = json.dumps(document) + "\n"
    path = folder / ANNOTATIONS / split / f"{which}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return text


def _open_ours(folder: Path) -> Benchmark:
    statement = read_json(folder / STATEMENT)
    try:
        splits = {}
        for name in statement["counts"]:
            train, validation = (folder / ANNOTATIONS / name / f"{which}.json" for which in (TRAIN, VALIDATION))
            splits[name] = SplitFiles(train, validation, folder / IMAGES, folder / IMAGES)
        names, kind, fingerprint = tuple(statement["class_names"]), statement["kind"], statement["fingerprint"]
        opened = Benchmark(folder, splits, names, kind, fingerprint, statement["pixel_size_um"], statement)
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder / STATEMENT} lacks {error}; it was not written by this version.") from error
    missing = [path for files in splits.values() for path in (files.train, files.validation) if not path.is_file()]
    if missing:
        raise InputError(f"{folder} is incomplete: {missing[0]} is missing. Remove the folder and make it again.")
    return opened


def _open_given(folder: Path) -> Benchmark:
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder. Name a folder with images/ and annotations/train.json, val.json.")
    train, validation = _find(folder, TRAIN), _find(folder, VALIDATION)
    if train.class_names != validation.class_names:
        raise InputError(
            f"training and validation must have the same classes; {train.path} has {', '.join(train.class_names)}, "
            f"{validation.path} has {', '.join(validation.class_names)}."
        )
    places = [_image_folder(folder, train, TRAIN), _image_folder(folder, validation, VALIDATION)]
    both = {image.file_name for image in train.images} & {image.file_name for image in validation.images}
    if both and places[0] == places[1]:
        raise InputError(
            f"an image must be either trained on or validated on; {sorted(both)[0]} is in {train.path} and in "
            f"{validation.path} ({len(both)} such images). Remove it from one of them."
        )
    splits = {GIVEN_SPLIT: SplitFiles(train.path, validation.path, *places)}
    fingerprint = digest_of(train.path.read_bytes(), validation.path.read_bytes())
    return Benchmark(folder, splits, train.class_names, "licensed", fingerprint, pixel_size_um=None, statement={})


def _find(folder: Path, which: str) -> CocoSet:
    for name in _NAMES[which]:
        for layout in _LAYOUTS:
            if (path := folder / layout.format(name)).is_file():
                return read_coco(path)
    raise InputError(
        f"{folder} has no annotations for {which}: {ANNOTATIONS}/{_NAMES[which][0]}.json is missing (also looked for: "
        f"{', '.join(_NAMES[which][1:])}, and the exports of CVAT, Roboflow and Label Studio). Put the COCO file there."
    )


def _image_folder(folder: Path, coco: CocoSet, which: str) -> Path:
    """The folder that the file names of a COCO file are relative to; raises `InputError` with what images/ lacks."""
    candidates = [
        folder / IMAGES,
        folder,
        coco.path.parent,
        coco.path.parent / IMAGES,
        coco.path.parent.parent / IMAGES,
    ]
    candidates += [parent / name for name in _NAMES[which] for parent in (folder / IMAGES, folder)]
    for candidate in candidates:
        if all((candidate / name_in(candidate, image)).is_file() for image in coco.images):
            return candidate
    require_images(coco.path, coco.images, candidates[0])
    return candidates[0]


def _place_image(source: Path, place: Path) -> str:
    """Link an image, or write it as PNG where it is stored otherwise than it is shown; return the file's name."""
    with suppress(Exception), Image.open(source) as image:
        if image.mode == "L" and image.getexif().get(ExifTags.Base.Orientation, 1) == 1:
            place.symlink_to(source.resolve())
            return place.name
    try:
        pixels = read_gray(source)
    except InputError:
        pixels = None
    if pixels is None or pixels.dtype != np.uint8:  # colour, or 16 bits: the detector says what it needs
        place.symlink_to(source.resolve())
        return place.name
    write_png(place.with_name(f"{place.name}.png"), pixels)
    return f"{place.name}.png"


def _is_whole(place: Path) -> bool:
    try:
        n_images = open_benchmark(place).statement["n_images"]
        return sum(path.is_file() for path in (place / IMAGES).iterdir()) == int(n_images)
    except (InputError, OSError, KeyError, ValueError):
        return False
