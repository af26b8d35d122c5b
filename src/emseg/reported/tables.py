"""What the two papers report, number by number, and what could not be found.

One row is one number (or one setting in words): where it stands, what it is, what it is about, as printed and as read.
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

A number whose status is `inconsistent` stands as printed: the book corrects nothing silently.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Literal, cast

from emseg.errors import InputError, UsageError, suggest
from emseg.reported.schema import Cell, Table, read_cells

Status = Literal["printed", "prose", "not_found", "not_stated", "inconsistent"]

STATUSES: tuple[Status, ...] = ("printed", "prose", "not_found", "not_stated", "inconsistent")
SUBJECTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"fanet": ("detector", "backbone", "attention", "item"), "urisc": ("dataset", "track", "entrant", "item")}
)
UNITS = ("1", "%", "px", "nm/px", "nm", "nm^2", "mm", "GB", "images", "iterations", "epochs", "persons", "hours")
_COMMON = ("paper", "place", "quantity", "printed", "value", "sd", "unit", "status", "note")


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
