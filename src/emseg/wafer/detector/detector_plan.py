"""How a detector is trained: everything except the network and the data.

One step uses `batch_size` images in all, on however many processes they are spread. The learning rate grows linearly
from `WARM_UP_FACTOR` of its value over `warm_up_steps` steps and then either falls to a tenth at each of `milestones`
(epochs) or follows half a cosine down to `COSINE_FLOOR` of its value at the last step.

    PAPER   Sun et al., section 4.1: SGD with momentum 0.9 and weight decay 1e-4, 8 images a step, 36 epochs, learning
            rate 0.01, warm-up of 2000 steps, a tenth at epochs 24 and 34, images scaled to 1024. All else is mmdet's:
            the linear warm-up from 0.001, horizontal flips at 0.5, no images without sections.
    SMALL   for two cores: AdamW 1e-3, 2 images a step, cosine. Sections have any orientation on a wafer, so flips along
            both axes and quarter turns give images that could have been taken. Tiles without sections are trained on
            as well, or all else on a wafer may be found as one.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from emseg.checks import Count, CountOrZero, Items, Positive, validated
from emseg.errors import UsageError
from emseg.training.steps import Plan

WARM_UP_FACTOR = 0.001  # mmdet's schedules start here
MILESTONE_FACTOR = 0.1
COSINE_FLOOR = 0.01
BelowOne = Annotated[float, Field(ge=0, lt=1)]


@validated
class DetectorPlan(Plan):
    """A plan of `steps` optimizer steps or of `epochs` passes over the data; exactly one of the two is given.

    `scale` is the side to which images are resized, or None. `grey_jitter` is the largest change of brightness, as a
    fraction of the whole range, and of contrast, as a fraction of itself. `norm_batches` training batches, at most one
    per step, give the normalisations' means and variances after three quarters of the steps (Wu and Johnson 2021,
    "Precise BN"), with which the weights then learn to the end; 0 leaves their running averages, which a few batches
    of black tiles can shift. `empty_images` also trains on tiles without any section. `checkpoint_interval` counts in
    the unit of the plan: epochs or steps.
    """

    without_effect: ClassVar[tuple[str, ...]] = ("n_workers", "checkpoint_interval", "tensorboard")

    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: Positive = 0.01
    momentum: BelowOne = 0.9  # of SGD alone
    weight_decay: BelowOne = 1e-4
    batch_size: Count = 8
    epochs: Count | None = None
    steps: Count | None = None
    warm_up_steps: CountOrZero = 2000
    decay: Literal["milestones", "cosine"] = "milestones"
    milestones: Items[Count] = ()
    gradient_clip: Positive | None = None  # largest norm of the gradient
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    channels_last: bool = False
    scale: Annotated[int, Field(ge=32)] | None = None
    flips: Items[Literal["horizontal", "vertical"]] = ("horizontal",)
    quarter_turns: bool = False
    grey_jitter: BelowOne = 0.0
    norm_batches: CountOrZero = 0
    empty_images: bool = False
    checkpoint_interval: Count = 1
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.steps is None):
            raise UsageError(
                f"a plan is counted in `epochs` or in `steps`; got epochs={self.epochs}, steps={self.steps}. "
                "Give one and leave the other None."
            )
        if self.decay == "milestones" and self.milestones:
            if self.epochs is None:
                raise UsageError("`milestones` are epochs, so they need `epochs`. Use decay='cosine' with `steps`.")
            if list(self.milestones) != sorted(set(self.milestones)) or self.milestones[-1] >= self.epochs:
                raise UsageError(
                    f"`milestones` must rise from 1 to at most epochs - 1; got {self.milestones} with "
                    f"epochs={self.epochs}."
                )
        if self.steps is not None and self.warm_up_steps >= self.steps:
            raise UsageError(
                f"the warm-up must end before the training; got warm_up_steps={self.warm_up_steps}, steps={self.steps}."
                " Train longer or warm up for fewer steps."
            )

    def for_steps(self, steps: int) -> "DetectorPlan":
        """Return this plan with another number of steps, and a warm-up of a tenth of them at most."""
        return self.changed(steps=steps, warm_up_steps=min(self.warm_up_steps, max(1, steps // 10)))


PAPER = DetectorPlan(epochs=36, milestones=(24, 34), scale=1024, n_workers=4)  # else the defaults are the paper's
SMALL = DetectorPlan(
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
    norm_batches=100,
    empty_images=True,
    checkpoint_interval=200,
)
PLANS = {"paper": PAPER, "small": SMALL}
