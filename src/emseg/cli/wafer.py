"""`emseg wafer synthesize | tiles | show | config`: make a benchmark of wafers, cut one's own, look at it.

    synthesize --preset   a whole benchmark of synthetic wafers, as `emseg.wafer.make_benchmark` makes it
    synthesize            one synthetic wafer and its truth, in three formats
    tiles                 wafers with annotations cut into a COCO folder, under one split
    show                  a picture of a wafer or of tiles, with the outlines of the sections
    config                the config of a detector's training, see `emseg.cli.wafer_config`

Progress goes to standard error, what was made to standard output. Heavy imports are inside the handlers.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emseg.cli import wafer_config

if TYPE_CHECKING:
    from emseg.wafer.formats.coco_folder import Benchmark

_ANNOTATIONS = "a .magc, .mass.json, labelme or COCO file"
WAFER_DPI, TILES_DPI = 300, 160  # a wafer has many small sections


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `wafer` command and its subcommands."""
    parser = subparsers.add_parser(
        "wafer",
        help="make, cut and look at wafer images with annotated sections",
        description="Make a benchmark of synthetic wafers, cut wafers of your own into tiles, look at either.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="wafer_command", required=True, metavar="COMMAND")
    _add_synthesize(commands)
    _add_tiles(commands)
    _add_show(commands)
    wafer_config.add_parser(commands)


def _add_synthesize(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "synthesize",
        help="make synthetic wafers: a whole benchmark, or one wafer with its truth",
        description="With --preset, make a benchmark in FOLDER: tiles and COCO annotations under the splits by crops, "
        "by region and by wafer. A FOLDER made before from the same preset, seed and version is used again. "
        "Without --preset, make one wafer in FOLDER: NAME.png, and its sections as NAME.coco.json (with classes), "
        "NAME.magc and NAME.mass.json.",
        epilog="examples: emseg wafer synthesize bench --preset laptop --seed 1;   "
        "emseg wafer synthesize out --height 4000 --width 6000 --section-length 120 --tissue zebrafish",
        allow_abbrev=False,
    )
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="where to write; made if it is not there")
    parser.add_argument(
        "--seed", type=int, default=0, help="the same seed gives the same wafers (default: %(default)s)"
    )
    whole = parser.add_argument_group("a benchmark")
    whole.add_argument(
        "--preset", metavar="NAME", help="smoke, clear, laptop, medium or paper (2708 and 1193 tiles of 1024 px)"
    )
    whole.add_argument("--workers", type=int, metavar="N", help="wafers made side by side (default: 1)")
    one = parser.add_argument_group("one wafer")
    one.add_argument("--name", help="name of the files (default: wafer)")
    one.add_argument("--height", type=int, metavar="PX", help="height of the image (default: 2048)")
    one.add_argument("--width", type=int, metavar="PX", help="width of the image (default: 2048)")
    one.add_argument("--section-length", type=float, metavar="PX", help="long side of a usual section (default: 64)")
    one.add_argument("--tissue", metavar="NAME", help="scn or zebrafish (default: scn)")
    one.add_argument("--background", metavar="NAME", help="silicon or tape (default: silicon)")
    one.add_argument(
        "--sections", type=int, metavar="N", help="how many are cut (default: as many as a real wafer has)"
    )
    one.add_argument("--pixel-size-um", type=float, metavar="X", help="side of a pixel in micrometres, for scale bars")
    parser.set_defaults(handler=run_synthesize)


def _add_tiles(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "tiles",
        help="cut annotated wafer images into a COCO folder to train on",
        description="Cut wafer images into overlapping square tiles with the outlines of their sections, and write "
        "them to FOLDER as images/, annotations/SPLIT/train.json and validation.json, and benchmark.json. Then show "
        "how much of the validation tiles lies in training tiles.",
        epilog="example: emseg wafer tiles mine --wafer a.tif a.magc --wafer b.tif b.magc --split wafer --validation b",
        allow_abbrev=False,
    )
    parser.add_argument(
        "folder", metavar="FOLDER", type=Path, help="where to write; must be new, empty or the same again"
    )
    parser.add_argument(
        "--wafer",
        nargs=2,
        action="append",
        required=True,
        type=Path,
        metavar=("IMAGE", "ANNOTATIONS"),
        help=f"a grey image and {_ANNOTATIONS}; give it again for each wafer",
    )
    cut = parser.add_argument_group("tiles")
    cut.add_argument("--tile", type=int, default=1024, metavar="PX", help="side of a tile (default: %(default)s)")
    cut.add_argument(
        "--overlap", type=float, default=0.1, metavar="X", help="share of a tile that the next repeats (default: 0.1)"
    )
    cut.add_argument(
        "--minimum-visible",
        type=float,
        default=0.2,
        metavar="X",
        help="share of a section that a tile must show to count (default: 0.2)",
    )
    cut.add_argument(
        "--below-minimum",
        default="crowd",
        metavar="HOW",
        help="crowd: keep such a section as one that scores ignore; drop: leave it out (default: crowd)",
    )
    cut.add_argument("--keep-empty", action="store_true", help="keep tiles that show no section")
    cut.add_argument(
        "--kind",
        default="real",
        metavar="KIND",
        help="what the images are, for records: real, licensed or synthetic (default: real)",
    )
    split = parser.add_argument_group("split")
    split.add_argument(
        "--split",
        default="region",
        metavar="NAME",
        help="region: left part of each wafer to training; wafer: whole wafers; crops: at random, as in the paper, "
        "which lets validation tiles share pixels with training tiles (default: region)",
    )
    split.add_argument(
        "--train-share",
        type=float,
        default=0.6,
        metavar="X",
        help="left share of the columns (region) or share of the tiles (crops) to train on (default: 0.6)",
    )
    split.add_argument(
        "--validation", nargs="+", default=[], metavar="WAFER", help="wafers to validate on (split wafer)"
    )
    split.add_argument("--seed", type=int, default=0, help="of the random split (default: %(default)s)")
    _add_reading(parser)
    parser.set_defaults(handler=run_tiles)


