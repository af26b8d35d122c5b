"""Figures of the chapter "DCT derivation": cosines, the rebuilt sequence, the gallery, the ghost of Eq. 2, gates,
indices.

Each function takes values and returns a matplotlib figure of the book's text width; `emseg.figures.style` sets the
look.
"""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from chapters.dct_derivation.normalization import GateStart
from emseg.figures import COLOURS, PAGE_WIDTH_IN
from emseg.frequency.dct import PARTS, TOP16, dct_basis, idct2, scaled_index

FINE = 400  # points of a curve


def _cosine(frequency: int, position: Float[Tensor, " point"], size: int) -> Float[Tensor, " point"]:
    """Return cos(pi k (2u + 1) / 2N) at any real position u."""
    return torch.cos(torch.pi * frequency * (2 * position + 1) / (2 * size))


def plot_cosines(size: int) -> Figure:
    """Draw every cosine of an axis of `size` pixels: the curve, and the samples that the transform uses."""
    columns = 4
    rows = -(-size // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(PAGE_WIDTH_IN, 0.5 + 1.15 * rows), sharex=True, sharey=True, squeeze=False
    )
    fine = torch.linspace(-0.5, size - 0.5, FINE)
    for frequency, axis in enumerate(axes.flat):
        axis.set_visible(frequency < size)
        if frequency >= size:
            continue
        axis.axhline(0, color=COLOURS["grey"], lw=0.6)
        axis.plot(fine, _cosine(frequency, fine, size), color=COLOURS["sky"], lw=1.2)
        axis.plot(torch.arange(size), dct_basis(size, [frequency])[0], "o", color=COLOURS["blue"], ms=4)
        axis.set_title(f"h = {frequency}")
        axis.set_yticks([-1, 0, 1])
        axis.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    figure.supxlabel("pixel u", fontsize=9)
    figure.supylabel("weight of the pixel", fontsize=9)
    return figure


def plot_extensions(sequence: Float[Tensor, " position"]) -> Figure:
    """Draw a sequence repeated, as a Fourier transform continues it, and mirrored, as the cosine transform does."""
    size = sequence.numel()
    figure, axes = plt.subplots(2, 1, figsize=(PAGE_WIDTH_IN, 2.9), sharex=True, sharey=True)
    titles = ("Fourier: repeated, a jump at every end", "Cosine: mirrored half a pixel beyond each end, no jump")
    for axis, title, step in zip(axes, titles, (sequence, sequence.flip(0)), strict=True):
        whole = torch.cat([step, sequence, step])
        axis.axvspan(-0.5, size - 0.5, color=COLOURS["sky"], alpha=0.25, lw=0)
        axis.plot(torch.arange(-size, 2 * size), whole, "-o", color=COLOURS["grey"], ms=3, lw=1)
        axis.plot(torch.arange(size), sequence, "-o", color=COLOURS["blue"], ms=4)
        axis.set_title(title)
        axis.set_ylabel("value")
    axes[1].set_xlabel("pixel u (shaded: the sequence itself)")
    return figure


