"""A network's prediction for whole images, and the threshold on it that is best on the validation images.

    p = sigmoid(network(x)),  x = (g / 255 - 0.5) / 0.5 for grey values g

An image of at most `tile` pixels a side is predicted whole, a larger one in overlapping tiles (`emseg.tiling`), whose
outer `halo` pixels are discarded. Test-time augmentation takes the mean of p over the eight rotations and reflections
of a square.

The threshold has the highest mean F1 over the validation images. Two histograms of the levels round(255 p) of an image,
one over membrane and one over background, give the counts at all 255 thresholds at once:

    TP(t) = membrane pixels of level >= t,   FP(t) = background pixels of level >= t,   F1 = 2 TP / (P + TP + FP)
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64, Integer, UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from emseg.checks import require_one_of
from emseg.errors import InputError, UsageError
from emseg.files import atomic_path
from emseg.membrane.dataset import MembraneImage, Window
from emseg.membrane.networks import MembraneNetwork, receptive_field
from emseg.membrane.training.crop_sampling import MIDDLE_GREY
from emseg.tiling import TileGrid, open_output, predict_tiled
from emseg.training.devices import TORCH_PRECISION

WHOLE_IMAGE = 1024  # larger images take too much memory at once: about 2 GB for a ResNet-50 U-Net at this side
LARGEST_HALO = 192
N_DIHEDRAL = 8
N_LEVELS = 256


class MembraneProbability(nn.Module):
    """A network's logits as probabilities, averaged over `n_views` of the eight rotations and reflections."""

    def __init__(self, network: nn.Module, n_views: int = 1) -> None:
        super().__init__()
        self.network, self.n_views = network, n_views

    def forward(self, x: Float[Tensor, "tile channel row column"]) -> Float[Tensor, "tile 1 row column"]:
        """Return the mean probability over the views."""
        each = (dihedral_inverse(torch.sigmoid(self.network(dihedral(x, k)).float()), k) for k in range(self.n_views))
        return sum(each, torch.zeros(())) / self.n_views


def dihedral(x: Tensor, number: int) -> Tensor:
    """Return an image rotated by `number` quarter turns, mirrored before from 4 on."""
    return torch.rot90(x.flip(-1) if number >= 4 else x, number % 4, (-2, -1))


def dihedral_inverse(x: Tensor, number: int) -> Tensor:
    """Undo `dihedral`."""
    rotated = torch.rot90(x, -(number % 4), (-2, -1))
    return rotated.flip(-1) if number >= 4 else rotated


def predict_membrane(
    network: MembraneNetwork,
    image: UInt8[np.ndarray, "row column"],
    *,
    tta: bool = False,
    tile: int = WHOLE_IMAGE,
    halo: int | None = None,
    precision: str = "fp32",
    progress: Callable[[int, int], None] | None = None,
) -> Float32[np.ndarray, "row column"]:
    """Return the probability of membrane, in 0 to 1.

    `halo`, for images larger than `tile`: None is the network's own `receptive_field`, at most `LARGEST_HALO`.
    `precision`: "fp32", "bf16" or "fp16". The network's device and mode stay as they are. Raises `UsageError` and
    `InputError` as `predict_tiled` does.
    """
    if image.dtype != np.uint8 or image.ndim != 2:
        raise InputError(f"an image must be grey, uint8 (row, column); got {image.dtype} of shape {image.shape}.")
    grid = grid_for(network, image.shape, tile=tile, halo=halo)
    options = dict[str, Any](tta=tta, precision=precision, progress=progress)
    return np.asarray(_predict_tiled(network, image, grid, **options)[0], dtype=np.float32)


