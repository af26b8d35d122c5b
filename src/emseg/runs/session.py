"""What a notebook reports of the run: the data it used, the numbers it found, the environment it ran in.

A notebook makes one `Run`, reports each data set and each metric to it, and ends with the run as its last expression.
That shows the numbers as a table, and carries them in the output's metadata (`METADATA_KEY`) into the executed
notebook, where `emseg run` finds them and writes the run record. The numbers therefore survive plain papermill, too,
and no notebook writes a file itself. Making a `Run` checks the library and the notebook's parameters.
"""

import html
import importlib
import importlib.metadata
import json
import math
import os
import platform
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from emseg.checks import plain, require_one_of
from emseg.data import DATA_KINDS
from emseg.errors import UsageError
from emseg.files import find_root
from emseg.intervals import MIN_REPLICATES
from emseg.training.memory_use import gpu_peak_memory_mib, host_peak_memory_mib
from emseg.wording import as_html, format_number

METADATA_KEY = "emseg"
EXPECTED_VARIABLE = "EMSEG_EXPECTED"  # set for a kernel: its chapter, and facts of the command that started it
PACKAGES = ("emseg", "numpy", "scipy", "torch", "torchvision", "opencv-python-headless", "numba")
_METRIC_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Metric:
    """One number of a run.

    `value` in `unit` ("1" for a ratio or a count), over a sample of `n`; `spread` is the standard deviation over that
    sample and `interval` a (low, high) confidence interval, each where it was computed. `data` contains the kinds of
    data behind the number; it is empty for mathematics alone, None in records that only note the kinds of the run.
    """

    value: float
    unit: str
    n: int
    label: str
    spread: float | None = None
    interval: tuple[float, float] | None = None
    data: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for kind in self.data or ():
            require_one_of("data", kind, DATA_KINDS)
        numbers = [self.value, *([] if self.spread is None else [self.spread]), *(self.interval or ())]
        for number in numbers:
            if not math.isfinite(number):
                raise UsageError(f"a metric must be finite; {self.label!r} got {number}. Leave out what is undefined.")
        if self.n < 1:
            raise UsageError(f"a metric needs a sample size of at least 1; {self.label!r} got n={self.n}.")


@dataclass(frozen=True)
class DataUse:
    """A data set that a run used: its `kind` decides how its results may be read, `fingerprint` names its content."""

    name: str
    kind: str
    fingerprint: str
    n_images: int | None = None
    pixel_size_nm: float | None = None

    def __post_init__(self) -> None:
        require_one_of("kind", self.kind, DATA_KINDS)


class Run:
    """The record of one notebook's run in the making.

    `chapter` is the notebook's path below `book/` without its suffix. `seed` is the seed, or all the seeds, that the
    run draws from.
    """

    def __init__(self, chapter: str, *, seed: int | Sequence[int]) -> None:
        _check_kernel(chapter)
        self.chapter = chapter
        self.seeds = [int(seed)] if isinstance(seed, int) else [int(one) for one in seed]
        self.data: list[DataUse] = []
        self.metrics: dict[str, Metric] = {}

    def uses(
        self,
        name: str,
        *,
        kind: str,
        fingerprint: str,
        n_images: int | None = None,
        pixel_size_nm: float | None = None,
    ) -> None:
        """Note a data set that the run used; `kind` is one of `DATA_KINDS`."""
        self.data.append(DataUse(name, kind, fingerprint, n_images, pixel_size_nm))

    def metric(
        self,
        name: str,
        value: float,
        *,
        n: int,
        label: str,
        unit: str = "1",
        spread: float | None = None,
        interval: tuple[float, float] | None = None,
        data: Sequence[str] | None = None,
    ) -> None:
        """Note a number by its snake_case `name`; a repeated name is refused, for one of the two would be lost.

        It rests on the kinds of `data` given, by default on those that the run has used up to here.
        """
        if not _METRIC_NAME.fullmatch(name):
            raise UsageError(f"a metric's name must be snake_case (a-z, 0-9, _); got {name!r}.")
        if name in self.metrics:
            raise UsageError(f"each metric is reported once; {name!r} came twice. Give the second its own name.")
        bounds = None if interval is None else (float(interval[0]), float(interval[1]))
        sd = None if spread is None else float(spread)
        kinds = tuple(self.data_kinds if data is None else data)
        self.metrics[name] = Metric(float(value), unit, int(n), label, sd, bounds, kinds)

    @property
    def data_kinds(self) -> list[str]:
        """The kinds of data used, each once, in the order of `DATA_KINDS`."""
        return [kind for kind in DATA_KINDS if any(use.kind == kind for use in self.data)]

    def payload(self) -> dict[str, Any]:
        """Return what the run record takes from the notebook, as JSON-ready values."""
        return {
            "chapter": self.chapter,
            "process": _process(self.chapter),
            "seeds": self.seeds,
            "data": [asdict(use) for use in self.data],
            "metrics": {name: plain(metric) for name, metric in self.metrics.items()},
            "environment": describe_environment(),
            "peak_memory": peak_memory_mib(),
        }

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, str], dict[str, Any]]:
        return {"text/html": _as_html(self), "text/plain": _as_text(self)}, {METADATA_KEY: self.payload()}


