"""What does frequency attention cost? `dct_pool` beside the mean, whole attentions, and training steps, in one run.

    python benchmarks/channel_attention.py                   # CPU, and CUDA where there is a GPU: about two minutes
    python benchmarks/channel_attention.py --only pooling --rounds 15
    python benchmarks/channel_attention.py --json times.json

The maps are the four stages of a ResNet-50 on an image of 1024 x 1024 pixels, batch 2 on the CPU and 8 on a GPU. The
variants of a row take turns, round after round, so that whatever else the machine does hits all of them; every time is
a median over the rounds, every ratio one of medians. Programs that share the cores distort what is short. `memory` is
the most that a call holds beside the map, over the size of the map. On a GPU, times are those of CUDA events, and `of
copy` is the bandwidth at which the map is read, over that of a copy of the map. Rows of a device that is not here are
listed as "not run".
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile
from torchvision.models.detection import MaskRCNN
from torchvision.ops import FeaturePyramidNetwork

from emseg.frequency import (
    ATTENTIONS,
    RESNET18,
    RESNET34,
    RESNET50,
    TOP16,
    ResNet,
    ResNetDesign,
    build_attention,
    dct_basis,
    dct_pool,
)

STAGES = ((256, 256), (512, 128), (1024, 64), (2048, 32))  # channels, height and width
BATCH = {"cpu": 2, "cuda": 8}
SECTIONS = ("pooling", "attention", "training")
Call = Callable[[], object]
Row = dict[str, object]


def seconds(call: Call, device: str) -> float:
    """Return how long one call takes."""
    if device == "cpu":
        start = time.perf_counter()
        call()
        return time.perf_counter() - start
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000


def medians_ms(calls: dict[str, Call], device: str, rounds: int) -> dict[str, float]:
    """Return the median time of each call in ms; the calls take turns."""
    for _ in range(2 if device == "cpu" else 10):
        for call in calls.values():
            call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(seconds(call, device))
    return {name: 1000 * statistics.median(values) for name, values in times.items()}


def memory_share(call: Call, x: Tensor) -> float:
    """Return the most memory that a call holds at a time, over the size of x."""
    if x.device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return (torch.cuda.max_memory_allocated() - before) / x.nbytes
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        call()
    held = most = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most / x.nbytes


def rows_of(calls: dict[str, Call], device: str, rounds: int, baseline: str, **what: object) -> Iterator[Row]:
    """Yield a row for each call, with its ratio to the baseline."""
    times = medians_ms(calls, device, rounds)
    for name, ms in times.items():
        yield {**what, "device": device, "variant": name, "ms": ms, "ratio": ms / times[baseline], "to": baseline}


def feature_map(stage: int, device: str, dtype: torch.dtype, layout: str) -> Tensor:
    channels, size = STAGES[stage]
    x = torch.randn(BATCH[device], channels, size, size, device=device).to(dtype)
    return x.to(memory_format=torch.channels_last) if layout == "channels last" else x


def backward(call: Callable[[Tensor], Tensor], x: Tensor) -> Call:
    """Return forward and backward with respect to the map; what comes back is prepared once."""
    x = x.detach().requires_grad_()
    came = torch.ones_like(call(x))
    return lambda: torch.autograd.grad(call(x), x, came)


def pooling(device: str, rounds: int) -> Iterator[Row]:
    """`dct_pool` beside the mean and beside the product with stored cosines."""
    cpu = device == "cpu"
    for dtype, layout, compiled in [
        (torch.float32, "contiguous", False),
        (torch.float32, "channels last", False),
        (torch.bfloat16, "contiguous", False),
        *([] if cpu else [(torch.float32, "contiguous", True), (torch.bfloat16, "contiguous", True)]),
    ]:
        for stage, (channels, size) in enumerate(STAGES):
            x = feature_map(stage, device, dtype, layout)
            rows, columns = (dct_basis(size, axis, normalization="mean") for axis in zip(*TOP16, strict=True))
            basis = (rows[:, :, None] * columns[:, None]).repeat_interleave(channels // 16, dim=0).to(x)
            functions: dict[str, Callable[[Tensor], Tensor]] = {
                "mean": lambda t: functional.adaptive_avg_pool2d(t, 1),
                "dct_pool": dct_pool,
                "(x * basis).sum": lambda t, basis=basis: (t * basis).sum((2, 3)),
            }
            if compiled:
                functions = {name: torch.compile(function, dynamic=False) for name, function in functions.items()}
            what = {"section": "pooling", "stage": stage + 1, "shape": list(x.shape), "layout": layout}
            what |= {"dtype": str(dtype).removeprefix("torch."), "mode": "compiled" if compiled else "eager"}
            calls = {name: (lambda f=f, x=x: f(x)) for name, f in functions.items()}
            if not cpu:
                calls["copy"] = x.clone
            with torch.no_grad():
                found = list(rows_of(calls, device, rounds, "mean", **what, direction="forward"))
                for row in found:
                    row["memory"] = memory_share(calls[str(row["variant"])], x)
                    if not cpu:  # a copy reads and writes the map, a pooling only reads it
                        row["of_copy"] = float(found[-1]["ms"]) / 2 / float(row["ms"])  # type: ignore[arg-type]
            yield from found
            if layout == "contiguous" and (dtype == torch.float32 or not cpu):
                both = {
                    name: backward(function, x) for name, function in functions.items() if name != "(x * basis).sum"
                }
                yield from rows_of(both, device, rounds, "mean", **what, direction="forward + backward")


def attention(device: str, rounds: int) -> Iterator[Row]:
    """Whole attentions beside SE: pool, fc, sigmoid, scale."""
    for dtype, compiled in [(torch.float32, False)] if device == "cpu" else [
        (dtype, compiled) for dtype in (torch.float32, torch.bfloat16) for compiled in (False, True)
    ]:  # fmt: skip
        for stage, (channels, _) in enumerate(STAGES):
            x = feature_map(stage, device, dtype, "contiguous")
            layers: dict[str, nn.Module] = {
                name: build_attention(name, channels, stage=stage + 1).to(device, dtype) for name in ATTENTIONS[1:]
            }
            if compiled:
                layers = {name: torch.compile(layer, dynamic=False) for name, layer in layers.items()}
            what = {"section": "attention", "stage": stage + 1, "shape": list(x.shape), "layout": "contiguous"}
            what |= {"dtype": str(dtype).removeprefix("torch."), "mode": "compiled" if compiled else "eager"}
            with torch.no_grad():
                calls = {name: (lambda f=f, x=x: f(x)) for name, f in layers.items()}
                yield from rows_of(calls, device, rounds, "se", **what, direction="forward")
            calls = {name: backward(layer, x) for name, layer in layers.items()}
            yield from rows_of(calls, device, rounds, "se", **what, direction="forward + backward")


class Pyramid(nn.Module):
    """The maps of a network's stages as a detector reads them."""

    def __init__(self, network: ResNet) -> None:
        super().__init__()
        self.network, self.out_channels = network, 256
        self.pyramid = FeaturePyramidNetwork(list(network.design.out_channels), self.out_channels)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return one map a stage, all of 256 channels."""
        return self.pyramid({str(stage): maps for stage, maps in enumerate(self.network.features(images))})


def classifier_step(design: ResNetDesign, name: str, images: Tensor) -> Call:
    network = ResNet(design, name, generator=torch.Generator().manual_seed(0)).to(images.device)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
    target = torch.arange(len(images), device=images.device)

    def step() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(network(images), target).backward()
        optimizer.step()

    return step


def detector_step(design: ResNetDesign, name: str, images: Tensor) -> Call:
    """One step of torchvision's Mask R-CNN on squares, on a backbone with the attention in every block."""
    side, device = images.shape[-1], images.device
    backbone = Pyramid(ResNet(design, name, generator=torch.Generator().manual_seed(0)))
    torch.manual_seed(0)
    anchors = torchvision.models.detection.anchor_utils.AnchorGenerator(((32,), (64,), (128,), (256,)), ((1.0,),) * 4)
    pool = {size: torchvision.ops.MultiScaleRoIAlign(["0", "1", "2", "3"], size, 2) for size in (7, 14)}
    network = MaskRCNN(
        backbone, 5, min_size=side, max_size=side, rpn_anchor_generator=anchors, box_roi_pool=pool[7],
        mask_roi_pool=pool[14], rpn_post_nms_top_n_train=200, box_batch_size_per_image=64,
    ).to(device)  # fmt: skip
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9)
    corners = torch.tensor([[0.1, 0.1], [0.5, 0.1], [0.1, 0.5], [0.5, 0.5]], device=device) * side
    boxes = torch.cat([corners, corners + 0.3 * side], dim=1).round()
    masks = torch.zeros(4, side, side, dtype=torch.uint8, device=device)
    for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
        mask[top:bottom, left:right] = 1
    target = {"boxes": boxes, "labels": torch.arange(1, 5, device=device), "masks": masks}

    def step() -> None:
        optimizer.zero_grad()
        losses = network(list(images), [target] * len(images))
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()

    return step


