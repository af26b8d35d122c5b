"""Claims of the papers as rows that a run can check, and the verdicts that follow from measured numbers.

The quotation is the paper's; the statement is our reading of it as a measurement; `metric` is the number of the
chapter's run record that decides. The tolerances are declared, and so committed, before any run; `declared` says
`after` where a result had been seen by then, and every table that shows such a row says so:

    relation    equals, at_most, at_least, below, above a `value`, or between `value` and `upper`
    tolerances  absolute and in `unit`: how much the measured number may deviate and still match, or still be close
    data        what the paper's claim is about: any data, or synthetic, real or licensed images

With measured number m, declared value v (to u for `between`) and a tolerance t, the claim holds within t when

    equals     v - t <= m <= v + t        between    v - t <= m <= u + t
    at_most    m <= v + t                 below      m < v + t
    at_least   m >= v - t                 above      m > v - t

It is a `match` within `match_tolerance`, `close` within `close_tolerance` only, `differs` within neither, and `not run`
if nothing was measured. The comparison is in decimal on the numbers as written, so that 38.2 is exactly 0.1 from 38.1.
A number measured on synthetic data gives a verdict on synthetic data; different kinds of data are never merged.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any, Literal, get_args

from emseg.checks import NotNegative, validated
from emseg.errors import InputError, UsageError, suggest
from emseg.reported.tables import Finite, Table, as_number, read_rows, require_words

Relation = Literal["equals", "at_most", "at_least", "below", "above", "between"]
ClaimData = Literal["any", "synthetic", "real", "licensed"]
Verdict = Literal["match", "close", "differs", "not run"]

RELATIONS: tuple[Relation, ...] = get_args(Relation)
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
QUOTATION_WORDS = 25  # a short quotation; more is the paper's text, not a reference to it
_LOOKS = {
    "id": (r"[a-z0-9]+(-[a-z0-9]+)*", "eq3-lowest-frequency-is-gap"),
    "chapter": (r"[a-z]+/[a-z0-9_]+", "fanet/dct_derivation"),
    "metric": (r"[a-z][a-z0-9_]*", "round_trip_error"),
}


@validated
class Claim:
    """One checkable statement; see the module for what the fields mean."""

    id: str
    paper: str
    place: str
    quotation: str
    statement: str
    chapter: str
    metric: str
    relation: Relation
    value: Finite
    upper: Finite | None
    match_tolerance: NotNegative
    close_tolerance: NotNegative
    unit: str
    data: ClaimData
    declared: Literal["before", "after"] = "before"
    note: str = ""

    def __post_init__(self) -> None:
        for column, (pattern, example) in _LOOKS.items():
            if not re.fullmatch(pattern, getattr(self, column)):
                raise UsageError(f"`{column}` must look like {example}; got {getattr(self, column)!r}. Rename it.")
        require_words(self, "paper", "place", "quotation", "statement", "unit")
        if (n_words := len(self.quotation.split())) > QUOTATION_WORDS:
            raise UsageError(f"`quotation` must hold at most {QUOTATION_WORDS} words; got {n_words}. Quote less.")
        if (self.upper is not None) != (self.relation == "between"):
            raise UsageError(
                f"`upper` belongs to the relation `between` alone; got {self.relation} with {self.upper}. Change one."
            )
        if self.upper is not None and self.upper < self.value:
            raise UsageError(f"`upper` must not be below `value`; got {self.value:g} to {self.upper:g}. Swap them.")
        if self.match_tolerance > self.close_tolerance:
            raise UsageError(
                "`close_tolerance` must not be below `match_tolerance`; "
                f"got {self.close_tolerance:g} and {self.match_tolerance:g}. What matches is close, too."
            )


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


@cache
def load_claims(chapter: str | None = None) -> tuple[Claim, ...]:
    """Return the claims of one chapter, such as "urisc/sharpness_analysis", or of all, in the file's order.

    Raises `UsageError` for a chapter that tests no claim.
    """
    claims = read_claims(files("emseg.reported").joinpath("claims.csv"))
    if chapter is None:
        return claims
    found = tuple(claim for claim in claims if claim.chapter == chapter)
    if not found:
        chapters = list(dict.fromkeys(claim.chapter for claim in claims))
        raise UsageError(
            f"no claim belongs to chapter {chapter!r}.{suggest(chapter, chapters)} "
            f"Chapters with claims: {', '.join(chapters)}. Add rows to claims.csv for a new one."
        )
    return found


def read_claims(table: Table) -> tuple[Claim, ...]:
    """Read and check a table of claims.

    Raises `InputError`, naming file, line and column, for anything outside the schema: a tolerance that was not
    declared, a quotation of more than `QUOTATION_WORDS` words, two claims with one id or with one test of one metric.
    """
    columns = [field.name for field in fields(Claim)]
    numbers = ("value", "upper", "match_tolerance", "close_tolerance")
    return read_rows(
        table,
        columns,
        lambda texts: Claim(**texts | {column: as_number(texts[column]) for column in numbers}),
        {
            "id": lambda claim: claim.id,
            "metric": lambda claim: (claim.chapter, claim.metric, claim.relation, claim.value, claim.upper),
        },
    )


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


def verdicts_of_run(claims: Iterable[Claim], run: Any) -> tuple[Judged, ...]:
    """Return one verdict a claim from the `metrics` and `data_kinds` of a run (`emseg.runs.session.Run`).

    A metric that the run lacks leaves its claim not run.
    """
    kinds = tuple(sorted(set(run.data_kinds)))
    found = {name: vars(metric) for name, metric in run.metrics.items()}
    return tuple(_judged(claim, _measured(found.get(claim.metric), data_kinds=kinds)) for claim in claims)


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
        newest: dict[tuple[str, ...], Measured | None] = {}
        for record in records:
            if record["chapter"] == claim.chapter and claim.metric in record["metrics"]:
                kinds = tuple(sorted({data["kind"] for data in record["data"]}))
                origin = {"run_id": record["run_id"], "profile": record["profile"]}
                newest[kinds] = _measured(record["metrics"][claim.metric], data_kinds=kinds, **origin)
        judged += [_judged(claim, newest[kinds]) for kinds in sorted(newest)] or [_judged(claim, None)]
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


def _measured(metric: Mapping[str, Any] | None, **origin: Any) -> Measured | None:
    """Return a metric of a run or record with what it rests on."""
    if metric is None:
        return None
    interval = metric.get("interval")
    return Measured(
        metric["value"],
        metric["unit"],
        metric.get("n"),
        metric.get("spread"),
        None if interval is None else (interval[0], interval[1]),
        **origin,
    )
