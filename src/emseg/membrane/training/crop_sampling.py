"""The crops of a training as functions of seed and step: where they lie, and how they are augmented.

A crop is cut out of a larger window with the same centre, and becomes what the network sees in one of two ways:

    exact    a quarter turn and a mirror image; no pixel is changed. A fraction 1 - `warp_probability` of the crops.
    warped   any rotation, a zoom and an elastic displacement at once, so that the image is interpolated once (bilinear;
             the truth takes the nearest pixel):
             input place = A output place + displacement,  A = R(angle) / zoom, mirrored in half the cases

Grey values g in 0 to 1 become (1 + c) (g - m) + m + b, clipped to 0 to 1, with m the crop's mean: contrast and
brightness, the colour jitter of a grey image. The network sees (g - 0.5) / 0.5.

Source: Shi et al. 2022: flips, rotation, zoom, crop, translation, contrast, colour jitter; no amounts are given.
Translation is the crop's random place. Elastic displacement is beyond the paper (Ronneberger et al. 2015), off by
default. Deviation: one call of torch's `affine_grid` and `grid_sample` for the whole batch, on the training's device.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64, UInt8
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from emseg.membrane.dataset import MembraneImage
from emseg.membrane.training.membrane_plan import Augmentation, TrainingPlan
from emseg.tiling import mirrored
from emseg.training.steps import AUGMENTATION, image_of_draw

MIDDLE_GREY = 127.5  # (g / 255 - 0.5) / 0.5 = (g - 127.5) / 127.5
BEND_POINTS = 5  # control points a side; between them the displacement is smooth


@dataclass(frozen=True)
class CropDraw:
    """Where a crop lies: the image's number and the crop's first row and column; and how it is augmented.

    `turns`: quarter turns counter-clockwise; `mirrored`: left for right, before the turn; `warped`: whether `angle`
    (radians, counter-clockwise), `zoom` and `bend` (row and column, in pixels, at the control points) apply instead of
    `turns`.
    """

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
    """Return draw number `draw` from images of these (height, width); an image smaller than the crop is centred."""
    image = image_of_draw(seed, draw, len(sizes))
    generator = np.random.default_rng([seed, AUGMENTATION, draw])
    u = generator.random(10)  # always as many, so that one setting does not change another's draws
    row, column = (
        int(u[axis] * (length - crop_size + 1)) if length >= crop_size else -((crop_size - length) // 2)
        for axis, length in enumerate(sizes[image])
    )
    bend = augmentation.bend_px * generator.standard_normal((2, BEND_POINTS, BEND_POINTS))
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


def read_window(image: MembraneImage, row: int, column: int, side: int) -> UInt8[np.ndarray, "2 side side"]:
    """Return grey values and membrane (0 or 1) of a window, mirrored beyond the image."""
    rows, columns = mirrored(row, side, image.height), mirrored(column, side, image.width)
    down, right = (slice(int(places.min()), int(places.max()) + 1) for places in (rows, columns))
    pair = image.read((down, right)), image.read_membrane((down, right)).view(np.uint8)
    window: NDArray[np.uint8] = np.stack(pair)
    for axis, places, span in ((1, rows, down), (2, columns, right)):
        if len(places) != span.stop - span.start or places[0] != span.start:
            window = np.take(window, places - span.start, axis=axis)
    return window


@dataclass(frozen=True, eq=False)
class CropBatch:
    """The windows of a step, channel 0 grey and channel 1 membrane, and the augmentation of each (see `CropDraw`)."""

    windows: UInt8[Tensor, "crop 2 side side"]
    turns: Int64[Tensor, " crop"]
    mirrored: Bool[Tensor, " crop"]
    warped: Bool[Tensor, " crop"]
    angle: Float32[Tensor, " crop"]
    zoom: Float32[Tensor, " crop"]
    bend: Float32[Tensor, "crop 2 point point"]
    brightness: Float32[Tensor, " crop"]
    contrast: Float32[Tensor, " crop"]

    def pin_memory(self) -> "CropBatch":
        """Return the batch in memory that a GPU reads while it computes; torch's DataLoader calls this."""
        return replace(self, windows=self.windows.pin_memory())

    def to(self, device: torch.device, **_: object) -> "CropBatch":
        """Return the batch on a device; `turns`, `mirrored` and `warped` stay on the CPU, where they are read."""
        names = ("windows", "angle", "zoom", "bend", "brightness", "contrast")
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=True) for name in names})


