"""What there is to run: the chapters of the book, the profiles that parameterize them, and the matrices of a profile.

A chapter is a notebook below `book/`, named by its path there without the suffix: `urisc/sharpness_analysis`. A profile
is one switch from a laptop to a data-centre GPU; `book/profiles/NAME.yaml` states what it is for and, for each chapter,
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

A block is all combinations of its lists; the matrix's `parameters` apply to every run and override those that the
profile gives the chapter. A run is named by its values: "mask_rcnn-34-fanet-seed0".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any, TypeVar

import nbformat
from pydantic import Field

from emseg.checks import Count, Items, validated
from emseg.errors import InputError, UsageError, suggest
from emseg.files import decoding
from emseg.runs.parameters import Parameter, load_mapping, read_parameters_of, resolve

SEED = "seed"
_PROFILES = ("smoke", "laptop", "lab", "gpu", "paper")  # by cost
T = TypeVar("T")


@dataclass(frozen=True)
class Chapter:
    """A notebook of the book: its `name`, such as "fanet/dct_derivation", and its file."""

    name: str
    path: Path

    def read(self) -> Any:
        """Return the notebook (nbformat version 4); raises `InputError` for a file that is not one."""
        with decoding(self.path, "notebook", repair=f"Restore book/{self.name}.ipynb."):
            return nbformat.read(self.path, as_version=4)

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


@validated
class ChapterProfile:
    """What a profile sets for a chapter; `expected_minutes` is on two cores, or one GPU for gpu and paper."""

    parameters: dict[str, Any] = field(default_factory=dict)
    expected_minutes: float | None = None


@dataclass(frozen=True)
class MatrixRun:
    """One run of a matrix: its name and all parameters of its chapter, resolved."""

    matrix: str
    chapter: str
    name: str
    parameters: Mapping[str, Any]


@validated
class Matrix:
    """One chapter, to be run for every combination of the values in each block, at several seeds."""

    name: str
    chapter: str
    blocks: Annotated[Items[dict[str, Annotated[list[Any], Field(min_length=1)]]], Field(min_length=1)]
    parameters: dict[str, Any] = field(default_factory=dict)
    seeds: Count = 1

    def with_seeds(self, seeds: int) -> "Matrix":
        """Return the same matrix with another number of seeds."""
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
                raise InputError(f"matrix {self.name} contains the run {name} twice; give its blocks different values.")
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

    def of(self, chapter: str) -> ChapterProfile:
        """Return what the profile sets for `chapter`, empty if nothing."""
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
    if unknown := content.keys() - {"purpose", "chapters", "matrices"}:
        raise InputError(f"profile {name} has the unknown key {min(unknown)!r}; allowed: purpose, chapters, matrices.")
    chapters, matrices = (content.get(key) or {} for key in ("chapters", "matrices"))
    return Profile(
        name,
        str(content.get("purpose", "")),
        {key: _build(ChapterProfile, entry, f"profile {name}, chapter {key}") for key, entry in chapters.items()},
        {key: parse_matrix(key, entry, f"profile {name}") for key, entry in matrices.items()},
    )


def parse_matrix(name: str, content: Any, where: str) -> Matrix:
    """Return the matrix that a profile's entry describes; raises `InputError` for anything else."""
    return _build(Matrix, content, f"{where}, matrix {name}", name=name)


def _build(kind: type[T], content: Any, where: str, **more: Any) -> T:
    if not isinstance(content, dict):
        raise InputError(f"{where} must be a mapping of names to values; got {content!r}.")
    try:
        return kind(**content, **more)
    except (UsageError, TypeError) as error:
        raise InputError(f"{where}: {error}") from None
