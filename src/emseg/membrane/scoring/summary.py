"""From the scores of single images to those of a set: mean, standard deviation, range, and the best threshold.

Every score is computed per image and then averaged, as the U-RISC competition and ISBI 2012 do; a large image weighs as
much as a small one. The standard deviation is that of a sample (n - 1). Images where a score is undefined are left out
of that score's mean, and `n` says how many are left.

The best threshold is one for all images, the one with the highest mean, as in ISBI 2012's script. It is chosen on the
images that are scored: compare it only with figures that were got in the same way.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from emseg.membrane.scoring.image_scores import ImageScores


@dataclass(frozen=True)
class Spread:
    """Mean, standard deviation (NaN for fewer than two), lowest and highest value of `n` images; NaN where n = 0."""

    mean: float
    sd: float
    lowest: float
    highest: float
    n: int


@dataclass(frozen=True)
class BestThreshold:
    """The spread of a score at the threshold where its mean is highest."""

    threshold: float
    spread: Spread


def spread(values: Sequence[float]) -> Spread:
    """Return mean, deviation and range of the values that are defined."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return Spread(math.nan, math.nan, math.nan, math.nan, 0)
    sd = statistics.stdev(known) if len(known) > 1 else math.nan
    return Spread(statistics.fmean(known), sd, min(known), max(known), len(known))


def summarize(scores: Sequence[ImageScores]) -> dict[str, Spread]:
    """Return the spread of every score over the images, named as in `ImageScores.row`."""
    rows = [one.row() for one in scores]
    return {name: spread([row[name] for row in rows]) for name in (rows[0] if rows else {})}


def best_thresholds(scores: Sequence[ImageScores]) -> dict[str, BestThreshold]:
    """Return the best threshold of "v_rand" and of "v_info"; empty unless all images were tried at the same ones.

    Of equal thresholds the first tried, which is the highest, is taken.
    """
    tried = {tuple(threshold for threshold, _, _ in one.at_thresholds) for one in scores}
    if len(tried) != 1 or not (thresholds := next(iter(tried))):
        return {}
    best: dict[str, BestThreshold] = {}
    for place, name in ((1, "v_rand"), (2, "v_info")):
        spreads = [spread([one.at_thresholds[i][place] for one in scores]) for i in range(len(thresholds))]
        if any(one.n for one in spreads):
            i = max(range(len(thresholds)), key=lambda i: (spreads[i].mean if spreads[i].n else -1.0, -i))
            best[name] = BestThreshold(thresholds[i], spreads[i])
    return best
