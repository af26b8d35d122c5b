"""The chapter "From one mean to sixteen frequencies": what attention reads, the best frequencies, figures.

**What attention reads.** Maps [image, channel, height, width] behind the last normalisation of a block, before the
residual sum, and descriptions [image, channel]: one number a channel, its mean (SE) or one component (FANet).

**The single-frequency experiment.** FcaNet trained one network for each frequency (h, w), 0 <= h, w < 7, and kept the
sixteen best: FANet's Table 1, in order of merit. Repeated on other data, with S seeds each, the experiment gives
accuracies a [frequency, seed]. Three questions:

    do frequencies differ at all?     reliability = 1 - MS_residual / MS_frequency of a two-way table; seeds are blocks
    does Table 1 hold the best?       advantage   = mean of a over the listed frequencies - mean over the others
    does its order carry over?        Spearman's rank correlation of Table 1's order with a, over the listed ones only

    reliability    the fraction of the variance of the seed means that is not seed noise, 0 where all of it may be
                   (Cronbach's alpha, which is the mean over all split halves; below 0 is chance and set to 0)
    noise ceiling  sqrt(reliability): the largest correlation that noisy means can be expected to have with any order

Only sixteen of the 49 have a rank, so no correlation over all 49 is taken. A p value is the fraction of random
rearrangements that reach at least the measured value, the measured one included; one-sided, since the paper states the
direction. Where the ceiling is below the correlation that would be significant, the experiment is too noisy to decide.

Source: Qin et al. 2021 (FcaNet), section 4.2; Sun et al. 2021 (FANet), section 4.3, Table 1. Cronbach, "Coefficient
alpha and the internal structure of tests", Psychometrika 16 (1951) 297-334.
"""

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

from chapters.section_quality import LABELS, Accuracies, Accuracy, Frequency
from emseg.checks import require_count
from emseg.errors import UsageError
from emseg.figures import COLOURS, PAGE_WIDTH_IN, show_image
from emseg.frequency.dct import PARTS, TOP16, dct2, dct_basis, dct_coefficients
from emseg.intervals import difference_over_seeds
from emseg.reported.display import DisplayTable, Shown
from emseg.runs.session import Run
from emseg.synthetic.wafer.section_crops import SECTION_CLASSES, CropSet
from emseg.wording import MINUS

N_REARRANGEMENTS = 9999
GROUPS_A_ROW = 8
SEED_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
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


def maps_of_one_mean(size: int) -> dict[str, Float[Tensor, "size size"]]:
    """Return four drawings of maps, all with the mean one half, that differ in where they are bright."""
    place = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    down, across = place[:, None].expand(size, size), place[None, :].expand(size, size)
    band = 0.5 * torch.exp(-(((down - across) / 0.12) ** 2))
    return {
        "even": torch.full((size, size), 0.5, dtype=torch.float64),
        "brighter to the left": 1.0 - across,
        "a fold across": band - band.mean() + 0.5,
        "stripes": 0.5 + 0.5 * torch.cos(6 * torch.pi * down),
    }


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
    seed_spread = np.sqrt(accuracy.var(axis=1, ddof=1).mean())
    drop = means[first] - np.delete(means, first).mean()
    run.metric(
        "accuracy_mean_frequency",
        means[first],
        n=n_seeds,
        spread=accuracy[first].std(ddof=1),
        label="Accuracy with (0,0) alone",
    )
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
    for metric, (name, other) in COMPARISONS.items():
        mean, low, high = paired_difference(found, name, other)
        n, label = len(found.compared[name]), f"Accuracy, {LABELS[name]} minus {LABELS[other]}"
        run.metric(metric, mean, n=n, interval=(low, high), label=label)
        run.metric(f"{metric}_low", low, n=n, label=f"{label}, lower end of the interval")
        run.metric(f"{metric}_high", high, n=n, label=f"{label}, upper end of the interval")
    parameters, attention = counts["se"]
    n_seeds, n_networks = len(found.compared["se"]), found.n_networks
    ratio = counts["fanet"][1] / attention
    run.metric("fanet_parameters_over_se", ratio, n=1, label="Parameters of FANet's attention over those of SE's")
    run.metric("attention_parameter_share", attention / parameters, n=1, label="SE's fraction of the parameters")
    run.metric("n_comparison", n_seeds, n=n_seeds, label="Seeds of each attention")
    run.metric("n_networks", n_networks, n=n_networks, label="Networks trained")
    run.metric("n_networks_kept", found.n_kept, n=n_networks, label="Of these, scores kept by an earlier run")
    run.metric("training_seconds", found.seconds_each, unit="s", n=n_networks, label="Time to train one, median")
    run.metric("chance_accuracy", 1 / len(SECTION_CLASSES), n=1, label="Accuracy of guessing")


