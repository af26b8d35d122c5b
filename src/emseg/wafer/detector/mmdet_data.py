"""Training data of mmdet as a function of the number of a draw, and two augmentations that mmdet lacks.

Images are numbered by draws, and the random numbers of a draw and of a step depend on the seed and its number alone
(`emseg.training.steps`), so that an interrupted training resumes to the same bits. mmdet's transforms and samplers use
the global generators of NumPy, Python and torch; those are seeded for one draw or one step, and then restored.

A quarter turn moves the pixel (r, c) of an image of W columns to (W - 1 - c, r): counter-clockwise, as `numpy.rot90`
does it. Boxes are continuous, so x1' = y1, x2' = y2, y1' = W - x2, y2' = W - x1. Nothing is interpolated.

The change of grey values is g' = (1 + a) (g - m) + m + 255 b, with a and b uniform in [-amount, amount] and m the
image's mean: a microscope's contrast and brightness, which differ from day to day.
"""

from collections.abc import Iterator, Sized
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from itertools import count, islice
from typing import Any

import numpy as np
import torch

from emseg.wafer.detector import mmdet_parts  # noqa: F401  # prepares mmdet, so before it

# isort: split
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.registry import DATA_SAMPLERS, DATASETS, HOOKS
from torch.utils.data import Dataset, Sampler

from emseg.training.steps import AUGMENTATION, draw_seed, image_of_draw, seeded, step_seed

with redirect_stdout(StringIO()):  # it prints which other vendors' data sets it does not find
    import mmdet.datasets  # noqa: F401

GREY_RANGE = 255.0


@DATASETS.register_module()
class DrawDataset(Dataset[Any]):
    """A data set whose index is the number of a draw; `dataset` is the configuration of the one with the images."""

    def __init__(self, dataset: Any, seed: int) -> None:
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        self.seed = seed

    @property
    def metainfo(self) -> dict[str, Any]:
        """The class names, as mmengine wants them."""
        return dict(self.dataset.metainfo)

    def full_init(self) -> None:
        """Read the annotations; mmengine calls this."""
        self.dataset.full_init()

    def __len__(self) -> int:
        return len(self.dataset)

    @contextmanager
    def own_greys(self) -> Iterator[None]:
        """Leave out the change of grey values within the block."""
        pipeline = self.dataset.pipeline
        kept = pipeline.transforms
        pipeline.transforms = [step for step in kept if not isinstance(step, GreyJitter)]
        try:
            yield
        finally:
            pipeline.transforms = kept

    def image_of(self, draw: int) -> int:
        """Return the index of the image that a draw shows."""
        return image_of_draw(self.seed, draw, len(self))

    def __getitem__(self, draw: int) -> Any:
        with seeded(draw_seed(self.seed, AUGMENTATION, draw)):
            return self.dataset[self.image_of(draw)]


@DATA_SAMPLERS.register_module()
class DrawSampler(Sampler[int]):
    """The numbers of the draws, without end or, with `by_epoch`, one epoch at a time.

    Process r of R takes the draws r, r + R, r + 2 R, ..., so that all together use those of one process with an R times
    larger batch. Where an epoch's draws do not divide among the processes, some take a draw of it again.
    """

    def __init__(self, dataset: Sized, by_epoch: bool = False, seed: int | None = None) -> None:
        self.n_images, self.by_epoch, self.first = len(dataset), by_epoch, 0
        self.rank, self.world_size = map(int, get_dist_info())

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
        self.first = end = self.first + self.n_images
        for draw in islice(draws, len(self)):
            yield draw if draw < end else draw - self.n_images

    def __len__(self) -> int:
        return -(-self.n_images // self.world_size)

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: the number of a draw already determines its epoch."""


@HOOKS.register_module()
class StepSeedHook(Hook):  # type: ignore[misc]
    """Seeds torch before each step from the seed, the step and the process."""

    priority = "VERY_HIGH"

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Seed the next step."""
        torch.manual_seed(step_seed(self.seed, runner.iter, runner.rank))


@TRANSFORMS.register_module()
class QuarterTurns(BaseTransform):  # type: ignore[misc]
    """Rotates image, masks and boxes by 0 to 3 quarter turns, all equally likely."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Rotate one image and its truth."""
        image, masks, boxes = results["img"], results["gt_masks"].masks, results["gt_bboxes"].numpy()
        for _ in range(np.random.randint(4)):  # noqa: NPY002
            x1, y1, x2, y2 = boxes.T
            boxes = np.stack([y1, image.shape[1] - x2, y2, image.shape[1] - x1], axis=1)
            image, masks = np.rot90(image), np.rot90(masks, axes=(1, 2))
        height, width = image.shape[:2]
        results["img"], results["img_shape"] = np.ascontiguousarray(image), (height, width)
        results["gt_masks"] = BitmapMasks(np.ascontiguousarray(masks), height, width)
        results["gt_bboxes"] = HorizontalBoxes(boxes)
        return results


@TRANSFORMS.register_module()
class GreyJitter(BaseTransform):  # type: ignore[misc]
    """Changes brightness by up to `amount` of the whole range and contrast by up to `amount` of itself."""

    def __init__(self, amount: float) -> None:
        self.amount = amount

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change the grey values of one image."""
        image = results["img"].astype(np.float32)
        contrast, brightness = np.random.uniform(-self.amount, self.amount, 2)  # noqa: NPY002
        mean = image.mean()
        image = (1 + contrast) * (image - mean) + mean + GREY_RANGE * brightness
        results["img"] = np.clip(image, 0, GREY_RANGE).astype(np.uint8)
        return results
