"""Reading a table of ours strictly: every refusal names the file, the line and the column.

The tables of this package are typed by people from papers, so a slip must be found where it was made. `read_cells`
checks the header and the shape of each line; a `Cell` then turns its text into words, a number or one of a set, and its
errors read "claims.csv, line 7, column `relation`: ...".

Lines are counted as an editor counts them: the header is line 1. No cell may contain a line break.
"""

import csv
import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path

from emseg.errors import InputError, suggest

Table = Path | Traversable  # a file of the package or one that a caller made


@dataclass(frozen=True)
class Cell:
    """The text of one cell and where it stands."""

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
            raise InputError(f"{file}, line 1, column `{column}`: stands there more than once. Keep one.")
    for column in columns:
        if column not in header:
            raise InputError(f"{file}, line 1, column `{column}`: is missing. Add it to the header and to each line.")
