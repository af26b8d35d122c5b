"""Pairs of views of unlabelled patches, as a function of the seed and of the number of the draw alone.

Draw d takes a patch from an image (an image as often as its area says), and shows it twice. Each view is cut out at a
random place and scale, scaled to one side, flipped, turned by quarter turns, made brighter or darker, stronger or
weaker in contrast, perhaps blurred, perhaps made noisy. What survives is what tissue is, and not how it was cut or
imaged; colour is left alone, for there is none.

Step t uses the draws t B ... t B + B - 1 for batches of B, so neither an interruption nor the number of loading
processes changes what is shown. Labels are never read.

Source: Chen et al. 2020 (MoCo v2), section 2. Deviation: flips along both axes, quarter turns and noise, as Conrad and
Narayan 2021 (CEM500K) have them or nearly so; no solarising, no colour.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from torchvision.transforms import v2

from emseg.errors import InputError
from emseg.membrane.dataset import UnlabelledImage
from emseg.membrane.pretraining.normalization import OURS
from emseg.membrane.pretraining.plan import PretrainingPlan

BLUR_SIGMA_PX = (0.1, 2.0)
NOISE_SIGMA = 0.05
JITTER = 0.4
N_PLACE, N_VIEW, N_STEP = range(3)  # what a seed is for


def draw_seed(seed: int, *place: int) -> int:
    """Return a 32-bit seed for one place in the pretraining; neighbouring places get unrelated ones."""
    return int(np.random.SeedSequence([seed, *place]).generate_state(1)[0])


class Views(Dataset[Tensor]):
    """Pairs of views [2, 1, side, side], float32 as our networks see grey; the index is the number of the draw."""

    def __init__(self, images: Sequence[UnlabelledImage], plan: PretrainingPlan) -> None:
        if not images:
            raise InputError("pretraining needs at least one image; got none.")
        for image in images:
            if min(image.height, image.width) < plan.crop_size:
                raise InputError(
                    f"every image must be at least {plan.crop_size} px wide and high, the side of a view; {image.name} "
                    f"is {image.height} x {image.width}. Use a smaller crop_size or leave the image out."
                )
        self.images, self.plan = tuple(images), plan
        areas = np.array([image.height * image.width for image in images], dtype=np.float64)
        self._shares = np.cumsum(areas / areas.sum())
        self._change = _change(plan)

    def __len__(self) -> int:
        return self.plan.n_steps * self.plan.batch_size

    def patch(self, draw: int) -> NDArray[np.uint8]:
        """Return the patch that a draw shows, as large as the plan asks or the image allows."""
        rng = np.random.default_rng([self.plan.seed, N_PLACE, draw])
        image = self.images[min(int(np.searchsorted(self._shares, rng.random())), len(self.images) - 1)]
        height, width = min(self.plan.patch_size, image.height), min(self.plan.patch_size, image.width)
        row, column = int(rng.integers(image.height - height + 1)), int(rng.integers(image.width - width + 1))
        return image.read((slice(row, row + height), slice(column, column + width)))

    def __getitem__(self, draw: int) -> Tensor:
        patch = torch.from_numpy(np.ascontiguousarray(self.patch(draw)))[None].float() / 255
        # torchvision's transforms draw from torch's global generator, which is lent to them and given back
        with torch.random.fork_rng(devices=()):
            torch.default_generator.manual_seed(draw_seed(self.plan.seed, N_VIEW, draw))
            views = torch.stack([self._view(patch) for _ in range(2)])
        return (views - OURS.mean[0]) / OURS.std[0]

    def _view(self, patch: Tensor) -> Tensor:
        turned = torch.rot90(patch, int(torch.randint(4, ())), (1, 2))
        changed: Tensor = self._change(turned)
        return changed.clamp(0, 1)


def _change(plan: PretrainingPlan) -> v2.Transform:
    """Return the random change of a patch into a view."""
    reach = int(np.ceil(2 * BLUR_SIGMA_PX[1]))
    return v2.Compose(
        [
            v2.RandomResizedCrop(plan.crop_size, scale=(plan.min_scale, 1.0), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomVerticalFlip(),
            v2.ColorJitter(brightness=JITTER, contrast=JITTER),
            v2.RandomApply([v2.GaussianBlur(2 * reach + 1, BLUR_SIGMA_PX)], p=0.5),
            v2.RandomApply([v2.GaussianNoise(sigma=NOISE_SIGMA, clip=True)], p=0.5),
        ]
    )


class StepDraws(Sampler[list[int]]):
    """The draws of each step from `first_step` on."""

    def __init__(self, plan: PretrainingPlan, first_step: int) -> None:
        self.plan, self.first_step = plan, first_step

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.first_step, self.plan.n_steps):
            yield list(range(step * self.plan.batch_size, (step + 1) * self.plan.batch_size))

    def __len__(self) -> int:
        return self.plan.n_steps - self.first_step
