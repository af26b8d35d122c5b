"""`emseg sharpness IMAGES...`: the sharpness indices of files and folders, as a table, JSON or CSV.

Each image's line is written as soon as it is measured, so an interrupted run keeps what it has; the JSON array is
closed in any case. A file that cannot be measured is reported on standard error and the others are measured; the exit
code is then 1. Progress goes to standard error when that is a terminal.
"""

import argparse
import csv
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emseg.sharpness.indices import Measurement

MAXIMUM_WORKERS = 4
_UNITS = {"pixel": "per pixel", "um2": "per square micrometre", "image": "raw sums"}
_WIDTH = 14


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `sharpness` command."""
    parser = subparsers.add_parser(
        "sharpness",
        help="measure the sharpness of images and folders",
        description="Measure Brenner (gap 1 and 2), SMD2, Variance and Vollath (F5 as in the paper, and F4) of grey "
        "images. Indices compare images of one pixel size, contrast and dose; see the book's chapter on sharpness for "
        "where they mislead.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="a file, a folder or a quoted pattern such as 'run1/*.tif'"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--json", action="store_true", help="write a JSON array: raw sums, per pixel and per square micrometre"
    )
    form.add_argument("--csv", action="store_true", help="write CSV with the same columns")
    parser.add_argument(
        "--per", choices=tuple(_UNITS), default="pixel", help="what the table shows (default: %(default)s)"
    )
    parser.add_argument(
        "--pixel-size-nm", type=float, metavar="X", help="side of a pixel in nanometres, for values per um2"
    )
    parser.add_argument(
        "--axis", choices=("x", "y"), default="x", help="take differences along x (rows) or y (default: %(default)s)"
    )
    parser.add_argument("--recursive", action="store_true", help="include the folders below a folder")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure all images; return 0 when every one could be measured, otherwise 1."""
    from tqdm import tqdm

    from emseg.checks import require_number
    from emseg.errors import UsageError
    from emseg.images import find_images
    from emseg.sharpness import available_threads, survey

    size = arguments.pixel_size_nm
    if size is not None:
        require_number("--pixel-size-nm", size, above=0, unit="nm")
    if arguments.per == "um2" and size is None:
        raise UsageError("--per um2 needs the pixel size. Add --pixel-size-nm X.")
    paths, problems = find_images(arguments.images, recursive=arguments.recursive)
    n_workers = max(min(available_threads(), MAXIMUM_WORKERS, len(paths)), 1)
    bar = tqdm(total=len(paths), unit="image", file=sys.stderr, disable=None, leave=False)
    for problem in problems:
        _report(problem)
    measured = survey(paths, pixel_size_nm=size, axis=arguments.axis, n_workers=n_workers, on_file=bar.update)
    with bar, _writer(arguments, max((len(str(path)) for path in paths), default=0)) as write:
        for measurement in measured:
            with tqdm.external_write_mode():
                if measurement.problem is None:
                    write(measurement)
                    sys.stdout.flush()
                else:
                    problems.append(measurement.problem)
                    _report(measurement.problem)
    return 1 if problems else 0


def _report(problem: str) -> None:
    print(f"emseg: {problem}", file=sys.stderr)


@contextmanager
def _writer(arguments: argparse.Namespace, name_width: int) -> Iterator[Callable[["Measurement"], None]]:
    """Yield the function that writes one measurement; what begins and ends the document is written around it."""
    n_written = 0
    rows = csv.writer(sys.stdout, lineterminator="\n")

    def write(measurement: "Measurement") -> None:
        nonlocal n_written
        if arguments.json:
            print(("," if n_written else "[") + "\n" + json.dumps(_row(measurement)), end="")
        elif arguments.csv:
            row = _row(measurement)
            rows.writerows(([] if n_written else [list(row)]) + [list(row.values())])
        else:
            _print_line(measurement, arguments.per, max(name_width + 4, 5), with_header=not n_written)
        n_written += 1

    try:
        yield write
    finally:
        if arguments.json:
            print("\n]" if n_written else "[]")
    if n_written and not (arguments.json or arguments.csv):
        print(f"\n{_UNITS[arguments.per]}, in squared grey levels; vollath is F5, vollath* F5 without its edge term")


def _row(measurement: "Measurement") -> dict[str, object]:
    """One flat record: the image, its size, then every index as raw sum, per pixel and per square micrometre."""
    measured = measurement.sharpness
    assert measured is not None
    per_um2 = {} if measured.pixel_size_nm is None else measured.per_um2()
    return {
        "image": str(measurement.path),
        "page": measurement.page,
        "height": measured.shape[0],
        "width": measured.shape[1],
        "pixel_size_nm": measured.pixel_size_nm,
        "axis": measured.axis,
        "mean": measured.mean,
        **measured.raw(),
        **{f"{name}_per_pixel": value for name, value in measured.per_pixel().items()},
        **{f"{name}_per_um2": per_um2.get(name) for name in measured.raw()},
    }


def _print_line(measurement: "Measurement", per: str, name_width: int, *, with_header: bool) -> None:
    measured = measurement.sharpness
    assert measured is not None
    values = {"pixel": measured.per_pixel, "um2": measured.per_um2, "image": measured.raw}[per]()
    if with_header:
        titles = "".join(f"{name.replace('_centred', '*'):>{_WIDTH}}" for name in values)
        print(f"{'image':<{name_width}}{'rows x columns':>16}{titles}")
    numbers = "".join(f"{value:>{_WIDTH}.5g}" for value in values.values())
    print(f"{measurement.name:<{name_width}}{f'{measured.shape[0]} x {measured.shape[1]}':>16}{numbers}")
