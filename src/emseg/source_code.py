"""Digests of source code that change when behaviour changes, and only then.

A result is old when the code that made it would now do something else. A digest is therefore taken over the syntax
tree, without comments and docstrings: rewording an explanation leaves every result and every cached file current.
"""

import ast
from functools import cache
from pathlib import Path
from typing import Any

import emseg
from emseg.files import digest_of

PACKAGE_ROOT = Path(emseg.__file__).parent
_MAGICS = ("%", "!", "?")


@cache
def code_digest(*patterns: str, root: Path = PACKAGE_ROOT) -> str:
    """Return the digest of the modules below `root` that match the glob `patterns`, such as "tiling/*.py".

    A pattern that matches no module is a defect: the digest would miss code that was moved.
    """
    files: set[Path] = set()
    for pattern in patterns:
        found = set(root.glob(pattern))
        assert found, f"no module of {root.name} matches {pattern!r}"
        files |= found
    return digest_of(*(code_tree(path.read_text(encoding="utf-8")) for path in sorted(files)))


def code_lines(source: str) -> str:
    """Return the source of a cell without IPython's magics, which are not Python."""
    return "\n".join(line for line in source.splitlines() if not line.lstrip().startswith(_MAGICS))


def code_tree(source: str) -> str:
    """Return the syntax tree of `source` as text: the same for the same behaviour, on every Python version.

    `ast.dump` is not used because its format changes between Python versions. A cell that does not parse is represented
    by its text.
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
