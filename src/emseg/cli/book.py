"""The commands of the book: `emseg run CHAPTER`, `emseg chapters`, `emseg records list | check | keep`, and on evidence
`emseg rerun RECORD...` and `emseg missing [MATRIX]`.

`run` leaves an executed notebook and a run record. `records keep` copies a record to book/results/CHAPTER/PROFILE.json
(or `--as NAME`), to be committed; the book quotes it as `{result}` with `@PROFILE`. The record of a matrix's run is
copied to book/results/CHAPTER/PROFILE/RUN.json.
"""

import argparse
import json
import re
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from emseg.errors import InputError, UsageError

DEFAULT_OUT = Path("_build") / "runs"
RERUNS = Path("_build") / "rerun"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommands to the command line."""
    parser = subparsers.add_parser(
        "run",
        help="run a chapter",
        description="Run a chapter of the book through papermill. Leaves an executed notebook and a run record.",
        epilog="Example: emseg run urisc/sharpness_analysis --profile lab -p n_images 5",
    )
    chapter = parser.add_argument("chapter", help="a chapter, such as fanet/dct_derivation (see `emseg chapters`)")
    profile = parser.add_argument(
        "--profile", default="laptop", help="smoke, laptop, lab, gpu or paper (default: laptop)"
    )
    chapter.completer, profile.completer = _list_chapters, _list_profiles  # type: ignore[attr-defined]  # of argcomplete
    parser.add_argument(
        "-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="set one parameter"
    )
    parser.add_argument("-f", "--file", action="append", default=[], type=Path, help="a YAML file of parameters")
    parser.add_argument("--out", type=Path, help="folder for the results (default: _build/runs/PROFILE)")
    parser.add_argument("--name", help="name of the two result files (default: the unique name of the run)")
    parser.add_argument("--dry-run", action="store_true", help="show the resolved parameters and stop")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(handler=run)

    chapters = subparsers.add_parser("chapters", help="list chapters, profiles and expected cost")
    chapters.add_argument("--json", action="store_true", help="machine-readable output")
    chapters.set_defaults(handler=show_chapters)

    records = subparsers.add_parser("records", help="list, check and keep run records")
    actions = records.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="list the records of the last runs and the committed ones")
    listing.add_argument("--json", action="store_true", help="machine-readable output")
    listing.set_defaults(handler=list_records)
    check = actions.add_parser("check", help="check record files against the schema")
    check.add_argument("files", nargs="+", type=Path)
    check.set_defaults(handler=check_records)
    keep = actions.add_parser("keep", help="copy a record to book/results/, to be committed")
    keep.add_argument("files", nargs="+", type=Path, metavar="FILE")
    keep.add_argument("--as", dest="name", help="name of the copied file (default: the profile)")
    keep.add_argument("--dirty", action="store_true", help="allow records from a dirty working tree")
    keep.set_defaults(handler=keep_records)

    rerun = subparsers.add_parser(
        "rerun",
        help="repeat committed runs and compare",
        description="Run committed records again from their own parameters, and report for each metric whether the "
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


def run(arguments: argparse.Namespace) -> int:
    """Check everything that can be checked, then run the chapter."""
    from emseg.files import find_root
    from emseg.runs.parameters import load_mapping, resolve
    from emseg.runs.project import find_chapter, load_profile

    root = find_root()
    chapter = find_chapter(root, arguments.chapter)
    profile = load_profile(root, arguments.profile)
    overrides = [(f"profile {profile.name}, chapter {chapter.name}", profile.of(chapter.name).parameters)]
    texts = [(path.name, load_mapping(path, as_written=True)) for path in arguments.file]
    names = [name for name, _ in arguments.parameter]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"-p {repeated[0]} must be given once; got {names.count(repeated[0])}. Leave one.")
    texts.append(("", dict(arguments.parameter)))
    parameters = resolve(chapter.parameters(), overrides=overrides, texts=texts)
    name = None if arguments.name is None else _file_name(arguments.name, "--name")
    if arguments.dry_run:
        import yaml

        print(f"# {chapter.name} at profile {profile.name}")
        print(yaml.safe_dump(parameters, sort_keys=False, allow_unicode=True, default_flow_style=None), end="")
        return 0

    from emseg.runs.execute import prepare_folder, require_data, run_chapter

    require_data(parameters)
    out = arguments.out or root / DEFAULT_OUT / profile.name
    prepare_folder(out)
    minutes = profile.of(chapter.name).expected_minutes
    expected = "" if minutes is None else f" (about {minutes:g} min on two cores, or on the profile's GPU)"
    print(f"{chapter.name}: running at profile {profile.name}{expected}", file=sys.stderr, flush=True)
    progress = not arguments.quiet and sys.stderr.isatty()
    files = run_chapter(
        chapter, parameters, root=root, profile=profile.name, out=out.resolve(), name=name, progress=progress
    )
    print(f"{chapter.name}: executed notebook {_short(files.notebook)}, record {_short(files.record)}")
    return 0


def show_chapters(arguments: argparse.Namespace) -> int:
    """Print the table of chapters and the profiles."""
    from emseg.files import find_root
    from emseg.runs.project import list_chapters, list_profiles, load_profile

    root = find_root()
    profiles = [load_profile(root, name) for name in list_profiles(root)]
    rows = [
        {
            "chapter": chapter.name,
            "title": chapter.title(),
            "expected_minutes": {profile.name: profile.of(chapter.name).expected_minutes for profile in profiles},
        }
        for chapter in list_chapters(root)
    ]
    if arguments.json:
        purposes = {profile.name: profile.purpose for profile in profiles}
        print(json.dumps({"profiles": purposes, "chapters": rows}, indent=1, ensure_ascii=False))
        return 0
    width = max([len(str(row["chapter"])) for row in rows] + [7])
    print(f"{'chapter':<{width}}  " + "".join(f"{profile.name:>8}" for profile in profiles) + "  title")
    for row in rows:
        minutes: dict[str, Any] = row["expected_minutes"]  # type: ignore[assignment]
        cells = "".join(f"{'-' if value is None else format(value, 'g'):>8}" for value in minutes.values())
        print(f"{row['chapter']:<{width}}  {cells}  {row['title']}")
    print("\nExpected minutes on two cores; on one data-centre GPU for gpu and paper; '-' where unknown. The profiles:")
    for profile in profiles:
        print(f"  {profile.name:<8} {profile.purpose}")
    return 0


def list_records(arguments: argparse.Namespace) -> int:
    """Print one line a record: committed ones first, then those of runs."""
    from emseg.files import find_root
    from emseg.runs.gathering import RESULTS_FOLDER, read_records

    root = find_root()
    found = [("kept", record) for record in read_records(root / RESULTS_FOLDER)]
    found += [("run", record) for record in read_records(root / DEFAULT_OUT)]
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
    """Validate each file; the first that does not follow the schema is reported."""
    from emseg.runs.gathering import read_record

    for path in arguments.files:
        read_record(path)
        print(f"{path}: good")
    return 0


def keep_records(arguments: argparse.Namespace) -> int:
    """Copy records where they can be committed.

    Refused are those from uncommitted or older code, test runs, and numbers that could not decide their claims.
    """
    from emseg.files import find_root
    from emseg.reported import load_claims, refusals
    from emseg.runs.digest import code_digests
    from emseg.runs.gathering import MATRIX_FOLDER, RESULTS_FOLDER, TEST_PROFILE, read_record, write_record
    from emseg.runs.project import find_chapter

    if arguments.name and len(arguments.files) > 1:
        raise UsageError(f"--as names one record; got {len(arguments.files)} files. Keep them one by one.")
    targets = {}
    for path in arguments.files:
        record = read_record(path)
        if not record["code"]["tree_clean"] and not arguments.dirty:
            raise InputError(
                f"{path.name} was made from uncommitted code and cannot be reproduced. "
                "Commit, run the chapter again, and keep that record (or pass --dirty)."
            )
        if record["profile"] == TEST_PROFILE:
            raise InputError(
                f"{path.name} is a test run (profile {TEST_PROFILE}), which is not evidence. Keep another."
            )
        if reasons := refusals(load_claims(), record):
            raise InputError(f"{path.name} could not decide its claims: {'; '.join(reasons)}. Mend the chapter first.")
        profile = _file_name(record["profile"], f"the profile in {path.name}")
        of_matrix = MATRIX_FOLDER.name in path.resolve().parts
        name = f"{profile}/{path.stem}" if of_matrix else profile
        name = name if arguments.name is None else _file_name(arguments.name, "--as")
        if code_digests(find_chapter(find_root(), record["chapter"])) != record["digests"]:
            raise InputError(
                f"{path.name} was made by older code. Run {record['chapter']} again, and keep that record."
            )
        targets[find_root() / RESULTS_FOLDER / record["chapter"] / f"{name}.json"] = record
    for target, record in targets.items():
        write_record(target, record)
        print(target)
    return 0


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


def _list_chapters(**_: Any) -> list[str]:
    from emseg.files import find_root
    from emseg.runs.project import list_chapters

    return [chapter.name for chapter in list_chapters(find_root())]


def _list_profiles(**_: Any) -> list[str]:
    from emseg.files import find_root
    from emseg.runs.project import list_profiles

    return list_profiles(find_root())


def _file_name(name: str, source: str) -> str:
    """Return a name that becomes a file's; anything that could lead out of its folder is refused."""
    if not re.fullmatch(r"[^./\\:\x00-\x1f][^/\\:\x00-\x1f]{0,199}", name):
        raise UsageError(f"{source} must be a plain file name without a suffix; got {name!r}.")
    return name


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
