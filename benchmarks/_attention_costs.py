"""How long channel attention takes: who is compared in which setting, and the table of one section.

The contenders take turns, round after round, so that other programs disturb all of them alike; a time is the median
over the rounds. What a device that is not here would run, or what the plan leaves out, has no times: "not run".

    section      pooling     the mean; `dct_pool` (one read of the map); the product with stored cosines (FcaNet's code)
                 attention   pool, layers, sigmoid, scale: SE, ECA, FcaNet, FANet
                 training    whole steps of two networks with each attention, or none, in every block
    place        "stage 1" to "stage 4" of a ResNet-50, whose maps are attended; or the network that is trained
    ratio        time over that of the baseline, the contender measured in turns with it: the mean, or SE

Deviation: FANet trains the Mask R-CNN of mmdetection; torchvision's has the same parts and needs nothing more here.
"""

import logging
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import compress
from typing import Annotated, Any, Literal, get_args

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from chapters.channel_attention import held_bytes, stored_cosines
from chapters.dct_derivation import stage_sizes
from emseg.checks import Count, Items, require_count, validated
from emseg.errors import UsageError
from emseg.frequency import ATTENTIONS, RESNET18, RESNET50, ResNet, build_attention, dct_pool
from emseg.reported import DisplayTable, text_table

Call = Callable[[], object]
OfMap = Callable[[Tensor], Tensor]

Section = Literal["pooling", "attention", "training"]
Device = Literal["cpu", "cuda"]
SECTIONS: tuple[Section, ...] = get_args(Section)
DEVICES: tuple[Device, ...] = get_args(Device)
CLASSIFIER, DETECTOR, COPY = "classifier", "Mask R-CNN", "copy"
CHANNELS = (256, 512, 1024, 2048)  # of the four stages of a ResNet-50
POOLINGS = ("mean", "dct_pool", "stored cosines")
BASELINES = {"pooling": "mean", "attention": "se", "training": "se"}
LEAST_SECONDS, MOST_FACTOR = 0.05, 20  # short calls get more rounds until they were timed for so long, within limits
# A GPU is given more to do than a CPU, or only the time to start its kernels shows.
GPU_BATCH, GPU_ROUNDS, GPU_TRAINING_SIZE = 4, 5, 4
CALLS_PER_TURN = {"cpu": 1, "cuda": 10}  # a GPU's calls are queued, so that handing over the work does not count

COST_LABELS = {"none": "none", "se": "SE", "eca": "ECA", "fca": "FcaNet", "fanet": "FANet"}
COST_TITLES = {
    "pooling": "Pooling a map, compared with the mean",
    "attention": "Attending to a map (pool, layers, sigmoid, scale), compared with SE",
    "training": "A training step (forward, backward, SGD) with an attention in every block, compared with SE",
}
PixelsOfImage = Annotated[int, Field(ge=224)]  # 7 pixels a side are left at the last stage, as Table 1 needs


@validated
class CostPlan:
    """How much is measured, as for a CPU; `for_device` scales it for a GPU.

    `image_size` is the side of the image whose maps are pooled and attended, `training_size` that of training images.
    Training steps, which are long, get a third of the `rounds`, but two where there are as many; those of Mask R-CNN
    are left out without `detector`. `n_threads`: cores of torch, by default all; one is disturbed least.
    """

    image_size: PixelsOfImage = 1024
    batch: Count = 2
    rounds: Count = 9
    training_size: PixelsOfImage = 256
    sections: Items[Section] = SECTIONS
    devices: Items[Device] = DEVICES
    detector: bool = True
    n_threads: Count | None = None

    def for_device(self, device: str) -> "CostPlan":
        """Return the plan of this device: a GPU gets larger batches and training images, and more rounds."""
        if device == "cpu":
            return self
        gpu = {"batch": GPU_BATCH, "rounds": GPU_ROUNDS, "training_size": GPU_TRAINING_SIZE}
        return replace(self, **{name: factor * getattr(self, name) for name, factor in gpu.items()})

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
        if self.section == "pooling":
            return POOLINGS if self.direction == "forward" else POOLINGS[:2]
        return ATTENTIONS if self.section == "training" else ATTENTIONS[1:]

    @property
    def places(self) -> tuple[str, ...]:
        """Where they are compared."""
        return (CLASSIFIER, DETECTOR) if self.section == "training" else tuple(f"stage {n}" for n in (1, 2, 3, 4))

    @property
    def unusual(self) -> list[str]:
        """What differs from float32, contiguous and eager."""
        values = {"float32": self.dtype, "contiguous": self.layout, "eager": self.mode}
        return [value for usual, value in values.items() if value != usual]


