"""The figures of the chapter on sharpness: what the indices see, how they answer blur, noise and resampling."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

from chapters.sharpness_analysis.experiments import CROP, Resampling, Response, blur, central_crop, shot_noise
from chapters.sharpness_analysis.reporting import METHOD_LABELS
from emseg.figures import COLOURS, PAGE_WIDTH_IN, show_image
from emseg.sharpness.downsampling import RESAMPLING_KERNELS, downsample, reduced_shape
from emseg.sharpness.indices import INDEX_LABELS, INDEX_NAMES

_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DOSE_COLOURS = ("black", "blue", "green", "vermilion", "purple", "orange")
_METHOD_COLOURS = dict(
    zip((*RESAMPLING_KERNELS, CROP), ("blue", "sky", "black", "orange", "vermilion", "purple", "grey"), strict=True)
)


def plot_terms(versions: Mapping[str, NDArray[Any]], pixel_size_nm: float, size: int) -> Figure:
    """Draw the centre of each version of an image, and the terms that Brenner (gap 2) and SMD2 add up over it."""
    figure, grid = plt.subplots(len(versions), 3, figsize=(PAGE_WIDTH_IN, 2.45 * len(versions)), squeeze=False)
    for axes, (title, image) in zip(grid, versions.items(), strict=True):
        f = central_crop(image, (size, size)).astype(np.float64)
        brenner = (f[:, 2:] - f[:, :-2]) ** 2
        smd2 = np.abs(f[:-1, :-1] - f[:-1, 1:]) * np.abs(f[:-1, :-1] - f[1:, :-1])
        show_image(axes[0], f, pixel_size_nm, title=title)
        for ax, terms, name in ((axes[1], brenner, "Brenner, gap 2: terms"), (axes[2], smd2, "SMD2: terms")):
            top = float(np.quantile(terms, 0.995)) or 1.0
            show_image(ax, terms, pixel_size_nm, title=name, grey_range=(0.0, top))
    return figure


def plot_degraded(
    image: NDArray[Any], pixel_size_nm: float, *, sigma_nm: float, dose_per_nm2: float, seed: int
) -> Figure:
    """Draw an image as it is, blurred, and blurred and then counted with few electrons, in the same grey range."""
    blurred = blur(image, sigma_nm, pixel_size_nm)
    rng = np.random.default_rng(seed)
    panels = {
        "as it is": image,
        f"blurred by {sigma_nm:g} nm": blurred,
        f"blurred, {dose_per_nm2:g} electrons per nm²": shot_noise(blurred, dose_per_nm2, pixel_size_nm, rng),
    }
    figure, axes = plt.subplots(1, 3, figsize=(PAGE_WIDTH_IN, 2.7))
    for ax, (title, panel) in zip(axes, panels.items(), strict=True):
        show_image(ax, panel, pixel_size_nm, title=title, grey_range=(0.0, 255.0))
    return figure


def plot_response(response: Response) -> Figure:
    """Draw each index against blur, a line a dose, relative to the image without blur and noise; mean over images."""
    relative = response.relative().mean(axis=1)
    places = np.arange(len(response.blurs_nm))
    figure, axes = plt.subplots(2, 3, figsize=(PAGE_WIDTH_IN, 4.4), sharex=True)
    for ax, name, curves in zip(axes.flat, INDEX_NAMES, relative, strict=True):
        for k, curve in enumerate(curves):
            ax.plot(places, curve, marker=_MARKERS[k % 7], markersize=4, color=COLOURS[_DOSE_COLOURS[k % 6]])
        ax.set_yscale("log")
        _label_decades(ax.yaxis)
        ax.axhline(1, color=COLOURS["grey"], linewidth=0.8, linestyle=":")
        ax.set_title(INDEX_LABELS[name])
        ax.set_xticks(places, [f"{sigma:g}" for sigma in response.blurs_nm])
    for ax in axes[1]:
        ax.set_xlabel("blur, standard deviation (nm)")
    for ax in axes[:, 0]:
        ax.set_ylabel("index, relative")
    handles = [
        Line2D([], [], marker=_MARKERS[k % 7], markersize=4, color=COLOURS[_DOSE_COLOURS[k % 6]], label=_dose(dose))
        for k, dose in enumerate(response.doses_per_nm2)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 4))
    return figure


def _label_decades(axis: Axis) -> None:
    """Label a logarithmic axis in plain numbers: its decades, and 2 and 5 as well where it spans less than two."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 100 * low else (1.0,)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _dose(dose_per_nm2: float) -> str:
    return "no noise" if np.isinf(dose_per_nm2) else f"{dose_per_nm2:g} electrons per nm²"


