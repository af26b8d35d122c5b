"""The evidence a staged book carries: which build it is, and every run record.

The build writes next to `_config.yml`

    build.json       profile, commit, tree_clean, built, current_runs {chapter: run id}, committed [run id],
                     library_digests {chapter: hex}
    records/*.json   run records: those of this build, and the committed ones
    records/cells/*  run records of matrices: shown in the ledger, gathered by chapters of results, never quoted alone

`Evidence.find` answers the one question that a page asks: which record contains this number?
"""

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from emseg.errors import InputError, UsageError, suggest
from emseg.runs.gathering import RECORDS_PARAMETER, read_record
from emseg.runs.staging import BUILD_FILE, CELLS_FOLDER, RECORDS_FOLDER

Record = dict[str, Any]


@dataclass(frozen=True)
class Key:
    """What a page asks for: `chapter#metric`, with `@profile` when it is not the present build's run."""

    chapter: str
    metric: str
    profile: str | None = None


@dataclass(frozen=True)
class Evidence:
    """The present build and all records, oldest first; the `cells` are those of matrices."""

    build: dict[str, Any]
    records: tuple[Record, ...]
    cells: tuple[Record, ...] = ()

    @property
    def profile(self) -> str:
        """The profile at which this book was built."""
        return str(self.build["profile"])

    @property
    def chapters(self) -> tuple[str, ...]:
        """All chapters that have a record."""
        return tuple(dict.fromkeys(record["chapter"] for record in self.records))

    def current(self, chapter: str) -> Record | None:
        """Return the record of the present build's run of `chapter`, or None when the build has none."""
        run_id = self.build["current_runs"].get(chapter)
        return next((record for record in self.records if record["run_id"] == run_id), None)

    def find(self, key: Key) -> Record:
        """Return the record that contains the number; raises `UsageError` naming the nearest known key otherwise."""
        if key.chapter not in self.chapters:
            raise UsageError(
                f"no run record of a chapter {key.chapter!r}.{suggest(key.chapter, self.chapters)} "
                f"Chapters with records: {', '.join(self.chapters) or 'none'}."
            )
        record = self.current(key.chapter) if key.profile is None else self._newest(key.chapter, key.profile)
        if record is None:
            raise UsageError(
                f"this build has no run of {key.chapter}. Run the chapter, or name a profile: "
                f"{key.chapter}#{key.metric}@{self._profiles(key.chapter)[-1]}."
            )
        if key.metric not in record["metrics"]:
            metrics = list(record["metrics"])
            raise UsageError(
                f"run {record['run_id']} has no metric {key.metric!r}.{suggest(key.metric, metrics)} "
                f"It has: {', '.join(metrics) or 'none'}."
            )
        return record

    def _newest(self, chapter: str, profile: str) -> Record:
        found = [one for one in self.records if one["chapter"] == chapter and one["profile"] == profile]
        if not found:
            profiles = self._profiles(chapter)
            raise UsageError(
                f"no record of {chapter} at profile {profile!r}.{suggest(profile, profiles)} "
                f"Profiles with records: {', '.join(profiles)}. Commit a record to book/results/, or name another."
            )
        return found[-1]

    def _profiles(self, chapter: str) -> list[str]:
        return list(dict.fromkeys(record["profile"] for record in self.records if record["chapter"] == chapter))

    def is_older_code(self, record: Record) -> bool | None:
        """Return whether the library's code has changed since the run; None when the chapter is no longer there."""
        digest = self.build["library_digests"].get(record["chapter"])
        return None if digest is None else bool(digest != record["digests"]["library"])

    @property
    def committed(self) -> tuple[Record, ...]:
        """The committed records, which alone decide verdicts."""
        return tuple(record for record in self.records if record["run_id"] in self.build["committed"])

    def gathered(self, record: Record) -> tuple[Record, ...]:
        """Return the committed runs of matrices that a record gathers (parameter `records_of`), by that time."""
        chapter = record["parameters"].get(RECORDS_PARAMETER)
        return tuple(cell for cell in self.cells if cell["chapter"] == chapter and cell["finished"] < record["started"])

    def n_older(self, record: Record) -> int:
        """Return how many of the runs behind a record, itself and those it gathers, are of older code."""
        return sum(self.is_older_code(one) is not False for one in (record, *self.gathered(record)))


def read_evidence(source: Path) -> Evidence:
    """Return the evidence of the staged book at `source`; raises `InputError` when it was not staged or is broken."""
    return _read(Path(source), digest_of(source))


def digest_of(source: Path) -> str:
    """Return a digest of `build.json` and all records; the empty string when the book was not staged."""
    digest = hashlib.sha256()
    if not (Path(source) / BUILD_FILE).exists():
        return ""
    for path in [Path(source) / BUILD_FILE, *_record_files(source), *_record_files(source, CELLS_FOLDER)]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _record_files(source: Path, folder: str = ".") -> list[Path]:
    return sorted((Path(source) / RECORDS_FOLDER / folder).glob("*.json"))


def _read_in_order(paths: list[Path]) -> tuple[Record, ...]:
    records = [read_record(path) for path in paths]
    return tuple(sorted(records, key=lambda record: (record["finished"], record["run_id"])))


@lru_cache(maxsize=2)
def _read(source: Path, digest: str) -> Evidence:
    if not digest:
        raise InputError(
            f"numbers of runs need a staged book, and this source has no {BUILD_FILE}. Build the book with `make book`."
        )
    build = json.loads((source / BUILD_FILE).read_text(encoding="utf-8"))
    return Evidence(build, _read_in_order(_record_files(source)), _read_in_order(_record_files(source, CELLS_FOLDER)))
