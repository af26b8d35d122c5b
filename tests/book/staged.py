"""A small staged book: run records made to order, two pages, the ledger, and the build's facts."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CHAPTER = "urisc/sharpness_analysis"
OTHER = "fanet/dct_derivation"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIGURATION = """\
extensions = ["myst_parser", "emseg_book"]
myst_enable_extensions = ["colon_fence"]
root_doc = "book/index"
html_theme = "basic"
html_theme_options = {}
exclude_patterns = ["_html"]
"""
LEDGER = "# Ledger\n\n```{ledger}\n```\n"


def metric(value: float, unit: str = "1", **more: Any) -> dict[str, Any]:
    """Return a metric of a record."""
    return {"value": value, "unit": unit, "n": 8, "label": "A ratio", "spread": None, "interval": None, **more}


def record(chapter: str, profile: str, kinds: list[str], day: int, **metrics: dict[str, Any]) -> dict[str, Any]:
    """Return a whole run record of the given day of November 2026."""
    return {
        "schema": 1,
        "run_id": f"{chapter.replace('/', '-')}-{profile}-202611{day:02d}T203000Z-1a2b3c4d",
        "chapter": chapter,
        "profile": profile,
        "parameters": {"seed": 0, "factors": [2, 4]},
        "seeds": [0],
        "data": [{"name": f"{kind} tissue", "kind": kind, "fingerprint": "f00d", "n_images": 8} for kind in kinds],
        "digests": {"notebook": "ab", "library": "cd"},
        "code": {"commit": COMMIT, "tree_clean": True},
        "environment": {
            "python": "3.11.7",
            "platform": "Linux x86_64",
            "packages": {"numpy": "2.0.0"},
            "cuda": None,
            "device": "Some CPU",
            "device_kind": "cpu",
            "cores": 2,
        },
        "started": f"2026-11-{day:02d}T20:30:00Z",
        "finished": f"2026-11-{day:02d}T20:30:12Z",
        "wall_s": 12.3,
        "peak_memory": {"host": 512.0, "gpu": None},
        "metrics": metrics,
    }


def stage(
    folder: Path, records: list[dict[str, Any]], current: list[dict[str, Any]], pages: dict[str, str] | None = None
) -> Path:
    """Write a staged book; `pages` are MyST by name ("urisc/sharpness_analysis") beside index and ledger."""
    pages = {"ledger": LEDGER, **(pages or {})}
    toctree = "```{toctree}\n" + "\n".join(pages) + "\n```\n"
    for name, text in {"index": f"# Index\n\nText.\n\n{toctree}", **pages}.items():
        path = folder / "book" / f"{name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (folder / "conf.py").write_text(CONFIGURATION, encoding="utf-8")
    write_evidence(folder, records, current)
    return folder


def write_evidence(
    folder: Path, records: list[dict[str, Any]], current: list[dict[str, Any]], cells: Sequence[dict[str, Any]] = ()
) -> None:
    """Write `build.json`, the records and the cells of matrices as the build does: those not current are committed."""
    own = [one["run_id"] for one in current]
    for name, group in (("records", records), ("records/cells", cells)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for one in group:
            (folder / name / f"{one['run_id']}.json").write_text(json.dumps(one), encoding="utf-8")
    build = {
        "profile": "laptop",
        "commit": COMMIT,
        "tree_clean": True,
        "built": "2026-11-21T20:00:00Z",
        "current_runs": {one["chapter"]: one["run_id"] for one in current},
        "committed": [one["run_id"] for one in (*records, *cells) if one["run_id"] not in own],
        "library_digests": {CHAPTER: "cd", OTHER: "c4a9"},
    }
    (folder / "build.json").write_text(json.dumps(build), encoding="utf-8")


def build_html(folder: Path) -> subprocess.CompletedProcess[str]:
    """Build the staged book as HTML into `_html`, strictly: a warning is an error."""
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "book" / "_ext")])
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-b", "html"]
    return subprocess.run(
        [*command, str(folder), str(folder / "_html")],
        env={**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        check=False,
    )
