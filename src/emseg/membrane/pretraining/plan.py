"""How an encoder is pretrained: everything but the network and the images.

A pretraining is a number of steps, never a time. The learning rate rises linearly over `warm_up_steps` and then follows
half a cosine to zero. The defaults are MoCo v2's, which CEM500K was pretrained with, but for the number of steps.
A short run needs others (`SHORT`): the queue must be filled several times over, and the momentum network must have time
to follow.

    queue / batch_size    steps until the queue holds nothing but keys of the training
    1 / (1 - momentum)    steps over which the momentum network averages

Source: Chen et al. 2020 (MoCo v2), Table 1 and section 2: 0.03, batch 256, cosine, 200 epochs, temperature 0.2, head
of two layers, 2048 hidden, 128 out; He et al. 2020 (MoCo), section 3.3: momentum 0.999, queue 65,536, SGD 0.9 and 1e-4.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

from emseg.checks import is_number, require_count, require_one_of
from emseg.errors import UsageError

OPTIMIZERS = ("sgd", "adamw")
PRECISIONS = ("auto", "fp32", "bf16")
# What makes no difference to the encoder that comes out.
WITHOUT_EFFECT = ("checkpoint_seconds", "n_workers")


@dataclass(frozen=True)
class PretrainingPlan:
    """A pretraining by momentum contrast.

    `crop_size` is the side of a view, `min_scale` the smallest share of a patch that a view shows before it is scaled
    to that side; patches have 1.5 times the side of a view, so that views are as often enlarged as reduced.
    `key_groups` parts of a batch are normalised apart for the keys, as on so many GPUs. `device`: "auto",
    "cpu", "cuda" or "cuda:N". `checkpoint_seconds`: time between two checkpoints.
    """

    n_steps: int = 200_000
    batch_size: int = 256
    crop_size: int = 224
    min_scale: float = 0.2
    learning_rate: float = 0.03
    optimizer: str = "sgd"
    weight_decay: float = 1e-4
    warm_up_steps: int = 0
    momentum: float = 0.999
    temperature: float = 0.2
    queue: int = 65_536
    hidden: int = 2048
    embedding: int = 128
    key_groups: int = 8
    precision: str = "fp32"
    device: str = "auto"
    seed: int = 0
    checkpoint_seconds: float = 60.0
    n_workers: int = 0

    def __post_init__(self) -> None:
        counts = {
            "n_steps": 1,
            "batch_size": 2,
            "crop_size": 16,
            "warm_up_steps": 0,
            "queue": 1,
            "hidden": 1,
            "embedding": 2,
            "key_groups": 1,
            "seed": 0,
            "n_workers": 0,
        }
        for name, least in counts.items():
            require_count(name, getattr(self, name), least)
        for name, (low, high) in {
            "min_scale": (0.0, 1.0),
            "learning_rate": (0.0, 100.0),
            "temperature": (0.0, 10.0),
        }.items():
            value = getattr(self, name)
            if not is_number(value) or not low < value <= high:
                raise UsageError(f"`{name}` must be above {low:g} and at most {high:g}; got {value!r}.")
        for name in ("weight_decay", "momentum"):
            value = getattr(self, name)
            if not is_number(value) or not 0 <= value < 1:
                raise UsageError(f"`{name}` must be at least 0 and below 1; got {value!r}.")
        if not is_number(self.checkpoint_seconds) or not 0 <= self.checkpoint_seconds < math.inf:
            raise UsageError(f"`checkpoint_seconds` must be a number of at least 0; got {self.checkpoint_seconds!r}.")
        for name, allowed in (("optimizer", OPTIMIZERS), ("precision", PRECISIONS)):
            require_one_of(name, getattr(self, name), allowed)
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
            raise UsageError(
                f"the warm-up must end before the pretraining; got warm_up_steps={self.warm_up_steps}, "
                f"n_steps={self.n_steps}."
            )

    @property
    def patch_size(self) -> int:
        """The side of the patches that both views of a pair are cut from."""
        return 3 * self.crop_size // 2

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step, from 0."""
        if step < self.warm_up_steps:
            return self.learning_rate * (step + 1) / self.warm_up_steps
        done = (step - self.warm_up_steps) / (self.n_steps - self.warm_up_steps)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * done))

    def settings(self) -> dict[str, Any]:
        """Return what of the plan decides the encoder that comes out, ready for JSON."""
        return {name: value for name, value in asdict(self).items() if name not in WITHOUT_EFFECT}


PAPER = PretrainingPlan()
# Two cores and a minute. The momentum network averages over 250 steps: with 100 or fewer it follows so fast that new
# keys are told from older ones by their age alone, and the embeddings collapse while the accuracy is near 1.
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
