"""Profiles: one switch that takes every chapter from a laptop to a data-centre GPU.

`book/profiles/NAME.yaml` holds what the profile is for and, per chapter, its parameters and the cost to expect:

    purpose: the default of `make book`, and of a class
    chapters:
      urisc/sharpness_analysis:
        expected_minutes: 1
        parameters: {image_size: 2048}

It may also describe matrices, see `emseg.runs.matrix`.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from emseg.errors import InputError, UsageError, suggest
from emseg.runs.matrix import Matrix, parse_matrix

DEFAULT_PROFILE = "laptop"
_PROFILE_KEYS = {"purpose", "chapters", "matrices"}
_CHAPTER_KEYS = {"parameters", "expected_minutes"}


@dataclass(frozen=True)
class ChapterProfile:
    """What one profile says of one chapter; `expected_minutes` is on two cores, or one GPU for gpu and paper."""

    parameters: dict[str, Any] = field(default_factory=dict)
    expected_minutes: float | None = None


@dataclass(frozen=True)
class Profile:
    """A named set of parameters for every chapter."""

    name: str
    purpose: str
    chapters: dict[str, ChapterProfile]
    matrices: dict[str, Matrix] = field(default_factory=dict)

    def matrix(self, name: str) -> Matrix:
        """Return the matrix called `name`; an unknown name is a `UsageError`."""
        if name not in self.matrices:
            known = ", ".join(self.matrices) or "none"
            raise UsageError(
                f"profile {self.name} has no matrix {name!r}; it has: {known}.{suggest(name, self.matrices)}"
            )
        return self.matrices[name]

    def of(self, chapter: str) -> ChapterProfile:
        """Return what the profile says of `chapter`: nothing special where it is silent."""
        return self.chapters.get(chapter, ChapterProfile())


def list_profiles(root: Path) -> list[str]:
    """Return the names of all profiles, from the smallest to the largest expected cost where known."""
    order = ["smoke", "laptop", "lab", "gpu", "paper"]
    names = {path.stem for path in (root / "book" / "profiles").glob("*.yaml")}
    return [name for name in order if name in names] + sorted(names - set(order))


def load_profile(root: Path, name: str) -> Profile:
    """Return the profile called `name`; an unknown name is a `UsageError`, a broken file an `InputError`."""
    names = list_profiles(root)
    if name not in names:
        raise UsageError(f"unknown profile {name!r}; the profiles are: {', '.join(names)}.{suggest(name, names)}")
    content = load_mapping(root / "book" / "profiles" / f"{name}.yaml")
    _refuse_unknown(content, _PROFILE_KEYS, f"profile {name}")
    chapters = {}
    for chapter, entry in (content.get("chapters") or {}).items():
        _refuse_unknown(entry, _CHAPTER_KEYS, f"profile {name}, chapter {chapter}")
        chapters[str(chapter)] = ChapterProfile(dict(entry.get("parameters") or {}), entry.get("expected_minutes"))
    matrices = {
        str(matrix): parse_matrix(str(matrix), entry, f"profile {name}")
        for matrix, entry in (content.get("matrices") or {}).items()
    }
    return Profile(name, str(content.get("purpose", "")), chapters, matrices)


def load_mapping(path: Path) -> dict[str, Any]:
    """Return the mapping that a YAML file holds; anything else raises `InputError` that names the file."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"no such file: {path}.") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a directory; a YAML file is needed.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name} is not valid YAML: {' '.join(str(error).split())}.") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"{path.name} must hold a mapping of names to values; got a {type(content).__name__}.")
    return content


def _refuse_unknown(content: Any, allowed: set[str], where: str) -> None:
    if not isinstance(content, dict):
        raise InputError(f"{where} must be a mapping with the keys {', '.join(sorted(allowed))}; got {content!r}.")
    for key in content:
        if key not in allowed:
            raise InputError(
                f"{where} has the unknown key {key!r}; allowed: {', '.join(sorted(allowed))}."
                + suggest(str(key), allowed)
            )
