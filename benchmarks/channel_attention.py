"""What does frequency attention cost? `dct_pool` beside the mean, whole attentions, and training steps, in one run.

    python benchmarks/channel_attention.py                   # CPU, and CUDA where there is a GPU: about two minutes
    python benchmarks/channel_attention.py --only pooling --rounds 15
    python benchmarks/channel_attention.py --json times.json

The maps are the four stages of a ResNet-50 on an image of 1024 x 1024 pixels, batch 2 on the CPU and 8 on a GPU. What
is measured, and how, is in `emseg.frequency.cost`; the chapter on channel attention shows the same tables. Programs
that share the cores distort what is short; `--threads 1` is disturbed least.
"""

import argparse
import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import torch

from emseg.frequency.cost import DEVICES, SECTIONS, CostPlan, CostRow, cost_table, measure_costs
from emseg.reported.display import DisplayTable


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
    rows: list[CostRow] = []
    for section in plan.sections:
        found = measure_costs(replace(plan, sections=(section,)))
        rows += found
        print("\n" + as_text(cost_table(found, section)), flush=True)
    print(f"\nload {os.getloadavg()[0]:.1f}")
    if chosen.json:
        machine = {"torch": torch.__version__, "threads": threads, "load": os.getloadavg()[0]}
        machine["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else None
        chosen.json.write_text(json.dumps({"machine": machine, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")


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
    parser.add_argument("--json", type=Path, help="write the rows, and what they were measured on, to this file")
    return parser


if __name__ == "__main__":
    main()
