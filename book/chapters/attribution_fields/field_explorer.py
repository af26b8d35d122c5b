"""Pick a pixel, see its field: as a page without scripts, and live beside a running kernel.

The page holds the fields of some pixels as images of its own, one shown at a time: each pixel is a radio button on the
micrograph, and a style rule shows the picture of the one that is checked. So it works in the built book, in a saved
page and without a network. Keyboards reach it: arrow keys move between the pixels.
"""

import base64
import html
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chapters.attribution_fields.field_figures import CLASS_COLOURS, half_width, show_field
from chapters.attribution_fields.field_survey import ConditionFields
from emseg.attribution.attribution import Attribution
from emseg.attribution.baselines import network_input
from emseg.attribution.field import PAPER_THRESHOLD, field_area, radius_holding
from emseg.attribution.pixel_classes import CLASS_LABELS, PIXEL_CLASSES
from emseg.attribution.window_integral import IntegralOptions
from emseg.errors import UsageError
from emseg.wording import as_html, format_number

_WIDTH_PX = 330


@dataclass(frozen=True)
class FieldPage:
    """A micrograph with pixels to pick, as HTML without scripts, and as a list in plain text."""

    markup: str
    text: str

    def _repr_html_(self) -> str:
        return self.markup

    def __repr__(self) -> str:
        return self.text


def field_page(fields: ConditionFields, *, number: int = 0, name: str = "field", n_most: int = 12) -> FieldPage:
    """Return the page of one test image: up to `n_most` of its pixels, with area and radii of each.

    `name` keeps two pages of one notebook apart.
    """
    one = fields.images[number]
    chosen = _spread_over_classes(one.sample.classes, n_most)
    if not len(chosen):
        raise UsageError(f"image {number} has no attributed pixels. Choose another.")
    height, width = one.image.shape
    buttons, panels, rules, lines = [], [], [], []
    for place, index in enumerate(chosen):
        row, column = (int(value) for value in one.sample.targets[index])
        kind = PIXEL_CLASSES[int(one.sample.classes[index])]
        words = f"{CLASS_LABELS[kind]} at row {row}, column {column}"
        key = f"{name}-{place}"
        caption = f"{words}: {_sizes(one.attribution, int(index), fields.pixel_size_nm)}"
        buttons.append(
            f'<input type="radio" name="{name}" id="{key}" aria-label="{html.escape(words)}"'
            f'{" checked" if place == 0 else ""} style="left:{100 * column / width:.2f}%;top:{100 * row / height:.2f}%;'
            f'accent-color:{CLASS_COLOURS[kind]};outline:2px solid {CLASS_COLOURS[kind]}">'
        )
        picture = _field_png(fields, one.attribution.maps[index], (row, column))
        panels.append(
            f'<div class="panel panel-{place}"><img src="data:image/png;base64,{picture}" alt="Attribution field of '
            f'the {html.escape(words)}: blue pixels speak for membrane, red ones against."><p>{as_html(caption)}'
            "</p></div>"
        )
        rules.append(f"#{name}:has(#{key}:checked) .panel-{place}{{display:block}}")
        lines.append(caption)
    style = (
        f"#{name}{{display:flex;flex-wrap:wrap;gap:1rem;align-items:flex-start}}"
        f"#{name} .picture{{position:relative;width:{_WIDTH_PX}px;max-width:100%}}"
        f"#{name} .picture img{{width:100%;display:block}}"
        f"#{name} input{{position:absolute;transform:translate(-50%,-50%);margin:0;border-radius:50%;cursor:pointer}}"
        f"#{name} .panel{{display:none;margin:0;width:{_WIDTH_PX}px;max-width:100%}}#{name} .panel img{{width:100%}}"
        + "".join(rules)
    )
    picture = _grey_png(one.image)
    markup = (
        f'<style>{style}</style><div id="{name}" role="group" aria-label="Pixels and their attribution fields">'
        f'<div class="picture"><img src="data:image/png;base64,{picture}" alt="Micrograph, '
        f'{html.escape(fields.condition.label)}, with a button on each pixel whose field can be shown.">'
        f"{''.join(buttons)}</div>{''.join(panels)}</div>"
    )
    return FieldPage(markup, "\n".join(lines))


def explore_live(
    fields: ConditionFields, options: IntegralOptions, *, number: int = 0, show: Callable[[Any], None] | None = None
) -> Any:
    """Return sliders for row and column that attribute any pixel at once; they need a running kernel."""
    import ipywidgets  # type: ignore[import-untyped,unused-ignore]
    import matplotlib.pyplot as plt

    one = fields.images[number]
    height, width = one.image.shape

    def draw(row: int, column: int) -> None:
        found = options.attribute(fields.network, network_input(one.image), np.array([[row, column]]))
        figure, axes = plt.subplots(1, 2, figsize=(7, 3.4))
        axes[0].imshow(one.image, cmap="gray", vmin=0, vmax=255)
        axes[0].plot(column, row, marker="+", color="red")
        axes[0].set_axis_off()
        show_field(axes[1], found.maps[0], fields.pixel_size_nm, target=(row, column), half_px=half_width(fields))
        figure.suptitle(_sizes(found, 0, fields.pixel_size_nm))
        (show or (lambda _: plt.show()))(figure)

    row_slider = ipywidgets.IntSlider(height // 2, 0, height - 1, description="row", continuous_update=False)
    column_slider = ipywidgets.IntSlider(width // 2, 0, width - 1, description="column", continuous_update=False)
    return ipywidgets.interactive(draw, row=row_slider, column=column_slider)


def _sizes(found: Attribution, index: int, pixel_size_nm: float) -> str:
    maps, targets = found.maps[index : index + 1], found.targets[index : index + 1]
    area = float(field_area(maps, PAPER_THRESHOLD, pixel_size_nm)[0])
    half = float(radius_holding(maps, targets, 0.5, pixel_size_nm)[0])
    most = float(radius_holding(maps, targets, 0.9, pixel_size_nm)[0])
    return (
        f"S = {format_number(area, 3)} nm² at k = {PAPER_THRESHOLD:g}; half of the attribution within "
        f"{format_number(half, 3)} nm, 90 % within {format_number(most, 3)} nm"
    )


def _spread_over_classes(classes: NDArray[np.int64], n_most: int) -> NDArray[np.int64]:
    """Return up to `n_most` places, the classes taking turns."""
    queues = [list(np.flatnonzero(classes == kind)) for kind in range(len(PIXEL_CLASSES))]
    turns: list[int] = []
    while any(queues) and len(turns) < n_most:
        turns += [int(queue.pop(0)) for queue in queues if queue]
    return np.array(turns[:n_most], dtype=np.int64)


def _field_png(fields: ConditionFields, one: NDArray[np.float32], target: tuple[int, int]) -> str:
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(2.4, 2.4), dpi=100)
    show_field(ax, one, fields.pixel_size_nm, target=target, half_px=half_width(fields))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    plt.close(figure)
    return base64.b64encode(buffer.getvalue()).decode()


def _grey_png(image: NDArray[np.uint8]) -> str:
    import cv2

    done, data = cv2.imencode(".png", image)
    assert done
    return base64.b64encode(data.tobytes()).decode()