@dataclass(frozen=True)
class Cost:
    """One contender in one setting: shape of the maps or images and times, place by place; None where it was not run.

    `baseline_ms` are the times of the baseline measured in turns with it. Of poolings: `memory` is the most that a call
    holds at a time besides the map, over the size of the map, at the place where that is largest, and `of_copy`, on a
    GPU, the bandwidth at which the maps are read over that of a copy.
    """

    setting: Setting
    variant: str
    rounds: int
    shapes: tuple[tuple[int, ...], ...]
    ms: tuple[float | None, ...]
    baseline_ms: tuple[float | None, ...]
    memory: float | None = None
    of_copy: float | None = None

    @property
    def is_baseline(self) -> bool:
        """Whether the others are compared with it."""
        return self.variant == BASELINES[self.setting.section]

    def total_ms(self, place: int | None = None) -> float | None:
        """Return the time at a place, by its number, or over all."""
        return _sum(self.ms if place is None else self.ms[place : place + 1])

    def ratio(self, place: int | None = None) -> float | None:
        """Return the time over the baseline's at a place or over all, where a large map counts as much as it takes."""
        ms, other = self.total_ms(place), replace(self, ms=self.baseline_ms).total_ms(place)
        return None if ms is None or other is None else ms / other

    @property
    def label(self) -> str:
        """The contender in words."""
        return COST_LABELS.get(self.variant, self.variant)

    @property
    def setting_text(self) -> str:
        """The setting in words; what is usual is left out."""
        way = ["+ backward"] if self.setting.direction == "forward + backward" else []
        return " ".join([self.setting.device.upper(), *self.setting.unusual, *way])

    @property
    def name(self) -> str:
        """A name in records, such as "cpu_pooling_backward", "cpu_fanet" or "cpu_se_step"."""
        short = {"dct_pool": "pooling", "stored cosines": "stored"}.get(self.variant, self.variant)
        way = {"forward": [], "forward + backward": ["backward"], "step": ["step"]}[self.setting.direction]
        return "_".join([self.setting.device, short, *self.setting.unusual, *way]).replace(" ", "_")


def settings(section: str, device: str) -> Iterator[Setting]:
    """Yield the settings of a section on a device; on a CPU nothing is compiled, half precision is forward only."""
    both = ("forward", "forward + backward")
    if section == "training":
        yield Setting(section, device, direction="step")
        return
    for dtype in ("float32", "bfloat16") if device == "cuda" else ("float32",):
        for mode in ("eager", "compiled") if device == "cuda" else ("eager",):
            yield from (Setting(section, device, dtype, mode=mode, direction=way) for way in both)
    if section == "pooling":
        yield Setting(section, device, layout="channels last")
        if device == "cpu":
            yield Setting(section, device, dtype="bfloat16")


