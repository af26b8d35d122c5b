"""Errors as objects: stretches of membrane that are missing or false, and membranes broken or spurious.

A missed stretch is a connected patch (8 neighbours) of true membrane pixels that lie farther than the tolerance from
any predicted membrane; a false stretch the reverse. They say how much there is to repair, whatever it divides.

A membrane is broken where a connected patch of missed membrane (4 neighbours, as cells are) opens a way between two
cells: it has neighbours, background in truth and prediction alike, in at least two true cells. A membrane is spurious
where a connected patch (8 neighbours) of false membrane has such neighbours in at least two predicted cells: it divides
what is one. Those are counted without tolerance, for a gap of one pixel merges two cells.

Deviation: these counts are ours, no paper's. A patch that joins more than two cells counts once.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emseg.membrane.scoring.error_map import FALSE_NEGATIVE, FALSE_POSITIVE, TRUE_NEGATIVE
from emseg.membrane.scoring.patches import Patches, find_patches

_WITHOUT_NEAR = np.uint8(3)


@dataclass(frozen=True)
class ErrorObjects:
    """How many stretches are missed or false, and how many membranes are broken or spurious."""

    missed_stretches: int
    broken_membranes: int
    false_stretches: int
    spurious_membranes: int


def count_error_objects(
    codes: NDArray[np.uint8], true_cells: NDArray[np.int32] | Patches, predicted_cells: NDArray[np.int32]
) -> ErrorObjects:
    """Return the counts from an error map's codes and the cells of both; labels are above 0 on background.

    The cells of the truth may be given as its patches of background.
    """
    strict = codes & _WITHOUT_NEAR
    return ErrorObjects(
        missed_stretches=find_patches(codes, 8, value=FALSE_NEGATIVE).n,
        broken_membranes=find_patches(strict, 4, value=FALSE_NEGATIVE).n_bridging(strict, TRUE_NEGATIVE, true_cells),
        false_stretches=find_patches(codes, 8, value=FALSE_POSITIVE).n,
        spurious_membranes=find_patches(strict, 8, value=FALSE_POSITIVE).n_bridging(
            strict, TRUE_NEGATIVE, predicted_cells
        ),
    )
