"""What there is to run: the chapters of the book, the profiles that parameterize them, and the matrices of a profile.

A chapter is a notebook below `book/`, named by its path there without the suffix: `urisc/sharpness_analysis`. A profile
is one switch from a laptop to a data-centre GPU; `book/profiles/NAME.yaml` says what it is for and, for each chapter,
its parameters and expected cost. A matrix runs one chapter for all combinations of some parameters and several seeds:

    purpose: the default of `make book`, and of a class
    chapters:
      urisc/sharpness_analysis: {expected_minutes: 1, parameters: {image_size: 2048}}
    matrices:
      fanet_matrix:
        chapter: fanet/fanet_training
        seeds: 3
        parameters: {preset: laptop, n_steps: 400}
        blocks:
          - {detector: [mask_rcnn, ms_rcnn], depth: [34, 50], attention: [none, se, eca, fca, fanet]}
          - {detector: [mask_rcnn], depth: [34], attention: [fanet], fanet_indexing: [scaled]}

A block is all combinations of its lists; the matrix's `parameters` hold for every run and override those that the
profile gives the chapter. A run is named by its values: "mask_rcnn-34-fanet-seed0".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import nbformat
import yaml

from emseg.errors import InputError, UsageError, suggest
from emseg.files import find_root as find_root
from emseg.runs.parameters import Parameter, read_parameters_of, resolve

DEFAULT_PROFILE = "laptop"
SEED = "seed"
_PROFILES = ("smoke", "laptop", "lab", "gpu", "paper")  # by cost
_PROFILE_KEYS = {"purpose", "chapters", "matrices"}
_CHAPTER_KEYS = {"parameters", "expected_minutes"}
_MATRIX_KEYS = {"chapter", "seeds", "parameters", "blocks"}


@dataclass(frozen=True)
class Chapter:
    """A notebook of the book: its `name`, such as "fanet/dct_derivation", and its file."""

    name: str
    path: Path

    def read(self) -> Any:
        """Return the notebook (nbformat version 4); raises `InputError` for a file that is not one."""
        try:
            return nbformat.read(self.path, as_version=4)
        except (ValueError, OSError) as error:
            raise InputError(
                f"the notebook of chapter {self.name} cannot be read ({error}). Restore book/{self.name}.ipynb."
            ) from None

    def parameters(self) -> dict[str, Parameter]:
        """Return the declared parameters, in order; raises `InputError` where the notebook declares them wrongly."""
        return read_parameters_of(self.read(), self.name)

    def title(self) -> str:
        """Return the text of the first top-level heading, or the name when there is none."""
        for cell in self.read().cells:
            for line in cell.source.splitlines() if cell.cell_type == "markdown" else ():
                if line.startswith("# "):
                    return str(line[2:].strip())
        return self.name


def list_chapters(root: Path) -> list[Chapter]:
    """Return all chapters below `root`/book, sorted by name."""
    book = root / "book"
    notebooks = (
        path for path in book.rglob("*.ipynb") if not any(part[0] in "._" for part in path.relative_to(book).parts)
    )
    chapters = [Chapter(path.relative_to(book).with_suffix("").as_posix(), path) for path in notebooks]
    return sorted(chapters, key=lambda chapter: chapter.name)


def find_chapter(root: Path, name: str) -> Chapter:
    """Return the chapter called `name`; the notebook's path, or the last part of the name where unique, also do."""
    chapters = {chapter.name: chapter for chapter in list_chapters(root)}
    wanted = name.removesuffix(".ipynb").removeprefix("./").removeprefix("book/")
    if wanted in chapters:
        return chapters[wanted]
    matches = [chapter for key, chapter in chapters.items() if key.rsplit("/", 1)[-1] == wanted]
    if len(matches) == 1:
        return matches[0]
    raise UsageError(f"unknown chapter {name!r}; the chapters are: {', '.join(chapters)}.{suggest(wanted, chapters)}")


@dataclass(frozen=True)
class ChapterProfile:
    """What one profile says of one chapter; `expected_minutes` is on two cores, or one GPU for gpu and paper."""

    parameters: dict[str, Any] = field(default_factory=dict)
    expected_minutes: float | None = None


