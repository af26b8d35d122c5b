"""Connected patches of a mask, as runs of pixels: counted without a label image, or painted into one."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from emseg.membrane.scoring import kernels

Connectivity = Literal[4, 8]


@dataclass(frozen=True, eq=False)
class Patches:
    """The connected patches of a mask [height, width].

    `offsets` [height + 1]: the runs of row r are offsets[r] to offsets[r + 1]. `starts`, `ends` [n_runs]: columns.
    `labels` [n_runs]: the patch of each run, 1 to `n`, in the order in which rows are read.
    """

    shape: tuple[int, int]
    offsets: NDArray[np.int64]
    starts: NDArray[np.int32]
    ends: NDArray[np.int32]
    labels: NDArray[np.int32]
    n: int

    def paint(self, elsewhere: int = 0, out: NDArray[np.int32] | None = None) -> NDArray[np.int32]:
        """Return the label image [height, width], with `elsewhere` outside the patches; drawn into `out` if given."""
        image = np.empty(self.shape, np.int32) if out is None else out
        kernels.paint_runs(self.offsets, self.starts, self.ends, self.labels, np.int32(elsewhere), image)
        return image

    def n_bridging(self, codes: NDArray[np.uint8], free: int, cells: NDArray[np.int32]) -> int:
        """Return how many patches touch, over an edge, pixels of code `free` in at least two of the `cells`."""
        runs = (self.offsets, self.starts, self.ends, self.labels)
        return int(kernels.count_bridging(*runs, self.n, codes, np.uint8(free), cells))


def find_patches(mask: NDArray[np.bool_], connectivity: Connectivity, *, value: bool = True) -> Patches:
    """Return the connected patches of the mask's `value`; pixels join over edges (4), or over corners too (8)."""
    height, width = mask.shape
    offsets = np.empty(height + 1, np.int64)
    kernels.count_runs(mask, value, offsets)
    starts, ends, labels = (np.empty(int(offsets[-1]), np.int32) for _ in range(3))
    kernels.fill_runs(mask, value, offsets, starts, ends)
    n = kernels.join_runs(offsets, starts, ends, 0 if connectivity == 4 else 1, labels)
    return Patches((height, width), offsets, starts, ends, labels, int(n))
