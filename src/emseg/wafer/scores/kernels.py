"""Compiled inner loop of average precision: many resamples of the images, one pass over the ranked detections each.

A cell is one class, area range and IoU threshold. Its detections, best score first, lie one after another in flat
arrays; those that COCO ignores in that cell are left out. A resample gives each image a weight w: how often it was
drawn. Walking down the ranks, with N the weighted number of regions to find,

    TP += w or FP += w,    recall = TP / N,    precision = TP / (TP + FP)

and the interpolated precision at a recall is the largest precision at that recall or a greater one. Recall grows at
true positives alone, and each false positive lowers precision, so only true positives need be kept. An image drawn
twice stands there w times in a row: within such a run precision grows with recall, so its end says it all.
"""

import numba
import numpy as np

_EPSILON = float(np.spacing(1))  # COCO's guard against 0 / 0


@numba.njit(nogil=True, cache=True)
def interpolated_precision(image, is_true, weights, n_regions, recalls, out):  # type: ignore[no-untyped-def]
    """Fill `out` with the interpolated precision at each of `recalls` (ascending); 0 where recall never gets there."""
    recall = np.empty(len(image))
    precision = np.empty(len(image))
    true, false, n = 0.0, 0.0, 0
    for j in range(len(image)):
        weight = weights[image[j]]
        if weight == 0:
            continue
        if is_true[j]:
            true += weight
            recall[n] = true / n_regions
            precision[n] = true / (false + true + _EPSILON)
            n += 1
        else:
            false += weight
    out[:] = 0.0
    if n == 0:
        return
    place = len(recalls) - 1
    while place >= 0 and recalls[place] > recall[n - 1]:
        place -= 1
    best = 0.0
    for j in range(n - 1, -1, -1):
        best = max(best, precision[j])
        below = recall[j - 1] if j > 0 else -1.0
        while place >= 0 and recalls[place] > below:
            out[place] = best
            place -= 1


@numba.njit(nogil=True, cache=True)
def average_precisions(starts, image, is_true, n_regions, weights, recalls, out):  # type: ignore[no-untyped-def]
    """Fill `out` [resample, cell] with the mean over `recalls` of the interpolated precision; NaN without regions.

    `starts` [cell + 1] says where each cell begins in `image` and `is_true`; `n_regions` [cell, image] counts the
    regions to find; `weights` [resample, image].
    """
    curve = np.empty(len(recalls))
    for cell in range(len(starts) - 1):
        own_image = image[starts[cell] : starts[cell + 1]]
        own_truth = is_true[starts[cell] : starts[cell + 1]]
        for resample in range(len(weights)):
            total = 0.0
            for i in range(n_regions.shape[1]):
                total += n_regions[cell, i] * weights[resample, i]
            if total == 0:
                out[resample, cell] = np.nan
                continue
            interpolated_precision(own_image, own_truth, weights[resample], total, recalls, curve)
            out[resample, cell] = curve.mean()
