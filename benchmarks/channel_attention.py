"""What does frequency attention cost? `dct_pool` beside the mean, whole attentions, and training steps, in one run.

    python benchmarks/channel_attention.py                   # CPU, and CUDA where there is a GPU: about two minutes
    python benchmarks/channel_attention.py --only pooling --rounds 15
    python benchmarks/channel_attention.py --json times.json

The maps are the four stages of a ResNet-50 on an image of 1024 x 1024 pixels, batch 2 on the CPU and 8 on a GPU. What
is measured, and how, is in `_attention_costs.py`. Programs that share the cores distort short times; `--threads 1` is
disturbed least. The targets, listed below, are for 1024 pixels, at stage 1 and over all stages; other sizes are not
judged.
"""

import argparse
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace

import torch
from _attention_costs import DEVICES, SECTIONS, Cost, CostPlan, Setting, cost_table, measure_costs
from _results import Target, Verdict, add_json_option, finish

from emseg.reported.display import DisplayTable

RATIOS = {
    ("cpu", "pooling", "forward"): (
        Target("dct_pool / mean", 1.5, "x"),
        Target("stored cosines / dct_pool", 6.0, "x", "at least"),
    ),
    ("cuda", "pooling", "forward"): (Target("dct_pool / mean", 1.10, "x"),),
    ("cuda", "pooling", "forward + backward"): (Target("dct_pool / mean", 1.15, "x"),),
    ("cuda", "attention", "forward"): (Target("fanet / se", 1.05, "x"),),
    ("cuda", "attention", "forward + backward"): (Target("fanet / se", 1.05, "x"),),
}
MEMORY = Target("dct_pool's memory besides the map, over the map's", 1.0, "x")  # a copy of the map has more
OF_COPY = Target("dct_pool's bandwidth over a copy's", 0.85, "x", "at least")


def main(arguments: list[str] | None = None) -> None:
    """Measure and print a table for each section."""
    chosen = _parser().parse_args(arguments)
    plan = CostPlan(
        image_size=chosen.image_size,
        batch=chosen.batch,
        rounds=chosen.rounds,
        training_size=chosen.training_size,
        sections=tuple(chosen.only),
        devices=tuple(chosen.device),
        detector=not chosen.no_detector,
        n_threads=chosen.threads,
    )
    threads = plan.n_threads or torch.get_num_threads()
    print(f"torch {torch.__version__}, {threads} threads, load {os.getloadavg()[0]:.1f}")
    costs: list[Cost] = []
    for section in plan.sections:
        found = measure_costs(replace(plan, sections=(section,)))
        costs += found
        print("\n" + as_text(cost_table(found, section)), flush=True)
    print(f"\nload {os.getloadavg()[0]:.1f}")
    judged = chosen.image_size == CostPlan().image_size
    finish(chosen, [asdict(cost) for cost in costs], list(judge(costs)) if judged else [])


def judge(costs: Sequence[Cost]) -> Iterator[Verdict]:
    """Yield the verdicts on every device that was there: at stage 1 and over all stages."""
    found = {(cost.setting, cost.variant): cost for cost in costs}
    for setting in dict.fromkeys(cost.setting for cost in costs if any(cost.ms)):
        if setting.layout != "contiguous" or (setting.device, setting.dtype) == ("cpu", "bfloat16"):
            continue
        for target in RATIOS.get((setting.device, setting.section, setting.direction), ()):
            above, below = (found[setting, name] for name in target.what.split(" / "))
            yield target.judge(ratio(above.total_ms(0), below.total_ms(0)), f"{name_of(setting)}, stage 1")
            yield target.judge(ratio(above.total_ms(), below.total_ms()), f"{name_of(setting)}, all stages")
        if (setting.section, setting.direction) == ("pooling", "forward"):
            ours = found[setting, "dct_pool"]
            yield MEMORY.judge(ours.memory, name_of(setting))
            if setting.device == "cuda":
                yield OF_COPY.judge(ours.of_copy, name_of(setting))


def ratio(above: float | None, below: float | None) -> float | None:
    return None if above is None or below is None else above / below


def name_of(setting: Setting) -> str:
    """Return a setting in a few words."""
    return f"{setting.device} {setting.dtype}, {setting.mode}, {setting.direction}"


def as_text(table: DisplayTable) -> str:
    """Return a table for a console: its caption, and columns of even width."""
    lines = [table.header, *([cell.text for cell in row] for row in table.rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(table.header))]
    aligned = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in lines]
    return "\n".join([table.caption, *(line.rstrip() for line in aligned)])


def _parser() -> argparse.ArgumentParser:
    usual = CostPlan()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=SECTIONS, nargs="+", default=SECTIONS)
    parser.add_argument("--device", choices=DEVICES, nargs="+", default=DEVICES)
    parser.add_argument("--rounds", type=int, default=usual.rounds, help="on the CPU; a GPU gets five times as many")
    parser.add_argument("--batch", type=int, default=usual.batch, help="on the CPU; a GPU gets four times as many")
    parser.add_argument("--image-size", type=int, default=usual.image_size, help="side in px of the image to attend to")
    parser.add_argument("--training-size", type=int, default=usual.training_size, help="side in px; a GPU: four times")
    parser.add_argument("--no-detector", action="store_true", help="leave out the training steps of Mask R-CNN")
    parser.add_argument("--threads", type=int, help="cores that torch may use on the CPU; by default all")
    add_json_option(parser)
    return parser


if __name__ == "__main__":
    main()
