"""The chapter "Channel attention in the frequency domain": what attention reads, and which frequencies are best.

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

What attention costs in time is measured by `benchmarks/channel_attention.py`; the chapter measures memory alone.

Source: Qin et al. 2021 (FcaNet), section 4.2; Sun et al. 2021 (FANet), section 4.3, Table 1. Cronbach, "Coefficient
alpha and the internal structure of tests", Psychometrika 16 (1951) 297-334.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Float, Float64
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from chapters.drawing.diagrams import arrow, block, canvas, frame, note, operator, slab, stack
from chapters.section_quality import LABELS, Accuracies, Accuracy, Frequency
from emseg.checks import require_count
from emseg.errors import UsageError
from emseg.figures import COLOURS, PAGE_WIDTH_IN
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


class Tested(NamedTuple):
    """A statistic with the fraction `p` of random rearrangements that reach it, over a sample of `n`."""

    value: float
    p: float
    n: int


def plot_gate() -> Figure:
    """Draw FANet's gate inside a basic block of a ResNet: the shapes, and which equation each step is."""
    axis = canvas(PAGE_WIDTH_IN, 3.55)
    size: dict[str, Any] = {"width": 0.2, "height": 0.5, "depth": 0.5}
    y = 2.75
    given = slab(axis, 0.4, y, **size, colour="grey")
    convolved = block(axis, 1.55, y, "3 × 3 conv\nnorm, ReLU\n3 × 3 conv\nnorm", colour="grey")
    x = slab(axis, 2.75, y, **size, text="$X$:  $C × H × W$")
    times = operator(axis, 4.6, y, "×")
    weighted = slab(axis, 5.25, y, **size, text="$att_c\\,X_c$")
    plus = operator(axis, 6.0, y, "+")
    for start, end in ((given, convolved), (convolved, x), (x, times), (times, weighted), (weighted, plus)):
        arrow(axis, start.right, end.left)
    arrow(axis, plus.right, (PAGE_WIDTH_IN - 0.12, y), text="ReLU")
    arrow(axis, given.top, (given.x, 3.42), (plus.x, 3.42), plus.top)
    note(axis, 1.55, 3.35, "shortcut", size=7, va="top")
    shown = 6  # of the sixteen cosines
    rows, columns = (dct_basis(24, axis_indices) for axis_indices in zip(*TOP16[:shown], strict=True))
    pictures = [np.outer(row, column) for row, column in zip(rows, columns, strict=True)]
    frame(axis, 0.15, 0.12, 6.85, 1.98, "FANet's channel attention", colour="blue")
    cosines = stack(axis, 1.9, 0.95, pictures, side=0.5, step=(0.2, 0.07), colours=["blue"])
    note(axis, cosines.x, 0.22, "16 groups of channels, a cosine each (Eq. 4)", size=7, va="bottom")
    described = block(axis, 3.5, 0.95, "$F$: $C$ numbers\n(Eq. 5)", colour="blue")
    layers = block(axis, 4.85, 0.95, "fc: $C → C/16$\nReLU\nfc: $C/16 → C$", colour="orange")
    gate = block(axis, 6.12, 0.95, "sigmoid\n$att$: $C$ factors\n(Eq. 6)", colour="orange")
    arrow(axis, x.bottom, (x.x, 2.1), (cosines.x, 2.1), (cosines.x, cosines.bottom[1] + 0.73))
    for start, end in ((cosines, described), (described, layers), (layers, gate)):
        arrow(axis, start.right, end.left)
    arrow(axis, gate.top, (gate.x, 2.1), (times.x, 2.1), times.bottom)
    return axis.figure  # type: ignore[return-value]


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
    """Return how many independent numbers a description contains: (sum l)^2 / sum l^2 of its correlation matrix.

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
    label = "Accuracy with (0,0) alone"
    run.metric("accuracy_mean_frequency", means[first], n=n_seeds, spread=spread, label=label)
    listed = table1_ranks(frequencies) > 0
    for name, one, other, label in (
        ("worst_frequency_drop", [first], [means.argmin()], "Accuracy of (0,0) minus the worst"),
        ("mean_frequency_drop", [first], np.arange(n) != first, "Accuracy of (0,0) minus the mean of the others"),
        ("listed_advantage", listed, ~listed, "Accuracy of Table 1's frequencies minus the others'"),
    ):
        gap = difference_over_seeds(list(zip(accuracy[one].mean(axis=0), accuracy[other].mean(axis=0), strict=True)))
        run.metric(name, gap.value, n=n_seeds, interval=gap.interval, label=f"{label}, interval over seeds")
    for name, value, size, label in (
        ("n_frequencies", n, n, "Single frequencies tried"),
        ("n_seeds", n_seeds, n_seeds, "Seeds of each single frequency"),
        ("frequency_spread", means.std(ddof=1), n, "Spread of accuracy over frequencies"),
        ("seed_spread", seed_spread, accuracy.size, "Spread of accuracy over seeds, one frequency"),
        ("reliability", differ.value, n, "Fraction of the variance over frequencies that is not noise"),
        ("reliability_p", differ.p, n, "Chance of so high a fraction without any difference"),
        ("noise_ceiling", np.sqrt(differ.value), n, "Largest correlation that the noise allows"),
        ("mirror_noise", mirror_gap(frequencies, accuracy), n, "Noise of a mean from (h,w) against (w,h)"),
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


def plot_comparison(found: Accuracies, reference: str = "none") -> Figure:
    """Draw each attention's accuracy minus the reference's, seed by seed, with the mean and its 95 % interval."""
    names = [name for name in found.compared if name != reference]
    figure, axis = plt.subplots(figsize=(PAGE_WIDTH_IN, 2.9))
    axis.axvline(0, color=COLOURS["grey"], lw=0.8)
    for row, name in enumerate(names):
        gaps = 100 * (np.array(found.compared[name]) - found.compared[reference])
        mean, low, high = (100 * value for value in paired_difference(found, name, reference))
        axis.plot(gaps, np.full(len(gaps), row + 0.18), "o", ms=3, color=COLOURS["sky"])
        axis.plot([low, high], [row, row], color=COLOURS["blue"], lw=2)
        axis.plot(mean, row, "s", ms=5, color=COLOURS["blue"])
    axis.set_yticks(range(len(names)), labels=[LABELS[name] for name in names])
    axis.invert_yaxis()
    axis.set_xlabel(f"accuracy minus that of {LABELS[reference]} (points)")
    axis.grid(axis="x", color="#DDDDDD", lw=0.6)
    return figure


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


def held_bytes(call: Callable[[], object]) -> int:
    """Return the peak memory of torch's tensors on the CPU while `call` runs, beyond that before."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or the profiler prints that it found no GPU
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        call()
    events = record.profiler.kineto_results.events()
    return int(np.cumsum([one.nbytes() for one in events if one.name() == "[memory]"]).max(initial=0))


def stored_cosines(x: Tensor) -> Tensor:
    """Return the cosines of each channel's group as FcaNet's code keeps them, [channel, height, width]."""
    h, w = zip(*TOP16, strict=True)
    rows, columns = (dct_basis(n, k, normalization="mean") for n, k in zip(x.shape[2:], (h, w), strict=True))
    return (rows[:, :, None] * columns[:, None]).repeat_interleave(x.shape[1] // len(TOP16), dim=0).to(x)
