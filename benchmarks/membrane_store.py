"""The cost of a random crop of a large image: our store compared with decoding the file and with memory maps.

    python benchmarks/membrane_store.py                       # 9,958 x 9,959 pixels: a minute or two
    python benchmarks/membrane_store.py --height 4096 --width 4096 --crops 9 --json times.json

A synthetic micrograph of the size of a U-RISC image is written as PNG and as TIFF (deflate in strips, and plain), as
.npy, and to our store (zarr 3, chunks of 512 x 512). All read the same random crops of 1,024 x 1,024 px, in turn; times
are medians. "From disk": the operating system is told to forget the file before each crop, where possible. Ratios are
those to our store.

Below them, the time and peak memory of storing a deflated TIFF and a PNG, with the start of a process. Targets: a crop
in at most 10 ms, also from disk; at least a hundred times faster than decoding a PNG.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from _results import Target, add_json_option, finish
from PIL import Image

from emseg.images import read_gray
from emseg.membrane.dataset.image_store import store_file
from emseg.synthetic.tissue import synthesize_tissue

CROP = 1024
SHAPE = (9958, 9959)  # the second target is for this size: decoding costs what the image has pixels
CROP_TIME = Target("a random crop from our store", 10.0, "ms")
AGAINST_PNG = Target("decoding a PNG / our store", 100.0, "x", "at least")
N_DECODED = 3  # decoding a whole file is slow, and its time varies little
Window = tuple[slice, slice]
Read = Callable[[Window], np.ndarray]
CONVERT = """
import resource, sys
from pathlib import Path
from emseg.membrane.dataset.image_store import store_file

def peak_mb():  # getrusage would begin with what the process held that started this one
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

before = peak_mb()
store_file(Path(sys.argv[1]), None)
print(peak_mb() - before)
"""


def write_files(folder: Path, image: np.ndarray) -> dict[str, Path]:
    """Write the image in every format; return the files by name."""
    files = {name: folder / name for name in ("image.png", "deflate.tif", "plain.tif", "image.npy")}
    Image.fromarray(image).save(files["image.png"], compress_level=3)
    tifffile.imwrite(files["deflate.tif"], image, compression="zlib", rowsperstrip=64)
    tifffile.imwrite(files["plain.tif"], image)
    np.save(files["image.npy"], image)
    return files


def forget(place: Path) -> None:
    """Tell the operating system to drop a file, or all files of a folder, from its cache."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in [place] if place.is_file() else [one for one in place.rglob("*") if one.is_file()]:
        file = os.open(path, os.O_RDONLY)
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def contenders(files: dict[str, Path]) -> dict[str, tuple[Path, Read]]:
    """Return, by name, what each contender reads and how."""
    stored = store_file(files["deflate.tif"], None)
    found: dict[str, tuple[Path, Read]] = {
        "our store": (Path(stored.array.store.root), lambda window: stored[window]),
        "memory map (.npy)": (
            files["image.npy"],
            lambda window: np.array(np.load(files["image.npy"], mmap_mode="r")[window]),
        ),
        "memory map (plain TIFF)": (
            files["plain.tif"],
            lambda window: np.array(read_gray(files["plain.tif"], memory_map=True)[window]),
        ),
    }
    for name in ("image.png", "deflate.tif"):
        found[f"decoding {name}"] = (files[name], lambda window, name=name: read_gray(files[name])[window])
    return found


def measure(found: dict[str, tuple[Path, Read]], image: np.ndarray, n_crops: int) -> dict[str, dict[str, float]]:
    """Return the median milliseconds of a crop, from disk and from the cache, of every contender."""
    generator = np.random.default_rng(0)
    places = [[int(generator.integers(0, side - CROP + 1)) for side in image.shape] for _ in range(n_crops)]
    times: dict[str, dict[str, list[float]]] = {name: {"disk": [], "cached": []} for name in found}
    for number, (top, left) in enumerate(places):
        window = (slice(top, top + CROP), slice(left, left + CROP))
        for name, (place, read) in found.items():
            if name.startswith("decoding") and number >= N_DECODED:
                continue
            for where in ("disk", "cached"):
                if where == "disk":
                    forget(place)
                start = time.perf_counter()
                crop = read(window)
                times[name][where].append(1000 * (time.perf_counter() - start))
                assert np.array_equal(crop, image[window]), name
    return {name: {where: statistics.median(all_) for where, all_ in one.items()} for name, one in times.items()}


def conversion(path: Path, cache: Path) -> dict[str, float]:
    """Return the seconds that storing a file takes, and the memory in MB, in a separate process."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", CONVERT, str(path)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "EMSEG_CACHE": str(cache)},
    )
    return {"seconds_with_start": time.perf_counter() - start, "peak_mb": float(done.stdout)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--height", type=int, default=SHAPE[0])
    parser.add_argument("--width", type=int, default=SHAPE[1])
    parser.add_argument("--crops", type=int, default=21)
    add_json_option(parser)
    arguments = parser.parse_args()
    image = synthesize_tissue((arguments.height, arguments.width), seed=1).image
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["EMSEG_CACHE"] = str(folder / "cache")
        files = write_files(folder, image)
        times = measure(contenders(files), image, arguments.crops)
        made = {one: conversion(files[one], folder / f"cache of {one}") for one in ("deflate.tif", "image.png")}
    ours = times["our store"]
    print(f"A random crop of {CROP} x {CROP} px of {arguments.height} x {arguments.width} px, in ms:")
    print(f"{'':26s}{'from disk':>12s}{'ratio':>9s}{'cached':>12s}{'ratio':>9s}")
    for contender, one in times.items():
        ratios = (one[where] / ours[where] for where in ("disk", "cached"))
        cells = (f"{one[where]:12.2f}{ratio:9.1f}" for where, ratio in zip(("disk", "cached"), ratios, strict=True))
        print(f"{contender:26s}{''.join(cells)}")
    print("Storing a file, with the start of a process:")
    for file, cost in made.items():
        print(f"  from {file:14s}{cost['seconds_with_start']:6.1f} s, {cost['peak_mb']:6.0f} MB above the start")
    png, judged = times["decoding image.png"], (arguments.height, arguments.width) == SHAPE
    verdicts = [CROP_TIME.judge(ours[where], where) for where in ("disk", "cached")]
    verdicts += [AGAINST_PNG.judge(png[where] / ours[where] if judged else None, where) for where in ("disk", "cached")]
    finish(arguments, {"crops": times, "making": made}, verdicts)


if __name__ == "__main__":
    main()
