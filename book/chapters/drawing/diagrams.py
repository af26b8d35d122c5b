"""Diagrams of networks: labelled blocks, feature maps as slabs or stacks of pictures, operators, arrows, frames.

Positions and sizes are inches on the canvas, x to the right and y upwards, so that texts and blocks keep their
proportion in every figure. Each part returns where it is, and arrows run from part to part:

    axis = canvas(7.0, 2.0)
    x = slab(axis, 0.6, 1.0, width=0.3, height=0.9, text="x", shape="64 × 56 × 56")
    gate = block(axis, 2.4, 1.0, "sigmoid", colour="orange")
    arrow(axis, x.right, gate.left, text="F")

A part's face is a pale tint of its colour (`emseg.figures.COLOURS`), so that black text is readable; the ground is
white in both of the book's colour schemes, as in all figures.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Circle, FancyBboxPatch, Polygon, Rectangle
from numpy.typing import NDArray

from emseg.errors import UsageError
from emseg.figures import COLOURS

Point = tuple[float, float]
PAD = 0.09  # between a block's text and its edge
TINT = 0.80  # fraction of white in a face
INK = "#222222"
TEXT, SMALL = 8.0, 7.0  # points


class Part(NamedTuple):
    """Where a part of a diagram is: its centre and its size, in inches."""

    x: float
    y: float
    width: float
    height: float

    @property
    def left(self) -> Point:
        """The middle of the left edge."""
        return self.x - self.width / 2, self.y

    @property
    def right(self) -> Point:
        """The middle of the right edge."""
        return self.x + self.width / 2, self.y

    @property
    def top(self) -> Point:
        """The middle of the upper edge."""
        return self.x, self.y + self.height / 2

    @property
    def bottom(self) -> Point:
        """The middle of the lower edge."""
        return self.x, self.y - self.height / 2


def canvas(width: float, height: float) -> Axes:
    """Return empty axes that fill a new figure of this size; one unit is one inch."""
    figure = plt.figure(figsize=(width, height), layout="none")
    axis = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    axis.set_axis_off()
    return axis


def tint(colour: str, white: float = TINT) -> tuple[float, ...]:
    """Return a colour of `emseg.figures.COLOURS`, by name, mixed with this fraction of white."""
    if colour not in COLOURS:
        raise UsageError(f"`colour` must be one of {', '.join(COLOURS)}; got {colour!r}.")
    return tuple(white + (1 - white) * channel for channel in to_rgb(COLOURS[colour]))


def note(axis: Axes, x: float, y: float, text: str, *, size: float = TEXT, colour: str = INK, **more: Any) -> Part:
    """Write text centred at (x, y), or aligned by matplotlib's `ha` and `va`; return the part that it covers."""
    artist = axis.text(x, y, text, fontsize=size, color=colour, **({"ha": "center", "va": "center"} | more))
    box = artist.get_window_extent()
    (left, bottom), (right, top) = axis.transData.inverted().transform([(box.x0, box.y0), (box.x1, box.y1)])
    return Part((left + right) / 2, (bottom + top) / 2, right - left, top - bottom)


def block(
    axis: Axes,
    x: float,
    y: float,
    text: str,
    *,
    colour: str = "blue",
    width: float | None = None,
    height: float | None = None,
    size: float = TEXT,
) -> Part:
    """Draw a rounded box with a text, by default as large as the text needs."""
    inside = note(axis, x, y, text, size=size, zorder=3)
    part = Part(x, y, width or inside.width + 2 * PAD, height or inside.height + 2 * PAD)
    if inside.width > part.width or inside.height > part.height:
        raise UsageError(f"the text {text!r} must fit its block; it needs {inside.width:.2f} × {inside.height:.2f} in.")
    corner = (x - part.width / 2, y - part.height / 2)
    look: dict[str, Any] = {
        "boxstyle": "round,pad=0,rounding_size=0.05",
        "facecolor": tint(colour),
        "edgecolor": COLOURS[colour],
    }
    axis.add_patch(FancyBboxPatch(corner, part.width, part.height, lw=1.0, zorder=2, **look))
    return part


