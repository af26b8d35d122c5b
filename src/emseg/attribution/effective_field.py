"""How far a network does look, by its gradients: the effective receptive field.

It is the mean of |d y_t / d x_p| or of its square over real images and targets t, each shifted so that its target lies
in the middle. How far a network can look, by its layers, is `emseg.tiling.receptive_field`.

Source: Luo, Li, Urtasun, Zemel: Understanding the effective receptive field in deep convolutional networks, NeurIPS
2016. Deviation: they propagate random gradients; the mean here is over images and targets, as the network is used.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64

from emseg.errors import InputError, UsageError


@dataclass(frozen=True)
class EffectiveField:
    """Mean gradient about the target: `weight` [2 reach + 1, 2 reach + 1], the target in the middle, over `n` pairs."""

    weight: Float64[np.ndarray, "row column"]
    power: int
    n: int

    @property
    def reach(self) -> int:
        """Pixels from the target to the border of `weight`."""
        return (len(self.weight) - 1) // 2


def effective_receptive_field(gradients: Any, targets: Any, reach: int, *, power: Literal[1, 2] = 2) -> EffectiveField:
    """Return the mean of |gradient| to the `power` about the targets, within `reach` pixels of them.

    `gradients` [target, row, column] are the derivatives of each target's logit (method "saliency" of
    `attribute_with_captum`), `targets` [target, 2] their (row, column). What lies outside the image counts as nothing
    and is left out of the mean there. Raises `InputError` for gradients that are not finite or all zero.
    """
    maps = np.asarray(gradients, dtype=np.float64)
    places = np.asarray(targets)
    if maps.ndim != 3 or places.shape != (len(maps), 2):
        raise UsageError(
            f"gradients [target, row, column] need targets [target, 2]; got {maps.shape} and {places.shape}."
        )
    if reach < 1 or power not in (1, 2):
        raise UsageError(f"`reach` must be at least 1 and `power` 1 or 2; got reach={reach}, power={power}.")
    if not len(maps) or not np.isfinite(maps).all() or not maps.any():
        raise InputError("gradients must be finite and not all zero. Check the network for NaN or dead layers.")
    side = 2 * reach + 1
    total, seen = np.zeros((side, side)), np.zeros((side, side))
    height, width = maps.shape[1:]
    for one, (row, column) in zip(np.abs(maps) ** power, places, strict=True):
        top, left = max(0, reach - row), max(0, reach - column)
        bottom, right = min(side, height + reach - row), min(side, width + reach - column)
        total[top:bottom, left:right] += one[
            row - reach + top : row - reach + bottom, column - reach + left : column - reach + right
        ]
        seen[top:bottom, left:right] += 1
    return EffectiveField(np.divide(total, seen, out=np.zeros_like(total), where=seen > 0), power, len(maps))
