"""What a set of micrographs holds: sizes, resolution, how much of it is membrane, how wide its lines are.

    membrane fraction p = membrane pixels / pixels, per image
    imbalance = (1 - p) / p, the pixels of background for each pixel of membrane
    F1 of calling everything membrane = 2 p / (1 + p)

Images are read in bands, so a set may be larger than memory. `line_width_px` says how the width is measured.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from emseg.errors import InputError
from emseg.membrane.dataset import MembraneImage
from emseg.membrane.dataset.membrane_set import MembraneSet
from emseg.reported import load_reported, select_reported
from emseg.reported.display import DisplayTable, Shown
from emseg.runs.session import Run
from emseg.wording import format_number

BAND_ROWS = 2048
_THIN_PX = 6.0
_UNKNOWN = "unknown"
_NOT_STATED = "not stated"
_PAPER_SETS = ("U-RISC", "ISBI 2012")


@dataclass(frozen=True, eq=False)
class SetStatistics:
    """A set in numbers; `fractions` and `widths_px` have a place for each labelled image of its three parts."""

    name: str
    kind: str
    pixel_size_nm: float | None
    n_images: tuple[int, int, int]
    sizes: tuple[tuple[int, int], ...]
    fractions: NDArray[np.float64]
    widths_px: NDArray[np.float64]

    @property
    def fraction(self) -> float:
        """Mean membrane fraction over labelled images."""
        return float(self.fractions.mean())

    @property
    def fraction_sd(self) -> float:
        """Its standard deviation over images (n - 1); NaN for one image."""
        return float(self.fractions.std(ddof=1)) if len(self.fractions) > 1 else math.nan

    @property
    def imbalance(self) -> float:
        """Background pixels for each pixel of membrane, at the mean fraction; infinite without membrane."""
        return (1 - self.fraction) / self.fraction if self.fraction else math.inf

    @property
    def f1_of_all_membrane(self) -> float:
        """Mean F1 that a prediction has which calls every pixel membrane."""
        return float((2 * self.fractions / (1 + self.fractions)).mean())

    @property
    def f1_of_all_background(self) -> float:
        """Mean F1 of the background class that a prediction has which calls every pixel background."""
        shares = 1 - self.fractions
        return float((2 * shares / (1 + shares)).mean())

    @property
    def width_px(self) -> float:
        """Mean width of the lines in px, over images that have any."""
        known = self.widths_px[np.isfinite(self.widths_px)]
        return float(known.mean()) if len(known) else math.nan


def set_statistics(opened: MembraneSet) -> SetStatistics:
    """Return the statistics of a set; raise `InputError` if none of its images is labelled."""
    images = [image for part in opened.parts.values() for image in part]
    labelled = [image for image in images if image.labelled]
    if not labelled:
        raise InputError(f"{opened.name} has no labelled image, so nothing can be counted. Add labels.")
    measured = [measure_membrane(image) for image in labelled]
    counts = tuple(len(part) for part in opened.parts.values())
    return SetStatistics(
        name=opened.name,
        kind=opened.kind,
        pixel_size_nm=opened.pixel_size_nm,
        n_images=(counts[0], counts[1], counts[2]),
        sizes=tuple(sorted({(image.height, image.width) for image in images})),
        fractions=np.array([fraction for fraction, _ in measured]),
        widths_px=np.array([width for _, width in measured]),
    )


def measure_membrane(image: MembraneImage) -> tuple[float, float]:
    """Return the membrane fraction of an image and the mean width of its lines in px, NaN without any."""
    starts = range(0, image.height, BAND_ROWS)
    windows = [(slice(start, min(start + BAND_ROWS, image.height)), slice(0, image.width)) for start in starts]
    bands = [
        np.packbits(image.read_membrane(window), axis=1) for window in windows
    ]  # a bit a pixel, to go through twice

    def unpacked() -> Iterator[NDArray[np.bool_]]:
        return (np.unpackbits(band, axis=1, count=image.width).astype(np.bool_) for band in bands)

    n = sum(int(np.count_nonzero(band)) for band in unpacked())
    return n / (image.height * image.width), _width(unpacked, n)


def line_width_px(membrane: NDArray[np.bool_]) -> float:
    """Return the mean width of the lines of a mask, in px; NaN without any.

    Across a line of w px, w even, the distance to the background rises from 1 to w/2 and falls again, w/4 + 1/2 on
    average; so w = 4 (mean - 1/2). For odd w that is 1/w too much, so lines that seem thinner than 6 px are measured
    again on pixels of half the side.
    """
    return _width(lambda: iter([membrane]), int(np.count_nonzero(membrane)))


def statistics_table(sets: Sequence[SetStatistics]) -> DisplayTable:
    """Return Figure 2 of the paper as a table: our sets, and what the paper says of its own in the last two columns."""
    paper = {name: _paper_set(name) for name in _PAPER_SETS}
    rows = [
        ("Data", *(one.kind for one in sets), "licensed", "real"),
        ("Images: train, validation, test", *(", ".join(map(str, one.n_images)) for one in sets), *_row(paper, "n")),
        ("Size, px", *(_sizes(one.sizes) for one in sets), *_row(paper, "size")),
        ("Pixel size, nm", *(_number(one.pixel_size_nm) for one in sets), *_row(paper, "pixel")),
        ("Side of an image, µm", *(_side_um(one) for one in sets), *_row(paper, "side")),
        ("Membrane, % of pixels", *(_percent(one.fraction, one.fraction_sd) for one in sets), *_row(paper, "fraction")),
        ("Lines, px wide", *(_number(one.width_px) for one in sets), *2 * (_NOT_STATED,)),
        ("Lines, nm wide", *(_width_nm(one) for one in sets), *2 * (_NOT_STATED,)),
        ("Background pixels to one of membrane", *(_number(one.imbalance) for one in sets), *_row(paper, "imbalance")),
        ("F1 of calling everything membrane", *(_number(one.f1_of_all_membrane) for one in sets), *_row(paper, "f1")),
    ]
    return DisplayTable(
        caption="The sets in numbers, means ± standard deviations over images. Last two columns: what the paper says.",
        header=("", *(one.name for one in sets), *(f"paper: {name}" for name in _PAPER_SETS)),
        rows=tuple(tuple(Shown(text) for text in row) for row in rows),
        css_class="emseg-metrics",
        row_ids=tuple(f"set-{number}" for number in range(len(rows))),
    )


def report_set(run: Run, prefix: str, one: SetStatistics) -> None:
    """Note the statistics of a set in a run; metric names begin with `prefix`."""
    n = len(one.fractions)
    run.metric(
        f"{prefix}_membrane_fraction",
        one.fraction,
        n=n,
        spread=None if math.isnan(one.fraction_sd) else one.fraction_sd,
        label=f"Membrane fraction, {one.name}",
    )
    run.metric(f"{prefix}_f1_of_all_membrane", one.f1_of_all_membrane, n=n, label=f"F1 of all membrane, {one.name}")
    run.metric(
        f"{prefix}_f1_of_all_background", one.f1_of_all_background, n=n, label=f"F1 of all background, {one.name}"
    )
    if math.isfinite(one.imbalance):
        run.metric(f"{prefix}_imbalance", one.imbalance, n=n, label=f"Background to membrane, {one.name}")
    if math.isfinite(one.width_px):
        run.metric(f"{prefix}_line_width_px", one.width_px, unit="px", n=n, label=f"Width of lines, {one.name}")
        if one.pixel_size_nm is not None:
            width_nm = one.width_px * one.pixel_size_nm
            run.metric(f"{prefix}_line_width_nm", width_nm, unit="nm", n=n, label=f"Width of lines, {one.name}")


def paper_fraction(dataset: str) -> tuple[float, float]:
    """Return the membrane fraction that the paper gives for "U-RISC" or "ISBI 2012", and its standard deviation."""
    row = next(iter(select_reported(load_reported("urisc"), "membrane_fraction", dataset=dataset)))
    if row.value is None or row.sd is None:
        raise InputError(f"the paper's membrane fraction of {dataset} must be a number with its deviation.")
    return row.value / 100, row.sd / 100


def _width(bands: Callable[[], Iterator[NDArray[np.bool_]]], n: int) -> float:
    if not n:
        return math.nan
    width = 4.0 * (sum(_distance_sum(band) for band in bands()) / n - 0.5)
    if width >= _THIN_PX:
        return width
    halved = (np.repeat(np.repeat(band, 2, axis=0), 2, axis=1) for band in bands())
    return 2.0 * (sum(_distance_sum(band) for band in halved) / (4 * n) - 0.5)


def _distance_sum(membrane: NDArray[np.bool_]) -> float:
    distance = cv2.distanceTransform(membrane.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return float(np.asarray(distance).sum(dtype=np.float64))


def _paper_set(name: str) -> dict[str, str]:
    reported = load_reported("urisc")

    def values(quantity: str) -> list[float]:
        rows = select_reported(reported, quantity, dataset=name)
        return [row.value for row in rows if row.value is not None and not row.about("track")]

    (n_images,), (pixel_nm,), sides = values("n_images"), values("pixel_size"), values("image_side")
    fraction, sd = paper_fraction(name)
    return {
        "n": f"{n_images:,.0f} together",
        "size": _sizes([(int(sides[0]), int(sides[-1]))]),
        "pixel": _number(pixel_nm),
        "side": _number(sides[0] * pixel_nm / 1000),
        "fraction": _percent(fraction, sd),
        "imbalance": _number((1 - fraction) / fraction),
        "f1": _number(2 * fraction / (1 + fraction)),
    }


def _row(paper: dict[str, dict[str, str]], what: str) -> tuple[str, ...]:
    return tuple(one[what] for one in paper.values())


def _sizes(sizes: Iterable[tuple[int, int]]) -> str:
    return ", ".join(f"{height:,} × {width:,}" for height, width in sizes)


def _number(value: float | None) -> str:
    return _UNKNOWN if value is None or not math.isfinite(value) else format_number(value, 3)


def _percent(fraction: float, sd: float) -> str:
    return f"{100 * fraction:.2f}" + ("" if math.isnan(sd) else f" ± {100 * sd:.2f}")


def _side_um(one: SetStatistics) -> str:
    return _UNKNOWN if one.pixel_size_nm is None else _number(one.sizes[0][0] * one.pixel_size_nm / 1000)


def _width_nm(one: SetStatistics) -> str:
    return _number(None if one.pixel_size_nm is None else one.width_px * one.pixel_size_nm)
