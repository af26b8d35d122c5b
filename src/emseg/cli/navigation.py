"""`emseg wafer train | find | stage | import`: from a wafer image to the microscope's stage.

find      all sections of an image, in the files that microscopes and annotation programs read
stage     micrometres of the stage for all sections, by landmarks
import    a person's corrections of what was found, from the review sheet or another program
"""

import argparse
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emseg.errors import InputError, UsageError

if TYPE_CHECKING:
    from emseg.wafer.navigation.found import FoundWafer

    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_N_REASONS = 3  # kinds of doubt that the summary counts


def add_commands(commands: "_Commands") -> None:
    """Add the commands to those of `emseg wafer`."""
    for add in (_add_find, _add_stage, _add_import):
        add(commands)


def _add_find(commands: "_Commands") -> None:
    parser = commands.add_parser(
        "find",
        help="find all sections of a wafer image and write them for microscope and review",
        description="Find the sections of IMAGE (TIFF, BigTIFF or a pyramid of any size, PNG, JPEG), fit their "
        "corners and angles, order them, and write them to DIR in all formats. An interrupted call resumes.",
        epilog="example: emseg wafer find wafer.tif --out found --expected 433 --class good",
        allow_abbrev=False,
    )
    parser.set_defaults(handler=run_find)
    parser.add_argument("image", metavar="IMAGE", type=Path, help="the wafer image")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="output folder, new or of the same call")
    weights = "a finder that `emseg wafer train` wrote (default: the one that ships with emseg)"
    parser.add_argument("--weights", type=Path, metavar="FILE", help=weights)
    parser.add_argument("--expected", type=int, metavar="N", help="how many sections there should be")
    template = "annotations of this image, of one section or more: corner order, angle, magnet, regions, landmarks"
    parser.add_argument("--template", type=Path, metavar="ANNOTATIONS", help=template)
    only = "write only sections of this class for other programs, COCO apart; repeatable (default: all)"
    parser.add_argument("--class", dest="classes", action="append", metavar="NAME", help=only)
    scale = parser.add_argument_group("scale and greys")
    side = "side of a square of a section's area, in pixels (default: from the pixel size, or estimated)"
    scale.add_argument("--section-size-px", type=float, metavar="X", help=side)
    scale.add_argument("--pixel-size-um", type=float, metavar="X", help="side of a pixel in micrometres")
    greys = "greys of an image of more than 8 bits that become black and white (default: percentiles)"
    scale.add_argument("--grey-range", nargs=2, type=float, metavar=("BLACK", "WHITE"), help=greys)
    work = parser.add_argument_group("computing")
    least = "least score of a section, 0.1 to 1 (default: 0.5); the best below are kept for review"
    work.add_argument("--threshold", type=float, default=0.5, metavar="X", help=least)
    work.add_argument("--batch-size", type=int, metavar="N", help="tiles at a time (default: 1 on a CPU, 8 on a GPU)")
    work.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")


def run_find(arguments: argparse.Namespace) -> int:
    """Find the sections of a wafer image."""
    if not arguments.image.exists():
        raise InputError(f"{arguments.image} does not exist. Check the name and the folder.")
    out: Path = arguments.out
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "tiles" / "settings.json").is_file())):
        raise UsageError(f"--out must be new, empty, or a folder of the same call; {out} contains something else.")
    if (out / "earlier").exists():
        raise UsageError(f"{out} contains a result that a person corrected, which would be replaced. Name another.")
    from dataclasses import replace

    from tqdm import tqdm

    from emseg.wafer.annotated_wafer import wafer_name
    from emseg.wafer.navigation.exports import write_wafer
    from emseg.wafer.navigation.find import find_sections
    from emseg.wafer.navigation.finder import load_finder
    from emseg.wafer.review_sheet import write_review
    from emseg.wafer.wafer_source import open_wafer_image

    finder = load_finder(arguments.weights, device=arguments.device)
    for name in arguments.classes or ():
        if name not in finder.class_names:
            raise UsageError(f"--class must be one of {', '.join(finder.class_names)}; got {name!r}.")
    wafer = open_wafer_image(arguments.image, grey_range=arguments.grey_range and tuple(arguments.grey_range))
    given = None if arguments.template is None else _template(arguments.image, arguments.template, wafer)
    template, landmarks = given or (None, None)
    with tqdm(unit="tile", file=sys.stderr, disable=None, leave=False) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        found = find_sections(
            wafer,
            finder,
            template=template,
            expected=arguments.expected,
            threshold=arguments.threshold,
            section_size_px=arguments.section_size_px,
            pixel_size_um=arguments.pixel_size_um,
            batch_size=arguments.batch_size,
            folder=out,
            progress=progress,
            name=wafer_name(arguments.image),
        )
    found = replace(found, landmarks=landmarks)
    files = list(write_wafer(found, out, image=arguments.image, classes=arguments.classes))
    files.append(write_review(found, out, wafer, expected=arguments.expected))
    print_summary(found, out, files)
    return 0


