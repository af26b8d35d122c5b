"""Committed records run again, and the runs that have no record of today's code.

A metric declares how far a repetition may be off: its 95 % interval, or Student's from its spread and n. One without
either is the result of a computation and must be repeated up to rounding. Times, memory and ratios of times (units of
`MACHINE_UNITS`, names that begin with cpu_ or gpu_) depend on the machine and are not compared.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

from emseg.errors import UsageError, suggest
from emseg.intervals import metric_interval
from emseg.runs.digest import code_digests, runs_to_do
from emseg.runs.gathering import RESULTS_FOLDER, read_records
from emseg.runs.project import SEED, find_chapter, list_chapters, list_profiles, load_profile

MACHINE_UNITS = {"s", "ms", "min", "h", "MiB", "GiB", "MB"}
_RATE = "/s"  # the end of a unit such as images/s
_RELATIVE, _ABSOLUTE = 1e-6, 1e-9

Agreement = Literal["same", "agrees", "disagrees", "of the machine", "missing", "new"]


@dataclass(frozen=True)
class Repeated:
    """One metric of a committed record and of its repetition; `allowed` is the declared half-width, 0 for none."""

    name: str
    committed: float | None
    repeated: float | None
    allowed: float
    agreement: Agreement

    @property
    def holds(self) -> bool:
        """Whether the repetition supports the committed number."""
        return self.agreement not in ("disagrees", "missing")


@dataclass(frozen=True)
class MissingRun:
    """A run without a committed record of today's code; `minutes` is what it costs where known, on `basis`."""

    profile: str
    matrix: str
    chapter: str
    name: str
    minutes: float | None
    basis: str


def compare_records(committed: Mapping[str, Any], repeated: Mapping[str, Any]) -> list[Repeated]:
    """Return for each metric of two records of the same run whether the second supports the first."""
    old, new = committed["metrics"], repeated["metrics"]
    rows = [_compared(name, metric, new.get(name)) for name, metric in old.items()]
    return rows + [Repeated(name, None, new[name]["value"], 0.0, "new") for name in new if name not in old]


def missing_runs(root: Path, matrix: str | None = None) -> list[MissingRun]:
    """Return the runs of a matrix, or of all and of the chapters themselves, that today's code has not recorded.

    Without a `matrix`, a chapter counts at each profile at which it has a record. Raises `UsageError` for a matrix that
    no profile has.
    """
    profiles = [load_profile(root, name) for name in list_profiles(root)]
    known = sorted({name for profile in profiles for name in profile.matrices})
    if matrix is not None and matrix not in known:
        raise UsageError(f"unknown matrix {matrix!r}; there are: {', '.join(known)}.{suggest(matrix, known)}")
    committed = list(read_records(root / RESULTS_FOLDER))
    found = []
    for profile in profiles:
        for name, one in profile.matrices.items():
            if matrix not in (None, name):
                continue
            records = _of(committed, one.chapter, profile.name)
            runs = one.runs(root, profile.of(one.chapter).parameters)
            expected = profile.of(one.chapter).expected_minutes
            for run in runs_to_do(runs, find_chapter(root, one.chapter), records):
                minutes, basis = _cost(records, run.parameters, expected)
                found.append(MissingRun(profile.name, name, one.chapter, run.name, minutes, basis))
        for chapter in [] if matrix else list_chapters(root):
            records = _of(committed, chapter.name, profile.name)
            parameters = profile.resolve(chapter)
            today = code_digests(chapter) if records else {}
            if records and not any(one["digests"] == today and one["parameters"] == parameters for one in records):
                minutes, basis = _cost(records, parameters, profile.of(chapter.name).expected_minutes)
                found.append(MissingRun(profile.name, "", chapter.name, chapter.name, minutes, basis))
    return found


def _compared(name: str, old: Mapping[str, Any], new: Mapping[str, Any] | None) -> Repeated:
    value = old["value"]
    if new is None:
        return Repeated(name, value, None, 0.0, "missing")
    other = new["value"]
    interval = metric_interval(old)
    allowed = 0.0 if interval is None else (interval[1] - interval[0]) / 2
    if new["unit"] != old["unit"]:
        agreement: Agreement = "disagrees"
    elif math.isclose(value, other, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE):
        agreement = "same"
    elif old["unit"] in MACHINE_UNITS or old["unit"].endswith(_RATE) or name.startswith(("cpu_", "gpu_")):
        agreement = "of the machine"
    else:
        agreement = "agrees" if abs(value - other) <= allowed else "disagrees"
    return Repeated(name, value, other, allowed, agreement)


def _of(records: Iterable[Mapping[str, Any]], chapter: str, profile: str) -> list[Mapping[str, Any]]:
    return [one for one in records if (one["chapter"], one["profile"]) == (chapter, profile)]


def _cost(
    records: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any], expected: float | None
) -> tuple[float | None, str]:
    """Return the minutes that a run takes: as the records that are most like it did, else as its profile expects."""

    def n_alike(record: Mapping[str, Any]) -> int:
        return sum(record["parameters"].get(name) == value for name, value in parameters.items() if name != SEED)

    if not records:
        return expected, "" if expected is None else "as its profile expects"
    most = max(map(n_alike, records))
    alike = [one for one in records if n_alike(one) == most]
    return median(one["wall_s"] for one in alike) / 60, f"on {alike[-1]['environment']['device']}"