@dataclass(frozen=True)
class MatrixRun:
    """One run of a matrix: its name and all parameters of its chapter, resolved."""

    matrix: str
    chapter: str
    name: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Matrix:
    """One chapter, to be run for every combination of the values in each block, at several seeds."""

    name: str
    chapter: str
    blocks: tuple[Mapping[str, tuple[Any, ...]], ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seeds: int = 1

    def with_seeds(self, seeds: int) -> "Matrix":
        """Return the same matrix with another number of seeds."""
        if seeds < 1:
            raise UsageError(f"a matrix needs at least one seed; got seeds={seeds}.")
        return replace(self, seeds=seeds)

    def runs(self, root: Path, profile_parameters: Mapping[str, Any]) -> list[MatrixRun]:
        """Return the runs, with parameters checked against the chapter's.

        The first seed of all combinations precedes the second of any, so that an interrupted matrix still compares like
        with like. `profile_parameters` are those that the profile gives the chapter itself.
        """
        known = find_chapter(root, self.chapter).parameters()
        first = int(self.parameters.get(SEED, 0))
        runs: dict[str, MatrixRun] = {}
        combinations = [
            dict(zip(block, values, strict=True)) for block in self.blocks for values in product(*block.values())
        ]
        for seed, values in product(range(first, first + self.seeds), combinations):
            name = "-".join([*(str(value) for value in values.values()), f"seed{seed}"])
            if name in runs:
                raise InputError(f"matrix {self.name} holds the run {name} twice; give its blocks different values.")
            own = {**profile_parameters, **self.parameters, **values, SEED: seed}
            parameters = resolve(known, overrides=[(f"matrix {self.name}, run {name}", own)])
            runs[name] = MatrixRun(self.name, self.chapter, name, parameters)
        return list(runs.values())


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
        """Return what the profile says of `chapter`, empty if nothing."""
        return self.chapters.get(chapter, ChapterProfile())

    def resolve(self, chapter: Chapter) -> dict[str, Any]:
        """Return the parameters of `chapter` at this profile, checked."""
        source = f"profile {self.name}, chapter {chapter.name}"
        return resolve(chapter.parameters(), overrides=[(source, self.of(chapter.name).parameters)])


def list_profiles(root: Path) -> list[str]:
    """Return the names of all profiles, by expected cost where that is known."""
    names = {path.stem for path in (root / "book" / "profiles").glob("*.yaml")}
    return [name for name in _PROFILES if name in names] + sorted(names - set(_PROFILES))


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


def parse_matrix(name: str, content: Any, where: str) -> Matrix:
    """Return the matrix that a profile's entry describes; raises `InputError` for anything else."""
    where = f"{where}, matrix {name}"
    if not isinstance(content, dict) or not set(content) <= _MATRIX_KEYS or not (content.keys() >= {"chapter"}):
        content = {}
    if not content.get("chapter") or not content.get("blocks"):
        raise InputError(
            f"{where} must be a mapping with the keys chapter and blocks, and perhaps seeds and parameters."
        )
    for block in content["blocks"]:
        if not isinstance(block, dict) or not all(isinstance(values, list) and values for values in block.values()):
            raise InputError(f"{where}: a block gives each parameter a list of values; got {block!r}.")
    seeds = content.get("seeds", 1)
    if not isinstance(seeds, int) or seeds < 1:
        raise InputError(f"{where}: seeds must be a number from 1; got {seeds!r}.")
    blocks = tuple({str(key): tuple(values) for key, values in block.items()} for block in content["blocks"])
    return Matrix(name, str(content["chapter"]), blocks, dict(content.get("parameters") or {}), seeds)


def load_mapping(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file; anything else raises `InputError` with the file's name."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"no such file: {path}.") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a directory; a YAML file is needed.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name} is not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(content, dict | None):
        raise InputError(f"{path.name} must hold a mapping of names to values; got a {type(content).__name__}.")
    return content or {}


def _refuse_unknown(content: Any, allowed: set[str], where: str) -> None:
    if not isinstance(content, dict):
        raise InputError(f"{where} must be a mapping with the keys {', '.join(sorted(allowed))}; got {content!r}.")
    for key in content:
        if key not in allowed:
            raise InputError(
                f"{where} has the unknown key {key!r}; allowed: {', '.join(sorted(allowed))}."
                + suggest(str(key), allowed)
            )
