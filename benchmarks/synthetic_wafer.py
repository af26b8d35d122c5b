"""How fast a synthetic wafer is made: megapixels a second on one core, picture and truth together.

    python benchmarks/synthetic_wafer.py [--repeats 3] [--large] [--json FILE]

One warm-up call compiles (reported as the cold start), then the median of the repeats is taken. `wall` is what a user
waits, `cpu` what one core works; on a busy machine only the second is comparable. `--large` adds wafers of
10,000 x 10,000, both backgrounds, once each; without it the target is only shown, not judged, for small wafers hold
more sections to the megapixel. Peak memory is the process's own high-water mark.
"""

import argparse
import resource
import statistics
import time

from _results import Target, add_json_option, finish

TARGET = Target("picture and truth, pixels by processor time", 5.0, "Mpx/s", "at least")
JUDGED_SIDE = 10_000
# Side, length of a section, tissue, background.
USUAL = (
    (1024, 40, "scn", "silicon"),
    (2048, 64, "scn", "silicon"),
    (2048, 64, "zebrafish", "tape"),
    (4096, 150, "scn", "tape"),
    (4096, 300, "zebrafish", "silicon"),
)
LARGE = ((JUDGED_SIDE, 300, "scn", "silicon"), (JUDGED_SIDE, 300, "zebrafish", "tape"))


def measure(side: int, section_length_px: float, tissue: str, background: str, repeats: int) -> dict[str, float | str]:
    from emseg.synthetic.wafer import WaferDesign, synthesize_wafer

    start = time.perf_counter()
    synthesize_wafer(WaferDesign(height=256, width=256, section_length_px=40), seed=0)
    cold_s = time.perf_counter() - start
    design = WaferDesign(
        height=side, width=side, section_length_px=section_length_px, tissue=tissue, background=background
    )
    wall, cpu, sections = [], [], 0
    for repeat in range(repeats):
        wall_start, cpu_start = time.perf_counter(), time.process_time()
        sections = len(synthesize_wafer(design, seed=repeat).truth.sections)
        wall.append(time.perf_counter() - wall_start)
        cpu.append(time.process_time() - cpu_start)
    megapixels = side * side / 1e6
    return {
        "case": f"{tissue}, {background}",
        "side": side,
        "section_length_px": section_length_px,
        "repeats": repeats,
        "sections": sections,
        "cold_s": cold_s,
        "wall_s": statistics.median(wall),
        "cpu_s": statistics.median(cpu),
        "wall_mpx_per_s": megapixels / statistics.median(wall),
        "cpu_mpx_per_s": megapixels / statistics.median(cpu),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--large", action="store_true", help=f"add wafers of {JUDGED_SIDE} x {JUDGED_SIDE}")
    add_json_option(parser)
    arguments = parser.parse_args()
    rows = [measure(*case, repeats=arguments.repeats) for case in USUAL]
    if arguments.large:
        rows += [measure(*case, repeats=1) for case in LARGE]
    print(f"{'case':<19} {'side':>6} {'section':>8} {'sections':>9} {'cold s':>7} {'wall s':>7} {'cpu s':>7} "
          f"{'Mpx/s wall':>11} {'Mpx/s cpu':>10} {'peak MiB':>9}")  # fmt: skip
    for row in rows:
        print(f"{row['case']:<19} {row['side']:>6} {row['section_length_px']:>8} {row['sections']:>9} "
              f"{row['cold_s']:>7.2f} {row['wall_s']:>7.2f} {row['cpu_s']:>7.2f} {row['wall_mpx_per_s']:>11.2f} "
              f"{row['cpu_mpx_per_s']:>10.2f} {row['peak_memory_mib']:>9.0f}")  # fmt: skip
    judged = {row["case"]: float(row["cpu_mpx_per_s"]) for row in rows if row["side"] == JUDGED_SIDE}
    size = f"{JUDGED_SIDE} x {JUDGED_SIDE}"
    verdicts = [TARGET.judge(value, f"{case}, {size}") for case, value in judged.items()] or [TARGET.judge(None, size)]
    finish(arguments, rows, verdicts)


if __name__ == "__main__":
    main()