def median_times(
    calls: Mapping[str, Call],
    rounds: int,
    *,
    calls_per_turn: int = 1,
    least_seconds: float = LEAST_SECONDS,
    n_threads: int | None = None,
    clock: Callable[[], float] | None = None,
) -> tuple[dict[str, float], int]:
    """Return the median time of each call in ms, and the number of rounds; in each round every call has its turn.

    A turn is at least two calls that do not count, then `calls_per_turn` that do. Rounds go on, up to `MOST_FACTOR`
    times as many, until all calls together have been timed for `least_seconds`: one interruption takes longer than
    many short calls. A GPU has finished its work before the clock is read.
    """
    require_count("rounds", rounds)
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns of a CUDA toolkit without a GPU
    from torch.utils.benchmark import Timer, timer

    options: dict[str, Any] = {"timer": clock or timer, "num_threads": n_threads or torch.get_num_threads()}
    timers = {name: Timer("call()", globals={"call": call}, **options) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    total, number = 0.0, 0
    while number < rounds or (total < least_seconds and number < MOST_FACTOR * rounds):
        number += 1
        for name, one in timers.items():
            times[name].append(one.timeit(calls_per_turn).median)
            total += times[name][-1] * calls_per_turn
    return {name: 1000 * statistics.median(values) for name, values in times.items()}, number


def memory_fraction(call: Call, x: Tensor) -> float:
    """Return the most memory that a call holds at a time besides `x`, over the size of `x`."""
    if x.device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return float(torch.cuda.max_memory_allocated() - before) / x.nbytes
    return held_bytes(call) / x.nbytes


def contenders(setting: Setting, stage: int, x: Tensor) -> dict[str, OfMap]:
    """Return the functions that are compared on the map `x` of a stage, by name."""
    functions: dict[str, OfMap]
    if setting.section == "attention":
        layers = {name: build_attention(name, x.shape[1], stage=stage) for name in setting.contenders}
        functions = {name: layer.to(x.device, x.dtype) for name, layer in layers.items()}
    else:
        functions = {"mean": partial(functional.adaptive_avg_pool2d, output_size=1), "dct_pool": dct_pool}
        if "stored cosines" in setting.contenders:
            cosines = stored_cosines(x)
            functions["stored cosines"] = lambda x: (x * cosines).sum((2, 3))  # writes a product as large as the map
    if setting.mode == "compiled":
        return {name: torch.compile(function, dynamic=False) for name, function in functions.items()}
    return functions


def forward(function: OfMap, x: Tensor) -> Call:
    """Return the call of a function on a map, without gradients."""
    return torch.no_grad()(partial(function, x))


def forward_and_backward(function: OfMap, x: Tensor) -> Call:
    """Return forward and backward with respect to the map; the gradient that comes back is prepared once."""
    x = x.detach().requires_grad_()
    came = torch.ones_like(function(x))
    return lambda: torch.autograd.grad(function(x), x, came)


def mask_rcnn(backbone: ResNet, side: int) -> nn.Module:
    """Return torchvision's Mask R-CNN; few proposals, so that the backbone, which differs, is not lost in the heads."""
    from torchvision.models.detection import MaskRCNN  # 1.5 s to import: only who measures training steps pays
    from torchvision.models.detection.backbone_utils import BackboneWithFPN

    stages = {f"layer{number}": str(number - 1) for number in (1, 2, 3, 4)}
    pyramid = BackboneWithFPN(backbone, stages, list(backbone.design.out_channels), 256)
    few = {"rpn_post_nms_top_n_train": 100, "box_batch_size_per_image": 16}
    return MaskRCNN(pyramid, num_classes=5, min_size=side, max_size=side, **few)  # type: ignore[no-any-return]


def four_squares(side: int, device: torch.device) -> dict[str, Tensor]:
    """Return four objects of different classes, as torchvision's detectors take them."""
    corners = torch.tensor([[0.1, 0.1], [0.5, 0.1], [0.1, 0.5], [0.5, 0.5]], device=device) * side
    boxes = torch.cat([corners, corners + 0.3 * side], dim=1).round()
    masks = torch.zeros(4, side, side, dtype=torch.uint8, device=device)
    for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
        mask[top:bottom, left:right] = 1
    return {"boxes": boxes, "labels": torch.arange(1, 5, device=device), "masks": masks}


def training_step(place: str, attention: str, images: Tensor) -> Call:
    """Return forward, loss, backward and SGD of a network with this attention in every block, on `images`.

    The images are noise, for what a step costs hardly depends on what is learned.
    """
    side, device = images.shape[-1], images.device
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn from the global state
        torch.random.manual_seed(0)
        backbone = ResNet({"cpu": RESNET18, "cuda": RESNET50}[device.type], attention)
        network = (mask_rcnn(backbone, side) if place == DETECTOR else backbone).to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9)
    classes, objects = torch.arange(len(images), device=device), [four_squares(side, device)] * len(images)

    def step() -> None:
        optimizer.zero_grad()
        if place == DETECTOR:
            loss = torch.stack(list(network(list(images), objects).values())).sum()
        else:
            loss = functional.cross_entropy(network(images), classes)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def measure_costs(plan: CostPlan, *, seed: int = 0) -> list[Cost]:
    """Return the costs of the plan, section by section, device by device; those that are not run have no times."""
    every = [setting for section in plan.sections for device in plan.devices for setting in settings(section, device)]
    return [cost for setting in every for cost in _measured(setting, plan.for_device(setting.device), seed)]


def random_map(shape: tuple[int, ...], setting: Setting, generator: torch.Generator) -> Tensor:
    """Return a map of noise of this shape, in the setting's dtype and layout and on its device."""
    x = torch.randn(shape, generator=generator).to(setting.device, getattr(torch, setting.dtype))
    return x.contiguous(memory_format=torch.channels_last) if setting.layout == "channels last" else x


