"""What attention costs beside a plain mean and beside SE: times measured in turns, and their ratios.

The maps are those of the four stages of a ResNet-50. The contenders of a stage take turns, round after round, so that
whatever else the machine does disturbs all of them; a time is the median over the rounds, a ratio one of medians.
`benchmarks/channel_attention.py` measures more: layouts, half precision, memory, gradients, whole training steps.

    pooling     the mean; `dct_pool` (one read of the map); the product with stored cosines, as FcaNet's code does it
    attention   pool, layers, sigmoid, scale: SE, ECA, FcaNet, FANet
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from emseg.errors import UsageError
from emseg.frequency.attention import ATTENTIONS, build_attention
from emseg.frequency.dct import TOP16, dct_basis
from emseg.frequency.feature_maps import stage_sizes
from emseg.frequency.pooling import dct_pool
from emseg.reported.display import DisplayTable, Shown
from emseg.runs.session import Run

CHANNELS = (256, 512, 1024, 2048)
DEVICES = ("cpu", "cuda")
Call = Callable[[], object]

POOLINGS = ("mean", "dct_pool", "stored cosines")


@dataclass(frozen=True)
class StageCost:
    """Median times in ms at one stage on one device, by contender; empty where nothing was run."""

    device: str
    stage: int
    shape: tuple[int, int, int, int]
    pooling_ms: Mapping[str, float]
    attention_ms: Mapping[str, float]

    def pooling_ratio(self, name: str) -> float:
        """Return a pooling's time over the mean's."""
        return self.pooling_ms[name] / self.pooling_ms["mean"]

    def attention_ratio(self, name: str) -> float:
        """Return an attention's time over SE's."""
        return self.attention_ms[name] / self.attention_ms["se"]


def measure_costs(image_size: int, *, batch: int, rounds: int, seed: int) -> list[StageCost]:
    """Return the forward times of float32 maps at the four stages; of a device that is not here, rows without times."""
    if rounds < 1 or batch < 1:
        raise UsageError(f"`rounds` and `batch` must be at least 1; got rounds={rounds}, batch={batch}.")
    generator = torch.Generator().manual_seed(seed)
    costs = []
    for device in DEVICES:
        for stage, (channels, size) in enumerate(zip(CHANNELS, stage_sizes(image_size), strict=True), start=1):
            shape = (batch, channels, size, size)
            if device == "cuda" and not torch.cuda.is_available():
                costs.append(StageCost(device, stage, shape, {}, {}))
                continue
            x = torch.randn(shape, generator=generator).to(device)
            with torch.no_grad():
                pooling = median_ms(_poolings(x), device, rounds)
                attention = median_ms(_attentions(x, stage), device, rounds)
            costs.append(StageCost(device, stage, shape, pooling, attention))
    return costs


def median_ms(calls: Mapping[str, Call], device: str, rounds: int) -> dict[str, float]:
    """Return the median time of each call in ms after a round that does not count; the calls take turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            elapsed = _seconds(call, device)
            if number:
                times[name].append(elapsed)
    return {name: 1000 * statistics.median(values) for name, values in times.items()}


def cost_table(costs: list[StageCost]) -> DisplayTable:
    """Return the costs as a table, a row a stage and device."""
    rows = []
    for cost in costs:
        cells = [f"{cost.device.upper()} {cost.stage}", " × ".join(str(length) for length in cost.shape[1:])]
        if cost.pooling_ms:
            cells += [f"{cost.pooling_ms['mean']:.2f} ms"]
            cells += [f"{cost.pooling_ratio(name):.2f} ×" for name in POOLINGS[1:]]
            cells += [f"{cost.attention_ms['se']:.2f} ms"]
            cells += [f"{cost.attention_ratio(name):.2f} ×" for name in ATTENTIONS[2:]]
        else:
            cells += ["not run"] * (len(POOLINGS) + len(ATTENTIONS) - 1)
        rows.append(tuple(Shown(cell) for cell in cells))
    return DisplayTable(
        caption=f"Forward times of this run at the four stages, float32, batch {costs[0].shape[0]}, median of "
        "rounds in turns. Poolings over the mean, whole attentions over SE. Not run: this machine has no such device.",
        header=(
            "Stage",
            "Maps",
            "mean",
            "dct_pool",
            "stored",
            "SE",
            "ECA",
            "FcaNet",
            "FANet",
        ),
        rows=tuple(rows),
        css_class="emseg-metrics",
        row_ids=tuple(f"cost-{cost.device}-stage-{cost.stage}" for cost in costs),
    )


def report_costs(run: Run, costs: list[StageCost], rounds: int) -> None:
    """Note the ratios over all four stages together, as `cpu_pooling_ratio`, `cpu_stored_ratio`, `cpu_fanet_ratio`, ...

    Of a device that is not here nothing is noted.
    """
    for device in DEVICES:
        measured = [cost for cost in costs if cost.device == device and cost.pooling_ms]
        if not measured:
            continue
        pooling = {name: sum(cost.pooling_ms[name] for cost in measured) for name in POOLINGS}
        whole = {name: sum(cost.attention_ms[name] for cost in measured) for name in ATTENTIONS[1:]}
        title = device.upper()
        run.metric(
            f"{device}_pooling_ratio",
            pooling["dct_pool"] / pooling["mean"],
            n=rounds,
            label=f"{title}: time of `dct_pool` over that of the mean",
        )
        run.metric(
            f"{device}_stored_ratio",
            pooling["stored cosines"] / pooling["mean"],
            n=rounds,
            label=f"{title}: time with stored cosines over that of the mean",
        )
        for name in ATTENTIONS[2:]:
            run.metric(
                f"{device}_{name}_ratio",
                whole[name] / whole["se"],
                n=rounds,
                label=f"{title}: time of {name}'s attention over SE's",
            )


def _poolings(x: Tensor) -> dict[str, Call]:
    channels, height, width = x.shape[1:]
    rows = dct_basis(height, [h for h, _ in TOP16], normalization="mean", dtype=x.dtype)
    columns = dct_basis(width, [w for _, w in TOP16], normalization="mean", dtype=x.dtype)
    stored = (rows[:, :, None] * columns[:, None]).repeat_interleave(channels // len(TOP16), dim=0).to(x.device)
    return {
        "mean": lambda: functional.adaptive_avg_pool2d(x, 1),
        "dct_pool": lambda: dct_pool(x),
        "stored cosines": lambda: (x * stored).sum((2, 3)),
    }


def _attentions(x: Tensor, stage: int) -> dict[str, Call]:
    layers = {name: build_attention(name, x.shape[1], stage=stage).to(x.device) for name in ATTENTIONS[1:]}
    return {name: partial(layer, x) for name, layer in layers.items()}


def _seconds(call: Call, device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started
