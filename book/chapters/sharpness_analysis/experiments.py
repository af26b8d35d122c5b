"""The chapter's experiments: what blur, noise, contrast and downsampling do to the indices, as plain arrays.

    image set    micrographs, or the one real set, with what a run record must say of them
    response     indices after a Gaussian blur of the specimen's image and shot noise of a given dose, in that order
    resampling   indices after downsampling by each kernel, over those before, and a crop of as few pixels as a control

A raw sum's ratio is the ratio of the pixel counts times the ratio per pixel. On a logarithmic scale these add, so that
log(count ratio) / log(raw ratio) is the share of a drop that is nothing but fewer pixels: 1 when the index per pixel
stays, above 1 when it rises.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray

from emseg.errors import UsageError
from emseg.sharpness.downsampling import RESAMPLING_KERNELS, downsample, reduced_shape
from emseg.sharpness.indices import INDEX_NAMES, sharpness

CROP = "crop"
"""The control beside the resampling kernels: the centre of the image, as many pixels, nothing resampled."""

WHITE = 255.0

ImageSource = Literal["synthetic", "isbi2012"]


@dataclass(frozen=True)
class ImageSet:
    """Micrographs of one pixel size, and in `clean` the centre of each, drawn without shot noise where it can be."""

    name: str
    kind: str
    fingerprint: str
    pixel_size_nm: float
    images: tuple[NDArray[np.uint8], ...]
    clean: tuple[NDArray[np.uint8], ...]

    @property
    def is_synthetic(self) -> bool:
        """Whether the images were drawn, so that they exist without noise."""
        return self.kind == "synthetic"

    def versions(self, index: int) -> dict[str, NDArray[np.uint8]]:
        """Return one image's centre as it is and, where it was drawn, without noise as well, by a title for each."""
        clean = self.clean[index]
        if not self.is_synthetic:
            return {"as recorded": clean}
        return {"without noise": clean, "with shot noise": central_crop(self.images[index], clean.shape)}


@dataclass(frozen=True)
class Response:
    """Indices per pixel: `per_pixel` [index, image, dose, blur]; a dose of infinity means no noise."""

    blurs_nm: tuple[float, ...]
    doses_per_nm2: tuple[float, ...]
    per_pixel: Float64[np.ndarray, "index image dose blur"]

    def relative(self) -> Float64[np.ndarray, "index image dose blur"]:
        """Return every value over that of the same image without blur and without noise."""
        return np.asarray(self.per_pixel / self.per_pixel[:, :, :1, :1])


@dataclass(frozen=True)
class Resampling:
    """Indices per pixel, `before` [index, image] and `after` [index, method, image], and the ratio of pixel counts.

    The methods are the resampling kernels and, last, the crop.
    """

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
        """Share of the logarithmic drop of the mean ratio that is pixel count; NaN where an index changed its sign."""
        raw = self.raw.mean(axis=2)
        logarithm = np.log(raw, out=np.full_like(raw, np.nan), where=raw > 0)
        return np.asarray(np.log(self.count.mean()) / logarithm)


def load_images(
    source: ImageSource, *, n_images: int, image_size: int, crop_size: int, pixel_size_nm: float, seed: int
) -> ImageSet:
    """Return `n_images` micrographs: drawn, square and at `pixel_size_nm`, or the real ones at theirs.

    Drawn images have the seeds `seed`, `seed + 1` and so on. The real ones are sections of ISBI 2012, spread evenly
    over the labelled stack, 512 x 512 px at 4 nm; raises InputError when they are not on this machine. The centres in
    `clean` have `crop_size` pixels a side, or the image's where that is less.
    """
    if source == "isbi2012":
        return _isbi2012(n_images, crop_size)
    if source != "synthetic":
        raise UsageError(f"data must be synthetic or isbi2012; got {source!r}.")
    from emseg.synthetic.tissue import URISC_IMAGING, fingerprint, synthesize_tissue

    shape = (image_size, image_size)
    seeds = range(seed, seed + n_images)
    noise_free = dataclasses.replace(URISC_IMAGING, dose_per_nm2=None)
    side = min(crop_size, image_size)
    corner_nm = (image_size - side) // 2 * pixel_size_nm
    return ImageSet(
        name="synthetic tissue",
        kind="synthetic",
        fingerprint=" ".join(fingerprint(shape, pixel_size_nm=pixel_size_nm, seed=one) for one in seeds),
        pixel_size_nm=pixel_size_nm,
        images=tuple(synthesize_tissue(shape, pixel_size_nm=pixel_size_nm, seed=one).image for one in seeds),
        clean=tuple(
            synthesize_tissue(
                (side, side),
                pixel_size_nm=pixel_size_nm,
                seed=one,
                imaging=noise_free,
                origin_nm=(corner_nm, corner_nm),
            ).image
            for one in seeds
        ),
    )


def _isbi2012(n_images: int, crop_size: int) -> ImageSet:
    from emseg.data import dataset, fingerprint
    from emseg.data.isbi2012 import N_SLICES, load_isbi2012

    if n_images > N_SLICES:
        raise UsageError(f"ISBI 2012 has {N_SLICES} labelled sections; got n_images={n_images}. Ask for fewer.")
    chosen = np.linspace(0, N_SLICES - 1, n_images).round().astype(int).tolist()
    entry = dataset("isbi2012")
    assert entry.pixel_size_nm is not None
    images = tuple(load_isbi2012("train", chosen)[0])
    centres = tuple(central_crop(image, (crop_size, crop_size)) for image in images)
    return ImageSet("ISBI 2012", entry.kind, fingerprint("isbi2012"), entry.pixel_size_nm, images, centres)


