"""Gathering the records of another chapter: what a chapter of results is made of.

Two places hold them: `book/results/`, the kept and committed ones, and `_build/matrix/`, the cells that this machine
has computed and nobody has kept yet. Runs of the book itself and of tests (profile `smoke`) are not gathered: the first
would be counted twice when they are kept, the second show only that the code works.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from emseg.runs.matrix import MATRIX_FOLDER
from emseg.runs.record import RESULTS_FOLDER, read_records
from emseg.runs.session import Run

TEST_PROFILE = "smoke"


def gather_records(root: Path, chapter: str) -> list[dict[str, Any]]:
    """Return the records of `chapter`, each run once, oldest first."""
    found = {
        record["run_id"]: record
        for folder in (root / MATRIX_FOLDER, root / RESULTS_FOLDER)
        for record in read_records(folder)
        if record["chapter"] == chapter and record["profile"] != TEST_PROFILE
    }
    return sorted(found.values(), key=lambda record: (record["finished"], record["run_id"]))


def report_gathered(run: Run, records: Iterable[Mapping[str, Any]]) -> None:
    """Note the data sets of the gathered records in a run, each once, and how many records there are."""
    gathered = list(records)
    uses = {(use["name"], use["fingerprint"]): use for record in gathered for use in record["data"]}
    for use in uses.values():
        run.uses(
            use["name"],
            kind=use["kind"],
            fingerprint=use["fingerprint"],
            n_images=use.get("n_images"),
            pixel_size_nm=use.get("pixel_size_nm"),
        )
    run.metric("n_runs", len(gathered), n=max(1, len(gathered)), label="Run records gathered")
