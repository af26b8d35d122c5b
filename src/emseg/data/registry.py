"""The registry: which data sets there are, where each file comes from, and the SHA-256 it must have.

`registry.json` holds one entry a data set. What a person decides (title, terms, pinned sources, layout) is written by
hand; the list of files is made from the files themselves by `python -m emseg.data.registry_from DIR`. A file is at

    url = source + layout[folder of the file] + "/" + name of the file

for every source of the set: all sources hold the same bytes, and the SHA-256 decides. The first is asked first, the
next only where it answers that it has no such file.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

from emseg.errors import UsageError, suggest

SHA256_PATTERN = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class DataFile:
    """One file of a data set: its path in the set's folder, its path at the source, its size and its SHA-256."""

    path: str
    upstream: str
    n_bytes: int
    sha256: str

    def __post_init__(self) -> None:
        for path in (self.path, self.upstream):
            parts = PurePosixPath(path)
            if not path or parts.is_absolute() or ".." in parts.parts or "\\" in path:
                raise ValueError(f"a path of the registry must stay inside its folder; got {path!r}")
        if self.n_bytes <= 0:
            raise ValueError(f"{self.path}: `n_bytes` must be positive; got {self.n_bytes}")
        if not SHA256_PATTERN.fullmatch(self.sha256):
            raise ValueError(f"{self.path}: `sha256` must be 64 lower-case hexadecimal digits; got {self.sha256!r}")


@dataclass(frozen=True)
class Dataset:
    """What the registry says of one data set; it holds no pixels and says nothing about this machine.

    `pixel_size_nm` and `section_nm` (section thickness) are None where the source does not state them; `citation` is a
    key of the book's bibliography; `stand_in` is the dotted name of what makes synthetic images in its place, or None.
    """

    name: str
    title: str
    kind: str
    terms: str
    citation: str
    pixel_size_nm: float | None
    section_nm: float | None
    stand_in: str | None
    stand_in_note: str
    sources: tuple[str, ...]
    files: tuple[DataFile, ...]

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ValueError(f"a data set's name must be a lower-case word, for it names a folder; got {self.name!r}")
        if self.kind not in ("real", "licensed"):
            raise ValueError(f"{self.name}: `kind` must be 'real' or 'licensed'; got {self.kind!r}")
        if not self.sources or not all(source.endswith("/") for source in self.sources):
            raise ValueError(f"{self.name}: `sources` must be URLs that end with '/'; got {self.sources}")
        if not self.files:
            raise ValueError(f"{self.name}: `files` is empty; make it with `python -m emseg.data.registry_from DIR`")
        if len({file.path for file in self.files}) < len(self.files):
            raise ValueError(f"{self.name}: every path may appear once in `files`")

    @property
    def n_bytes(self) -> int:
        """Size of all files together."""
        return sum(file.n_bytes for file in self.files)

    def urls(self, file: DataFile) -> tuple[str, ...]:
        """Return where `file` can be had, in the order in which to ask."""
        return tuple(source + file.upstream for source in self.sources)


def dataset(name: str | Dataset) -> Dataset:
    """Return the data set called `name` (a `Dataset` is returned as it is); raise `UsageError` if there is none."""
    if isinstance(name, Dataset):
        return name
    known = datasets()
    if name not in known:
        hint = suggest(name, known) or f" There are: {', '.join(known)}."
        raise UsageError(f"no data set is called {name!r}.{hint}")
    return known[name]


@cache
def datasets() -> MappingProxyType[str, Dataset]:
    """Return every data set of the registry by name."""
    return MappingProxyType({name: parse_entry(name, entry) for name, entry in read_registry().items()})


def fingerprint(name: str | Dataset) -> str:
    """Return the identity of a data set's content: SHA-256 over its files' paths and SHA-256, no file is read.

    Two data sets with the same fingerprint hold the same bytes, wherever they lie.
    """
    lines = sorted(f"{file.sha256}  {file.path}\n" for file in dataset(name).files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_registry() -> dict[str, dict[str, Any]]:
    """Return `registry.json` as it is written."""
    text = resources.files("emseg.data").joinpath("registry.json").read_text(encoding="utf-8")
    entries: dict[str, dict[str, Any]] = json.loads(text)
    return entries


def parse_entry(name: str, entry: dict[str, Any]) -> Dataset:
    """Return one entry of the registry, checked."""
    return Dataset(
        name=name,
        title=entry["title"],
        kind=entry["kind"],
        terms=entry["terms"],
        citation=entry["citation"],
        pixel_size_nm=entry["pixel_size_nm"],
        section_nm=entry["section_nm"],
        stand_in=entry["stand_in"],
        stand_in_note=entry["stand_in_note"],
        sources=tuple(entry["sources"]),
        files=tuple(_parse_file(line, entry["layout"]) for line in entry["files"]),
    )


def _parse_file(line: str, layout: dict[str, str]) -> DataFile:
    """Parse "sha256 bytes path", the way a line of `files` is written."""
    sha256, n_bytes, path = line.split(" ", maxsplit=2)
    folder = layout[str(PurePosixPath(path).parent)]
    return DataFile(path, f"{folder}/{PurePosixPath(path).name}", int(n_bytes), sha256)
