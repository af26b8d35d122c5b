"""Peak memory of a process and of its GPU, and one clear error where memory does not suffice.

Torch is used where the process has loaded it and is never imported for the purpose.
"""

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from emseg.errors import UsageError

if TYPE_CHECKING:
    import torch

MIB = 2**20


def host_peak_memory_mib() -> float:
    """Return the largest resident memory of this process, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux, bytes on macOS
    return peak / (MIB if sys.platform == "darwin" else 1024)


def gpu_peak_memory_mib() -> float | None:
    """Return the largest allocation on the current GPU, in MiB; None where no GPU is in use."""
    torch = sys.modules.get("torch")
    if torch is None or not (torch.cuda.is_available() and torch.cuda.is_initialized()):
        return None
    return float(torch.cuda.max_memory_allocated() / MIB)


def peak_memory_mib(device: "torch.device") -> float:
    """Return the peak memory on a device, in MiB: of the GPU, or of this process on a CPU."""
    if device.type == "cuda":
        return float(sys.modules["torch"].cuda.max_memory_allocated(device) / MIB)
    return host_peak_memory_mib()


@contextmanager
def clear_memory_error(where: str, repair: str) -> Iterator[None]:
    """Turn an out-of-memory error in the block into a `UsageError`; `where` is the device, `repair` a sentence."""
    import torch

    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "can't allocate memory" not in str(error):
            raise
        raise UsageError(f"the training does not fit into the memory of {where}. {repair}") from error
