"""Which label belongs to which image: the files of two folders, matched by name without ending."""

import re
from pathlib import Path

from emseg.errors import InputError, suggest
from emseg.membrane.dataset.file_images import FilePair
from emseg.membrane.dataset.headers import SUFFIXES

_NUMBER = re.compile(r"(\d+)")


def pair_files(images: Path, labels: Path | None) -> tuple[FilePair, ...]:
    """Return images with their labels in natural order (2 before 10); `labels` None: there are none.

    Raises `InputError` for a folder that is missing or empty, for an image without a label and for a label without an
    image, naming the first of them.
    """
    image_files = list_images(images)
    if labels is None:
        return tuple(FilePair(name, path, None) for name, path in image_files.items())
    label_files = list_images(labels)
    missing = [name for name in image_files if name not in label_files]
    extra = [name for name in label_files if name not in image_files]
    if missing:
        raise InputError(
            f"every image must have a label of its name; {image_files[missing[0]].name} has none in {labels} "
            f"({len(missing)} such images).{suggest(missing[0], extra)} Add it, or move the image away."
        )
    if extra:
        raise InputError(
            f"every label must have an image of its name; {label_files[extra[0]].name} in {labels} has none in "
            f"{images} ({len(extra)} such labels). Add it, or move the label away."
        )
    return tuple(FilePair(name, path, label_files[name]) for name, path in image_files.items())


def list_images(folder: Path) -> dict[str, Path]:
    """Return the PNG and TIFF files of a folder by name without ending, in natural order."""
    if not folder.is_dir():
        raise InputError(f"{folder} must be a folder of {', '.join(SUFFIXES)} files; there is none.")
    paths = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    found: dict[str, Path] = {}
    for path in sorted(paths, key=lambda path: natural(path.name)):
        if path.stem in found:
            raise InputError(
                f"each name must be there once; {folder} has {found[path.stem].name} and {path.name}. Remove one."
            )
        found[path.stem] = path
    if not found:
        raise InputError(f"{folder} must hold {', '.join(SUFFIXES)} files; it holds none.")
    return found


def natural(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts the numbers within names by their value."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in _NUMBER.split(name)]
