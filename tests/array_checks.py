"""Array annotations are checked while testing: jaxtyping's dtypes and shapes on every function of the library.

A finder on `sys.meta_path` lets a module of `emseg` or `chapters` execute and then wraps its functions, methods and
data classes whose annotations mention an array. A call is checked after it returned: arguments, then the result, in one
scope of axis names. Errors that the function itself raises for wrong input therefore come first, and annotations
without an array are left to mypy. Functions compiled by numba are not Python functions and stay as they are.
"""

import dataclasses
import functools
import inspect
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import FunctionType, ModuleType
from typing import Any

from beartype.door import is_bearable
from jaxtyping import AbstractArray, jaxtyped

PACKAGES = ("emseg", "chapters")


class ArrayAnnotationError(AssertionError):
    """An annotation of the library is not true for what was passed or returned."""


class _Finder(MetaPathFinder):
    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        """Return the ordinary spec with a loader that checks, for our packages alone."""
        if fullname.split(".")[0] not in PACKAGES:
            return None
        spec: ModuleSpec | None = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            plain = spec.loader.exec_module

            def execute(module: ModuleType) -> None:
                plain(module)
                check_module(module)

            spec.loader.exec_module = execute  # type: ignore[method-assign]
        return spec


def install() -> None:
    """Check everything that is imported from now on."""
    loaded = [name for name in sys.modules if name.split(".")[0] in PACKAGES]
    assert not loaded, f"imported before the checks were installed: {loaded}"
    sys.meta_path.insert(0, _Finder())


def check_module(module: ModuleType) -> None:
    """Wrap what `module` defines."""
    for name, value in list(vars(module).items()):
        if getattr(value, "__module__", None) != module.__name__:
            continue
        if isinstance(value, FunctionType):
            setattr(module, name, checked(value))
        elif isinstance(value, type):
            _check_class(value)


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function`, checked if its annotations mention arrays."""
    hints = _array_hints(function)
    if not hints:
        return function
    signature, name = inspect.signature(function), f"{function.__module__}.{function.__qualname__}"
    if inspect.isgeneratorfunction(function):
        hints.pop("return", None)

    @functools.wraps(function)
    def checking(*arguments: Any, **named: Any) -> Any:
        with jaxtyped("context"):
            result = function(*arguments, **named)
            values = {**signature.bind(*arguments, **named).arguments, "return": result}
            _require(name, hints, values)
            return result

    return checking


def _check_class(cls: type) -> None:
    for name, value in list(vars(cls).items()):
        if isinstance(value, FunctionType):
            if name != "__init__" or not dataclasses.is_dataclass(cls):
                setattr(cls, name, checked(value))
        elif isinstance(value, staticmethod | classmethod):
            setattr(cls, name, type(value)(checked(value.__func__)))
        elif isinstance(value, property) and value.fget is not None:
            setattr(cls, name, property(checked(value.fget), value.fset, value.fdel, value.__doc__))
    hints = _array_hints(cls)
    if dataclasses.is_dataclass(cls) and hints:
        plain = cls.__init__

        @functools.wraps(plain)
        def checking(self: Any, *arguments: Any, **named: Any) -> None:
            plain(self, *arguments, **named)
            with jaxtyped("context"):
                _require(f"{cls.__module__}.{cls.__qualname__}", hints, vars(self))

        cls.__init__ = checking  # type: ignore[misc]


def _require(name: str, hints: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    for part, hint in hints.items():
        if part in values and not is_bearable(values[part], hint):
            value = values[part]
            shown = f"{value.dtype} {tuple(value.shape)}" if hasattr(value, "dtype") else repr(value)[:200]
            raise ArrayAnnotationError(f"{name}: `{part}` is annotated {hint}; got {shown}.")


def _array_hints(owner: Any) -> dict[str, Any]:
    """Return the annotations that mention arrays, "return" last; those of names that exist for mypy alone are left."""
    hints = {}
    for name, hint in getattr(owner, "__annotations__", {}).items():
        if isinstance(hint, str):
            try:
                hint = eval(hint, vars(sys.modules[owner.__module__]))
            except NameError:
                continue
        if _mentions_array(hint) and not isinstance(hint, type(typing.ClassVar[int])):
            hints[name] = hint
    return hints


def _mentions_array(hint: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return typing.get_origin(hint) is not Callable and any(map(_mentions_array, typing.get_args(hint)))
