"""The chapter "From one mean to sixteen frequencies": what attention reads, the best frequencies, costs.

**The single-frequency experiment.** FcaNet trained one network for each frequency (h, w), 0 <= h, w < 7, and kept the
sixteen best: FANet's Table 1, in order of merit. Repeated on other data, with S seeds each, it gives accuracies
a [frequency, seed]; only sixteen of the 49 have a rank, so no correlation over all 49 is taken.

    reliability    1 - MS_residual / MS_frequency of a two-way table with seeds as blocks: the fraction of the variance
                   of the seed means that is not seed noise (Cronbach's alpha; below 0 is chance and set to 0)
    noise ceiling  sqrt(reliability): the largest correlation that noisy means can be expected to have with any order
    advantage      mean of a over the listed frequencies - mean over the others
    order          Spearman's rank correlation of Table 1's order with a, over the listed ones only
    p              the fraction of random rearrangements that reach at least the measured value, the measured one
                   included; one-sided, since the paper states the direction

**What attention costs**, for this chapter and for benchmarks/channel_attention.py. The contenders take turns, round
after round, so that other programs disturb all of them alike; a time is the median over the rounds. What a device that
is not here would run, or what the plan leaves out, has no times: "not run".

    section      pooling     the mean; `dct_pool` (one read of the map); the product with stored cosines (FcaNet's code)
                 attention   pool, layers, sigmoid, scale: SE, ECA, FcaNet, FANet
                 training    whole steps of two networks with each attention, or none, in every block
    place        "stage 1" to "stage 4" of a ResNet-50, whose maps are attended; or the network that is trained
    ratio        time over that of the baseline, the contender measured in turns with it: the mean, or SE

Deviation: FANet trains the Mask R-CNN of mmdetection; torchvision's has the same parts and needs nothing more here.

Source: Qin et al. 2021 (FcaNet), section 4.2; Sun et al. 2021 (FANet), section 4.3, Table 1. Cronbach, "Coefficient
alpha and the internal structure of tests", Psychometrika 16 (1951) 297-334.
"""

import logging
import os
import re
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import compress
from typing import Annotated, Any, Literal, NamedTuple, get_args

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Float, Float64
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from pydantic import Field
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from chapters.dct_derivation import stage_sizes
from chapters.section_quality import LABELS, Accuracies, Accuracy, Frequency
from emseg.checks import Count, Items, require_count, validated
from emseg.errors import UsageError
from emseg.figures import PAGE_WIDTH_IN
from emseg.frequency import ATTENTIONS, RESNET18, RESNET50, ResNet, build_attention, dct_pool
from emseg.frequency.dct import PARTS, TOP16, dct2, dct_basis
from emseg.intervals import difference_over_seeds
from emseg.reported import DisplayTable, text_table
from emseg.runs.session import Run
from emseg.synthetic.wafer.section_crops import SECTION_CLASSES
from emseg.wording import MINUS

N_REARRANGEMENTS = 9999
COMPARISONS = {
    "se_minus_none": ("se", "none"),
    "eca_minus_se": ("eca", "se"),
    "fca_minus_se": ("fca", "se"),
    "fanet_minus_se": ("fanet", "se"),
    "fanet_minus_fcanet": ("fanet", "fca"),
    "ortho_minus_fanet": ("fanet_ortho", "fanet"),
    "fca_minus_ortho": ("fca", "fanet_ortho"),
    "own_minus_se": ("own", "se"),
}
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


class Tested(NamedTuple):
    """A statistic with the fraction `p` of random rearrangements that reach it, over a sample of `n`."""

    value: float
    p: float
    n: int


def attention_maps(network: nn.Module, images: Float[Tensor, "image _ _ _"]) -> list[Float[Tensor, "image _ _ _"]]:
    """Return the maps that reach the attention of each block, in the order of the blocks, without gradients.

    A block's attention is its submodule called `attention`, as in `emseg.frequency.resnet`.
    """
    found: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        found.append(inputs[0].detach().clone(memory_format=torch.contiguous_format))

    layers = [module for name, module in network.named_modules() if name.split(".")[-1] == "attention"]
    if not layers:
        raise UsageError("`network` must have blocks with a submodule `attention`; use emseg.frequency.resnet.ResNet.")
    hooks = [layer.register_forward_pre_hook(keep) for layer in layers]
    with torch.no_grad():
        network(images)
    for hook in hooks:
        hook.remove()
    return found


