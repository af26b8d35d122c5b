"""How long calls take, measured in turns, and how much memory one holds.

The calls that are compared take turns, round after round, so that whatever else the machine does disturbs all of them.
A time is the median over the rounds, of which short calls get more, for one interruption takes longer than many of
them; rounds before the first that counts warm caches up (and, on a GPU, clocks and
compilers). A stopwatch takes a call and returns its seconds: `perf_counter` on the CPU, a pair of events on a GPU,
which are stamped by the GPU itself, so that the time to hand over the work does not count where the GPU is busy.
"""

import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from emseg.errors import UsageError

Call = Callable[[], object]
Stopwatch = Callable[[Call], float]


def cpu_seconds(call: Call) -> float:
    """Return how long one call takes on the CPU."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def cuda_seconds(call: Call) -> float:
    """Return how long the GPU takes for one call."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1000


STOPWATCHES: dict[str, Stopwatch] = {"cpu": cpu_seconds, "cuda": cuda_seconds}
WARM_UP = {"cpu": 1, "cuda": 10}  # rounds
LEAST_SECONDS = 0.05
MOST_FACTOR = 20


@dataclass(frozen=True)
class Medians:
    """The median time of each call in ms, by name, over so many rounds."""

    ms: dict[str, float]
    rounds: int


def median_times(
    calls: Mapping[str, Call], rounds: int, stopwatch: Stopwatch, *, warm_up: int, least_seconds: float = 0.0
) -> Medians:
    """Return the median time of each call; in each round every call is made once, in order.

    Rounds go on, up to `MOST_FACTOR` times as many, until all calls together have been timed for `least_seconds`. The
    `warm_up` rounds before them do not count.
    """
    if rounds < 1:
        raise UsageError(f"`rounds` must be at least 1, or nothing is measured; got {rounds}.")
    for _ in range(warm_up):
        for call in calls.values():
            call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    number, total = 0, 0.0
    while number < rounds or (total < least_seconds and number < MOST_FACTOR * rounds):
        for name, call in calls.items():
            times[name].append(stopwatch(call))
            total += times[name][-1]
        number += 1
    return Medians({name: 1000 * statistics.median(values) for name, values in times.items()}, number)


@contextlib.contextmanager
def on_threads(n_threads: int | None) -> Iterator[None]:
    """Let torch use so many cores within; None leaves its number as it is."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(n_threads or before)
        yield
    finally:
        torch.set_num_threads(before)


def memory_share(call: Call, x: Tensor) -> float:
    """Return the most memory that a call holds at a time beside `x`, over the size of `x`."""
    if x.device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return float(torch.cuda.max_memory_allocated() - before) / x.nbytes
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or the profiler prints that it found no GPU
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        call()
    held = most = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most / x.nbytes
