"""What an attribution method says of some pixels of a segmentation: one signed map a target, and how exact it is.

    completeness_gap[t] = sum over (row, column) of maps[t] - (f_t(x) - f_t(baseline))

f_t is the logit of target t. Methods that promise completeness (integrated gradients, DeepLift, LRP) share the
difference of two scores out to the pixels, so their gap is the error of the quadrature and of the arithmetic. Other
methods promise nothing of the kind; their gap is a fact about them, and no error.

Source: Sundararajan, Taly, Yan 2017, "Axiomatic attribution for deep networks", section 3 (completeness).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from emseg.errors import UsageError


@dataclass(frozen=True)
class PackingError:
    """What sharing backward passes changed, measured against exact maps of a sample of targets.

    `relative_l1` is sum |packed - exact| / sum |exact| of each sampled target; `relative_area` the change of the number
    of pixels above 1 % of the map's maximum (the paper's field), as a share of the exact number. `cell_px` is half the
    side of the square that a map was cut from, and `targets` are the sampled ones' places in the list of targets.
    `proved` says that there is no error to measure: all shared targets lie beyond the theoretical receptive field.
    """

    cell_px: int
    proved: bool
    targets: Int[np.ndarray, " sampled"]
    relative_l1: Float[np.ndarray, " sampled"]
    relative_area: Float[np.ndarray, " sampled"]

    def __str__(self) -> str:
        if self.proved:
            return f"packed without error: targets that share a pass lie beyond the receptive field ({self.cell_px} px)"
        return (
            f"packed in cells of +-{self.cell_px} px: relative L1 error {np.median(self.relative_l1):.2%} (median of "
            f"{len(self.targets)} targets, at most {np.max(self.relative_l1):.2%}), field area off by "
            f"{np.median(np.abs(self.relative_area)):.2%} (at most {np.max(np.abs(self.relative_area)):.2%})"
        )


@dataclass(frozen=True, eq=False)
class Attribution:
    """Signed maps of the pixels `targets` of one image, and the scores that they explain.

    maps             [target, height, width] float32; positive where the pixel raised the target's logit
    targets          [target, 2] int64, (row, column)
    scores           [target] f(x), float64
    baseline_scores  [target] f(baseline), float64
    method           "integrated_gradients", or the name of another method
    quadrature       rule of the integral, "" for methods without one; `n_steps` points (0 for methods without steps)
    packing          "none": every map from passes of its own; "auto": passes were shared
    packing_error    None where nothing was shared
    precision        "fp32", "bf16" or "fp16": what the network computed in
    settings         further options of the method, by name
    """

    maps: Float[np.ndarray, "target height width"]
    targets: Int[np.ndarray, "target 2"]
    scores: Float[np.ndarray, " target"]
    baseline_scores: Float[np.ndarray, " target"]
    method: str = "integrated_gradients"
    quadrature: str = ""
    n_steps: int = 0
    packing: str = "none"
    packing_error: PackingError | None = None
    precision: str = "fp32"
    settings: Mapping[str, str | int | float | bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.targets)
        if self.maps.ndim != 3 or len(self.maps) != n or self.maps.dtype != np.float32:
            raise UsageError(
                f"`maps` must be float32 [target, height, width], one for each of the {n} targets; got "
                f"{self.maps.dtype} of shape {list(self.maps.shape)}."
            )
        if self.targets.shape != (n, 2) or self.targets.dtype.kind not in "iu":
            raise UsageError(
                f"`targets` must be whole numbers [target, (row, column)]; got {self.targets.dtype} of shape "
                f"{list(self.targets.shape)}."
            )
        if self.scores.shape != (n,) or self.baseline_scores.shape != (n,):
            raise UsageError(
                f"`scores` and `baseline_scores` must hold one number for each of the {n} targets; got shapes "
                f"{list(self.scores.shape)} and {list(self.baseline_scores.shape)}."
            )

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def completeness_gap(self) -> Float[np.ndarray, " target"]:
        """Sum of each map minus the difference of scores that it should share out; in logits, float64."""
        return np.asarray(self.maps.sum(axis=(1, 2), dtype=np.float64) - (self.scores - self.baseline_scores))

    @property
    def relative_gap(self) -> Float[np.ndarray, " target"]:
        """|completeness gap| / |f(x) - f(baseline)|; NaN where the two scores are equal."""
        difference = np.abs(self.scores - self.baseline_scores)
        return np.asarray(np.abs(self.completeness_gap) / np.where(difference > 0, difference, np.nan))
