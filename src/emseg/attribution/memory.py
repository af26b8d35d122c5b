"""How many targets and points of the path are computed at once, so that memory stays below a bound.

    bound >= points_at_once * graph + targets_at_once * maps + returned maps + a reserve for what passes hold in between

graph   bytes that one point's forward pass keeps for its backward passes, measured on the image itself
maps    two float32 images a target: its sum of gradients and its finished map

The network's weights and Python with its libraries (about 0.5 GB) are not counted: they are there already.
"""

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from emseg.errors import UsageError

MOST_TARGETS_AT_ONCE = 256
MOST_POINTS_AT_ONCE = {"cuda": 8}
"""On a CPU one point fills the cores; on a GPU several points hide the time that starting a kernel takes."""
MIB = 2**20
LEARNT_BYTES = 31 * MIB


@dataclass(frozen=True)
class GraphSize:
    """Bytes that a forward pass of one point kept, and the largest single tensor among them."""

    kept: int
    largest: int

    @property
    def peak(self) -> int:
        """What one point takes at most: its graph, and four of the largest maps while a pass runs."""
        return self.kept + 4 * self.largest


def keep_freed_memory(device: torch.device) -> None:
    """Let a CPU's allocator keep what a pass frees, for the next pass asks for it again at once.

    glibc returns freed memory to the system beyond a threshold that it learns from the largest block that was freed, at
    most 32 MiB. Backward passes free and ask for maps of a few MiB each; without this each of them was filled with
    pages anew, a quarter of the time of the passes of a local network. No page of this block is touched.

    What is kept lies between blocks that are in use, so that it would grow from call to call. Hence what earlier calls
    have left is handed back first.
    """
    if device.type == "cpu":
        hand_back = _malloc_trim()
        if hand_back is not None:
            hand_back(0)
        torch.empty(LEARNT_BYTES, dtype=torch.uint8)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    """Return glibc's function that hands free pages back to the system; None where there is another allocator."""
    if not sys.platform.startswith("linux"):
        return None
    found: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return found


class Meter:
    """Counts storages that a graph keeps, each once; weights are not counted."""

    def __init__(self, known: set[int]) -> None:
        self._seen = known
        self.kept = 0
        self.largest = 0

    def add(self, tensor: Tensor) -> None:
        """Count the storage of `tensor` unless it was counted before."""
        storage = tensor.untyped_storage()
        if storage.data_ptr() in self._seen:
            return
        self._seen.add(storage.data_ptr())
        self.kept += storage.nbytes()
        self.largest = max(self.largest, storage.nbytes())

    @property
    def size(self) -> GraphSize:
        """What was counted."""
        return GraphSize(self.kept, self.largest)


def storages_of(network: object) -> set[int]:
    """Return where the weights and buffers of a module are stored; nothing for a function."""
    if not isinstance(network, torch.nn.Module):
        return set()
    tensors = [*network.parameters(), *network.buffers()]
    return {tensor.untyped_storage().data_ptr() for tensor in tensors}


@contextmanager
def metering(network: object) -> Iterator[Meter]:
    """Count what torch's graph of the forward passes inside keeps."""
    meter = Meter(storages_of(network))

    def pack(tensor: Tensor) -> Tensor:
        meter.add(tensor)
        return tensor.detach()  # with its history an output would keep the graph that keeps it, and both for ever

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield meter


@dataclass(frozen=True)
class Portions:
    """How many targets, and how many points of the path, are computed at once."""

    targets_at_once: int
    points_at_once: int


def portions(
    graph: GraphSize,
    n_pixels: int,
    n_targets: int,
    n_points: int,
    memory_mib: float,
    *,
    maps_on_disk: bool,
    steps_at_once: int | None,
    device: torch.device,
) -> Portions:
    """Return portions that stay below `memory_mib`; raises UsageError that says what is needed where none do."""
    map_bytes = 4 * n_pixels
    bound = memory_mib * MIB - (0 if maps_on_disk else n_targets * map_bytes)
    least = graph.peak + 2 * map_bytes
    if bound < least:
        needed = (memory_mib * MIB - bound + least) / MIB
        raise UsageError(
            f"`memory_mib` must hold one point of the path and the maps: here {needed:.0f} MiB, of which the graph of "
            f"one forward pass takes {graph.peak / MIB:.0f} and the maps of all targets "
            f"{0 if maps_on_disk else n_targets * map_bytes / MIB:.0f}; got {memory_mib:g}. Raise it, crop "
            "the image, or name a `resume_folder`, which keeps the maps on disk."
        )
    wanted = steps_at_once or MOST_POINTS_AT_ONCE.get(device.type, 1)
    # At most half of what is left beside one point goes to further points, so that targets can share forward passes.
    points = 1 + int(max(0.0, (bound - least) / 2) // graph.peak) if graph.peak else wanted
    points = max(1, min(points, wanted, n_points))
    targets = int((bound - points * graph.peak) // (2 * map_bytes))
    return Portions(max(1, min(targets, MOST_TARGETS_AT_ONCE, n_targets)), points)
