"""The steps of a training: what all plans have, and random draws as functions of seed and step alone.

Draws are numbered d = 0, 1, 2, ...: step t of a training with batches of B uses the draws t B ... t B + B - 1. Draw d
shows the image at place d mod N of the random order of the N images in epoch d div N; its augmentation comes from a
generator seeded by (seed, d). What the network itself draws in step t comes from torch's generator, seeded by (seed, t,
process). So neither the number of workers nor an interruption changes what is learned from.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, ClassVar, Self

import numpy as np
import torch

from emseg.checks import CountOrZero, changed, plain, validated

ORDER, AUGMENTATION, STEP = range(3)  # what a seed is for


@validated
class Plan:
    """What every plan of a training has. `device`: "auto", "cpu", "cuda" or "cuda:N". `n_workers` load the data.

    A training is a number of optimizer steps, never a time, so that a score does not depend on how busy the machine is.
    """

    without_effect: ClassVar[tuple[str, ...]] = ("n_workers",)
    """Fields that change how fast the weights are found or what is logged, but not the weights."""

    seed: CountOrZero = 0
    device: str = "auto"
    n_workers: CountOrZero = 0

    def changed(self, **changes: Any) -> Self:
        """Return this plan with some fields changed; an unknown name is refused with the nearest known one."""
        return changed(self, **changes)

    def settings(self) -> dict[str, Any]:
        """Return the fields that determine the weights, ready for JSON."""
        return {name: value for name, value in plain(self).items() if name not in self.without_effect}


def draw_seed(seed: int, *place: int) -> int:
    """Return a 32-bit seed for one place in a training; neighbouring places get unrelated ones."""
    return int(np.random.SeedSequence([seed, *place]).generate_state(1)[0])


def step_seed(seed: int, step: int, process: int) -> int:
    """Return the 32-bit seed of torch's generator in one step of one process."""
    return draw_seed(seed, STEP, step, process)


@lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, n_images: int) -> tuple[int, ...]:
    """Return the order in which an epoch shows the images."""
    return tuple(np.random.default_rng([seed, ORDER, epoch]).permutation(n_images).tolist())


def image_of_draw(seed: int, draw: int, n_images: int) -> int:
    """Return the index of the image that a draw shows."""
    epoch, place = divmod(draw, n_images)
    return epoch_order(seed, epoch, n_images)[place]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of NumPy, Python and torch's CPU within the block, and restore them afterwards."""
    states = np.random.get_state(), random.getstate(), torch.get_rng_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002 - other libraries' transforms draw from it
    random.seed(seed)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        np.random.set_state(states[0])  # noqa: NPY002
        random.setstate(states[1])
        torch.set_rng_state(states[2])
