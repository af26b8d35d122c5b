"""A chapter's parameters: read from its first tagged cell, checked before anything runs.

A parameter is a line `name: type = literal  # help` in the cell tagged `parameters`; papermill reads the same line for
`papermill --help-notebook`. What papermill lacks is the checking, so the help may end with what is allowed:

    pixel_size_nm: float = 2.18  # Pixel size in nm, in [0.5, 50]
    kernel: str = "area"         # Resampling kernel, one of: area, linear, cubic
    sigmas: list[float] = [1.0]  # Blur in px, each in (0, inf)
"""

import ast
import io
import math
import re
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from emseg.errors import InputError, UsageError, suggest

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
        below = value < self.high if self.high_open else value <= self.high
        return above and below

    def __str__(self) -> str:
        left, right = "(" if self.low_open else "[", ")" if self.high_open else "]"
        return f"{left}{self.low:g}, {self.high:g}{right}"


@dataclass(frozen=True)
class Parameter:
    """One parameter of a chapter: `kind` is int, float, str or bool; `is_list` tells a list of them."""

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

    def parse(self, text: str) -> Any:
        """Return the value that the command line's `text` stands for; a list is "[1, 2]" or "1,2"."""
        if not self.is_list:
            return self.check(_parse_scalar(text, self.kind))
        inner = text.strip().removeprefix("[").removesuffix("]").strip()
        return self.check(
            [_parse_scalar(item.strip().strip("'\""), self.kind) for item in inner.split(",")] if inner else []
        )

    def check(self, value: Any) -> Any:
        """Return `value` in the parameter's type, or raise `UsageError` that says what is allowed."""
        if not self.is_list:
            return self._check_scalar(value)
        if not isinstance(value, list | tuple):
            raise UsageError(f"parameter {self.name} must be a {self.type_name}; got {value!r}. {self.allowed()}")
        return [self._check_scalar(item) for item in value]

    def allowed(self) -> str:
        """Return a sentence that says which values the parameter takes."""
        each = "each " if self.is_list else ""
        if self.choices is not None:
            return f"Allowed: {each}one of {', '.join(self.choices)}."
        return f"Allowed: {self.type_name}{f', {each}in {self.bounds}' if self.bounds else ''}."

    def _check_scalar(self, value: Any) -> Any:
        wanted = _SCALARS[self.kind]
        fits = isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool))
        if wanted is float and isinstance(value, int) and not isinstance(value, bool):
            value, fits = float(value), True
        if not fits:
            raise UsageError(f"parameter {self.name} must be {self.type_name}; got {value!r}. {self.allowed()}")
        if self.choices is not None and value not in self.choices:
            raise UsageError(
                f"parameter {self.name} got {value!r}. {self.allowed()}{suggest(str(value), self.choices)}"
            )
        if wanted is float and not math.isfinite(value):
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
        return {parameter.name: parameter for parameter in parse_parameters_cell(cells[0].source)}
    except (UsageError, SyntaxError) as error:
        raise InputError(f"the parameters of chapter {chapter} are not well declared: {error}") from None


def parse_parameters_cell(source: str) -> list[Parameter]:
    """Return the parameters declared in the source of a `parameters` cell."""
    helps = _comments_by_line(source)
    parameters = []
    for node in ast.parse(source).body:
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None):
            raise UsageError(f"line {node.lineno} must read `name: type = literal  # help`.")
        parameters.append(
            _declared(node.target.id, ast.unparse(node.annotation), node.value, helps.get(node.end_lineno or 0, ""))
        )
    return parameters


def resolve(
    parameters: Mapping[str, Parameter],
    *,
    overrides: Iterable[tuple[str, Mapping[str, Any]]] = (),
    texts: Iterable[tuple[str, str]] = (),
) -> dict[str, Any]:
    """Return every parameter's value: defaults, then each (source, mapping) of `overrides`, then the `texts`.

    All names and values are checked; the first wrong one raises `UsageError` that names its source and the repair.
    """
    values = {name: parameter.default for name, parameter in parameters.items()}
    for source, mapping in overrides:
        for name, value in mapping.items():
            try:
                values[name] = _known(parameters, name).check(value)
            except UsageError as error:
                raise UsageError(f"{source}: {error}") from None
    for name, text in texts:
        values[name] = _known(parameters, name).parse(text)
    return values


def _known(parameters: Mapping[str, Parameter], name: str) -> Parameter:
    if name not in parameters:
        raise UsageError(
            f"unknown parameter {name!r}.{suggest(name, parameters)} The parameters are: {', '.join(parameters)}."
        )
    return parameters[name]


def _declared(name: str, annotation: str, value: ast.expr, comment: str) -> Parameter:
    match = re.fullmatch(r"(?:list\[(\w+)\]|(\w+))", annotation)
    kind = (match.group(1) or match.group(2)) if match else ""
    if kind not in _SCALARS:
        raise UsageError(
            f"parameter {name} has the type {annotation}; the types are int, float, str, bool and lists of them."
        )
    help_text, bounds, choices = _split_help(comment)
    is_list = annotation.startswith("list[")
    declared = Parameter(name, kind, is_list, None, help_text, bounds, choices)
    default = declared.check(ast.literal_eval(value))
    return Parameter(name, kind, is_list, default, help_text, bounds, choices)


def _split_help(comment: str) -> tuple[str, Bounds | None, tuple[str, ...] | None]:
    if match := _RANGE.search(comment):
        bounds = Bounds(float(match[3]), float(match[4]), match[2] == "(", match[5] == ")")
        return comment[: match.start()].strip(), bounds, None
    if match := _CHOICES.search(comment):
        return comment[: match.start()].strip(), None, tuple(choice.strip() for choice in match[2].split(","))
    return comment.strip(), None, None


def _comments_by_line(source: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}


def _parse_scalar(text: str, kind: str) -> Any:
    """Return `text` read as `kind` where that is possible, else the text itself, for `check` to refuse."""
    if kind == "str":
        return text
    if kind == "bool":
        return {"true": True, "false": False}.get(text.lower(), text)
    try:
        return _SCALARS[kind](text)
    except ValueError:
        return text
