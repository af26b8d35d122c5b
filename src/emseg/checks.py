"""One set of input checks: data classes validated by their annotations, and checks of single arguments.

Every refusal is a UsageError that states the invariant, what came and, where there is one, the repair:

    `crop_size` must be at least 16; got 8.
    `optimizer` must be one of 'adam', 'adamw'; got 'adma'. Did you mean 'adam'?

A design or a plan is a frozen data class whose annotations are its checks (pydantic validates them):

    @validated
    class TrainingPlan:
        n_steps: Count = 10_000                                     # whole number, at least 1
        optimizer: Literal["adam", "adamw"] = "adam"
        momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
        flips: Items[Literal["horizontal", "vertical"]] = ()        # a list becomes a tuple

        def __post_init__(self) -> None:                            # what several fields must satisfy together
            ...
"""

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from functools import wraps
from typing import Annotated, Any, TypeVar, cast, dataclass_transform

import pydantic
from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass as pydantic_dataclass

from emseg.errors import UsageError, suggest

T = TypeVar("T")
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Items = Annotated[tuple[T, ...], BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)]
"""A tuple of any length, also accepted as a list, which is how JSON and notebooks write it."""


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def validated(cls: type[T]) -> type[T]:
    """Make `cls` a frozen data class that checks its values against its annotations and raises UsageError.

    Types are strict: True is not a whole number and "3" is not a number; a whole number is a float. `__post_init__`
    runs after.
    """
    made = pydantic_dataclass(frozen=True, config=ConfigDict(strict=True, arbitrary_types_allowed=True))(cls)
    init = made.__init__

    @wraps(init)
    def checking(self: Any, *args: Any, **values: Any) -> None:
        known = [field.name for field in dataclasses.fields(made)]
        for name in values:
            if name not in known:
                raise UsageError(f"a {_words(cls)} has no {name!r}.{suggest(name, known)}")
        # Handed over by name, or a refusal would name the value by its position.
        names = [field.name for field in dataclasses.fields(made) if field.init]
        named, rest = dict(zip(names, args, strict=False)), args[len(names) :]
        try:
            init(self, *rest, **named, **values)
        except pydantic.ValidationError as error:
            cause = error.errors()[0].get("ctx", {}).get("error")
            raise (cause if isinstance(cause, ValueError) else UsageError(describe(error))) from None

    made.__init__ = checking  # type: ignore[method-assign]
    return cast(type[T], made)


def changed(design: T, **changes: Any) -> T:
    """Return the data class `design` with some fields changed; an unknown name is refused with the nearest one."""
    return dataclasses.replace(design, **changes)  # type: ignore[type-var]


def plain(design: Any) -> dict[str, Any]:
    """Return a data class as JSON knows it: nested data classes become dictionaries, tuples become lists."""
    return json.loads(json.dumps(dataclasses.asdict(design)))  # type: ignore[no-any-return]


def describe(error: pydantic.ValidationError) -> str:
    """Return pydantic's first complaint as a sentence of this library."""
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"] if isinstance(part, int | str)) or "value"
    context = first.get("ctx", {})
    got = first["input"]
    if first["type"] == "literal_error":
        allowed = str(context["expected"]).replace(" or ", ", ").split(", ")  # texts in quotes, numbers without
        hint = suggest(got, [part.strip("'") for part in allowed]) if isinstance(got, str) else ""
        return f"`{name}` must be one of {', '.join(allowed)}; got {got!r}.{hint}"
    bounds = {"ge": "at least", "gt": "greater than", "le": "at most", "lt": "below"}
    bound = next((f"{words} {context[key]:g}" for key, words in bounds.items() if key in context), None)
    kinds = {
        "int_type": "a whole number",
        "float_type": "a number",
        "bool_type": "true or false",
        "string_type": "text",
        "tuple_type": "a list",
        "too_short": "a longer list",
        "too_long": "a shorter list",
        "finite_number": "finite",
        "missing": "given",
    }
    if isinstance(got, float) and math.isnan(got):
        bound = "finite"
    invariant = bound or kinds.get(first["type"]) or str(first["msg"]).removeprefix("Input should be ").lower()
    return f"`{name}` must be {invariant}; got {got!r}."


def require_count(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """Return `value` if it is a whole number from `least` to `most`."""
    if (
        isinstance(value, bool)
        or not hasattr(value, "__index__")
        or value < least
        or (most is not None and value > most)
    ):
        limits = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise UsageError(f"`{name}` must be a whole number {limits}; got {value!r}.")
    return int(value)


def require_number(
    name: str,
    value: Any,
    *,
    least: float = -math.inf,
    most: float = math.inf,
    above: float | None = None,
    below: float | None = None,
    unit: str = "",
) -> float:
    """Return `value` as a float if it is a finite number within the bounds; `above` and `below` exclude their value."""
    good = is_number(value) and math.isfinite(value) and least <= value <= most
    if not good or (above is not None and value <= above) or (below is not None and value >= below):
        bounds = [
            words
            for bound, words in (
                (above, f"greater than {above}"),
                (None if math.isinf(least) else least, f"at least {least:g}"),
                (below, f"below {below}"),
                (None if math.isinf(most) else most, f"at most {most:g}"),
            )
            if bound is not None
        ]
        limits = f" {' and '.join(bounds)}" if bounds else ""
        raise UsageError(f"`{name}` must be a finite number{limits}{f' {unit}' if unit else ''}; got {value!r}.")
    return float(value)


def require_one_of(name: str, value: Any, allowed: Iterable[str]) -> str:
    """Return `value` if it is one of the `allowed` names."""
    allowed = tuple(allowed)
    if value not in allowed:
        raise UsageError(
            f"`{name}` must be one of {', '.join(map(repr, allowed))}; got {value!r}.{suggest(str(value), allowed)}"
        )
    return str(value)


def changes_between(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return "name was x and is now y" for every setting that differs or that only one of the two has."""
    pairs = {name: (then.get(name, "not given"), now.get(name, "not given")) for name in [*then, *now]}
    return [f"{name} was {old} and is now {new}" for name, (old, new) in pairs.items() if old != new]


def is_number(value: Any) -> bool:
    """Return whether `value` is a real number; True and False are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _words(cls: type) -> str:
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in cls.__name__).strip()
