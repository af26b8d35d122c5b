"""MoCo v2: an encoder learns which two views show the same patch, among many keys of other patches.

    q = head(mean over the map of encoder(view 1)) / |...|
    k = the same of view 2 by the momentum network, whose weights are m theta_k + (1 - m) theta_q
    loss = -log( exp(q.k / tau) / (exp(q.k / tau) + sum over the queue exp(q.n / tau)) )

    q, k   [batch, embedding]   unit length          n      [queue, embedding]   keys of earlier steps
    m      momentum             tau  temperature

Head, queue, loss and momentum update are lightly's. `accuracy` is the fraction of queries that are nearer to their own
key than to every key of the queue. `spread` is the standard deviation of each component of q over the batch, averaged
over components, times sqrt(embedding): 1 for directions that fill the sphere, 0 for embeddings collapsed to one.

Batch normalisation leaks information between the images of a batch: a key could be recognised by the statistics that it
shares with its query. So the keys are normalised in `key_groups` random groups (He et al., section 3.3: shuffling BN,
there with one group per GPU).

Views and groups are functions of the seed and of the draw's number alone (`emseg.training.steps`): neither an
interruption nor the number of loading processes changes them. Draw d takes a patch from an image, with a probability
proportional to its area, and shows it twice. Labels are never read.

Sources: He et al. 2020 (MoCo), section 3.3: momentum 0.999, queue 65,536, SGD 0.9 and 1e-4; Chen et al. 2020 (MoCo v2),
Table 1 and section 2: 0.03, batch 256, cosine, temperature 0.2, head of two layers, 2048 hidden, 128 out.
Deviation: flips along both axes, quarter turns and noise, as in Conrad and Narayan 2021 (CEM500K) or nearly so; no
solarising, no colour.
"""

import copy
import math
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from lightly.loss import NTXentLoss  # type: ignore[import-untyped]
from lightly.models.modules.heads import MoCoProjectionHead  # type: ignore[import-untyped]
from lightly.models.utils import deactivate_requires_grad, update_momentum  # type: ignore[import-untyped]
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.utils.data import Dataset
from torchvision.transforms import v2

from emseg.checks import Count, CountOrZero, NotNegative, validated
from emseg.errors import InputError, UsageError
from emseg.membrane.dataset import UnlabelledImage
from emseg.training.steps import Plan, draw_seed

BLUR_SIGMA_PX = (0.1, 2.0)
NOISE_SIGMA = 0.05
JITTER = 0.4
_PLACE, _VIEW, _STEP = range(3)  # the uses of a seed
_BelowOne = Annotated[float, Field(ge=0, lt=1)]
Embeddings = Float[Tensor, "image embedding"]


@validated
class PretrainingPlan(Plan):
    """A pretraining by momentum contrast; the defaults are MoCo v2's, which CEM500K used, but for the number of steps.

    The learning rate rises linearly over `warm_up_steps`, then follows half a cosine to zero. `crop_size`: side of a
    view; `min_scale`: smallest fraction of a patch that a view shows before it is scaled to that side. `key_groups`:
    parts of a batch that are normalised apart. `checkpoint_seconds`: time between two checkpoints. A short run must
    fill the queue several times and give the momentum network time to follow, 1 / (1 - momentum) steps.
    """

    without_effect: ClassVar[tuple[str, ...]] = ("n_workers", "checkpoint_seconds")

    n_steps: Count = 200_000
    batch_size: Annotated[int, Field(ge=2)] = 256
    crop_size: Annotated[int, Field(ge=16)] = 224
    min_scale: Annotated[float, Field(gt=0, le=1)] = 0.2
    learning_rate: Annotated[float, Field(gt=0, le=100)] = 0.03
    optimizer: Literal["sgd", "adamw"] = "sgd"
    weight_decay: _BelowOne = 1e-4
    warm_up_steps: CountOrZero = 0
    momentum: _BelowOne = 0.999
    temperature: Annotated[float, Field(gt=0, le=10)] = 0.2
    queue: Count = 65_536
    hidden: Count = 2048
    embedding: Annotated[int, Field(ge=2)] = 128
    key_groups: Count = 8
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    checkpoint_seconds: NotNegative = 60.0

    def __post_init__(self) -> None:
        if self.queue % self.batch_size:
            raise UsageError(
                f"the queue takes whole batches; got queue={self.queue}, batch_size={self.batch_size}. "
                "Make the queue a multiple of the batch."
            )
        if self.batch_size % self.key_groups or self.batch_size // self.key_groups < 2:
            raise UsageError(
                f"`key_groups` must divide the batch into parts of at least 2; got key_groups={self.key_groups}, "
                f"batch_size={self.batch_size}. Use fewer groups or a larger batch."
            )
        if self.warm_up_steps >= self.n_steps:
            got = f"warm_up_steps={self.warm_up_steps}, n_steps={self.n_steps}"
            raise UsageError(f"the warm-up must end before the pretraining; got {got}.")

    @property
    def patch_size(self) -> int:
        """Side of the patches that both views of a pair are cropped from: views are enlarged as often as reduced."""
        return 3 * self.crop_size // 2

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        if step < self.warm_up_steps:
            return self.learning_rate * (step + 1) / self.warm_up_steps
        done = (step - self.warm_up_steps) / (self.n_steps - self.warm_up_steps)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


