"""Experiments and metrics of the chapter on sharpness: indices under blur, noise, contrast and downsampling.

    response     indices after a Gaussian blur of the specimen's image and shot noise of a given dose, in that order
    resampling   indices after downsampling by each kernel, over those before, and a crop of as few pixels as a control

A raw sum's ratio is the ratio of the pixel counts times the ratio per pixel. On a logarithmic scale these add, so that
log(count ratio) / log(raw ratio) is the fraction of a drop that is only pixel count: 1 when the index per pixel stays,
above 1 when it rises. Metric names begin with the index: `smd2_raw_ratio` and `smd2_per_pixel_ratio` for the kernel
that represents the paper's, `smd2_area_per_pixel_ratio` for each kernel by name.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

from emseg.checks import require_one_of
from emseg.errors import UsageError
from emseg.runs.session import Run
from emseg.sharpness import INDEX_LABELS as ALL_LABELS
from emseg.sharpness import KERNEL_LABELS, RESAMPLING_KERNELS, downsample, reduced_shape, sharpness

CROP = "crop"
"""The control next to the resampling kernels: the centre of the image, as many pixels, nothing resampled."""
INDEX_LABELS = {name: label for name, label in ALL_LABELS.items() if name != "vollath_f4"}
INDEX_NAMES = tuple(INDEX_LABELS)
PAPER_INDICES = ("brenner_gap2", "smd2", "variance", "vollath")
METHOD_LABELS = {**KERNEL_LABELS, CROP: "crop, not resampled"}
Images = Sequence[NDArray[Any]]


@dataclass(frozen=True)
class ImageSet:
    """Micrographs of one pixel size, and in `clean` the centre of each, without shot noise where it was drawn."""

    name: str
    kind: str
    fingerprint: str
    pixel_size_nm: float
    images: tuple[NDArray[np.uint8], ...]
    clean: tuple[NDArray[np.uint8], ...]

    def versions(self, index: int) -> dict[str, NDArray[np.uint8]]:
        """Return one image's centre as it is and, where it was drawn, without noise as well, by a title for each."""
        clean = self.clean[index]
        if self.kind != "synthetic":
            return {"as recorded": clean}
        return {"without noise": clean, "with shot noise": central_crop(self.images[index], clean.shape)}


@dataclass(frozen=True)
class Response:
    """Indices per pixel after every blur, counted with every dose; a dose of infinity means no noise."""

    blurs_nm: tuple[float, ...]
    doses_per_nm2: tuple[float, ...]
    per_pixel: Float64[np.ndarray, "index image dose blur"]

    def relative(self) -> Float64[np.ndarray, "index image dose blur"]:
        """Return every value over that of the same image without blur and without noise."""
        return np.asarray(self.per_pixel / self.per_pixel[:, :, :1, :1])


@dataclass(frozen=True)
class Resampling:
    """Indices per pixel before and after each method (the kernels and, last, the crop), and ratios of pixel counts."""

    methods: tuple[str, ...]
    count: Float64[np.ndarray, " image"]
    before: Float64[np.ndarray, "index image"]
    after: Float64[np.ndarray, "index method image"]

    @property
    def per_pixel(self) -> Float64[np.ndarray, "index method image"]:
        """Ratio, after over before, of the indices per pixel."""
        return np.asarray(self.after / self.before[:, None])

    @property
    def raw(self) -> Float64[np.ndarray, "index method image"]:
        """Ratio of the raw sums: that of the pixel counts times that per pixel."""
        return np.asarray(self.per_pixel * self.count)

    @property
    def pixel_count_share(self) -> Float64[np.ndarray, "index method"]:
        """Fraction of the logarithmic drop of the mean ratio that is pixel count; NaN where an index changes sign."""
        raw = self.raw.mean(axis=2)
        logarithm = np.log(raw, out=np.full_like(raw, np.nan), where=raw > 0)
        return np.asarray(np.log(self.count.mean()) / logarithm)


