r"""How well a segmentation into cells agrees with the truth: V-Rand, V-Info, adapted Rand, variation of information.

Let p_ij be the share of pixels that lie in predicted cell i and true cell j, among the n pixels of the truth's
foreground (the pixels inside a true cell; its membrane is left out). s_i = sum_j p_ij, t_j = sum_i p_ij.

    V_Rand = sum_ij p_ij^2 / (a sum_i s_i^2 + (1 - a) sum_j t_j^2),      a = 1/2
    V_Info = I(S; T) / ((1 - a) H(S) + a H(T)),      H(S) = -sum_i s_i log s_i,   I = H(S) + H(T) - H(S, T)

Either is the harmonic mean of a split score (a = 0: V_Rand over sum t^2; I over H(S)) and a merge score (a = 1: over
sum s^2; over H(T)). Both lie in 0 to 1, 1 is best. A pixel of the truth's foreground on a predicted line belongs to no
cell; the challenge counts each as a cell of its own of one pixel, s_i = p_ij = 1/n, and so do we.

    adapted Rand error = 1 - sum n_ij (n_ij - 1) / (a sum s_i (s_i - 1) + (1 - a) sum t_j (t_j - 1)),      in pixels
    variation of information: split = H(S|T), merge = H(T|S),      in bits; 0 is best

Those two are as scikit-image defines them, with the truth's membrane ignored: there the predicted line is one segment.

Source: Arganda-Carreras et al., Frontiers in Neuroanatomy 9:142 (2015), equations 1 to 4, and the challenge's script in
Fiji; Meila, Comparing clusterings, J. Multivariate Analysis 98 (2007).
Deviation: where S and T both are a single cell, I and H are 0; V-Info is then 1 here, and 0 in the original.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emseg.membrane.scoring import overlap_kernels, run_kernels
from emseg.membrane.scoring.patches import Patches

NAN = float("nan")
_ROUNDING = (
    1e-12  # below this an entropy is 0: of n pixels one in a cell of its own gives log(n) / n, 5e-9 at most sizes
)


@dataclass(frozen=True, eq=False)
class Overlaps:
    """How many pixels of the truth's foreground each pair of a true and a predicted label shares.

    `truth`, `prediction`, `n_pixels` [n_pairs]: labels and counts; truth is above 0, prediction is 0 on lines.
    """

    truth: NDArray[np.int64]
    prediction: NDArray[np.int64]
    n_pixels: NDArray[np.int64]


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


def overlaps(truth: NDArray[np.int32], prediction: NDArray[np.int32]) -> Overlaps:
    """Return the pixel counts of all pairs of labels that meet, in the truth's foreground."""
    offsets = np.empty(truth.shape[0] + 1, np.int64)
    nothing = np.empty(0, np.int32)
    run_kernels.label_runs(truth, offsets, nothing, nothing, nothing)
    starts, ends, labels = (np.empty(int(offsets[-1]), np.int32) for _ in range(3))
    run_kernels.label_runs(truth, offsets, starts, ends, labels)
    n_labels, n_cells = int(labels.max(initial=0)), int(prediction.max(initial=0))
    return _counted(overlap_kernels.count_overlaps(offsets, starts, ends, labels, prediction, n_labels, n_cells))


def patch_overlaps(truth: Patches, prediction: NDArray[np.int32], n_cells: int) -> Overlaps:
    """Return the same for patches and a label image of 0 to `n_cells`, of one orientation, without painting truth."""
    runs = (truth.offsets, truth.starts, truth.ends, truth.labels)
    return _counted(overlap_kernels.count_overlaps(*runs, prediction, truth.n, n_cells))


def _counted(found: tuple[NDArray[np.int64], NDArray[np.int64]]) -> Overlaps:
    keys, counts = found
    return Overlaps(keys >> 32, keys & 0xFFFFFFFF, counts)


def cell_scores(found: Overlaps) -> CellScores:
    """Return the scores of a segmentation from its overlaps with the truth."""
    every = np.zeros(0, np.bool_)
    pairs, truth = found.n_pixels, _totals(found.truth, found.n_pixels)
    segments = _totals(found.prediction, found.n_pixels)  # that of label 0: the pixels on lines, as one segment
    n, squares, logarithms = overlap_kernels.count_sums(pairs, every)
    if n == 0:
        return CellScores(*[NAN] * 9)
    _, truth_squares, truth_logarithms = overlap_kernels.count_sums(truth, every)
    _, segment_squares, segment_logarithms = overlap_kernels.count_sums(segments, every)
    # A pixel on a line is a cell of its own: it adds 1 to a sum of squares, and nothing to one of n log n.
    in_cells, cell_pair_squares, cell_pair_logarithms = overlap_kernels.count_sums(pairs, found.prediction > 0)
    _, cell_squares, cell_logarithms = overlap_kernels.count_sums(segments[1:], every)
    on_line = n - in_cells

    def entropy(sum_of_logarithms: float) -> float:
        found = math.log(n) - sum_of_logarithms / n
        return found if found > _ROUNDING else 0.0

    rand_split = (cell_pair_squares + on_line) / truth_squares
    rand_merge = (cell_pair_squares + on_line) / (cell_squares + on_line)
    h_truth, h_cells, h_joint = entropy(truth_logarithms), entropy(cell_logarithms), entropy(cell_pair_logarithms)
    information = max(h_truth + h_cells - h_joint, 0.0)
    info_split = _share(information, h_cells, h_truth)
    info_merge = _share(information, h_truth, h_cells)
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


def _totals(labels: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """The pixels of each label from 0 on; labels are small numbers, as those of patches are."""
    totals: NDArray[np.float64] = np.bincount(labels, counts, minlength=1).astype(np.float64, copy=False)
    return totals


def _share(information: float, entropy: float, other: float) -> float:
    """I over H; where H is 0 there is nothing to tell, which is right only if the other side has nothing either."""
    if entropy > 0:
        return min(information / entropy, 1.0)
    return 1.0 if other <= 0 else 0.0


def _harmonic(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b > 0 else 0.0
