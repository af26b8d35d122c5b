"""The look of every figure: one style for all chapters, grey images with a scale bar in physical units.

Figures keep a white ground in both of the book's colour schemes, so that axes and text stay readable in the dark one;
colours are Okabe and Ito's, which colour-blind readers can distinguish (https://jfly.uni-koeln.de/color/).
"""

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.rcsetup import cycler
from numpy.typing import NDArray

from emseg.errors import UsageError

PAGE_WIDTH_IN = 7.0  # the book's text column
COLOURS = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "vermilion": "#D55E00",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "black": "#000000",
    "grey": "#6E6E6E",
}
_NICE_LENGTHS = (1.0, 2.0, 5.0)


def style() -> None:
    """Set matplotlib's look for this notebook; call it once, in the setup cell."""
    mpl.rcParams.update(
        {
            "figure.figsize": (PAGE_WIDTH_IN, 3.4),
            "figure.dpi": 110,
            "savefig.dpi": 160,
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "figure.constrained_layout.use": True,
            "axes.prop_cycle": cycler(color=list(COLOURS.values())),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 10,
            "axes.labelsize": 9,
            "xtick.labelsize": 8,
            "ytick.labelsize": 8,
            "legend.fontsize": 8,
            "legend.frameon": False,
            "font.size": 9,
            "lines.linewidth": 1.6,
            "image.cmap": "gray",
            "image.interpolation": "nearest",
        }
    )


def show_image(
    ax: Axes,
    image: NDArray[Any],
    pixel_size_nm: float | None = None,
    *,
    title: str | None = None,
    grey_range: tuple[float, float] | None = None,
) -> None:
    """Draw a (row, column) grey image without axes, with a scale bar when `pixel_size_nm` is given.

    `grey_range` fixes (black, white), so that two images can be compared; without it each image fills its own range.
    """
    low, high = (float(np.min(image)), float(np.max(image))) if grey_range is None else grey_range
    ax.imshow(image, cmap="gray", vmin=low, vmax=high)
    ax.set_axis_off()
    if title is not None:
        ax.set_title(title)
    if pixel_size_nm is not None:
        add_scale_bar(ax, image.shape[1], pixel_size_nm)


def add_scale_bar(ax: Axes, width_px: int, pixel_size_nm: float | None) -> float:
    """Draw a scale bar of a round length, about a fifth of the image wide; return its length in nm, or px if None."""
    if pixel_size_nm is not None and not pixel_size_nm > 0:
        raise UsageError(f"`pixel_size_nm` must be positive; got {pixel_size_nm}.")
    pixel = pixel_size_nm or 1.0
    length = round_length_nm(0.255 * width_px * pixel)  # panels that differ by a rounded pixel share a length
    unit = "px" if pixel_size_nm is None else "nm" if length < 1000 else "µm"
    height_px, margin = max(width_px / 90, 1.0), width_px / 25
    left, bottom = ax.get_xlim()[0] + margin, ax.get_ylim()[0] - margin
    look: dict[str, Any] = {"facecolor": "white", "edgecolor": "black", "lw": 0.6}
    ax.add_patch(Rectangle((left, bottom - height_px), length / pixel, height_px, **look))
    ax.text(
        left,
        bottom - 1.8 * height_px,
        f"{length / 1000 if unit == 'µm' else length:g} {unit}",
        ha="left",  # a label wider than a short bar stays inside the panel
        va="bottom",
        fontsize=8,
        color="black",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.2, "alpha": 0.85},
    )
    return length


def round_length_nm(longest_nm: float) -> float:
    """Return the largest length of the form 1, 2 or 5 times a power of ten that does not exceed `longest_nm`."""
    power = 10.0 ** np.floor(np.log10(longest_nm))
    return float(max(step * power for step in _NICE_LENGTHS if step * power <= longest_nm * (1 + 1e-9)))