PAPER = PretrainingPlan()
# Two cores and a minute. The momentum network averages over 250 steps: with 100 or fewer it follows so fast that new
# keys differ from older ones by their age alone, and the embeddings collapse while the accuracy is near 1.
SHORT = PretrainingPlan(
    n_steps=300,
    batch_size=32,
    crop_size=48,
    min_scale=0.6,
    learning_rate=2e-3,
    optimizer="adamw",
    warm_up_steps=20,
    momentum=0.996,
    queue=256,
    hidden=256,
    embedding=64,
    key_groups=2,
    precision="auto",
    checkpoint_seconds=20.0,
)


class Views(Dataset[Tensor]):
    """The pairs of views of a step [batch, 2, 1, side, side], (grey / 255 - 0.5) / 0.5 in float32, by its number.

    It is the `StepTask` of a pretraining (`emseg.training.lightning_steps`), in one process.
    """

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
        self._cumulated = np.cumsum(areas / areas.sum())
        blur = v2.GaussianBlur(2 * math.ceil(2 * BLUR_SIGMA_PX[1]) + 1, BLUR_SIGMA_PX)
        self._change = v2.Compose(
            [
                v2.RandomResizedCrop(plan.crop_size, scale=(plan.min_scale, 1.0), antialias=True),
                v2.RandomHorizontalFlip(),
                v2.RandomVerticalFlip(),
                v2.ColorJitter(brightness=JITTER, contrast=JITTER),
                v2.RandomApply([blur], p=0.5),
                v2.RandomApply([v2.GaussianNoise(sigma=NOISE_SIGMA, clip=True)], p=0.5),
            ]
        )

    def __getitem__(self, step: int) -> Float[Tensor, "image 2 1 row column"]:
        first = step * self.plan.batch_size
        return torch.stack([self.pair(draw) for draw in range(first, first + self.plan.batch_size)])

    def patch(self, draw: int) -> UInt8[np.ndarray, "row column"]:
        """Return the patch of a draw, as large as the plan asks or the image allows."""
        rng = np.random.default_rng([self.plan.seed, _PLACE, draw])
        image = self.images[min(int(np.searchsorted(self._cumulated, rng.random())), len(self.images) - 1)]
        sides = [(length, min(self.plan.patch_size, length)) for length in (image.height, image.width)]
        starts = [int(rng.integers(length - side + 1)) for length, side in sides]
        rows, columns = (slice(start, start + side) for start, (_, side) in zip(starts, sides, strict=True))
        return image.read((rows, columns))

    def pair(self, draw: int) -> Float[Tensor, "2 1 row column"]:
        """Return two views of the patch of a draw."""
        patch = torch.from_numpy(np.ascontiguousarray(self.patch(draw)))[None].float() / 255
        # torchvision's transforms draw from torch's global generator, which is restored afterwards
        with torch.random.fork_rng(devices=()):
            torch.default_generator.manual_seed(draw_seed(self.plan.seed, _VIEW, draw))
            rotated = (torch.rot90(patch, int(torch.randint(4, ())), (1, 2)) for _ in range(2))
            views = torch.stack([self._change(one).clamp(0, 1) for one in rotated])
        return (views - 0.5) / 0.5

    def batches(self, process: int, n_processes: int) -> "Views":
        """Return the pairs of views by step."""
        return self

    def prepared(self, batch: Tensor) -> Tensor:
        """Return the batch."""
        return batch

    def losses(self, network: "MomentumContrast", batch: Tensor, step: int) -> dict[str, Tensor]:
        """Return loss, accuracy and spread of a step."""
        return network(batch, step)  # type: ignore[no-any-return]


class Embedder(nn.Module):
    """An encoder, the mean over its deepest map, and MoCo's projection head."""

    def __init__(self, encoder: Any, plan: PretrainingPlan) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = MoCoProjectionHead(encoder.out_channels[-1], plan.hidden, plan.embedding)

    def forward(self, views: Float[Tensor, "image 1 row column"]) -> Embeddings:
        """Return the embeddings at unit length."""
        return normalize(self.head(self.encoder(views)[-1].mean((2, 3))), dim=1)


class MomentumContrast(nn.Module):
    """The query network, the momentum network that makes the keys, and the loss with its queue."""

    def __init__(self, encoder: nn.Module, plan: PretrainingPlan) -> None:
        super().__init__()
        self.plan = plan
        with torch.random.fork_rng(devices=()):
            torch.default_generator.manual_seed(draw_seed(plan.seed, _STEP))
            self.query = Embedder(encoder, plan)
            self.loss = NTXentLoss(plan.temperature, memory_bank_size=(plan.queue, plan.embedding))
        self.key = copy.deepcopy(self.query)
        deactivate_requires_grad(self.key)

    @property
    def queue(self) -> Float[Tensor, "negative embedding"]:
        """The keys of earlier steps."""
        bank: Tensor = self.loss.memory_bank.bank
        return bank

    def forward(self, pairs: Float[Tensor, "image 2 1 row column"], step: int) -> dict[str, Float[Tensor, ""]]:
        """Return the "loss" of the step's pairs of views, and their "accuracy" and "spread".

        The momentum network follows the query network first; afterwards the keys enter the queue.
        """
        update_momentum(self.query, self.key, m=self.plan.momentum)
        queries = self.query(pairs[:, 0]).float()
        keys = self.keys(pairs[:, 1], step)
        accuracy = contrast_accuracy(queries, keys, self.queue)
        return {"loss": self.loss(queries, keys), "accuracy": accuracy, "spread": embedding_spread(queries)}

    @torch.no_grad()
    def keys(self, views: Float[Tensor, "image 1 row column"], step: int) -> Embeddings:
        """Return the keys, each normalised within a random group of the batch."""
        generator = torch.Generator().manual_seed(draw_seed(self.plan.seed, _STEP, step))
        order = torch.randperm(len(views), generator=generator).to(views.device)
        groups = [self.key(part) for part in views[order].chunk(self.plan.key_groups)]
        return torch.cat(groups).float()[order.argsort()]

    def get_extra_state(self) -> dict[str, Any]:
        """Return the queue for the state dict, where lightly does not keep it."""
        return {"bank": self.loss.memory_bank.bank, "place": self.loss.memory_bank.bank_ptr}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the queue."""
        self.loss.memory_bank.bank, self.loss.memory_bank.bank_ptr = state["bank"], state["place"]


@torch.no_grad()
def embedding_spread(embeddings: Embeddings) -> Float[Tensor, ""]:
    """Return the standard deviation over images of unit embeddings, times sqrt(embedding): from 0, collapsed, to 1."""
    return embeddings.std(0, correction=0).mean() * math.sqrt(embeddings.shape[1])


@torch.no_grad()
def contrast_accuracy(
    queries: Embeddings, keys: Embeddings, negatives: Float[Tensor, "negative embedding"]
) -> Float[Tensor, ""]:
    """Return the fraction of queries that are nearer to their own key than to every negative."""
    own = (queries * keys).sum(1)
    return (own > (queries @ negatives.T).amax(1)).float().mean()