def paired_difference(found: Accuracies, name: str, other: str) -> tuple[float, float, float]:
    """Return the mean difference of two attentions, paired by seed, and the ends of its 95 % interval."""
    gap = difference_over_seeds(list(zip(found.compared[name], found.compared[other], strict=True)))
    if gap.interval is None:
        raise UsageError("an interval needs at least 2 seeds; got 1. Use more seeds.")
    return (gap.value, *gap.interval)


def comparison_table(found: Accuracies, counts: Mapping[str, tuple[int, int]]) -> DisplayTable:
    """Return the attentions, a row each: parameters, accuracy, and the difference from SE with its interval."""
    rows = []
    for name, accuracies in found.compared.items():
        mean, low, high = (100 * value for value in paired_difference(found, name, "se"))
        cells = (
            LABELS[name],
            f"{counts[name][0]:,}",
            f"{counts[name][1]:,}",
            f"{100 * np.mean(accuracies):.1f} ± {100 * np.std(accuracies, ddof=1):.1f}",
            "" if name == "se" else f"{mean:+.1f} ({low:+.1f} to {high:+.1f})",
        )
        rows.append(tuple(Shown(cell.replace("-", MINUS)) for cell in cells))
    return DisplayTable(
        caption=f"Attentions on section quality, synthetic crops, {len(found.compared['se'])} seeds: held-out accuracy "
        "in % (mean ± standard deviation) and, paired by seed, the difference from SE in points (95 % interval, "
        "Student's t).",
        header=("Attention", "Parameters", "of the attention", "Accuracy (%)", "Minus SE (points)"),
        rows=tuple(rows),
        css_class="emseg-metrics",
        row_ids=tuple(f"attention-{name}" for name in found.compared),
    )


def plot_crops(crops: CropSet, n_each: int = 5) -> Figure:
    """Draw the first crops of each class, a row a class."""
    n_classes = len(SECTION_CLASSES)
    figure, grid = plt.subplots(n_classes, n_each, figsize=(PAGE_WIDTH_IN, 1.38 * n_classes + 0.2), squeeze=False)
    for label, axes in enumerate(grid):
        for axis, image in zip(axes, crops.images[crops.labels == label], strict=False):
            show_image(axis, image, crops.pixel_size_nm if axis is grid[-1, 0] else None, grey_range=(0, 255))
        axes[0].set_title(SECTION_CLASSES[label], loc="left")
    return figure


def plot_one_mean(maps: Mapping[str, Float[Tensor, "size size"]]) -> Figure:
    """Draw maps and, below each, its sixteen components of Table 1; the first bar is the mean."""
    figure, (above, below) = plt.subplots(
        2, len(maps), figsize=(PAGE_WIDTH_IN, 3.4), sharey="row", gridspec_kw={"height_ratios": [1.25, 1]}
    )
    colours = [COLOURS["orange"], *[COLOURS["blue"]] * (len(TOP16) - 1)]
    for image, bars, (title, drawn) in zip(above, below, maps.items(), strict=True):
        image.imshow(drawn, cmap="gray", vmin=0, vmax=1)
        image.set_axis_off()
        image.set_title(f"{title}\nmean {float(drawn.mean()):.2f}")
        bars.bar(range(len(TOP16)), dct_coefficients(drawn[None], TOP16)[0], color=colours, width=0.85)
        bars.axhline(0, color=COLOURS["grey"], lw=0.6)
        bars.set_xticks([0, 4, 8, 12], labels=["1", "5", "9", "13"])
        bars.set(ylim=(-0.3, 0.6), xlabel="entry of Table 1")
    below[0].set_ylabel("component")
    return figure