def _template(image: Path, annotations: Path, wafer: Any) -> tuple[Any, Any]:
    """Return the template section of an image's annotations and its landmarks, with what a file has of them."""
    from emseg.wafer.annotated_wafer import read_wafer_annotations
    from emseg.wafer.formats.magc import read_magc
    from emseg.wafer.formats.mass_json import magc_of_mass, read_mass_json
    from emseg.wafer.formats.outlines import kind_of
    from emseg.wafer.navigation.template import parts_of_magc, template_from_annotations

    readers: dict[str, Callable[[Path], Any]] = {
        "magc": read_magc,
        "mass": lambda path: magc_of_mass(read_mass_json(path)),
    }
    sections = read_wafer_annotations(annotations, image, *wafer.shape)
    read = readers.get(kind_of(annotations))
    magnets, regions, landmarks = (None, None, None) if read is None else parts_of_magc(read(annotations))
    return template_from_annotations(wafer, sections, magnets=magnets, regions=regions), landmarks


def print_summary(found: "FoundWafer", out: Path, files: Any) -> None:
    """Print in words what was found, what to look at, and where it was written."""
    counts = Counter(one.label for one in found.sections)
    classes = ", ".join(f"{counts[name]} {name}" for name in found.class_names if counts[name])
    print(f"{len(found.sections)} sections on {found.name}{f': {classes}' if classes else ''}.")
    for note in found.notes:
        print(note)
    doubtful = [one for one in found.sections if one.reasons]
    if doubtful:
        # numbers differ from section to section: what is alike counts as one reason
        kinds = (re.split(r"[(;]|\d", reason)[0].strip() for one in doubtful for reason in one.reasons)
        reasons = Counter(kinds).most_common(_N_REASONS)
        print(f"Look at {len(doubtful)} of them: {'; '.join(f'{reason} ({n})' for reason, n in reasons)}.")
    print(f"Written to {out}: {', '.join(Path(file).name for file in files)}")


def _add_stage(commands: "_Commands") -> None:
    parser = commands.add_parser(
        "stage",
        allow_abbrev=False,
        help="place found sections on the microscope's stage by landmarks",
        description="Map the sections in FOLDER to micrometres of the stage by three landmarks or more, carry regions "
        "drawn on one section to all, write stage.csv and stage_regions.csv, and write all other files again.",
        epilog="example: emseg wafer stage found --landmarks marks.csv --regions found/wafer.magc --on 12 --class good",
    )
    parser.set_defaults(handler=run_stage)
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="the folder of `emseg wafer find`")
    marks = (
        "CSV with the columns name, x_px, y_px, x_um, y_um (without x_px and y_px: of the wafer's own landmarks, in "
    )
    marks += "their order), or a .mass.json file with source and target"
    parser.add_argument("--landmarks", type=Path, required=True, metavar="FILE", help=marks)
    regions = "ROIs and focus points drawn on one section: a .magc, .mass.json, GeoJSON or labelme file"
    parser.add_argument("--regions", type=Path, metavar="FILE", help=regions)
    on = "number of the section on which they are drawn (default: the one that they lie on)"
    parser.add_argument("--on", type=int, metavar="SECTION", help=on)
    kind = "similarity, affine, or auto: affine where it fits significantly better (default: auto)"
    parser.add_argument("--kind", default="auto", help=kind)
    side = "side of a section (0 to 3) on which the next cut lies; orders the sections anew"
    parser.add_argument("--next-side", type=int, metavar="SIDE", help=side)
    only = "write only sections of this class, COCO apart; repeatable (default: as in the call of `find`)"
    parser.add_argument("--class", dest="classes", action="append", metavar="NAME", help=only)


