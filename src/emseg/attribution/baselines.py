"""The input that an attribution is measured from: what stands for "nothing to see".

On the scale of the networks, x = (grey / 255 - 0.5) / 0.5, so that black is -1, mid-grey 0 and white 1:

    mid_grey   0 everywhere; zeros after normalising, the authors' choice
    black      -1 everywhere: the grey of a membrane, so that membranes can hardly be attributed to
    mean       the image's own mean grey
    blurred    the image after a Gaussian blur: its slow changes without its edges
    patches    real patches in place of the image; the attribution is the mean over them

The last has more than one baseline, so all come as [baseline, row, column]; `mean_over_baselines` averages the maps.

Source: Sundararajan, Taly, Yan 2017, section 2 (baselines); Erion et al. 2021, "Improving performance of deep learning
models with axiomatic attribution priors and expected gradients" (the mean over real inputs). The authors' public code
passes zeros.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import cv2
import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray

from emseg.attribution.attribution import Attribution
from emseg.errors import InputError, UsageError, suggest

BaselineName = Literal["mid_grey", "black", "mean", "blurred", "patches"]
BASELINE_NAMES: tuple[BaselineName, ...] = get_args(BaselineName)
BASELINE_LABELS: dict[str, str] = {
    "mid_grey": "mid-grey",
    "black": "black",
    "mean": "the image's mean",
    "blurred": "the image, blurred",
    "patches": "real patches, averaged",
}
GREY_MIDDLE = 0.5
WHITE = 255.0


def network_input(image: NDArray[np.uint8]) -> Float32[np.ndarray, "row column"]:
    """Return an 8-bit image on the scale of the networks, -1 (black) to 1 (white).

    Raises `InputError` for anything but one 8-bit grey image.
    """
    if image.dtype != np.uint8 or image.ndim != 2:
        raise InputError(
            f"an image must be 8-bit grey, [row, column]; got {image.dtype} of shape {image.shape}. Convert it first."
        )
    return np.asarray((image.astype(np.float32) / WHITE - GREY_MIDDLE) / GREY_MIDDLE, dtype=np.float32)


def make_baseline(
    name: str,
    image: NDArray[Any],
    *,
    sigma_px: float = 16.0,
    references: Sequence[NDArray[Any]] = (),
    n_patches: int = 4,
    generator: np.random.Generator | None = None,
) -> Float32[np.ndarray, "baseline row column"]:
    """Return the baselines by name for an image on the networks' scale; one, or `n_patches` for "patches".

    `sigma_px` is the blur of "blurred". Patches are cut, of the image's size, from `references` (other images on the
    networks' scale) at places that `generator` draws. Raises `UsageError` for an unknown name, and for patches without
    references as large as the image.
    """
    if name not in BASELINE_NAMES:
        raise UsageError(
            f"a baseline must be one of {', '.join(BASELINE_NAMES)}; got {name!r}.{suggest(name, BASELINE_NAMES)}"
        )
    values = _checked(image)
    if name == "mid_grey":
        return np.zeros((1, *values.shape), dtype=np.float32)
    if name == "black":
        return np.full((1, *values.shape), -1.0, dtype=np.float32)
    if name == "mean":
        return np.full((1, *values.shape), values.mean(), dtype=np.float32)
    if name == "blurred":
        if not sigma_px > 0:
            raise UsageError(f"`sigma_px` must be positive; got {sigma_px}. Give the blur's standard deviation.")
        blurred = cv2.GaussianBlur(values, (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT_101)
        return np.asarray(blurred, dtype=np.float32)[None]
    return _patches(values.shape, references, n_patches, generator)


def _checked(image: NDArray[Any]) -> NDArray[np.float32]:
    if image.ndim != 2 or not np.issubdtype(image.dtype, np.floating) or not np.isfinite(image).all():
        raise InputError(
            "a baseline needs a finite image [row, column] on the networks' scale; got "
            f"{image.dtype} of shape {image.shape}. Pass it through `network_input` first."
        )
    return np.ascontiguousarray(image, dtype=np.float32)


def _patches(
    shape: tuple[int, ...], references: Sequence[NDArray[Any]], n_patches: int, generator: np.random.Generator | None
) -> NDArray[np.float32]:
    height, width = shape
    fitting = [one for one in references if one.shape[0] >= height and one.shape[1] >= width]
    if not fitting or generator is None or n_patches < 1:
        raise UsageError(
            f'the baseline "patches" needs a generator, n_patches of at least 1 and references of at least {height} x '
            f"{width} px; got {len(fitting)} such, n_patches={n_patches}. Give other images of the same set."
        )
    patches = np.empty((n_patches, height, width), dtype=np.float32)
    for patch in patches:
        source = _checked(fitting[int(generator.integers(len(fitting)))])
        row = int(generator.integers(source.shape[0] - height + 1))
        column = int(generator.integers(source.shape[1] - width + 1))
        patch[...] = source[row : row + height, column : column + width]
    return patches


def mean_over_baselines(
    attribute: Callable[[NDArray[np.float32]], Attribution], baselines: Float32[np.ndarray, "baseline row column"]
) -> Attribution:
    """Return the mean of `attribute(baseline)` over the baselines; maps and the baseline's scores are averaged.

    The mean of complete attributions is complete: it shares out f(x) minus the mean of f(baseline).
    """
    if baselines.ndim != 3 or not len(baselines):
        raise UsageError(f"`baselines` must be [baseline, row, column], at least one; got shape {baselines.shape}.")
    first = attribute(baselines[0])
    if len(baselines) == 1:
        return first
    maps = first.maps.astype(np.float64)
    scores = first.baseline_scores.astype(np.float64)
    for baseline in baselines[1:]:
        other = attribute(baseline)
        maps += other.maps
        scores += other.baseline_scores
    n = len(baselines)
    settings = {**first.settings, "n_baselines": n}
    return replace(first, maps=(maps / n).astype(np.float32), baseline_scores=scores / n, settings=settings)
