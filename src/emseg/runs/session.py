"""What a notebook says of its own run: the data it used and the numbers it found.

A notebook makes one `Run`, tells it each data set and each metric, and ends with the run as its last expression. That
shows the numbers as a table, and carries them in the output's metadata (`METADATA_KEY`) into the executed notebook,
where `emseg run` finds them and writes the run record. So the numbers survive plain papermill as well, and no
notebook writes a file by itself.
"""

import html
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from emseg.errors import UsageError, suggest
from emseg.runs.environment import describe_environment, peak_memory_mib
from emseg.wording import as_html, format_number

METADATA_KEY = "emseg"
DATA_KINDS = ("synthetic", "real", "licensed")
_METRIC_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Metric:
    """One number of a run.

    `value` in `unit` ("1" for a ratio or a count), over a sample of `n`; `spread` is the standard deviation over that
    sample and `interval` a (low, high) confidence interval, each where it was computed.
    """

    value: float
    unit: str
    n: int
    label: str
    spread: float | None = None
    interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
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
        if self.kind not in DATA_KINDS:
            raise UsageError(
                f"`kind` of the data must be one of {', '.join(DATA_KINDS)}; got {self.kind!r}."
                + suggest(self.kind, DATA_KINDS)
            )


class Run:
    """The record of one notebook's run in the making.

    `chapter` is the notebook's path below `book/` without its suffix. `seed` is the seed, or all the seeds, that the
    run draws from.
    """

    def __init__(self, chapter: str, *, seed: int | Sequence[int]) -> None:
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
    ) -> None:
        """Note a number by its snake_case `name`; saying a name twice is refused, for one of the two would be lost."""
        if not _METRIC_NAME.fullmatch(name):
            raise UsageError(f"a metric's name must be snake_case (a-z, 0-9, _); got {name!r}.")
        if name in self.metrics:
            raise UsageError(f"each metric is reported once; {name!r} came twice. Give the second its own name.")
        bounds = None if interval is None else (float(interval[0]), float(interval[1]))
        self.metrics[name] = Metric(
            float(value), unit, int(n), label, None if spread is None else float(spread), bounds
        )

    @property
    def data_kinds(self) -> list[str]:
        """The kinds of data used, each once, in the order of `DATA_KINDS`."""
        return [kind for kind in DATA_KINDS if any(use.kind == kind for use in self.data)]

    def payload(self) -> dict[str, Any]:
        """Return what the run record takes from the notebook, as JSON-ready values."""
        return {
            "chapter": self.chapter,
            "seeds": self.seeds,
            "data": [asdict(use) for use in self.data],
            "metrics": {name: _plain(metric) for name, metric in self.metrics.items()},
            "environment": describe_environment(),
            "peak_memory": peak_memory_mib(),
        }

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, str], dict[str, Any]]:
        return {"text/html": _as_html(self), "text/plain": _as_text(self)}, {METADATA_KEY: self.payload()}


def _plain(metric: Metric) -> dict[str, Any]:
    plain = asdict(metric)
    plain["interval"] = None if metric.interval is None else list(metric.interval)
    return plain


def _uncertainty(metric: Metric) -> str:
    if metric.interval is not None:
        return f"{format_number(metric.interval[0], 3)} to {format_number(metric.interval[1], 3)}"
    return "" if metric.spread is None else f"± {format_number(metric.spread, 2)}"


def _rows(run: Run) -> list[tuple[str, str, str, str]]:
    return [
        (
            metric.label,
            format_number(metric.value) + ("" if metric.unit == "1" else f" {metric.unit}"),
            _uncertainty(metric),
            str(metric.n),
        )
        for metric in run.metrics.values()
    ]


def _data_sentence(run: Run) -> str:
    if not run.data:
        return "no data set"
    return "; ".join(f"{use.name} ({use.kind})" for use in run.data)


def _as_text(run: Run) -> str:
    lines = [f"{label}: {value} {uncertainty} (n={n})" for label, value, uncertainty, n in _rows(run)]
    return "\n".join([f"Data: {_data_sentence(run)}", *lines])


def _as_html(run: Run) -> str:
    body = "".join(
        f'<tr><th scope="row">{html.escape(label)}</th><td>{as_html(value)}</td>'
        f"<td>{as_html(uncertainty)}</td><td>{n}</td></tr>"
        for label, value, uncertainty, n in _rows(run)
    )
    return (
        f'<details class="emseg-numbers"><summary>All {len(run.metrics)} numbers of this run</summary>'
        '<div class="emseg-table" tabindex="0"><table class="emseg-metrics">'
        f"<caption>Data: {html.escape(_data_sentence(run))}.</caption>"
        '<thead><tr><th scope="col">Quantity</th><th scope="col">Value</th>'
        '<th scope="col">Spread or interval</th><th scope="col">n</th></tr></thead>'
        f"<tbody>{body}</tbody></table></div></details>"
    )
