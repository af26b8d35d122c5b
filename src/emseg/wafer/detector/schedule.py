"""How a detector is trained: everything but the network and the data.

A training is a number of optimizer steps, never a time, so that a score does not depend on how busy the machine is. One
step uses `batch_size` images in all, on however many processes they are spread. The learning rate grows linearly from
`WARM_UP_FACTOR` of its value over `warm_up_steps` steps and then either falls to a tenth at each of `milestones`
(epochs) or follows half a cosine down to `COSINE_FLOOR` of its value at the last step.

    PAPER   Sun et al., section 4.1: SGD with momentum 0.9 and weight decay 1e-4, 8 images a step, 36 epochs, learning
            rate 0.01, warm-up of 2000 steps, a tenth at epochs 24 and 34, images scaled to 1024. All else is mmdet's:
            the linear warm-up from 0.001, horizontal flips at 0.5, no images without sections.
    SMALL   for two cores: AdamW 1e-3, 2 images a step, cosine. Sections lie at any angle on a wafer, so flips along
            both axes and quarter turns make images that could have been taken.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from emseg.errors import UsageError, suggest

OPTIMIZERS = ("sgd", "adamw")
DECAYS = ("milestones", "cosine")
PRECISIONS = ("fp32", "bf16", "fp16")
FLIPS = ("horizontal", "vertical")
WARM_UP_FACTOR = 0.001  # mmdet's schedules start here
MILESTONE_FACTOR = 0.1
COSINE_FLOOR = 0.01
# What changes how fast the weights are found, but not which weights.
WITHOUT_EFFECT = ("n_workers", "checkpoint_interval", "tensorboard")


@dataclass(frozen=True)
class TrainingSchedule:
    """A schedule of `steps` optimizer steps or of `epochs` passes over the data; just one of the two is given.

    `scale` is the side to which images are resized, or None. `grey_jitter` is the largest change of brightness, as a
    fraction of the whole range, and of contrast, as a fraction of itself. `empty_images` also trains on tiles without
    any section. `checkpoint_interval` counts in the unit of the schedule: epochs or steps. `device` is "auto", "cpu",
    "cuda" or "cuda:N".
    """

    optimizer: str = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.9  # of SGD alone
    weight_decay: float = 1e-4
    batch_size: int = 8
    epochs: int | None = None
    steps: int | None = None
    warm_up_steps: int = 2000
    decay: str = "milestones"
    milestones: tuple[int, ...] = ()
    gradient_clip: float | None = None  # largest norm of the gradient
    precision: str = "fp32"
    channels_last: bool = False
    scale: int | None = None
    flips: tuple[str, ...] = ("horizontal",)
    quarter_turns: bool = False
    grey_jitter: float = 0.0
    empty_images: bool = False
    seed: int = 0
    checkpoint_interval: int = 1
    n_workers: int = 0
    device: str = "auto"
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for name in ("milestones", "flips"):
            values = getattr(self, name)
            if not isinstance(values, tuple | list):
                raise UsageError(f"`{name}` must be a list; got {values!r}.")
            object.__setattr__(self, name, tuple(values))
        _require_one_of("optimizer", self.optimizer, OPTIMIZERS)
        _require_one_of("decay", self.decay, DECAYS)
        _require_one_of("precision", self.precision, PRECISIONS)
        for flip in self.flips:
            _require_one_of("flips", flip, FLIPS)
        for name in ("batch_size", "checkpoint_interval"):
            _require_count(name, getattr(self, name), 1)
        for name in ("warm_up_steps", "seed", "n_workers"):
            _require_count(name, getattr(self, name), 0)
        for name in ("learning_rate", "gradient_clip"):
            value = getattr(self, name)
            if not (value is None and name == "gradient_clip") and not (_is_number(value) and 0 < value < math.inf):
                raise UsageError(f"`{name}` must be a positive number; got {value!r}.")
        for name in ("momentum", "weight_decay", "grey_jitter"):
            value = getattr(self, name)
            if not (_is_number(value) and 0 <= value < 1):
                raise UsageError(f"`{name}` must be at least 0 and below 1; got {value!r}.")
        for name in ("channels_last", "quarter_turns", "empty_images", "tensorboard"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"`{name}` must be true or false; got {getattr(self, name)!r}.")
        if (self.epochs is None) == (self.steps is None):
            raise UsageError(
                f"a schedule is counted in `epochs` or in `steps`; got epochs={self.epochs}, steps={self.steps}. "
                "Give one and leave the other None."
            )
        _require_count("steps" if self.epochs is None else "epochs", self.length, 1)
        if self.scale is not None:
            _require_count("scale", self.scale, 32)
        if self.decay == "milestones" and self.milestones:
            self._require_milestones()
        if self.steps is not None and self.warm_up_steps >= self.steps:
            raise UsageError(
                f"the warm-up must end before the training; got warm_up_steps={self.warm_up_steps}, steps={self.steps}."
                " Train longer or warm up for fewer steps."
            )

    def _require_milestones(self) -> None:
        if self.epochs is None:
            raise UsageError("`milestones` are epochs, so they need `epochs`. Use decay='cosine' with `steps`.")
        for milestone in self.milestones:
            _require_count("milestones", milestone, 1)
        if list(self.milestones) != sorted(set(self.milestones)) or self.milestones[-1] >= self.epochs:
            raise UsageError(
                f"`milestones` must rise and lie between 1 and epochs - 1; got {self.milestones} with "
                f"epochs={self.epochs}."
            )

    @property
    def length(self) -> int:
        """The length of the training, in epochs or in steps, whichever was given."""
        return self.epochs if self.epochs is not None else self.steps if self.steps is not None else 0

    def n_steps(self, n_images: int) -> int:
        """Return the number of optimizer steps on `n_images` images; each epoch's last batch may be smaller."""
        if self.steps is not None:
            return self.steps
        return self.length * math.ceil(n_images / self.batch_size)

    def changed(self, **changes: Any) -> "TrainingSchedule":
        """Return this schedule with some fields changed; an unknown name is refused with the nearest known one."""
        known = [one.name for one in fields(self)]
        for name in changes:
            if name not in known:
                raise UsageError(f"a schedule has no {name!r}.{suggest(name, known)}")
        return replace(self, **changes)


def settings_of(schedule: TrainingSchedule) -> Mapping[str, Any]:
    """Return what of a schedule decides which weights come out of it, ready for JSON."""
    return {
        one.name: list(value) if isinstance(value := getattr(schedule, one.name), tuple) else value
        for one in fields(schedule)
        if one.name not in WITHOUT_EFFECT
    }


def _require_one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"`{name}` must be one of {', '.join(allowed)}; got {value!r}.{suggest(str(value), allowed)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _require_count(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"`{name}` must be a whole number of at least {least}; got {value!r}.")


PAPER = TrainingSchedule(
    epochs=36, milestones=(24, 34), scale=1024, n_workers=4
)  # the defaults are the paper's in all else
SMALL = TrainingSchedule(
    optimizer="adamw",
    learning_rate=1e-3,
    weight_decay=0.05,
    batch_size=2,
    steps=600,
    warm_up_steps=50,
    decay="cosine",
    gradient_clip=10.0,
    channels_last=True,
    flips=("horizontal", "vertical"),
    quarter_turns=True,
    checkpoint_interval=200,
)
SCHEDULES = {"paper": PAPER, "small": SMALL}
