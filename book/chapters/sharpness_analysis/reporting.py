"""The numbers of the experiments as metrics of a run, and as a table of kernels against indices.

Metric names begin with the index: `smd2_raw_ratio` and `smd2_per_pixel_ratio` for the kernel that stands for the
paper's, `smd2_area_per_pixel_ratio` for each kernel by name.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from chapters.sharpness_analysis.experiments import (
    CROP,
    Resampling,
    Response,
    equivalent_blur_nm,
    misled_share,
    rising_share,
)
from emseg.reported.display import DisplayTable, Shown
from emseg.runs.session import Run
from emseg.sharpness.downsampling import KERNEL_LABELS, RESAMPLING_KERNELS
from emseg.sharpness.indices import INDEX_LABELS, INDEX_NAMES

PAPER_INDICES = ("brenner_gap2", "smd2", "variance", "vollath")
"""The four of the paper, Brenner with the gap that is commonly meant."""

METHOD_LABELS = {**KERNEL_LABELS, CROP: "crop, not resampled"}


def report_response(run: Run, response: Response, smoothed: NDArray[np.float64], contrast: float) -> None:
    """Note how the indices answer blur and noise: steps in the wrong direction, gains, pairs put in the wrong order.

    `smoothed` [index, image, blur] is what `smooth` returns; `contrast` the factor whose equivalent blur is asked for.
    """
    relative = response.relative()
    n_images, n_doses, n_blurs = relative.shape[1:]
    misled = misled_share(response)
    equivalent = equivalent_blur_nm(response, contrast)
    for i, name in enumerate(INDEX_NAMES):
        label = INDEX_LABELS[name]
        run.metric(
            f"{name}_blur_violations",
            rising_share(response.per_pixel[i, :, 0]),
            n=n_images * (n_blurs - 1),
            label=f"{label}: share of blur steps at which it rises, no noise",
        )
        run.metric(
            f"{name}_noise_violations",
            rising_share(np.moveaxis(response.per_pixel[i], 1, -1)),
            n=n_images * n_blurs * (n_doses - 1),
            label=f"{label}: share of noise steps at which it rises",
        )
        _mean(run, f"{name}_noise_gain", relative[i, :, -1, 0], f"{label} at the lowest dose over that without noise")
        _mean(run, f"{name}_blur_loss", relative[i, :, 0, -1], f"{label} at the widest blur over that without blur")
        _mean(
            run, f"{name}_smoothing_gain", smoothed[i].max(axis=-1), f"{label}: largest gain by smoothing a noisy image"
        )
        run.metric(
            f"{name}_misled_share",
            misled[i],
            n=n_images,
            label=f"{label}: share of pairs in which the worse image scores higher",
        )
        if np.isfinite(equivalent[i]):
            run.metric(
                f"{name}_equivalent_blur",
                equivalent[i],
                unit="nm",
                n=n_images,
                label=f"{label}: blur that lowers it as much as contrast times {contrast:g}",
            )
    variance = relative[INDEX_NAMES.index("variance")]
    _mean(
        run, "variance_clean_over_noisy", 1 / variance[:, -1, 0], "Variance without noise over that at the lowest dose"
    )


def report_resampling(run: Run, resampling: Resampling, kernel: str) -> None:
    """Note the ratios, after over before: of `kernel` in full, of the others per pixel, and of the crop as control."""
    chosen = resampling.methods.index(kernel)
    crop = resampling.methods.index(CROP)
    share, raw, per_pixel = resampling.pixel_count_share, resampling.raw, resampling.per_pixel
    n_images = len(resampling.count)
    _mean(run, "pixel_count_ratio", resampling.count, "Pixels after over before")
    for i, name in enumerate(INDEX_NAMES):
        label = INDEX_LABELS[name]
        _mean(run, f"{name}_raw_ratio", raw[i, chosen], f"{label}, sum: after over before, {KERNEL_LABELS[kernel]}")
        _mean(run, f"{name}_per_pixel_ratio", per_pixel[i, chosen], f"{label}, per pixel: after over before")
        _mean(run, f"{name}_crop_raw_ratio", raw[i, crop], f"{label}, sum: crop over whole")
        if np.isfinite(share[i, chosen]):
            run.metric(
                f"{name}_pixel_count_share",
                share[i, chosen],
                n=n_images,
                label=f"{label}: share of the sum's logarithmic drop that is pixel count",
            )
        run.metric(
            f"{name}_falling_kernels",
            float((per_pixel[i, :crop].mean(axis=1) < 1).sum()),
            n=len(RESAMPLING_KERNELS),
            label=f"{label}: kernels of six by which it falls per pixel",
        )
        for m, method in enumerate(RESAMPLING_KERNELS):
            _mean(
                run,
                f"{name}_{method}_per_pixel_ratio",
                per_pixel[i, m],
                f"{label}, per pixel: after over before, {KERNEL_LABELS[method]}",
            )
    paper = [share[INDEX_NAMES.index(name), chosen] for name in PAPER_INDICES]
    defined = [value for value in paper if np.isfinite(value)]
    for name, value in (("smallest", min(defined)), ("largest", max(defined))):
        run.metric(
            f"pixel_count_share_{name}",
            value,
            n=len(defined),
            label=f"Share of the drop that is pixel count, {name} of the paper's indices",
        )
    _report_edge(run, resampling, chosen)


def _report_edge(run: Run, resampling: Resampling, chosen: int) -> None:
    """How much of the covariance the missing column takes from Vollath as written, before and after."""
    written, centred = INDEX_NAMES.index("vollath"), INDEX_NAMES.index("vollath_centred")
    before = 1 - resampling.before[written] / resampling.before[centred]
    after = 1 - resampling.after[written, chosen] / resampling.after[centred, chosen]
    _mean(run, "vollath_edge_before", before, "Vollath: share lost to the missing column, before")
    _mean(run, "vollath_edge_after", after, "Vollath: share lost to the missing column, after")


def resampling_table(resampling: Resampling) -> DisplayTable:
    """Return the ratios, after over before, as a table: a method a row, per pixel, then the share of pixel count."""
    share = resampling.pixel_count_share
    rows = []
    for m, method in enumerate(resampling.methods):
        cells = [METHOD_LABELS[method]]
        for i in range(len(INDEX_NAMES)):
            percent = f"{share[i, m]:.0%}" if np.isfinite(share[i, m]) else "undefined"
            cells.append(f"{_mean_and_spread(resampling.per_pixel[i, m])}; {percent}")
        rows.append(tuple(Shown(cell) for cell in cells))
    return DisplayTable(
        caption="Each index per pixel, after over before downsampling (mean ± standard deviation over images). Then "
        "the part of the raw sum's logarithmic drop that is only pixel count. Above 100 %: per pixel the index rises.",
        header=("Kernel", *(INDEX_LABELS[name] for name in INDEX_NAMES)),
        rows=tuple(rows),
        css_class="emseg-metrics",
        row_ids=tuple(f"kernel-{method.replace('_', '-')}" for method in resampling.methods),
    )


def _mean_and_spread(values: NDArray[np.float64]) -> str:
    text = f"{values.mean():.2f}"
    return text if len(values) == 1 else f"{text} ± {values.std(ddof=1):.2f}"


def _mean(run: Run, name: str, values: NDArray[np.float64], label: str) -> None:
    spread: dict[str, Any] = {} if len(values) == 1 else {"spread": values.std(ddof=1)}
    run.metric(name, values.mean(), n=len(values), label=label, **spread)
