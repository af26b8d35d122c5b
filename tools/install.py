"""Make `.venv` with the exact packages of requirements.lock and install `emseg` from src/ into it.

Run by `make setup`, with any Python: it needs the standard library alone, and says in one sentence what is wrong when
Python is too old, the disk too full or the package index out of reach. With an unchanged lock, a second call does
nothing.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

OLDEST, TOO_NEW = (3, 11), (3, 14)
NEEDED_GB = 9
ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
LOCK = ROOT / "requirements.lock"
STAMP = VENV / "installed-lock.sha256"


def main():
    """Install, or say why not; return the exit code."""
    complaint = python_complaint(sys.version_info[:2]) or disk_complaint(free_gb(ROOT))
    if is_current():
        return 0
    if complaint:
        return refuse(complaint)
    python = VENV / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not works(python) and run([sys.executable, "-m", "venv", "--clear", str(VENV)]):
        return refuse(f"{sys.executable} cannot make an environment; on Debian and Ubuntu, install python3-venv.")
    print("Installing the locked packages into .venv (about 7 GB, most of it torch) ...", flush=True)
    if run(
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"uv=={locked_version('uv')}"]
    ):
        return refuse(
            "the package index cannot be reached; connect to the network (or set PIP_INDEX_URL) and try again."
        )
    uv = [str(python), "-m", "uv", "pip"]
    if run([*uv, "sync", "--quiet", "--python", str(python), str(LOCK)]):
        return refuse("a locked package could not be installed (see above); if the network broke off, try again.")
    if run([*uv, "install", "--quiet", "--python", str(python), "--no-deps", "--no-build-isolation", "-e", str(ROOT)]):
        return refuse("emseg could not be installed from src/ (see above).")
    STAMP.write_text(wanted_stamp(), encoding="utf-8")
    print("Done: .venv holds the locked packages.")
    return 0


def python_complaint(version):
    """Return why this Python will not do, or None."""
    if OLDEST <= tuple(version) < TOO_NEW:
        return None
    return (
        f"Python 3.11, 3.12 or 3.13 is needed; this is {version[0]}.{version[1]}. "
        "Install one of them and name it: make setup PYTHON=python3.12"
    )


def disk_complaint(free):
    """Return why the disk will not do, or None; `free` is in GB."""
    if free >= NEEDED_GB:
        return None
    return (
        f"the environment needs about {NEEDED_GB} GB of disk; {free:.1f} GB are free here. "
        "Free some space and try again."
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