def load_images(
    source: str, *, n_images: int, image_size: int, crop_size: int, pixel_size_nm: float, seed: int
) -> ImageSet:
    """Return `n_images` micrographs: synthetic, square and at `pixel_size_nm`, or sections of ISBI 2012 at theirs.

    The real ones are spread evenly over the labelled stack; raises InputError when they are not on this machine. The
    centres in `clean` have `crop_size` pixels a side, or the image's where that is less.
    """
    require_one_of("data", source, ("synthetic", "isbi2012"))
    if source == "isbi2012":
        from emseg.data import dataset, fingerprint
        from emseg.data.isbi2012 import N_SLICES, load_isbi2012

        if n_images > N_SLICES:
            raise UsageError(f"ISBI 2012 has {N_SLICES} labelled sections; got n_images={n_images}. Ask for fewer.")
        entry = dataset("isbi2012")
        images = tuple(load_isbi2012("train", np.linspace(0, N_SLICES - 1, n_images).round().astype(int).tolist())[0])
        centres = tuple(central_crop(image, (crop_size, crop_size)) for image in images)
        return ImageSet("ISBI 2012", entry.kind, fingerprint("isbi2012"), entry.pixel_size_nm or 0.0, images, centres)
    from emseg.synthetic import tissue

    shape, seeds, side = (image_size, image_size), range(seed, seed + n_images), min(crop_size, image_size)
    corner_nm = (image_size - side) // 2 * pixel_size_nm
    options = {"imaging": dataclasses.replace(tissue.URISC_IMAGING, dose_per_nm2=None), "origin_nm": (corner_nm,) * 2}
    draw: Any = tissue.synthesize_tissue
    images = tuple(draw(shape, pixel_size_nm=pixel_size_nm, seed=one).image for one in seeds)
    clean = tuple(draw((side, side), pixel_size_nm=pixel_size_nm, seed=one, **options).image for one in seeds)
    prints = " ".join(tissue.fingerprint(shape, pixel_size_nm=pixel_size_nm, seed=one) for one in seeds)
    return ImageSet("synthetic tissue", "synthetic", prints, pixel_size_nm, images, clean)


