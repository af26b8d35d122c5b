"""From a membrane mask to a label image of cells, with membranes thinned to lines as ISBI 2012 did it.

A cell is a patch of background joined over edges (4 neighbours), labelled 1, 2, ...; membrane is 0. The challenge did
not trust the width of a membrane, so it thins those of the prediction, and only those: all cells grow into the
membrane at one speed, pixel ring by pixel ring, and a line of label 0 stays where two of them meet. This is Soille and
Vincent's watershed of the two-level image. A membrane that divides nothing, such as a loose end, vanishes.

Source: Arganda-Carreras et al., Crowdsourcing the creation of image segmentation algorithms for connectomics, Frontiers
in Neuroanatomy 9:142 (2015); the challenge's script in Fiji, from whose Trainable Segmentation the order of the queue
is taken (column by column, neighbours left, above, right, below), so that ties fall as there. The image is therefore
turned, [column, row], while it is flooded: the order of the queue is then that of memory.
Deviation: none is known. The challenge's 16-bit labels end at 65,535 cells; ours do not.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from emseg.membrane.scoring import thinning_kernels
from emseg.membrane.scoring.patches import find_patches


def label_cells(membrane: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return the cells [height, width]: 1 to n, and 0 on membrane."""
    return find_patches(membrane, 4, value=False).paint()


def label_thinned_cells(membrane: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return the cells after border thinning: 1 to n, and 0 on the lines of one pixel between two of them.

    Cells are numbered in the order in which columns are read. An image that is all membrane is one cell, as in the
    original.
    """
    turned = turn(membrane)
    return ThinningSpace(turned.shape).thin(turned).labels.T


def turn(image: NDArray[Any]) -> NDArray[Any]:
    """Return an image [height, width] of booleans, uint8 or float as [width, height], in memory of its own."""
    numbers = image.view(np.uint8) if image.dtype == np.bool_ else image
    turned = np.asarray(cv2.transpose(np.ascontiguousarray(numbers))).reshape(image.shape[::-1])
    return turned.view(image.dtype)


@dataclass(frozen=True, eq=False)
class ThinnedCells:
    """`labels` int32, turned [column, row]: 1 to `n`, and 0 on lines; a view into the space that it was thinned in."""

    labels: NDArray[np.int32]
    n: int


class ThinningSpace:
    """Memory for thinning turned masks of one shape, one after the other: fresh memory costs more than the labelling.

    What `thin` returns is overwritten by the next call.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._image = np.empty((shape[0] + 2, shape[1] + 2), np.int32)
        self._queue = np.empty(0, np.uint32)

    @property
    def labels(self) -> NDArray[np.int32]:
        """The label image without its frame: free for any other use until the next call of `thin`."""
        return self._image[1:-1, 1:-1]

    def thin(self, turned: NDArray[np.bool_]) -> ThinnedCells:
        """Return the cells of a turned membrane mask [column, row] after border thinning."""
        patches = find_patches(turned, 4, value=False)
        patches.paint(thinning_kernels.OPEN, self._image)
        if patches.n == 0:
            self.labels.fill(1)
            return ThinnedCells(self.labels, 1)
        n_open = turned.size - int(patches.ends.sum(dtype=np.int64) - patches.starts.sum(dtype=np.int64))
        if n_open > len(self._queue):
            self._queue = np.empty(n_open, np.uint32)
        thinning_kernels.flood(self._image, patches.offsets, patches.starts, patches.ends, self._queue)
        return ThinnedCells(self.labels, patches.n)
