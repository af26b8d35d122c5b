"""`emseg sharpness IMAGES...`: the sharpness indices of files and folders, as a table, JSON or CSV.

Each image's line is written as soon as it is measured, so an interrupted run keeps what it has; the JSON array is
closed in any case. A file that cannot be measured is named on standard error and the others go on; the exit code is
then 1. Progress goes to standard error when that is a terminal.
"""

import argparse
import csv
import json
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from emseg.sharpness.survey import Measurement

MAXIMUM_WORKERS = 4
PER_CHOICES = ("pixel", "um2", "image")
_NUMBER_WIDTH = 12


class _Writer(Protocol):
    def __call__(self, measurement: "Measurement") -> None: ...


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `sharpness` command."""
    parser = subparsers.add_parser(
        "sharpness",
        help="measure the sharpness of images and folders",
        description="Measure Brenner (gap 1 and 2), SMD2, Variance and Vollath of grey images. Indices compare images "
        "of one pixel size, contrast and dose; see the book's chapter on sharpness for where they mislead.",
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
        "--per", choices=PER_CHOICES, default="pixel", help="what the table shows (default: %(default)s)"
    )
    parser.add_argument(
        "--pixel-size-nm", type=float, metavar="X", help="side of a pixel in nanometres, for values per um2"
    )
    parser.add_argument(
        "--axis", choices=("x", "y"), default="x", help="take differences along x (rows) or y (default: %(default)s)"
    )
    parser.add_argument("--recursive", action="store_true", help="look into the folders below a folder too")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure all images; return 0 when every one could be measured, otherwise 1."""
    from tqdm import tqdm

    from emseg.errors import UsageError
    from emseg.sharpness.sums import available_threads
    from emseg.sharpness.survey import find_images, survey

    size = arguments.pixel_size_nm
    if size is not None and not 0 < size < float("inf"):
        raise UsageError(f"--pixel-size-nm must be a positive length in nanometres; got {size}.")
    if arguments.per == "um2" and size is None:
        raise UsageError("--per um2 needs the pixel size. Add --pixel-size-nm X.")
    paths, problems = find_images(arguments.images, recursive=arguments.recursive)
    for problem in problems:
        _report(problem)
    failed = bool(problems)
    n_workers = max(min(available_threads(), MAXIMUM_WORKERS, len(paths)), 1)
    bar = tqdm(total=len(paths), unit="image", file=sys.stderr, disable=None, leave=False)
    with bar, _writer(arguments, [str(path) for path in paths]) as write:
        for measurement in survey(
            paths, pixel_size_nm=size, axis=arguments.axis, n_workers=n_workers, on_file=bar.update
        ):
            with tqdm.external_write_mode():
                if measurement.problem is not None:
                    failed = True
                    _report(measurement.problem)
                else:
                    write(measurement)
                    sys.stdout.flush()
    return 1 if failed else 0


def _report(problem: str) -> None:
    print(f"emseg: {problem}", file=sys.stderr)


def _writer(arguments: argparse.Namespace, names: list[str]) -> AbstractContextManager[_Writer]:
    if arguments.json:
        return _json_writer()
    if arguments.csv:
        return _csv_writer()
    return _table_writer(arguments.per, max((len(name) for name in names), default=0))


def _row(measurement: "Measurement") -> dict[str, object]:
    """One flat record: the image, its size, then every index as raw sum, per pixel and per square micrometre."""
    measured = measurement.sharpness
    assert measured is not None
    per_um2 = {} if measured.pixel_size_nm is None else measured.per_um2()
    row: dict[str, object] = {
        "image": str(measurement.path),
        "page": measurement.page,
        "height": measured.shape[0],
        "width": measured.shape[1],
        "pixel_size_nm": measured.pixel_size_nm,
        "axis": measured.axis,
        "mean": measured.mean,
    }
    row |= measured.raw()
    row |= {f"{name}_per_pixel": value for name, value in measured.per_pixel().items()}
    row |= {f"{name}_per_um2": per_um2.get(name) for name in measured.raw()}
    return row


@contextmanager
def _json_writer() -> Iterator[_Writer]:
    separator = "[\n"

    def write(measurement: "Measurement") -> None:
        nonlocal separator
        print(separator + json.dumps(_row(measurement)), end="")
        separator = ",\n"

    try:
        yield write
    finally:
        print("[]" if separator.startswith("[") else "\n]")


@contextmanager
def _csv_writer() -> Iterator[_Writer]:
    rows: csv.DictWriter[str] | None = None

    def write(measurement: "Measurement") -> None:
        nonlocal rows
        row = _row(measurement)
        if rows is None:
            rows = csv.DictWriter(sys.stdout, fieldnames=list(row), lineterminator="\n")
            rows.writeheader()
        rows.writerow(row)

    yield write


@contextmanager
def _table_writer(per: str, name_width: int) -> Iterator[_Writer]:
    from emseg.sharpness.indices import INDEX_NAMES

    name_width = max(name_width + 4, len("image"))  # room for a page
    unit = {"pixel": "per pixel", "um2": "per square micrometre", "image": "raw sums"}[per]
    header_due = True

    def write(measurement: "Measurement") -> None:
        nonlocal header_due
        measured = measurement.sharpness
        assert measured is not None
        if header_due:
            titles = "".join(
                f"{name.removesuffix('_centred') + '*' * name.endswith('_centred'):>{_NUMBER_WIDTH + 2}}"
                for name in INDEX_NAMES
            )
            print(f"{'image':<{name_width}}{'rows x columns':>16}{titles}")
            header_due = False
        values = {"pixel": measured.per_pixel, "um2": measured.per_um2, "image": measured.raw}[per]()
        numbers = "".join(f"{value:>{_NUMBER_WIDTH + 2}.5g}" for value in values.values())
        print(f"{measurement.name:<{name_width}}{f'{measured.shape[0]} x {measured.shape[1]}':>16}{numbers}")

    yield write
    if not header_due:
        print(f"\n{unit}, in squared grey levels; vollath*: centred, without the edge term")
