"""What does tiling cost? `predict_tiled` beside the network alone and beside MONAI's sliding window; then its memory.

    python benchmarks/tiling.py                              # 2048 x 2048 pixels, five rounds: minutes on two cores
    python benchmarks/tiling.py --size 4096 --rounds 3 --json times.json
    python benchmarks/tiling.py --only memory                # or time, or network

The network is a U-Net (ResNet-18, one channel) with weights drawn at random. "The network alone" computes the same
tiles, cut before the clock starts, in the same batches, and throws its answers away. The contenders take turns, round
after round; ratios are medians of the ratios within a round, so that what else the machine does hits both. Beside them
stand ratios of processor time, which a busy machine disturbs less. Targets: at most 1.05 times the network alone; not
slower than MONAI at equal overlap, where both share out tiles of one size with Gaussian weights. MONAI is no dependency
of this project: install it (`pip install monai`), or that row says "not run".

The memory is the most that a process held while it predicted 9,958 x 9,959 pixels with a cheap network from an
8-bit image on disk to probabilities on disk; target: below 3 GB. Beside it stands the paper's network, a U-Net with a
ResNet-50 encoder, on a strip of such an image, by the chapters' own prediction (tiles of 1,024 px with a halo of 192,
levels on disk, then a PNG): in fp32, and in bf16 where the processor has it. `--strip 9959` is a whole row of tiles,
`--strip 0` skips it; memory hardly grows with the strip, for it is that of a tile.
"""

import argparse
import importlib
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import torch
from _results import Target, Verdict, add_json_option, finish
from torch import nn

from emseg.membrane.dataset import ArrayImage
from emseg.membrane.networks import NetworkDesign, build_network
from emseg.membrane.training.membrane_prediction import WHOLE_IMAGE, grid_for, predict_to_png
from emseg.tiling import TileGrid, open_output, predict_tiled
from emseg.tiling.arrays import cut_tiles, read_band
from emseg.tiling.inference import even_batches
from emseg.training.devices import chosen_precision

TILE, HALO, STRIDE = 512, 64, 32
GAUSSIAN_OVERLAP = 128  # a quarter of the tile
TRACK_1 = (9958, 9959)
AGAINST_ALONE = Target("predict_tiled / network alone", 1.05, "x")
AGAINST_MONAI = Target("predict_tiled / MONAI", 1.0, "x")
MEMORY = Target(f"memory at {TRACK_1[0]} x {TRACK_1[1]}", 3000.0, "MB")
Call = Callable[[], object]


def cut_batches(image: np.ndarray, grid: TileGrid, batch_size: int) -> list[torch.Tensor]:
    """Return the batches that `predict_tiled` makes, as the network sees them."""
    batches = []
    for row in range(len(grid.rows)):
        band = read_band(image, grid, row)
        for first, stop in even_batches(len(grid.columns), batch_size):
            batches.append(torch.from_numpy(cut_tiles(band, grid, first, stop)).float() / 255)
    return batches


def alone(network: nn.Module, batches: list[torch.Tensor]) -> Call:
    def call() -> None:
        with torch.inference_mode():
            for batch in batches:
                network(batch)

    return call


def monai_window(network: nn.Module, image: np.ndarray, batch_size: int) -> Call | None:
    """Return MONAI's sliding window over the image in memory, or None where MONAI is not installed."""
    try:
        sliding_window_inference = importlib.import_module("monai.inferers").sliding_window_inference
    except ImportError:
        return None

    def call() -> torch.Tensor:
        x = torch.from_numpy(image).float().div_(255)[None, None]
        share = GAUSSIAN_OVERLAP / TILE
        with torch.inference_mode():
            return sliding_window_inference(x, (TILE, TILE), batch_size, network, overlap=share, mode="gaussian")

    return call


