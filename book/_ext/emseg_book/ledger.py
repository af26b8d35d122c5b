"""The directive `{ledger}`: a table of all run records, and below it each run with everything that was recorded.

The numbers of the book link to the run's section here, so the section opens with what a reader must know of a number:
the kind of data, the device, the commit, and whether the code has changed since. Its numbers, parameters and
environment are long; they are one script a run in `_static/records`, loaded when the run is opened. The whole
record is there too, to download.
"""

import json
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from emseg.errors import InputError
from emseg.intervals import MIN_REPLICATES
from emseg_book.evidence import Evidence, Record, read_evidence
from emseg_book.markup import (
    chip_html,
    data_kinds,
    details_html,
    facts_html,
    half_width_of,
    link_html,
    number_html,
    table_html,
)
from emseg_book.wording import code_age, commit_html, device, duration, peak_memory, pixel_size, run_anchor, when

logger = logging.getLogger(__name__)
RECORDS_FILES = "_static/records"
COLUMNS = ("Run", "Profile", "Data", "Device", "When", "Time", "Peak memory", "Commit", "Code", "Numbers")


class Ledger(SphinxDirective):
    """Lists every run record, newest first within its chapter."""

    def run(self) -> list[nodes.Node]:
        """Return the table, then a section a chapter with a section a run."""
        try:
            evidence = read_evidence(self.env.srcdir)
        except InputError as error:
            logger.warning("{ledger}: %s", error, location=self.get_location(), type="emseg")
            return []
        repository = str(self.config.html_theme_options.get("repository_url", ""))
        newest_first = tuple(reversed(evidence.records))
        records = sorted(newest_first, key=lambda record: record["chapter"])
        table = nodes.raw("", ledger_table_html(evidence, records, repository), format="html")
        chapters = [self._chapter(name, evidence, records, repository) for name in sorted(evidence.chapters)]
        return [table, *chapters]

    def _chapter(self, name: str, evidence: Evidence, records: list[Record], repository: str) -> nodes.section:
        section = nodes.section("", nodes.title("", name), ids=[f"runs-of-{nodes.make_id(name)}"], names=[name])
        for record in records:
            if record["chapter"] == name:
                anchor = run_anchor(record["run_id"])
                heading = f"{record['profile']}, {when(record['finished'])}"
                body = nodes.raw("", run_html(evidence, record, repository, self._page_of(name)), format="html")
                section += nodes.section(
                    "", nodes.title("", heading), body, ids=[anchor], names=[anchor], classes=["emseg-run"]
                )
        cells = [record for record in evidence.cells if record["chapter"] == name]
        if cells:
            section += nodes.raw("", cells_html(evidence, cells, repository), format="html")
        return section

    def _page_of(self, chapter: str) -> str:
        page = f"book/{chapter}"
        if page not in self.env.found_docs:
            return ""
        return str(self.env.app.builder.get_relative_uri(self.env.docname, page))


def ledger_table_html(evidence: Evidence, records: Iterable[Record], repository: str) -> str:
    """Return the table of all records, each row's header linked to its run below."""
    rows = [
        (
            link_html(f"#{run_anchor(record['run_id'])}", escape(record["chapter"])),
            escape(record["profile"]),
            chip_html(data_kinds(record)),
            escape(device(record["environment"])),
            when(record["finished"]),
            duration(record["wall_s"]),
            peak_memory(record),
            commit_html(record["code"], repository),
            code_age(evidence, record),
            str(len(record["metrics"])),
        )
        for record in records
    ]
    return table_html(f"All runs: {len(rows)}", COLUMNS, rows, css_class="emseg-ledger")


def run_html(evidence: Evidence, record: Record, repository: str, page: str = "") -> str:
    """Return the facts of one run, its numbers, and the rest that was recorded; `page` is its chapter's address."""
    chapter = escape(record["chapter"])
    current = " (this build)" if evidence.build["current_runs"].get(record["chapter"]) == record["run_id"] else ""
    facts = [
        ("Run", f"<code>{escape(record['run_id'])}</code>{current}"),
        ("Chapter", link_html(page, chapter) if page else chapter),
        ("Data", _data_html(record)),
        ("Device", escape(device(record["environment"]))),
        ("Cost", f"{duration(record['wall_s'])}, {peak_memory(record)}"),
        ("Commit", f"{commit_html(record['code'], repository)}; {code_age(evidence, record)}"),
        ("Seeds", escape(", ".join(str(seed) for seed in record["seeds"]) or "none")),
    ]
    files = f"../{RECORDS_FILES}/{record['run_id']}"
    summary = f"Numbers ({len(record['metrics'])}), parameters, environment"
    whole = f'<p class="emseg-whole">{link_html(f"{files}.json", "The whole record as JSON")}</p>'
    return facts_html(facts) + (
        f'<details class="emseg-details" data-run="{escape(record["run_id"])}" data-script="{escape(files)}.js">'
        f"<summary>{summary}</summary>{whole}</details>"
    )


