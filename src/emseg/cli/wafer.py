"""`emseg wafer synthesize | tiles | show | repair | config`: make a benchmark, cut or draw your own wafers, and so on.

synthesize --preset   a whole benchmark of synthetic wafers, as `emseg.wafer.make_benchmark` makes it
synthesize            one synthetic wafer and its truth, in three formats
tiles                 wafers with annotations cut into a COCO folder, under one split
show                  a picture of a wafer or of tiles, with the outlines of the sections
repair                a COCO file again, with outlines mended or left out, boxes and areas from the outlines
config                the mmengine config of a detector's training, as a Python file for mmdet's `tools/train.py`
train                 a finder of sections, from annotated wafers of your own; its users are in `emseg.cli.navigation`
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emseg.cli import navigation
from emseg.errors import InputError, UsageError

if TYPE_CHECKING:
    from emseg.wafer.formats import Benchmark

    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_ANNOTATIONS = "a .magc, .mass.json, COCO, labelme, VIA, GeoJSON (QuPath), ImageJ ROI or YOLO file"
_PIXEL_SIZE = "side of a pixel in micrometres, for scale bars"
_OF_ONE = ("name", "height", "width", "section_length", "tissue", "background", "sections", "pixel_size_um")
WAFER_DPI, TILES_DPI = 300, 160  # a wafer has many small sections


def add_parser(subparsers: "_Commands") -> None:
    """Add the `wafer` command and its subcommands."""
    parser = subparsers.add_parser(
        "wafer",
        help="make, cut and draw wafer images with annotated sections",
        description="Make a benchmark of synthetic wafers, cut wafers of your own into tiles, draw either.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="wafer_command", required=True, metavar="COMMAND")
    for add in (_add_synthesize, _add_tiles, _add_show, _add_repair, _add_config, _add_train, navigation.add_commands):
        add(commands)


def _add_synthesize(commands: "_Commands") -> None:
    parser = _command(
        commands,
        "synthesize",
        run_synthesize,
        help="make synthetic wafers: a whole benchmark, or one wafer with its truth",
        description="With --preset, make a benchmark in FOLDER: tiles and COCO annotations under the splits by crops, "
        "by region and by wafer. A FOLDER made before from the same preset, seed and version is reused. "
        "Without --preset, make one wafer in FOLDER: NAME.png, and its sections as NAME.coco.json (with classes), "
        "NAME.magc and NAME.mass.json.",
        epilog="examples: emseg wafer synthesize bench --preset laptop --seed 1;   "
        "emseg wafer synthesize out --height 4000 --width 6000 --section-length 120 --tissue zebrafish",
    )
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="output folder; made if it does not exist")
    _option(parser, "--seed", 0, "the same seed gives the same wafers", type=int)
    whole = parser.add_argument_group("a benchmark")
    presets = "smoke, clear, laptop, medium or paper (2708 and 1193 tiles of 1024 px)"
    whole.add_argument("--preset", metavar="NAME", help=presets)
    whole.add_argument("--workers", type=int, metavar="N", help="wafers made in parallel (default: 1)")
    one = parser.add_argument_group("one wafer")
    one.add_argument("--name", help="name of the files (default: wafer)")
    one.add_argument("--height", type=int, metavar="PX", help="height of the image (default: 2048)")
    one.add_argument("--width", type=int, metavar="PX", help="width of the image (default: 2048)")
    one.add_argument("--section-length", type=float, metavar="PX", help="long side of a usual section (default: 64)")
    one.add_argument("--tissue", metavar="NAME", help="scn or zebrafish (default: scn)")
    one.add_argument("--background", metavar="NAME", help="silicon or tape (default: silicon)")
    one.add_argument("--sections", type=int, metavar="N", help="number of sections (default: as on a real wafer)")
    one.add_argument("--pixel-size-um", type=float, metavar="X", help=_PIXEL_SIZE)


def _add_tiles(commands: "_Commands") -> None:
    parser = _command(
        commands,
        "tiles",
        run_tiles,
        help="cut annotated wafer images into a COCO folder to train on",
        description="Cut wafer images into overlapping square tiles with the outlines of their sections, and write "
        "them to FOLDER as images/, annotations/SPLIT/train.json and validation.json, and benchmark.json. Then print "
        "how much of the validation tiles lies in training tiles.",
        epilog="example: emseg wafer tiles mine --wafer a.tif a.magc --wafer b.tif b.magc --split wafer --validation b",
    )
    where = "output folder (new, empty, or from an identical earlier call)"
    parser.add_argument("folder", metavar="FOLDER", type=Path, help=where)
    pair: dict[str, Any] = {"nargs": 2, "type": Path, "metavar": ("IMAGE", "ANNOTATIONS")}
    what = f"a grey image and {_ANNOTATIONS}; repeatable"
    parser.add_argument("--wafer", action="append", required=True, help=what, **pair)
    cut = parser.add_argument_group("tiles")
    _option(cut, "--tile", 1024, "side of a tile", type=int, metavar="PX")
    _option(cut, "--overlap", 0.1, "overlap between neighbouring tiles, as a fraction of the side", type=float)
    _option(cut, "--minimum-visible", 0.2, "fraction of a section that a tile must show for it to count", type=float)
    below = "crowd: keep other sections as regions that scores ignore; drop: leave them out"
    _option(cut, "--below-minimum", "crowd", below, metavar="HOW")
    empty = "leave out tiles that show no section; a detector trained without them finds sections where none are"
    cut.add_argument("--drop-empty", dest="keep_empty", action="store_false", help=empty)
    cut.add_argument("--keep-empty", action="store_true", default=True, help=argparse.SUPPRESS)  # now the default
    _option(cut, "--kind", "real", "kind of the images in records: real, licensed or synthetic", metavar="KIND")
    split = parser.add_argument_group("split")
    splits = (
        "region: left part of each wafer for training; wafer: whole wafers; crops: at random, as in the paper, "
        "which lets validation tiles share pixels with training tiles"
    )
    _option(split, "--split", "region", splits, metavar="NAME")
    fraction = "fraction of the columns, from the left (region), or of the tiles (crops) for training"
    _option(split, "--train-share", 0.6, fraction, type=float)
    split.add_argument("--validation", nargs="+", default=[], metavar="WAFER", help="validation wafers (split wafer)")
    _option(split, "--seed", 0, "of the random split", type=int)
    _add_reading(parser)


def _add_show(commands: "_Commands") -> None:
    parser = _command(
        commands,
        "show",
        run_show,
        help="draw a wafer or tiles with the outlines of the sections",
        description="Draw a wafer image with its annotations, or tiles of a COCO folder drawn at random, as PNG, SVG "
        "or PDF: a colour for each class, a legend that counts them. Sections that show too little are dotted.",
        epilog="examples: emseg wafer show wafer.tif wafer.magc --out wafer.png;   "
        "emseg wafer show bench --split wafer --which validation --out tiles.png",
    )
    parser.add_argument("source", metavar="SOURCE", type=Path, help="a wafer image, or a COCO folder")
    parser.add_argument("annotations", metavar="ANNOTATIONS", type=Path, nargs="?", help=f"of an image: {_ANNOTATIONS}")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the picture: .png, .svg or .pdf")
    tiles = parser.add_argument_group("of a COCO folder")
    tiles.add_argument("--split", metavar="NAME", help="crops, region, wafer or given (default: the first there is)")
    _option(tiles, "--which", "train", "train or validation", metavar="SIDE")
    _option(tiles, "--n-tiles", 12, "number of tiles", type=int, metavar="N")
    _option(tiles, "--seed", 0, "of the choice of tiles", type=int)
    _add_reading(parser)


def _add_repair(commands: "_Commands") -> None:
    parser = _command(
        commands,
        "repair",
        run_repair,
        help="write a COCO file again without outlines that cannot be used",
        description="Read a COCO file, mend outlines that cross themselves, leave out those that enclose nothing, and "
        "write it to OUT with boxes and areas that follow the outlines. What was done is printed on standard error.",
    )
    parser.add_argument("annotations", metavar="ANNOTATIONS", type=Path, help="a COCO file")
    parser.add_argument("out", metavar="OUT", type=Path, help="the file to write")
    parser.add_argument("--skip", action="store_true", help="leave out every outline at fault")


def _add_config(commands: "_Commands") -> None:
    parser = _command(
        commands,
        "config",
        run_config,
        help="print the mmengine config of a detector's training",
        description="Print the config of training one detector of the paper's Table 2, with the paper's settings or "
        "those for two cores. With --data the folder is read for its classes; without, the paper's four are taken.",
        epilog="example: emseg wafer config --detector ms_rcnn --depth 50 --attention fanet --option indexing=scaled "
        "--set batch_size=4 > fanet.py",
    )
    _option(parser, "--detector", "mask_rcnn", "mask_rcnn or ms_rcnn")
    _option(parser, "--depth", 50, "of the ResNet: 18, 34 or 50", type=int)
    _option(parser, "--attention", "none", "none, se, eca, fca or fanet")
    _option(parser, "--size", "paper", "paper or small: network and schedule")
    for flag, what in (("--option", "an option of the attention"), ("--set", "a field of the schedule")):
        parser.add_argument(flag, action="append", default=[], metavar="NAME=VALUE", help=f"{what}; repeatable")
    parser.add_argument("--backbone-weights", metavar="FILE", help="torchvision's weights: a file, or 'torchvision'")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="a COCO folder (default: data/wafer, not read)")
    _option(parser, "--split", "wafer", "crops, region or wafer")
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/detector"), metavar="FOLDER")


def _add_train(commands: "_Commands") -> None:
    parser = _command(
        commands,
        "train",
        run_train,
        help="train a finder of sections on annotated wafers, for `emseg wafer find`",
        description="Train a small Mask R-CNN on annotated wafer images or on a COCO folder, and write it to "
        "DIR/sections.safetensors. The right part of the columns validates; its scores are printed. About 10 minutes "
        "on two free cores. An interrupted call resumes.",
        epilog="examples: emseg wafer train wafer.tif wafer.magc --out mine;   emseg wafer find next.tif --out next "
        "--weights mine/sections.safetensors",
    )
    what = f"a COCO folder, or one or more pairs of a grey image and {_ANNOTATIONS}"
    parser.add_argument("source", metavar="FOLDER | IMAGE ANNOTATIONS", nargs="+", type=Path, help=what)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="output folder, new or of the same call")
    start = "a finder to start from, as `train` wrote it; 'shipped' is the one that comes with emseg"
    parser.add_argument("--start-from", metavar="FILE", help=start)
    _option(parser, "--steps", 3000, "training steps of two tiles", type=int, metavar="N")
    _option(parser, "--train-share", 0.75, "left fraction of the columns to train on; the rest validates", type=float)
    columns = "fractions of the width between which all sections are annotated; others are not looked at"
    parser.add_argument("--columns", nargs=2, type=float, default=(0.0, 1.0), metavar=("FROM", "TO"), help=columns)
    _option(parser, "--kind", "real", "kind of the images in records: real, licensed or synthetic", metavar="KIND")
    _option(parser, "--seed", 0, "of weights and augmentation", type=int)
    _option(parser, "--device", "auto", "auto, cpu, cuda or cuda:N")
    _add_reading(parser)


def _command(commands: "_Commands", name: str, handler: Any, **texts: Any) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, allow_abbrev=False, **texts)
    parser.set_defaults(handler=handler)
    return parser


def _option(parser: Any, flag: str, default: Any, text: str, **more: Any) -> None:
    """Add an option whose help ends with its default."""
    more = {"metavar": "X", **more} if more.get("type") is float else more
    parser.add_argument(flag, default=default, help=f"{text} (default: %(default)s)", **more)


def _add_reading(parser: argparse.ArgumentParser) -> None:
    reading = parser.add_argument_group("reading images and annotations")
    faults = reading.add_mutually_exclusive_group()
    repair = "repair outlines that cross themselves; leave out those that enclose nothing"
    faults.add_argument("--repair", dest="faults", action="store_const", const="repair", default="refuse", help=repair)
    skip = "leave out every outline that cannot be used (default: list them all and stop)"
    faults.add_argument("--skip", dest="faults", action="store_const", const="skip", help=skip)
    classes = "classes that the annotations may use (default: their own)"
    reading.add_argument("--classes", nargs="+", metavar="NAME", help=classes)
    greys = "greys of a 16-bit image that become black and white"
    reading.add_argument("--grey-range", nargs=2, type=float, metavar=("BLACK", "WHITE"), help=greys)
    reading.add_argument("--pixel-size-um", type=float, metavar="X", help=_PIXEL_SIZE)


def run_synthesize(arguments: argparse.Namespace) -> int:
    """Make a benchmark or one wafer."""
    if arguments.preset is None:
        if arguments.workers is not None:
            raise UsageError("--workers is for a benchmark. Add --preset NAME, or leave it out.")
        return _synthesize_one(arguments)
    given = [name for name in _OF_ONE if getattr(arguments, name) is not None]
    if given:
        option = "--" + given[0].replace("_", "-")
        raise UsageError(f"{option} is for one wafer; a preset has its own. Leave out --preset or {option}.")
    from tqdm import tqdm

    from emseg.synthetic.wafer.benchmark_design import preset
    from emseg.wafer import make_benchmark

    design = preset(arguments.preset)
    workers = 1 if arguments.workers is None else arguments.workers
    with tqdm(total=design.n_wafers, unit="wafer", file=sys.stderr, disable=None, leave=False) as bar:
        made = make_benchmark(design, arguments.folder, seed=arguments.seed, n_workers=workers, on_wafer=bar.update)
    _print_content(made)
    return 0


def run_tiles(arguments: argparse.Namespace) -> int:
    """Cut wafers into a COCO folder."""
    from emseg.wafer import Tiling, benchmark_from_wafers

    tiling = Tiling(
        arguments.tile, arguments.overlap, arguments.minimum_visible, arguments.below_minimum, arguments.keep_empty
    )
    benchmark = benchmark_from_wafers(
        [_read(image, annotations, arguments) for image, annotations in arguments.wafer],
        arguments.folder,
        split=arguments.split,
        tiling=tiling,
        train_share=arguments.train_share,
        validation_wafers=arguments.validation,
        seed=arguments.seed,
        kind=arguments.kind,
    )
    _print_content(benchmark)
    return 0


def run_train(arguments: argparse.Namespace) -> int:
    """Train a finder, and print what it finds and misses in the validation tiles."""
    source: list[Path] = arguments.source
    if len(source) % 2 and not (len(source) == 1 and source[0].is_dir()):
        raise UsageError(
            f"the source must be one COCO folder, or images each followed by their annotations; got {len(source)} "
            "names. Give IMAGE ANNOTATIONS."
        )
    from emseg.wafer.navigation.finder import SHIPPED_FINDER
    from emseg.wafer.navigation.training import PLAN, train_finder

    pairs = zip(source[::2], source[1::2], strict=False)
    wafers = [_read(image, annotations, arguments) for image, annotations in pairs]
    trained = train_finder(
        wafers or source[0],
        arguments.out,
        plan=PLAN.for_steps(arguments.steps).changed(seed=arguments.seed, device=arguments.device),
        train_share=arguments.train_share,
        columns=tuple(arguments.columns),
        start_from=SHIPPED_FINDER if arguments.start_from == "shipped" else arguments.start_from,
        kind=arguments.kind,
    )
    scores, finder = trained.scores, trained.finder
    print(
        f"In the validation {'columns' if wafers else 'tiles'}, {scores['found']} of {scores['n_sections']} sections "
        f"were found, {scores['missed']} missed, and {scores['false']} found where none is (score 0.5, IoU 0.5); "
        f"mask AP of {scores['n_tiles']} tiles {scores['ap']:.1f} %, AP50 {scores['ap50']:.1f} %."
    )
    print(f"Classes: {', '.join(finder.class_names)}. Sections have {finder.section_size_px:.0f} px in the network.")
    for note in trained.notes:
        print(f"Note: {note}.")
    print(f"Written to {trained.path}")
    return 0


def run_show(arguments: argparse.Namespace) -> int:
    """Draw a wafer or tiles."""
    if arguments.out.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise UsageError(f"--out must end with .png, .svg or .pdf; got {arguments.out.name!r}.")
    if not arguments.source.exists():
        raise InputError(f"{arguments.source} does not exist. Name a wafer image or a COCO folder.")
    is_folder = arguments.source.is_dir()
    if is_folder and arguments.annotations is not None:
        raise UsageError("a COCO folder has its own annotations. Name the folder alone.")
    if not is_folder and arguments.annotations is None:
        raise UsageError(f"an image needs its annotations: {_ANNOTATIONS}. Name the file after the image.")
    import matplotlib as mpl

    mpl.use("Agg")
    from emseg.figures import style
    from emseg.wafer import open_benchmark
    from emseg.wafer.section_figures import plot_tiles, plot_wafer

    style()
    if is_folder:
        benchmark = open_benchmark(arguments.source)
        split = arguments.split or next(iter(benchmark.splits))
        figure = plot_tiles(benchmark, split, arguments.which, n_tiles=arguments.n_tiles, seed=arguments.seed)
    else:
        figure = plot_wafer(*_read(arguments.source, arguments.annotations, arguments))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.out, dpi=TILES_DPI if is_folder else WAFER_DPI)
    print(arguments.out)
    return 0


def run_repair(arguments: argparse.Namespace) -> int:
    """Write a COCO file again."""
    from emseg.files import write_atomically
    from emseg.wafer.formats.coco import document_of_set, read_coco

    coco = read_coco(arguments.annotations, faults="skip" if arguments.skip else "repair")
    write_atomically(arguments.out, json.dumps(document_of_set(coco)) + "\n")
    for note in coco.notes:
        print(f"emseg: {arguments.annotations}: {note}", file=sys.stderr)
    print(f"{arguments.out}: {len(coco.annotations)} sections in {len(coco.images)} images")
    return 0


def run_config(arguments: argparse.Namespace) -> int:
    """Print the config."""
    from emseg.checks import require_one_of
    from emseg.wafer import SECTION_CLASSES, open_benchmark
    from emseg.wafer.detector import PLANS, DetectorDesign, config_text, runner_config

    require_one_of("size", arguments.size, PLANS)
    benchmark = None if arguments.data is None else open_benchmark(arguments.data)
    class_names = SECTION_CLASSES if benchmark is None else benchmark.class_names
    design = DetectorDesign(
        detector=arguments.detector,
        depth=arguments.depth,
        attention=arguments.attention,
        attention_options=named_values("--option", arguments.option),
        num_classes=len(class_names),
        size=arguments.size,
        backbone_weights=arguments.backbone_weights,
    )
    changes = named_values("--set", arguments.set)
    units = [unit for unit in ("steps", "epochs") if changes.get(unit) is not None]
    if units:  # setting one unit of length unsets the other
        changes.setdefault("epochs" if units[0] == "steps" else "steps", None)
    plan, folder = PLANS[arguments.size].changed(**changes), arguments.data or Path("data/wafer")
    files = None if benchmark is None else benchmark.split(arguments.split)
    into, split = arguments.work_dir, arguments.split
    config = runner_config(design, plan, folder, split, into, files=files, class_names=class_names)
    print(config_text(config), end="")
    return 0


def named_values(flag: str, pairs: Sequence[str]) -> dict[str, Any]:
    """Return NAME=VALUE pairs as a dict; a value is read as JSON and, where that fails, taken as text."""
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not name or not equals:
            raise UsageError(f"{flag} takes NAME=VALUE; got {pair!r}.")
        try:
            values[name] = json.loads(text)
        except json.JSONDecodeError:
            values[name] = text
    return values


def _synthesize_one(arguments: argparse.Namespace) -> int:
    from emseg.synthetic.wafer import WaferDesign, synthesize_wafer
    from emseg.wafer.annotated_wafer import wafer_document
    from emseg.wafer.formats.benchmark_folder import require_wafer_name, write_png
    from emseg.wafer.formats.magc import magc_from_sections, write_magc
    from emseg.wafer.formats.mass_json import mass_from_sections, write_mass_json

    names = {"section_length": "section_length_px", "sections": "n_sections"}
    values = {names.get(key, key): getattr(arguments, key) for key in _OF_ONE if key != "name"}
    design = WaferDesign(**{key: value for key, value in values.items() if value is not None})
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


def _read(image: Path, annotations: Path, arguments: argparse.Namespace) -> Any:
    """A wafer image with its sections; the reader's notes go to standard error."""
    from emseg.wafer import read_annotated_wafer

    greys = arguments.grey_range and tuple(arguments.grey_range)
    more = {"class_names": arguments.classes, "grey_range": greys, "pixel_size_um": arguments.pixel_size_um}
    wafer = read_annotated_wafer(image, annotations, faults=arguments.faults, **more)
    for note in wafer[1].notes:
        print(f"emseg: {annotations}: {note}", file=sys.stderr)
    return wafer


def _print_content(benchmark: "Benchmark") -> None:
    """Print what a benchmark contains: counts of tiles and sections, and the pixel leak, a line for each split."""
    from emseg.wafer import pixel_leak

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
