"""Checks that the plans of a training and of a pretraining share: each names the field, what came and what may be."""

from typing import Any

from emseg.errors import UsageError, suggest


def require_one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Raise `UsageError` unless `value` is one of the `allowed` names."""
    if value not in allowed:
        raise UsageError(f"`{name}` must be one of {', '.join(allowed)}; got {value!r}.{suggest(str(value), allowed)}")


def require_count(name: str, value: Any, least: int) -> None:
    """Raise `UsageError` unless `value` is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"`{name}` must be a whole number of at least {least}; got {value!r}.")


def is_number(value: Any) -> bool:
    """Return whether `value` is a number and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)
