"""What do integrated gradients of many pixels cost? Ours beside captum's loop, and beside the passes that must be made.

    python benchmarks/attribution.py                                  # 256 x 256, 16 targets, 10 steps: minutes
    python benchmarks/attribution.py --size 512 --targets 64 --steps 100 --device cuda
    python benchmarks/attribution.py --network local --json times.json
    python benchmarks/attribution.py --only memory --size 1024        # a ResNet-50 U-Net, one step, peak memory

Networks: "unet" is a U-Net with a ResNet-18 encoder, one grey channel; "local" six 3 x 3 convolutions, whose field
reaches 6 pixels. Their weights and statistics of batch normalisation are drawn at random; `--train STEPS` trains the
network on synthetic tissue first, for fields shrink with training, and packing lives by that. Contenders take turns,
round after round; ratios are medians of the ratios within a round.

    captum    captum's IntegratedGradients, target after target. Its cost is the same for each target: it runs for
              `--captum-targets` of them, and for `--captum-steps` of the steps, and its time is multiplied;
              `captum_extrapolated` says by how much
    floor     one forward pass a step, one backward pass a target and step, written in plain torch, weights frozen
    full      ours, exact, with torch's backward passes
    exact     ours, exact, as it comes: backward passes leave out zeros
    bf16, fp16  the same as exact in half precision; `bf16_half_error` is the relative L1 difference from it, median and
              largest over targets. Left out, with the reason, where torch cannot compute in it
    packed    ours, packing="auto", with the error it states; the sample that the error is measured on is paid for

Targets: full at most 1.15 times the floor; exact at least 1.8 times faster than captum; packed at least 5 times on the
U-Net and 15 times on the local network, there without error (in float32); memory at 1024 x 1024 at most 8 GB.
"""

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import torch
from _results import Target, Verdict, add_json_option, finish
from captum.attr import IntegratedGradients
from torch import nn
from torch.nn import functional

from emseg.attribution import Attribution, PackingOptions, attribute_pixels
from emseg.errors import InputError
from emseg.synthetic.tissue import synthesize_tissue

CONTENDERS = ("captum", "floor", "full", "exact", "bf16", "fp16", "packed")
HALF = ("bf16", "fp16")
FULL = Target("full / floor", 1.15, "x")
EXACT = Target("captum / exact", 1.8, "x", "at least")
PACKED = {
    "unet": Target("captum / packed, U-Net", 5.0, "x", "at least"),
    "local": Target("captum / packed, local network", 15.0, "x", "at least"),
}
NO_ERROR = Target("packing's error on the local network", 1e-4)  # float32's: that of the agreement with captum
MEMORY = Target("memory at 1024 x 1024", 8.0, "GB")
Call = Callable[[], object]


def make_network(name: str, encoder: str = "resnet18") -> nn.Module:
    """Return a network with random weights and random statistics of batch normalisation, in evaluation mode."""
    torch.manual_seed(0)
    if name == "local":
        layers: list[nn.Module] = [nn.Conv2d(1, 32, 3, padding=1), nn.ReLU()]
        for _ in range(4):
            layers += [nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()]
        return nn.Sequential(*layers, nn.Conv2d(32, 1, 3, padding=1)).eval()
    network = smp.Unet(encoder, encoder_weights=None, in_channels=1, classes=1)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 2)
    return network.eval()


