"""What the benchmarks share: a target and its verdict, and one form of results, with what they were measured on.

results/NAME.json   {"benchmark", "date", "machine", "arguments", "targets", "results"}
machine             Python, packages, cores, processor, GPU where one was used, load; no host name, no path
targets             each with its limit, the value and "met": true, false, or null where it was not measured
"""

import argparse
import importlib.metadata
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from emseg.runs.session import cpu_name, describe_environment

CONTENDERS = ("captum", "monai", "numcodecs", "segmentation-models-pytorch", "zarr")
"""Packages, beside those of `describe_environment`, that some benchmark measures against or with."""


@dataclass(frozen=True)
class Target:
    """A limit that a measured value must keep: `bound` `limit` `unit`, as "at most 15 s"."""

    what: str
    limit: float
    unit: str = ""
    bound: Literal["at most", "at least"] = "at most"

    def judge(self, value: float | None, where: str = "") -> "Verdict":
        """Return the verdict on a value, None if it was not measured; `where` tells apart values of one target."""
        return Verdict(f"{self.what}, {where}" if where else self.what, self.bound, self.limit, self.unit, value)


@dataclass(frozen=True)
class Verdict:
    """A target beside the value that was measured."""

    what: str
    bound: str
    limit: float
    unit: str
    value: float | None

    @property
    def met(self) -> bool | None:
        """Whether the limit is kept; None where nothing was measured."""
        if self.value is None:
            return None
        return self.value <= self.limit if self.bound == "at most" else self.value >= self.limit

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        value = "not measured" if self.value is None else f"{self.value:.4g}{unit}"
        word = {True: ": met", False: ": MISSED", None: ""}[self.met]
        return f"{self.what}: {value}, target {self.bound} {self.limit:g}{unit}{word}"


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Add `--json FILE`."""
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the results to this file, with machine, versions and date"
    )


def finish(arguments: argparse.Namespace, results: Any, verdicts: Sequence[Verdict] = ()) -> None:
    """Print each verdict in a line, and write the results where `--json` says."""
    for verdict in verdicts:
        print(verdict)
    path: Path | None = arguments.json
    if path is None:
        return
    asked = {name: value for name, value in vars(arguments).items() if name != "json"}
    document = {
        "benchmark": Path(sys.argv[0]).stem,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine(),
        "arguments": asked,
        "targets": [asdict(verdict) | {"met": verdict.met} for verdict in verdicts],
        "results": results,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _machine() -> dict[str, Any]:
    found = describe_environment()
    found["packages"] |= {name: version for name in CONTENDERS if (version := _version(name))}
    torch = sys.modules.get("torch")
    threads = None if torch is None else torch.get_num_threads()
    return found | {"cpu": cpu_name(), "torch_threads": threads, "load": round(os.getloadavg()[0], 1)}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
