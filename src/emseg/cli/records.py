"""`emseg records`: list run records, check them against the schema, and keep those worth citing.

A kept record is copied to `book/results/CHAPTER/PROFILE.json` (or `--as NAME`), to be committed; the book quotes it
as `{result}` with `@PROFILE`. The record of a matrix's cell is copied to `book/results/CHAPTER/PROFILE/CELL.json`.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from emseg.errors import InputError, UsageError


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand to the command line."""
    parser = subparsers.add_parser("records", help="list, check and keep run records")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="list the records of the last runs and the kept ones")
    listing.add_argument("--json", action="store_true", help="machine-readable output")
    listing.set_defaults(handler=list_records)
    check = actions.add_parser("check", help="check record files against the schema")
    check.add_argument("files", nargs="+", type=Path)
    check.set_defaults(handler=check_records)
    keep = actions.add_parser("keep", help="copy a record to book/results/, to be committed")
    keep.add_argument("files", nargs="+", type=Path, metavar="FILE")
    keep.add_argument("--as", dest="name", help="name of the kept file (default: the profile)")
    keep.add_argument("--dirty", action="store_true", help="keep a record made from uncommitted code")
    keep.set_defaults(handler=keep_record)


def list_records(arguments: argparse.Namespace) -> int:
    """Print one line a record: kept ones first, then those of runs."""
    from emseg.runs.project import find_root
    from emseg.runs.record import RESULTS_FOLDER, read_records

    root = find_root()
    found = [("kept", record) for record in read_records(root / RESULTS_FOLDER)]
    found += [("run", record) for record in read_records(root / "_build" / "runs")]
    if arguments.json:
        print(json.dumps([{"where": where, **record} for where, record in found], indent=1, ensure_ascii=False))
        return 0
    for where, record in found:
        kinds = "+".join(sorted({use["kind"] for use in record["data"]})) or "no data"
        print(
            f"{where:<5} {record['chapter']:<28} {record['profile']:<8} {kinds:<10} {record['finished']}"
            f" {record['wall_s']:>8.1f} s  {len(record['metrics']):>3} metrics  {record['run_id']}"
        )
    return 0


def check_records(arguments: argparse.Namespace) -> int:
    """Validate each file; the first that does not follow the schema is named."""
    from emseg.runs.record import read_record

    for path in arguments.files:
        read_record(path)
        print(f"{path}: good")
    return 0


def keep_record(arguments: argparse.Namespace) -> int:
    """Copy records where they can be committed; those from uncommitted code cannot be made again and are refused."""
    from emseg.runs.matrix import MATRIX_FOLDER
    from emseg.runs.project import find_root
    from emseg.runs.record import RESULTS_FOLDER, read_record, write_record

    if arguments.name and len(arguments.files) > 1:
        raise UsageError(f"--as names one record; got {len(arguments.files)} files. Keep them one by one.")
    records: list[dict[str, Any]] = [read_record(path) for path in arguments.files]
    for path, record in zip(arguments.files, records, strict=True):
        if not record["code"]["tree_clean"] and not arguments.dirty:
            raise InputError(
                f"{path.name} was made from uncommitted code, so nobody could make it again. "
                "Commit, run the chapter again, and keep that record (or say --dirty)."
            )
    for path, record in zip(arguments.files, records, strict=True):
        is_cell = MATRIX_FOLDER.name in path.resolve().parts
        name = arguments.name or (f"{record['profile']}/{path.stem}" if is_cell else record["profile"])
        target = find_root() / RESULTS_FOLDER / record["chapter"] / f"{name}.json"
        write_record(target, record)
        print(target)
    return 0
