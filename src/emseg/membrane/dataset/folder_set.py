"""Images and labels of the user's own, in one of two layouts.

    FOLDER/{train,validation,test}/{image,label}    divided by the user; test/label may be missing
    FOLDER/image, FOLDER/label                      one series, divided as `splits` says

Labels bear their image's name. FOLDER/set.json may say more, all of it optional:

    {"name": "my cortex", "pixel_size_nm": 4.0, "kind": "real", "membrane": "dark"}

"membrane" is "dark" (0 on membrane, the default) or "bright"; "kind" is "licensed" unless told otherwise.
"""

import json
from dataclasses import dataclass, fields
from pathlib import Path

from emseg.data import DATA_KINDS
from emseg.errors import InputError, UsageError, suggest
from emseg.membrane.dataset.file_images import FilePair, open_files
from emseg.membrane.dataset.images import central_crop
from emseg.membrane.dataset.membrane_set import PARTS, MembraneSet
from emseg.membrane.dataset.pairing import pair_files
from emseg.membrane.dataset.splits import BLOCK, choose, divide

IMAGE, LABEL, STATEMENT = "image", "label", "set.json"
_PART_FOLDERS = {"train": ("train", "training"), "validation": ("validation", "val"), "test": ("test", "testing")}


@dataclass(frozen=True)
class FolderStatement:
    """What `set.json` says."""

    name: str
    pixel_size_nm: float | None = None
    kind: str = "licensed"
    membrane: str = "dark"


def folder_set(
    folder: Path,
    split: str = BLOCK,
    *,
    n_train: int = 0,
    n_validation: int = 0,
    n_test: int = 0,
    size_px: int = 0,
) -> MembraneSet:
    """Return the user's own set; `split` divides a series, and is "block" for a folder that comes divided."""
    if not folder.is_dir():
        raise InputError(
            f"{folder} is no folder. Name one that holds {IMAGE}/ and {LABEL}/, or train/, validation/ and test/ with "
            f"{IMAGE}/ and {LABEL}/ in each; data='synthetic' needs none."
        )
    statement = read_statement(folder)
    if (folder / IMAGE).is_dir():
        pairs = _divided(pair_files(folder / IMAGE, folder / LABEL), split)
        notes = f"one series, split {split}"
    else:
        if split != BLOCK:
            raise UsageError(f"{folder} comes divided, so `split` must be {BLOCK!r}; got {split!r}.")
        pairs = {part: _part(folder, part) for part in PARTS}
        notes = "divided by its owner"
    counts = {"train": n_train, "validation": n_validation, "test": n_test}
    chosen = {part: choose(pairs[part], counts[part], part) for part in PARTS}
    opened = open_files(chosen, dark=statement.membrane == "dark")
    train, validation, test = (tuple(central_crop(one, size_px) for one in opened.parts[part]) for part in PARTS)
    return MembraneSet(
        name=statement.name,
        kind=statement.kind,
        pixel_size_nm=statement.pixel_size_nm,
        train=train,
        validation=validation,
        test=test,
        fingerprint=f"folder:{opened.digest}" + (f":{size_px}" if size_px else ""),
        notes=notes,
    )


def read_statement(folder: Path) -> FolderStatement:
    """Return what `set.json` says, the defaults where there is none; raise `InputError` for one that cannot be used."""
    path = folder / STATEMENT
    if not path.is_file():
        return FolderStatement(folder.name)
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} must be valid JSON: {error}.") from None
    allowed = [field.name for field in fields(FolderStatement)]
    if not isinstance(said, dict):
        raise InputError(f"{path} must be an object with some of {', '.join(allowed)}; got {said!r}.")
    for name in said:
        if name not in allowed:
            raise InputError(f"{path} may say {', '.join(allowed)}; got {name!r}.{suggest(name, allowed)}")
    size: object = said.get("pixel_size_nm")
    if size is not None and (isinstance(size, bool) or not isinstance(size, int | float) or not 0 < size < 1e6):
        raise InputError(f"{path}: pixel_size_nm must be a positive length in nm; got {size!r}.")
    statement = FolderStatement(**{"name": folder.name, **said})
    if statement.kind not in DATA_KINDS:
        raise InputError(f"{path}: kind must be one of {', '.join(DATA_KINDS)}; got {statement.kind!r}.")
    if statement.membrane not in ("dark", "bright"):
        raise InputError(f"{path}: membrane must be 'dark' or 'bright'; got {statement.membrane!r}.")
    if not isinstance(statement.name, str) or not statement.name:
        raise InputError(f"{path}: name must be text; got {statement.name!r}.")
    return statement


def _divided(pairs: tuple[FilePair, ...], split: str) -> dict[str, tuple[FilePair, ...]]:
    division = divide(len(pairs), split)
    places = {"train": division.train, "validation": division.validation, "test": division.test}
    return {part: tuple(pairs[place] for place in places[part]) for part in PARTS}


def _part(folder: Path, part: str) -> tuple[FilePair, ...]:
    place = next((folder / name for name in _PART_FOLDERS[part] if (folder / name).is_dir()), None)
    if place is None:
        raise InputError(
            f"{folder} must hold {IMAGE}/ and {LABEL}/, or train/, validation/ and test/; {part}/ is missing. "
            "Add it, or give all images as one series."
        )
    labels = place / LABEL
    without = part == "test" and not labels.is_dir()
    return pair_files(place / IMAGE, None if without else labels)
