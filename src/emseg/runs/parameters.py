"""A chapter's parameters: read from its first tagged cell, checked before anything runs.

A parameter is a line `name: type = literal  # help` in the cell tagged `parameters`; papermill reads the same line for
`papermill --help-notebook`. What papermill lacks is the checking, so the help may end with what is allowed:

    pixel_size_nm: float = 2.18  # Pixel size in nm, in [0.5, 50]
    kernel: str = "area"         # Resampling kernel, one of: area, linear, cubic
    sigmas: list[float] = [1.0]  # Blur in px, each in (0, inf)

Values that are written as text, on the command line and in files, are YAML 1.2: `1e-3` is a number, `010` is ten.
"""

import ast
import io
import math
import re
import tokenize
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from emseg.errors import InputError, UsageError, suggest
from emseg.files import decoding

PARAMETERS_TAG = "parameters"
_SCALARS: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool}
_RANGE = re.compile(r"\s*,?\s*(each )?in ([\[(])\s*([^,\]]+?)\s*,\s*([^\])]+?)\s*([\])])\s*$")
_CHOICES = re.compile(r"\s*,?\s*(each )?one of:\s*(.+)$")


@dataclass(frozen=True)
class Bounds:
    """An interval of numbers, closed or open at each end; prints as it is written: "[0, 1)"."""

    low: float
    high: float
    low_open: bool
    high_open: bool

    def holds(self, value: float) -> bool:
        """Whether `value` lies inside; NaN never does."""
        above = value > self.low if self.low_open else value >= self.low
        return above and (value < self.high if self.high_open else value <= self.high)

    def __str__(self) -> str:
        return f"{'(' if self.low_open else '['}{self.low:g}, {self.high:g}{')' if self.high_open else ']'}"


@dataclass(frozen=True)
class Parameter:
    """One parameter of a chapter: `kind` is int, float, str or bool; `is_list` marks a list of them."""

    name: str
    kind: str
    is_list: bool
    default: Any
    help: str
    bounds: Bounds | None = None
    choices: tuple[str, ...] | None = None

    @property
    def type_name(self) -> str:
        """The type as it is written in the notebook."""
        return f"list[{self.kind}]" if self.is_list else self.kind

    def parse(self, text: Any) -> Any:
        """Return the value of a text or of a list of texts, checked; a list may be one text, "[1, 2]" or "1, 2"."""
        if self.is_list and isinstance(text, str):
            with suppress(yaml.YAMLError, RecursionError):  # `check` refuses the text
                text = yaml.load(f"[{text.strip().removeprefix('[').removesuffix(']')}]", _AsWritten)
        return self.check([self._read(item) for item in text] if isinstance(text, list) else self._read(text))

    def check(self, value: Any) -> Any:
        """Return `value` in the parameter's type, or raise `UsageError` that states what is allowed."""
        if not self.is_list:
            return self._check_scalar(value)
        if not isinstance(value, list | tuple):
            raise UsageError(f"parameter {self.name} must be a {self.type_name}; got {value!r}. {self.allowed()}")
        return [self._check_scalar(item) for item in value]

    def allowed(self) -> str:
        """Return a sentence that states which values the parameter takes."""
        each = "each " if self.is_list else ""
        if self.choices is not None:
            return f"Allowed: {each}one of {', '.join(self.choices)}."
        return f"Allowed: {self.type_name}{f', {each}in {self.bounds}' if self.bounds else ''}."

    def _read(self, text: Any) -> Any:
        """Return a text as the number or truth value that it is in YAML, or as it is."""
        if self.kind == "str" or not isinstance(text, str):
            return text
        try:
            value = yaml.load(text, _Typed)
        except (yaml.YAMLError, RecursionError, ValueError):
            return text
        return value if isinstance(value, int | float) else text

    def _check_scalar(self, value: Any) -> Any:
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if self.kind == "float" and is_whole:
            value = float(value)
        if not (is_whole if self.kind == "int" else isinstance(value, _SCALARS[self.kind])):
            raise UsageError(f"parameter {self.name} must be {self.type_name}; got {value!r}. {self.allowed()}")
        if self.choices is not None and value not in self.choices:
            raise UsageError(
                f"parameter {self.name} got {value!r}. {self.allowed()}{suggest(str(value), self.choices)}"
            )
        if self.kind == "float" and not math.isfinite(value):
            raise UsageError(f"parameter {self.name} must be finite; got {value}. {self.allowed()}")
        if self.bounds is not None and not self.bounds.holds(value):
            raise UsageError(f"parameter {self.name} is out of range: got {value!r}. {self.allowed()}")
        return value


def read_parameters_of(notebook: Any, chapter: str) -> dict[str, Parameter]:
    """Return the parameters of a chapter's notebook in the order of its `parameters` cell.

    Raises `InputError` for a chapter without that cell, a line there that is not a parameter, or a default that its own
    declaration refuses.
    """
    cells = [cell for cell in notebook.cells if PARAMETERS_TAG in cell.metadata.get("tags", [])]
    if len(cells) != 1 or cells[0].cell_type != "code":
        raise InputError(f"chapter {chapter} must have one code cell tagged {PARAMETERS_TAG!r}; found {len(cells)}.")
    try:
        declared = parse_parameters_cell(cells[0].source)
        return {one.name: replace(one, default=one.check(one.default)) for one in declared}
    except (UsageError, SyntaxError) as error:
        raise InputError(f"the parameters of chapter {chapter} are not well declared: {error}") from None