def run_stage(arguments: argparse.Namespace) -> int:
    """Place sections on the stage and print how well the landmarks fit."""
    from dataclasses import replace

    from emseg.checks import require_one_of
    from emseg.files import write_atomically
    from emseg.wafer.navigation.exports import open_found, write_wafer
    from emseg.wafer.navigation.order import order_sections, path_lengths
    from emseg.wafer.navigation.stage import (
        add_targets,
        fit_stage,
        propagate,
        read_landmarks,
        read_regions,
        stage_tables,
    )

    file = open_found(arguments.folder)
    found, classes = file.wafer(), arguments.classes or file.exported_classes
    for name in classes or ():
        require_one_of("--class", name, found.class_names)
    landmarks = read_landmarks(arguments.landmarks, found.landmarks)
    transform = fit_stage(landmarks, kind=arguments.kind, pixel_size_um=found.pixel_size_um)
    found = replace(found, landmarks=landmarks.pixels)
    if arguments.regions is not None:
        found = propagate(found, read_regions(arguments.regions, arguments.on), arguments.on)
    if found.stage_order is None or arguments.next_side is not None:
        found = order_sections(replace(found, serial_order=None), next_side=arguments.next_side)
    sections, points = stage_tables(found, transform, classes)
    folder = arguments.folder if arguments.folder.is_dir() else arguments.folder.parent
    write_wafer(found, folder, classes=classes)
    add_targets(folder / f"{found.name}.mass.json", landmarks)
    for name, table in (("stage.csv", sections), ("stage_regions.csv", points)):
        write_atomically(folder / name, table.to_csv(index=False, lineterminator="\n"))
    print(f"{transform.kind}, {transform.um_per_px:.4g} um a pixel; distance at each landmark, in um:")
    for name, near, left_out in zip(landmarks.names, transform.residuals_um, transform.left_out_um, strict=True):
        alone = "" if left_out != left_out else f"  ({left_out:,.2f} when left out of the fit)"
        print(f"  {name}  {near:,.2f}{alone}")
    if len(sections):
        print(path_lengths(replace(found, pixel_size_um=transform.um_per_px), classes).sentence)
    print(f"{folder / 'stage.csv'}: {len(sections)} of {len(found.sections)} sections, {len(points)} points of regions")
    for warning in transform.warnings:
        print(f"emseg: {warning}", file=sys.stderr)
    return 0


def _add_import(commands: "_Commands") -> None:
    parser = commands.add_parser(
        "import",
        allow_abbrev=False,
        help="apply a person's corrections to the sections that were found",
        description="Read decisions of the review sheet, or a file of FOLDER that was edited in Fiji, QuPath, napari, "
        "labelme, MagFinder or SBEMimage, report what a person changed, and write all files again. What they replace "
        "is copied to FOLDER/earlier.",
        epilog="example: emseg wafer import found found/wafer.decisions.json; then train on the corrected wafer with "
        "emseg wafer train wafer.tif found/wafer.coco.json",
    )
    parser.set_defaults(handler=run_import)
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="the folder of `emseg wafer find`")
    parser.add_argument("file", metavar="FILE", type=Path, help="decisions of the review sheet, or an edited file")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where to write instead (default: the same folder)")
    classes = "all classes that sections may have (default: those of the result)"
    parser.add_argument("--classes", nargs="+", metavar="NAME", help=classes)


def run_import(arguments: argparse.Namespace) -> int:
    """Apply corrections and print what changed."""
    from emseg.wafer.navigation.corrections import import_corrections
    from emseg.wafer.navigation.exports import open_found
    from emseg.wafer.review_sheet import write_review

    found, changes, paths = import_corrections(
        arguments.folder, arguments.file, out=arguments.out, class_names=arguments.classes
    )
    for line in changes.sentences():
        print(line)
    folder = paths[0].parent
    image = open_found(paths[0]).image
    if image is not None and Path(image).is_file():
        from emseg.wafer.wafer_source import open_wafer_image

        write_review(found, folder, open_wafer_image(image))
    else:
        print(f"emseg: the review sheet was not written again: no image {image or ''}", file=sys.stderr)
    if (folder / "stage.csv").exists():
        print("emseg: stage.csv is older than the corrections; run `emseg wafer stage` again", file=sys.stderr)
    print(f"{folder}: {len(found.sections)} sections, numbered anew, in {len(paths)} files")
    return 0