def _add_show(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "show",
        help="draw a wafer or tiles with the outlines of the sections",
        description="Draw a wafer image with its annotations, or tiles of a COCO folder drawn at random, as PNG, SVG "
        "or PDF: a colour for each class, a legend that counts them. Sections that show too little are dotted.",
        epilog="examples: emseg wafer show wafer.tif wafer.magc --out wafer.png;   "
        "emseg wafer show bench --split wafer --which validation --out tiles.png",
        allow_abbrev=False,
    )
    parser.add_argument("source", metavar="SOURCE", type=Path, help="a wafer image, or a COCO folder")
    parser.add_argument("annotations", metavar="ANNOTATIONS", type=Path, nargs="?", help=f"of an image: {_ANNOTATIONS}")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the picture: .png, .svg or .pdf")
    tiles = parser.add_argument_group("of a COCO folder")
    tiles.add_argument("--split", metavar="NAME", help="crops, region, wafer or given (default: the first there is)")
    tiles.add_argument("--which", default="train", metavar="SIDE", help="train or validation (default: %(default)s)")
    tiles.add_argument("--n-tiles", type=int, default=12, metavar="N", help="how many tiles (default: %(default)s)")
    tiles.add_argument("--seed", type=int, default=0, help="of the choice of tiles (default: %(default)s)")
    _add_reading(parser)
    parser.set_defaults(handler=run_show)


def _add_reading(parser: argparse.ArgumentParser) -> None:
    reading = parser.add_argument_group("reading images and annotations")
    reading.add_argument(
        "--classes", nargs="+", metavar="NAME", help="classes that a labelme or COCO file may use (default: its own)"
    )
    reading.add_argument(
        "--grey-range",
        nargs=2,
        type=float,
        metavar=("BLACK", "WHITE"),
        help="greys of a 16-bit image that become black and white",
    )
    reading.add_argument(
        "--pixel-size-um", type=float, metavar="X", help="side of a pixel in micrometres, for scale bars"
    )


def run_synthesize(arguments: argparse.Namespace) -> int:
    """Make a benchmark or one wafer."""
    from emseg.errors import UsageError

    of_one = ("name", "height", "width", "section_length", "tissue", "background", "sections", "pixel_size_um")
    given = [name for name in of_one if getattr(arguments, name) is not None]
    if arguments.preset is None:
        if arguments.workers is not None:
            raise UsageError("--workers is for a benchmark. Add --preset NAME, or leave it out.")
        return _synthesize_one(arguments)
    if given:
        option = "--" + given[0].replace("_", "-")
        raise UsageError(f"{option} is for one wafer; a preset has its own. Leave out --preset or {option}.")
    return _synthesize_benchmark(arguments)


def run_tiles(arguments: argparse.Namespace) -> int:
    """Cut wafers into a COCO folder."""
    from emseg.wafer.annotated_wafer import read_annotated_wafer
    from emseg.wafer.tiles import Tiling
    from emseg.wafer.wafer_benchmark import benchmark_from_wafers

    tiling = Tiling(
        arguments.tile, arguments.overlap, arguments.minimum_visible, arguments.below_minimum, arguments.keep_empty
    )
    wafers = []
    for image, annotations in arguments.wafer:
        wafers.append(read_annotated_wafer(image, annotations, **_reading(arguments)))
        for note in wafers[-1][1].notes:
            print(f"emseg: {annotations}: {note}", file=sys.stderr)
    benchmark = benchmark_from_wafers(
        wafers,
        arguments.folder,
        split=arguments.split,
        tiling=tiling,
        train_share=arguments.train_share,
        validation_wafers=arguments.validation,
        seed=arguments.seed,
        kind=arguments.kind,
    )
    _tell(benchmark)
    return 0


