"""Digests of what a notebook computes: of its own code, and of the library and chapter modules that it imports.

The digest of the library covers the modules of `emseg` and of `chapters` that a notebook imports, transitively, and the
data files beside them; like the notebook's own it is taken over syntax trees (`emseg.source_code`), so that only a
change of behaviour makes a result old.
"""

import ast
import csv
import importlib.util
import io
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from emseg.files import digest_of
from emseg.source_code import PACKAGE_ROOT, code_lines, code_tree

_DATA_SUFFIXES = {".csv", ".json", ".toml", ".yaml"}


def package_roots() -> dict[str, Path]:
    """Return the folders of the packages that a digest covers: `emseg`, and `chapters` where a book is installed."""
    roots = {"emseg": PACKAGE_ROOT}
    chapters = importlib.util.find_spec("chapters")
    if chapters is not None and chapters.submodule_search_locations:
        roots["chapters"] = Path(next(iter(chapters.submodule_search_locations)))
    return roots


def notebook_digest(notebook: Any) -> str:
    """Return the digest of what a notebook (nbformat) computes: its code cells and their tags, prose left out."""
    return digest_of(*(f"{cell.metadata.get('tags', [])}{code_tree(cell.source)}" for cell in code_cells(notebook)))


def library_digest(notebook: Any, chapter: str, roots: Mapping[str, Path] | None = None) -> str:
    """Return the digest of the modules and package data that a chapter's notebook imports, transitively.

    Of a table with a column `chapter`, such as the claims, only the rows of this `chapter` count: a claim that another
    chapter tests makes no result of this one old. `roots` are the packages' folders by name.
    """
    roots = package_roots() if roots is None else roots
    modules = imported_modules([cell.source for cell in code_cells(notebook)], roots)
    files = {module: _module_file(module, roots) for module in modules}
    parts = []
    for module, path in files.items():
        parts += [module, _module_tree(_stamped(path))]
    for folder in sorted({path.parent for path in files.values()} - set(roots.values())):
        for file in sorted(folder.iterdir()):
            if file.suffix in _DATA_SUFFIXES:
                parts += [file.name, _data_text(file, chapter)]
    return digest_of(*parts)


def imported_modules(sources: Iterable[str], roots: Mapping[str, Path] | None = None) -> list[str]:
    """Return the names of all modules of `emseg` and `chapters` that the `sources` import, transitively, sorted.

    A package counts with its parents, as Python imports them; imports inside functions count as well.
    """
    roots = package_roots() if roots is None else roots
    waiting = [name for source in sources for name in _imports(code_lines(source))]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in found or not _exists(name, roots):
            continue
        found.add(name)
        waiting += _module_imports(_stamped(_module_file(name, roots)))
    return sorted(found)


def code_cells(notebook: Any) -> Iterator[Any]:
    """Yield the code cells of a notebook."""
    return (cell for cell in notebook.cells if cell.cell_type == "code")


def _data_text(file: Path, chapter: str) -> str:
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".csv":
        rows = list(csv.DictReader(io.StringIO(text)))
        if rows and "chapter" in rows[0]:
            return repr([row for row in rows if row["chapter"] == chapter])
    return text


def _imports(source: str) -> list[str]:
    """Return the dotted names that a source imports, with their parents; some may be names inside a module."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return []
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    parts = [name.split(".") for name in names]
    return sorted({".".join(name[:length]) for name in parts for length in range(1, len(name) + 1)})


def _exists(name: str, roots: Mapping[str, Path]) -> bool:
    if name.split(".")[0] not in roots:
        return False
    path = _place(name, roots)
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def _module_file(name: str, roots: Mapping[str, Path]) -> Path:
    path = _place(name, roots)
    return path / "__init__.py" if (path / "__init__.py").is_file() else path.with_suffix(".py")


def _place(name: str, roots: Mapping[str, Path]) -> Path:
    package, *rest = name.split(".")
    return roots[package].joinpath(*rest)


def _stamped(path: Path) -> tuple[Path, int]:
    return path, path.stat().st_mtime_ns


@cache
def _module_tree(stamped: tuple[Path, int]) -> str:
    return code_tree(stamped[0].read_text(encoding="utf-8"))


@cache
def _module_imports(stamped: tuple[Path, int]) -> list[str]:
    return _imports(stamped[0].read_text(encoding="utf-8"))
