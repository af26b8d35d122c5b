"""Resampling of images for bootstrap intervals: how often each image is drawn in each resample.

Images are drawn with replacement, as many as there are. Tiles of one wafer share its tissue, light and focus, and
overlapping tiles share pixels: their scores are not independent and an interval over images is then too narrow. Drawing
whole wafers (`cluster="wafer"`) keeps what belongs together in one resample.

The interval is the percentile interval: the central 95 % of the resampled scores, over the resamples in which the score
is defined. It covers the choice of images for one trained network, not the network's seed.

Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapters 8 and 13.
"""

from typing import Literal, get_args

import numpy as np
from jaxtyping import Int64

from emseg.errors import InputError, UsageError, suggest
from emseg.wafer.scores.coco_input import Truth

Cluster = Literal["image", "wafer"]


def resample_weights(
    truth: Truth, *, n_resamples: int, seed: int, cluster: Cluster = "image"
) -> Int64[np.ndarray, "resample image"]:
    """Return how often each image is drawn; no resample where there is only one image to draw.

    Raises `InputError` where wafers are to be drawn and an image does not name its own, or all are of one wafer.
    """
    if cluster not in get_args(Cluster):
        raise UsageError(f"`cluster` must be image or wafer; got {cluster!r}.{suggest(cluster, get_args(Cluster))}")
    if n_resamples < 0:
        raise UsageError(f"`n_resamples` must not be negative; got {n_resamples}. Use 0 for no intervals.")
    n_images = len(truth.image_ids)
    if cluster == "image":
        member_of = np.arange(n_images)
    else:
        for id, wafer in zip(truth.image_ids, truth.wafers, strict=True):
            if wafer is None:
                raise InputError(f'each image must name its `wafer` to draw wafers; image {id} does not. Draw "image".')
        names, member_of = np.unique([str(wafer) for wafer in truth.wafers], return_inverse=True)
        if len(names) < 2:
            raise InputError(f'drawing wafers needs at least 2; all images are of {names[0]}. Draw "image".')
    n_clusters = int(member_of.max()) + 1
    if n_clusters < 2:
        return np.zeros((0, n_images), dtype=np.int64)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(n_clusters, np.full(n_clusters, 1 / n_clusters), size=n_resamples)
    return np.ascontiguousarray(drawn[:, member_of], dtype=np.int64)