def slab(
    axis: Axes,
    x: float,
    y: float,
    *,
    width: float,
    height: float,
    depth: float | None = None,
    text: str = "",
    shape: str = "",
    colour: str = "blue",
) -> Part:
    """Draw a feature map as a cuboid: `width` for its channels, `height` and `depth` for its rows and columns.

    `text` goes above it, `shape` below; the part is the whole cuboid, centred at (x, y).
    """
    skew = 0.4 * (height if depth is None else depth)
    whole = Part(x, y, width + skew, height + skew)
    (left, _), (_, bottom) = whole.left, whole.bottom
    right, top = left + width, bottom + height
    look: dict[str, Any] = {"edgecolor": COLOURS[colour], "lw": 0.9, "zorder": 2}
    axis.add_patch(Rectangle((left, bottom), width, height, facecolor=tint(colour), **look))
    over = [(left, top), (left + skew, top + skew), (right + skew, top + skew), (right, top)]
    beyond = [(right, bottom), (right + skew, bottom + skew), (right + skew, top + skew), (right, top)]
    axis.add_patch(Polygon(over, facecolor=tint(colour, 0.9), **look))
    axis.add_patch(Polygon(beyond, facecolor=tint(colour, 0.65), **look))
    if text:
        note(axis, x, top + skew + 0.04, text, va="bottom")
    if shape:
        note(axis, x, bottom - 0.05, shape, size=SMALL, va="top")
    return whole


def stack(
    axis: Axes,
    x: float,
    y: float,
    pictures: Sequence[NDArray[Any]],
    *,
    side: float,
    step: Point = (0.16, 0.10),
    colours: Sequence[str] = ("blue",),
    limits: tuple[float, float] = (-1.0, 1.0),
) -> Part:
    """Draw square pictures behind one another, the first in front and to the lower left, framed in turn in `colours`.

    The part is the whole stack, centred at (x, y); `limits` are the values of black and white.
    """
    dx, dy = (one * (len(pictures) - 1) for one in step)
    whole = Part(x, y, side + dx, side + dy)
    for number in reversed(range(len(pictures))):
        left, bottom = whole.left[0] + number * step[0], whole.bottom[1] + number * step[1]
        extent, above = (left, left + side, bottom, bottom + side), 3 + 0.01 * (len(pictures) - number)
        axis.imshow(
            pictures[number], cmap="gray", vmin=limits[0], vmax=limits[1], extent=extent, zorder=above, aspect="auto"
        )
        edge = COLOURS[colours[number % len(colours)]]
        axis.add_patch(Rectangle((left, bottom), side, side, fill=False, edgecolor=edge, lw=1.2, zorder=above))
    axis.set(xlim=(0, axis.figure.get_figwidth()), ylim=(0, axis.figure.get_figheight()))  # type: ignore[union-attr]
    return whole


def operator(axis: Axes, x: float, y: float, symbol: str, *, radius: float = 0.12, colour: str = "black") -> Part:
    """Draw a circle with a symbol such as "+" or "×"."""
    axis.add_patch(Circle((x, y), radius, facecolor="white", edgecolor=COLOURS[colour], lw=1.0, zorder=2))
    note(axis, x, y, symbol, size=11, va="center_baseline", zorder=3)
    return Part(x, y, 2 * radius, 2 * radius)


def arrow(axis: Axes, *points: Point, text: str = "", colour: str = INK, dashed: bool = False) -> None:
    """Draw a line through the points with a head at the last; `text` goes above the middle of its longest piece."""
    if len(points) < 2:
        raise UsageError(f"an arrow needs at least two points; got {len(points)}.")
    line: dict[str, Any] = {"color": colour, "lw": 1.0, "zorder": 1, "ls": "--" if dashed else "-"}
    axis.plot(*zip(*points[:-1], points[-2], strict=True), solid_joinstyle="round", **line)
    head = {"arrowstyle": "-|>", "shrinkA": 0, "shrinkB": 0, "mutation_scale": 9, "fc": colour}
    axis.annotate("", points[-1], points[-2], arrowprops=head | line, zorder=1)
    if text:
        (x0, y0), (x1, y1) = max(pairwise(points), key=lambda piece: abs(piece[0][0] - piece[1][0]))
        note(axis, (x0 + x1) / 2, (y0 + y1) / 2 + 0.04, text, size=SMALL, va="bottom")


def frame(axis: Axes, left: float, bottom: float, right: float, top: float, text: str, *, colour: str = "grey") -> Part:
    """Draw a dashed frame behind the parts inside it, with a title in its upper left corner."""
    look: dict[str, Any] = {
        "boxstyle": "round,pad=0,rounding_size=0.08",
        "facecolor": "none",
        "edgecolor": COLOURS[colour],
    }
    axis.add_patch(FancyBboxPatch((left, bottom), right - left, top - bottom, ls="--", lw=0.9, zorder=0, **look))
    note(axis, left + 0.08, top - 0.06, text, size=TEXT, colour=COLOURS[colour], ha="left", va="top", weight="bold")
    return Part((left + right) / 2, (bottom + top) / 2, right - left, top - bottom)
