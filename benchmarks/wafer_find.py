"""Cost of finding all sections of a wafer: time in total and in the network, memory, against the image's size.

    python benchmarks/wafer_find.py [--weights FILE] [--sides 5000 10000 20000] [--json FILE]

Synthetic wafers of one density (500 sections of 100 px on 10,000 x 10,000 px, a third of them touching, dust and seams)
are written as uncompressed TIFF and searched by `find_sections`, each in a fresh process of `--threads` threads, with
the section size given. Detection, fit and order are timed apart; on a busy machine compare processor time. Memory is
the peak of what is not mapped from the file. Weights are those that ship with emseg, or a finder's file: its scores do
not count here, its cost does.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from _results import Target, add_json_option, finish

JUDGED_SIDE = 10_000
SECTION_PX, SECTIONS = 100.0, 500  # on JUDGED_SIDE
SECONDS = Target("a wafer of 10,000 x 10,000 px with 500 sections, two cores", 240, "s")
NETWORK = Target("time inside the network, of the whole", 0.85, "", "at least")
MEMORY = Target("memory beside the image", 2000, "MB")
FLAT = Target("memory beyond that of the smallest image, for the largest", 200, "MB")
LINEAR = Target("processor time a pixel, largest over smallest image", 1.15, "times")


def make(side: int, path: Path) -> int:
    """Write a synthetic wafer and return its number of sections."""
    import tifffile

    from emseg.synthetic.wafer import WaferDesign, synthesize_wafer

    part = min(side, JUDGED_SIDE)  # a larger image repeats this one
    n, repeats = round(SECTIONS * (part / JUDGED_SIDE) ** 2), -(-side // part)
    wafer = synthesize_wafer(WaferDesign(height=part, width=part, section_length_px=SECTION_PX, n_sections=n), seed=1)
    tifffile.imwrite(path, np.tile(wafer.image, (repeats, repeats))[:side, :side])
    return round(len(wafer.truth.sections) * (side / part) ** 2)


def search(path: Path, weights: str | None, threads: int) -> None:
    """Search one image and print what it took."""
    import torch

    from emseg.wafer.navigation import detect, find, finder

    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    seconds: dict[str, float] = {}

    def timed(module: Any, name: str) -> None:
        function = getattr(module, name)

        def call(*arguments: Any, **options: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - started

        setattr(module, name, call)

    timed(detect, "predict_soft")
    for name in ("detect_sections", "fit_sections", "order_sections"):
        timed(find, name)
    loaded = finder.load_finder(weights, device="cpu")
    process, peak, done = psutil.Process(), [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            memory = process.memory_info()
            peak[0] = max(peak[0], (memory.rss - memory.shared) / 1e6)

    memory = process.memory_info()
    before = (memory.rss - memory.shared) / 1e6
    watcher = threading.Thread(target=watch)
    watcher.start()
    started, cpu_started = time.perf_counter(), time.process_time()
    found = find.find_sections(path, loaded, section_size_px=SECTION_PX * 0.8)
    total, cpu = time.perf_counter() - started, time.process_time() - cpu_started
    done.set()
    watcher.join()
    sizes = {"found": len(found.sections), "total_s": total, "cpu_s": cpu, "before_mb": before, "peak_mb": peak[0]}
    print(json.dumps(sizes | {f"{name}_s": value for name, value in seconds.items()}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", help="a finder's file (default: the one that ships with emseg)")
    parser.add_argument("--sides", type=int, nargs="+", default=[5_000, 10_000, 20_000], metavar="PX")
    parser.add_argument("--threads", type=int, default=2)
    add_json_option(parser)
    parser.add_argument("--search", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.search:
        search(Path(arguments.search), arguments.weights, arguments.threads)
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for side in sorted(arguments.sides):
            path = Path(folder) / f"wafer_{side}.tif"
            n = make(side, path)
            command = [sys.executable, __file__, "--search", str(path), "--threads", str(arguments.threads)]
            command += ["--weights", arguments.weights] if arguments.weights else []
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            row = {"side": side, "sections": n, **json.loads(done.stdout.splitlines()[-1])}
            row["network_share"] = row["predict_soft_s"] / row["total_s"]
            rows.append(row)
            path.unlink()
            print(
                f"{side:>6} px: {row['total_s']:.0f} s (processor {row['cpu_s']:.0f} s), {row['network_share']:.0%} in "
                f"the network (fit {row['fit_sections_s']:.1f} s, order {row['order_sections_s']:.1f} s), "
                f"{row['peak_mb']:.0f} MB, {row['found']} of {n} sections",
                flush=True,
            )
    verdicts = [NETWORK.judge(row["network_share"], f"{row['side']} px") for row in rows]
    verdicts += [MEMORY.judge(row["peak_mb"], f"{row['side']} px") for row in rows]
    verdicts += [SECONDS.judge(row["total_s"]) for row in rows if row["side"] == JUDGED_SIDE]
    if len(rows) > 1:
        first, last = rows[0], rows[-1]
        verdicts.append(FLAT.judge(last["peak_mb"] - first["peak_mb"]))
        verdicts.append(LINEAR.judge(last["cpu_s"] / last["side"] ** 2 / (first["cpu_s"] / first["side"] ** 2)))
    if arguments.weights:
        arguments.weights = Path(arguments.weights).name
    finish(arguments, rows, verdicts)


if __name__ == "__main__":
    main()
