"""What the two papers report, number by number, and what could not be found; and how our tables are read: strictly.

One row is one number (or one setting in words): where it is, what it is, what it is about, as printed and as read.
`fanet.csv` and `urisc.csv` share one schema; only the columns that say what a row is about differ (`SUBJECTS`).

    paper      key in the book's bibliography: whose number it is
    place      table, figure, equation or section
    quantity   snake_case name: `mask_ap`, `f1`, `learning_rate`
    printed    the characters as the paper has them; `value` and `sd` are what we read there,
               `unit` their unit, "1" for a pure number
    status     printed       in a table, figure, equation or list
               prose         in the running text alone
               not_found     the paper shows it, the copy we could read does not
               not_stated    the paper does not say it
               inconsistent  it contradicts another place of the same paper; the note says which
    note       what a reader must know to use it

A number whose status is `inconsistent` is kept as printed: the book corrects nothing silently. The tables are typed by
people from papers, so every refusal gives the file, the line (as an editor counts: the header is line 1) and the column
of the slip: "claims.csv, line 7, column `relation`: ...". No cell may contain a line break.
"""

import csv
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from types import MappingProxyType
from typing import Literal, cast, get_args

from emseg.errors import InputError, UsageError, suggest

Table = Path | Traversable  # a file of the package or one that a caller made
Status = Literal["printed", "prose", "not_found", "not_stated", "inconsistent"]

STATUSES: tuple[Status, ...] = get_args(Status)
SUBJECTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"fanet": ("detector", "backbone", "attention", "item"), "urisc": ("dataset", "track", "entrant", "item")}
)
UNITS = ("1", "%", "px", "nm/px", "nm", "nm^2", "mm", "GB", "images", "iterations", "epochs", "persons", "hours")
_COMMON = ("paper", "place", "quantity", "printed", "value", "sd", "unit", "status", "note")


@dataclass(frozen=True)
class Cell:
    """The text of one cell and its place."""

    file: str
    line: int
    column: str
    text: str

    def refusal(self, reason: str) -> InputError:
        """Return the error that says what is wrong with this cell; `reason` ends with the repair."""
        return InputError(f"{self.file}, line {self.line}, column `{self.column}`: {reason}")

    def words(self) -> str:
        """Return the text, which must not be empty."""
        if not self.text:
            raise self.refusal("the cell must not be empty. Fill it in.")
        return self.text

    def choice(self, allowed: Collection[str]) -> str:
        """Return the text, which must be one of `allowed`."""
        if self.text not in allowed:
            hint = suggest(self.text, allowed)
            raise self.refusal(f"must be one of {', '.join(allowed)}; got {self.text!r}.{hint}")
        return self.text

    def number(self) -> float:
        """Return the text as a finite number."""
        try:
            value = float(self.text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.refusal(f"must be a finite number; got {self.text!r}. Write it like 0.57 or 1e-12.")
        return value

    def number_or_none(self) -> float | None:
        """Return the text as a finite number, or None for an empty cell."""
        return self.number() if self.text else None


@dataclass(frozen=True)
class Reported:
    """One reported number, or one setting in words; `value` is None when it is no number or was not found."""

    paper: str
    place: str
    quantity: str
    subject: tuple[tuple[str, str], ...]  # (column, text) pairs, the empty ones left out
    printed: str
    value: float | None
    sd: float | None
    unit: str
    status: Status
    note: str

    def about(self, column: str) -> str:
        """Return what this row says it is about in `column`, or an empty string."""
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
    rows: list[Reported] = []
    first_line: dict[tuple[object, ...], int] = {}
    for cells in read_cells(table, (*_COMMON, *subjects)):
        row = _row(cells, subjects)
        key = (row.paper, row.place, row.quantity, row.subject)
        where = cells["quantity"]
        if key in first_line:
            raise where.refusal(f"line {first_line[key]} is about the same thing. Tell them apart or remove one.")
        first_line[key] = where.line
        rows.append(row)
    if not rows:
        raise InputError(f"{table.name}, line 2: the table must hold at least one row. Add it.")
    return tuple(rows)


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


def _row(cells: Mapping[str, Cell], subjects: tuple[str, ...]) -> Reported:
    """Turn the cells of one line into a row; raises `InputError` at the cell that breaks the schema."""
    status = cast(Status, cells["status"].choice(STATUSES))
    value, sd = cells["value"].number_or_none(), cells["sd"].number_or_none()
    if status in ("not_found", "not_stated"):
        for column in ("printed", "value", "sd"):
            if cells[column].text:
                raise cells[column].refusal(f"must be empty where `status` is {status}. Empty it or change the status.")
    else:
        cells["printed"].words()
    if status not in ("printed", "prose"):
        cells["note"].words()
    if value is None and sd is not None:
        raise cells["sd"].refusal("a spread needs the `value` it belongs to. Fill in the value.")
    if sd is not None and sd < 0:
        raise cells["sd"].refusal(f"must not be negative; got {sd:g}. Write the spread without a sign.")
    if value is not None or cells["unit"].text:
        cells["unit"].choice(UNITS)
    return Reported(
        paper=cells["paper"].words(),
        place=cells["place"].words(),
        quantity=cells["quantity"].words(),
        subject=tuple((column, cells[column].text) for column in subjects if cells[column].text),
        printed=cells["printed"].text,
        value=value,
        sd=sd,
        unit=cells["unit"].text,
        status=status,
        note=cells["note"].text,
    )


def read_cells(table: Table, columns: Collection[str]) -> Iterator[dict[str, Cell]]:
    """Yield each line of a CSV file as cells by column name; the header must hold exactly `columns`, in any order.

    Raises `InputError` for bytes that are not UTF-8, an unknown, missing or repeated column, a line with too few or too
    many cells, a cell with a line break, and text with blanks at either end.
    """
    try:
        lines = table.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        broken_line = error.object[: error.start].count(b"\n") + 1
        raise InputError(f"{table.name}, line {broken_line}: must be UTF-8 text. Save the file as UTF-8.") from error
    if lines == [""]:
        raise InputError(f"{table.name}, line 1: the file is empty. Give it the header {','.join(columns)}.")
    header = next(csv.reader([lines[0]]))
    _check_header(table.name, header, columns)
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
                f"{table.name}, line {number}, column `{near}`: a line must hold {len(header)} cells; "
                f"got {len(texts)}. Add the missing comma, or quote the text that holds one."
            )
        cells = {column: Cell(table.name, number, column, text) for column, text in zip(header, texts, strict=True)}
        for cell in cells.values():
            if cell.text != cell.text.strip():
                raise cell.refusal(f"text must not begin or end with a blank; got {cell.text!r}. Remove it.")
        yield cells


def _check_header(file: str, header: list[str], columns: Collection[str]) -> None:
    """Refuse a header that does not hold each of `columns` once and nothing else."""
    for column in header:
        if column not in columns:
            raise InputError(
                f"{file}, line 1, column `{column}`: no such column. Use {', '.join(columns)}."
                + suggest(column, columns)
            )
        if header.count(column) > 1:
            raise InputError(f"{file}, line 1, column `{column}`: is there more than once. Keep one.")
    for column in columns:
        if column not in header:
            raise InputError(f"{file}, line 1, column `{column}`: is missing. Add it to the header and to each line.")