def mean_spectrum(maps: Float[Tensor, "image channel height width"]) -> Float[Tensor, "height width"]:
    """Return each frequency's fraction of the maps' variance: orthonormal components, squared; (0, 0) counts as 0."""
    power = dct2(maps.to(torch.float64), normalization="ortho").square().mean(dim=(0, 1))
    power[0, 0] = 0.0
    return power / power.sum().clamp(min=torch.finfo(torch.float64).tiny)


def effective_dimension(description: Float64[np.ndarray, "image channel"]) -> float:
    """Return how many independent numbers a description holds: (sum l)^2 / sum l^2 of its correlation matrix.

    `l` are the eigenvalues; 1 where all channels agree, the number of channels where they are uncorrelated. Channels
    that do not vary are left out.
    """
    correlation = np.corrcoef(description[:, description.std(axis=0) > 0], rowvar=False)
    return float(np.trace(correlation) ** 2 / np.square(correlation).sum())


def frequency_grid(step: int = 1) -> tuple[Frequency, ...]:
    """Return the pairs (h, w) with h and w in 0, step, 2 step, ... below 7, row by row."""
    axis = range(0, PARTS, require_count("step", step, 1, PARTS - 1))
    return tuple((h, w) for h in axis for w in axis)


def table1_ranks(frequencies: Sequence[Frequency]) -> NDArray[np.int64]:
    """Return the rank of each frequency in Table 1, 1 for the best, and 0 for those it does not list."""
    return np.array([TOP16.index(pair) + 1 if pair in TOP16 else 0 for pair in frequencies], dtype=np.int64)


def order_correlation(frequencies: Sequence[Frequency], accuracy: Accuracy, *, seed: int) -> Tested:
    """Return Spearman's correlation of Table 1's order with the mean accuracy, over the frequencies that it lists.

    1 where a better rank always means a better accuracy.
    """
    ranks = table1_ranks(frequencies)
    merit, means = _standard_ranks(-ranks[ranks > 0]), _standard_ranks(accuracy[ranks > 0].mean(axis=1))
    return _rearranged(lambda orders: merit[orders] @ means, len(means), seed)


def listed_advantage(frequencies: Sequence[Frequency], accuracy: Accuracy, *, seed: int) -> Tested:
    """Return by how much the frequencies of Table 1 are more accurate than the others, mean minus mean."""
    listed, means = table1_ranks(frequencies) > 0, accuracy.mean(axis=1)
    weights = np.where(listed, 1 / listed.sum(), -1 / (~listed).sum())
    return _rearranged(lambda orders: weights[orders] @ means, len(means), seed)


def reliability(accuracy: Accuracy) -> float:
    """Return the fraction of the variance of the frequencies' seed means that is not seed noise, from 0 to 1."""
    n_frequencies, n_seeds = accuracy.shape
    rows, columns = accuracy.mean(axis=1, keepdims=True), accuracy.mean(axis=0, keepdims=True)
    residual = accuracy - rows - columns + accuracy.mean()
    between = n_seeds * rows.var(ddof=1)
    within = np.square(residual).sum() / ((n_frequencies - 1) * (n_seeds - 1))
    return float(np.clip(1 - within / between, 0, 1)) if between > 0 else 0.0


