"""The images that an experiment keeps beside the weights: predictions and truths, as `emseg score` reads them.

    predictions/test/NAME.png   grey: 255 for a probability of 1, so membrane is bright
    truth/test/NAME.png         0 and 255, membrane bright as well

Both have the names of the set's images, which the user's own label files need not have.

An image that one tile holds is predicted in memory. A larger one is read by windows and predicted to disk, row of tiles
by row of tiles, in a folder beside the PNG that is to be: what a kill leaves there is gone on with, to the same bits,
and the folder is removed when the PNG is there. Memory then grows with the image's width and not with its height.
"""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from emseg.membrane.dataset import MembraneImage
from emseg.membrane.networks import MembraneNetwork
from emseg.membrane.training.prediction import grid_for, predict_membrane, predict_to_disk
from emseg.membrane.training.validation import to_levels
from emseg.membrane.training.work_folder import write_then_move
from emseg.tiling import TileGrid, open_output

PREDICTIONS, TRUTH = "predictions", "truth"


@dataclass
class Pace:
    """Seconds and pixels of the predictions made so far; `path` keeps seconds a megapixel.

    It is kept before the image is, so that no prediction can be there without its pace. Of a prediction that is gone on
    with, the pixels that were left count, and the time that they took.
    """

    path: Path
    seconds: float = 0.0
    pixels: float = 0.0

    def note(self, seconds: float, pixels: float) -> None:
        """Add what a tile took."""
        self.seconds, self.pixels = self.seconds + seconds, self.pixels + pixels

    def keep(self) -> None:
        """Write the file."""
        text = json.dumps(1e6 * self.seconds / self.pixels)
        write_then_move(lambda path: path.write_text(text), self.path)

    @property
    def kept(self) -> float | None:
        """What is in the file, None where there is none."""
        return float(json.loads(self.path.read_text())) if self.path.is_file() else None


@dataclass(frozen=True)
class _Pixels:
    """An image as an array of which only the rows that are asked for are read."""

    image: MembraneImage

    @property
    def shape(self) -> tuple[int, int]:
        return self.image.height, self.image.width

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        return np.dtype(np.uint8)

    def __getitem__(self, window: Any) -> NDArray[np.uint8]:
        return self.image.read(window)


def keep_prediction(
    network: MembraneNetwork,
    image: MembraneImage,
    path: Path,
    pace: Pace,
    *,
    tta: bool,
    tile: int,
    precision: str,
    progress: bool = False,
) -> None:
    """Write what the network makes of an image to the PNG `path`; `tta`, `tile`, `precision` as `predict_membrane`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grid = grid_for(network, (image.height, image.width), tile=tile, halo=None)
    note = _tile_by_tile(pace, image, grid, progress)
    if grid.n_tiles == 1:
        probability = predict_membrane(network, image.read(), tta=tta, tile=tile, precision=precision, progress=note)
        _write_png(to_levels(probability), path)
        return
    unfinished = path.with_name(f"{path.name}.unfinished")
    # named by what may differ from call to call, so that one with other tiles begins anew in place of being refused
    place = unfinished / f"tile{grid.tile}-halo{grid.halo}-{precision}"
    place.mkdir(parents=True, exist_ok=True)
    levels, checkpoint = place / "levels.npy", place / "checkpoint.json"
    if not checkpoint.is_file():  # then nothing is finished, and what is there may be half made
        levels.unlink(missing_ok=True)
    out = open_output(levels, grid, 1, "uint8")
    predict_to_disk(network, _Pixels(image), grid, out, checkpoint, tta=tta, precision=precision, progress=note)
    _write_png(out[0], path)
    del out
    shutil.rmtree(unfinished, ignore_errors=True)


def keep_truth(image: MembraneImage, path: Path) -> None:
    """Write where membrane is, 255 on it, to the PNG `path`, where it is not there yet."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_png(np.multiply(image.read_membrane(), 255, dtype=np.uint8), path)


def _write_png(levels: NDArray[np.uint8], path: Path) -> None:
    write_then_move(lambda new: Image.fromarray(levels).save(new, format="PNG"), path)


def _tile_by_tile(pace: Pace, image: MembraneImage, grid: TileGrid, progress: bool) -> Callable[[int, int], None]:
    """Return what is to be called after every tile: it takes the time, and draws a line where there are several."""
    share = image.height * image.width / grid.n_tiles
    shown = progress and grid.n_tiles > 1
    bar = tqdm(total=grid.n_tiles, desc=image.name, unit="tile", disable=None if shown else True, leave=False)
    begun = time.perf_counter()

    def note(done: int, total: int) -> None:
        nonlocal begun
        now = time.perf_counter()
        pace.note(now - begun, share)
        begun = now
        bar.update(done - bar.n)
        if done == total:
            pace.keep()
            bar.close()

    return note
