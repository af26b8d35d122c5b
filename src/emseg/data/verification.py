"""Verification: is each file of a data set there, whole and unaltered?

A file is right when its size and its SHA-256 are the registry's. The size is looked at first: a wrong size is told
without reading, and tells a truncated file (a cut download, a full disk) from an altered one (edited, re-encoded, or
changed in transit, which a text file's line ends are when a transfer "converts" them).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from emseg.data.places import data_root, require_folder
from emseg.data.registry import DataFile, Dataset, dataset
from emseg.errors import InputError


@dataclass(frozen=True)
class Problem:
    """What is wrong with one file; `str(problem)` is a clause that names it."""

    path: str
    kind: Literal["missing", "truncated", "altered", "unreadable"]
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.path} is {self.kind}" + (f" ({self.detail})" if self.detail else "")


def check(name: str | Dataset) -> list[Problem]:
    """Return what is wrong with the data set's files on this machine, in the registry's order; empty if all is right.

    Every file is read. Raises `InputError` if the data set is not here at all.
    """
    found = dataset(name)
    return examine_files(require_folder(found), found.files)


def dataset_path(name: str | Dataset) -> Path:
    """Return the folder of the data set, every file of it verified; nothing is downloaded.

    Raises `InputError`: the set is not on this machine, or some of its files are missing, truncated or altered.
    """
    found = dataset(name)
    folder = require_folder(found)
    problems = examine_files(folder, found.files)
    if problems:
        if data_root() is None:
            repair = f"run `emseg data fetch {found.name}`, which gets just the files that are wrong"
        else:
            repair = "replace them, or unset EMSEG_DATA"
        raise InputError(f"{found.name} in {folder} cannot be used: {summarize(problems)}; {repair}.")
    return folder


def examine_files(folder: Path, files: Sequence[DataFile]) -> list[Problem]:
    """Return the problems of `files` in `folder`, in their order."""
    return [problem for file in files if (problem := examine(folder, file)) is not None]


def examine(folder: Path, file: DataFile) -> Problem | None:
    """Return what is wrong with `file` in `folder`, or None."""
    path = folder / file.path
    try:
        n_bytes = path.stat().st_size
        if not path.is_file():
            return Problem(file.path, "missing", "something else has its name")
        if n_bytes < file.n_bytes:
            return Problem(file.path, "truncated", f"{n_bytes:,} of {file.n_bytes:,} bytes")
        if n_bytes > file.n_bytes:
            return Problem(file.path, "altered", f"{n_bytes:,} bytes instead of {file.n_bytes:,}")
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return Problem(file.path, "missing")
    except OSError as error:
        return Problem(file.path, "unreadable", error.strerror or str(error))
    if sha256 != file.sha256:
        return Problem(file.path, "altered", f"SHA-256 {sha256[:12]}... instead of {file.sha256[:12]}...")
    return None


def summarize(problems: Sequence[Problem], at_most: int = 3) -> str:
    """Return the problems as one clause that names the first few and counts the others."""
    named = "; ".join(str(problem) for problem in problems[:at_most])
    others = len(problems) - at_most
    return named if others <= 0 else f"{named}; and {others} more"