class StepBatches(Dataset[CropBatch]):
    """A data set whose index is the number of a step, from 0; process r of R takes every R-th crop of it."""

    def __init__(
        self, images: Sequence[MembraneImage], plan: TrainingPlan, process: int = 0, n_processes: int = 1
    ) -> None:
        self.images, self.plan, self.process, self.n_processes = tuple(images), plan, process, n_processes
        self.sizes = [(image.height, image.width) for image in images]

    def __getitem__(self, step: int) -> CropBatch:
        plan, first = self.plan, step * self.plan.batch_size
        numbers = range(first + self.process, first + plan.batch_size, self.n_processes)
        draws = [crop_draw(plan.seed, d, self.sizes, plan.crop_size, plan.augmentation) for d in numbers]
        side = plan.augmentation.window_size(plan.crop_size)
        margin = (side - plan.crop_size) // 2
        windows = [read_window(self.images[one.image], one.row - margin, one.column - margin, side) for one in draws]
        wholes, floats = ("turns", "mirrored", "warped"), ("angle", "zoom", "brightness", "contrast")
        return CropBatch(
            torch.from_numpy(np.stack(windows)),
            **{name: torch.tensor([getattr(one, name) for one in draws]) for name in wholes},
            **{name: torch.tensor([getattr(one, name) for one in draws], dtype=torch.float32) for name in floats},
            bend=torch.from_numpy(np.stack([one.bend for one in draws])),
        )


def augmented(
    batch: CropBatch, crop_size: int
) -> tuple[Float[Tensor, "crop 1 size size"], Float[Tensor, "crop 1 size size"]]:
    """Return what the network sees, and its truth (1.0 on membrane)."""
    windows, side = batch.windows, batch.windows.shape[-1]
    pairs = windows.new_empty((len(windows), 2, crop_size, crop_size), dtype=torch.float32)
    margin = (side - crop_size) // 2
    for place in torch.nonzero(~batch.warped).flatten().tolist():
        exact = windows[place, :, margin : margin + crop_size, margin : margin + crop_size]
        if batch.mirrored[place]:
            exact = exact.flip(-1)
        pairs[place] = torch.rot90(exact, int(batch.turns[place]), (-2, -1))
    chosen = torch.nonzero(batch.warped).flatten()
    if len(chosen):
        pairs[chosen.to(windows.device)] = _warped(batch, chosen, crop_size)
    return _changed_grey(pairs[:, :1] / 255, batch), pairs[:, 1:]


def _changed_grey(grey: Float[Tensor, "crop 1 row column"], batch: CropBatch) -> Float[Tensor, "crop 1 row column"]:
    """Return the grey values with another contrast and brightness, on the scale that networks see."""
    contrast, brightness = (value[:, None, None, None] for value in (batch.contrast, batch.brightness))
    mean = grey.mean(dim=(1, 2, 3), keepdim=True)
    changed = torch.addcmul(mean + brightness, grey - mean, 1 + contrast)
    return (changed.clamp_(0, 1) - 0.5) / 0.5


def _warped(batch: CropBatch, chosen: Int64[Tensor, " some"], crop_size: int) -> Float[Tensor, "some 2 size size"]:
    """Return the crops of the `chosen` windows, each rotated, zoomed and displaced by one interpolation."""
    device, side = batch.windows.device, batch.windows.shape[-1]
    at = chosen.to(device)
    windows, angle, zoom = batch.windows[at], batch.angle[at], batch.zoom[at]
    cosine, sine = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    # torch's places are (x, y) in half sides of the window; y points down, so this rotates counter-clockwise
    mirror = 1.0 - 2.0 * batch.mirrored[chosen].to(device, torch.float32)
    zero = torch.zeros_like(angle)
    rows = (torch.stack([mirror * cosine, -mirror * sine, zero], 1), torch.stack([sine, cosine, zero], 1))
    matrix = torch.stack(rows, 1) * (crop_size / side)
    places = functional.affine_grid(matrix, [len(at), 2, crop_size, crop_size], align_corners=False)
    bend = batch.bend[at]
    if bend.any():
        shift = functional.interpolate(bend, size=(crop_size, crop_size), mode="bicubic", align_corners=True)
        places = places + shift.flip(1).permute(0, 2, 3, 1) * (2 / side)
    grey, membrane = (
        functional.grid_sample(channel.float(), places, mode=mode, padding_mode="reflection", align_corners=False)
        for channel, mode in ((windows[:, :1], "bilinear"), (windows[:, 1:], "nearest"))
    )
    return torch.cat([grey, membrane], dim=1)