def central_crop(image: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the centre of an image, of `shape` (rows, columns) or the whole side where it is shorter."""
    height, width = min(shape[0], image.shape[0]), min(shape[1], image.shape[1])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def enlarged(image: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return an image at a larger `shape` (rows, columns), each pixel as a square, to compare it at one scale."""
    return np.asarray(cv2.resize(image, (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST))


def blur(image: NDArray[Any], sigma_nm: float, pixel_size_nm: float) -> NDArray[np.float32]:
    """Return the image as float32 after a Gaussian blur of standard deviation `sigma_nm`, mirrored at its borders."""
    values = np.ascontiguousarray(image, dtype=np.float32)
    if sigma_nm == 0:
        return values
    blurred = cv2.GaussianBlur(values, (0, 0), sigma_nm / pixel_size_nm, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(blurred, dtype=np.float32)


def shot_noise(
    image: NDArray[Any], dose_per_nm2: float, pixel_size_nm: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return the image counted in electrons: Poisson, with `dose_per_nm2` electrons per square nanometre at white."""
    if np.isinf(dose_per_nm2):
        return np.asarray(image, dtype=np.float32)
    electrons_per_grey = dose_per_nm2 * pixel_size_nm**2 / 255
    return np.asarray(rng.poisson(np.maximum(image, 0) * electrons_per_grey) / electrons_per_grey, dtype=np.float32)


def respond(
    images: Images, pixel_size_nm: float, *, blurs_nm: Sequence[float], doses_per_nm2: Sequence[float], seed: int
) -> Response:
    """Return the indices of every image after every blur, counted with every dose; no blur and no noise come first."""
    blurs, doses = with_zero(blurs_nm), (np.inf, *sorted(set(doses_per_nm2) - {np.inf}, reverse=True))
    values = np.empty((len(INDEX_NAMES), len(images), len(doses), len(blurs)))
    for i, image in enumerate(images):
        for j, sigma_nm in enumerate(blurs):
            blurred = blur(image, sigma_nm, pixel_size_nm)
            for k, dose in enumerate(doses):
                rng = np.random.default_rng((seed, i, j, k))
                values[:, i, k, j] = _per_pixel(shot_noise(blurred, dose, pixel_size_nm, rng))
    return Response(blurs, doses, values)


def smooth(
    images: Images, pixel_size_nm: float, *, dose_per_nm2: float, blurs_nm: Sequence[float], seed: int
) -> Float64[np.ndarray, "index image blur"]:
    """Return the indices of images counted with one dose and blurred afterwards, over those before that blur.

    This is what interpolation, binning or a smoothing filter does to a noisy image; no blur comes first.
    """
    blurs = with_zero(blurs_nm)
    values = np.empty((len(INDEX_NAMES), len(images), len(blurs)))
    for i, image in enumerate(images):
        counted = shot_noise(image, dose_per_nm2, pixel_size_nm, np.random.default_rng((seed, i)))
        for j, sigma_nm in enumerate(blurs):
            values[:, i, j] = _per_pixel(blur(counted, sigma_nm, pixel_size_nm))
    return values / values[:, :, :1]


def resample(images: Images, factor: float) -> Resampling:
    """Return the indices after downsampling each image by each kernel, and by cropping, over those before."""
    methods = (*RESAMPLING_KERNELS, CROP)
    shapes = [reduced_shape((image.shape[0], image.shape[1]), factor) for image in images]
    before, after = np.array([_per_pixel(image) for image in images]).T, []
    for image, shape in zip(images, shapes, strict=True):
        small = [downsample(image, shape, kernel) for kernel in RESAMPLING_KERNELS] + [central_crop(image, shape)]
        after.append([_per_pixel(one) for one in small])
    count = np.array([shape[0] * shape[1] / image.size for image, shape in zip(images, shapes, strict=True)])
    return Resampling(methods, count, before, np.array(after).T)


def rising_share(values: NDArray[np.float64]) -> float:
    """Return the fraction of steps along the last axis at which a value rises, where it should fall."""
    return float((np.diff(values, axis=-1) > 0).mean())


def misled_share(response: Response) -> Float64[np.ndarray, " index"]:
    """Return for each index the fraction of pairs in which the worse image scores higher.

    A pair is two versions of one image; the worse is more blurred or noisier, and in neither respect better.
    """
    values = response.per_pixel
    wrong, n_pairs = np.zeros(len(values)), 0
    for dose, sigma in np.ndindex(values.shape[2:]):
        worse = values[:, :, dose:, sigma:] > values[:, :, dose : dose + 1, sigma : sigma + 1]
        wrong += worse.sum(axis=(1, 2, 3))
        n_pairs += worse[0].size - len(values[0])
    return wrong / n_pairs


def equivalent_blur_nm(response: Response, contrast: float) -> Float64[np.ndarray, " index"]:
    """Return the blur that lowers each index as much as a contrast of `contrast` does; NaN beyond the range tried."""
    target, blurs = 2 * np.log(contrast), np.array(response.blurs_nm)
    found = np.full(len(INDEX_NAMES), np.nan)
    for index, curve in enumerate(response.relative()[:, :, 0].mean(axis=1)):
        falling = np.log(curve[curve > 0])
        if np.all(np.diff(falling) < 0) and falling[-1] < target:
            found[index] = np.interp(-target, -falling, blurs[curve > 0])
    return found


def report_response(run: Run, response: Response, smoothed: NDArray[np.float64], contrast: float) -> None:
    """Record how indices react to blur and noise: steps in the wrong direction, gains, pairs put in the wrong order."""
    relative = response.relative()
    n_images, n_doses, n_blurs = relative.shape[1:]
    misled, equivalent = misled_share(response), equivalent_blur_nm(response, contrast)
    as_contrast = f"blur that lowers it as much as contrast times {contrast:g}"
    n_steps = n_images * (n_blurs - 1), n_images * n_blurs * (n_doses - 1)
    for i, (name, label) in enumerate(INDEX_LABELS.items()):
        per_pixel = response.per_pixel[i]
        rising = rising_share(per_pixel[:, 0]), rising_share(np.moveaxis(per_pixel, 1, -1))
        for metric, value, n, unit, text in (
            ("blur_violations", rising[0], n_steps[0], "1", "fraction of blur steps at which it rises, no noise"),
            ("noise_violations", rising[1], n_steps[1], "1", "fraction of noise steps at which it rises"),
            ("misled_share", misled[i], n_images, "1", "fraction of pairs in which the worse image scores higher"),
            ("equivalent_blur", equivalent[i], n_images, "nm", as_contrast),
        ):
            if np.isfinite(value):
                run.metric(f"{name}_{metric}", value, n=n, unit=unit, label=f"{label}: {text}")
        for metric, values, text in (
            ("noise_gain", relative[i, :, -1, 0], " at the lowest dose over that without noise"),
            ("blur_loss", relative[i, :, 0, -1], " at the widest blur over that without blur"),
            ("smoothing_gain", smoothed[i].max(axis=-1), ": largest gain by smoothing a noisy image"),
        ):
            _mean(run, f"{name}_{metric}", values, label + text)
    clean_over_noisy = 1 / relative[INDEX_NAMES.index("variance"), :, -1, 0]
    _mean(run, "variance_clean_over_noisy", clean_over_noisy, "Variance without noise over that at the lowest dose")


def report_resampling(run: Run, resampling: Resampling, kernel: str) -> None:
    """Record the ratios, after over before: of `kernel` in full, of others per pixel, and of the crop as control."""
    chosen = resampling.methods.index(kernel)
    share, raw, per_pixel = resampling.pixel_count_share[:, chosen], resampling.raw, resampling.per_pixel
    _mean(run, "pixel_count_ratio", resampling.count, "Pixels after over before")
    for i, (name, label) in enumerate(INDEX_LABELS.items()):
        for metric, values, text in (
            ("raw_ratio", raw[i, chosen], f"sum: after over before, {KERNEL_LABELS[kernel]}"),
            ("per_pixel_ratio", per_pixel[i, chosen], "per pixel: after over before"),
            ("crop_raw_ratio", raw[i, -1], "sum: crop over whole"),
            *(
                (f"{method}_per_pixel_ratio", values, f"per pixel: after over before, {KERNEL_LABELS[method]}")
                for method, values in zip(RESAMPLING_KERNELS, per_pixel[i], strict=False)
            ),
        ):
            _mean(run, f"{name}_{metric}", values, f"{label}, {text}")
        if np.isfinite(share[i]):
            text = f"{label}: fraction of the sum's logarithmic drop that is pixel count"
            run.metric(f"{name}_pixel_count_share", share[i], n=len(resampling.count), label=text)
        falling = (per_pixel[i, :-1].mean(axis=1) < 1).sum()
        text = f"{label}: kernels of six by which it falls per pixel"
        run.metric(f"{name}_falling_kernels", falling, n=len(RESAMPLING_KERNELS), label=text)
    defined = [value for name in PAPER_INDICES if np.isfinite(value := share[INDEX_NAMES.index(name)])]
    for name, value in (("smallest", min(defined)), ("largest", max(defined))):
        text = f"Fraction of the drop that is pixel count, {name} of the paper's indices"
        run.metric(f"pixel_count_share_{name}", value, n=len(defined), label=text)
    written, centred = INDEX_NAMES.index("vollath"), INDEX_NAMES.index("vollath_centred")
    for when, values in (("before", resampling.before), ("after", resampling.after[:, chosen])):
        lost = 1 - values[written] / values[centred]  # what the missing column takes from Vollath as written
        _mean(run, f"vollath_edge_{when}", lost, f"Vollath: share lost to the missing column, {when}")


def _mean(run: Run, name: str, values: NDArray[np.float64], label: str) -> None:
    spread = None if len(values) == 1 else float(values.std(ddof=1))
    run.metric(name, values.mean(), n=len(values), label=label, spread=spread)


def relative_axis(ax: Axes, which: str) -> None:
    """Make an axis logarithmic in plain numbers: its decades, and 2 and 5 as well where it spans less than two."""
    ax.set(**{f"{which}scale": "log"})
    axis = ax.xaxis if which == "x" else ax.yaxis
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 100 * low else (1.0,)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def with_zero(blurs_nm: Sequence[float]) -> tuple[float, ...]:
    """Return the blurs in order, no blur first."""
    return (0.0, *sorted(set(blurs_nm) - {0.0}))


def _per_pixel(image: NDArray[Any]) -> list[float]:
    found = sharpness(image).per_pixel()
    return [found[name] for name in INDEX_NAMES]
