"""Matrices: one chapter, run for every combination of some of its parameters and for several seeds.

A profile describes each matrix under its name:

    matrices:
      fanet_matrix:
        chapter: fanet/fanet_training
        seeds: 3
        parameters: {preset: laptop, n_steps: 400}
        blocks:
          - {detector: [mask_rcnn, ms_rcnn], depth: [34, 50], attention: [none, se, eca, fca, fanet]}
          - {detector: [mask_rcnn], depth: [34], attention: [fanet], fanet_indexing: [scaled]}

A block stands for all combinations of its lists; `parameters` hold for every cell and win over those that the profile
gives the chapter. A cell is one combination at one seed, named by its values: "mask_rcnn-34-fanet-seed0". The first
seed of all combinations comes before the second of any, so that a matrix that is cut short still compares like with
like.

A cell is done when a record of it is there that today's code would make again: below `_build/matrix/`, or kept below
`book/results/CHAPTER/PROFILE/`, so that what one machine has computed another need not repeat.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from emseg.errors import InputError, UsageError
from emseg.runs.digest import library_digest, notebook_digest
from emseg.runs.parameters import read_parameters, resolve
from emseg.runs.project import Chapter, find_chapter
from emseg.runs.record import RESULTS_FOLDER

MATRIX_FOLDER = Path("_build") / "matrix"
SEED = "seed"
_KEYS = {"chapter", "seeds", "parameters", "blocks"}
_NEEDED = ("chapter", "blocks")


@dataclass(frozen=True)
class Matrix:
    """What a profile says of one matrix."""

    name: str
    chapter: str
    blocks: tuple[Mapping[str, tuple[Any, ...]], ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seeds: int = 1

    def with_seeds(self, seeds: int) -> "Matrix":
        """Return the same matrix with another number of seeds."""
        if seeds < 1:
            raise UsageError(f"a matrix needs at least one seed; got seeds={seeds}.")
        return Matrix(self.name, self.chapter, self.blocks, self.parameters, seeds)


@dataclass(frozen=True)
class Cell:
    """One run of a matrix: its name and all parameters of its chapter, resolved."""

    matrix: str
    chapter: str
    name: str
    parameters: Mapping[str, Any]


def parse_matrix(name: str, content: Any, where: str) -> Matrix:
    """Return the matrix that a profile's entry describes; what it cannot be made of raises `InputError`."""
    if not isinstance(content, dict) or not set(content) <= _KEYS or not all(content.get(key) for key in _NEEDED):
        raise InputError(
            f"{where}, matrix {name} must be a mapping with the keys chapter and blocks, and perhaps seeds and "
            f"parameters; got {content!r}."
        )
    blocks = []
    for block in content["blocks"]:
        if not isinstance(block, dict) or not all(isinstance(values, list) and values for values in block.values()):
            raise InputError(f"{where}, matrix {name}: a block gives each parameter a list of values; got {block!r}.")
        blocks.append({str(key): tuple(values) for key, values in block.items()})
    seeds = content.get("seeds", 1)
    if not isinstance(seeds, int) or seeds < 1:
        raise InputError(f"{where}, matrix {name}: seeds must be a number from 1; got {seeds!r}.")
    return Matrix(name, str(content["chapter"]), tuple(blocks), dict(content.get("parameters") or {}), seeds)


def matrix_cells(root: Path, matrix: Matrix, profile_parameters: Mapping[str, Any]) -> list[Cell]:
    """Return the cells of `matrix`, all first seeds first, their parameters checked against the chapter's.

    `profile_parameters` are those that the profile gives the chapter itself.
    """
    known = read_parameters(find_chapter(root, matrix.chapter))
    first = int(matrix.parameters.get(SEED, 0))
    cells: dict[str, Cell] = {}
    for seed in range(first, first + matrix.seeds):
        for values in _combinations(matrix):
            name = "-".join([*(str(value) for value in values.values()), f"seed{seed}"])
            if name in cells:
                raise InputError(f"matrix {matrix.name} holds the cell {name} twice; give its blocks different values.")
            own = {**profile_parameters, **matrix.parameters, **values, SEED: seed}
            parameters = resolve(known, overrides=[(f"matrix {matrix.name}, cell {name}", own)])
            cells[name] = Cell(matrix.name, matrix.chapter, name, parameters)
    return list(cells.values())


def cells_to_run(cells: list[Cell], chapter: Chapter, records: Iterable[Mapping[str, Any]]) -> list[Cell]:
    """Return the cells that none of the `records` is of, made by the code as it is now."""
    notebook = chapter.read()
    digests = {"notebook": notebook_digest(notebook), "library": library_digest(notebook, chapter.name)}
    done = [record["parameters"] for record in records if record["digests"] == digests]
    return [cell for cell in cells if dict(cell.parameters) not in done]


def kept_cells_folder(root: Path, chapter: str, profile: str) -> Path:
    """Return the folder of the committed records of a chapter's cells at a profile; it need not exist."""
    return root / RESULTS_FOLDER / chapter / profile


def _combinations(matrix: Matrix) -> Iterator[dict[str, Any]]:
    for block in matrix.blocks:
        for values in product(*block.values()):
            yield dict(zip(block, values, strict=True))
