"""What do integrated gradients of many pixels cost? Ours and captum's loop, and the passes that must be made.

    python benchmarks/attribution.py                                  # the four networks at 256 px, 16 targets: minutes
    python benchmarks/attribution.py --network shipped --size 512 --targets 2
    python benchmarks/attribution.py --size 256 512 1024 --steps 2 --json times.json
    python benchmarks/attribution.py --only memory --size 1024        # a ResNet-50 U-Net, one step, peak memory

Networks: "shipped" is the book's U-Net for ISBI-like tissue (depth 3, 8 channels), "depth4" a U-Net of depth 4 and 16
channels, "resnet18" segmentation_models_pytorch's U-Net, "local" six 3 x 3 convolutions of 32 channels. All but the
first have random weights. Contenders take turns, round after round; ratios are medians of the ratios within a round.

    captum    captum's IntegratedGradients, target after target. Its cost is the same for each target and each step: it
              runs for `--captum-targets` of the targets and two steps, and its time is multiplied
    floor     one forward pass a step, one backward pass a target and step, in plain torch, weights frozen
    full      ours with torch's backward passes
    auto      ours by default: windows of the image, backward passes that leave out zeros
    bf16, fp16  the same in half precision; `bf16_error` is the relative L1 difference, median over targets. Left out,
              with the reason, where torch cannot compute in it

Targets: auto at least 12 times faster than captum on the shipped network at 512 px, and 1.8 times at 256 px on every
network; never slower than full by more than 10 %; memory at 1024 px at most 8 GB.
"""

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import torch
from _results import Target, Verdict, add_json_option, finish
from captum.attr import IntegratedGradients  # type: ignore[import-untyped]
from torch import nn

from emseg.attribution import Attribution, attribute_pixels
from emseg.errors import InputError
from emseg.membrane.networks import NetworkDesign, build_network, load_network

NETWORKS = ("shipped", "depth4", "resnet18", "local")
CONTENDERS = ("captum", "floor", "full", "auto", "bf16", "fp16")
HALF = ("bf16", "fp16")
WEIGHTS = Path(__file__).parents[1] / "book" / "weights" / "urisc" / "synthetic_isbi_like_unet.safetensors"
CAPTUM_STEPS = 2
SHIPPED = Target("captum / auto, shipped network at 512 px", 12.0, "x", "at least")
ROUTE = Target("auto / full", 1.1, "x")
MEMORY = Target("memory at 1024 x 1024", 8.0, "GB")
Call = Callable[[], object]


def make_network(name: str) -> nn.Module:
    """Return a network in evaluation mode; random statistics of batch normalisation where its weights are random."""
    torch.manual_seed(0)
    if name == "shipped":
        return load_network(WEIGHTS).eval()
    if name == "local":
        layers: list[nn.Module] = [nn.Conv2d(1, 32, 3, padding=1), nn.ReLU()]
        for _ in range(4):
            layers += [nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()]
        return nn.Sequential(*layers, nn.Conv2d(32, 1, 3, padding=1)).eval()
    if name == "depth4":
        network: nn.Module = build_network(NetworkDesign(encoder="plain", encoder_depth=4, base_channels=16), seed=0)
    else:
        network = smp.Unet(name, encoder_weights=None, in_channels=1, classes=1)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.get_buffer("running_mean"), 0, 0.1)
            nn.init.uniform_(part.get_buffer("running_var"), 0.5, 2)
    return network.eval()


def spread_targets(size: int, n_targets: int) -> np.ndarray:
    """Return targets on a square grid."""
    side = int(np.ceil(np.sqrt(n_targets)))
    places = ((np.arange(side) + 0.5) * size / side).astype(int)
    return np.stack(np.meshgrid(places, places, indexing="ij"), axis=-1).reshape(-1, 2)[:n_targets]


def captum_loop(network: nn.Module, image: torch.Tensor, targets: np.ndarray, n_steps: int) -> Call:
    def call() -> None:
        for row, column in targets.tolist():
            method = IntegratedGradients(lambda x, row=row, column=column: network(x)[:, 0, row, column])
            method.attribute(image, 0.0 * image, n_steps=n_steps, method="riemann_right", internal_batch_size=1)

    return call


def floor(network: nn.Module, image: torch.Tensor, targets: np.ndarray, n_steps: int) -> Call:
    def call() -> None:
        for step in range(1, n_steps + 1):
            point = (image * (step / n_steps)).requires_grad_(True)
            logits = network(point)
            for row, column in targets.tolist():
                torch.autograd.grad(logits[0, 0, row, column], point, retain_graph=True)

    return call


