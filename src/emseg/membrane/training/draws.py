"""Crops of a training as a function of the step alone, so that a killed training goes on as if nothing had been.

Draws are numbered d = 0, 1, 2, ...: step t of a training with B crops a step uses the draws t B .. t B + B - 1. Draw d
shows the image at place d mod N of epoch d div N's own random order of the N images; where the crop lies in it and how
it is changed comes from a generator seeded by (seed, d). What the network itself draws in step t (dropout and the like)
comes from torch's generator, seeded by (seed, t, process). So neither the number of workers, nor that of devices, nor
an interruption changes what is learned from: only weights, optimizer and t need to be kept.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from emseg.membrane.dataset import MembraneImage
from emseg.membrane.training.augmentation import BEND_POINTS, Augmentation, Changes
from emseg.tiling import mirrored

_ORDER, _CROP, _STEP = range(3)  # what a seed is for


def step_seed(seed: int, step: int, process: int) -> int:
    """Return the 32-bit seed of torch's generator in one step of one process."""
    return int(np.random.SeedSequence([seed, _STEP, step, process]).generate_state(1)[0])


@lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, n_images: int) -> tuple[int, ...]:
    """Return the order in which an epoch shows the images."""
    return tuple(np.random.default_rng([seed, _ORDER, epoch]).permutation(n_images).tolist())


@dataclass(frozen=True)
class CropDraw:
    """Where a crop lies: the image's number and the crop's first row and column; and how it is changed."""

    image: int
    row: int
    column: int
    turns: int
    mirrored: bool
    warped: bool
    angle: float
    zoom: float
    brightness: float
    contrast: float
    bend: NDArray[np.float32]


def crop_draw(
    seed: int, draw: int, sizes: Sequence[tuple[int, int]], crop_size: int, augmentation: Augmentation
) -> CropDraw:
    """Return draw number `draw` from images of these (height, width); smaller ones than the crop are in its middle."""
    epoch, place = divmod(draw, len(sizes))
    image = epoch_order(seed, epoch, len(sizes))[place]
    generator = np.random.default_rng([seed, _CROP, draw])
    u = generator.random(10)  # always as many, so that one setting does not move another's draws
    row, column = (
        int(u[axis] * (length - crop_size + 1)) if length >= crop_size else -((crop_size - length) // 2)
        for axis, length in enumerate(sizes[image])
    )
    if augmentation.bend_px:
        bend = augmentation.bend_px * generator.standard_normal((2, BEND_POINTS, BEND_POINTS))
    else:
        bend = np.zeros((2, BEND_POINTS, BEND_POINTS))
    return CropDraw(
        image,
        row,
        column,
        turns=int(4 * u[2]) if augmentation.quarter_turns else 0,
        mirrored=bool(u[3] < 0.5) and augmentation.flips,
        warped=bool(u[4] < augmentation.warp_probability),
        angle=float(np.radians(augmentation.rotation_degrees) * (2 * u[5] - 1)),
        zoom=float(augmentation.zoom ** (2 * u[6] - 1)),
        brightness=augmentation.brightness * (2 * u[7] - 1),
        contrast=augmentation.contrast * (2 * u[8] - 1),
        bend=bend.astype(np.float32),
    )


def read_window(image: MembraneImage, row: int, column: int, side: int) -> NDArray[np.uint8]:
    """Return grey values and membrane (0 or 1) [2, side, side] of a window, mirrored beyond the image."""
    rows, columns = mirrored(row, side, image.height), mirrored(column, side, image.width)
    spans = _span(rows), _span(columns)
    window: NDArray[np.uint8] = np.stack([image.read(spans), image.read_membrane(spans).view(np.uint8)])
    for axis, places, span in ((1, rows, spans[0]), (2, columns, spans[1])):
        if len(places) != span.stop - span.start or places[0] != span.start:
            window = np.take(window, places - span.start, axis=axis)
    return window


def _span(places: NDArray[np.int64]) -> slice:
    return slice(int(places.min()), int(places.max()) + 1)


@dataclass(frozen=True, eq=False)
class Batch:
    """The windows of a step, and what is done to them."""

    windows: Tensor
    changes: Changes

    def pin_memory(self) -> "Batch":
        """Return the batch in memory that a GPU reads while it computes; torch's DataLoader calls this."""
        return Batch(self.windows.pin_memory(), self.changes)

    def to(self, device: torch.device, **_: object) -> "Batch":
        """Return the batch on a device."""
        return Batch(self.windows.to(device, non_blocking=True), self.changes.to(device))


class StepBatches(Dataset[Batch]):
    """A data set whose index is the number of a step, from 0; process r of R takes every R-th crop of it."""

    def __init__(
        self,
        images: Sequence[MembraneImage],
        *,
        seed: int,
        batch_size: int,
        crop_size: int,
        augmentation: Augmentation,
        process: int = 0,
        n_processes: int = 1,
    ) -> None:
        self.images = tuple(images)
        self.sizes = [(image.height, image.width) for image in images]
        self.seed, self.batch_size, self.crop_size, self.augmentation = seed, batch_size, crop_size, augmentation
        self.process, self.n_processes = process, n_processes

    def __getitem__(self, step: int) -> Batch:
        first = step * self.batch_size
        numbers = range(first + self.process, first + self.batch_size, self.n_processes)
        draws = [crop_draw(self.seed, d, self.sizes, self.crop_size, self.augmentation) for d in numbers]
        side = self.augmentation.window_size(self.crop_size)
        margin = (side - self.crop_size) // 2
        windows = [read_window(self.images[one.image], one.row - margin, one.column - margin, side) for one in draws]
        return Batch(torch.from_numpy(np.stack(windows)), changes_of(draws))


def changes_of(draws: Sequence[CropDraw]) -> Changes:
    """Return the changes of several draws as tensors."""
    return Changes(
        turns=torch.tensor([one.turns for one in draws]),
        mirrored=torch.tensor([one.mirrored for one in draws]),
        warped=torch.tensor([one.warped for one in draws]),
        bend=torch.from_numpy(np.stack([one.bend for one in draws])),
        **{
            name: torch.tensor([getattr(one, name) for one in draws], dtype=torch.float32)
            for name in ("angle", "zoom", "brightness", "contrast")
        },
    )


class StepSampler(Sampler[int]):
    """The numbers of the steps that are still to do."""

    def __init__(self, first: int, stop: int) -> None:
        self.steps = range(first, stop)

    def __iter__(self) -> Iterator[int]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)
