"""`emseg wafer train | find | stage | import`: from a wafer image to the microscope's stage.

stage     micrometres of the stage for all sections, by landmarks
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_commands(commands: "_Commands") -> None:
    """Add the commands to those of `emseg wafer`."""
    for add in (_add_stage,):
        add(commands)


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
    only = "write only sections of this class; repeatable (default: as `find` was told)"
    parser.add_argument("--class", dest="classes", action="append", metavar="NAME", help=only)


def run_stage(arguments: argparse.Namespace) -> int:
    """Place sections on the stage and print how well the landmarks fit."""
    from dataclasses import replace

    from emseg.checks import require_one_of
    from emseg.files import write_atomically
    from emseg.wafer.navigation.exports import open_found, write_wafer
    from emseg.wafer.navigation.order import order_sections, path_lengths
    from emseg.wafer.navigation.stage import fit_stage, propagate, read_landmarks, read_regions, stage_tables

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
    for name, table in (("stage.csv", sections), ("stage_regions.csv", points)):
        write_atomically(folder / name, table.to_csv(index=False, lineterminator="\n"))
    print(f"{transform.kind}, {transform.um_per_px:.4g} um a pixel; distance at each landmark, in um:")
    for name, near, left_out in zip(landmarks.names, transform.residuals_um, transform.left_out_um, strict=True):
        alone = "" if left_out != left_out else f"  ({left_out:,.2f} when left out of the fit)"
        print(f"  {name}  {near:,.2f}{alone}")
    if found.sections:
        print(path_lengths(replace(found, pixel_size_um=transform.um_per_px)).sentence)
    print(f"{folder / 'stage.csv'}: {len(sections)} of {len(found.sections)} sections, {len(points)} points of regions")
    for warning in transform.warnings:
        print(f"emseg: {warning}", file=sys.stderr)
    return 0
