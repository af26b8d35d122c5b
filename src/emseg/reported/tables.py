"""What the two papers report, number by number, and what could not be found; and how our tables are read: strictly.

One row is one number (or one setting in words): where it is, what it is, what it is about, as printed and as read.
`fanet.csv` and `urisc.csv` share one schema; only the columns that report what a row is about differ (`SUBJECTS`).

    paper      key in the book's bibliography: whose number it is
    place      table, figure, equation or section
    quantity   snake_case name: `mask_ap`, `f1`, `learning_rate`
    printed    the characters as the paper has them; `value` and `sd` are what we read there,
               `unit` their unit, "1" for a pure number
    status     printed       in a table, figure, equation or list
               prose         in the running text alone
               not_found     the paper shows it, the copy we could read does not
               not_stated    the paper does not state it
               inconsistent  it contradicts another place of the same paper; the note states which
    note       what a reader must know to use it

A number whose status is `inconsistent` is kept as printed: the book corrects nothing silently. The tables are typed by
people from papers, so every refusal gives the file, the line (as an editor counts: the header is line 1) and the column
of the slip: "claims.csv, line 7, column `relation`: ...". No cell may contain a line break.
"""

import csv
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import Field

from emseg.checks import validated
from emseg.errors import InputError, UsageError, suggest

Table = Path | Traversable  # a file of the package or one that a caller made
Status = Literal["printed", "prose", "not_found", "not_stated", "inconsistent"]
Unit = Literal[
    "", "1", "%", "px", "nm/px", "nm", "nm^2", "mm", "GB", "images", "iterations", "epochs", "persons", "hours"
]
Finite = Annotated[float, Field(allow_inf_nan=False)]
T = TypeVar("T")

STATUSES: tuple[Status, ...] = get_args(Status)
SUBJECTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"fanet": ("detector", "backbone", "attention", "item"), "urisc": ("dataset", "track", "entrant", "item")}
)
_COMMON = ("paper", "place", "quantity", "printed", "value", "sd", "unit", "status", "note")


@validated
class Reported:
    """One reported number, or one setting in words; `value` is None when it is not a number or was not found."""

    paper: str
    place: str
    quantity: str
    subject: tuple[tuple[str, str], ...]  # (column, text) pairs, the empty ones left out
    printed: str
    value: Finite | None
    sd: Annotated[float, Field(ge=0)] | None
    unit: Unit
    status: Status
    note: str

    def __post_init__(self) -> None:
        require_words(self, "paper", "place", "quantity")
        if self.status in ("not_found", "not_stated"):
            for column in ("printed", "value", "sd"):
                if getattr(self, column) not in ("", None):
                    raise UsageError(f"`{column}` must be empty where `status` is {self.status}. Change one of them.")
        else:
            require_words(self, "printed")
        if self.status not in ("printed", "prose"):
            require_words(self, "note")
        if self.value is None and self.sd is not None:
            raise UsageError("`sd`, a spread, needs the `value` it belongs to. Fill in the value.")
        if self.value is not None:
            require_words(self, "unit")

    def about(self, column: str) -> str:
        """Return the subject of this row in `column`, or an empty string."""
        return dict(self.subject).get(column, "")


@cache
def load_reported(paper: str) -> tuple[Reported, ...]:
    """Return every row of a paper's table; `paper` is "fanet" or "urisc"."""
    if paper not in SUBJECTS:
        raise UsageError(f"`paper` must be one of {', '.join(SUBJECTS)}; got {paper!r}.{suggest(paper, SUBJECTS)}")
    return read_reported(files("emseg.reported").joinpath(f"{paper}.csv"), SUBJECTS[paper])


def read_reported(table: Table, subjects: tuple[str, ...]) -> tuple[Reported, ...]:
    """Read and check a table of reported numbers.

    Raises `InputError`, naming file, line and column, for anything outside the schema: an unknown status or unit, a
    value without what was printed, a row marked as not found that has a value, a remark that is due and missing, two
    rows about the same thing.
    """

    def make(texts: dict[str, str]) -> Reported:
        numbers = {column: as_number(texts.pop(column)) for column in ("value", "sd")}
        subject = tuple((column, text) for column in subjects if (text := texts.pop(column)))
        return Reported(subject=subject, **numbers, **texts)  # type: ignore[arg-type]

    same = {"quantity": lambda row: (row.paper, row.place, row.quantity, row.subject)}
    return read_rows(table, (*_COMMON, *subjects), make, same)


