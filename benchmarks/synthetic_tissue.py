"""How fast the synthetic micrograph is made: megapixels a second on one core, picture and truth together.

    python benchmarks/synthetic_tissue.py [--side 4096] [--repeats 3] [--large] [--json FILE]

One warm-up call of each case compiles and fills caches (reported as the cold start), then the median of the repeats
is taken. `wall` is what a user waits, `cpu` what one core works; on a busy machine only the second is comparable.
`--large` adds one picture of 9958 x 9959, the size of a U-RISC image. Peak memory is the process's own high-water
mark.
"""

import argparse
import resource
import statistics
import time

from _results import Target, add_json_option, finish

TARGET = Target("picture and truth, pixels by processor time", 5.0, "Mpx/s", "at least")


def measure(shape: tuple[int, int], name: str, repeats: int) -> dict[str, float | str | int]:
    from emseg.synthetic import tissue as synthetic

    presets = {
        "U-RISC-like": (synthetic.URISC_LIKE, synthetic.URISC_IMAGING, synthetic.URISC_PIXEL_SIZE_NM),
        "ISBI-like": (synthetic.ISBI_LIKE, synthetic.ISBI_IMAGING, synthetic.ISBI_PIXEL_SIZE_NM),
    }
    tissue, imaging, pixel_size_nm = presets[name]
    start = time.perf_counter()
    synthetic.synthesize_tissue((64, 64), pixel_size_nm=pixel_size_nm, seed=0, tissue=tissue, imaging=imaging)
    cold_s = time.perf_counter() - start
    wall, cpu = [], []
    for repeat in range(repeats):
        wall_start, cpu_start = time.perf_counter(), time.process_time()
        picture = synthetic.synthesize_tissue(
            shape, pixel_size_nm=pixel_size_nm, seed=repeat, tissue=tissue, imaging=imaging
        )
        wall.append(time.perf_counter() - wall_start)
        cpu.append(time.process_time() - cpu_start)
    megapixels = shape[0] * shape[1] / 1e6
    return {
        "case": name,
        "pixel_size_nm": pixel_size_nm,
        "rows": shape[0],
        "columns": shape[1],
        "repeats": repeats,
        "membrane_fraction": picture.membrane_fraction,
        "n_cells": picture.n_cells,
        "cold_s": cold_s,
        "wall_s": statistics.median(wall),
        "cpu_s": statistics.median(cpu),
        "wall_mpx_per_s": megapixels / statistics.median(wall),
        "cpu_mpx_per_s": megapixels / statistics.median(cpu),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=4096, help="rows and columns of the picture")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--large", action="store_true", help="add one picture of 9958 x 9959")
    add_json_option(parser)
    arguments = parser.parse_args()
    names = ("U-RISC-like", "ISBI-like")
    rows = [measure((arguments.side, arguments.side), name, arguments.repeats) for name in names]
    if arguments.large:
        rows += [measure((9958, 9959), name, 1) for name in names]
    print(f"{'case':<12} {'nm/px':>6} {'size':>12} {'membrane':>9} {'cold s':>7} {'wall s':>7} {'cpu s':>7} "
          f"{'Mpx/s wall':>11} {'Mpx/s cpu':>10} {'peak MiB':>9}")  # fmt: skip
    for row in rows:
        size = f"{row['rows']}x{row['columns']}"
        print(f"{row['case']:<12} {row['pixel_size_nm']:>6} {size:>12} {row['membrane_fraction']:>9.3f} "
              f"{row['cold_s']:>7.2f} {row['wall_s']:>7.2f} {row['cpu_s']:>7.2f} {row['wall_mpx_per_s']:>11.2f} "
              f"{row['cpu_mpx_per_s']:>10.2f} {row['peak_memory_mib']:>9.0f}")  # fmt: skip
    verdicts = [
        TARGET.judge(float(row["cpu_mpx_per_s"]), f"{row['case']}, {row['rows']} x {row['columns']}") for row in rows
    ]
    finish(arguments, rows, verdicts)


if __name__ == "__main__":
    main()