def plot_rebuild(sequence: Float[Tensor, " position"]) -> Figure:
    """Draw a sequence and the sums of its first 1, 2, half and all cosines, rightly weighted."""
    size = sequence.numel()
    n_terms = sorted({1, min(2, size), max(1, size // 2), size})
    figure, axes = plt.subplots(1, len(n_terms), figsize=(PAGE_WIDTH_IN, 2.3), sharex=True, sharey=True, squeeze=False)
    coefficients = dct_basis(size) @ sequence.to(torch.float64)
    weights = torch.full((size,), 2.0 / size, dtype=torch.float64)
    weights[0] = 1.0 / size
    fine = torch.linspace(-0.5, size - 0.5, FINE, dtype=torch.float64)
    terms = torch.stack(
        [weight * f * _cosine(k, fine, size) for k, (weight, f) in enumerate(zip(weights, coefficients, strict=True))]
    )
    for axis, count in zip(axes.flat, n_terms, strict=True):
        axis.bar(np.arange(size), sequence.numpy(), color=COLOURS["sky"], alpha=0.45, width=0.85, label="sequence")
        axis.plot(fine, terms[:count].sum(dim=0), color=COLOURS["vermilion"], label="sum of cosines")
        axis.set_title(f"{count} cosine{'s' if count > 1 else ''}")
        axis.set_xlabel("pixel u")
        axis.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes[0, 0].set_ylabel("value")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def plot_gallery(size: int = 56) -> Figure:
    """Draw the 7 x 7 lowest two-dimensional cosines; Table 1's sixteen are framed and numbered in its order."""
    basis = dct_basis(size, range(PARTS))
    figure, axis = plt.subplots(figsize=(5.6, 5.6))
    gap = size // 7
    step = size + gap
    sheet = np.full((PARTS * step + gap, PARTS * step + gap), 0.7)
    for h in range(PARTS):
        for w in range(PARTS):
            top, left = gap + h * step, gap + w * step
            sheet[top : top + size, left : left + size] = torch.outer(basis[h], basis[w])
    axis.imshow(sheet, cmap="gray", vmin=-1, vmax=1)
    label = {"facecolor": COLOURS["orange"], "edgecolor": "none", "pad": 1.5}
    for rank, (h, w) in enumerate(TOP16, start=1):
        top, left = gap + h * step, gap + w * step
        frame = Rectangle((left - 2, top - 2), size + 3, size + 3, fill=False, edgecolor=COLOURS["orange"], lw=2.4)
        axis.add_patch(frame)
        axis.text(left + 3, top + 3, str(rank), fontsize=8, va="top", color="black", bbox=label)
    centres = gap + np.arange(PARTS) * step + size / 2
    axis.set_xticks(centres, labels=[str(w) for w in range(PARTS)])
    axis.set_yticks(centres, labels=[str(h) for h in range(PARTS)])
    axis.set_xlabel("w: half periods across")
    axis.set_ylabel("h: half periods down")
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return figure


def plot_printed_inverse(x: Float[Tensor, "height width"], f: Float[Tensor, "height width"], printed: Tensor) -> Figure:
    """Draw a map, its exact inverse, and Eq. 2 as printed (divided by H W / 4) in one grey range."""
    scaled = printed * (4.0 / x.numel())
    panels = (
        ("map x", x),
        ("exact inverse", idct2(f)),
        ("Eq. 2 as printed", scaled),
        ("what it adds", scaled - x),
    )
    figure, axes = plt.subplots(1, len(panels), figsize=(PAGE_WIDTH_IN, 2.25))
    top = float(scaled.max())
    for axis, (title, values) in zip(axes, panels, strict=True):
        shown = axis.imshow(values.numpy(), cmap="gray", vmin=0, vmax=top)
        axis.set_title(title)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(True)
    figure.colorbar(shown, ax=axes, shrink=0.8, label="value")
    return figure


def plot_gates(starts: Mapping[str, GateStart]) -> Figure:
    """Draw how the gates of a fresh attention layer are spread between 0 and 1 under each normalisation."""
    order = ("none", "ortho", "mean")
    figure, axes = plt.subplots(1, 3, figsize=(PAGE_WIDTH_IN, 2.3), sharex=True, sharey=True)
    for axis, name, colour in zip(axes, order, ("vermilion", "green", "blue"), strict=True):
        gates = starts[name].gates.flatten().numpy()
        axis.hist(gates, bins=40, range=(0, 1), weights=np.full(gates.size, 100 / gates.size), color=COLOURS[colour])
        axis.set_title(f'"{name}"')
        axis.set_xlabel("gate, att")
    axes[0].set_ylabel("share of gates (%)")
    return figure


def _draw_reading(axis: Axes, frequency: int, size: int, colour: str, title: str) -> None:
    fine = torch.linspace(-0.5, size - 0.5, 6 * size, dtype=torch.float64)
    extent = (fine + 0.5) / size
    axis.plot(extent, _cosine(frequency, fine, size), color=colour, lw=1.0)
    axis.set_title(title)
    axis.set_yticks([-1, 0, 1])


def plot_readings(frequency: int, size: int, pooled_size: int) -> Figure:
    """Draw the three cosines that one entry of Table 1 may mean on a map of `size` pixels."""
    figure, axes = plt.subplots(3, 1, figsize=(PAGE_WIDTH_IN, 3.9), sharex=True, sharey=True)
    pooled, full = scaled_index(frequency, pooled_size), scaled_index(frequency, size)
    readings = (
        (frequency, size, "blue", f"FANet, Eq. 4 as printed: index {frequency} of {size}, {frequency / 2:g} periods"),
        (pooled, pooled_size, "orange", f"FcaNet, pooled to {pooled_size}: index {pooled}, {pooled / 2:g} periods"),
        (full, size, "vermilion", f"scaled on the full map: index {full} of {size}, {full / 2:g} periods"),
    )
    for axis, (index, pixels, colour, title) in zip(axes, readings, strict=True):
        _draw_reading(axis, index, pixels, COLOURS[colour], title)
    axes[2].set_xlabel("position along the axis, as a share of the map")
    axes[1].set_ylabel("weight")
    return figure
