"""The checkout that holds the book: where it is and which chapters it has.

A chapter is a notebook below `book/`, named by its path there without the suffix: `urisc/sharpness_analysis`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from emseg.errors import InputError, UsageError, suggest
from emseg.files import find_root

__all__ = ["Chapter", "find_chapter", "find_root", "list_chapters"]


@dataclass(frozen=True)
class Chapter:
    """A notebook of the book: its `name`, such as "fanet/dct_derivation", and the file that holds it."""

    name: str
    path: Path

    def read(self) -> Any:
        """Return the notebook (nbformat version 4); a file that is none raises `InputError`."""
        try:
            return nbformat.read(self.path, as_version=4)
        except (ValueError, OSError) as error:
            raise InputError(
                f"the notebook of chapter {self.name} cannot be read ({error}). Restore book/{self.name}.ipynb."
            ) from None

    def title(self) -> str:
        """Return the text of the first top heading, or the name when there is none."""
        for cell in self.read().cells:
            for line in cell.source.splitlines() if cell.cell_type == "markdown" else ():
                if line.startswith("# "):
                    return str(line[2:].strip())
        return self.name


def list_chapters(root: Path) -> list[Chapter]:
    """Return all chapters below `root`/book, sorted by name."""
    book = root / "book"
    notebooks = (
        path for path in book.rglob("*.ipynb") if not any(part[0] in "._" for part in path.relative_to(book).parts)
    )
    chapters = [Chapter(path.relative_to(book).with_suffix("").as_posix(), path) for path in notebooks]
    return sorted(chapters, key=lambda chapter: chapter.name)


def find_chapter(root: Path, name: str) -> Chapter:
    """Return the chapter called `name`; the notebook's path, or the last part of the name where unique, also do."""
    chapters = {chapter.name: chapter for chapter in list_chapters(root)}
    wanted = name.removesuffix(".ipynb").removeprefix("./").removeprefix("book/")
    if wanted in chapters:
        return chapters[wanted]
    matches = [chapter for key, chapter in chapters.items() if key.rsplit("/", 1)[-1] == wanted]
    if len(matches) == 1:
        return matches[0]
    raise UsageError(f"unknown chapter {name!r}; the chapters are: {', '.join(chapters)}.{suggest(wanted, chapters)}")