def select_reported(rows: Iterable[Reported], quantity: str, **subject: str) -> tuple[Reported, ...]:
    """Return the rows of one quantity about one subject, such as `attention="FANet"`, in the paper's order.

    Raises `UsageError` when nothing fits, so that a misspelt name cannot pass for a number that was not reported.
    """
    rows = tuple(rows)
    of_quantity = [row for row in rows if row.quantity == quantity]
    if not of_quantity:
        known = sorted({row.quantity for row in rows})
        raise UsageError(
            f"no row reports `quantity` {quantity!r}.{suggest(quantity, known)} Known: {', '.join(known)}."
        )
    found = tuple(row for row in of_quantity if all(row.about(column) == text for column, text in subject.items()))
    if not found:
        known = sorted({f"{column}={text!r}" for row in of_quantity for column, text in row.subject})
        raise UsageError(f"no row reports {quantity!r} for {subject}. It is reported for {', '.join(known)}.")
    return found


def read_rows(
    table: Table,
    columns: Collection[str],
    make: Callable[[dict[str, str]], T],
    different: Mapping[str, Callable[[T], Any]],
) -> tuple[T, ...]:
    """Return what `make` makes of each line's texts by column; the header must contain exactly `columns`, in any order.

    `different` gives by column what no two rows may share. Raises `InputError` with file, line and column for what
    `make` refuses with a UsageError, and for anything that is not such a table.
    """
    rows: list[T] = []
    first_line: dict[tuple[str, Any], int] = {}
    for line, texts in _lines(table, columns):
        where = f"{table.name}, line {line}"
        try:
            row = make(texts)
        except UsageError as error:
            raise InputError(f"{where}, {'column ' if str(error).startswith('`') else ''}{error}") from None
        for column, key_of in different.items():
            key = column, key_of(row)
            if first_line.setdefault(key, line) != line:
                raise InputError(f"{where}, column `{column}`: line {first_line[key]} has the same. Remove one.")
        rows.append(row)
    if not rows:
        raise InputError(f"{table.name}, line 2: the table must contain at least one row. Add it.")
    return tuple(rows)


def require_words(row: Any, *columns: str) -> None:
    """Refuse an empty text in one of the `columns`."""
    for column in columns:
        if not getattr(row, column):
            raise UsageError(f"`{column}` must not be empty. Fill it in.")


def as_number(text: str) -> Any:
    """Return a cell's number, None for an empty cell, and any other text as it is, for the row to refuse."""
    try:
        return float(text) if text else None
    except ValueError:
        return text


def _lines(table: Table, columns: Collection[str]) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        lines = table.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        broken_line = error.object[: error.start].count(b"\n") + 1
        raise InputError(f"{table.name}, line {broken_line}: must be UTF-8 text. Save the file as UTF-8.") from error
    header = next(csv.reader([lines[0]]), [])
    for column in (*header, *columns):
        if header.count(column) != (column in columns):
            fault = "is there more than once" if column in columns and column in header else "no such column"
            raise InputError(
                f"{table.name}, line 1, column `{column}`: {fault if column in header else 'is missing'}. "
                f"The header must contain {','.join(columns)}.{suggest(column, columns)}"
            )
    for number, line in enumerate(lines[1:], start=2):
        try:
            texts = next(csv.reader([line], strict=True), [])
        except csv.Error as error:
            raise InputError(
                f"{table.name}, line {number}: a quoted cell must end on its own line ({error}). Close the quotes."
            ) from error
        if len(texts) != len(header):
            near = header[min(len(texts), len(header) - 1)]
            raise InputError(
                f"{table.name}, line {number}, column `{near}`: a line must contain {len(header)} cells; "
                f"got {len(texts)}. Add the missing comma, or quote the text that contains one."
            )
        for column, text in zip(header, texts, strict=True):
            if text != text.strip():
                raise InputError(
                    f"{table.name}, line {number}, column `{column}`: text must not begin or end with a blank; "
                    f"got {text!r}. Remove it."
                )
        yield number, dict(zip(header, texts, strict=True))
