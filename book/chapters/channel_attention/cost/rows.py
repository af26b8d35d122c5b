"""What is measured, and the one form in which every time is kept: a row a contender at a place.

    section      pooling     the mean; `dct_pool` (one read of the map); the product with stored cosines (FcaNet's code)
                 attention   pool, layers, sigmoid, scale: SE, ECA, FcaNet, FANet
                 training    whole steps of two networks with each attention, or none, in every block
    place        "stage 1" to "stage 4" of a ResNet-50, whose maps are attended; or the network that is trained
    setting      device, dtype, layout, mode (eager or compiled), direction (forward, forward + backward, step)
    ratio        time over that of the `baseline`, the contender measured in turns with it: the mean, or SE

Rows of a device that is not here, or that the plan leaves out, are listed without times: "not run".
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from emseg.errors import UsageError, suggest
from emseg.frequency.attention import ATTENTIONS

DEVICES = ("cpu", "cuda")
SECTIONS = ("pooling", "attention", "training")
CLASSIFIER, DETECTOR = "classifier", "Mask R-CNN"
CHANNELS = (256, 512, 1024, 2048)  # of the four stages of a ResNet-50
SMALLEST_IMAGE = 224  # 7 pixels a side are left at the last stage, as many as Table 1's frequencies need

# A GPU is given more to do than a CPU, or the time to start its kernels is all that is seen.
GPU_BATCH, GPU_ROUNDS, GPU_TRAINING_SIZE = 4, 5, 4

POOLINGS = ("mean", "dct_pool", "stored cosines")
BASELINES = {"pooling": "mean", "attention": "se", "training": "se"}


@dataclass(frozen=True)
class CostPlan:
    """How much is measured, as for a CPU; `for_device` scales it for a GPU.

    `image_size` is the side of the image whose maps are pooled and attended, `training_size` that of the images of
    training steps; `batch` images at a time in both. Training steps, which are long, get a third of the `rounds`, but
    two where there are as many; those of Mask R-CNN are left out without `detector`. `n_threads` is the number of cores
    that torch may use, by default as many as it takes. On one core nothing waits for another core, so that programs
    beside disturb least.
    """

    image_size: int = 1024
    batch: int = 2
    rounds: int = 9
    training_size: int = 256
    sections: tuple[str, ...] = SECTIONS
    devices: tuple[str, ...] = DEVICES
    detector: bool = True
    n_threads: int | None = None

    def __post_init__(self) -> None:
        if self.batch < 1 or self.rounds < 1:
            raise UsageError(f"`rounds` and `batch` must be at least 1; got rounds={self.rounds}, batch={self.batch}.")
        if self.n_threads is not None and self.n_threads < 1:
            raise UsageError(f"`n_threads` must be at least 1, or None for all cores; got {self.n_threads}.")
        for name in ("image_size", "training_size"):
            if getattr(self, name) < SMALLEST_IMAGE:
                raise UsageError(
                    f"`{name}` must be at least {SMALLEST_IMAGE} pixels, or the last stage's maps are smaller than the "
                    f"frequencies need; got {getattr(self, name)}."
                )
        for name, allowed in (("sections", SECTIONS), ("devices", DEVICES)):
            for one in getattr(self, name):
                if one not in allowed:
                    raise UsageError(
                        f"`{name}` must be among {', '.join(allowed)}; got {one!r}.{suggest(one, allowed)}"
                    )

    def for_device(self, device: str) -> "CostPlan":
        """Return the plan for this device alone: a GPU gets larger batches and training images, and more rounds."""
        if device == "cpu":
            return replace(self, devices=(device,))
        return replace(
            self,
            devices=(device,),
            batch=GPU_BATCH * self.batch,
            rounds=GPU_ROUNDS * self.rounds,
            training_size=GPU_TRAINING_SIZE * self.training_size,
        )

    @property
    def training_rounds(self) -> int:
        """Rounds of the training steps."""
        return min(self.rounds, max(2, self.rounds // 3))


@dataclass(frozen=True)
class Setting:
    """All that the contenders of a comparison have in common but the place."""

    section: str
    device: str
    dtype: str = "float32"
    layout: str = "contiguous"
    mode: str = "eager"
    direction: str = "forward"

    @property
    def contenders(self) -> tuple[str, ...]:
        """Their names, the baseline among them."""
        if self.section == "training":
            return ATTENTIONS
        if self.section == "attention":
            return ATTENTIONS[1:]
        return POOLINGS if self.direction == "forward" else POOLINGS[:2]

    @property
    def places(self) -> tuple[str, ...]:
        """Where they are compared."""
        if self.section == "training":
            return CLASSIFIER, DETECTOR
        return tuple(f"stage {number}" for number, _ in enumerate(CHANNELS, start=1))


@dataclass(frozen=True)
class CostRow:
    """The time of one contender at one place, over that of the baseline; no times where it was not run.

    `memory_share` is the most that the call holds beside the map, over the size of the map; `of_copy`, on a GPU, the
    bandwidth at which the map is read over that of a copy of the map. Both are measured for poolings alone.
    """

    setting: Setting
    place: str
    shape: tuple[int, ...]
    variant: str
    baseline: str
    rounds: int
    ms: float | None = None
    ratio: float | None = None
    memory_share: float | None = None
    of_copy: float | None = None


def settings(section: str, device: str) -> Iterator[Setting]:
    """Yield the settings of a section on a device.

    On a CPU half precision and other layouts are measured forward only, and nothing is compiled.
    """
    both = ("forward", "forward + backward")
    if section == "training":
        yield Setting(section, device, direction="step")
    elif device == "cuda":
        for dtype in ("float32", "bfloat16"):
            for mode in ("eager", "compiled"):
                yield from (Setting(section, device, dtype, "contiguous", mode, way) for way in both)
    else:
        yield from (Setting(section, device, direction=way) for way in both)
    if section == "pooling":
        yield Setting(section, device, layout="channels last")
        if device == "cpu":
            yield Setting(section, device, dtype="bfloat16")