def plot_smoothing(blurs_nm: Sequence[float], smoothed: NDArray[np.float64], misled: NDArray[np.float64]) -> Figure:
    """Draw the indices of a noisy image against a blur applied afterwards, and the pairs put in wrong order."""
    blurs = (0.0, *sorted(set(blurs_nm) - {0.0}))
    names = [INDEX_LABELS[name] for name in INDEX_NAMES]
    colours = [COLOURS[colour] for colour in ("sky", "blue", "green", "black", "vermilion", "purple")]
    figure, (left, right) = plt.subplots(1, 2, figsize=(PAGE_WIDTH_IN, 3.1), width_ratios=(1.25, 1))
    for i, name in enumerate(names):
        left.plot(smoothed[i].mean(axis=0), marker=_MARKERS[i], markersize=4, color=colours[i], label=name)
    left.axhline(1, color=COLOURS["grey"], linewidth=0.8, linestyle=":")
    left.set_xticks(range(len(blurs)), [f"{sigma:g}" for sigma in blurs])
    left.set_yscale("log")
    _label_decades(left.yaxis)
    left.set_xlabel("smoothing after the noise,\nstandard deviation (nm)")
    left.set_ylabel("index, relative")
    left.legend()
    places = np.arange(len(names))
    right.barh(places, 100 * misled, color=colours, height=0.65)
    right.set_yticks(places, names)
    right.invert_yaxis()
    right.set_xlim(0, 100)
    right.set_xlabel("pairs in wrong order (%)")
    return figure


def plot_downsampled(image: NDArray[Any], pixel_size_nm: float, factor: float, side_nm: float) -> Figure:
    """Draw one place as it is, after each kernel, and what a crop of as few pixels would keep, in one grey range."""
    size = round(side_nm / pixel_size_nm)
    place = central_crop(image, (size, size))
    small = reduced_shape((place.shape[0], place.shape[1]), factor)
    grey_range = (float(np.quantile(place, 0.002)), float(np.quantile(place, 0.998)))
    figure, axes = plt.subplots(2, 4, figsize=(PAGE_WIDTH_IN, 4.1))
    show_image(axes[0, 0], place, pixel_size_nm, title="original", grey_range=grey_range)
    for ax, kernel in zip(axes.flat[1:7], RESAMPLING_KERNELS, strict=True):
        reduced_pixel_nm = pixel_size_nm * place.shape[1] / small[1]
        title = METHOD_LABELS[kernel].replace(", ", ",\n")
        show_image(ax, downsample(place, small, kernel), reduced_pixel_nm, title=title, grey_range=grey_range)
    show_image(
        axes[1, 3], central_crop(place, small), pixel_size_nm, title="crop,\nnot resampled", grey_range=grey_range
    )
    return figure


def plot_ratios(resampling: Resampling) -> Figure:
    """Draw the ratios, after over before, of every index: left of the raw sums, right per pixel; a marker a method."""
    figure, axes = plt.subplots(1, 2, figsize=(PAGE_WIDTH_IN, 3.9), sharey=True)
    places = np.arange(len(INDEX_NAMES))
    offsets = np.linspace(-0.33, 0.33, len(resampling.methods))
    panels = ((axes[0], resampling.raw, "raw sum"), (axes[1], resampling.per_pixel, "per pixel"))
    for ax, ratios, title in panels:
        for m, method in enumerate(resampling.methods):
            means = ratios[:, m].mean(axis=-1)
            spread = ratios[:, m].std(axis=-1, ddof=1) if ratios.shape[-1] > 1 else np.zeros_like(means)
            shown = means > 0
            low = np.minimum(spread, 0.95 * np.abs(means))
            ax.errorbar(
                means[shown],
                (places + offsets[m])[shown],
                xerr=(low[shown], spread[shown]),
                fmt=_MARKERS[m],
                markersize=4.5,
                linewidth=0.9,
                color=COLOURS[_METHOD_COLOURS[method]],
                label=METHOD_LABELS[method],
            )
        ax.set_xscale("log")
        _label_decades(ax.xaxis)
        ax.set_xlabel(f"{title}: after over before")
        ax.axvline(1, color=COLOURS["grey"], linewidth=0.9)
        for place in places[1:]:
            ax.axhline(place - 0.5, color="#dddddd", linewidth=0.6)
    axes[0].axvline(resampling.count.mean(), color=COLOURS["vermilion"], linewidth=0.9, linestyle="--")
    axes[0].text(
        resampling.count.mean(), -0.62, "pixel count ", ha="right", va="bottom", fontsize=8, color=COLOURS["vermilion"]
    )
    axes[0].set_yticks(places, [INDEX_LABELS[name] for name in INDEX_NAMES])
    axes[0].set_ylim(len(places) - 0.5, -0.5)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure
