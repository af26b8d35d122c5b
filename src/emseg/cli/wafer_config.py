"""`emseg wafer config`: the whole mmengine config of a training, as a Python file that mmdet's users know.

The paper's settings by default; `--size small` gives a network and a schedule for two cores. What is printed can be
kept as a file, changed, and run by mmdet's own `tools/train.py`.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `config` command."""
    parser = subparsers.add_parser(
        "config",
        help="print the mmengine config of a detector's training",
        description="Print the config of training one detector of the paper's Table 2, with the paper's settings or "
        "those for two cores. With --data the folder is read for its classes; without, the paper's four are taken.",
        epilog="example: emseg wafer config --detector ms_rcnn --depth 50 --attention fanet --option indexing=scaled "
        "--set batch_size=4 > fanet.py",
        allow_abbrev=False,
    )
    parser.add_argument("--detector", default="mask_rcnn", help="mask_rcnn or ms_rcnn (default: %(default)s)")
    parser.add_argument("--depth", type=int, default=50, help="of the ResNet: 18, 34 or 50 (default: %(default)s)")
    parser.add_argument("--attention", default="none", help="none, se, eca, fca or fanet (default: %(default)s)")
    parser.add_argument("--size", default="paper", help="paper or small: network and schedule (default: %(default)s)")
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="an option of the attention; repeatable"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a field of the schedule; repeatable"
    )
    parser.add_argument("--backbone-weights", metavar="FILE", help="torchvision's weights: a file, or 'torchvision'")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="a COCO folder (default: data/wafer, not read)")
    parser.add_argument("--split", default="wafer", help="crops, region or wafer (default: %(default)s)")
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/detector"), metavar="FOLDER")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the config; return 0."""
    from emseg.errors import UsageError, suggest
    from emseg.synthetic.wafer.section_crops import SECTION_CLASSES
    from emseg.wafer.detector.design import DetectorDesign
    from emseg.wafer.detector.runner_config import runner_config
    from emseg.wafer.detector.schedule import SCHEDULES
    from emseg.wafer.formats.coco_folder import open_benchmark

    if arguments.size not in SCHEDULES:
        known = ", ".join(SCHEDULES)
        raise UsageError(f"`size` must be one of {known}; got {arguments.size!r}.{suggest(arguments.size, SCHEDULES)}")
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
    if changes.get("steps") is not None:  # counting in the one unit is leaving the other
        changes.setdefault("epochs", None)
    elif changes.get("epochs") is not None:
        changes.setdefault("steps", None)
    config = runner_config(
        design,
        SCHEDULES[arguments.size].changed(**changes),
        arguments.data or Path("data/wafer"),
        arguments.split,
        arguments.work_dir,
        files=None if benchmark is None else benchmark.split(arguments.split),
        class_names=class_names,
    )
    try:
        from mmengine import Config
    except ModuleNotFoundError as error:
        raise UsageError(
            f'a config is written by mmengine; {error.name} is not installed. Run: pip install "emseg[networks]"'
        ) from None
    print(Config(config).pretty_text, end="")
    return 0


def named_values(flag: str, pairs: Sequence[str]) -> dict[str, object]:
    """Return NAME=VALUE pairs as a dict; a value is read as JSON and, where it is none, taken as text."""
    from emseg.errors import UsageError

    values: dict[str, object] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not name or not equals:
            raise UsageError(f"{flag} takes NAME=VALUE; got {pair!r}.")
        try:
            values[name] = json.loads(text)
        except json.JSONDecodeError:
            values[name] = text
    return values
