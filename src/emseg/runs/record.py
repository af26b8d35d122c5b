"""Run records: made once, at the end of a run that succeeded, written whole or not at all.

A record is a JSON file described by `record.schema.json` in this package. Records worth citing are committed below
`book/results/`; those of a build lie below `_build/runs/`.
"""

import json
import os
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from emseg.errors import InputError

SCHEMA_VERSION = 1
RESULTS_FOLDER = Path("book") / "results"


def new_run_id(chapter: str, profile: str, started: datetime) -> str:
    """Return a name for a run that no other run has: chapter, profile, start time and four random bytes."""
    return f"{chapter.replace('/', '-')}-{profile}-{started:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def timestamp(moment: datetime) -> str:
    """Return a moment as ISO 8601 in UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@cache
def _schema() -> dict[str, Any]:
    text = resources.files("emseg.runs").joinpath("record.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def validate_record(record: Any, source: str = "the run record") -> None:
    """Raise `InputError` that names the first thing in `record` that the schema refuses."""
    from jsonschema import Draft202012Validator

    for error in Draft202012Validator(_schema()).iter_errors(record):
        place = "/".join(str(part) for part in error.absolute_path) or "its top level"
        raise InputError(f"{source} does not follow the schema of run records at {place}: {error.message}.")


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Validate `record` and write it to `path` in one step: a reader sees the whole of it or nothing."""
    validate_record(record)
    write_atomically(path, json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_atomically(path: Path, text: str) -> None:
    """Write `text` to `path` through a temporary file beside it; on failure (disk full) nothing is left behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise InputError(
            f"{path.name} could not be written to {path.parent}: {error.strerror or error}. "
            "Free some space or choose another folder with --out, then run again; nothing was left half-written."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def read_record(path: Path) -> dict[str, Any]:
    """Return the record at `path`; a file that is none raises `InputError` that names it."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no run record: it is not valid JSON ({error}).") from None
    validate_record(record, str(path))
    return dict(record)


def read_records(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the records below `folder`, in the order of their paths; a missing folder holds none."""
    for path in sorted(folder.rglob("*.json")):
        yield read_record(path)
