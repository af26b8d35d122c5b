"""Run records: written whole at the end of a run that succeeded, read, and gathered as one table.

A record is a JSON file described by `record.schema.json` in this package. Records worth citing are committed below
`book/results/`; those of a build are below `_build/runs/`, those of a matrix below `_build/matrix/`.

A chapter of results gathers the records of another chapter: the committed ones, and the runs of matrices that this
machine has computed and that are not committed yet. Runs of the book itself and of tests (profile `smoke`) are left
out: the first would count twice once they are committed, the second only show that the code works.
"""

import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emseg.errors import InputError
from emseg.files import find_root, read_json, write_atomically
from emseg.runs.digest import code_digests, data_state
from emseg.runs.project import Chapter, list_chapters
from emseg.runs.session import DataUse, Run

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 1
RESULTS_FOLDER = Path("book") / "results"
MATRIX_FOLDER = Path("_build") / "matrix"
TEST_PROFILE = "smoke"
RECORDS_PARAMETER = "records_of"  # names the chapter whose records a chapter gathers


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Validate `record` and write it to `path` in one step: a reader sees all of it or nothing."""
    validate_record(record)
    text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(path, text, repair="Free some space or choose another folder with --out, then run again.")


def read_record(path: Path) -> dict[str, Any]:
    """Return the record at `path`; raises `InputError` with its name for a file that is not one."""
    record = read_json(path)
    validate_record(record, str(path))
    return dict(record)


def read_records(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the records below `folder`, in the order of their paths; a missing folder has none.

    Below `_build` a file that is not a record, is truncated or comes from another program, is reported on stderr and
    skipped.
    """
    for path in sorted(folder.rglob("*.json")):
        try:
            record = read_record(path)
        except InputError as error:
            if MATRIX_FOLDER.parts[0] not in path.parts:
                raise
            print(f"emseg: skipped {error}", file=sys.stderr)
        else:
            yield record


def validate_record(record: Any, source: str = "the run record") -> None:
    """Raise `InputError` for the first thing in `record` that the schema refuses."""
    for error in _validator().iter_errors(record):
        place = "/".join(str(part) for part in error.absolute_path) or "its top level"
        raise InputError(f"{source} does not follow the schema of run records at {place}: {error.message}.")


def gather_records(root: Path, chapter: str) -> list[dict[str, Any]]:
    """Return the records of `chapter`, each run once, oldest first."""
    found = {
        record["run_id"]: record
        for folder in (root / MATRIX_FOLDER, root / RESULTS_FOLDER / chapter)
        for record in read_records(folder)
        if record["chapter"] == chapter and record["profile"] != TEST_PROFILE
    }
    return sorted(found.values(), key=lambda record: (record["finished"], record["run_id"]))


def result_state(root: Path, chapter: Chapter, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return all that the result of a run depends on: a difference makes it old.

    Of a chapter that gathers records (parameter `records_of`) those records are part of it.
    """
    state = {**code_digests(chapter), "parameters": dict(parameters), "data": data_state(parameters)}
    gathered = parameters.get(RECORDS_PARAMETER)
    return state | ({} if gathered is None else {"records": [one["run_id"] for one in gather_records(root, gathered)]})


def records_frame(records: str | Iterable[Mapping[str, Any]], root: Path | None = None) -> "pd.DataFrame":
    """Return records as a table, one row for each, indexed by run id: those given, or all gathered of a chapter.

    The columns have two levels:

        run          chapter, profile, finished, seed, data, data_kind ("synthetic", "real+synthetic", "none"), current
        parameters   every parameter by name
        metrics      every metric's value by name; NaN where a run lacks it

    `current` says whether today's notebook and library would make the record again. Oldest first; `run`, `record` holds
    the whole record (units, intervals, sample sizes, environment). Select with `frame["metrics"]["mask_ap50"]`, group
    with `frame.groupby([("parameters", "attention")])`.
    """
    import pandas as pd

    root = root or find_root()
    gathered = gather_records(root, records) if isinstance(records, str) else list(records)
    chapters = {record["chapter"] for record in gathered}
    today = {chapter.name: code_digests(chapter) for chapter in list_chapters(root) if chapter.name in chapters}
    rows = {record["run_id"]: _row(record, today.get(record["chapter"])) for record in gathered}
    found = dict.fromkeys(column for row in rows.values() for column in row)
    columns = sorted(found, key=lambda column: ("run", "parameters", "metrics").index(column[0]))
    values = {column: [row.get(column, math.nan) for row in rows.values()] for column in columns}
    return pd.DataFrame(values, index=list(rows), columns=pd.MultiIndex.from_tuples(values) if values else None)


def report_gathered(run: Run, records: Iterable[Mapping[str, Any]]) -> None:
    """Note the data sets of the gathered records in a run, each once, and how many records there are."""
    gathered = list(records)
    uses = {(use["name"], use["fingerprint"]): use for record in gathered for use in record["data"]}
    run.data += [DataUse(**use) for use in uses.values()]
    run.metric("n_runs", len(gathered), n=max(1, len(gathered)), label="Run records gathered")


def _row(record: Mapping[str, Any], today: Mapping[str, str] | None) -> dict[tuple[str, str], Any]:
    kinds = sorted({use["kind"] for use in record["data"]})
    of_run = {
        **{name: record[name] for name in ("chapter", "profile", "finished")},
        "seed": record["seeds"][0] if record["seeds"] else None,
        "data": "+".join(use["name"] for use in record["data"]) or "none",
        "data_kind": "+".join(kinds) or "none",
        "current": record["digests"] == today,
        "record": record,
    }
    metrics = {name: metric["value"] for name, metric in record["metrics"].items()}
    levels = {"run": of_run, "parameters": record["parameters"], "metrics": metrics}
    return {(level, name): value for level, values in levels.items() for name, value in values.items()}


@cache
def _validator() -> Any:
    from jsonschema import Draft202012Validator

    text = resources.files("emseg.runs").joinpath("record.schema.json").read_text(encoding="utf-8")
    return Draft202012Validator(json.loads(text))