def _measured(setting: Setting, plan: CostPlan, seed: int) -> Iterator[Cost]:
    generator, training = torch.Generator().manual_seed(seed), setting.section == "training"
    pooling = setting.section == "pooling" and setting.direction == "forward"
    rounds, per_turn = (plan.training_rounds, 1) if training else (plan.rounds, CALLS_PER_TURN[setting.device])
    sides = [plan.training_size] * 2 if training else stage_sizes(plan.image_size)
    shapes = tuple((plan.batch, 3 if training else CHANNELS[number], side, side) for number, side in enumerate(sides))
    times: list[dict[str, float]] = []
    n_rounds: list[int] = []
    memory = dict.fromkeys(setting.contenders, 0.0)
    for number, place in enumerate(setting.places):
        here = setting.device == "cpu" or torch.cuda.is_available()
        if not here or (place == DETECTOR and not plan.detector):
            times.append({})
            continue
        x = random_map(shapes[number], setting, generator)
        if training:
            calls = {attention: training_step(place, attention, x) for attention in setting.contenders}
        else:
            prepare = forward if setting.direction == "forward" else forward_and_backward
            calls = {name: prepare(function, x) for name, function in contenders(setting, number + 1, x).items()}
        copy: dict[str, Call] = {COPY: x.clone} if pooling and setting.device == "cuda" else {}
        ms_here, n_here = median_times(calls | copy, rounds, calls_per_turn=per_turn, n_threads=plan.n_threads)
        times.append(ms_here)
        n_rounds.append(n_here)
        if pooling:
            memory = {name: max(most, memory_fraction(calls[name], x)) for name, most in memory.items()}
    for name in setting.contenders:
        every = (name, BASELINES[setting.section], COPY)
        ms, baseline_ms, copied = (tuple(one.get(which) for one in times) for which in every)
        total, of_copies = _sum(ms), _sum(copied)
        held = memory[name] if pooling and total else None
        of_copy = of_copies / 2 / total if of_copies and total else None  # a copy reads and writes
        yield Cost(setting, name, min(n_rounds, default=rounds), shapes, ms, baseline_ms, held, of_copy)


def _sum(times: Sequence[float | None]) -> float | None:
    return None if None in times else sum(filter(None, times))


def cost_table(costs: Sequence[Cost], section: str) -> DisplayTable:
    """Return the table of one section: a row for each setting and contender, a column for each place.

    The baseline shows its time, every other contender its ratio; "all" holds the ratio of the sums over the stages.
    """
    chosen = [cost for cost in costs if cost.setting.section == section]
    if not chosen:
        raise UsageError(f"nothing was measured of the section {section!r}; measure a plan that holds it.")
    ran = {cost.setting.device for cost in chosen if any(cost.ms)}
    copied = any(cost.of_copy for cost in chosen)
    more = {"all": section != "training", "memory": section == "pooling", "of copy": copied}
    lines = {}
    for cost in chosen:
        cells = [_time(cost, number) for number in range(len(cost.ms))]
        last = [_time(cost), *(f"{value:.2f}" if value else "" for value in (cost.memory, cost.of_copy))]
        cells += compress(last, more.values())
        if cost.setting.device in ran:
            lines["cost-" + cost.name.replace("_", "-")] = [cost.setting_text, cost.label, *cells]
        else:  # one line for all settings of a device that was not run
            lines[f"cost-{cost.setting.device}-{section}"] = [cost.setting.device.upper(), "all", *cells]
    header = ("Setting", "Contender", *chosen[0].setting.places, *compress(more, more.values()))
    return text_table(_caption([cost for cost in chosen if any(cost.ms)] or chosen, section), header, lines)


def _time(cost: Cost, place: int | None = None) -> str:
    ms, ratio = cost.total_ms(place), cost.ratio(place)
    if ms is None or ratio is None:
        return "not run"
    if not cost.is_baseline:
        return f"{ratio:.2f} ×"
    return f"{ms:,.0f} ms" if ms >= 100 else f"{ms:.2g} ms"


def _caption(costs: Sequence[Cost], section: str) -> str:
    shapes = dict.fromkeys(" × ".join(map(str, shape[1:])) for cost in costs for shape in cost.shapes)
    per_device = sorted({cost.setting.device.upper(): cost for cost in reversed(costs)}.items())
    batches = ", ".join(f"{cost.shapes[0][0]} on {device}" for device, cost in per_device)
    rounds = ", ".join(f"{cost.rounds} on {device}" for device, cost in per_device)
    usual, maps = "Forward, float32, contiguous and eager unless stated", "Maps"
    memory = " Memory: the most that a call holds besides the map, over the size of the map."
    if section == "training":
        usual, maps = "Float32", "Images"
    return (
        f"{COST_TITLES[section]}. {usual}; × is the time over that of the contender whose time is given. {maps} of "
        f"{', '.join(shapes)}, batch {batches}; medians over rounds in turns, at least {rounds}."
        f"{memory if section == 'pooling' else ''} Not run: no such device here, or left out."
    )
