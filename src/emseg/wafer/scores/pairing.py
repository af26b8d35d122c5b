"""One-to-one pairs of detections and regions, whatever their classes: for people to read, not for average precision.

In each image the detections at or above a score, best first, each take the free region with the largest mask IoU, if
that is at or above the threshold. What is left over is a detection of nothing or a missed region. A left-over detection
of which that share or more lies within a crowd is dropped, as COCO does.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from emseg.errors import UsageError
from emseg.wafer.scores.coco_input import Detection, Region, by_image, overlaps


@dataclass(frozen=True, eq=False)
class Pair:
    """A detection and its region; one of them is None where the other found no partner, and `iou` is 0 then."""

    detection: Detection | None
    region: Region | None
    iou: float = 0.0


def pair_up(
    regions: Sequence[Region], detections: Sequence[Detection], n_images: int, *, iou: float, score: float
) -> tuple[Pair, ...]:
    """Return all pairs of all images, the left-over regions last in each."""
    require_share(iou, "iou")
    require_share(score, "score", from_zero=True)
    pairs: list[Pair] = []
    chosen = sorted((one for one in detections if one.score >= score), key=lambda one: -one.score)
    for own, found in zip(by_image(regions, n_images), by_image(chosen, n_images), strict=True):
        free = [region for region in own if not region.is_crowd]
        crowds = [region for region in own if region.is_crowd]
        shared, within = overlaps(found, free), overlaps(found, crowds)
        taken: set[int] = set()
        for place, detection in enumerate(found):
            candidates = [k for k in range(len(free)) if k not in taken and shared[place, k] >= iou]
            if candidates:
                best = max(candidates, key=lambda k: shared[place, k])
                taken.add(best)
                pairs.append(Pair(detection, free[best], float(shared[place, best])))
            elif not (within[place] >= iou).any():
                pairs.append(Pair(detection, None))
        pairs += [Pair(None, region) for k, region in enumerate(free) if k not in taken]
    return tuple(pairs)


def require_share(value: float, name: str, *, from_zero: bool = False) -> None:
    """Raise `UsageError` unless `value` lies above 0, or at 0 if allowed, and at most at 1."""
    if not (0 <= value <= 1 if from_zero else 0 < value <= 1):
        raise UsageError(f"`{name}` must be {'from' if from_zero else 'above'} 0 and at most 1; got {value}.")
