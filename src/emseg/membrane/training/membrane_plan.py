"""How a membrane network is trained: everything except the network and the images.

One step uses `batch_size` crops in all, on however many devices they are spread. The learning rate eta of step t:

    constant   eta (t + 1) / w             for t < w (linear warm-up over w steps), then eta
    onecycle   eta / 25 -> eta             half a cosine over the first w steps, the last of them with eta, then
               eta -> eta / 250,000        half a cosine over the rest

    PAPER   Shi et al. 2022: Adam, focal + dice loss, patches of 1024, batch 4 on each of 8 GPUs. Its Table 1 with the
            learning rate and the number of steps could not be found: Adam's own 1e-3 is taken, and as many steps as
            50,000 patches need for 20 passes.
    SMALL   for two cores: a one-cycle schedule to 5e-3, which needs a tenth of the steps, and crops of 192.

Sources: Shi et al. 2022 (U-RISC); Smith and Topin 2018 (one cycle), with the numbers and the cosine of torch's
OneCycleLR. Deviation: Adam's momentum stays as it is; torch's default cycles it against the learning rate.
"""

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from emseg.checks import Count, CountOrZero, Fraction, NotNegative, Positive, validated
from emseg.errors import UsageError
from emseg.training.steps import Plan

START_DIVISOR, END_DIVISOR = 25.0, 1e4  # of the one-cycle schedule: its start, and of that its end
Side = Annotated[int, Field(ge=16)]


@validated
class Augmentation:
    """How much crops are changed (see `crop_sampling`).

    `rotation_degrees`, `zoom`: a warped crop is rotated by up to this angle in either direction and magnified by a
    factor from 1 / zoom to zoom. `bend_px`: standard deviation of the elastic displacement. `brightness`: largest
    change as a fraction of the whole range, `contrast`: of itself.
    """

    flips: bool = True
    quarter_turns: bool = True
    warp_probability: Fraction = 0.5
    rotation_degrees: Annotated[float, Field(ge=0, le=180)] = 180.0
    zoom: Annotated[float, Field(ge=1, le=4)] = 1.25
    bend_px: Annotated[float, Field(ge=0, le=50)] = 0.0
    brightness: Fraction = 0.1
    contrast: Fraction = 0.25

    def window_size(self, crop_size: int) -> int:
        """Return the side of the window around a crop that contains everything a warp may bring into it."""
        if not self.warp_probability:
            return crop_size
        angle = math.radians(min(self.rotation_degrees, 45.0))
        side = crop_size * self.zoom * (math.cos(angle) + math.sin(angle)) + 6 * self.bend_px
        return crop_size + 2 * math.ceil((side - crop_size) / 2)


NO_AUGMENTATION = Augmentation(
    flips=False, quarter_turns=False, warp_probability=0.0, rotation_degrees=0.0, zoom=1.0, brightness=0.0, contrast=0.0
)


@validated
class TrainingPlan(Plan):
    """A plan of `n_steps` optimizer steps of `batch_size` crops of `crop_size` pixels a side.

    `warm_up_steps`: steps until the learning rate has its full value. `gradient_clip`: largest norm of the gradient, 0
    for no limit. `precision`: "auto" is bf16 where the device computes in it, else fp32. `validate_every`: steps
    between two validations, 0 for none, in the central `validation_size` pixels of each image.
    """

    without_effect: ClassVar[tuple[str, ...]] = ("n_workers", "checkpoint_seconds", "validate_every", "validation_size")

    n_steps: Count = 10_000
    batch_size: Count = 4
    crop_size: Side = 1024
    learning_rate: Positive = 1e-3
    optimizer: Literal["adam", "adamw"] = "adam"
    weight_decay: NotNegative = 0.0
    schedule: Literal["onecycle", "constant"] = "constant"
    warm_up_steps: CountOrZero = 0
    gradient_clip: NotNegative = 0.0
    focal_gamma: NotNegative = 2.0
    dice_weight: NotNegative = 1.0
    boundary_weight: NotNegative = 0.0
    augmentation: Augmentation = Augmentation()
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"
    n_devices: Count = 1
    validate_every: CountOrZero = 1000
    validation_size: Side = 1024
    checkpoint_seconds: NotNegative = 60.0

    def __post_init__(self) -> None:
        if self.warm_up_steps >= self.n_steps:
            raise UsageError(
                f"the warm-up must end before the training; got warm_up_steps={self.warm_up_steps}, "
                f"n_steps={self.n_steps}. Train longer or warm up for fewer steps."
            )
        if self.batch_size % self.n_devices:
            raise UsageError(
                f"`batch_size` must divide evenly among devices; got batch_size={self.batch_size}, "
                f"n_devices={self.n_devices}. Use a multiple of {self.n_devices}."
            )

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step, from 0."""
        rate, warm_up = self.learning_rate, self.warm_up_steps
        if self.schedule == "constant":
            return rate * min(1.0, (step + 1) / warm_up) if warm_up else rate
        start, top = rate / START_DIVISOR, max(0, warm_up - 1)  # `top`: the step with the full rate
        if step < top:
            return _cosine(start, rate, step / top)
        return _cosine(rate, start / END_DIVISOR, (step - top) / max(1, self.n_steps - 1 - top))


def _cosine(begin: float, end: float, fraction: float) -> float:
    return end + (begin - end) / 2 * (1 + math.cos(math.pi * fraction))


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
