"""What a computation ran on: versions, device, memory, commit. No host names, no paths.

Torch is described when the process has loaded it and is never imported for the purpose.
"""

import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

PACKAGES = ("emseg", "numpy", "scipy", "torch", "torchvision", "opencv-python-headless", "numba")


def describe_environment() -> dict[str, Any]:
    """Return Python, platform, package versions, CUDA version and device of this process, as JSON-ready values."""
    torch = sys.modules.get("torch")
    cuda_in_use = torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized()
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "cuda": torch.version.cuda if torch is not None and cuda_in_use else None,
        "device": torch.cuda.get_device_name() if torch is not None and cuda_in_use else cpu_name(),
        "device_kind": "cuda" if cuda_in_use else "cpu",
        "cores": available_cores(),
    }


def peak_memory_mib() -> dict[str, float | None]:
    """Return the largest resident memory of this process and the largest allocation on its GPU, in MiB."""
    unit = 1024 * 1024 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    torch = sys.modules.get("torch")
    gpu = None
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        gpu = round(torch.cuda.max_memory_allocated() / 2**20, 1)
    return {"host": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1), "gpu": gpu}


def available_cores() -> int:
    """Return how many cores this process may use (not how many the machine has)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_name() -> str:
    """Return the processor's model name, or its architecture where the system does not tell."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def git_state(root: Path) -> dict[str, Any]:
    """Return the commit of the checkout at `root` and whether its tracked files are unchanged; None where unknown."""
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return {"commit": None, "tree_clean": None}
    return {"commit": commit, "tree_clean": _git(root, "status", "--porcelain", "--untracked-files=no") == ""}


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