def training(device: str, rounds: int) -> Iterator[Row]:
    """Training steps with each attention, beside SE; on a CPU with shallow backbones and small images."""
    batch, side = (2, 256) if device == "cpu" else (8, 1024)
    images = torch.rand(batch, 3, side, side, device=device)
    designs = (RESNET34, RESNET18) if device == "cpu" else (RESNET50, RESNET50)
    for title, make, design in zip(
        ("classifier", "Mask R-CNN"), (classifier_step, detector_step), designs, strict=True
    ):
        calls = {name: make(design, name, images) for name in ATTENTIONS}
        what = {"section": "training", "shape": list(images.shape), "layout": "contiguous", "dtype": "float32"}
        what |= {"mode": "eager", "direction": f"{title}, {design.block} {list(design.depths)}"}
        yield from rows_of(calls, device, max(3, rounds // 3), "se", **what)


def line(row: Row) -> str:
    """Return a row as text."""
    place = (
        f"{row['device']:4} {row['dtype']:8} {row['layout']:13} {row['mode']:8} {'x'.join(map(str, row['shape'])):16}"
    )
    text = f"{place} {row['direction']:34} {row['variant']:15} {row['ms']:10.2f} ms {row['ratio']:6.2f} x {row['to']}"
    text += f"  memory {row['memory']:.3f}" if "memory" in row else ""
    return text + (f"  of copy {row['of_copy']:.2f}" if "of_copy" in row else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=SECTIONS, nargs="+", default=SECTIONS)
    parser.add_argument("--device", choices=["cpu", "cuda"], nargs="+", default=["cpu", "cuda"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, help="write the rows, and what they were measured on, to this file")
    arguments = parser.parse_args()
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")

    rows: list[Row] = []
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}")
    for device in arguments.device:
        for section in arguments.only:
            if device == "cuda" and not torch.cuda.is_available():
                rows.append({"section": section, "device": device, "status": "not run"})
                print(f"{device} {section}: not run (there is no GPU here)")
                continue
            for row in {"pooling": pooling, "attention": attention, "training": training}[section](
                device, arguments.rounds * (1 if device == "cpu" else 5)
            ):
                rows.append({**row, "status": "measured", "load": os.getloadavg()[0]})
                print(line(row), flush=True)
    print(f"load {os.getloadavg()[0]:.1f}")
    if arguments.json:
        machine = {"torch": torch.__version__, "threads": torch.get_num_threads(), "load": os.getloadavg()[0]}
        machine["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else None
        arguments.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