def measure_time(size: int, batch_size: int, rounds: int, folder: Path) -> dict[str, object]:
    """Return seconds and ratios of all contenders on `size` x `size` pixels."""
    network = smp.Unet("resnet18", encoder_weights=None, in_channels=1, classes=1, activation="sigmoid").eval()
    np.save(folder / "image.npy", np.random.default_rng(0).integers(0, 256, (size, size), dtype=np.uint8))
    image = np.load(folder / "image.npy", mmap_mode="r")
    hard = TileGrid(size, size, tile=TILE, halo=HALO, multiple=STRIDE)
    soft = TileGrid(size, size, tile=TILE, halo=0, overlap=GAUSSIAN_OVERLAP, multiple=STRIDE)
    calls: dict[str, Call] = {}
    pairs: list[tuple[str, str]] = []
    for name, grid in {"halo": hard, "gaussian": soft}.items():
        out = open_output(folder / f"{name}.npy", grid, 1)
        calls[f"{name}: network alone"] = alone(network, cut_batches(image, grid, batch_size))
        calls[f"{name}: predict_tiled"] = lambda grid=grid, out=out: predict_tiled(
            network, image, grid, batch_size=batch_size, scale=255, out=out
        )
        pairs.append((f"{name}: predict_tiled", f"{name}: network alone"))
    window = monai_window(network, np.array(image), batch_size)
    if window is not None:
        calls["gaussian: MONAI"] = window
        pairs.append(("gaussian: predict_tiled", "gaussian: MONAI"))
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    cpu_seconds: dict[str, list[float]] = {name: [] for name in calls}
    for round_number in range(rounds + 1):  # the first warms up
        for name, call in calls.items():
            started, cpu_started = time.perf_counter(), time.process_time()
            call()
            if round_number:
                seconds[name].append(time.perf_counter() - started)
                cpu_seconds[name].append(time.process_time() - cpu_started)
    return {
        "size": size,
        "tile": TILE,
        "halo": HALO,
        "overlap": GAUSSIAN_OVERLAP,
        "batch_size": batch_size,
        "rounds": rounds,
        "threads": torch.get_num_threads(),
        "tiles": {"halo": hard.n_tiles, "gaussian": soft.n_tiles},
        "computed_share": {"halo": hard.computed_share, "gaussian": soft.computed_share},
        "seconds": {name: statistics.median(values) for name, values in seconds.items()},
        "ratios": {f"{ours} / {other.partition(': ')[2]}": ratio(seconds, ours, other) for ours, other in pairs},
        "cpu_ratios": {
            f"{ours} / {other.partition(': ')[2]}": ratio(cpu_seconds, ours, other) for ours, other in pairs
        },
        "monai": "not run (monai is not installed)" if window is None else "run",
    }


def ratio(seconds: dict[str, list[float]], ours: str, other: str) -> float:
    return statistics.median(a / b for a, b in zip(seconds[ours], seconds[other], strict=True))


def measure_memory(folder: Path) -> dict[str, object]:
    """Return peak memory in MB of fresh processes that predict a Track 1 image, from disk to disk."""
    found = {}
    for blending in ("none", "gaussian"):
        command = [sys.executable, __file__, "--predict-track-1", blending, str(folder)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found[blending] = json.loads(done.stdout)
    return found


def predict_track_1(blending: str, folder: Path) -> None:
    """Predict with a cheap network, and print peak memory before and after, and seconds."""
    height, width = TRACK_1
    path = folder / "track_1.npy"
    if not path.exists():
        image = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=TRACK_1)
        rng = np.random.default_rng(0)
        for top in range(0, height, 256):
            image[top : top + 256] = rng.integers(0, 256, image[top : top + 256].shape, dtype=np.uint8)
        image.flush()
        del image
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1), nn.Sigmoid())
    with torch.inference_mode():
        network(torch.zeros(1, 1, TILE, TILE))
    before = peak_memory_mb()
    overlap = 0 if blending == "none" else GAUSSIAN_OVERLAP
    grid = TileGrid(height, width, tile=TILE, halo=HALO, overlap=overlap)
    out = open_output(folder / f"track_1_{blending}.npy", grid, 1)
    started = time.perf_counter()
    checkpoint = folder / f"track_1_{blending}.json"
    predict_tiled(network, np.load(path, mmap_mode="r"), grid, scale=255, out=out, checkpoint=checkpoint)
    seconds = time.perf_counter() - started
    print(json.dumps({"before_mb": before, "peak_mb": peak_memory_mb(), "seconds": seconds, "tiles": grid.n_tiles}))


