"""`emseg data list | path NAME | fetch NAME | check NAME`: the real images, where they are, whether they are whole."""

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from emseg.errors import InputError

if TYPE_CHECKING:
    from emseg.data import Dataset

DESCRIPTION = """\
Real images for the book. EMSEG_DATA, when set, names a folder with one folder a data set and wins: nothing is
downloaded. Else sets are kept in the user's cache folder, or in EMSEG_CACHE."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `emseg data` and its four actions."""
    parser = subparsers.add_parser(
        "data", help="list, find, fetch and check the real images", description=DESCRIPTION, allow_abbrev=False
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="list the data sets and where they are")
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.set_defaults(handler=list_datasets)
    for action, handler, text in (
        ("path", print_path, "print the folder of a data set; never downloads"),
        ("fetch", fetch_dataset, "get what is not here yet, verify it, and print the folder"),
        ("check", check_dataset, "name every missing, truncated or altered file"),
    ):
        action_parser = actions.add_parser(action, help=text, description=text)
        action_parser.add_argument("name", metavar="NAME", help="a data set, as `emseg data list` names it")
        action_parser.set_defaults(handler=handler)


def list_datasets(arguments: argparse.Namespace) -> int:
    """Print a table of the registry and of this machine."""
    from emseg.data import datasets

    rows = [_row(entry) for entry in datasets().values()]
    if arguments.json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return 0
    width = max(len(row["name"]) for row in rows)
    print(f"{'name':<{width}}  files      size  where")
    for row in rows:
        size = f"{row['n_bytes'] / 1e6:.1f} MB"
        print(f"{row['name']:<{width}}  {row['n_files']:>5}  {size:>8}  {row['folder'] or row['problem']}")
    for row in rows:
        print(f"\n{row['name']}: {row['title']}.\n  Terms: {row['terms']}.")
    return 0


def print_path(arguments: argparse.Namespace) -> int:
    """Print the folder of a data set that is here and whole."""
    from emseg.data import dataset_path

    print(dataset_path(arguments.name))
    return 0


def fetch_dataset(arguments: argparse.Namespace) -> int:
    """Fetch a data set, print its terms on stderr, and print its folder."""
    from emseg.data import dataset, fetch

    folder = fetch(arguments.name)
    print(f"{arguments.name}: {dataset(arguments.name).terms}", file=sys.stderr)
    print(folder)
    return 0


def check_dataset(arguments: argparse.Namespace) -> int:
    """Verify every file of a data set and name those that are wrong."""
    from emseg.data import check, dataset, folder_of

    problems = check(arguments.name)
    for problem in problems:
        print(problem)
    n_files = len(dataset(arguments.name).files)
    print(f"{arguments.name}: {n_files - len(problems)} of {n_files} files are right in {folder_of(arguments.name)}")
    return 1 if problems else 0


def _row(entry: "Dataset") -> dict[str, Any]:
    """Return the entry of one data set in `list --json`; `folder` is None unless the set is here and whole."""
    from emseg.data import check, fingerprint, folder_of

    folder, problem = None, None
    try:
        problems = check(entry)
        if problems:
            problem = f"{len(problems)} of {len(entry.files)} files are wrong in {folder_of(entry)}"
        else:
            folder = str(folder_of(entry))
    except InputError:
        problem = "not here"
    stated = ("name", "title", "kind", "n_bytes", "terms", "citation")
    return {
        **{name: getattr(entry, name) for name in stated},
        "n_files": len(entry.files),
        "sources": list(entry.sources),
        "fingerprint": fingerprint(entry),
        "folder": folder,
        "problem": problem,
    }
