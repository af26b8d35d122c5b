"""Training a finder on a lab's own wafer: annotated wafers or a COCO folder in, one file out.

    OUT/sections.safetensors   the finder: `emseg.wafer.navigation.finder`
    OUT/tiles                  the tiles, with those that show no section (`emseg.wafer.formats.benchmark_folder`)
    OUT/work                   the training; an interrupted one resumes, a finished one is not repeated

Each wafer is scaled so that its sections have `SECTION_SIZE_PX`, unless they nearly do. The left part of its columns is
trained on, the right part is the validation set (`emseg.wafer.navigation.validation`).
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from emseg import __version__
from emseg.checks import require_number
from emseg.errors import InputError, UsageError
from emseg.files import write_atomically
from emseg.sections import WaferSections
from emseg.wafer.annotated_wafer import Wafer
from emseg.wafer.detector import DetectorDesign, DetectorPlan, build_design, predict_folder, train_detector
from emseg.wafer.detector.detector_plan import SMALL
from emseg.wafer.formats.benchmark_folder import Benchmark, open_benchmark
from emseg.wafer.navigation.finder import SHIPPED, SectionFinder, load_finder, save_finder
from emseg.wafer.navigation.template import SectionTemplate, template_from_annotations
from emseg.wafer.navigation.validation import fit_calibration, validate_on_tiles, validate_on_wafers
from emseg.wafer.splits import TRAIN, VALIDATION
from emseg.wafer.tiles import Tiling
from emseg.wafer.wafer_benchmark import benchmark_from_wafers

SECTION_SIZE_PX = 64.0
NEARLY = 1.2  # sections up to this factor larger or smaller are not scaled
TILING = Tiling(256, 0.5)
PLAN = SMALL.changed(steps=3000, warm_up_steps=100, grey_jitter=0.25)
_SPLITS = ("wafer", "region", "given", "crops")  # of a folder with several, the one that leaks least
_OF_CLASSES = ("fc_cls", "fc_reg", "conv_logits")  # layers with outputs for each class


@dataclass(frozen=True, eq=False)
class TrainedFinder:
    """A finder with its file; `scores` are those of the validation set, `notes` what its user should know."""

    finder: SectionFinder
    path: Path
    scores: Mapping[str, Any]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Data:
    """A benchmark with the split to use; `scale` is the side to which the network scales its images, or None.

    `wafers` at its scale validate between `columns`, as whole images.
    """

    benchmark: Benchmark
    split: str
    section_size_px: float
    section_size_um: float | None = None
    scale: int | None = None
    template: SectionTemplate | None = None
    wafers: tuple[Wafer, ...] = ()
    columns: tuple[float, float] = (0.0, 1.0)


def train_finder(
    source: Sequence[Wafer] | str | Path,
    out: str | Path,
    *,
    design: DetectorDesign | None = None,
    plan: DetectorPlan = PLAN,
    train_share: float = 0.75,
    columns: tuple[float, float] = (0.0, 1.0),
    start_from: str | Path | None = None,
    kind: str = "real",
    progress: bool = True,
) -> TrainedFinder:
    """Train a finder on annotated wafers, or on a COCO folder with its own split, and write it to the folder `out`.

    design        the network; None gives the small Mask R-CNN, or that of `start_from`
    train_share   the left fraction of the columns, to train on; the rest validates
    columns       fractions of the width between which all sections are annotated; nothing else is looked at
    start_from    a finder to start from; layers of classes with other names start anew
    kind          of the images, for the record: real, licensed or synthetic

    Raises `InputError` for data without sections in either part, `UsageError` for a wafer too small to be split.
    """
    out = Path(out)
    start = None if start_from is None else load_finder(start_from, device="cpu")
    if isinstance(source, str | Path):
        data = _folder_data(source)
    else:
        data = _wafer_data(source, out / "tiles", train_share, columns, kind)
    names, notes = data.benchmark.class_names, []
    design = design or DetectorDesign(depth=18, size="small")
    design = dataclasses.replace(start.design if start else design, num_classes=len(names))
    weights = None
    if start is not None:
        weights = _start_weights(start, design, names, plan.seed, out / "start.safetensors")
        if start.class_names != names:
            notes.append(
                f"classes were {', '.join(start.class_names)}, now {', '.join(names)}: their layers start anew"
            )
    plan = plan.changed(scale=data.scale)
    folder, work = data.benchmark.folder, out / "work"
    trained = train_detector(design, plan, folder, data.split, work, start_from=weights, progress=progress)
    detections = predict_folder(trained.model, folder, data.split, scale=plan.scale)
    size = (data.section_size_px, data.section_size_um)
    finder = SectionFinder(trained.model.eval(), design, names, *size, data.template)
    scores, scored = validate_on_tiles(data.benchmark.split(data.split).validation, detections)
    if data.wafers:
        counts, scored = validate_on_wafers(finder, data.wafers, *data.columns)
        scores |= counts
    calibration = fit_calibration(*scored)
    if calibration is None:
        notes.append("the validation set lacks true or false detections, so the score is not calibrated")
    record = {
        "emseg": __version__,
        "data": {"kind": data.benchmark.kind, "fingerprint": data.benchmark.fingerprint, "split": data.split},
        "columns": list(columns),
        "train_share": train_share,
        "n_training_tiles": trained.n_images,
        "plan": plan.settings(),
        "n_parameters": trained.n_parameters,
        "seconds": round(trained.seconds, 1),
        "device": trained.device,
        "start_from": None if start is None else start.digest(),
        "validation": scores,
    }
    finder = dataclasses.replace(finder, calibration=calibration, record=record)
    return TrainedFinder(finder, save_finder(finder, out / SHIPPED), scores, tuple(notes))


def to_network_scale(
    wafer: Wafer, size_px: float
) -> tuple[UInt8[np.ndarray, "scaled_row scaled_column"], WaferSections]:
    """Return a wafer whose sections of `size_px` have `SECTION_SIZE_PX`; the wafer itself where they nearly do."""
    image, sections = wafer
    factor = SECTION_SIZE_PX / size_px
    if 1 / NEARLY <= factor <= NEARLY:
        return image, dataclasses.replace(sections, pixel_size_um=None)
    height, width = (max(round(side * factor), 1) for side in image.shape)
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    by = np.array([height / sections.height, width / sections.width])
    scaled = tuple(
        dataclasses.replace(one, polygon=one.polygon * by, more_parts=tuple(part * by for part in one.more_parts))
        for one in sections.sections
    )
    return image, dataclasses.replace(sections, height=height, width=width, sections=scaled, pixel_size_um=None)


def _wafer_data(
    wafers: Sequence[Wafer], folder: Path, train_share: float, columns: tuple[float, float], kind: str
) -> _Data:
    require_number("train_share", train_share, above=0, below=1)
    if not wafers:
        raise UsageError("a finder needs at least one annotated wafer; none was given.")
    first, end = columns
    border = first + train_share * (end - first)
    seen = [_between(sections, first, end) for _, sections in wafers]
    for part, left, right in ((TRAIN, first, border), (VALIDATION, border, end)):
        if not any(_between(sections, left, right).sections for sections in seen):
            raise InputError(
                f"both parts of a wafer need sections; the columns for {part}, {left:.0%} to {right:.0%} of the width, "
                f"have none of {sum(len(one.sections) for one in seen)}. Annotate more, or move the parts."
            )
    for one in seen:
        if not one.sections:
            raise InputError(f"a wafer to train on needs sections; {one.name} has none. Leave it out.")
    sizes = [_usual_side(section.area_px for section in one.sections) for one in seen]
    scaled = [to_network_scale(wafer, size) for wafer, size in zip(wafers, sizes, strict=True)]
    for image, sections in scaled:
        least = min(image.shape[0], *(round(part * image.shape[1]) for part in (border - first, end - border)))
        if least < TILING.tile:
            raise UsageError(
                f"both parts of a wafer must be {TILING.tile} px wide and high, four sections, at the network's scale; "
                f"{sections.name} has {least} px. Use a larger image, or parts of other widths."
            )
    tiles = benchmark_from_wafers(scaled, folder, tiling=TILING, train_share=train_share, columns=columns, kind=kind)
    known = _usual_side(one.area_px for _, truth in scaled for one in _between(truth, first, end).sections)
    size_um = None if seen[0].pixel_size_um is None else seen[0].pixel_size_um * sizes[0]
    # a section that was drawn without an angle and not by its corners does not say where it begins
    has_corners = all(one.angle_deg is not None or len(one.polygon) == 4 for one in seen[0].sections)
    template = template_from_annotations(wafers[0][0], seen[0]) if has_corners else None
    return _Data(tiles, "region", known, size_um, None, template, tuple(scaled), (border, end))


def _folder_data(folder: str | Path) -> _Data:
    benchmark = open_benchmark(folder)
    split = next((name for name in _SPLITS if name in benchmark.splits), next(iter(benchmark.splits)))
    coco = benchmark.read(split, TRAIN)
    known = _usual_side(one.area_px for one in coco.annotations if not one.crowd)
    factor, size_um = SECTION_SIZE_PX / known, None
    if benchmark.pixel_size_um is not None:
        size_um = benchmark.pixel_size_um * known
    if 1 / NEARLY <= factor <= NEARLY:
        return _Data(benchmark, split, known, size_um)
    sides = {
        max(image.height, image.width) for which in (TRAIN, VALIDATION) for image in benchmark.read(split, which).images
    }
    if len(sides) > 1:
        raise InputError(
            f"images whose sections have {known:.0f} px are scaled to {SECTION_SIZE_PX:g} px, so all must have one "
            f"size; {coco.path} has sides of {min(sides)} to {max(sides)} px. Cut them by `emseg wafer tiles`."
        )
    (side,) = sides
    scale = round(side * factor)
    return _Data(benchmark, split, known * scale / side, size_um, scale=scale)


def _between(sections: WaferSections, first: float, end: float) -> WaferSections:
    """Return the sections with their centre between two fractions of the columns."""
    own = (one for one in sections.sections if first * sections.width <= one.center[1] < end * sections.width)
    return dataclasses.replace(sections, sections=tuple(own))


def _usual_side(areas: Iterable[float]) -> float:
    """Return the side of a square of the median area."""
    return float(np.sqrt(np.median(list(areas))))


def _start_weights(start: SectionFinder, design: DetectorDesign, names: Sequence[str], seed: int, file: Path) -> Path:
    """Write the weights of `start` for other classes: layers with outputs for each class are drawn anew."""
    from safetensors.torch import save

    weights = build_design(design, seed=seed).state_dict()
    same = start.class_names == tuple(names)
    kept = {
        name: value
        for name, value in start.model.state_dict().items()
        if same or not any(f".{layer}." in name for layer in _OF_CLASSES)
    }
    write_atomically(file, save({name: value.contiguous() for name, value in (weights | kept).items()}))
    return file
