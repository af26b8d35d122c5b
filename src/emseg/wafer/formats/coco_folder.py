"""A folder of tiles and COCO annotations: how it is laid out, and opening one.

    images/WAFER_rROW_cCOLUMN.png          8-bit grey tiles; a place of a wafer has one file, whatever splits use it
    annotations/SPLIT/train.json           COCO; SPLIT is crops, region or wafer (see `emseg.wafer.splits`)
    annotations/SPLIT/validation.json
    benchmark.json                         what made it: kind, class names, pixel size, counts, fingerprint, parameters

Category ids are 1, 2, ... in the order of the class names. Besides what COCO asks for, an image carries "wafer", "row"
and "column" (where the tile was cut), an annotation "section" (its place in the wafer's list) and "visible" (the share
of the section that the tile shows).

The fingerprint is the SHA-256 of all pixels and annotations, so it does not change with the PNG encoder.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emseg.errors import InputError, UsageError, suggest
from emseg.wafer.formats.coco import CocoSet, read_coco, read_json, require_images
from emseg.wafer.splits import TRAIN, VALIDATION

IMAGES, ANNOTATIONS, STATEMENT = "images", "annotations", "benchmark.json"
KINDS = ("synthetic", "real", "licensed")
GIVEN_SPLIT = "given"  # the split of a folder that somebody else made
_TRAIN_NAMES = ("train", "training", "instances_train", "instances_train2017")
_VALIDATION_NAMES = ("validation", "val", "valid", "test", "instances_val", "instances_val2017")


@dataclass(frozen=True)
class SplitFiles:
    """The two COCO files of a split, and the folders that their file names are relative to."""

    train: Path
    validation: Path
    train_images: Path
    validation_images: Path


@dataclass(frozen=True, eq=False)
class Benchmark:
    """A COCO folder that can be trained on; `statement` is what `benchmark.json` says, empty without one."""

    folder: Path
    splits: Mapping[str, SplitFiles]
    class_names: tuple[str, ...]
    kind: str
    fingerprint: str
    pixel_size_um: float | None
    statement: Mapping[str, Any]

    def split(self, name: str) -> SplitFiles:
        """Return the files of a split; raise `UsageError` that lists those there are."""
        if name not in self.splits:
            raise UsageError(
                f"`split` must be one of {', '.join(self.splits)} for {self.folder}; got {name!r}."
                + suggest(name, self.splits)
            )
        return self.splits[name]

    def read(self, split: str, which: str) -> CocoSet:
        """Return the checked annotations of "train" or "validation" of a split."""
        if which not in (TRAIN, VALIDATION):
            raise UsageError(f"`which` must be {TRAIN} or {VALIDATION}; got {which!r}.")
        files = self.split(split)
        path, images = (
            (files.train, files.train_images) if which == TRAIN else (files.validation, files.validation_images)
        )
        return read_coco(path, image_folder=images, class_names=self.class_names)


def open_benchmark(folder: str | Path) -> Benchmark:
    """Return the benchmark in `folder`: one that we wrote, or a COCO folder as users have it.

    A user's folder holds annotations/train.json and annotations/val.json (also validation.json, instances_val.json and
    the like) and its images in images/, in images/train and images/val, or in the folder itself. Its one split is
    called "given". Raises `InputError`, naming what is missing.
    """
    folder = Path(folder)
    if (folder / STATEMENT).is_file():
        return _open_ours(folder)
    return _open_given(folder)


def require_kind(kind: str) -> str:
    """Return `kind`, or raise `UsageError` that lists what data may be."""
    if kind not in KINDS:
        raise UsageError(f"`kind` must be one of {', '.join(KINDS)}; got {kind!r}.{suggest(kind, KINDS)}")
    return kind


def _open_ours(folder: Path) -> Benchmark:
    statement = read_json(folder / STATEMENT)
    try:
        splits = {
            name: SplitFiles(
                folder / ANNOTATIONS / name / f"{TRAIN}.json",
                folder / ANNOTATIONS / name / f"{VALIDATION}.json",
                folder / IMAGES,
                folder / IMAGES,
            )
            for name in statement["counts"]
        }
        opened = Benchmark(
            folder=folder,
            splits=splits,
            class_names=tuple(statement["class_names"]),
            kind=statement["kind"],
            fingerprint=statement["fingerprint"],
            pixel_size_um=statement["pixel_size_um"],
            statement=statement,
        )
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder / STATEMENT} lacks {error}; it was not written by this version.") from error
    missing = [path for files in splits.values() for path in (files.train, files.validation) if not path.is_file()]
    if missing:
        raise InputError(f"{folder} is not whole: {missing[0]} is missing. Remove the folder and make it again.")
    return opened


def _open_given(folder: Path) -> Benchmark:
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder. Name a folder with images/ and annotations/train.json, val.json.")
    train_path, train = _find(folder, TRAIN, _TRAIN_NAMES)
    validation_path, validation = _find(folder, VALIDATION, _VALIDATION_NAMES)
    if train.class_names != validation.class_names:
        raise InputError(
            f"training and validation must have the same classes; {train_path} has {', '.join(train.class_names)}, "
            f"{validation_path} has {', '.join(validation.class_names)}."
        )
    files = SplitFiles(
        train_path,
        validation_path,
        _image_folder(folder, train, _TRAIN_NAMES),
        _image_folder(folder, validation, _VALIDATION_NAMES),
    )
    both = {image.file_name for image in train.images} & {image.file_name for image in validation.images}
    if both and files.train_images == files.validation_images:
        raise InputError(
            f"an image must be either trained on or validated on; {sorted(both)[0]} is in {train_path} and in "
            f"{validation_path} ({len(both)} such images). Remove it from one of them."
        )
    digest = hashlib.sha256(train_path.read_bytes() + validation_path.read_bytes())
    return Benchmark(
        folder=folder,
        splits={GIVEN_SPLIT: files},
        class_names=train.class_names,
        kind="licensed",
        fingerprint=digest.hexdigest()[:16],
        pixel_size_um=None,
        statement={},
    )


def _find(folder: Path, which: str, names: Sequence[str]) -> tuple[Path, CocoSet]:
    for name in names:
        path = folder / ANNOTATIONS / f"{name}.json"
        if path.is_file():
            return path, read_coco(path)
    raise InputError(
        f"{folder} has no annotations for {which}: {ANNOTATIONS}/{names[0]}.json is missing (also looked for: "
        f"{', '.join(name + '.json' for name in names[1:])}). Put the COCO file there."
    )


def _image_folder(folder: Path, coco: CocoSet, names: Sequence[str]) -> Path:
    """Return the folder that the file names of a COCO file are relative to; else say what images/ lacks."""
    candidates = [folder / IMAGES, folder, *(parent / name for name in names for parent in (folder / IMAGES, folder))]
    for candidate in candidates:
        if all((candidate / image.file_name).is_file() for image in coco.images):
            return candidate
    require_images(coco.path, coco.images, folder / IMAGES)
    raise AssertionError("an image is missing from images/")
