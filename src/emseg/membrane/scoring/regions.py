r"""Scores of regions: how well cells agree with the truth, and errors as objects.

A cell is a patch of background joined over edges (4 neighbours), labelled 1, 2, ...; membrane is 0. ISBI 2012 ignored
the width of membranes by thinning those of the prediction: all cells grow into the membrane at one speed, and a line of
label 0 remains where two of them meet. A membrane that divides nothing, such as a loose end, vanishes.

Let p_ij be the fraction of pixels in predicted cell i and true cell j, among the n pixels of the truth's foreground
(its membrane is left out). s_i = sum_j p_ij, t_j = sum_i p_ij.

    V_Rand = sum_ij p_ij^2 / (a sum_i s_i^2 + (1 - a) sum_j t_j^2),      a = 1/2 (split score: a = 0; merge score: 1)
    V_Info = I(S; T) / ((1 - a) H(S) + a H(T)),      H(S) = -sum_i s_i log s_i,   I = H(S) + H(T) - H(S, T)
    adapted Rand error = 1 - sum n_ij (n_ij - 1) / (a sum s_i (s_i - 1) + (1 - a) sum t_j (t_j - 1)),      in pixels
    variation of information: split = H(S|T), merge = H(T|S),      in bits; 0 is best

For the first two, a pixel of the truth's foreground on a predicted line is a cell of one pixel, s_i = p_ij = 1/n, as in
the challenge; for the last two the predicted lines are one segment, as in scikit-image.

Sources: Arganda-Carreras et al., Frontiers in Neuroanatomy 9:142 (2015), equations 1 to 4, and the challenge's scripts
in Fiji, whose order of the queue we keep (column by column; left, above, right, below), so that ties fall the same way;
images are therefore transposed, [column, row], while they are flooded. Meila, J. Multivariate Analysis 98 (2007).
Deviations: where S and T are a single cell each, V-Info is 1 here and 0 in the original, whose labels end at 65,535.
"""

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from jaxtyping import Int32, Int64, Shaped
from numpy.typing import NDArray

from emseg.membrane.scoring import region_kernels
from emseg.membrane.scoring.pixels import FALSE_NEGATIVE, FALSE_POSITIVE, NEAR, TRUE_NEGATIVE, Codes, Mask

LabelImage = Int32[np.ndarray, "row column"]
_ROUNDING = 1e-12  # an entropy below is 0: of n pixels, one in a cell of its own gives log(n) / n, 5e-9 at most sizes


