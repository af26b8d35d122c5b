"""A confusion matrix as a textbook has it: masks as sets of pixels, plain loops."""

from collections.abc import Sequence

Pixels = frozenset[tuple[int, int]]


def textbook_iou(a: Pixels, b: Pixels) -> float:
    """Return the pixels in both over the pixels in either."""
    return len(a & b) / len(a | b)


def textbook_confusion(
    images: Sequence[tuple[Sequence[tuple[int, Pixels]], Sequence[tuple[int, float, Pixels]]]],
    n_classes: int,
    *,
    iou: float,
    score: float,
) -> list[list[int]]:
    """Return counts; an image is ([(class, pixels)], [(class, score, pixels)]), classes from 0, no crowds."""
    counts = [[0] * (n_classes + 1) for _ in range(n_classes + 1)]
    for regions, detections in images:
        free = list(range(len(regions)))
        for label, own_score, pixels in sorted(detections, key=lambda one: -one[1]):
            if own_score < score:
                continue
            best, best_iou = None, -1.0
            for place in free:
                shared = textbook_iou(pixels, regions[place][1])
                if shared >= iou and shared > best_iou:
                    best, best_iou = place, shared
            if best is None:
                counts[n_classes][label] += 1
            else:
                free.remove(best)
                counts[regions[best][0]][label] += 1
        for place in free:
            counts[regions[place][0]][n_classes] += 1
    return counts