def measure_time(arguments: argparse.Namespace, name: str, size: int) -> dict[str, Any]:
    """Return seconds and ratios of all contenders for one network and one size."""
    device = torch.device(arguments.device)
    network = make_network(name).to(device).requires_grad_(False)
    image = torch.randn(1, 1, size, size, generator=torch.Generator().manual_seed(1)).to(device)
    targets, n_steps = spread_targets(size, arguments.targets), arguments.steps
    few = targets[:: max(1, len(targets) // arguments.captum_targets)][: arguments.captum_targets]
    factor = len(targets) / len(few) * n_steps / CAPTUM_STEPS
    results: dict[str, Attribution] = {}

    def ours(name: str, **options: Any) -> Call:
        def call() -> None:
            results[name] = attribute_pixels(network, image, targets, n_steps=n_steps, **options)

        return call

    calls = {
        "captum": captum_loop(network, image, few, CAPTUM_STEPS),
        "floor": floor(network, image, targets, n_steps),
        "full": ours("full", backward="full"),
        "auto": ours("auto"),
        **{half: ours(half, precision=half) for half in HALF},
    }
    calls = {one: call for one, call in calls.items() if one in arguments.contenders}
    errors: dict[str, object] = {}
    for half in set(HALF) & set(calls):
        try:
            attribute_pixels(network, image, targets[:1], n_steps=2, precision=half)
        except (InputError, RuntimeError) as reason:
            errors[half] = f"left out: {str(reason).splitlines()[0]}"
            del calls[half]
    seconds: dict[str, list[float]] = {one: [] for one in calls}
    for _ in range(arguments.rounds):
        for one, call in calls.items():
            started = time.perf_counter()
            call()
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds[one].append((time.perf_counter() - started) * (factor if one == "captum" else 1))
    for one in set(results) - {"full"} if "full" in results else ():
        full, other = results["full"].maps, results[one].maps
        off = np.abs(other - full).sum(axis=(1, 2)) / np.abs(full).sum(axis=(1, 2))
        errors[f"{one}_error"] = float(np.median(off))
    return {
        "network": name,
        "size": size,
        "targets": len(targets),
        "steps": n_steps,
        "rounds": arguments.rounds,
        "captum_extrapolated": f"timed on {len(few)} targets and {CAPTUM_STEPS} steps, times {factor:g}",
        "device": str(device),
        "threads": torch.get_num_threads(),
        "windows": results["auto"].settings["n_windows"] if "auto" in results else None,
        "seconds": {one: statistics.median(values) for one, values in seconds.items()},
        "captum / ours": {one: ratio(seconds, "captum", one) for one in calls} if "captum" in calls else {},
        "ours / full": {one: ratio(seconds, one, "full") for one in calls} if "full" in calls else {},
        **errors,
    }


def ratio(seconds: dict[str, list[float]], one: str, other: str) -> float:
    return statistics.median(a / b for a, b in zip(seconds[one], seconds[other], strict=True))


def peak_memory_gb() -> float:
    """The process's high-water mark, in GB of 10^9 bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def measure_memory(arguments: argparse.Namespace, size: int) -> dict[str, Any]:
    """Return the most that this process held while it attributed pixels of a large image with a ResNet-50 U-Net.

    The steps of the path follow each other, so that two need what a hundred need.
    """
    network = make_network("resnet50")
    before = peak_memory_gb()
    image = torch.randn(size, size, generator=torch.Generator().manual_seed(1))
    targets = spread_targets(size, arguments.targets)
    started = time.perf_counter()
    found = attribute_pixels(network, image, targets, n_steps=2, memory_mib=arguments.memory_mib)
    return {
        "network": "U-Net, ResNet-50",
        "size": size,
        "targets": len(targets),
        "memory_mib": arguments.memory_mib,
        "before_gb": before,
        "peak_gb": peak_memory_gb(),
        "seconds": time.perf_counter() - started,
        "backward": found.settings["backward"],
    }


def judge_times(found: dict[str, Any]) -> list[Verdict]:
    """Return the verdicts on what `measure_time` found; contenders that were left out leave targets unmeasured."""
    against = found["captum / ours"].get("auto")
    verdicts = [ROUTE.judge(found["ours / full"].get("auto"))]
    if (found["network"], found["size"]) == ("shipped", 512):
        verdicts.append(SHIPPED.judge(against))
    if found["size"] == 256:
        verdicts.append(Target(f"captum / auto, {found['network']} at 256 px", 1.8, "x", "at least").judge(against))
    return verdicts


def judge_memory(found: dict[str, Any]) -> list[Verdict]:
    """Return the verdict on what `measure_memory` found."""
    return [MEMORY.judge(found["peak_gb"] if found["size"] == 1024 else None)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--size", type=int, nargs="+", default=[256], help="pixels a side")
    parser.add_argument("--targets", type=int, default=16)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--contenders",
        nargs="+",
        choices=CONTENDERS,
        default=[name for name in CONTENDERS if name not in HALF],
        help="all but half precision by default, which a CPU may compute very slowly",
    )
    parser.add_argument("--captum-targets", type=int, default=2, help="targets that captum's loop is timed on")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--memory-mib", type=float, default=4096)
    parser.add_argument("--only", choices=["time", "memory"], default="time")
    add_json_option(parser)
    arguments = parser.parse_args()
    cases: list[dict[str, Any]] = []
    verdicts: list[Verdict] = []
    for size in arguments.size:
        for name in arguments.network if arguments.only == "time" else ("ResNet-50 U-Net",):
            found = measure_time(arguments, name, size) if arguments.only == "time" else measure_memory(arguments, size)
            cases.append(found)
            verdicts += judge_times(found) if arguments.only == "time" else judge_memory(found)
            for key, value in found.items():
                if isinstance(value, dict):
                    print(key, "  ".join(f"{one} {number:.3f}" for one, number in value.items()))
                else:
                    print(f"{key:<24}{value}")
            print(flush=True)
    finish(arguments, {"cases": cases}, verdicts)


if __name__ == "__main__":
    main()
