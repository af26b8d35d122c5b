"""What a measured number says about a claim: match, close, differs, or not run.

With measured number m, declared value v (to u for `between`) and a tolerance t, the claim holds within t when

    equals     v - t <= m <= v + t
    between    v - t <= m <= u + t
    at_most    m <= v + t            below    m < v + t
    at_least   m >= v - t            above    m > v - t

`match`    it holds within `match_tolerance`
`close`    it holds within `close_tolerance` only
`differs`  it holds within neither
`not run`  nothing was measured

The comparison is made in decimal on the numbers as they are written, so that 38.2 lies exactly 0.1 from 38.1, and
binary rounding never decides at an edge. Nothing here knows what the verdict ought to be: it follows from the claim's
row and the run's number alone. A number measured on synthetic data gives a verdict on synthetic data; rows for
different kinds of data are never merged.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, Protocol

from emseg.errors import InputError
from emseg.reported.claims import Claim

Verdict = Literal["match", "close", "differs", "not run"]

VERDICTS: tuple[Verdict, ...] = ("match", "close", "differs", "not run")


class MetricLike(Protocol):
    """A number of a run: what `emseg.runs` records under a name."""

    @property
    def value(self) -> float:
        """The number itself, finite."""

    @property
    def unit(self) -> str:
        """Its unit, "1" for a pure number."""

    @property
    def n(self) -> int | None:
        """The sample size."""

    @property
    def spread(self) -> float | None:
        """The standard deviation over the sample."""

    @property
    def interval(self) -> Sequence[float] | None:
        """A confidence interval, low and high."""


class RunLike(Protocol):
    """A run as a notebook holds it."""

    @property
    def metrics(self) -> Mapping[str, MetricLike]:
        """Its numbers by name."""

    @property
    def data_kinds(self) -> Sequence[str]:
        """The kinds of data that it used."""


@dataclass(frozen=True)
class Measured:
    """A measured number with what it rests on; `data_kinds` is sorted, and empty when a run used no data."""

    value: float
    unit: str
    n: int | None = None
    spread: float | None = None
    interval: tuple[float, float] | None = None
    data_kinds: tuple[str, ...] = ()
    run_id: str = ""
    profile: str = ""


@dataclass(frozen=True)
class Judged:
    """A claim, the number that decides it (None when it was not run) and the verdict."""

    claim: Claim
    measured: Measured | None
    verdict: Verdict

    @property
    def stands_in(self) -> bool:
        """Whether the number rests on another kind of data than the paper's claim is about."""
        return self.measured is not None and self.claim.data != "any" and self.measured.data_kinds != (self.claim.data,)


def judge(claim: Claim, measured: float | None) -> Verdict:
    """Return the verdict on `claim` from a measured number in the claim's unit, or from None when there is none.

    Raises `InputError` for NaN or an infinite number: an undefined measurement supports no verdict.
    """
    if measured is None:
        return "not run"
    if not math.isfinite(measured):
        raise InputError(
            f"a verdict needs a finite number; `{claim.metric}` of {claim.chapter} is {measured}. "
            "Leave the metric out where it is undefined: the claim then counts as not run."
        )
    if _holds(claim, measured, claim.match_tolerance):
        return "match"
    return "close" if _holds(claim, measured, claim.close_tolerance) else "differs"


def verdicts_of_run(claims: Iterable[Claim], run: RunLike) -> tuple[Judged, ...]:
    """Return one verdict a claim from the metrics of one run; a metric that the run lacks leaves its claim not run."""
    kinds = tuple(sorted(set(run.data_kinds)))
    judged = []
    for claim in claims:
        metric = run.metrics.get(claim.metric)
        measured = None
        if metric is not None:
            interval = None if metric.interval is None else (metric.interval[0], metric.interval[1])
            measured = Measured(metric.value, metric.unit, metric.n, metric.spread, interval, kinds)
        judged.append(_judged(claim, measured))
    return tuple(judged)


def verdicts_from_records(claims: Iterable[Claim], records: Iterable[Mapping[str, Any]]) -> tuple[Judged, ...]:
    """Return the verdicts that run records support: for each claim one row for each kind of data, or one "not run" row.

    `records` come oldest first; of the records on the same kind of data the last one that holds the metric counts.
    A record is the JSON object that a run leaves: `run_id`, `chapter`, `profile`, `data` (each with its `kind`) and
    `metrics` (by name: `value`, `unit` and, where known, `n`, `spread`, `interval`). A run on several kinds of data is
    a kind of its own.
    """
    records = tuple(records)
    judged: list[Judged] = []
    for claim in claims:
        newest: dict[tuple[str, ...], Measured] = {}
        for record in records:
            if record["chapter"] == claim.chapter and claim.metric in record["metrics"]:
                measured = _measured(record, claim.metric)
                newest[measured.data_kinds] = measured
        judged.extend(_judged(claim, newest[kinds]) for kinds in sorted(newest))
        if not newest:
            judged.append(_judged(claim, None))
    return tuple(judged)


def count_verdicts(judged: Iterable[Judged]) -> dict[Verdict, int]:
    """Return how often each verdict occurs, in the order of `VERDICTS`, the absent ones as 0."""
    counts = Counter(row.verdict for row in judged)
    return {verdict: counts[verdict] for verdict in VERDICTS}


def _holds(claim: Claim, measured: float, tolerance: float) -> bool:
    """Return whether the claim's relation holds for `measured` when it may lie `tolerance` outside."""
    m, low, t = _decimal(measured), _decimal(claim.value), _decimal(tolerance)
    high = low if claim.upper is None else _decimal(claim.upper)
    match claim.relation:
        case "equals" | "between":
            return low - t <= m <= high + t
        case "at_most":
            return m <= low + t
        case "below":
            return m < low + t
        case "at_least":
            return m >= low - t
        case "above":
            return m > low - t


def _decimal(number: float) -> Decimal:
    """Return the shortest decimal that reads back as `number`."""
    return Decimal(repr(float(number)))


def _judged(claim: Claim, measured: Measured | None) -> Judged:
    """Return the row for a claim; raises `InputError` when claim and measurement are in different units."""
    if measured is not None and measured.unit != claim.unit:
        raise InputError(
            f"claim {claim.id} is declared in {claim.unit!r}, but `{claim.metric}` of {claim.chapter} was measured in "
            f"{measured.unit!r}. Record the metric in the claim's unit."
        )
    return Judged(claim, measured, judge(claim, None if measured is None else measured.value))


def _measured(record: Mapping[str, Any], metric: str) -> Measured:
    """Return one metric of a run record with what it rests on."""
    entry = record["metrics"][metric]
    interval = entry.get("interval")
    return Measured(
        value=entry["value"],
        unit=entry["unit"],
        n=entry.get("n"),
        spread=entry.get("spread"),
        interval=None if interval is None else (interval[0], interval[1]),
        data_kinds=tuple(sorted({data["kind"] for data in record["data"]})),
        run_id=record["run_id"],
        profile=record["profile"],
    )
