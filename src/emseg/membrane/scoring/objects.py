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
from emseg.membrane.scoring.patches import Connectivity, Patches, find_patches

_WITHOUT_NEAR = np.uint8(3)


@dataclass(frozen=True)
class ErrorObjects:
    """How many stretches are missed or false, and how many membranes are broken or spurious."""

    missed_stretches: int
    broken_membranes: int
    false_stretches: int
    spurious_membranes: int


def count_error_objects(
    codes: NDArray[np.uint8], true_cells: NDArray[np.int32], predicted_cells: NDArray[np.int32]
) -> ErrorObjects:
    """Return the counts from an error map's codes and the cells of both; labels are above 0 on background."""
    strict = codes & _WITHOUT_NEAR
    chosen = np.empty(codes.shape, np.bool_)

    def patches(image: NDArray[np.uint8], code: int, connectivity: Connectivity) -> Patches:
        return find_patches(np.equal(image, np.uint8(code), out=chosen), connectivity)

    return ErrorObjects(
        missed_stretches=patches(codes, FALSE_NEGATIVE, 8).n,
        broken_membranes=patches(strict, FALSE_NEGATIVE, 4).n_bridging(strict, TRUE_NEGATIVE, true_cells),
        false_stretches=patches(codes, FALSE_POSITIVE, 8).n,
        spurious_membranes=patches(strict, FALSE_POSITIVE, 8).n_bridging(strict, TRUE_NEGATIVE, predicted_cells),
    )
