"""How a membrane network is trained: everything but the network and the images.

A training is a number of optimizer steps, never a time, so that a score does not depend on how busy the machine is. One
step uses `batch_size` crops in all, on however many devices they are spread.

    PAPER   Shi et al. 2022: Adam, focal + dice loss with lambda 1 and gamma 2, patches of 1024, batch 4 on each of 8
            GPUs. Its Table 1 with the learning rate and the number of steps could not be found: Adam's own 1e-3 is
            taken, and as many steps as 50,000 patches need for 20 passes.
    SMALL   for two cores: a one-cycle schedule to 5e-3, which gets there in a tenth of the steps, and crops of 192.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from emseg.errors import UsageError, suggest
from emseg.membrane.plan_checks import is_number, require_count, require_one_of
from emseg.membrane.training.augmentation import Augmentation
from emseg.membrane.training.learning_rate import SCHEDULES

OPTIMIZERS = ("adam", "adamw")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
# What changes how fast the weights are found or what is watched on the way, but not which weights.
WITHOUT_EFFECT = ("n_workers", "checkpoint_seconds", "validate_every", "validation_size", "tensorboard")


@dataclass(frozen=True)
class TrainingPlan:
    """A plan of `n_steps` optimizer steps of `batch_size` crops of `crop_size` pixels a side.

    `warm_up_steps`: steps until the learning rate has its full value. `gradient_clip`: largest norm of the gradient, 0
    for any. `precision`: "auto" is bf16 where the device computes in it, else fp32. `device`: "auto", "cpu", "cuda" or
    "cuda:N". `validate_every`: steps between two looks at the validation images, 0 for none; `validation_size`: side
    of the middle of each that is looked at. `checkpoint_seconds`: time between two checkpoints.
    """

    n_steps: int = 10_000
    batch_size: int = 4
    crop_size: int = 1024
    learning_rate: float = 1e-3
    optimizer: str = "adam"
    weight_decay: float = 0.0
    schedule: str = "constant"
    warm_up_steps: int = 0
    gradient_clip: float = 0.0
    focal_gamma: float = 2.0
    dice_weight: float = 1.0
    boundary_weight: float = 0.0
    augmentation: Augmentation = field(default_factory=Augmentation)
    precision: str = "fp32"
    device: str = "auto"
    n_devices: int = 1
    seed: int = 0
    validate_every: int = 1000
    validation_size: int = 1024
    checkpoint_seconds: float = 60.0
    n_workers: int = 0
    tensorboard: bool = False

    def __post_init__(self) -> None:
        """Refuse what is out of range or does not fit together."""
        require_one_of("optimizer", self.optimizer, OPTIMIZERS)
        require_one_of("schedule", self.schedule, SCHEDULES)
        require_one_of("precision", self.precision, PRECISIONS)
        for name, least in (
            ("n_steps", 1),
            ("batch_size", 1),
            ("crop_size", 16),
            ("n_devices", 1),
            ("warm_up_steps", 0),
            ("seed", 0),
            ("validate_every", 0),
            ("validation_size", 16),
            ("n_workers", 0),
        ):
            require_count(name, getattr(self, name), least)
        if not (is_number(self.learning_rate) and 0 < self.learning_rate < math.inf):
            raise UsageError(f"`learning_rate` must be a positive number; got {self.learning_rate!r}.")
        for name in (
            *("weight_decay", "gradient_clip", "focal_gamma", "dice_weight", "boundary_weight"),
            "checkpoint_seconds",
        ):
            value = getattr(self, name)
            if not (is_number(value) and 0 <= value < math.inf):
                raise UsageError(f"`{name}` must be a number of at least 0; got {value!r}.")
        if not isinstance(self.augmentation, Augmentation):
            raise UsageError(f"`augmentation` must be an Augmentation; got {type(self.augmentation).__name__}.")
        if not isinstance(self.tensorboard, bool):
            raise UsageError(f"`tensorboard` must be true or false; got {self.tensorboard!r}.")
        if self.warm_up_steps >= self.n_steps:
            raise UsageError(
                f"the warm-up must end before the training; got warm_up_steps={self.warm_up_steps}, "
                f"n_steps={self.n_steps}. Train longer or warm up for fewer steps."
            )
        if self.batch_size % self.n_devices:
            raise UsageError(
                f"`batch_size` is shared out evenly among devices; got batch_size={self.batch_size}, "
                f"n_devices={self.n_devices}. Use a multiple of {self.n_devices}."
            )

    def changed(self, **changes: Any) -> "TrainingPlan":
        """Return this plan with some fields changed; an unknown name is refused with the nearest known one."""
        known = [one.name for one in fields(self)]
        for name in changes:
            if name not in known:
                raise UsageError(f"a training plan has no {name!r}.{suggest(name, known)}")
        return replace(self, **changes)


def settings_of(plan: TrainingPlan) -> Mapping[str, Any]:
    """Return what of a plan decides which weights come out of it, ready for JSON."""
    return {name: value for name, value in asdict(plan).items() if name not in WITHOUT_EFFECT}


PAPER = TrainingPlan(n_steps=31_250, batch_size=32)
SMALL = TrainingPlan(
    n_steps=600,
    crop_size=192,
    learning_rate=5e-3,
    schedule="onecycle",
    warm_up_steps=150,
    precision="auto",
    validate_every=100,
    checkpoint_seconds=20.0,
)
PLANS = {"paper": PAPER, "small": SMALL}
