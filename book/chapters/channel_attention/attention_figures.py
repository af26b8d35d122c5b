"""Figures of the chapter on channel attention: maps with one mean, what each channel group sees, spectra of maps.

Each function takes values and returns a matplotlib figure of the book's text width; `emseg.figures.style` sets the
look.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from emseg.figures import COLOURS, PAGE_WIDTH_IN
from emseg.frequency.dct import PARTS, TOP16, dct_basis, dct_coefficients

GROUPS_A_ROW = 8


def plot_one_mean(maps: Mapping[str, Float[Tensor, "size size"]]) -> Figure:
    """Draw maps and, below each, its sixteen components of Table 1; the first bar is the mean."""
    figure, (above, below) = plt.subplots(
        2, len(maps), figsize=(PAGE_WIDTH_IN, 3.4), gridspec_kw={"height_ratios": [1.25, 1]}, squeeze=True
    )
    for number, (title, drawn) in enumerate(maps.items()):
        above[number].imshow(drawn, cmap="gray", vmin=0, vmax=1)
        above[number].set_axis_off()
        above[number].set_title(f"{title}\nmean {float(drawn.mean()):.2f}")
        components = dct_coefficients(drawn[None], TOP16)[0]
        colours = [COLOURS["orange"], *[COLOURS["blue"]] * (len(TOP16) - 1)]
        below[number].bar(range(len(TOP16)), components, color=colours, width=0.85)
        below[number].axhline(0, color=COLOURS["grey"], lw=0.6)
        below[number].set_xticks([0, 4, 8, 12], labels=["1", "5", "9", "13"])
        below[number].set_ylim(-0.3, 0.6)
        below[number].sharey(below[0])
        below[number].tick_params(labelleft=number == 0)
    below[0].set_ylabel("component")
    for axis in below:
        axis.set_xlabel("entry of Table 1")
    return figure


def plot_channel_groups(maps: Float[Tensor, "group height width"], frequencies: Sequence[tuple[int, int]]) -> Figure:
    """Draw one map of each channel group, the cosine of the group below it, and what their product sums to.

    A map's grey ends are its own largest absolute value, so mid-grey is 0.
    """
    height, width = maps.shape[-2:]
    components = dct_coefficients(maps, frequencies).diagonal()
    scale = maps.square().mean(dim=(1, 2)).sqrt().clamp(min=1e-12)
    n_blocks = -(-len(frequencies) // GROUPS_A_ROW)
    figure, grid = plt.subplots(2 * n_blocks, GROUPS_A_ROW, figsize=(PAGE_WIDTH_IN, 2.15 * n_blocks), squeeze=False)
    for axis in grid.flat:
        axis.set_axis_off()
    for number, (h, w) in enumerate(frequencies):
        row, column = 2 * (number // GROUPS_A_ROW), number % GROUPS_A_ROW
        cosine = dct_basis(height, [h])[0][:, None] * dct_basis(width, [w])[0]
        largest = float(maps[number].abs().max()) or 1.0
        grid[row, column].imshow(maps[number], cmap="gray", vmin=-largest, vmax=largest)
        grid[row, column].set_title(f"({h},{w})", fontsize=8)
        grid[row + 1, column].imshow(cosine, cmap="gray", vmin=-1, vmax=1)
        grid[row + 1, column].set_axis_on()
        grid[row + 1, column].set(xticks=[], yticks=[])
        grid[row + 1, column].spines[:].set_visible(True)
        grid[row + 1, column].spines[:].set_color(COLOURS["grey"])
        share = f"{float(components[number] / scale[number]):+.2f}".replace("-", "\N{MINUS SIGN}")
        grid[row + 1, column].set_title(share, fontsize=8, color=COLOURS["blue"])
    return figure


def plot_spectra(spectra: Mapping[str, Float[Tensor, "height width"]], shown: int = PARTS) -> Figure:
    """Draw the lowest `shown` x `shown` shares of the variance of several kinds of maps, Table 1 marked with dots."""
    figure, axes = plt.subplots(1, len(spectra), figsize=(PAGE_WIDTH_IN, 2.9), sharey=True, squeeze=False)
    percent = {title: 100 * spectrum[:shown, :shown].numpy() for title, spectrum in spectra.items()}
    largest = max(float(values.max()) for values in percent.values())
    rows, columns = zip(*[pair for pair in TOP16 if max(pair) < shown], strict=True)
    for axis, (title, values) in zip(axes.flat, percent.items(), strict=True):
        floor = np.maximum(values, 1e-3 * largest)
        floor[0, 0] = np.nan
        image = axis.imshow(np.log10(floor), cmap="viridis", vmin=np.log10(1e-3 * largest), vmax=np.log10(largest))
        axis.plot(columns, rows, "o", ms=3.5, mfc="white", mec="black", mew=0.6)
        axis.set_title(title)
        axis.set_xlabel("w (across)")
    axes[0, 0].set_ylabel("h (down)")
    bar = figure.colorbar(image, ax=axes, label="share of the variance (%)", shrink=0.85)
    ticks = [tick for tick in (0.01, 0.1, 1, 10) if 1e-3 * largest <= tick <= largest]
    bar.set_ticks(list(np.log10(ticks)), labels=[f"{tick:g}" for tick in ticks])
    return figure


def plot_descriptions(descriptions: Mapping[str, Float[Tensor, "image channel"]]) -> Figure:
    """Draw how strongly the numbers of every two channels go together over images, a panel a description."""
    figure, axes = plt.subplots(1, len(descriptions), figsize=(PAGE_WIDTH_IN, 3.2), squeeze=False)
    for axis, (title, description) in zip(axes.flat, descriptions.items(), strict=True):
        correlation = np.corrcoef(description.numpy(), rowvar=False)
        image = axis.imshow(correlation, cmap="RdBu", vmin=-1, vmax=1)
        axis.set_title(title)
        axis.set_xlabel("channel")
    axes[0, 0].set_ylabel("channel")
    figure.colorbar(image, ax=axes, label="correlation over crops", shrink=0.85)
    return figure
