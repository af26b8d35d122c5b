"""`emseg wafer train | find | stage | import`: from a wafer image to the microscope's stage.

import    a person's corrections of what was found, from the review sheet or another program
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_commands(commands: "_Commands") -> None:
    """Add the commands to those of `emseg wafer`."""
    for add in (_add_import,):
        add(commands)


def _add_import(commands: "_Commands") -> None:
    parser = commands.add_parser(
        "import",
        allow_abbrev=False,
        help="apply a person's corrections to the sections that were found",
        description="Read decisions of the review sheet, or a file of FOLDER that was edited in Fiji, QuPath, napari, "
        "labelme, MagFinder or SBEMimage, say what a person changed, and write all files again. What they replace is "
        "copied to FOLDER/earlier.",
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
    from emseg.wafer.navigation.review import write_review

    found, changes, paths = import_corrections(
        arguments.folder, arguments.file, out=arguments.out, class_names=arguments.classes
    )
    for line in changes.sentences():
        print(line)
    folder = paths[0].parent
    image = open_found(paths[0]).image
    if image is not None and Path(image).is_file():
        from emseg.wafer import read_wafer_image

        write_review(found, folder, read_wafer_image(image))
    else:
        print(f"emseg: the review sheet was not written again: no image {image or ''}", file=sys.stderr)
    if (folder / "stage.csv").exists():
        print("emseg: stage.csv is older than the corrections; run `emseg wafer stage` again", file=sys.stderr)
    print(f"{folder}: {len(found.sections)} sections, numbered anew, in {len(paths)} files")
    return 0
