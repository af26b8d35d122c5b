"""Integrated gradients as the paper writes them: one target, one step, one forward and one backward pass at a time."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor


def integrated_gradients(
    network: Callable[[Tensor], Tensor], image: Tensor, baseline: Tensor, target: tuple[int, int], n_steps: int
) -> np.ndarray:
    """Return the map of one target [height, width] by the right Riemann sum, in the image's own precision."""
    total = torch.zeros_like(image)
    for step in range(1, n_steps + 1):
        point = (baseline + step / n_steps * (image - baseline)).requires_grad_(True)
        logit = network(point[None, None])[0, 0, target[0], target[1]]
        total += torch.autograd.grad(logit, point)[0]
    return ((image - baseline) * total / n_steps).numpy()
