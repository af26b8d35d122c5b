"""The data sets: their pinned files, their folder on this machine, and whether each file is whole and unaltered.

`registry.json` contains one entry a data set. Title, terms, pinned sources and layout are written by hand; the list of
files is made from the files themselves by `python tools/registry.py DIR`. A file is at

    url = source + layout[folder of the file] + "/" + name of the file

for every source of the set: all sources contain the same bytes, and the SHA-256 decides. On this machine it is below
`$EMSEG_DATA/<name>/` when `EMSEG_DATA` is set: then nothing is downloaded, and a missing set is an error, so that a run
never uses other files than the user named. Otherwise the cache contains it: `$EMSEG_CACHE/data/<name>/`, or the same in
the user's cache folder of the operating system.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from emseg.checks import Count, validated
from emseg.errors import InputError, UsageError, suggest

ABSENT = "absent"
DATA_KINDS = ("synthetic", "real", "licensed")
"""What images may be: the kind decides how results on them may be read."""
_FACTS = ("title", "kind", "terms", "citation", "pixel_size_nm", "section_nm", "stand_in", "stand_in_note")


def _inside(path: str) -> str:
    if not path or path.startswith("/") or ".." in path.split("/") or "\\" in path:
        raise UsageError(f"a path of the registry must stay inside its folder; got {path!r}.")
    return path


@validated
class DataFile:
    """One file of a data set: its path in the set's folder, its path at the source, its size and its SHA-256."""

    path: Annotated[str, AfterValidator(_inside)]
    upstream: Annotated[str, AfterValidator(_inside)]
    n_bytes: Count
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


@validated
class Dataset:
    """The registry's entry of one data set; nothing about this machine.

    `pixel_size_nm` and `section_nm` (section thickness) are None where the source does not state them; `citation` is a
    key of the book's bibliography; `stand_in` is the dotted name of a generator of synthetic images, or None.
    """

    name: Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$")]  # it names a folder
    title: str
    kind: Literal["real", "licensed"]
    terms: str
    citation: str
    pixel_size_nm: float | None
    section_nm: float | None
    stand_in: str | None
    stand_in_note: str
    sources: Annotated[tuple[Annotated[str, Field(pattern="/$")], ...], Field(min_length=1)]
    files: Annotated[tuple[DataFile, ...], Field(min_length=1)]

    @property
    def n_bytes(self) -> int:
        """Size of all files together."""
        return sum(file.n_bytes for file in self.files)

    def urls(self, file: DataFile) -> tuple[str, ...]:
        """Return the addresses of `file`, in the order in which to ask."""
        return tuple(source + file.upstream for source in self.sources)


@dataclass(frozen=True)
class Problem:
    """What is wrong with one file; `str(problem)` is a clause about it."""

    path: str
    kind: Literal["missing", "truncated", "altered", "unreadable"]
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.path} is {self.kind}" + (f" ({self.detail})" if self.detail else "")


def dataset(name: str | Dataset) -> Dataset:
    """Return the data set called `name` (a `Dataset` is returned as it is); raises `UsageError` if there is none."""
    if isinstance(name, Dataset):
        return name
    known = datasets()
    if name not in known:
        hint = suggest(name, known) or f" There are: {', '.join(known)}."
        raise UsageError(f"no data set is called {name!r}.{hint}")
    return known[name]


@cache
def datasets() -> Mapping[str, Dataset]:
    """Return every data set of the registry by name."""
    return MappingProxyType({name: parse_entry(name, entry) for name, entry in read_registry().items()})


def read_registry() -> dict[str, dict[str, Any]]:
    """Return `registry.json` as it is written."""
    text = resources.files("emseg.data").joinpath("registry.json").read_text(encoding="utf-8")
    entries: dict[str, dict[str, Any]] = json.loads(text)
    return entries


def parse_entry(name: str, entry: Mapping[str, Any]) -> Dataset:
    """Return one entry of the registry, checked; a line of its `files` reads "sha256 bytes path"."""
    files = []
    for line in entry["files"]:
        sha256, n_bytes, path = line.split(" ", maxsplit=2)
        place = PurePosixPath(path)
        files.append(DataFile(path, f"{entry['layout'][str(place.parent)]}/{place.name}", int(n_bytes), sha256))
    facts = {field: entry[field] for field in _FACTS}
    return Dataset(name=name, **facts, sources=tuple(entry["sources"]), files=tuple(files))


