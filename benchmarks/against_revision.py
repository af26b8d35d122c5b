"""Is this checkout slower than another revision? The same work in both, in turns, in fresh processes.

    python benchmarks/against_revision.py --revision 8a57bf5 [--rounds 5] [--only tissue wafer] [--json FILE]

The revision is checked out by `git worktree` into a temporary folder and imported through PYTHONPATH, with the
packages of this environment. Each process runs its work once to compile and fill caches, then repeats it, and reports
its median processor time on one thread; a ratio is the median over rounds of this checkout over the revision. Targets:
at most 1.05 for everything.
"""

import argparse
import importlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _results import Target, add_json_option, finish

ROOT = Path(__file__).resolve().parents[1]
SLOWER = Target("processor time of this checkout / the revision", 1.05, "x")
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


def in_checkout(checkout: Path, name: str, seconds: float) -> float:
    """Return what `measure` finds with the library of `checkout`, in a process of its own."""
    paths = os.pathsep.join([str(checkout / "src"), str(checkout / "book")])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--work", name, "--seconds", str(seconds)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--revision", default="HEAD", help="what to compare with, as git names it (HEAD)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="time for one process's repetitions")
    parser.add_argument("--only", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--work", choices=WORKS, help=argparse.SUPPRESS)
    add_json_option(parser)
    arguments = parser.parse_args()
    if arguments.work:
        print(measure(arguments.work, arguments.seconds))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / "revision"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(other), arguments.revision], check=True)
        try:
            for name in arguments.only:
                pairs = [
                    (in_checkout(ROOT, name, arguments.seconds), in_checkout(other, name, arguments.seconds))
                    for _ in range(arguments.rounds)
                ]
                ratios = [here / there for here, there in pairs]
                row = {
                    "work": name,
                    "here_s": statistics.median(here for here, _ in pairs),
                    "revision_s": statistics.median(there for _, there in pairs),
                    "ratio": statistics.median(ratios),
                    "lowest": min(ratios),
                    "highest": max(ratios),
                }
                rows.append(row)
                times = f"here {row['here_s']:8.4f} s   revision {row['revision_s']:8.4f} s"
                print(
                    f"{name:<20} {times}   ratio {row['ratio']:.3f} ({min(ratios):.3f} to {max(ratios):.3f})",
                    flush=True,
                )
        finally:
            subprocess.run([*git, "remove", "--force", str(other)], check=True)
    finish(arguments, rows, [SLOWER.judge(row["ratio"], row["work"]) for row in rows])


if __name__ == "__main__":
    main()
