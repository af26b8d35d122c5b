"""`emseg chapters`: the chapters of the book, the profiles, and what each run is expected to cost."""

import argparse
import json
from typing import Any


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand to the command line."""
    parser = subparsers.add_parser("chapters", help="list chapters, profiles and expected cost")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the table of chapters."""
    from emseg.runs.profiles import list_profiles, load_profile
    from emseg.runs.project import find_root, list_chapters

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
    _print_table(rows, [profile.name for profile in profiles])
    print("\nExpected minutes on two cores; on one data-centre GPU for gpu and paper; '-' where unknown. The profiles:")
    for profile in profiles:
        print(f"  {profile.name:<8} {profile.purpose}")
    return 0


def _print_table(rows: list[dict[str, Any]], profiles: list[str]) -> None:
    width = max([len(row["chapter"]) for row in rows] + [7])
    print(f"{'chapter':<{width}}  " + "".join(f"{name:>8}" for name in profiles) + "  title")
    for row in rows:
        minutes = (row["expected_minutes"][name] for name in profiles)
        cells = "".join(f"{'-' if value is None else format(value, 'g'):>8}" for value in minutes)
        print(f"{row['chapter']:<{width}}  {cells}  {row['title']}")