@dataclass(frozen=True, eq=False)
class Patches:
    """The connected patches of a mask, as runs of pixels: counted without a label image, or painted into one.

    `offsets` [height + 1]: the runs of row r are offsets[r] to offsets[r + 1]. `starts`, `ends` [n_runs]: columns.
    `labels` [n_runs]: the patch of each run, 1 to `n`, in the order in which rows are read.
    """

    shape: tuple[int, int]
    offsets: Int64[np.ndarray, " rows"]
    starts: Int32[np.ndarray, " runs"]
    ends: Int32[np.ndarray, " runs"]
    labels: Int32[np.ndarray, " runs"]
    n: int

    @property
    def runs(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Offsets, starts, ends and labels, as the kernels take them."""
        return self.offsets, self.starts, self.ends, self.labels

    def paint(self, elsewhere: int = 0, out: LabelImage | None = None) -> LabelImage:
        """Return the label image, with `elsewhere` outside the patches; drawn into `out` if given.

        `out` may be larger by a frame of equal width on all sides, which is filled with `region_kernels.WALL`.
        """
        image = np.empty(self.shape, np.int32) if out is None else out
        region_kernels.paint_runs(*self.runs, np.int32(elsewhere), image, (len(image) - self.shape[0]) // 2)
        return image


@dataclass(frozen=True, eq=False)
class Overlaps:
    """How many pixels of the truth's foreground each pair of a true and a predicted label shares.

    `truth`, `prediction`, `n_pixels` [n_pairs]: labels and counts; truth is above 0, prediction is 0 on lines.
    """

    truth: Int64[np.ndarray, " pairs"]
    prediction: Int64[np.ndarray, " pairs"]
    n_pixels: Int64[np.ndarray, " pairs"]


@dataclass(frozen=True)
class CellScores:
    """V-Rand and V-Info with their split and merge scores, adapted Rand error, variation of information in bits.

    All are NaN where the truth has no foreground.
    """

    v_rand: float
    v_rand_split: float
    v_rand_merge: float
    v_info: float
    v_info_split: float
    v_info_merge: float
    adapted_rand_error: float
    voi_split: float
    voi_merge: float


@dataclass(frozen=True)
class ErrorObjects:
    """How many stretches are missed or false, and how many membranes are broken or spurious.

    A missed stretch is a patch (8 neighbours) of true membrane farther than the tolerance from any predicted membrane;
    a false stretch the reverse. A membrane is broken where a patch of missed membrane (4 neighbours) touches pixels,
    background in truth and prediction, of at least two true cells; spurious where a patch (8 neighbours) of false
    membrane touches such pixels of at least two predicted cells. Those are counted without tolerance, because a gap of
    one pixel merges two cells. The counts are ours, no paper's.
    """

    missed_stretches: int
    broken_membranes: int
    false_stretches: int
    spurious_membranes: int


class ThinningSpace:
    """Memory for thinning transposed masks of one shape in turn: fresh memory costs more than the labelling."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._image = np.empty((shape[0] + 2, shape[1] + 2), np.int32)
        self._queue = np.empty(0, np.uint32)

    def thin(self, transposed: Mask) -> tuple[LabelImage, int]:
        """Return the cells [column, row] of a transposed membrane mask after thinning, 0 on lines, and their number.

        The image is overwritten by the next call.
        """
        labels = self._image[1:-1, 1:-1]
        patches = find_patches(transposed, 4, value=False)
        patches.paint(region_kernels.OPEN, self._image)
        if patches.n == 0:
            labels.fill(1)
            return labels, 1
        n_open = transposed.size - int((patches.ends - patches.starts).sum())
        if n_open > len(self._queue):
            self._queue = np.empty(n_open, np.uint32)
        region_kernels.flood(self._image, patches.offsets, patches.starts, patches.ends, self._queue)
        return labels, patches.n


def find_patches(image: Mask | Codes, connectivity: int, *, value: bool | int = True) -> Patches:
    """Return the connected patches of pixels that equal `value`; they join over edges (4), or over corners too (8)."""
    height, width = image.shape
    mask, wanted = image.view(np.uint8), np.uint8(value)
    offsets = np.empty(height + 1, np.int64)
    region_kernels.count_runs(mask, wanted, offsets)
    starts, ends, labels = (np.empty(int(offsets[-1]), np.int32) for _ in range(3))
    region_kernels.fill_runs(mask, wanted, offsets, starts, ends)
    n = region_kernels.join_runs(offsets, starts, ends, 0 if connectivity == 4 else 1, labels)
    return Patches((height, width), offsets, starts, ends, labels, int(n))


def label_cells(membrane: Mask) -> LabelImage:
    """Return the cells: 1 to n, and 0 on membrane."""
    return find_patches(membrane, 4, value=False).paint()


def label_thinned_cells(membrane: Mask) -> LabelImage:
    """Return the cells after border thinning: 1 to n, column by column, and 0 on the lines of one pixel between two.

    An image that is all membrane is one cell, as in the original.
    """
    transposed = transpose(membrane)
    return ThinningSpace(transposed.shape).thin(transposed)[0].T


def transpose(image: Shaped[np.ndarray, "row column"]) -> Shaped[np.ndarray, "column row"]:
    """Return an image of booleans, uint8 or float transposed, in newly allocated memory."""
    numbers = image.view(np.uint8) if image.dtype == np.bool_ else image
    transposed = np.asarray(cv2.transpose(np.ascontiguousarray(numbers))).reshape(image.shape[::-1])
    return transposed.view(image.dtype)


def overlaps(truth: LabelImage, prediction: LabelImage) -> Overlaps:
    """Return the pixel counts of all pairs of labels that meet, in the truth's foreground."""
    inside = truth > 0
    pairs, n_pixels = np.unique(np.stack([truth[inside], prediction[inside]]), axis=1, return_counts=True)
    first, second = pairs.astype(np.int64)
    return Overlaps(first, second, n_pixels)


def patch_overlaps(truth: Patches, prediction: LabelImage, n_cells: int) -> Overlaps:
    """Return the same for patches and a label image of 0 to `n_cells`, without painting the truth."""
    keys, counts = region_kernels.count_overlaps(*truth.runs, prediction, truth.n, n_cells)
    return Overlaps(keys >> 32, keys & 0xFFFFFFFF, counts)


def cell_scores(found: Overlaps) -> CellScores:
    """Return the scores of a segmentation from its overlaps with the truth."""
    sums, pairs = region_kernels.count_sums, found.n_pixels
    segments = np.bincount(found.prediction, pairs, minlength=1)  # that of label 0: the pixels on lines, as one segment
    n, squares, logarithms = sums(pairs)
    if n == 0:
        return CellScores(*[math.nan] * 9)
    _, truth_squares, truth_logarithms = sums(np.bincount(found.truth, pairs))
    _, segment_squares, segment_logarithms = sums(segments)
    # A pixel on a line is a cell of its own: it adds 1 to a sum of squares, and nothing to one of n log n.
    in_cells, cell_pair_squares, cell_pair_logarithms = sums(pairs[found.prediction > 0])
    _, cell_squares, cell_logarithms = sums(segments[1:])
    on_line = n - in_cells

    def entropy(sum_of_logarithms: float) -> float:
        found = math.log(n) - sum_of_logarithms / n
        return found if found > _ROUNDING else 0.0

    rand_split = (cell_pair_squares + on_line) / truth_squares
    rand_merge = (cell_pair_squares + on_line) / (cell_squares + on_line)
    h_truth, h_cells, h_joint = map(entropy, (truth_logarithms, cell_logarithms, cell_pair_logarithms))
    information = max(h_truth + h_cells - h_joint, 0.0)
    info_split, info_merge = _part(information, h_cells, h_truth), _part(information, h_truth, h_cells)
    h_segments, h_both = entropy(segment_logarithms), entropy(logarithms)
    n_pairs_of_either = truth_squares + segment_squares - 2 * n  # sum of n (n - 1)
    return CellScores(
        v_rand=_harmonic(rand_split, rand_merge),
        v_rand_split=rand_split,
        v_rand_merge=rand_merge,
        v_info=_harmonic(info_split, info_merge),
        v_info_split=info_split,
        v_info_merge=info_merge,
        adapted_rand_error=1.0 - 2 * (squares - n) / n_pairs_of_either if n_pairs_of_either > 0 else 0.0,
        voi_split=max(h_both - h_truth, 0.0) / math.log(2),
        voi_merge=max(h_both - h_segments, 0.0) / math.log(2),
    )


def count_error_objects(codes: Codes, true_cells: Patches, predicted_cells: LabelImage) -> ErrorObjects:
    """Return the counts from an error map's codes and the cells of both; labels are above 0 on background."""
    strict = codes & np.uint8(NEAR - 1)
    missed, false = find_patches(strict, 4, value=FALSE_NEGATIVE), find_patches(strict, 8, value=FALSE_POSITIVE)
    # painting the true cells would take a tenth longer, and 0.4 GiB for an image of U-RISC
    true_runs, unpainted = (true_cells.offsets, true_cells.starts, true_cells.labels), np.empty((0, 0), np.int32)
    bridging = [
        region_kernels.count_bridging(*found.runs, found.n, strict, np.uint8(TRUE_NEGATIVE), cells, true_runs)
        for found, cells in ((missed, unpainted), (false, predicted_cells))
    ]
    return ErrorObjects(
        missed_stretches=find_patches(codes, 8, value=FALSE_NEGATIVE).n,
        broken_membranes=int(bridging[0]),
        false_stretches=find_patches(codes, 8, value=FALSE_POSITIVE).n,
        spurious_membranes=int(bridging[1]),
    )


def _part(information: float, entropy: float, other: float) -> float:
    """I over H; where H is 0, 1 only if the other side has no information either."""
    if entropy > 0:
        return min(information / entropy, 1.0)
    return 1.0 if other <= 0 else 0.0


def _harmonic(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b > 0 else 0.0