def central_crop(image: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """Return the centre of an image, of `shape` (rows, columns) or the whole side where it is shorter."""
    height, width = min(shape[0], image.shape[0]), min(shape[1], image.shape[1])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def blur(image: NDArray[Any], sigma_nm: float, pixel_size_nm: float) -> NDArray[np.float32]:
    """Return the image as float32 after a Gaussian blur of standard deviation `sigma_nm`, mirrored at its borders."""
    values = np.ascontiguousarray(image, dtype=np.float32)
    if sigma_nm == 0:
        return values
    sigma_px = sigma_nm / pixel_size_nm
    return np.asarray(cv2.GaussianBlur(values, (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT_101), dtype=np.float32)


def shot_noise(
    image: NDArray[Any], dose_per_nm2: float, pixel_size_nm: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return the image counted in electrons: Poisson, with `dose_per_nm2` electrons per square nanometre at white."""
    if np.isinf(dose_per_nm2):
        return np.asarray(image, dtype=np.float32)
    electrons_per_grey = dose_per_nm2 * pixel_size_nm**2 / WHITE
    counts = rng.poisson(np.maximum(image, 0) * electrons_per_grey)
    return np.asarray(counts / electrons_per_grey, dtype=np.float32)


def respond(
    images: Sequence[NDArray[Any]],
    pixel_size_nm: float,
    *,
    blurs_nm: Sequence[float],
    doses_per_nm2: Sequence[float],
    seed: int,
) -> Response:
    """Return the indices of every image after every blur, counted with every dose; no blur and no noise come first."""
    blurs = (0.0, *sorted(set(blurs_nm) - {0.0}))
    doses = (float("inf"), *sorted(set(doses_per_nm2) - {float("inf")}, reverse=True))
    values = np.empty((len(INDEX_NAMES), len(images), len(doses), len(blurs)))
    for i, image in enumerate(images):
        for j, sigma_nm in enumerate(blurs):
            blurred = blur(image, sigma_nm, pixel_size_nm)
            for k, dose in enumerate(doses):
                rng = np.random.default_rng((seed, i, j, k))
                values[:, i, k, j] = _per_pixel(shot_noise(blurred, dose, pixel_size_nm, rng))
    return Response(blurs, doses, values)


def rising_share(values: NDArray[np.float64]) -> float:
    """Return the share of steps along the last axis at which a value rises, where it should fall."""
    return float((np.diff(values, axis=-1) > 0).mean())


def smooth(
    images: Sequence[NDArray[Any]], pixel_size_nm: float, *, dose_per_nm2: float, blurs_nm: Sequence[float], seed: int
) -> Float64[np.ndarray, "index image blur"]:
    """Return the indices of images counted with one dose and blurred afterwards, over those before that blur.

    This is what interpolation, binning or a smoothing filter does to a noisy image; no blur comes first.
    """
    blurs = (0.0, *sorted(set(blurs_nm) - {0.0}))
    values = np.empty((len(INDEX_NAMES), len(images), len(blurs)))
    for i, image in enumerate(images):
        counted = shot_noise(image, dose_per_nm2, pixel_size_nm, np.random.default_rng((seed, i)))
        for j, sigma_nm in enumerate(blurs):
            values[:, i, j] = _per_pixel(blur(counted, sigma_nm, pixel_size_nm))
    return values / values[:, :, :1]


def misled_share(response: Response) -> Float64[np.ndarray, " index"]:
    """Return for each index the share of pairs in which the worse image scores higher.

    A pair is two versions of one image; the worse is more blurred or noisier, and in neither respect better.
    """
    values = response.per_pixel
    n_doses, n_blurs = values.shape[2:]
    wrong = np.zeros(len(values))
    n_pairs = 0
    for dose in range(n_doses):
        for sigma in range(n_blurs):
            worse = values[:, :, dose:, sigma:] > values[:, :, dose : dose + 1, sigma : sigma + 1]
            wrong += worse.sum(axis=(1, 2, 3))
            n_pairs += worse[0].size - len(values[0])
    return wrong / n_pairs


def equivalent_blur_nm(response: Response, contrast: float) -> Float64[np.ndarray, " index"]:
    """Return the blur that lowers each index as much as a contrast of `contrast` does; NaN beyond the range tried."""
    curves = response.relative()[:, :, 0].mean(axis=1)
    target = 2 * np.log(contrast)
    blurs = np.array(response.blurs_nm)
    found = np.full(len(curves), np.nan)
    for index, curve in enumerate(curves):
        positive = curve > 0
        falling = np.log(curve[positive])
        if np.all(np.diff(falling) < 0) and falling[-1] < target:
            found[index] = np.interp(-target, -falling, blurs[positive])
    return found


def resample(images: Sequence[NDArray[Any]], factor: float) -> Resampling:
    """Return the indices after downsampling each image by each kernel, and by cropping, over those before."""
    methods = (*RESAMPLING_KERNELS, CROP)
    after = np.empty((len(INDEX_NAMES), len(methods), len(images)))
    before = np.empty((len(INDEX_NAMES), len(images)))
    count = np.empty(len(images))
    for i, image in enumerate(images):
        shape = reduced_shape((image.shape[0], image.shape[1]), factor)
        count[i] = shape[0] * shape[1] / image.size
        before[:, i] = _per_pixel(image)
        for m, kernel in enumerate(RESAMPLING_KERNELS):
            after[:, m, i] = _per_pixel(downsample(image, shape, kernel))
        after[:, -1, i] = _per_pixel(central_crop(image, shape))
    return Resampling(methods, count, before, after)


def _per_pixel(image: NDArray[Any]) -> list[float]:
    return list(sharpness(image).per_pixel().values())
