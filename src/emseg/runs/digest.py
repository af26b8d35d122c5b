"""Digests that change when behaviour changes, and only then.

A result is old when the code that made it would now do something else. So the digest of a notebook or a module is
taken over its syntax tree without comments and docstrings: rewording an explanation leaves every result current. The
digest of the library covers the `emseg` modules that a notebook imports, transitively, and the data files beside them.
"""

import ast
import csv
import hashlib
import io
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import emseg

PACKAGE_ROOT = Path(emseg.__file__).parent
_DATA_SUFFIXES = {".csv", ".json", ".toml", ".yaml"}
_LENGTH = 16
_MAGICS = ("%", "!", "?")


def digest_of(*parts: str) -> str:
    """Return a short hexadecimal digest of the `parts`, in order."""
    joined = "\0".join(parts).encode()
    return hashlib.sha256(joined).hexdigest()[:_LENGTH]


def notebook_digest(notebook: Any) -> str:
    """Return the digest of what a notebook (nbformat) computes: its code cells and their tags, prose left out."""
    return digest_of(*(f"{cell.metadata.get('tags', [])}{code_tree(cell.source)}" for cell in code_cells(notebook)))


def library_digest(notebook: Any, chapter: str, package_root: Path = PACKAGE_ROOT) -> str:
    """Return the digest of the `emseg` modules and package data that a chapter's notebook imports, transitively.

    Of a table with a column `chapter`, such as the claims, only the rows of this `chapter` count: a claim that another
    chapter tests makes no result of this one old.
    """
    modules = imported_modules([cell.source for cell in code_cells(notebook)], package_root)
    parts = []
    for module in modules:
        parts += [module, _module_tree(_stamped(_module_file(module, package_root)))]
    folders = sorted({_module_file(module, package_root).parent for module in modules} - {package_root})
    for folder in folders:
        for file in sorted(folder.iterdir()):
            if file.suffix in _DATA_SUFFIXES:
                parts += [file.name, _data_text(file, chapter)]
    return digest_of(*parts)


def _data_text(file: Path, chapter: str) -> str:
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".csv":
        rows = list(csv.DictReader(io.StringIO(text)))
        if rows and "chapter" in rows[0]:
            return repr([row for row in rows if row["chapter"] == chapter])
    return text


def imported_modules(sources: Iterable[str], package_root: Path = PACKAGE_ROOT) -> list[str]:
    """Return the names of all `emseg` modules that the `sources` import, directly or through another, sorted.

    A package counts with its parents, as Python imports them; imports inside functions count as well.
    """
    waiting = [name for source in sources for name in _imports(code_lines(source), package_root)]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        waiting += _module_imports(_stamped(_module_file(name, package_root)), package_root)
    return sorted(found)


def code_cells(notebook: Any) -> Iterator[Any]:
    """Yield the code cells of a notebook."""
    return (cell for cell in notebook.cells if cell.cell_type == "code")


def code_lines(source: str) -> str:
    """Return the source of a cell without IPython's magics, which are no Python."""
    return "\n".join(line for line in source.splitlines() if not line.lstrip().startswith(_MAGICS))


def code_tree(source: str) -> str:
    """Return a text of the syntax tree of `source`: the same for the same behaviour, on every Python version.

    `ast.dump` is not used, for its form changes from one Python version to the next. A cell that does not parse is
    taken as its text.
    """
    try:
        tree = ast.parse(code_lines(source))
    except SyntaxError:
        return source
    return _render(tree)


def _render(node: Any) -> str:
    if isinstance(node, ast.AST):
        fields = [
            f"{name}={_render(value)}"
            for name, value in ast.iter_fields(node)
            if value not in (None, []) and name not in ("ctx", "kind", "type_comment", "type_ignores", "type_params")
            for value in [_normalised(node, name, value)]
        ]
        return f"{type(node).__name__}({','.join(fields)})"
    if isinstance(node, list):
        return f"[{','.join(_render(item) for item in node)}]"
    return repr(node)


def _normalised(node: ast.AST, name: str, value: Any) -> Any:
    if name == "body":
        return _without_docstring(node, value)
    if isinstance(node, ast.JoinedStr):  # Python 3.12 ends a format such as {x:>{width}} with an empty text
        return [part for part in value if not (isinstance(part, ast.Constant) and part.value == "")]
    return value


def _without_docstring(node: ast.AST, body: Any) -> Any:
    if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or not body:
        return body
    first = body[0]
    is_text = (
        isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    )
    return body[1:] if is_text else body


def _imports(source: str, package_root: Path) -> list[str]:
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
    ours = [name for name in names if name.split(".")[0] == "emseg"]
    return sorted({parent for name in ours for parent in _with_parents(name) if _exists(parent, package_root)})


def _with_parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts) + 1)]


def _exists(name: str, package_root: Path) -> bool:
    path = package_root.joinpath(*name.split(".")[1:])
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def _module_file(name: str, package_root: Path) -> Path:
    path = package_root.joinpath(*name.split(".")[1:])
    return path / "__init__.py" if (path / "__init__.py").is_file() else path.with_suffix(".py")


def _stamped(path: Path) -> tuple[Path, int]:
    return path, path.stat().st_mtime_ns


@cache
def _module_tree(stamped: tuple[Path, int]) -> str:
    return code_tree(stamped[0].read_text(encoding="utf-8"))


@cache
def _module_imports(stamped: tuple[Path, int], package_root: Path) -> list[str]:
    return _imports(stamped[0].read_text(encoding="utf-8"), package_root)