def measure_network(width: int, folder: Path) -> dict[str, dict[str, float]]:
    """Return peak memory in MB of fresh processes in which the paper's network predicts a strip, by precision."""
    found = {}
    for precision in dict.fromkeys(("fp32", chosen_precision("auto", torch.device("cpu")))):
        command = [sys.executable, __file__, "--predict-strip", precision, str(width), str(folder)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found[precision] = json.loads(done.stdout)
    return found


def predict_strip(precision: str, width: int, folder: Path) -> None:
    """Predict a strip of one row of tiles with a ResNet-50 U-Net, and print what `predict_track_1` prints."""
    network = build_network(NetworkDesign(encoder="resnet50"), seed=0).eval()
    strip = ArrayImage("strip", np.random.default_rng(0).integers(0, 256, (WHOLE_IMAGE, width), dtype=np.uint8))
    before = peak_memory_mb()
    began = time.perf_counter()
    predict_to_png(network, strip, folder / f"strip_{precision}.png", precision=precision)
    seconds = time.perf_counter() - began
    tiles = grid_for(network, (WHOLE_IMAGE, width), tile=WHOLE_IMAGE, halo=None).n_tiles
    print(json.dumps({"before_mb": before, "peak_mb": peak_memory_mb(), "seconds": seconds, "tiles": tiles}))


def peak_memory_mb() -> float:
    """The process's high-water mark, so far; it counts the pages of mapped files that are in memory, too.

    Linux hands `ru_maxrss` of the process that starts a program on to the program; VmHWM begins with the program.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=2048, help="pixels a side for the times")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=["time", "memory", "network"])
    parser.add_argument("--strip", type=int, default=2304, help="width of the strip for the paper's network; 0: none")
    add_json_option(parser)
    parser.add_argument("--predict-track-1", nargs=2, metavar=("BLENDING", "FOLDER"), help=argparse.SUPPRESS)
    parser.add_argument("--predict-strip", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.predict_track_1:
        predict_track_1(arguments.predict_track_1[0], Path(arguments.predict_track_1[1]))
        return
    if arguments.predict_strip:
        precision, width, place = arguments.predict_strip
        predict_strip(precision, int(width), Path(place))
        return
    found: dict[str, object] = {}
    verdicts: list[Verdict] = []
    with tempfile.TemporaryDirectory() as folder:
        if arguments.only in (None, "time"):
            times = measure_time(arguments.size, arguments.batch_size, arguments.rounds, Path(folder))
            found["time"] = times
            ratios: dict[str, float] = times["ratios"]  # type: ignore[assignment]
            verdicts += [
                AGAINST_ALONE.judge(ratios[f"{name}: predict_tiled / network alone"], name)
                for name in ("halo", "gaussian")
            ]
            verdicts.append(AGAINST_MONAI.judge(ratios.get("gaussian: predict_tiled / MONAI"), "gaussian"))
            print(f"{times['size']} x {times['size']} pixels, {times['threads']} threads, medians of {times['rounds']}")
            for name, value in times["seconds"].items():  # type: ignore[attr-defined]
                print(f"  {name:<28}{value:>8.2f} s")
            for name, value in times["ratios"].items():  # type: ignore[attr-defined]
                print(f"  {name:<44}{value:>6.3f}   processor time {times['cpu_ratios'][name]:.3f}")  # type: ignore[index]
            if times["monai"] != "run":
                print(f"  {'gaussian: MONAI':<28}{times['monai']}")
        if arguments.only in (None, "memory"):
            memory = measure_memory(Path(folder))
            found["memory"] = memory
            verdicts += [MEMORY.judge(row["peak_mb"], name) for name, row in memory.items()]
            print(f"{TRACK_1[0]} x {TRACK_1[1]} pixels, uint8 on disk -> float16 on disk, with a checkpoint")
            for name, row in memory.items():
                print(
                    f"  {name:<10}{row['peak_mb']:>7.0f} MB at most ({row['before_mb']:.0f} MB before the prediction), "
                    f"{row['seconds']:.0f} s"
                )
        if arguments.only in (None, "network") and arguments.strip:
            network = measure_network(arguments.strip, Path(folder))
            found["network"] = network
            print(f"U-Net, ResNet-50, {WHOLE_IMAGE} x {arguments.strip} pixels, tiles of {WHOLE_IMAGE}")
            for name, numbers in network.items():
                print(
                    f"  {name:<10}{numbers['peak_mb']:>7.0f} MB at most ({numbers['before_mb']:.0f} MB before the "
                    f"prediction), {numbers['seconds']:.0f} s for {numbers['tiles']} tiles"
                )
    finish(arguments, found, verdicts)


if __name__ == "__main__":
    main()
