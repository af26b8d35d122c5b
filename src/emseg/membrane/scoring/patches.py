"""Connected patches of a mask, as runs of pixels: counted without a label image, or painted into one."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from emseg.membrane.scoring import run_kernels

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
        """Return the label image [height, width], with `elsewhere` outside the patches; drawn into `out` if given.

        `out` may be larger by a frame of equal width on all sides, which is filled with `run_kernels.WALL`.
        """
        image = np.empty(self.shape, np.int32) if out is None else out
        frame = (image.shape[0] - self.shape[0]) // 2
        run_kernels.paint_runs(self.offsets, self.starts, self.ends, self.labels, np.int32(elsewhere), image, frame)
        return image

    def n_bridging(self, codes: NDArray[np.uint8], free: int, cells: "NDArray[np.int32] | Patches") -> int:
        """Return how many patches touch, over an edge, pixels of code `free` in at least two of the `cells`.

        `cells`: a label image, or the patches themselves; each pixel of code `free` must lie in one.
        """
        runs = (self.offsets, self.starts, self.ends, self.labels)
        of_cells = cells if isinstance(cells, Patches) else self
        image = np.empty((0, 0), np.int32) if isinstance(cells, Patches) else cells
        cell_runs = (of_cells.offsets, of_cells.starts, of_cells.labels)
        return int(run_kernels.count_bridging(*runs, self.n, codes, np.uint8(free), image, cell_runs))


def find_patches(
    image: NDArray[np.bool_] | NDArray[np.uint8], connectivity: Connectivity, *, value: bool | int = True
) -> Patches:
    """Return the connected patches of pixels that equal `value`; they join over edges (4), or over corners too (8)."""
    height, width = image.shape
    mask, wanted = image.view(np.uint8), np.uint8(value)
    offsets = np.empty(height + 1, np.int64)
    run_kernels.count_runs(mask, wanted, offsets)
    starts, ends, labels = (np.empty(int(offsets[-1]), np.int32) for _ in range(3))
    run_kernels.fill_runs(mask, wanted, offsets, starts, ends)
    n = run_kernels.join_runs(offsets, starts, ends, 0 if connectivity == 4 else 1, labels)
    return Patches((height, width), offsets, starts, ends, labels, int(n))
