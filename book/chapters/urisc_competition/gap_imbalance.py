"""What the membrane fraction does to F1, by arithmetic: the same errors per pixel of each class, another prevalence.

Let p be the membrane fraction, r the recall (share of membrane found) and a the false alarm rate (share of background
called membrane). Then, as shares of the image,

    TP = r p      FP = a (1 - p)      FN = (1 - r) p      F1 = 2 r p / (r p + a (1 - p) + p)

Where precision and recall are equal, r = F and a = (1 - F) p / (1 - p); the share of wrong pixels is then 2 (1 - F) p.
Keeping r and a and changing p says what imbalance alone makes of a score. It does not hold for every kind of error:
false membranes inside cells grow with the background, while lines that lie a little off do not.
"""

from dataclasses import dataclass

from emseg.errors import UsageError


@dataclass(frozen=True)
class ErrorRates:
    """`recall`: share of membrane that is found. `false_alarms`: share of background that is called membrane."""

    recall: float
    false_alarms: float

    def f1(self, fraction: float) -> float:
        """Return the membrane's F1 of these rates where membrane is this fraction of the image."""
        found, false = self.recall * _share(fraction, "fraction"), self.false_alarms * (1 - fraction)
        return 2 * found / (found + false + fraction)


def rates_of_scores(precision: float, recall: float, fraction: float) -> ErrorRates:
    """Return the error rates of a prediction from its precision and recall at a membrane fraction."""
    _share(precision, "precision")
    found = _share(recall, "recall") * _share(fraction, "fraction")
    return ErrorRates(recall, found * (1 - precision) / precision / (1 - fraction))


def pixel_error(f1: float, fraction: float) -> float:
    """Return the share of wrong pixels at which a class that is `fraction` of the image has this F1.

    Holds where as many pixels are missed as are false.
    """
    return 2 * (1 - _share(f1, "f1")) * _share(fraction, "fraction")


def f1_at_pixel_error(error: float, fraction: float) -> float:
    """Return the F1 of a class that is `fraction` of the image where this share of pixels is wrong, half each way."""
    return max(1 - error / (2 * _share(fraction, "fraction")), 0.0)


def _share(value: float, name: str) -> float:
    if not 0 < value <= 1:
        raise UsageError(f"`{name}` must lie above 0 and be at most 1; got {value}.")
    return value
