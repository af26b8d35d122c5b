"""Small images and labels in the layouts of U-RISC and of a user's folder, made for the tests."""

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image


def made_pair(seed: int, shape: tuple[int, int] = (48, 56)) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return grey values and a label of U-RISC's coding: 0 on a few lines of membrane, 255 elsewhere."""
    generator = np.random.default_rng(seed)
    label = np.full(shape, 255, np.uint8)
    label[generator.integers(2, shape[0] - 2, 2)] = 0
    label[:, generator.integers(2, shape[1] - 2, 2)] = 0
    noise = generator.integers(0, 60, shape)
    return np.asarray(np.where(label == 0, 40, 150) + noise, np.uint8), label


def lossy(label: NDArray[np.uint8], seed: int = 0) -> NDArray[np.uint8]:
    """Return a label as lossy compression leaves it: greys 0 to 8 and 248 to 255."""
    drift = np.random.default_rng(seed).integers(0, 8, label.shape, dtype=np.uint8)
    return np.where(label == 0, drift, 255 - drift).astype(np.uint8)


def save(path: Path, values: NDArray[Any], **tiff: Any) -> Path:
    """Write an image as PNG or TIFF, by its ending; `tiff` goes to tifffile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        Image.fromarray(values).save(path)
    else:
        tifffile.imwrite(path, values, **tiff)
    return path


def made_urisc(
    folder: Path,
    track: str = "Track1",
    *,
    n_train: int = 8,
    n_val: int = 2,
    n_test: int = 3,
    private_test: bool = False,
    shape: tuple[int, int] = (48, 56),
) -> Path:
    """Write a small track of U-RISC: PNG images; labels by turns PNG, TIFF and lossy PNG."""
    for part, n, first in (("train", n_train, 0), ("val", n_val, 100), ("test", n_test, 200)):
        for place in range(n):
            image, label = made_pair(first + place, shape)
            save(folder / "imgs" / track / part / f"{place + 1}.png", image)
            if part == "test" and private_test:
                continue
            suffix = ".tiff" if place % 3 == 1 else ".png"
            values = lossy(label) if place % 3 == 2 else label
            save(folder / "label" / track / part / f"{place + 1}{suffix}", values)
    return folder
