"""Interactive figures that need neither a kernel nor a network: a slider over pictures, a swipe between two of them.

The pictures are drawn beforehand and embedded in the output's HTML, with inline handlers on a real `<input
type="range">`: it works in JupyterLab, in the static page, by keyboard and by touch. In print, and where scripts are
off, a style rule shows a static version instead: the first, middle and last picture, or both pictures side by side.

Number and caption come from the cell's metadata, as for any other figure of the book:

    "mystnb": {"figure": {"caption": "...", "name": "fig-..."}, "image": {"alt": "..."}}

Make the figure the value of the cell's last line (`slider(...)` without a semicolon); each picture has its own
alternative text. Pictures are matplotlib figures, which are closed, or 8-bit arrays [row, column(, RGB)].
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from emseg.errors import UsageError

Picture = Figure | NDArray[np.uint8]
PAGE_DPI, SHARP_DPI = 110, 160  # pixels an inch at which the book shows figures, and at which they are stored

_STYLE = """<style>
.emseg-interactive{max-width:100%;margin:0 auto}
.emseg-interactive img{display:block;width:100%;height:auto}
.emseg-interactive p{margin:.2rem 0;text-align:center;font-size:.85em}
.emseg-interactive label{display:flex;flex-wrap:wrap;align-items:center;gap:.3rem .8rem;margin:.4rem 0;font-size:.9em}
.emseg-interactive input{flex:1 1 10rem;min-height:1.6rem;cursor:pointer}
.emseg-interactive input:focus-visible{outline:2px solid currentcolor;outline-offset:2px}
.emseg-interactive .now{min-width:9rem;font-variant-numeric:tabular-nums}
.emseg-swipe .pair{position:relative;touch-action:pan-y;cursor:ew-resize}
.emseg-swipe .pair>div+div{position:absolute;inset:0;clip-path:inset(0 0 0 var(--at))}
.emseg-swipe .line{position:absolute;inset:0 auto 0 var(--at);width:3px;margin-left:-1px;background:#d55e00}
@media screen and (scripting:enabled){.emseg-slider .frame:not(.on),.emseg-slider .frame p{display:none}
.emseg-swipe .pair p{display:none}}
@media print,(scripting:none){.emseg-interactive label,.emseg-swipe .line,.emseg-slider .frame:not(.kept){display:none}
.emseg-slider .frame{display:block;break-inside:avoid}.emseg-swipe .pair{display:flex;gap:.5rem}
.emseg-swipe .pair>div{flex:1;min-width:0}.emseg-swipe .pair>div+div{position:static;clip-path:none}}
</style>"""
_CHOOSE = (
    "const n=+this.value;this.closest('.emseg-slider').querySelectorAll('.frame').forEach((one,i)=>{"
    "one.classList.toggle('on',i===n);if(i===n){const now=one.dataset.label;"
    "this.setAttribute('aria-valuetext',now);this.parentElement.querySelector('.now').textContent=now}})"
)
_MOVE = "this.closest('.emseg-swipe').style.setProperty('--at',this.value+'%')"
_DRAG = (
    "if(event.type==='pointerdown'||event.buttons){const box=this.getBoundingClientRect(),"
    "input=this.parentElement.querySelector('input');"
    "input.value=100*(event.clientX-box.left)/box.width;input.dispatchEvent(new Event('input'))}"
)


@dataclass(frozen=True)
class Interactive:
    """An interactive figure: its HTML, and what a text terminal shows."""

    html: str
    text: str

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/html": self.html, "text/plain": self.text}


def slider(
    frames: Sequence[Picture], labels: Sequence[str], *, name: str, alts: Sequence[str], start: int = 0
) -> Interactive:
    """Return a slider over `frames`, which should have one size; `name` is what it changes, `labels` its positions.

    `start` is the position shown first. The labels are announced by screen readers as the slider moves.
    """
    if not 2 <= len(frames) == len(labels) == len(alts) or not 0 <= start < len(frames):
        given = f"got {len(frames)} frames, {len(labels)} labels, {len(alts)} texts, start={start}"
        raise UsageError(f"a slider needs two frames or more, a label and an alternative text for each; {given}.")
    last, body, now = len(frames) - 1, "", escape(labels[start])
    for place, (frame, label, alt) in enumerate(zip(frames, labels, alts, strict=True)):
        kind = "frame" + " on" * (place == start) + " kept" * (place in (0, last // 2, last))
        image, width, _ = _image(frame, alt)
        text = escape(f"{name}: {label}")
        body += f'<div class="{kind}" data-label="{escape(label)}">{image}<p>{text}</p></div>'
    control = (
        f'<input type="range" min="0" max="{last}" step="1" value="{start}" autocomplete="off" '
        f'aria-valuetext="{now}" oninput="{_CHOOSE}">'
    )
    label = f'<label><span>{escape(name)}</span>{control}<span class="now" aria-hidden="true">{now}</span></label>'
    html = f'{_STYLE}<div class="emseg-interactive emseg-slider" style="width:{width}px">{body}{label}</div>'
    return Interactive(html, f"{name}: {', '.join(labels)}")


def swipe(
    before: Picture, after: Picture, *, labels: tuple[str, str], alts: tuple[str, str], start: int = 50
) -> Interactive:
    """Return two pictures of one size, one over the other: the first left of a line that the reader moves.

    `start` is the position of the line in % of the width.
    """
    pictures = (_image(before, alts[0]), _image(after, alts[1]))
    if pictures[0][1:] != pictures[1][1:] or not 0 <= start <= 100:
        sizes = " and ".join(f"{height} x {width}" for _, width, height in pictures)
        raise UsageError(f"a swipe needs two pictures of one size and 0 <= start <= 100; got {sizes}, start={start}.")
    pair = "".join(
        f"<div>{image}<p>{escape(label)}</p></div>" for (image, *_), label in zip(pictures, labels, strict=True)
    )
    words = " or ".join(labels)
    control = (
        f'<label><span>{escape(labels[0])}</span><input type="range" min="0" max="100" value="{start}" '
        f'autocomplete="off" aria-label="{escape(f"Line between {words}")}" oninput="{_MOVE}">'
        f"<span>{escape(labels[1])}</span></label>"
    )
    html = (
        f'{_STYLE}<div class="emseg-interactive emseg-swipe" style="width:{pictures[0][1]}px;--at:{start}%">'
        f'<div class="pair" onpointerdown="{_DRAG}" onpointermove="{_DRAG}" ondragstart="return false">{pair}'
        f'<span class="line"></span></div>{control}</div>'
    )
    return Interactive(html, words)


def _image(picture: Picture, alt: str) -> tuple[str, int, int]:
    """Return a picture as an HTML image (WebP), with its width and height on the page in px."""
    buffer = io.BytesIO()
    if isinstance(picture, Figure):
        picture.savefig(buffer, format="png", dpi=SHARP_DPI)
        plt.close(picture)
        width, height = (round(side * PAGE_DPI) for side in picture.get_size_inches())
        image = Image.open(buffer).convert("RGB")
    else:
        image = Image.fromarray(np.asarray(picture, dtype=np.uint8)).convert("RGB")
        width, height = image.size
    small = io.BytesIO()
    image.save(small, "webp", quality=80, method=6)
    content = base64.b64encode(small.getvalue()).decode()
    return f'<img src="data:image/webp;base64,{content}" alt="{escape(alt)}">', width, height