def predict_to_png(
    network: MembraneNetwork,
    image: MembraneImage,
    path: str | Path,
    *,
    tta: bool = False,
    tile: int = WHOLE_IMAGE,
    precision: str = "fp32",
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the levels of membrane, 255 for a probability of 1, to a PNG file that `emseg score` reads.

    An image larger than a tile is read window by window and predicted to disk in a folder next to the PNG: memory grows
    with the image's width and not with its height, and an interrupted prediction resumes to the same bits. Other
    arguments as `predict_membrane`; `progress` receives the tiles done and all.
    """
    path, options = Path(path), dict[str, Any](tta=tta, precision=precision, progress=progress)
    grid = grid_for(network, (image.height, image.width), tile=tile, halo=None)
    if grid.n_tiles == 1:
        write_png(to_levels(predict_membrane(network, image.read(), tile=tile, **options)), path)
        return
    unfinished = path.with_name(f"{path.name}.unfinished")
    # named by what may differ from call to call, so that one with other tiles begins anew instead of being refused
    place = unfinished / f"tile{grid.tile}-halo{grid.halo}-{precision}"
    place.mkdir(parents=True, exist_ok=True)
    levels, checkpoint = place / "levels.npy", place / "checkpoint.json"
    if not checkpoint.is_file():  # then nothing is finished, and an existing file may be incomplete
        levels.unlink(missing_ok=True)
    out = open_output(levels, grid, 1, "uint8")
    _predict_tiled(network, _Pixels(image), grid, **options, out=out, checkpoint=checkpoint)
    write_png(out[0], path)
    del out
    shutil.rmtree(unfinished, ignore_errors=True)


def write_png(levels: UInt8[np.ndarray, "row column"], path: Path) -> None:
    """Write a grey image in one step."""
    with atomic_path(path) as new:
        Image.fromarray(levels).save(new, format="PNG")


class _Pixels:
    """An image as an array of which only the requested windows are read."""

    def __init__(self, image: MembraneImage) -> None:
        self.image, self.shape, self.dtype = image, (image.height, image.width), np.dtype(np.uint8)

    def __getitem__(self, window: Any) -> NDArray[np.uint8]:
        return self.image.read(window)


def _predict_tiled(
    network: MembraneNetwork, image: Any, grid: TileGrid, *, tta: bool, precision: str, **options: Any
) -> Any:
    n_views = N_DIHEDRAL if tta else 1
    if "out" in options:
        options["depends_on"] = {"views": n_views}
    options["precision"] = TORCH_PRECISION[require_one_of("precision", precision, TORCH_PRECISION)]
    network_of_tiles = MembraneProbability(network, n_views)
    return predict_tiled(network_of_tiles, image, grid, batch_size=1, mean=MIDDLE_GREY, scale=MIDDLE_GREY, **options)


def grid_for(network: MembraneNetwork, shape: tuple[int, ...], *, tile: int, halo: int | None) -> TileGrid:
    """Return the tiles of an image: one where it fits into a tile."""
    height, width = shape
    if max(height, width) <= tile:
        return TileGrid(height, width, tile=max(height, width), halo=0)
    stride = network.stride
    if halo is None:
        reach = receptive_field(network).reach
        largest = min(LARGEST_HALO, (tile - stride) // 3)
        halo = largest if reach is None else min(reach, largest)
    return TileGrid(height, width, tile=tile, halo=halo, multiple=stride)


@dataclass(frozen=True, eq=False)
class ThresholdCurve:
    """Mean F1 of membrane over images at each threshold, level 1 to 255; `thresholds` in 0 to 1."""

    thresholds: Float64[np.ndarray, " threshold"]
    membrane_f1: Float64[np.ndarray, " threshold"]

    @property
    def best_threshold(self) -> float:
        """The threshold with the highest F1; in the middle where several share it."""
        return float(self.thresholds[int(np.median(np.flatnonzero(self.membrane_f1 == self.membrane_f1.max())))])

    @property
    def best_f1(self) -> float:
        """The highest F1."""
        return float(self.membrane_f1.max())

    def f1_at(self, threshold: float) -> float:
        """Return F1 at the nearest threshold."""
        return float(self.membrane_f1[int(np.argmin(np.abs(self.thresholds - threshold)))])


def to_levels(probability: Float[np.ndarray, "row column"]) -> UInt8[np.ndarray, "row column"]:
    """Return probabilities as levels 0 to 255."""
    levels: NDArray[np.uint8] = np.rint(np.clip(probability, 0, 1) * 255).astype(np.uint8)
    return levels


def level_counts(
    levels: UInt8[np.ndarray, "row column"], membrane: Bool[np.ndarray, "row column"]
) -> Int64[np.ndarray, "2 level"]:
    """Return how many pixels of background and of membrane have each level."""
    codes = levels.astype(np.int64) + N_LEVELS * membrane
    return np.bincount(codes.ravel(), minlength=2 * N_LEVELS).reshape(2, N_LEVELS)


def threshold_curve(counts: Sequence[Integer[np.ndarray, "2 level"]]) -> ThresholdCurve:
    """Return the curve of a set of images, each given by its `level_counts`."""
    if not counts:
        raise UsageError("a threshold is chosen on validation images; got none. Keep at least one out of the training.")
    reached = np.stack(counts)[:, :, ::-1].cumsum(axis=2)[:, :, ::-1].astype(np.float64)  # pixels of level >= t
    false_positives, true_positives = reached[:, 0, 1:], reached[:, 1, 1:]
    total = reached[:, 1, :1] + true_positives + false_positives
    f1 = np.divide(2 * true_positives, total, out=np.ones_like(total), where=total > 0)
    return ThresholdCurve(np.arange(1, N_LEVELS) / 255, f1.mean(axis=0))


def validate(
    network: MembraneNetwork, images: Sequence[MembraneImage], *, size: int, precision: str
) -> dict[str, float]:
    """Return F1 at 0.5, the best F1 and its threshold in the central `size` pixels of each image."""
    counts = []
    for image in images:
        window = middle(image, size)
        probability = predict_membrane(network, image.read(window), precision=precision)
        counts.append(level_counts(to_levels(probability), image.read_membrane(window)))
    curve = threshold_curve(counts)
    return {
        "membrane_f1": curve.f1_at(0.5),
        "best_membrane_f1": curve.best_f1,
        "best_threshold": curve.best_threshold,
    }


def middle(image: MembraneImage, size: int) -> Window:
    """Return the window of at most `size` pixels a side in the middle of an image."""
    sides = [(length, min(size, length)) for length in (image.height, image.width)]
    rows, columns = (slice((length - side) // 2, (length - side) // 2 + side) for length, side in sides)
    return rows, columns
