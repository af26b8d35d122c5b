"""`emseg run CHAPTER`: run one chapter at a profile and leave its executed notebook and run record."""

import argparse
import sys
from pathlib import Path
from typing import Any

from emseg.errors import UsageError

DEFAULT_OUT = Path("_build") / "runs"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand to the command line."""
    parser = subparsers.add_parser(
        "run",
        help="run a chapter",
        description="Run a chapter of the book through papermill. Leaves an executed notebook and a run record.",
        epilog="Example: emseg run urisc/sharpness_analysis --profile lab -p n_images 5",
    )
    parser.add_argument("chapter", help="a chapter, such as fanet/dct_derivation (see `emseg chapters`)")
    parser.add_argument("--profile", default="laptop", help="smoke, laptop, lab, gpu or paper (default: laptop)")
    parser.add_argument(
        "-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="set one parameter"
    )
    parser.add_argument("-f", "--file", action="append", default=[], type=Path, help="a YAML file of parameters")
    parser.add_argument("--out", type=Path, help="folder for the results (default: _build/runs/PROFILE)")
    parser.add_argument("--name", help="name of the two result files (default: the unique name of the run)")
    parser.add_argument("--dry-run", action="store_true", help="show the resolved parameters and stop")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Check everything that can be checked, then run the chapter."""
    from emseg.runs.parameters import read_parameters, resolve
    from emseg.runs.profiles import load_mapping, load_profile
    from emseg.runs.project import find_chapter, find_root

    root = find_root()
    chapter = find_chapter(root, arguments.chapter)
    profile = load_profile(root, arguments.profile)
    overrides: list[tuple[str, dict[str, Any]]] = [
        (f"profile {profile.name}, chapter {chapter.name}", profile.of(chapter.name).parameters)
    ]
    overrides += [(path.name, load_mapping(path)) for path in arguments.file]
    texts = [(name, value) for name, value in arguments.parameter]
    parameters = resolve(read_parameters(chapter), overrides=overrides, texts=texts)
    name = _checked_name(arguments.name)
    if arguments.dry_run:
        _show(chapter.name, profile.name, parameters)
        return 0

    from emseg.runs.execute import prepare_folder, run_chapter
    from emseg.runs.state import require_data

    require_data(parameters)
    out = arguments.out or root / DEFAULT_OUT / profile.name
    prepare_folder(out)
    minutes = profile.of(chapter.name).expected_minutes
    expected = "" if minutes is None else f" (about {minutes:g} min on two cores, or on the profile's GPU)"
    print(f"{chapter.name}: running at profile {profile.name}{expected}", file=sys.stderr, flush=True)
    files = run_chapter(
        chapter,
        parameters,
        root=root,
        profile=profile.name,
        out=out.resolve(),
        name=name,
        progress=not arguments.quiet and sys.stderr.isatty(),
    )
    print(f"{chapter.name}: executed notebook {_short(files.notebook)}, record {_short(files.record)}")
    return 0


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _checked_name(name: str | None) -> str | None:
    if name is not None and (not name or name.startswith(".") or "/" in name):
        raise UsageError(f"--name must be a plain file name without a suffix; got {name!r}.")
    return name


def _show(chapter: str, profile: str, parameters: dict[str, Any]) -> None:
    import yaml

    print(f"# {chapter} at profile {profile}")
    print(yaml.safe_dump(parameters, sort_keys=False, allow_unicode=True, default_flow_style=None), end="")
