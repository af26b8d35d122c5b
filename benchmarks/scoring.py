"""How long all scores of one large image take, and how much memory, from two files to the table.

    python benchmarks/scoring.py [--rows 9958 --columns 9959] [--noise 0.02] [--json FILE]

The truth is synthetic tissue like U-RISC; the prediction is the truth moved by two pixels, with gaps in its membranes:
as a label, and, blurred and with noise, as a probability map. For the map, V-Rand and V-Info are also sought over
eleven thresholds.

Each case runs `emseg score` in a process of its own, so that its memory is its own. `wall` is what a user waits, with
imports and reading; `user` and `system` are what the cores work. On a busy machine only those are comparable: with two
free cores one waits a little more than half of their sum. The first run compiles the kernels and is not counted.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from _results import Target, add_json_option, finish
from PIL import Image

from emseg.synthetic.tissue import synthesize_tissue

SHAPE = (9958, 9959)  # the targets are for this size
WALL = Target("from files to table on two free cores", 15.0, "s")
MEMORY = Target("memory", 4.0, "GiB")


def write_images(folder: Path, shape: tuple[int, int], noise: float) -> None:
    truth = synthesize_tissue(shape, seed=1).membrane
    prediction = np.roll(truth, 2, axis=1)
    prediction[:, ::997] = False
    Image.fromarray(np.where(truth, 0, 255).astype(np.uint8)).save(folder / "truth.png", compress_level=1)
    Image.fromarray(np.where(prediction, 0, 255).astype(np.uint8)).save(folder / "label.png", compress_level=1)
    probability = cv2.GaussianBlur(prediction.astype(np.float32), (0, 0), 3)
    rng = np.random.default_rng(0)
    for start in range(0, shape[0], 256):
        rows = probability[start : start + 256]
        rows += rng.normal(0, noise, rows.shape).astype(np.float32)
    dark = (255 * (1 - np.clip(probability, 0, 1))).astype(np.uint8)
    Image.fromarray(dark).save(folder / "probability.png", compress_level=1)


def measure(folder: Path, name: str, options: list[str]) -> dict[str, float | str]:
    command = [sys.executable, "-m", "emseg", "score", str(folder / name), str(folder / "truth.png"), *options]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed with exit code {process.returncode}")
    return {
        "case": f"{name} {' '.join(options)}".strip(),
        "wall_s": time.perf_counter() - start,
        "user_s": usage.ru_utime,
        "system_s": usage.ru_stime,
        "peak_gib": usage.ru_maxrss / 2**20,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=SHAPE[0])
    parser.add_argument("--columns", type=int, default=SHAPE[1])
    parser.add_argument("--noise", type=float, default=0.02, help="standard deviation of the probabilities' noise")
    add_json_option(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        small, large = Path(name) / "small", Path(name) / "large"
        for folder, shape in ((small, (256, 256)), (large, (arguments.rows, arguments.columns))):
            folder.mkdir()
            write_images(folder, shape, arguments.noise)
        measure(small, "probability.png", [])
        cases = [("label.png", []), ("probability.png", ["--no-best-threshold"]), ("probability.png", [])]
        rows = [measure(large, image, options) for image, options in cases]
    print(f"{arguments.rows} x {arguments.columns}, {os.cpu_count()} cores")
    print(f"{'case':<40}{'wall s':>8}{'user s':>8}{'system s':>10}{'peak GiB':>10}")
    for row in rows:
        print(
            f"{row['case']:<40}{row['wall_s']:>8.1f}{row['user_s']:>8.1f}{row['system_s']:>10.1f}{row['peak_gib']:>10.2f}"
        )
    judged = (arguments.rows, arguments.columns) == SHAPE
    verdicts = [
        target.judge(float(row[column]) if judged else None, str(row["case"]))
        for target, column in ((WALL, "wall_s"), (MEMORY, "peak_gib"))
        for row in rows
    ]
    finish(arguments, rows, verdicts)


if __name__ == "__main__":
    main()
