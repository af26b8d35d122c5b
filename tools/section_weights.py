"""Train the section finder that ships with the library: python tools/section_weights.py OUT [--steps N] [--synthetic]

Twelve synthetic wafers (SCN and zebrafish, silicon and tape, usual and obvious defects, sections of 56 to 72 px) with a
black mosaic border, and the left 60 % of the MagC wafer, whose sections are all of class "good". The right 40 % are
held out. OUT/sections.safetensors and OUT/sections.json then go to src/emseg/wafer/navigation; no image is in either.
"""

import argparse
import dataclasses
import itertools
import math
from pathlib import Path

import numpy as np
import shapely

from emseg.files import digest_of_file, write_json
from emseg.sections import Section, WaferSections
from emseg.synthetic.wafer import BACKGROUNDS, SECTION_CLASSES, TISSUES, Severity, WaferDesign, synthesize_wafer
from emseg.wafer import load_magc_wafer
from emseg.wafer.annotated_wafer import Wafer
from emseg.wafer.navigation.finder import save_finder
from emseg.wafer.navigation.training import PLAN, train_finder

SIDE, MOST_BLACK = 1280, 240  # pixels, of a wafer and of its black border
HELD_OUT = 0.6  # columns of the MagC wafer from here on are never looked at
SEED = 20


def synthetic_wafers() -> list[Wafer]:
    """Return three wafers of each tissue on each background."""
    wafers = []
    kinds = itertools.product(range(3), TISSUES, BACKGROUNDS)
    for number, (turn, tissue, background) in enumerate(kinds):
        rng = np.random.default_rng((SEED, number))
        length = rng.uniform(56, 72) / math.sqrt({"scn": 0.72, "zebrafish": 0.56}[tissue])
        severity = Severity() if turn == 0 else None
        design = WaferDesign(SIDE, SIDE, length, tissue=tissue, background=background, severity=severity)
        made = synthesize_wafer(design, seed=SEED + number, name=f"{tissue}-{background}-{turn}")
        wafers.append(with_border(made.image, made.truth, rng))
    return wafers


def with_border(image: np.ndarray, truth: WaferSections, rng: np.random.Generator) -> Wafer:
    """Return a wafer within a black border in steps, as the fields of a mosaic leave it."""
    top, bottom, left, right = (int(side) for side in rng.integers(0, MOST_BLACK, 4))
    image = np.pad(image, ((top, bottom), (left, right)))
    shift = np.array([top, left])
    sections = tuple(
        dataclasses.replace(one, polygon=one.polygon + shift, more_parts=tuple(part + shift for part in one.more_parts))
        for one in truth.sections
    )
    return image, dataclasses.replace(truth, height=image.shape[0], width=image.shape[1], sections=sections)


def left_of_magc() -> Wafer:
    """Return the columns of the MagC wafer that may be looked at, with the sections cut there."""
    image, truth = load_magc_wafer()
    end = round(HELD_OUT * truth.width)
    sections = []
    for one in truth.sections:
        seen = shapely.intersection(one.shape, shapely.box(0, 0, truth.height, end))
        if seen.geom_type == "Polygon" and seen.area > 1:
            sections.append(Section(shapely.get_coordinates(seen.exterior)[:-1], "good"))
    return np.ascontiguousarray(image[:, :end]), WaferSections(
        truth.name, truth.height, end, tuple(sections), SECTION_CLASSES
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--synthetic", action="store_true", help="without the MagC wafer")
    arguments = parser.parse_args()
    wafers = [*synthetic_wafers(), *([] if arguments.synthetic else [left_of_magc()])]
    trained = train_finder(wafers, arguments.out, plan=PLAN.changed(steps=arguments.steps))
    record = {
        **trained.finder.record,
        "data": {**trained.finder.record["data"], "kind": "synthetic" if arguments.synthetic else "real and synthetic"},
        "wafers": {"synthetic": 12, "magc_wafer, columns 0 to 60 %": int(not arguments.synthetic)},
    }
    shipped = dataclasses.replace(trained.finder, template=None, section_size_um=None, record=record)
    path = save_finder(shipped, trained.path)
    content = {"section_size_px": shipped.section_size_px, "class_names": list(shipped.class_names), **record}
    content |= {"sha256": digest_of_file(path), "design": shipped.design.to_dict()}
    write_json(path.with_suffix(".json"), content)
    print(trained.scores, trained.notes, shipped.calibration, path.stat().st_size)
