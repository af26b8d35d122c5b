"""Claims of the papers as rows that runs can check: what is expected, how far off it may be, what a test must rest on.

The quotation is the paper's; the statement is our reading of it as a measurement; `metric` is the number of the
chapter's run records that decides. Rows with the same quotation are readings of one claim. The tolerances are declared,
and so committed, before any run; `declared` states `after` where a result had been seen by then.

    relation    equals, at_most, at_least, below, above a `value`, or between `value` and `upper`
    tolerances  absolute and in `unit`: how much the measured number may deviate and still match, or still be close
    data        what the paper's claim is about: any data, or synthetic, real or licensed images
    bearing     what the test rests on: `exact` (mathematics, arithmetic, counting: any data will do), `same data`
                (images of the kind that the claim is about), `stand-in` (other images, or networks far below the
                paper's size)
    replicates  what the number varies over, so that an interval must cover it: `nothing` (computed, not sampled),
                `images` or `seeds` (inside one record), `runs` (several records, each with its own seed)
    takes       what a verdict would take where the book has only a stand-in: data, network, cost
    loosest     the weakest reading of a vague word such as "much"; `value` is the strongest. Where the two would give
                different verdicts there is none

With measured number m, declared value v (to u for `between`) and a tolerance t, the claim is met within t when

    equals     v - t <= m <= v + t        between    v - t <= m <= u + t
    at_most    m <= v + t                 below      m < v + t
    at_least   m >= v - t                 above      m > v - t

A verdict is on an interval, not on a number: `match` if all of it is within `match_tolerance`, `close` within
`close_tolerance`, `differs` if none of it does, else `undecided`. The comparison is in decimal on the numbers as
written, so that 38.2 is exactly 0.1 from 38.1. What the records show for a claim is in `emseg.reported.verdicts`.
"""

import math
import re
from dataclasses import fields
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Literal, get_args

from emseg.checks import NotNegative, validated
from emseg.errors import InputError, UsageError, suggest
from emseg.reported.tables import Finite, Table, as_number, read_rows, require_words

Relation = Literal["equals", "at_most", "at_least", "below", "above", "between"]
ClaimData = Literal["any", "synthetic", "real", "licensed"]
Bearing = Literal["exact", "same data", "stand-in"]
Replicates = Literal["nothing", "images", "seeds", "runs"]
Verdict = Literal["match", "close", "differs", "undecided"]

RELATIONS: tuple[Relation, ...] = get_args(Relation)
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
_ONE_SIDED = ("at_most", "at_least")
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
    bearing: Bearing
    replicates: Replicates
    declared: Literal["before", "after"] = "before"
    note: str = ""
    takes: str = ""
    loosest: Finite | None = None

    def __post_init__(self) -> None:
        for column, (pattern, example) in _LOOKS.items():
            if not re.fullmatch(pattern, getattr(self, column)):
                raise UsageError(f"`{column}` must look like {example}; got {getattr(self, column)!r}. Rename it.")
        require_words(self, "paper", "place", "quotation", "statement", "unit")
        if (n_words := len(self.quotation.split())) > QUOTATION_WORDS:
            raise UsageError(f"`quotation` must contain at most {QUOTATION_WORDS} words; got {n_words}. Quote less.")
        if (self.upper is not None) != (self.relation == "between"):
            raise UsageError(
                f"`upper` belongs to the relation `between` alone; got {self.relation} with {self.upper}. Change one."
            )
        if self.upper is not None and self.upper < self.value:
            raise UsageError(f"`upper` must not be below `value`; got {self.value:g} to {self.upper:g}. Swap them.")
        if self.loosest is not None and (self.relation not in _ONE_SIDED or _holds(self, self.loosest, 0)):
            raise UsageError(
                f"`loosest` must ask for less than `value`, with at_most or at_least; got {self.relation} "
                f"{self.value:g} and {self.loosest:g}. Swap them or leave it empty."
            )
        if self.match_tolerance > self.close_tolerance:
            raise UsageError(
                "`close_tolerance` must not be below `match_tolerance`; "
                f"got {self.close_tolerance:g} and {self.match_tolerance:g}. What matches is close, too."
            )
        if self.bearing == "exact" and self.data != "any":
            raise UsageError(
                f"`bearing` must not be exact where the claim is about {self.data} images; got data={self.data}. "
                "Use same data or stand-in."
            )
        if self.bearing != "exact" and (self.data == "any" or not self.takes):
            raise UsageError(
                f"`takes` must state what a verdict would take, and `data` which images, where the bearing is "
                f"{self.bearing}; got {self.takes!r} and {self.data}. Fill both in."
            )

    @property
    def sentence(self) -> tuple[str, str]:
        """The paper's sentence, which several readings may share."""
        return self.paper, self.quotation


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
    numbers = ("value", "upper", "match_tolerance", "close_tolerance", "loosest")
    return read_rows(
        table,
        columns,
        lambda texts: Claim(**texts | {column: as_number(texts[column]) for column in numbers}),
        {
            "id": lambda claim: claim.id,
            "metric": lambda claim: (claim.chapter, claim.metric, claim.relation, claim.value, claim.upper),
        },
    )


def judge(claim: Claim, interval: tuple[float, float]) -> Verdict:
    """Return the verdict on `claim` from an interval (low, high) in the claim's unit.

    Raises `InputError` for an end that is NaN or infinite, or for ends in the wrong order.
    """
    low, high = interval
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise InputError(
            f"a verdict needs a finite interval, low to high; that of `{claim.metric}` of {claim.chapter} is "
            f"{low} to {high}. Leave the metric out where it is undefined: the claim then counts as not run."
        )
    within = {
        tolerance: (_holds(claim, low, tolerance), _holds(claim, high, tolerance))
        for tolerance in (claim.match_tolerance, claim.close_tolerance)
    }
    if all(within[claim.match_tolerance]):
        return "match"
    if all(within[claim.close_tolerance]):
        return "close"
    spans = low < claim.value < high  # both ends beyond the tolerances, on either side of what is claimed
    return "undecided" if any(within[claim.close_tolerance]) or spans else "differs"


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