def frequencies_differ(accuracy: Accuracy, *, seed: int) -> Tested:
    """Return the reliability, and how often accuracies shuffled within each seed reach it."""
    rng = np.random.default_rng(seed)
    shuffled = [reliability(rng.permuted(accuracy, axis=0)) for _ in range(N_REARRANGEMENTS // 10)]
    measured = reliability(accuracy)
    return Tested(measured, _fraction(np.array(shuffled), measured), accuracy.shape[0])


def significant_correlation(n: int, level: float = 0.05) -> float:
    """Return the smallest Spearman correlation over `n` ranks that is significant, one-sided, by Student's t."""
    if n < 3:
        return 1.0
    t = stats.t.ppf(1 - level, n - 2)
    return float(t / np.sqrt(n - 2 + t * t))


def mirror_gap(frequencies: Sequence[Frequency], accuracy: Accuracy) -> float:
    """Return the standard deviation of a - a' over pairs (h, w), (w, h) with h < w, divided by sqrt(2).

    Where the data look alike when rows and columns are exchanged, so must the accuracies: this is the noise of a mean.
    """
    means = dict(zip(frequencies, accuracy.mean(axis=1), strict=True))
    gaps = [means[h, w] - means[w, h] for h, w in frequencies if h < w and (w, h) in means]
    return float(np.sqrt(np.mean(np.square(gaps)) / 2))


def mirror_ceiling(frequencies: Sequence[Frequency]) -> float:
    """Return how well an order that treats (h, w) and (w, h) alike can agree with Table 1's, by Spearman.

    The mean rank of both stands for each; where one of the two has no rank, the other keeps its own.
    """
    ranks = dict(zip(frequencies, table1_ranks(frequencies).tolist(), strict=True))
    listed = [pair for pair in frequencies if ranks[pair]]
    own = np.array([ranks[pair] for pair in listed], dtype=np.float64)
    return spearman(own, (own + np.array([ranks.get((w, h)) or ranks[h, w] for h, w in listed])) / 2)


def spearman(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return Spearman's rank correlation, ties at their mean rank; 0 where one of the two is constant."""
    return float(_standard_ranks(a) @ _standard_ranks(b))


def _standard_ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the ranks with mean 0 and sum of squares 1, so that a product of two is Spearman's correlation."""
    ranks = stats.rankdata(values) - (len(values) + 1) / 2
    length = np.sqrt(ranks @ ranks)
    return np.asarray(ranks / length if length > 0 else ranks, dtype=np.float64)


def _rearranged(statistic: Callable[[NDArray[np.int64]], NDArray[np.float64]], n: int, seed: int) -> Tested:
    """Return the statistic of the order as it is; `statistic` takes orders [order, n] and gives a number for each."""
    as_it_is = np.arange(n)[None]
    measured = float(statistic(as_it_is)[0])
    orders = np.random.default_rng(seed).permuted(np.repeat(as_it_is, N_REARRANGEMENTS, axis=0), axis=1)
    return Tested(measured, _fraction(statistic(orders), measured), n)


def _fraction(rearranged: NDArray[np.float64], measured: float) -> float:
    return float((1 + (rearranged >= measured - 1e-12).sum()) / (1 + len(rearranged)))


def report_single_frequencies(run: Run, frequencies: tuple[Frequency, ...], found: Accuracies, *, seed: int) -> None:
    """Record how single frequencies compare with (0, 0) and with Table 1, and what the noise allows to conclude."""
    accuracy, n = found.single, len(frequencies)
    means, n_seeds, first = accuracy.mean(axis=1), accuracy.shape[1], frequencies.index((0, 0))
    differ = frequencies_differ(accuracy, seed=seed)
    advantage = listed_advantage(frequencies, accuracy, seed=seed)
    order = order_correlation(frequencies, accuracy, seed=seed)
    spread, seed_spread = accuracy[first].std(ddof=1), np.sqrt(accuracy.var(axis=1, ddof=1).mean())
    drop = means[first] - np.delete(means, first).mean()
    label = "Accuracy with (0,0) alone"
    run.metric("accuracy_mean_frequency", means[first], n=n_seeds, spread=spread, label=label)
    for name, value, size, label in (
        ("n_frequencies", n, n, "Single frequencies tried"),
        ("n_seeds", n_seeds, n_seeds, "Seeds of each single frequency"),
        ("worst_frequency_drop", means[first] - means.min(), n, "Accuracy of (0,0) minus the worst"),
        ("mean_frequency_drop", drop, n - 1, "Accuracy of (0,0) minus the mean of the others"),
        ("frequency_spread", means.std(ddof=1), n, "Spread of accuracy over frequencies"),
        ("seed_spread", seed_spread, accuracy.size, "Spread of accuracy over seeds, one frequency"),
        ("reliability", differ.value, n, "Fraction of the variance over frequencies that is not noise"),
        ("reliability_p", differ.p, n, "Chance of so high a fraction without any difference"),
        ("noise_ceiling", np.sqrt(differ.value), n, "Largest correlation that the noise allows"),
        ("mirror_noise", mirror_gap(frequencies, accuracy), n, "Noise of a mean from (h,w) against (w,h)"),
        ("listed_advantage", advantage.value, n, "Accuracy of Table 1's frequencies minus the others'"),
        ("listed_advantage_p", advantage.p, n, "Chance of so large an advantage without any difference"),
        ("n_listed", order.n, n, "Frequencies tried that Table 1 lists"),
        ("order_correlation", order.value, order.n, "Spearman's correlation, Table 1's order and accuracy"),
        ("order_correlation_p", order.p, order.n, "Chance of so high a correlation without any relation"),
        ("order_significant", significant_correlation(order.n), order.n, "Correlation that would be significant"),
        ("mirror_ceiling", mirror_ceiling(frequencies), order.n, "Largest correlation on rotated crops"),
    ):
        run.metric(name, value, n=size, label=label)


def report_comparison(run: Run, found: Accuracies, counts: Mapping[str, tuple[int, int]]) -> None:
    """Record the accuracy of each attention and the paired differences with their 95 % intervals."""
    for name, accuracies in found.compared.items():
        spread, label = float(np.std(accuracies, ddof=1)), f"Accuracy, {LABELS[name]}"
        run.metric(f"accuracy_{name}", float(np.mean(accuracies)), n=len(accuracies), spread=spread, label=label)
    n_seeds, n = len(found.compared["se"]), found.n_networks
    for metric, (name, other) in COMPARISONS.items():
        mean, *interval = paired_difference(found, name, other)
        label = f"Accuracy, {LABELS[name]} minus {LABELS[other]}"
        run.metric(metric, mean, n=n_seeds, interval=(interval[0], interval[1]), label=label)
        for end, which, value in zip(("low", "high"), ("lower", "upper"), interval, strict=True):
            run.metric(f"{metric}_{end}", value, n=n_seeds, label=f"{label}, {which} end of the interval")
    parameters, attention = counts["se"]
    ratio = counts["fanet"][1] / attention
    for name, value, size, label in (
        ("fanet_parameters_over_se", ratio, 1, "Parameters of FANet's attention over those of SE's"),
        ("attention_parameter_share", attention / parameters, 1, "SE's fraction of the parameters"),
        ("n_comparison", n_seeds, n_seeds, "Seeds of each attention"),
        ("n_networks", n, n, "Networks trained"),
        ("n_networks_kept", found.n_kept, n, "Of these, scores kept by an earlier run"),
        ("chance_accuracy", 1 / len(SECTION_CLASSES), 1, "Accuracy of guessing"),
    ):
        run.metric(name, value, n=size, label=label)
    run.metric("training_seconds", found.seconds_each, unit="s", n=n, label="Time to train one, median")


def paired_difference(found: Accuracies, name: str, other: str) -> tuple[float, float, float]:
    """Return the mean difference of two attentions, paired by seed, and the ends of its 95 % interval."""
    gap = difference_over_seeds(list(zip(found.compared[name], found.compared[other], strict=True)))
    if gap.interval is None:
        raise UsageError(f"an interval needs at least 3 seeds; got {gap.n}. Use more seeds.")
    return (gap.value, *gap.interval)


def comparison_table(found: Accuracies, counts: Mapping[str, tuple[int, int]]) -> DisplayTable:
    """Return the attentions, a row each: parameters, accuracy, and the difference from SE with its interval."""
    rows = {}
    for name, accuracies in found.compared.items():
        mean, low, high = (100 * value for value in paired_difference(found, name, "se"))
        accuracy = f"{100 * np.mean(accuracies):.1f} ± {100 * np.std(accuracies, ddof=1):.1f}"
        gap = "" if name == "se" else f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"
        cells = (LABELS[name], *(f"{n:,}" for n in counts[name]), accuracy, gap)
        rows[f"attention-{name}"] = [cell.replace("-", MINUS) for cell in cells]
    return text_table(
        f"Attentions on section quality, synthetic crops, {len(found.compared['se'])} seeds: held-out accuracy "
        "in % (mean ± standard deviation) and, paired by seed, the difference from SE in points (95 % interval, "
        "Student's t).",
        ("Attention", "Parameters", "of the attention", "Accuracy (%)", "Minus SE (points)"),
        rows,
    )


def plot_heat_map(frequencies: Sequence[Frequency], accuracy: Accuracy) -> Figure:
    """Draw accuracy minus that of (0, 0), and the spread over seeds, for each frequency; those not tried stay white.

    Framed and numbered: the frequencies of Table 1 and their ranks in it.
    """
    points = 100 * (accuracy.mean(axis=1) - accuracy[list(frequencies).index((0, 0))].mean())
    spread = 100 * accuracy.std(axis=1, ddof=1)
    bound = float(np.abs(points).max()) or 1.0
    figure, axes = plt.subplots(1, 2, figsize=(PAGE_WIDTH_IN, 3.7), sharey=True)
    panels: tuple[tuple[Any, str, str, dict[str, Any]], ...] = (
        (points, "accuracy minus that of (0,0)", "+.1f", {"cmap": "RdBu", "vmin": -bound, "vmax": bound}),
        (spread, "spread over seeds", ".1f", {"cmap": "YlOrBr", "vmin": 0, "vmax": max(bound, spread.max())}),
    )
    for axis, (values, title, digits, look) in zip(axes, panels, strict=True):
        plane = np.full((PARTS, PARTS), np.nan)
        plane[tuple(zip(*frequencies, strict=True))] = values
        shown = axis.imshow(plane, **look)
        dark = 0.65 * (bound if values is points else float(values.max()))
        for (h, w), value in zip(frequencies, values, strict=True):
            colour, text = "white" if abs(value) > dark else "black", f"{value:{digits}}".replace("-", MINUS)
            axis.text(w, h, text, ha="center", va="center", fontsize=7, color=colour)
        for rank, (h, w) in enumerate(TOP16, start=1):
            axis.add_patch(Rectangle((w - 0.46, h - 0.46), 0.92, 0.92, fill=False, edgecolor="black", lw=0.9))
            axis.text(w - 0.42, h - 0.26, str(rank), fontsize=5, color="black")
        axis.set(title=title, xlabel="w (across)")
        axis.spines[:].set_visible(False)
        figure.colorbar(shown, ax=axis, label="points", shrink=0.75)
    axes[0].set_ylabel("h (down)")
    return figure


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


def held_bytes(call: Call) -> int:
    """Return the most memory that torch's tensors on the CPU hold at a time while `call` runs, beyond that before."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or the profiler prints that it found no GPU
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        call()
    events = record.profiler.kineto_results.events()
    return int(np.cumsum([one.nbytes() for one in events if one.name() == "[memory]"]).max(initial=0))


def memory_fraction(call: Call, x: Tensor) -> float:
    """Return the most memory that a call holds at a time besides `x`, over the size of `x`."""
    if x.device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return float(torch.cuda.max_memory_allocated() - before) / x.nbytes
    return held_bytes(call) / x.nbytes


def stored_cosines(x: Tensor) -> Tensor:
    """Return the cosines of each channel's group as FcaNet's code keeps them, [channel, height, width]."""
    h, w = zip(*TOP16, strict=True)
    rows, columns = (dct_basis(n, k, normalization="mean") for n, k in zip(x.shape[2:], (h, w), strict=True))
    return (rows[:, :, None] * columns[:, None]).repeat_interleave(x.shape[1] // len(TOP16), dim=0).to(x)


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
    return [cost for setting in every for cost in _costs(setting, plan.for_device(setting.device), seed)]


def random_map(shape: tuple[int, ...], setting: Setting, generator: torch.Generator) -> Tensor:
    """Return a map of noise of this shape, in the setting's dtype and layout and on its device."""
    x = torch.randn(shape, generator=generator).to(setting.device, getattr(torch, setting.dtype))
    return x.contiguous(memory_format=torch.channels_last) if setting.layout == "channels last" else x


def _costs(setting: Setting, plan: CostPlan, seed: int) -> Iterator[Cost]:
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


def report_costs(run: Run, costs: Sequence[Cost]) -> None:
    """Record all ratios, the times of the baselines and the fractions of memory; of what was not run, nothing.

    NAME_ratio or NAME_ms (the baseline's) over all four stages, NAME_PLACE_ratio or _ms at one place (stage_1 to
    stage_4, classifier, mask_r_cnn), and NAME_memory and NAME_of_copy of poolings; NAME is that of the cost.
    """
    for cost in costs:
        section, title = cost.setting.section, f"{cost.label}, {cost.setting_text}"
        over = f"Time over that of {COST_LABELS.get(BASELINES[section], BASELINES[section])}"
        places: list[tuple[str, int | None]] = [(place, number) for number, place in enumerate(cost.setting.places)]
        for place, number in places if section == "training" else [("all stages", None), *places]:
            ms, ratio = cost.total_ms(number), cost.ratio(number)
            name = cost.name if number is None else f"{cost.name}_{re.sub(r'[^a-z0-9]+', '_', place.lower())}"
            if ms and cost.is_baseline:
                run.metric(f"{name}_ms", ms, unit="ms", n=cost.rounds, label=f"Time: {title}, {place}")
            elif ratio:
                run.metric(f"{name}_ratio", ratio, n=cost.rounds, label=f"{over}: {title}, {place}")
        for name, value, n, label in (
            ("memory", cost.memory, len(cost.ms), "Memory held besides the map, over its size"),
            ("of_copy", cost.of_copy, cost.rounds, "Bandwidth over a copy's"),
        ):
            if value is not None:
                run.metric(f"{cost.name}_{name}", value, n=n, label=f"{label}: {title}")


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