def plot_channel_groups(maps: Float[Tensor, "group height width"], frequencies: Sequence[Frequency]) -> Figure:
    """Draw one map of each channel group, the cosine of the group below it, and what their product sums to.

    Black and white are a map's own largest absolute value, so that mid-grey is 0.
    """
    fractions = dct_coefficients(maps, frequencies).diagonal() / maps.square().mean(dim=(1, 2)).sqrt().clamp(min=1e-12)
    n_blocks = -(-len(frequencies) // GROUPS_A_ROW)
    figure, grid = plt.subplots(2 * n_blocks, GROUPS_A_ROW, figsize=(PAGE_WIDTH_IN, 2.15 * n_blocks), squeeze=False)
    for axis in grid.flat:
        axis.set_axis_off()
    for number, (h, w) in enumerate(frequencies):
        row, column = 2 * (number // GROUPS_A_ROW), number % GROUPS_A_ROW
        above, below = grid[row, column], grid[row + 1, column]
        largest = float(maps[number].abs().max()) or 1.0
        above.imshow(maps[number], cmap="gray", vmin=-largest, vmax=largest)
        above.set_title(f"({h},{w})", fontsize=8)
        down, across = dct_basis(maps.shape[1], [h])[0], dct_basis(maps.shape[2], [w])[0]
        below.imshow(torch.outer(down, across), cmap="gray", vmin=-1, vmax=1)
        below.set_axis_on()
        below.set(xticks=[], yticks=[])
        below.spines[:].set(visible=True, color=COLOURS["grey"])
        below.set_title(f"{float(fractions[number]):+.2f}".replace("-", MINUS), fontsize=8, color=COLOURS["blue"])
    return figure


def plot_spectra(spectra: Mapping[str, Float[Tensor, "height width"]], shown: int = PARTS) -> Figure:
    """Draw the fractions of the variance at the lowest frequencies for several kinds of maps, Table 1 as dots."""
    figure, axes = plt.subplots(1, len(spectra), figsize=(PAGE_WIDTH_IN, 2.9), sharey=True, squeeze=False)
    percent = {title: 100 * spectrum[:shown, :shown].numpy() for title, spectrum in spectra.items()}
    largest = max(float(values.max()) for values in percent.values())
    rows, columns = zip(*[pair for pair in TOP16 if max(pair) < shown], strict=True)
    for axis, (title, values) in zip(axes.flat, percent.items(), strict=True):
        floor = np.maximum(values, 1e-3 * largest)
        floor[0, 0] = np.nan
        image = axis.imshow(np.log10(floor), cmap="viridis", vmin=np.log10(1e-3 * largest), vmax=np.log10(largest))
        axis.plot(columns, rows, "o", ms=3.5, mfc="white", mec="black", mew=0.6)
        axis.set(title=title, xlabel="w (across)")
    axes[0, 0].set_ylabel("h (down)")
    bar = figure.colorbar(image, ax=axes, label="fraction of the variance (%)", shrink=0.85)
    ticks = [tick for tick in (0.01, 0.1, 1, 10) if 1e-3 * largest <= tick <= largest]
    bar.set_ticks(list(np.log10(ticks)), labels=[f"{tick:g}" for tick in ticks])
    return figure


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


def plot_order(frequencies: Sequence[Frequency], accuracy: Accuracy) -> Figure:
    """Draw accuracy against the rank in Table 1, each seed and the mean; frequencies without a rank at the right."""
    ranks = table1_ranks(frequencies)
    order = np.cumsum(ranks == 0) - 1.0
    places = np.where(ranks > 0, ranks, 18 + 4 * order / max(1.0, order.max()))
    figure, axis = plt.subplots(figsize=(PAGE_WIDTH_IN, 3.2))
    axis.axvspan(17, 23, color=COLOURS["grey"], alpha=0.10, lw=0)
    for number, values in enumerate(100 * accuracy.T):
        marker = SEED_MARKERS[number % len(SEED_MARKERS)]
        axis.plot(places, values, marker, ms=3.5, color=COLOURS["sky"], alpha=0.8)
    axis.plot(places, 100 * accuracy.mean(axis=1), "_", ms=13, mew=2, color=COLOURS["blue"], label="mean over seeds")
    axis.hlines(
        [100 * accuracy[ranks > 0].mean(), 100 * accuracy[ranks == 0].mean()],
        [0.5, 17.3],
        [16.5, 22.7],
        color=COLOURS["vermilion"],
        lw=1.2,
        label="mean of the group",
    )
    axis.set_xticks([1, 4, 8, 12, 16, 20], labels=["1", "4", "8", "12", "16", "not listed"])
    axis.set(xlabel="rank in Table 1", ylabel="held-out accuracy (%)")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def plot_comparison(compared: Mapping[str, Sequence[float]]) -> Figure:
    """Draw the accuracy of each attention, a line for each seed, with the means."""
    values, rows = 100 * np.array(list(compared.values())), np.arange(len(compared))
    figure, axis = plt.subplots(figsize=(PAGE_WIDTH_IN, 3.2))
    for number, column in enumerate(values.T):
        marker = SEED_MARKERS[number % len(SEED_MARKERS)]
        axis.plot(column, rows, "-" + marker, ms=4, lw=0.7, color=COLOURS["grey"], alpha=0.7, label=f"seed {number}")
    axis.plot(values.mean(axis=1), rows, "|", ms=18, mew=2.5, color=COLOURS["vermilion"], ls="none", label="mean")
    axis.set_yticks(rows, labels=[LABELS[name] for name in compared])
    axis.invert_yaxis()
    axis.set_xlabel("held-out accuracy (%)")
    axis.grid(axis="x", color="#DDDDDD", lw=0.6)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return figure
