"""Training data and chance as a function of the step alone, so that a killed training goes on as if nothing had been.

The images of a training are numbered by draws d = 0, 1, 2, ...: step t uses the draws t B .. t B + B - 1 for batches of
B. Draw d shows the image that stands at place d mod N of epoch d div N's own random order of the N images, and its
augmentation draws from a generator seeded by (seed, d). Step t's choices inside the network (which anchors and regions
are compared with the truth) draw from a generator seeded by (seed, t, process). So neither the number of workers nor an
interruption can change a bit of what is learned; only the weights, the optimizer and the number t need to be kept.

mmdet's transforms and samplers use the global generators of NumPy, Python and torch. Those are seeded for the time of
one draw or one step, and given back.
"""

import random
from collections.abc import Iterator, Sized
from contextlib import contextmanager
from itertools import count, islice
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.registry import DATA_SAMPLERS, DATASETS, HOOKS
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

_ORDER, _AUGMENTATION, _STEP = range(3)  # what a seed is for


def draw_seed(seed: int, *place: int) -> int:
    """Return a 32-bit seed for one place in the training; neighbouring places get unrelated ones."""
    return int(np.random.SeedSequence([seed, *place]).generate_state(1)[0])


def epoch_order(seed: int, epoch: int, n_images: int) -> NDArray[np.int64]:
    """Return the order in which an epoch shows the images."""
    return np.random.default_rng([seed, _ORDER, epoch]).permutation(n_images)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of NumPy, Python and torch's CPU within the block, and restore them after it."""
    states = np.random.get_state(), random.getstate(), torch.get_rng_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002 - mmdet's transforms draw from it
    random.seed(seed)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        np.random.set_state(states[0])  # noqa: NPY002
        random.setstate(states[1])
        torch.set_rng_state(states[2])


@DATASETS.register_module()
class DrawDataset(Dataset[Any]):
    """A data set whose index is the number of a draw; `dataset` is the config of the data set that has the images."""

    def __init__(self, dataset: Any, seed: int) -> None:
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        self.seed = seed
        self._order: tuple[int, Any] | None = None

    @property
    def metainfo(self) -> dict[str, Any]:
        """The class names, as mmengine wants them."""
        return dict(self.dataset.metainfo)

    def full_init(self) -> None:
        """Read the annotations; mmengine calls this."""
        self.dataset.full_init()

    def __len__(self) -> int:
        return len(self.dataset)

    def image_of(self, draw: int) -> int:
        """Return the index of the image that a draw shows."""
        epoch, place = divmod(draw, len(self))
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, epoch_order(self.seed, epoch, len(self))
        return int(self._order[1][place])

    def __getitem__(self, draw: int) -> Any:
        with seeded(draw_seed(self.seed, _AUGMENTATION, draw)):
            return self.dataset[self.image_of(draw)]


@DATA_SAMPLERS.register_module()
class DrawSampler(Sampler[int]):
    """The numbers of the draws, without end or, with `by_epoch`, one epoch at a time.

    With several processes, process r of R takes the draws r, r + R, r + 2 R, ..., so that all together use those of one
    process with an R times larger batch. With `by_epoch` the last step of an epoch takes what is left; where that does
    not divide among the processes, some take a draw of the same epoch again.
    """

    def __init__(self, dataset: Sized, by_epoch: bool = False, seed: int | None = None) -> None:
        self.n_images = len(dataset)
        self.by_epoch = by_epoch
        self.rank: int
        self.world_size: int
        self.rank, self.world_size = get_dist_info()
        self.first = 0

    def skip(self, n_draws: int) -> None:
        """Begin after each process's first `n_draws` draws; mmengine's loop over steps calls this on resuming."""
        self.first = n_draws * self.world_size

    def skip_epochs(self, n_epochs: int) -> None:
        """Begin with the epoch of this number, from 0."""
        self.first = n_epochs * self.n_images

    def __iter__(self) -> Iterator[int]:
        draws: Iterator[int] = count(self.first + self.rank, self.world_size)
        if not self.by_epoch:
            yield from draws
        end = self.first + self.n_images
        self.first = end
        for draw in islice(draws, len(self)):
            yield draw if draw < end else draw - self.n_images

    def __len__(self) -> int:
        return -(-self.n_images // self.world_size)

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: the draw's number already tells the epoch."""


@HOOKS.register_module()
class StepSeedHook(Hook):  # type: ignore[misc]
    """Seeds torch before each step from the seed, the step and the process."""

    priority = "VERY_HIGH"

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Seed the step that comes."""
        torch.manual_seed(draw_seed(self.seed, _STEP, runner.iter, runner.rank))
