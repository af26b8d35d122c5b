"""Renew requirements.lock from the ranges in pyproject.toml, and the files that install it.

Run by `make lock`. One lock serves Python 3.11 to 3.13 on Linux, macOS and Windows: where a package differs between
them, its line says so in an environment marker. environment.yml and binder/ install the same lock and are written here,
so that they cannot drift apart; a test compares them.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
PYTHON = "3.11"
HEADER = "# Exact pins of every package, made from pyproject.toml by `make lock`. Do not edit.\n"
ENVIRONMENT = """\
# Made by `make lock`. Conda brings Python and uv; `bash binder/postBuild` then installs the same lock as `make setup`
# into the active environment (Binder runs it by itself). Two steps, for pip inside conda knows no --no-deps, and the
# lock is complete without it.
name: wafer-to-membrane
channels: [conda-forge]
dependencies:
  - python={python}
  - pip
  - uv={uv}
"""


def environment_text(lock_text):
    """Return the environment file that goes with a lock: its Python, and the uv that it pins."""
    uv = next(line.split("==")[1] for line in lock_text.splitlines() if line.startswith("uv=="))
    return ENVIRONMENT.format(python=PYTHON, uv=uv.split(";")[0].strip())


def main():
    """Write the lock and the environment files."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--universal", "--python-version", PYTHON, "--all-extras"]
    options = ["--no-header", "--no-annotate", "--quiet", "--upgrade", "--output-file", str(LOCK)]
    subprocess.run([*command, *options, "pyproject.toml"], cwd=ROOT, check=True)
    LOCK.write_text(HEADER + LOCK.read_text(encoding="utf-8"), encoding="utf-8")
    for folder in (ROOT, ROOT / "binder"):
        (folder / "environment.yml").write_text(environment_text(LOCK.read_text(encoding="utf-8")), encoding="utf-8")
    print("requirements.lock is new; `make setup` installs it.")


if __name__ == "__main__":
    main()