def describe_environment() -> dict[str, Any]:
    """Return Python, platform, package versions, CUDA version and device of this process: no host names, no paths.

    Torch is described if the process has loaded it, and never imported for the purpose.
    """
    torch = _torch_with_gpu()
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": _versions(),
        "cuda": torch.version.cuda if torch else None,
        "device": torch.cuda.get_device_name() if torch else cpu_name(),
        "device_kind": "cuda" if torch else "cpu",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,  # allowed
    }


def peak_memory_mib() -> dict[str, float | None]:
    """Return the largest resident memory of this process and the largest allocation on its GPU, in MiB."""
    gpu = gpu_peak_memory_mib()
    return {"host": round(host_peak_memory_mib(), 1), "gpu": None if gpu is None else round(gpu, 1)}


def cpu_name() -> str:
    """Return the processor's model name, or its architecture where the system does not report it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _check_kernel(chapter: str) -> None:
    """Refuse another library than that of the command that started this kernel, and parameters not as declared."""
    expected = json.loads(os.environ.get(EXPECTED_VARIABLE, "{}"))
    if expected.pop("chapter", "") == chapter and expected.items() - (_process(chapter) or {}).items():
        raise UsageError(
            "The kernel must import the `emseg` and `chapters` of its command; it imports others, `emseg` from "
            f"{Path(__file__).parents[1]}. Look for a PYTHONPATH, a `sys.path` or an installation that hides them."
        )
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is not None:
        _machinery("parameters").check_namespace(shell.user_ns.get("In", ()), shell.user_ns)


def _process(chapter: str) -> dict[str, Any] | None:
    """Return the facts by which `emseg run` recognizes this process; None for a notebook that is not in a book."""
    try:
        return _machinery("digest").process_facts(find_root(), chapter)  # type: ignore[no-any-return]
    except ValueError:
        return None


def _machinery(name: str) -> Any:
    """Return a module that no result depends on: digests of the library follow import statements alone."""
    return importlib.import_module(f"emseg.runs.{name}")


def _torch_with_gpu() -> Any:
    torch = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized() else None


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _uncertainty(metric: Metric) -> str:
    if metric.interval is not None and metric.n >= MIN_REPLICATES:
        return f"{format_number(metric.interval[0], 3)} to {format_number(metric.interval[1], 3)}"
    return "" if metric.spread is None else f"± {format_number(metric.spread, 2)}"


def _rows(run: Run) -> list[tuple[str, str, str, str]]:
    unit = {name: "" if one.unit == "1" else f" {one.unit}" for name, one in run.metrics.items()}
    return [
        (one.label, format_number(one.value) + unit[name], _uncertainty(one), str(one.n))
        for name, one in run.metrics.items()
    ]


def _data_sentence(run: Run) -> str:
    return "; ".join(f"{use.name} ({use.kind})" for use in run.data) or "no data set"


def _as_text(run: Run) -> str:
    lines = [f"{label}: {value} {uncertainty} (n={n})" for label, value, uncertainty, n in _rows(run)]
    return "\n".join([f"Data: {_data_sentence(run)}", *lines])


def _as_html(run: Run) -> str:
    body = "".join(
        f'<tr><th scope="row">{html.escape(label)}</th><td>{as_html(value)}</td>'
        f"<td>{as_html(uncertainty)}</td><td>{n}</td></tr>"
        for label, value, uncertainty, n in _rows(run)
    )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Quantity", "Value", "Spread or interval", "n"))
    return (
        f'<details class="emseg-numbers"><summary>All {len(run.metrics)} numbers of this run</summary>'
        '<div class="emseg-table" tabindex="0"><table class="emseg-metrics">'
        f"<caption>Data: {html.escape(_data_sentence(run))}.</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></details>"
    )
