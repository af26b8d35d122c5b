"""What a result depends on: the notebook's code, the modules it imports, its parameters, and its data.

The digest of the library covers the modules of `emseg` and of `chapters` that a notebook imports, transitively, and the
data files next to them; like the notebook's own it is taken over syntax trees (`emseg.source_code`), so that only a
change of behaviour makes a result old. The build hands all of it to Snakemake, which compares it with the last run's.
"""

import ast
import csv
import importlib.util
import io
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from stat import S_ISREG
from typing import Any

from emseg.files import digest_of
from emseg.runs.project import Chapter, MatrixRun, find_chapter
from emseg.source_code import PACKAGE_ROOT, code_lines, code_tree

DATA_PARAMETER = "data"
SYNTHETIC = "synthetic"
OWN_FOLDER = "folder"  # the parameter for a folder of the user's; as a data set's name: images of any source
IN_OWN_FOLDER = {OWN_FOLDER: "your own data", "urisc": "U-RISC (https://github.com/EmmaSRH/U-RISC-Data-Code)"}
"""Data sets that only the user can supply, and their source."""

_DATA_SUFFIXES = {".csv", ".json", ".toml", ".yaml"}


def code_digests(chapter: Chapter) -> dict[str, str]:
    """Return the digests of a chapter's notebook and library, as stored in its run record."""
    notebook = chapter.read()
    return {"notebook": notebook_digest(notebook), "library": library_digest(notebook, chapter.name)}


def process_facts(root: Path, chapter: str) -> dict[str, Any]:
    """Return what this process would run a chapter with: interpreter and library (digests of their places), code."""
    return {
        "interpreter": digest_of(sys.executable),
        "emseg": digest_of(str(PACKAGE_ROOT)),
        **code_digests(find_chapter(root, chapter)),
        "commit": git_state(root)["commit"],
    }


def git_state(root: Path) -> dict[str, Any]:
    """Return the commit of the checkout at `root` and whether its tracked files are unchanged; None where unknown."""
    commit = _git(root, "rev-parse", "HEAD")
    clean = None if commit is None else _git(root, "status", "--porcelain", "--untracked-files=no") == ""
    return {"commit": commit, "tree_clean": clean}


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def data_state(parameters: Mapping[str, Any]) -> str:
    """Return the state of the files of the parameter `data`: a change in them makes the result old.

    Synthetic data has no files. A folder of the user's may have any layout: its names, sizes and times count.
    """
    from emseg.data import ABSENT, state

    name = parameters.get(DATA_PARAMETER, SYNTHETIC)
    if name == SYNTHETIC:
        return SYNTHETIC
    if name not in IN_OWN_FOLDER:
        return state(name)
    folder = Path(parameters.get(OWN_FOLDER, "")).expanduser()
    if not parameters.get(OWN_FOLDER) or not folder.is_dir():
        return ABSENT
    stats = [(path.relative_to(folder).as_posix(), path.stat()) for path in sorted(folder.rglob("*"))]
    return digest_of(*(f"{path} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats if S_ISREG(stat.st_mode)))


def runs_to_do(runs: Iterable[MatrixRun], chapter: Chapter, records: Iterable[Mapping[str, Any]]) -> list[MatrixRun]:
    """Return the runs of a matrix without a record among `records` that the code of today would make again."""
    digests = code_digests(chapter)
    done = [record["parameters"] for record in records if record["digests"] == digests]
    return [run for run in runs if dict(run.parameters) not in done]


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
    files = imported_modules([cell.source for cell in code_cells(notebook)], roots)
    parts = [text for name, path in files.items() for text in (name, _read_module(path, path.stat().st_mtime_ns)[0])]
    for folder in sorted({path.parent for path in files.values()} - set(roots.values())):
        for file in sorted(folder.iterdir()):
            if file.suffix in _DATA_SUFFIXES:
                parts += [file.name, _data_text(file, chapter)]
    return digest_of(*parts)


def imported_modules(sources: Iterable[str], roots: Mapping[str, Path] | None = None) -> dict[str, Path]:
    """Return the files of all modules of `emseg` and `chapters` that the `sources` import, transitively, by name.

    A package counts with its parents, as Python imports them; imports inside functions count as well.
    """
    roots = package_roots() if roots is None else roots
    waiting = [name for source in sources for name in _imports(code_lines(source))]
    found: dict[str, Path | None] = {}
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = path = _module_file(name, roots)
            waiting += [] if path is None else _read_module(path, path.stat().st_mtime_ns)[1]
    return {name: path for name, path in sorted(found.items()) if path is not None}


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


def _module_file(name: str, roots: Mapping[str, Path]) -> Path | None:
    package, *rest = name.split(".")
    if package not in roots:
        return None
    place = roots[package].joinpath(*rest)
    return next((path for path in (place / "__init__.py", place.with_suffix(".py")) if path.is_file()), None)


@cache
def _read_module(path: Path, _changed_ns: int) -> tuple[str, list[str]]:
    """Return the syntax tree and the imports of a module, read again when it was written to."""
    source = path.read_text(encoding="utf-8")
    return code_tree(source), _imports(source)
