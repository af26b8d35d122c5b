"""Where on the way from the baseline to the image the score of a pixel changes: what the quadrature has to follow.

    s(alpha) = f_t(b + alpha (x - b)),   alpha from 0 to 1
    halfway  = the alpha by which half of sum |s(alpha_k) - s(alpha_k-1)| has been reached

A linear network has 0.5. A network that answers strongly as soon as there is a little contrast saturates: nearly all of
its change lies in the first few hundredths, between two points of a rule of few points, and the integral misses it.

Source: Miglani et al. 2020, "Investigating saturation effects in integrated gradients".
"""

import numpy as np
import torch
from jaxtyping import Float64
from numpy.typing import NDArray
from torch import nn

from chapters.attribution_fields.field_checks import window_about
from chapters.attribution_fields.field_survey import ConditionFields

N_POINTS = 41
_AT_ONCE = 16


def path_scores(
    network: nn.Module, image: NDArray[np.float32], target: NDArray[np.int64], alphas: NDArray[np.float64]
) -> Float64[np.ndarray, " point"]:
    """Return the score of a target (row, column) at points of the way from mid-grey to an image."""
    device = next(network.parameters()).device
    whole = torch.from_numpy(np.ascontiguousarray(image)).to(device)[None, None]
    scores = []
    with torch.inference_mode():
        for begin in range(0, len(alphas), _AT_ONCE):
            part = torch.from_numpy(alphas[begin : begin + _AT_ONCE].astype(np.float32)).to(device)
            logits = network(part[:, None, None, None] * whole)
            scores.append(logits[:, 0, int(target[0]), int(target[1])].double().cpu().numpy())
    return np.concatenate(scores)


def halfway(alphas: NDArray[np.float64], scores: NDArray[np.float64]) -> float:
    """Return the position by which half of the score's change, up and down, has happened; NaN for a constant score."""
    changed = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(scores)))])
    return float(np.interp(changed[-1] / 2, changed, alphas)) if changed[-1] > 0 else float("nan")


def halfway_positions(fields: ConditionFields, n_most: int) -> Float64[np.ndarray, " target"]:
    """Return `halfway` of up to `n_most` targets of a condition, spread over its images and classes."""
    every = [(one, target) for one in fields.images for target in one.sample.targets]
    chosen = np.unique(np.linspace(0, len(every) - 1, min(n_most, len(every))).round().astype(int))
    alphas = np.linspace(0, 1, N_POINTS)
    found = []
    for one, target in (every[place] for place in chosen):
        window = window_about(fields, one, target)
        found.append(halfway(alphas, path_scores(fields.network, window.image, window.target[0], alphas)))
    return np.array([one for one in found if np.isfinite(one)])