def fingerprint(name: str | Dataset) -> str:
    """Return the identity of a data set's content: SHA-256 over its files' paths and SHA-256; no file is read."""
    lines = sorted(f"{file.sha256}  {file.path}\n" for file in dataset(name).files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def data_root() -> Path | None:
    """Return the folder `EMSEG_DATA` names, or None when it is not set (or empty)."""
    value = os.environ.get("EMSEG_DATA", "")
    return Path(value).expanduser() if value else None


def cache_root() -> Path:
    """Return the folder for downloaded data sets; it need not exist."""
    value = os.environ.get("EMSEG_CACHE", "")
    if value:
        return Path(value).expanduser() / "data"
    import platformdirs

    return platformdirs.user_cache_path("emseg", appauthor=False) / "data"


def folder_of(name: str | Dataset) -> Path:
    """Return the folder that the data set has or would have on this machine; it need not exist."""
    root = data_root()
    return (cache_root() if root is None else root) / dataset(name).name


def state(name: str | Dataset) -> str:
    """Return a cheap detector of change: a digest of (path, size, time of change) of the set's files on this machine.

    "absent" if none of them is there. Reads no file: equal states mean that the files were not written to in between,
    different states do not prove different content (see `fingerprint`).
    """
    found = dataset(name)
    folder = folder_of(found)
    lines = []
    for file in found.files:
        try:
            status = (folder / file.path).stat()
        except OSError:
            continue
        lines.append(f"{file.path}\0{status.st_size}\0{status.st_mtime_ns}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest() if lines else ABSENT


def check(name: str | Dataset) -> list[Problem]:
    """Return what is wrong with the data set's files on this machine, in the registry's order; empty if all is right.

    Every file is read. Raises `InputError` if the data set is not here at all.
    """
    found = dataset(name)
    return examine_files(_require_folder(found), found.files)


def dataset_path(name: str | Dataset) -> Path:
    """Return the folder of the data set, every file of it verified; nothing is downloaded.

    Raises `InputError` if the set is not on this machine, or some of its files are missing, truncated or altered.
    """
    found = dataset(name)
    folder = _require_folder(found)
    problems = examine_files(folder, found.files)
    if problems:
        repair = "replace them, or unset EMSEG_DATA"
        if data_root() is None:
            repair = f"run `emseg data fetch {found.name}`, which gets just the files that are wrong"
        raise InputError(f"{found.name} in {folder} cannot be used: {summarize(problems)}; {repair}.")
    return folder


def examine_files(folder: Path, files: Sequence[DataFile]) -> list[Problem]:
    """Return the problems of `files` in `folder`, in their order."""
    return [problem for file in files if (problem := _examine(folder, file)) is not None]


def summarize(problems: Sequence[Problem], at_most: int = 3) -> str:
    """Return the problems as one clause: the first few, and how many more there are."""
    named = "; ".join(str(problem) for problem in problems[:at_most])
    others = len(problems) - at_most
    return named if others <= 0 else f"{named}; and {others} more"


def _examine(folder: Path, file: DataFile) -> Problem | None:
    """Return what is wrong with `file` in `folder`, or None; a wrong size is found without reading."""
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


def _require_folder(wanted: Dataset) -> Path:
    """Return the set's folder; raises `InputError`, with what to do instead, if no file of the set is there."""
    root, folder = data_root(), folder_of(wanted)
    if state(wanted) != ABSENT:
        return folder
    if root is None:
        problem = (
            f"{wanted.name} is not on this machine: run `emseg data fetch {wanted.name}`, or set EMSEG_DATA to a "
            f"folder that contains {wanted.name}/"
        )
    elif root.is_dir():
        problem = (
            f"EMSEG_DATA is {root}, which contains no {wanted.name}: put its files in {folder} ({wanted.files[0].path} "
            f"and so on), or unset EMSEG_DATA and run `emseg data fetch {wanted.name}`"
        )
    else:
        problem = (
            f"EMSEG_DATA must name a folder that contains data sets, but {root} is not a folder: correct EMSEG_DATA, "
            f"or unset it and run `emseg data fetch {wanted.name}`"
        )
    raise InputError(f"{problem}; {wanted.stand_in_note}.")
