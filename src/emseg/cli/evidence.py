"""The commands on evidence: `emseg rerun RECORD...` and `emseg missing [MATRIX]`."""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

RERUNS = Path("_build") / "rerun"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the two subcommands to the command line."""
    rerun = subparsers.add_parser(
        "rerun",
        help="repeat committed runs and compare",
        description="Run committed records again from their own parameters, and say for each metric whether the "
        "repetition agrees within the spread that the record declares. Exit code 1 if one does not.",
        epilog="Example: emseg rerun book/results/fanet/dct_derivation/laptop.json",
    )
    rerun.add_argument("records", nargs="+", type=Path, metavar="RECORD", help="a committed record's file")
    rerun.add_argument("--all", action="store_true", dest="every", help="show every metric, not only those that moved")
    rerun.add_argument("--out", type=Path, help="folder for the repeated runs (default: _build/rerun)")
    rerun.set_defaults(handler=rerun_records)

    missing = subparsers.add_parser(
        "missing",
        help="list runs without a record of today's code",
        description="List the runs of a matrix, or of all matrices and chapters, that have no committed record of "
        "today's code, with what each costs.",
    )
    missing.add_argument("matrix", nargs="?", metavar="MATRIX", help="a matrix of the profiles, such as fanet_matrix")
    missing.add_argument("--profile", help="of this profile alone")
    missing.add_argument("--json", action="store_true", help="machine-readable output")
    missing.set_defaults(handler=show_missing)


def rerun_records(arguments: argparse.Namespace) -> int:
    """Check all records before the first run, then run and compare each."""
    from emseg.files import find_root
    from emseg.runs.execute import prepare_folder, require_data, run_chapter
    from emseg.runs.gathering import read_record
    from emseg.runs.parameters import resolve
    from emseg.runs.project import find_chapter
    from emseg.runs.rerun import compare_records
    from emseg.wording import format_measured, format_number

    root = find_root()
    planned = []
    for path in arguments.records:
        record = read_record(path)
        chapter = find_chapter(root, record["chapter"])
        parameters = resolve(chapter.parameters(), overrides=[(path.name, record["parameters"])])
        require_data(parameters)
        planned.append((path, record, chapter, parameters))
    out = (arguments.out or root / RERUNS).resolve()
    prepare_folder(out)
    n_wrong = 0
    for path, record, chapter, parameters in planned:
        minutes = f"{record['wall_s'] / 60:.1f} min on {record['environment']['device']}"
        print(f"{path}: running {chapter.name} again; it took {minutes}", file=sys.stderr, flush=True)
        files = run_chapter(
            chapter, parameters, root=root, profile=record["profile"], out=out, progress=sys.stderr.isatty()
        )
        rows = compare_records(record, read_record(files.record))
        wrong = [row for row in rows if not row.holds]
        n_wrong += bool(wrong)
        for row in rows if arguments.every else wrong:
            values = ["-" if one is None else format_number(one, 6) for one in (row.committed, row.repeated)]
            allowed = f" (declared: within {format_measured(row.allowed, row.allowed)})" if row.allowed else ""
            print(f"  {row.name}: {row.agreement}; committed {values[0]}, repeated {values[1]}{allowed}")
        counts = Counter(row.agreement for row in rows)
        print(f"{path}: " + ", ".join(f"{n} {agreement}" for agreement, n in counts.most_common()))
    return int(n_wrong > 0)


def show_missing(arguments: argparse.Namespace) -> int:
    """Print a line for each missing run, and the total."""
    from dataclasses import asdict

    from emseg.files import find_root
    from emseg.runs.project import load_profile
    from emseg.runs.rerun import missing_runs

    root = find_root()
    if arguments.profile:
        load_profile(root, arguments.profile)
    found = [one for one in missing_runs(root, arguments.matrix) if arguments.profile in (None, one.profile)]
    if arguments.json:
        print(json.dumps([asdict(one) for one in found], indent=1))
        return 0
    for one in found:
        cost = "cost unknown" if one.minutes is None else f"{one.minutes:.1f} min {one.basis}"
        print(f"{one.profile:<7} {one.matrix or 'chapter':<20} {one.name:<60} {cost}")
    known = sum(one.minutes or 0 for one in found)
    unknown = sum(one.minutes is None for one in found)
    print(f"{len(found)} runs without a record of today's code; {known / 60:.1f} h, and {unknown} of unknown cost")
    return 0