def run_show(arguments: argparse.Namespace) -> int:
    """Draw a wafer or tiles."""
    from emseg.errors import InputError, UsageError

    if arguments.out.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise UsageError(f"--out must end with .png, .svg or .pdf; got {arguments.out.name!r}.")
    if not arguments.source.exists():
        raise InputError(f"{arguments.source} does not exist. Name a wafer image or a COCO folder.")
    is_folder = arguments.source.is_dir()
    if is_folder and arguments.annotations is not None:
        raise UsageError("a COCO folder holds its own annotations. Name the folder alone.")
    if not is_folder and arguments.annotations is None:
        raise UsageError(f"an image needs its annotations: {_ANNOTATIONS}. Name the file after the image.")
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    from emseg.figures import style
    from emseg.wafer.annotated_wafer import read_annotated_wafer
    from emseg.wafer.formats.coco_folder import open_benchmark
    from emseg.wafer.section_figures import plot_tiles, plot_wafer

    style()
    if is_folder:
        benchmark = open_benchmark(arguments.source)
        split = arguments.split or next(iter(benchmark.splits))
        figure = plot_tiles(benchmark, split, arguments.which, n_tiles=arguments.n_tiles, seed=arguments.seed)
    else:
        image, sections = read_annotated_wafer(arguments.source, arguments.annotations, **_reading(arguments))
        for note in sections.notes:
            print(f"emseg: {arguments.annotations}: {note}", file=sys.stderr)
        figure = plot_wafer(image, sections)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.out, dpi=TILES_DPI if is_folder else WAFER_DPI)
    plt.close(figure)
    print(arguments.out)
    return 0


def _synthesize_benchmark(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from emseg.synthetic.wafer.benchmark_design import preset
    from emseg.wafer.wafer_sets import make_benchmark

    design = preset(arguments.preset)
    workers = 1 if arguments.workers is None else arguments.workers
    with tqdm(total=design.n_wafers, unit="wafer", file=sys.stderr, disable=None, leave=False) as bar:
        benchmark = make_benchmark(
            design, arguments.folder, seed=arguments.seed, n_workers=workers, on_wafer=bar.update
        )
    _tell(benchmark)
    return 0


def _synthesize_one(arguments: argparse.Namespace) -> int:
    from emseg.synthetic.wafer import WaferDesign, synthesize_wafer
    from emseg.wafer.annotated_wafer import wafer_document
    from emseg.wafer.formats.coco_writing import require_wafer_name, write_png
    from emseg.wafer.formats.exchanged_sections import magc_from_sections, mass_from_sections
    from emseg.wafer.formats.magc import write_magc
    from emseg.wafer.formats.mass_json import write_mass_json

    wanted = {
        "height": arguments.height,
        "width": arguments.width,
        "section_length_px": arguments.section_length,
        "tissue": arguments.tissue,
        "background": arguments.background,
        "n_sections": arguments.sections,
        "pixel_size_um": arguments.pixel_size_um,
    }
    design = WaferDesign(**{key: value for key, value in wanted.items() if value is not None})
    name = require_wafer_name(arguments.name or "wafer")
    wafer = synthesize_wafer(design, seed=arguments.seed, name=name)
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    write_png(folder / f"{name}.png", wafer.image)
    document = json.dumps(wafer_document(wafer.truth, f"{name}.png")) + "\n"
    (folder / f"{name}.coco.json").write_text(document, encoding="utf-8")
    write_magc(magc_from_sections(wafer.truth), folder / f"{name}.magc")
    write_mass_json(mass_from_sections(wafer.truth), folder / f"{name}.mass.json")
    counts = ", ".join(f"{wafer.truth.count(label)} {label}" for label in wafer.truth.class_names)
    print(f"{folder / name}.png: {design.height} x {design.width} px, {len(wafer.truth.sections)} sections ({counts})")
    return 0


def _reading(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "class_names": arguments.classes,
        "grey_range": None if arguments.grey_range is None else tuple(arguments.grey_range),
        "pixel_size_um": arguments.pixel_size_um,
    }


def _tell(benchmark: "Benchmark") -> None:
    """Print what a benchmark holds: counts of tiles and sections, and the pixel leak, a line for each split."""
    from emseg.wafer.splits import pixel_leak

    print(f"{benchmark.folder}: {benchmark.kind}, fingerprint {benchmark.fingerprint}")
    for name in benchmark.splits:
        train, validation = benchmark.read(name, "train"), benchmark.read(name, "validation")
        leak = pixel_leak(train.places, validation.places)
        counts = [sum(not one.crowd for one in coco.annotations) for coco in (train, validation)]
        print(
            f"  {name:<7} {len(train.images):>5} tiles to train ({counts[0]} sections), "
            f"{len(validation.images):>5} to validate ({counts[1]} sections), "
            f"{100 * leak.mean:.1f} % of the validation pixels are in training tiles"
        )
