"""A claim of a paper as one row that a run can check.

The quotation is the paper's; the statement is our reading of it, in words that name a measurement; `metric` is the
number of the chapter's run record that decides. Between them stands a relation, with two tolerances that are declared
here, and so committed, before any run of it; `declared` says `after` where a result had been seen by then, and every
table that shows such a row says so:

    relation   equals, at_most, at_least, below, above a `value`, or between `value` and `upper`
    tolerances absolute and in `unit`: how far the measured number may lie outside and still match, or still be close
    data       what the paper's claim is about: any data, or synthetic, real or licensed images

`emseg.reported.verdicts.judge` says what follows from a measured number.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal, cast

from emseg.errors import InputError, UsageError, suggest
from emseg.reported.schema import Cell, Table, read_cells

Relation = Literal["equals", "at_most", "at_least", "below", "above", "between"]
Declared = Literal["before", "after"]
ClaimData = Literal["any", "synthetic", "real", "licensed"]

RELATIONS: tuple[Relation, ...] = ("equals", "at_most", "at_least", "below", "above", "between")
DECLARED: tuple[Declared, ...] = ("before", "after")
CLAIM_DATA: tuple[ClaimData, ...] = ("any", "synthetic", "real", "licensed")
QUOTATION_WORDS = 25  # a short quotation; more is the paper's text, not a reference to it
COLUMNS = (
    "id",
    "paper",
    "place",
    "quotation",
    "statement",
    "chapter",
    "metric",
    "relation",
    "value",
    "upper",
    "match_tolerance",
    "close_tolerance",
    "unit",
    "data",
    "declared",
    "note",
)
_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_CHAPTER = re.compile(r"[a-z]+/[a-z0-9_]+")
_METRIC = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
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
    value: float
    upper: float | None
    match_tolerance: float
    close_tolerance: float
    unit: str
    data: ClaimData
    declared: Declared = "before"
    note: str = ""

    def __post_init__(self) -> None:
        if (self.upper is not None) != (self.relation == "between"):
            raise UsageError(
                f"`upper` belongs to the relation `between` alone; got {self.relation} with {self.upper}. Change one."
            )
        if self.upper is not None and self.upper < self.value:
            raise UsageError(f"`upper` must not be below `value`; got {self.value:g} to {self.upper:g}. Swap them.")
        if not 0 <= self.match_tolerance <= self.close_tolerance:
            raise UsageError(
                "tolerances must satisfy 0 <= match_tolerance <= close_tolerance; "
                f"got {self.match_tolerance:g} and {self.close_tolerance:g}."
            )


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
    claims: list[Claim] = []
    first_line: dict[tuple[object, ...], int] = {}
    for cells in read_cells(table, COLUMNS):
        claim = _claim(cells)
        decides = (claim.chapter, claim.metric, claim.relation, claim.value, claim.upper)
        for column, key in (("id", ("id", claim.id)), ("metric", decides)):
            if key in first_line:
                raise cells[column].refusal(f"line {first_line[key]} has the same. Give each claim its own.")
            first_line[key] = cells[column].line
        claims.append(claim)
    if not claims:
        raise InputError(f"{table.name}, line 2: the table must hold at least one claim. Add it.")
    return tuple(claims)


def _claim(cells: Mapping[str, Cell]) -> Claim:
    """Turn the cells of one line into a claim; raises `InputError` at the cell that breaks the schema."""
    for column, pattern, example in (
        ("id", _ID, "eq3-lowest-frequency-is-gap"),
        ("chapter", _CHAPTER, "fanet/dct_derivation"),
        ("metric", _METRIC, "round_trip_error"),
    ):
        if not pattern.fullmatch(cells[column].text):
            raise cells[column].refusal(f"must look like {example}; got {cells[column].text!r}. Rename it.")
    n_words = len(cells["quotation"].words().split())
    if n_words > QUOTATION_WORDS:
        raise cells["quotation"].refusal(f"must hold at most {QUOTATION_WORDS} words; got {n_words}. Quote less.")
    numbers = {column: cells[column].number() for column in ("value", "match_tolerance", "close_tolerance")}
    if numbers["match_tolerance"] < 0:
        raise cells["match_tolerance"].refusal("must not be negative. Write how far the number may lie outside.")
    if numbers["close_tolerance"] < numbers["match_tolerance"]:
        raise cells["close_tolerance"].refusal("must not be below `match_tolerance`. What matches is close, too.")
    relation = cast(Relation, cells["relation"].choice(RELATIONS))
    upper = cells["upper"].number_or_none()
    if (upper is not None) != (relation == "between"):
        raise cells["upper"].refusal("must be given for the relation between, and for no other. Fill it or empty it.")
    if upper is not None and upper < numbers["value"]:
        raise cells["upper"].refusal("must not be below `value`. Swap them.")
    return Claim(
        id=cells["id"].text,
        paper=cells["paper"].words(),
        place=cells["place"].words(),
        quotation=cells["quotation"].text,
        statement=cells["statement"].words(),
        chapter=cells["chapter"].text,
        metric=cells["metric"].text,
        relation=relation,
        value=numbers["value"],
        upper=upper,
        match_tolerance=numbers["match_tolerance"],
        close_tolerance=numbers["close_tolerance"],
        unit=cells["unit"].words(),
        data=cast(ClaimData, cells["data"].choice(CLAIM_DATA)),
        declared=cast(Declared, cells["declared"].choice(DECLARED)),
        note=cells["note"].text,
    )
