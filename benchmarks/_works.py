"""The works of `against_revision.py`; a process runs one with whichever `emseg` PYTHONPATH names, and prints its time.

python benchmarks/_works.py NAME SECONDS
"""

import importlib
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
Work = Callable[[], object]


def either(*names: str) -> Any:
    """Import the first module that this revision has."""
    for name in names[:-1]:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    return importlib.import_module(names[-1])


def dct_pool() -> Work:
    import torch

    frequency = importlib.import_module("emseg.frequency")
    x = torch.randn(2, 256, 256, 256)
    return lambda: frequency.dct_pool(x)


def attention_training() -> Work:
    import torch

    attention = importlib.import_module("emseg.frequency").build_attention("fanet", 256)
    x = torch.randn(2, 256, 128, 128, requires_grad=True)
    return lambda: attention(x).sum().backward()


def tissue() -> Work:
    synthetic = either("emseg.synthetic.tissue", "emseg.membrane.synthetic")
    return lambda: synthetic.synthesize_tissue((1536, 1536), seed=1)


def wafer() -> Work:
    synthetic = either("emseg.synthetic.wafer", "emseg.wafer.synthetic")
    design = synthetic.WaferDesign(height=1536, width=1536, section_length_px=80)
    return lambda: synthetic.synthesize_wafer(design, seed=1)


def sharpness() -> Work:
    indices = importlib.import_module("emseg.sharpness")
    image = np.random.default_rng(0).integers(0, 256, (4096, 4096), dtype=np.uint8)
    return lambda: indices.sharpness(image, n_threads=1)


def scoring() -> Work:
    scoring = importlib.import_module("emseg.membrane.scoring")
    truth = either("emseg.synthetic.tissue", "emseg.membrane.synthetic").synthesize_tissue((1024, 1024), seed=1)
    moved = np.roll(truth.membrane, 2, axis=1)
    return lambda: scoring.score_image(moved, truth.membrane)


def tiling() -> Work:
    import torch

    tiles = importlib.import_module("emseg.tiling")
    network = torch.nn.Conv2d(1, 1, 5, padding=2).eval()
    image = np.random.default_rng(0).integers(0, 256, (2048, 2048), dtype=np.uint8)
    grid = tiles.TileGrid(2048, 2048, tile=512, halo=64, multiple=32)
    return lambda: tiles.predict_tiled(network, image, grid)


def attribution(size: int) -> Work:
    import torch

    networks = importlib.import_module("emseg.membrane.networks")
    attribute_pixels = importlib.import_module("emseg.attribution").attribute_pixels
    network = networks.load_network(ROOT / "book/weights/urisc/synthetic_isbi_like_unet.safetensors").eval()
    image = torch.from_numpy(np.random.default_rng(0).normal(0, 0.5, (size, size)).astype(np.float32))
    targets = np.random.default_rng(1).integers(0, size, (4, 2))
    return lambda: attribute_pixels(network, image, targets, n_steps=5)


WORKS: dict[str, Callable[[], Work]] = {
    "dct_pool": dct_pool,
    "attention_training": attention_training,
    "tissue": tissue,
    "wafer": wafer,
    "sharpness": sharpness,
    "scoring": scoring,
    "tiling": tiling,
    "attribution_256": lambda: attribution(256),
    "attribution_512": lambda: attribution(512),
    "attribution_1024": lambda: attribution(1024),
}


def measure(name: str, seconds: float) -> float:
    """Return the median processor time of one repetition, in s; repeat for about `seconds`, at least three times."""
    work = WORKS[name]()
    work()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times)


if __name__ == "__main__":
    print(measure(sys.argv[1], float(sys.argv[2])))