def parse_parameters_cell(source: str) -> list[Parameter]:
    """Return the parameters declared in the source of a `parameters` cell; their defaults are not checked."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    helps = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    parameters = []
    for node in ast.parse(source).body:
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None):
            raise UsageError(f"line {node.lineno} must read `name: type = literal  # help`.")
        annotation, name = ast.unparse(node.annotation), node.target.id
        kind = annotation.removeprefix("list[").removesuffix("]")
        if kind not in _SCALARS:
            raise UsageError(
                f"parameter {name} has the type {annotation}; the types are int, float, str, bool and lists of them."
            )
        default = ast.literal_eval(node.value)
        text, bounds, choices = _split_help(helps.get(node.end_lineno or 0, ""))
        parameters.append(Parameter(name, kind, annotation != kind, default, text, bounds, choices))
    return parameters


def check_namespace(sources: Iterable[str], namespace: Mapping[str, Any]) -> None:
    """Raise `UsageError` for a value in a notebook's `namespace` that its declaration among the cells refuses.

    `sources` are the cells that were run: the first that declares parameters, and cells that declare those anew.
    """
    declared: dict[str, Parameter] = {}
    for source in sources:
        try:
            found = {parameter.name: parameter for parameter in parse_parameters_cell(source)}
        except (ValueError, SyntaxError, tokenize.TokenError):
            continue  # any other cell
        declared |= {name: found[name] for name in found if not declared or name in declared}
    for name in declared.keys() & namespace.keys():
        declared[name].check(namespace[name])


def resolve(
    parameters: Mapping[str, Parameter],
    *,
    overrides: Iterable[tuple[str, Mapping[str, Any]]] = (),
    texts: Iterable[tuple[str, Mapping[str, Any]]] = (),
) -> dict[str, Any]:
    """Return every parameter's value: defaults, then typed values by `overrides`, then values by text (see `parse`).

    Both are pairs of a source, such as a file's name, and values by name. The first unknown name or wrong value raises
    `UsageError` with its source and the repair.
    """
    values = {name: parameter.default for name, parameter in parameters.items()}
    steps = [(source, mapping, "check") for source, mapping in overrides]
    steps += [(source, mapping, "parse") for source, mapping in texts]
    for source, mapping, reading in steps:
        for name, value in mapping.items():
            try:
                if name not in parameters:
                    known = ", ".join(parameters)
                    raise UsageError(
                        f"unknown parameter {name!r}.{suggest(str(name), parameters)} The parameters are: {known}."
                    )
                values[name] = getattr(parameters[name], reading)(value)
            except UsageError as error:
                raise UsageError(f"{source}: {error}" if source else str(error)) from None
    return values


def load_mapping(path: Path, *, as_written: bool = False) -> dict[str, Any]:
    """Return the mapping in a YAML 1.2 file; anything else raises `InputError` with the file's name.

    `as_written` leaves the values as texts, to be read in the types that they are meant for.
    """
    with decoding(path, "YAML", repair="Correct it in a text editor."):
        content = yaml.load(path.read_text(encoding="utf-8-sig"), _AsWritten if as_written else _Typed)
    if not content:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"{path.name} must contain a mapping of names to values; got a {type(content).__name__}.")
    return content


class _AsWritten(yaml.SafeLoader):
    """YAML whose scalars are texts; a repeated key is an error."""

    yaml_implicit_resolvers = {}  # noqa: RUF012

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):  # a few lines of them may stand for more than any memory
            raise yaml.YAMLError("an alias is not read here; write the value again")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value]
        if twice := [name for name in names if names.count(name) > 1]:
            raise yaml.YAMLError(f"{twice[0]!r} is given twice; keep one")
        return super().construct_mapping(node, deep)


class _Typed(_AsWritten):
    """The same with the numbers, truth values and null of YAML 1.2's core schema."""

    yaml_implicit_resolvers = {}  # noqa: RUF012


_BUILD: dict[str, Callable[[str], Any]] = {
    "null": lambda text: None,
    "bool": lambda text: text.lower() == "true",
    "int": lambda text: int(text, {"0x": 16, "0o": 8}.get(text[:2], 10)),
    "float": lambda text: float(text.lower().replace(".inf", "inf").replace(".nan", "nan")),
}
for _kind, _pattern, _first in (
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", "true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", "[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
):
    _Typed.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"^(?:{_pattern})$"), list(_first))
for _kind, _build in _BUILD.items():
    _Typed.add_constructor(f"tag:yaml.org,2002:{_kind}", lambda loader, node, build=_build: build(node.value))  # type: ignore[misc]


def _split_help(comment: str) -> tuple[str, Bounds | None, tuple[str, ...] | None]:
    if match := _RANGE.search(comment):
        bounds = Bounds(float(match[3]), float(match[4]), match[2] == "(", match[5] == ")")
        return comment[: match.start()].strip(), bounds, None
    if match := _CHOICES.search(comment):
        return comment[: match.start()].strip(), None, tuple(choice.strip() for choice in match[2].split(","))
    return comment.strip(), None, None
