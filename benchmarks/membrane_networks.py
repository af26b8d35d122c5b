"""What a training step and an inference of each membrane network cost: time, memory, weights, receptive field.

    python benchmarks/membrane_networks.py                    # small networks; CPU, or CUDA where there is a GPU
    python benchmarks/membrane_networks.py --size paper --crop 1024 --precision bfloat16 --device cuda
    python benchmarks/membrane_networks.py --json costs.json

A step is forward, loss of all supervised outputs, backward and Adam; an inference one forward pass. Networks take
turns, round after round, and the times are medians. `memory` is the peak above what is there before the first step,
on a GPU only: weights, gradients, Adam's moments and the maps of one step. The paper says that a U-Net needs a GPU of
12 GB for an image of 1024 x 1024.
"""

import argparse
import os
from collections.abc import Callable

import torch
from _attention_costs import median_times
from _results import add_json_option, finish
from torch import Tensor

from emseg.membrane.losses import MembraneLoss
from emseg.membrane.networks import NetworkDesign, build_network, receptive_field

SMALL = {
    "unet plain 8-64": NetworkDesign("unet", "plain", 3, 8),
    "unet plain 16-128": NetworkDesign("unet", "plain", 3, 16),
    "unet plain 16-128, scse": NetworkDesign("unet", "plain", 3, 16, attention="scse"),
    "unet plain 16-128, se": NetworkDesign("unet", "plain", 3, 16, attention="se"),
    "unet plain 16-128, fanet": NetworkDesign("unet", "plain", 3, 16, attention="fanet"),
    "linknet plain 16-128": NetworkDesign("linknet", "plain", 3, 16),
    "casenet plain 16-128": NetworkDesign("casenet", "plain", 3, 16),
    "unet resnet18 16": NetworkDesign("unet", "resnet18", 5, 16),
    "linknet resnet18 16": NetworkDesign("linknet", "resnet18", 5, 16),
    "casenet resnet18 16": NetworkDesign("casenet", "resnet18", 5, 16),
}
PAPER = {
    "unet resnet50": NetworkDesign("unet", "resnet50"),
    "unet resnet50, fanet": NetworkDesign("unet", "resnet50", attention="fanet"),
    "linknet resnet18": NetworkDesign("linknet", "resnet18"),
    "casenet resnet152": NetworkDesign("casenet", "resnet152"),
    "unet plain 64-1024": NetworkDesign("unet", "plain", 4),
}


def training_step(design: NetworkDesign, x: Tensor, truth: Tensor, precision: torch.dtype) -> Callable[[], None]:
    """Return a call that trains one step on `x`."""
    network = build_network(design, seed=0).to(x.device, memory_format=torch.channels_last).train()
    loss, optimizer = MembraneLoss(), torch.optim.Adam(network.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(x.device.type, precision, enabled=precision != torch.float32):
            outputs = network.training_outputs(x)
        torch.stack([loss(logits, truth) for logits in outputs]).sum().backward()
        optimizer.step()

    return step


def inference(design: NetworkDesign, x: Tensor, precision: torch.dtype) -> Callable[[], None]:
    """Return a call that predicts `x`."""
    network = build_network(design, seed=0).to(x.device, memory_format=torch.channels_last).eval()

    def predict() -> None:
        with torch.inference_mode(), torch.autocast(x.device.type, precision, enabled=precision != torch.float32):
            network(x)

    return predict


def peak_gib(step: Callable[[], None], before: int) -> float:
    """Return the peak memory of the GPU in two steps (the first makes Adam's moments), in GiB above `before`."""
    torch.cuda.reset_peak_memory_stats()
    for _ in range(2):
        step()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**30


def measure(arguments: argparse.Namespace) -> list[dict[str, float | str]]:
    device, precision = torch.device(arguments.device), getattr(torch, arguments.precision)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(arguments.batch, 1, arguments.crop, arguments.crop, generator=generator).to(device)
    truth = torch.rand(x.shape, generator=generator).to(device) > 0.8
    designs = PAPER if arguments.size == "paper" else SMALL
    steps, inferences, rows = {}, {}, []
    for name, design in designs.items():
        before = torch.cuda.memory_allocated() if device.type == "cuda" else 0
        steps[name] = training_step(design, x, truth, precision)
        inferences[name] = inference(design, x, precision)
        network, field = build_network(design, seed=0), receptive_field(design)
        row: dict[str, float | str] = {
            "network": name,
            "weights_million": sum(weight.numel() for weight in network.parameters()) / 1e6,
            "receptive_field_px": field.height or "all",
        }
        if device.type == "cuda":
            row["memory_gib"] = peak_gib(steps[name], before)
        rows.append(row)
    for column, calls in (("step_ms", steps), ("inference_ms", inferences)):
        medians, _ = median_times(calls, arguments.rounds)
        for row in rows:
            row[column] = medians[str(row["network"])]
    return rows


def main(given: list[str] | None = None) -> None:
    arguments = _parser().parse_args(given)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    load = os.getloadavg()[0]
    print(
        f"torch {torch.__version__}, {arguments.device}, {arguments.precision}, {torch.get_num_threads()} threads, "
        f"load {load:.1f}, batch {arguments.batch} of {arguments.crop} x {arguments.crop}"
    )
    rows = measure(arguments)
    print(f"{'network':28}{'weights':>10}{'field':>8}{'step':>12}{'inference':>12}{'memory':>12}")
    for row in rows:
        memory = f"{row['memory_gib']:8.2f} GiB" if "memory_gib" in row else ""
        print(
            f"{row['network']:28}{row['weights_million']:8.2f} M{row['receptive_field_px']:>5} px"
            f"{row['step_ms']:9.1f} ms{row['inference_ms']:9.1f} ms{memory:>12}"
        )
    finish(arguments, rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", choices=("small", "paper"), default="small")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--crop", type=int, default=192, help="side of the images in px")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, help="cores that torch may use on the CPU; by default all")
    add_json_option(parser)
    return parser


if __name__ == "__main__":
    main()
