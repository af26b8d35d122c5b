"""Make `.venv` with the exact packages of requirements.lock and install `emseg` from src/ into it.

Run by `make setup`, with any Python: it needs the standard library alone, and reports in one sentence what is wrong
when Python is too old, the disk too full or the package index out of reach. With an unchanged lock, a second call does
nothing.

On Linux PyPI's torch brings 4.5 GB of CUDA. Where there is no NVIDIA GPU, torch's CPU build of the same version comes
from PyTorch's own index instead, without `nvidia-*` and `triton`; if that index is out of reach, PyPI's build is
installed. TORCH=cuda installs PyPI's build in any case, TORCH=cpu the CPU build.
"""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

OLDEST, TOO_NEW = (3, 11), (3, 14)
NEEDED_GB = 9
NEEDED_GB_CPU = 4
ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
LOCK = ROOT / "requirements.lock"
STAMP = VENV / "installed-lock.sha256"
CPU_LOCK = ROOT / "_build" / "requirements-cpu.lock"
CPU_INDEX = os.environ.get("TORCH_CPU_INDEX", "https://download.pytorch.org/whl/cpu")


def main():
    """Install, or report why not; return the exit code."""
    active = "--active" in sys.argv[1:]  # into the Python that runs this, as Binder and conda users want it
    if not active and is_current():
        return 0
    if complaint := python_complaint(sys.version_info[:2]):
        return refuse(complaint)
    light = wants_cpu_build() and is_reachable(CPU_INDEX)
    if complaint := disk_complaint(free_gb(ROOT), NEEDED_GB_CPU if light else NEEDED_GB):
        return refuse(complaint)
    python = Path(sys.executable) if active else VENV / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not works(python) and run([sys.executable, "-m", "venv", "--clear", str(VENV)]):
        return refuse(f"{sys.executable} cannot make an environment; on Debian and Ubuntu, install python3-venv.")
    size = "about 2 GB, with torch's CPU build" if light else "about 7 GB, most of it torch with CUDA"
    print(f"Installing the locked packages into {'this Python' if active else '.venv'} ({size}) ...", flush=True)
    if run(
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"uv=={locked_version('uv')}"]
    ):
        return refuse(
            "the package index cannot be reached; connect to the network (or set PIP_INDEX_URL) and try again."
        )
    uv = [str(python), "-m", "uv", "pip"]
    # sync removes what is not locked, which in an active environment is conda's
    if install_lock([*uv, "install", "--no-deps", "-r"] if active else [*uv, "sync"], python, light=light):
        return refuse("a locked package could not be installed (see above); if the network broke off, try again.")
    if run([*uv, "install", "--quiet", "--python", str(python), "--no-deps", "--no-build-isolation", "-e", str(ROOT)]):
        return refuse("emseg could not be installed from src/ (see above).")
    if not active:
        STAMP.write_text(wanted_stamp(), encoding="utf-8")
    print("Done: the locked packages and emseg are installed.")
    return 0


def python_complaint(version):
    """Return why this Python will not do, or None."""
    if OLDEST <= tuple(version) < TOO_NEW:
        return None
    return (
        f"Python 3.11, 3.12 or 3.13 is needed; this is {version[0]}.{version[1]}. "
        "Install one of them and name it: make setup PYTHON=python3.12"
    )


def disk_complaint(free, needed=NEEDED_GB):
    """Return why the disk will not do, or None; both are in GB."""
    if free >= needed:
        return None
    return (
        f"the environment needs about {needed} GB of disk; {free:.1f} GB are free here. Free some space and try again."
    )


def free_gb(folder):
    """Return the free space at `folder` in GB."""
    return shutil.disk_usage(folder).free / 1e9


def locked_version(package):
    """Return the version that requirements.lock pins for `package`."""
    for line in LOCK.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{package}=="):
            return line.split("==")[1].split(";")[0].strip()
    raise SystemExit(f"requirements.lock does not pin {package}; run `make lock`.")


def wanted_stamp():
    """Return what the stamp of a finished installation holds: it changes with the lock, pyproject.toml and Python."""
    parts = [LOCK.read_bytes(), (ROOT / "pyproject.toml").read_bytes(), sys.version.encode(), str(ROOT).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def is_current():
    """Whether .venv already holds what the lock says."""
    return STAMP.exists() and STAMP.read_text(encoding="utf-8") == wanted_stamp()


def wants_cpu_build():
    """Whether to look for torch's CPU build: TORCH decides, else a Linux without an NVIDIA GPU does."""
    wanted = os.environ.get("TORCH", "")
    if wanted in ("cpu", "cuda"):
        return wanted == "cpu"
    has_gpu = shutil.which("nvidia-smi") or Path("/proc/driver/nvidia").exists()
    return sys.platform == "linux" and platform.machine() == "x86_64" and not has_gpu


def is_reachable(index):
    """Whether the package index lists torch; if not, a sentence says what is installed instead."""
    try:
        with urllib.request.urlopen(f"{index.rstrip('/')}/torch/", timeout=10):
            return True
    except (OSError, ValueError):
        print(f"setup: {index} cannot be reached, so torch comes with CUDA from the usual index.", flush=True)
        return False


def cpu_lock(text):
    """Return the lock without CUDA: `nvidia-*` and `triton` left out, torch and torchvision pinned to the CPU build."""
    kept = [line for line in text.splitlines() if not re.match(r"(nvidia-|triton\b)", line)]
    return "".join(re.sub(r"^(torch|torchvision)==([\w.]+)", r"\1==\2+cpu", line) + "\n" for line in kept)


def install_lock(command, python, *, light):
    """Install the lock, if `light` with torch's CPU build where that works; return the exit code."""
    options = ["--quiet", "--python", str(python)]
    if light:
        CPU_LOCK.parent.mkdir(exist_ok=True)
        CPU_LOCK.write_text(cpu_lock(LOCK.read_text(encoding="utf-8")), encoding="utf-8")
        both = ["--index", CPU_INDEX, "--index-strategy", "unsafe-best-match"]  # all else is pinned to PyPI's versions
        if not run([*command, str(CPU_LOCK), *options, *both]):
            return 0
        print("setup: torch's CPU build could not be installed (see above), so torch comes with CUDA.", flush=True)
    return run([*command, str(LOCK), *options])


def works(python):
    """Whether `python` exists and runs this very version."""
    if not python.exists():
        return False
    done = subprocess.run([str(python), "-c", "import sys; print(sys.version)"], capture_output=True, text=True)
    return done.returncode == 0 and done.stdout.strip() == sys.version.strip()


def run(command):
    """Run `command` and return its exit code."""
    return subprocess.run(command, cwd=ROOT).returncode


def refuse(sentence):
    """Print the one clear sentence and return the exit code of a failure."""
    print(f"setup: {sentence}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
