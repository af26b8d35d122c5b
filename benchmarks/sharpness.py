"""All sharpness indices of one U-RISC-sized image, against cv2.meanStdDev and against the plain NumPy formulas.

    python benchmarks/sharpness.py [--json FILE] [--repeats N] [--shape ROWS COLUMNS]

The contenders take turns, in one process, on one uint8 image. Medians are compared, and beside them the fastest runs,
which a busy machine disturbs less. `cv2.meanStdDev` runs on one thread whatever OpenCV is allowed, so emseg is timed on
one thread as well as on its default. Targets: all indices in at most 3
times the time of `cv2.meanStdDev`, at least 40 times faster than float64 NumPy, less than 100 MB of extra memory.
"""

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from _results import Target, add_json_option, finish

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from reference.sharpness import numpy_indices

from emseg.sharpness import INDEX_NAMES, available_threads, sharpness

RELATIVE_TOLERANCE = 1e-10
SHAPE = (9958, 9959)  # the targets are for this size
AGAINST_MEAN_STD = Target("all indices / cv2.meanStdDev", 3.0, "x")
AGAINST_NUMPY = Target("float64 NumPy / all indices", 40.0, "x", "at least")
EXTRA_MEMORY = Target("memory beside the image", 100.0, "MB")
NUMPY_REPEATS = 3


def measure(shape: tuple[int, int], repeats: int) -> dict[str, Any]:
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    n_threads = available_threads()
    sharpness(image[:8])  # compiles, or loads what was compiled before
    before_mb = peak_memory_mb()
    indices = sharpness(image)
    extra_memory_mb = peak_memory_mb() - before_mb
    contenders: dict[str, Callable[[], object]] = {
        "cv2.meanStdDev": lambda: cv2.meanStdDev(image),
        "emseg, 1 thread": lambda: sharpness(image, n_threads=1),
        f"emseg, {n_threads} threads": lambda: sharpness(image),
    }
    seconds: dict[str, list[float]] = {name: [] for name in [*contenders, "float64 NumPy"]}
    for repeat in range(repeats):
        for name, call in contenders.items():
            seconds[name].append(timed(call))
        if repeat < NUMPY_REPEATS:
            seconds["float64 NumPy"].append(timed(lambda: numpy_indices(image)))
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    fastest = {name: min(times) for name, times in seconds.items()}
    return {
        "shape": list(shape),
        "dtype": "uint8",
        "seconds": medians,
        "fastest_seconds": fastest,
        "times_of_mean_std": {name: value / medians["cv2.meanStdDev"] for name, value in medians.items()},
        "times_of_mean_std_fastest": {name: value / fastest["cv2.meanStdDev"] for name, value in fastest.items()},
        "times_faster_than_numpy": {name: medians["float64 NumPy"] / value for name, value in medians.items()},
        "extra_memory_mb": extra_memory_mb,
        "largest_relative_difference": largest_difference(indices.raw(), numpy_indices(image)),
        "n_threads": n_threads,
        "opencv_threads": cv2.getNumThreads(),
    }


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def peak_memory_mb() -> float:
    """The process's high-water mark, so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def largest_difference(found: dict[str, float], expected: dict[str, float]) -> float:
    """Relative to the index; for Vollath, of which white noise has none, to the variance."""
    scales = {name: expected["variance" if name.startswith("vollath") else name] for name in INDEX_NAMES}
    return max(abs(found[name] - expected[name]) / scales[name] for name in INDEX_NAMES)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_json_option(parser)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--shape", type=int, nargs=2, default=SHAPE, metavar=("ROWS", "COLUMNS"))
    arguments = parser.parse_args()
    figures = measure(tuple(arguments.shape), arguments.repeats)
    print(f"{figures['shape'][0]} x {figures['shape'][1]} uint8, medians of {arguments.repeats}\n")
    print(f"{'':<18}{'ms':>10}{'x cv2.meanStdDev':>20}{'(fastest runs)':>16}{'x faster than NumPy':>22}")
    for name, value in figures["seconds"].items():
        slower, faster = figures["times_of_mean_std"][name], figures["times_faster_than_numpy"][name]
        best = figures["times_of_mean_std_fastest"][name]
        print(f"{name:<18}{value * 1e3:>10.1f}{slower:>20.2f}{best:>16.2f}{faster:>22.1f}")
    print(f"\nextra memory {figures['extra_memory_mb']:.1f} MB (the image: {np.prod(figures['shape']) / 1e6:.0f} MB)")
    print(f"largest relative difference from NumPy {figures['largest_relative_difference']:.1e}")
    ours = [name for name in figures["seconds"] if name.startswith("emseg")]
    verdicts = [AGAINST_MEAN_STD.judge(figures["times_of_mean_std"][name], name) for name in ours]
    verdicts += [AGAINST_NUMPY.judge(figures["times_faster_than_numpy"][name], name) for name in ours]
    verdicts.append(EXTRA_MEMORY.judge(figures["extra_memory_mb"]))
    finish(arguments, figures, verdicts if tuple(arguments.shape) == SHAPE else [])
    return 0 if figures["largest_relative_difference"] < RELATIVE_TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