def details_of_run(record: Record) -> str:
    """Return the numbers, the parameters and the environment of one run."""
    return (
        _metrics_html(record)
        + details_html("Parameters", _mapping_html("Parameters", record["parameters"]))
        + details_html("Environment and digests", _mapping_html("Environment", _environment(record)))
    )


def write_records(app: Sphinx, exception: Exception | None) -> None:
    """Write the details and the record of each run next to the pages; connected to Sphinx's `build-finished`."""
    if exception is not None or app.builder.format != "html":
        return
    try:
        records = read_evidence(app.srcdir).records
    except InputError:
        return  # the pages have said so
    folder = Path(app.outdir) / RECORDS_FILES
    folder.mkdir(parents=True, exist_ok=True)
    for record in records:
        call = f"emsegRun({json.dumps(record['run_id'])}, {json.dumps(details_of_run(record))});\n"
        (folder / f"{record['run_id']}.js").write_text(call, encoding="utf-8")
        (folder / f"{record['run_id']}.json").write_text(json.dumps(record, indent=1), encoding="utf-8")


def cells_html(evidence: Evidence, cells: Iterable[Record], repository: str) -> str:
    """Return the runs of matrices, a row each, with the parameters in which they differ; folded, for they are many."""
    records = list(cells)
    varying = [
        name
        for name in records[0]["parameters"]
        if len({repr(record["parameters"].get(name)) for record in records}) > 1
    ]
    rows = [
        (
            f"<code>{escape(record['run_id'])}</code>",
            *(escape(str(record["parameters"].get(name, ""))) for name in varying),
            chip_html(data_kinds(record)),
            escape(device(record["environment"])),
            when(record["finished"]),
            duration(record["wall_s"]),
            commit_html(record["code"], repository),
            code_age(evidence, record),
        )
        for record in records
    ]
    head = ("Run", *(escape(name) for name in varying), "Data", "Device", "When", "Time", "Commit", "Code")
    table = table_html("Runs of matrices, with the parameters that vary", head, rows, css_class="emseg-ledger")
    return details_html(f"Runs of matrices ({len(records)})", table)


def _data_html(record: Record) -> str:
    if not record["data"]:
        return chip_html([])
    uses = []
    for use in record["data"]:
        details = [f"{use['n_images']} images"] if use.get("n_images") else []
        details += [f"{pixel_size(use['pixel_size_nm'])} a pixel"] if use.get("pixel_size_nm") else []
        details += [f"fingerprint <code>{escape(use['fingerprint'])}</code>"]
        uses.append(f"{escape(use['name'])} {chip_html([use['kind']])} ({', '.join(details)})")
    return "<br>".join(uses)


def _metrics_html(record: Record) -> str:
    rows = []
    for name, metric in record["metrics"].items():
        interval, spread = metric.get("interval"), metric.get("spread")
        uncertainty = f"± {number_html(spread)}" if spread is not None else ""
        half = half_width_of(metric)
        if interval is not None and metric["n"] >= MIN_REPLICATES:
            uncertainty = " to ".join(number_html(end, half_width=half) for end in interval)
        number = number_html(metric["value"], metric["unit"], None if half else ".6g", half)
        number = f'<span title="{metric["value"]!r}">{number}</span>'
        label = f"{escape(metric['label'])}<br><code>{escape(name)}</code>"
        rows.append((label, number, uncertainty, str(metric["n"])))
    head = ("Quantity", "Value", "Spread or interval", "n")
    return table_html(f"Numbers of {record['run_id']}", head, rows, css_class="emseg-metrics")


def _environment(record: Record) -> dict[str, Any]:
    environment = dict(record["environment"])
    packages = {f"package {name}": version for name, version in environment.pop("packages", {}).items()}
    digests = {f"digest of the {name}": value for name, value in record["digests"].items()}
    return {**environment, **packages, **digests, "started": record["started"], "finished": record["finished"]}


def _mapping_html(caption: str, mapping: dict[str, Any]) -> str:
    rows = [
        (f"<code>{escape(name)}</code>", f"<code>{escape(_plain(value))}</code>") for name, value in mapping.items()
    ]
    return table_html(caption, ("Name", "Value"), rows, css_class="emseg-mapping") if rows else "<p>None.</p>"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
