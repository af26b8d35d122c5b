"""The directive `{api} PACKAGE`: what a package's `__init__` offers, with signatures and docstrings.

    {api} emseg.frequency

The source is read, not imported, so that the pages need neither torch nor the detectors. Names are grouped by the
module that defines them, each under the first sentence of its module. Docstrings are plain text: paragraphs stay
paragraphs, indented lines (equations, examples) stay as they are, words in backquotes are code.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from functools import cache
from html import escape
from importlib.util import find_spec
from pathlib import Path

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from emseg_book.markup import details_html

logger = logging.getLogger(__name__)
Definition = ast.FunctionDef | ast.ClassDef
SIGNATURE_WIDTH = 88


class Api(SphinxDirective):
    """Shows the names that a package exports."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return a section a module, with an entry a name."""
        package = self.arguments[0]
        sections: list[nodes.Node] = []
        try:
            offered = exports(package)
        except (FileNotFoundError, SyntaxError) as error:
            logger.warning("{api} %s: %s", package, error, location=self.get_location(), type="emseg")
            return []
        for module, names in offered.items():
            title = module.removeprefix("emseg.")
            intro = nodes.raw("", docstring_html(summary(ast.get_docstring(parsed(module)) or "")), format="html")
            entries = [nodes.raw("", entry_html(module, name), format="html") for name in names]
            anchor = nodes.make_id(f"{package}-from-{module}")
            section = nodes.section("", nodes.title("", title), intro, *entries, ids=[anchor])
            sections.append(section)
        return sections


def exports(package: str) -> dict[str, list[str]]:
    """Return the public names that a package re-exports, by defining module, in the order of its imports."""
    found: dict[str, list[str]] = {}
    for node in parsed(package).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("emseg"):
            for alias in node.names:
                if alias.name[0].islower() or alias.name[0].isupper():
                    module = _defining_module(str(node.module), alias.name)
                    found.setdefault(module, []).append(alias.name)
    return found


def entry_html(module: str, name: str) -> str:
    """Return the signature of one name, with its docstring and, for a class, its public methods."""
    node = _find(module, name)
    if node is None:
        return f'<dl class="emseg-api"><dt><code>{escape(name)}</code></dt><dd>A constant or type.</dd></dl>'
    more = ""
    if isinstance(node, ast.ClassDef):
        methods = [part for part in node.body if isinstance(part, ast.FunctionDef) and not part.name.startswith("_")]
        listed = f'<dl class="emseg-api">{"".join(map(_described, methods))}</dl>'
        more = details_html(f"Methods ({len(methods)})", listed) if methods else ""
    return f'<dl class="emseg-api">{_described(node, more)}</dl>'


def _described(node: Definition, more: str = "") -> str:
    body = docstring_html(ast.get_docstring(node) or "")
    return f"<dt><code>{escape(_signature(node))}</code></dt><dd>{body}{more}</dd>"


def docstring_html(text: str) -> str:
    """Return a docstring as HTML: paragraphs, indented blocks, code."""
    blocks = []
    for block in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        if block.strip() and all(line.startswith("    ") for line in block.splitlines()):
            blocks.append(f"<pre>{escape(textwrap.dedent(block))}</pre>")
        elif block.strip():
            prose = re.sub(r"`+([^`]+)`+", r"<code>\1</code>", escape(block))
            blocks.append("<p>" + re.sub(r"\n(?: {2,}|- )", "<br>", prose) + "</p>")
    return "".join(blocks)


def summary(text: str) -> str:
    """Return the first paragraph of a docstring."""
    return inspect.cleandoc(text).split("\n\n")[0]


def _signature(node: Definition) -> str:
    """Return "name(arguments) -> result"; a dataclass lists its fields as arguments."""
    if isinstance(node, ast.FunctionDef):
        parts, result = _arguments(node.args), f" -> {ast.unparse(node.returns)}" if node.returns else ""
    else:
        own = next((part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"), None)
        fields = [ast.unparse(part) for part in node.body if isinstance(part, ast.AnnAssign)]
        parts, result = _arguments(own.args) if own else fields, ""
    line = f"{node.name}({', '.join(parts)}){result}"
    if len(line) <= SIGNATURE_WIDTH:
        return line
    return f"{node.name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){result}"


def _arguments(arguments: ast.arguments) -> list[str]:
    first = arguments.args[:1]
    if first and first[0].arg in ("self", "cls"):
        arguments.args = arguments.args[1:]
    return [part for part in _split_arguments(ast.unparse(arguments)) if part]


def _split_arguments(text: str) -> Iterator[str]:
    depth, start, quoted = 0, 0, ""
    for position, sign in enumerate(text):
        if sign in "\"'":
            quoted = "" if quoted == sign else quoted or sign
        elif not quoted:
            depth += (sign in "([{") - (sign in ")]}")
            if sign == "," and depth == 0:
                yield text[start:position].strip()
                start = position + 1
    yield text[start:].strip()


@cache
def parsed(module: str) -> ast.Module:
    """Return the syntax tree of a module of the library."""
    spec = find_spec("emseg")
    assert spec is not None
    assert spec.origin is not None
    base = Path(spec.origin).parent.joinpath(*module.split(".")[1:])
    path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"))


def _find(module: str, name: str) -> Definition | None:
    for node in parsed(module).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return node
    return None


def _defining_module(module: str, name: str) -> str:
    """Follow re-exports to the module that defines a name."""
    for node in parsed(module).body:
        ours = isinstance(node, ast.ImportFrom) and (node.module or "").startswith("emseg")
        if ours and any((alias.asname or alias.name) == name for alias in node.names):
            return _defining_module(str(node.module), name)
    return module