def train(network: nn.Module, n_steps: int, size: int) -> torch.Tensor:
    """Train on synthetic tissue, four crops of 96 pixels a step; return an image [1, 1, size, size] it has not seen."""
    seen = synthesize_tissue((512, 512), pixel_size_nm=4.0, seed=1)
    image, membrane = (torch.from_numpy(seen.image) / 127.5 - 1)[None], torch.from_numpy(seen.membrane).float()[None]
    rng, optimizer = np.random.default_rng(0), torch.optim.Adam(network.parameters(), 2e-3)
    network.train()
    for _ in range(n_steps):
        corners = rng.integers(0, 512 - 96, size=(4, 2))
        crops = [(slice(None), slice(r, r + 96), slice(c, c + 96)) for r, c in corners]
        logits = network(torch.stack([image[crop] for crop in crops]))
        loss = functional.binary_cross_entropy_with_logits(logits, torch.stack([membrane[crop] for crop in crops]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    unseen = synthesize_tissue((size, size), pixel_size_nm=4.0, seed=2)
    return (torch.from_numpy(unseen.image) / 127.5 - 1)[None, None]


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


def measure_time(arguments: argparse.Namespace) -> dict[str, object]:
    """Return seconds and ratios of all contenders."""
    device = torch.device(arguments.device)
    network = make_network(arguments.network)
    image = torch.randn(1, 1, arguments.size, arguments.size, generator=torch.Generator().manual_seed(1))
    if arguments.train:
        image = train(network, arguments.train, arguments.size)
    network, image = network.to(device).requires_grad_(False), image.to(device)
    targets, n_steps = spread_targets(arguments.size, arguments.targets), arguments.steps
    few = targets[:: max(1, len(targets) // arguments.captum_targets)][: arguments.captum_targets]
    captum_steps = min(arguments.captum_steps or n_steps, n_steps)
    factor = len(targets) / len(few) * n_steps / captum_steps
    results: dict[str, Attribution] = {}

    def ours(name: str, **options: object) -> Call:
        def call() -> None:
            results[name] = attribute_pixels(network, image, targets, n_steps=n_steps, **options)  # type: ignore[arg-type]

        return call

    options = PackingOptions(tolerance=arguments.tolerance, n_sampled=arguments.sampled)
    calls = {
        "captum": captum_loop(network, image, few, captum_steps),
        "floor": floor(network, image, targets, n_steps),
        "full": ours("full", backward="full"),
        "exact": ours("exact"),
        **{name: ours(name, precision=name) for name in HALF},
        "packed": ours("packed", packing="auto", packing_options=options),
    }
    calls = {name: call for name, call in calls.items() if name in arguments.contenders}
    errors: dict[str, object] = {}
    for name in HALF:
        if name in calls:
            try:
                attribute_pixels(network, image, targets[:1], n_steps=2, precision=name)
            except (InputError, RuntimeError) as reason:
                errors[name] = f"left out: {str(reason).splitlines()[0]}"
                del calls[name]
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for round_number in range(arguments.rounds + arguments.warm_up):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if device.type == "cuda":
                torch.cuda.synchronize()
            passed = time.perf_counter() - started
            if round_number >= arguments.warm_up:
                seconds[name].append(passed * (factor if name == "captum" else 1))
    if {"full", "exact"} <= set(calls):
        full, exact = results["full"].maps, results["exact"].maps
        errors["exact_error"] = float((np.abs(exact - full).max(axis=(1, 2)) / np.abs(full).max(axis=(1, 2))).max())
    for name in set(HALF) & set(calls) if "exact" in calls else ():
        exact, half = results["exact"].maps, results[name].maps
        off = np.abs(half - exact).sum(axis=(1, 2)) / np.abs(exact).sum(axis=(1, 2))
        errors[f"{name}_half_error"] = f"{np.median(off):.2%} (median over targets), {off.max():.2%} (largest)"
    if {"exact", "packed"} <= set(calls):
        exact, packed = results["exact"].maps, results["packed"].maps
        off = np.abs(packed - exact).sum(axis=(1, 2)) / np.abs(exact).sum(axis=(1, 2))
        errors["packing_error"] = str(results["packed"].packing_error)
        errors["packing_l1_all_targets"] = float(np.median(off))
    return {
        "network": arguments.network,
        "trained_steps": arguments.train,
        "size": arguments.size,
        "targets": len(targets),
        "steps": n_steps,
        "rounds": arguments.rounds,
        "captum_extrapolated": f"timed on {len(few)} of {len(targets)} targets and {captum_steps} of {n_steps} steps, "
        f"times {factor:g}",
        "device": str(device),
        "threads": torch.get_num_threads(),
        "seconds": {name: statistics.median(values) for name, values in seconds.items()},
        "captum / ours": {name: ratio(seconds, "captum", name) for name in calls} if "captum" in calls else {},
        "ours / floor": {name: ratio(seconds, name, "floor") for name in calls} if "floor" in calls else {},
        **errors,
    }


def ratio(seconds: dict[str, list[float]], one: str, other: str) -> float:
    return statistics.median(a / b for a, b in zip(seconds[one], seconds[other], strict=True))


def peak_memory_gb() -> float:
    """The process's high-water mark, in GB of 10^9 bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def measure_memory(arguments: argparse.Namespace) -> dict[str, object]:
    """Return the most that this process held while it attributed pixels of a large image with a ResNet-50 U-Net.

    The steps of the path follow each other, so that two need what a hundred need.
    """
    network = make_network("unet", "resnet50")
    before = peak_memory_gb()
    image = torch.randn(arguments.size, arguments.size, generator=torch.Generator().manual_seed(1))
    targets = spread_targets(arguments.size, arguments.targets)
    started = time.perf_counter()
    found = attribute_pixels(network, image, targets, n_steps=2, memory_mib=arguments.memory_mib)
    return {
        "network": "U-Net, ResNet-50",
        "size": arguments.size,
        "targets": len(targets),
        "memory_mib": arguments.memory_mib,
        "before_gb": before,
        "peak_gb": peak_memory_gb(),
        "seconds": time.perf_counter() - started,
        "backward": found.settings["backward"],
    }


def judge_times(found: dict[str, Any]) -> list[Verdict]:
    """Return the verdicts on what `measure_time` found; contenders that were left out leave targets unmeasured."""
    network, against = found["network"], found["captum / ours"]
    verdicts = [
        FULL.judge(found["ours / floor"].get("full")),
        EXACT.judge(against.get("exact")),
        PACKED[network].judge(against.get("packed")),
    ]
    return verdicts + ([NO_ERROR.judge(found.get("packing_l1_all_targets"))] if network == "local" else [])


def judge_memory(found: dict[str, Any]) -> list[Verdict]:
    """Return the verdict on what `measure_memory` found."""
    return [MEMORY.judge(found["peak_gb"] if found["size"] == 1024 else None)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=["unet", "local"], default="unet")
    parser.add_argument("--size", type=int, default=256, help="pixels a side")
    parser.add_argument("--targets", type=int, default=16)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm-up", type=int, default=0, help="rounds before those that count")
    parser.add_argument(
        "--contenders",
        nargs="+",
        choices=CONTENDERS,
        default=[name for name in CONTENDERS if name != "fp16"],
        help="all but fp16 by default, which a CPU may compute very slowly",
    )
    parser.add_argument("--captum-targets", type=int, default=2, help="targets that captum's loop is timed on")
    parser.add_argument("--captum-steps", type=int, default=0, help="steps that captum's loop is timed on; 0: all")
    parser.add_argument("--train", type=int, default=0, metavar="STEPS", help="train the network on synthetic tissue")
    parser.add_argument("--tolerance", type=float, default=0.1, help="share of a map that may lie outside its cell")
    parser.add_argument("--sampled", type=int, default=4, help="targets that packing's error is measured on")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--memory-mib", type=float, default=4096)
    parser.add_argument("--only", choices=["time", "memory"], default="time")
    add_json_option(parser)
    arguments = parser.parse_args()
    found = measure_memory(arguments) if arguments.only == "memory" else measure_time(arguments)
    for name, value in found.items():
        if isinstance(value, dict):
            print(name)
            for key, number in value.items():
                print(f"    {key:<10}{number:>10.3f}")
        else:
            print(f"{name:<24}{value}")
    verdicts = judge_memory(found) if arguments.only == "memory" else judge_times(found)
    finish(arguments, found, verdicts)


if __name__ == "__main__":
    main()
