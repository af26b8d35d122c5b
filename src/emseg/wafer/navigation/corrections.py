"""A person's corrections of a result: decisions of the review sheet, or a file that was edited in another program.

Every section of the file is matched to one of the result, best pair first, by

    overlap (intersection over union) + 0.5 if the file kept the section's number

so that a program may number sections anew, and a section that was moved far keeps its identity where it can. What a
person did not touch stays as it was to the last bit. A section that was moved keeps the order of its corners, its angle
follows its first side, and its magnet and regions move along, unless the file itself contains them (.magc, .mass.json).

Everything a person decided has confidence 1 and no reasons for a look any more.
"""

import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import shapely
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from emseg.checks import CountOrZero, describe, require_number, require_one_of
from emseg.errors import InputError, suggest
from emseg.files import read_json
from emseg.sections import UNSORTED_CLASS
from emseg.wafer.annotated_wafer import drawn_outlines, sections_from_coco
from emseg.wafer.formats.coco import read_coco
from emseg.wafer.formats.magc import MagcWafer, read_magc, side_angle_deg
from emseg.wafer.formats.mass_json import magc_of_mass, read_mass_json
from emseg.wafer.formats.outlines import Outline, OutlineCheck, kind_of
from emseg.wafer.navigation.exports import FOUND, Place, Points, found_digest, open_found, write_wafer
from emseg.wafer.navigation.found import FoundSection, FoundWafer, Region

EARLIER = "earlier"  # the folder of what an import replaced
_MOVED_PX = 0.5  # farthest corner of a section that counts as moved; programs round
_N_SHOWN = 5
_SAME_NUMBER = 0.5
_LEAST_OVERLAP = 0.1


@dataclass(frozen=True, eq=False)
class Edited:
    """A section as the edited file has it; None for what the file leaves out. `known` was found, below the score."""

    outline: Points
    label: str | None = None
    number: int | None = None
    magnet: Place | None = None
    regions: tuple[Region, ...] | None = None
    known: FoundSection | None = None
    is_decided: bool = False


@dataclass(frozen=True, eq=False)
class Edits:
    """The content of an edited file; landmarks and orders (in numbers of the file) are None where it has no place.

    `is_whole`: of a file that has the sections of all classes, whichever the others were written with.
    """

    sections: tuple[Edited, ...]
    landmarks: Points | None = None
    orders: Mapping[str, tuple[int, ...]] | None = None
    dropped: frozenset[int] = frozenset()  # places of candidates that are decided on
    n_rejected: int = 0
    is_whole: bool = False


@dataclass(frozen=True)
class Changes:
    """What a person changed: numbers before, but of added sections those after; `n_reviewed` decisions in all."""

    added: tuple[int, ...] = ()
    removed: tuple[int, ...] = ()
    moved: tuple[tuple[int, float], ...] = ()
    relabelled: tuple[tuple[int, str, str], ...] = ()
    regions: tuple[int, ...] = ()
    others: tuple[str, ...] = ()
    n_reviewed: int = 0

    def sentences(self) -> list[str]:
        """Return the changes in words: the number of each kind and the first few."""
        kinds = {
            "added": [str(number) for number in self.added],
            "removed": [str(number) for number in self.removed],
            "moved": [f"{number} by {px:.1f} px" for number, px in self.moved],
            "relabelled": [f"{number} from {old} to {new}" for number, old, new in self.relabelled],
            "with other regions": [str(number) for number in self.regions],
        }
        lines = []
        for what, listed in kinds.items():
            more = ", ..." if len(listed) > _N_SHOWN else ""
            lines += [f"{len(listed)} {what} ({', '.join(listed[:_N_SHOWN])}{more})"] if listed else []
        lines += [f"other {what}" for what in self.others]
        return lines or ["no changes"]


class _Decision(BaseModel):
    """On a section or a candidate, by its place; on neither: a section that was added."""

    model_config = ConfigDict(extra="forbid", strict=True)

    section: CountOrZero | None = None
    candidate: CountOrZero | None = None
    verdict: Literal["accept", "reject"]
    label: str
    corners_xy: Annotated[list[tuple[float, float]], Field(min_length=4, max_length=4)]


class _Decisions(BaseModel):
    emseg_decisions: Literal[1]
    wafer: str
    digest: str
    decisions: tuple[_Decision, ...]


def minutes_saved(
    n_sections: int, n_reviewed: int, *, by_hand_s: float = 10.0, review_s: float = 3.0, other_min: float = 0.0
) -> float:
    """Return the minutes of human work saved on a wafer; negative where reviewing takes longer than drawing.

    Assumptions, not measurements: 10 s to draw one section by hand in MagFinder (four clicks and a key), 3 s to look at
    one in the review sheet (`review_s`), of which `n_reviewed` need a look. `other_min` is time for all else, such as
    starting the commands; neither counts the computer's time.
    """
    times = {"by_hand_s": by_hand_s, "review_s": review_s, "other_min": other_min}
    counts = {"n_sections": n_sections, "n_reviewed": n_reviewed}
    for name, value in {**counts, **times}.items():
        require_number(name, value, least=0)
    return (n_sections * by_hand_s - n_reviewed * review_s) / 60 - other_min


def import_corrections(
    folder: str | Path, file: str | Path, *, out: str | Path | None = None, class_names: Sequence[str] | None = None
) -> tuple[FoundWafer, Changes, tuple[Path, ...]]:
    """Apply an edited file to the result in `folder` and write all files again; return what came of it.

    They are written to `out`, by default the same folder: then what is replaced is copied to earlier/N/ before.
    `class_names` are the classes that the sections may have, by default those of the result. Raises `InputError` for a
    file of another wafer and for all that is wrong with it; nothing is written then.
    """
    folder, file = Path(folder), Path(file)
    before = open_found(folder)
    found = before.wafer()
    found = replace(found, class_names=tuple(class_names or found.class_names))
    for one in found.sections:
        require_one_of("classes", one.label, found.class_names)
    edits = read_edits(file, found, Path(before.image).name if before.image else f"{found.name}.png")
    after, changes = corrected(found, edits, before.exported_classes)
    out = folder if out is None else Path(out)
    if (out / f"{found.name}{FOUND}").exists():
        kept = next(place for n in range(1, 10**6) if not (place := out / EARLIER / str(n)).exists())
        kept.mkdir(parents=True)
        for path in (out / f"{found.name}{FOUND}", file):
            shutil.copy2(path, kept)
    return after, changes, write_wafer(after, out, image=before.image, classes=before.exported_classes)


def read_edits(path: Path, found: FoundWafer, image_name: str) -> Edits:
    """Return the sections of an edited file of any kind that is written, with what else it contains of the result."""
    document = read_json(path) if path.suffix == ".json" else None
    if isinstance(document, dict) and "emseg_decisions" in document:
        return _decided(path, document, found)
    if isinstance(document, dict) and "emseg_found" in document:
        raise InputError(f"{path} is a result itself. Name decisions of its review sheet, or a file edited elsewhere.")
    kind, size = kind_of(path), (found.height, found.width)
    if kind in ("magc", "mass"):
        magc = read_magc(path) if kind == "magc" else magc_of_mass(read_mass_json(path))
        return _edits_of_magc(path, magc, found)
    check = OutlineCheck()
    if kind == "coco":
        read = sections_from_coco(read_coco(path), image_name, name=found.name)
        named = ((f"section {place} of {path}", one) for place, one in enumerate(read.sections))
        outlines = [Outline(what, [part[:, ::-1] for part in one.parts], one.label) for what, one in named]
        given: Any = (read.height, read.width)
    else:
        drawn = drawn_outlines(path, kind, image_name, size, found.class_names)
        outlines, given = drawn.outlines, drawn.size or size
    if tuple(given) != size:
        raise InputError(
            f"{path} must belong to the image of the result, {size[0]} x {size[1]} px; it is of an image of "
            f"{given[0]} x {given[1]} px. Name the folder that it was written from."
        )
    sections = []
    for one in outlines:
        parts = check.parts(one.what, one.parts, *size, one.fault)
        is_sorted = one.label != UNSORTED_CLASS or UNSORTED_CLASS in found.class_names
        if is_sorted and one.label not in found.class_names:
            check.faults.append(
                f"the class of a section must be one of {', '.join(found.class_names)}; {one.what} is {one.label!r}."
                f"{suggest(one.label, found.class_names)} Correct it, or give all classes (--classes)."
            )
        elif parts:
            whole = max(parts, key=lambda part: float(shapely.Polygon(part).area))
            sections.append(Edited(whole, one.label if is_sorted else None, one.number))
    check.finish(path)
    return Edits(tuple(sections), is_whole=kind == "coco")


def corrected(found: FoundWafer, edits: Edits, exported: Sequence[str] | None = None) -> tuple[FoundWafer, Changes]:
    """Return the result with the edits applied, and what changed.

    Sections of classes that are not among the `exported` were not in the file, so their absence is not a decision.
    Raises `InputError` if the file has sections and none of them is one of the result's.
    """
    every = exported is None or edits.is_whole
    here = [number for number, one in enumerate(found.sections) if every or one.label in (exported or ())]
    pairs = _matched(found, here, edits.sections)
    if edits.sections and here and not pairs:
        raise InputError(
            f"the sections of the file must be those of the wafer {found.name}; not one of {len(edits.sections)} "
            "overlaps one of the result. Name the folder that the file was written from."
        )
    removed = tuple(number for number in here if number not in pairs)
    moved, relabelled, regions = [], [], []
    sections: list[FoundSection] = []
    new: dict[int, int] = {}  # places after the import, by the numbers before
    by_file: dict[int | None, int] = {}  # and by the numbers of the file
    for number, one in enumerate(found.sections):
        if number in removed:
            continue
        new[number], after = len(sections), one
        if edited := pairs.get(number):
            after, px = _updated(one, edited)
            moved += [(number, px)] if px > 0 else []
            relabelled += [(number, one.label, after.label)] if after.label != one.label else []
            regions += [number] if edited.regions is not None and not _same(_held(after), _held(one)) else []
            by_file[number if edited.number is None else edited.number] = len(sections)
        sections.append(after)
    added = tuple(range(len(sections), len(sections) + len(edits.sections) - len(pairs)))
    matched = {id(edited) for edited in pairs.values()}
    for edited in edits.sections:
        if id(edited) not in matched:
            by_file.setdefault(edited.number, len(sections))
            sections.append(_added(edited, found))
    orders, others = {}, []
    for key, order in {"serial_order": found.serial_order, "stage_order": found.stage_order}.items():
        before = [new[one] for one in order or () if one in new]
        given = [by_file[one] for one in (edits.orders or {}).get(key, ()) if one in by_file]
        if [one for one in given if one not in added] != [one for one in before if one in given]:
            others.append(key.replace("_", " "))
        else:
            given = before
        orders[key] = tuple(given) or None
        if given and key == "stage_order":  # which holds all sections
            orders[key] = _inserted(given, [*before, *added], sections)
    landmarks = found.landmarks if edits.landmarks is None or not len(edits.landmarks) else edits.landmarks
    others += [] if _same([landmarks], [found.landmarks]) else ["landmarks"]
    whole = replace(
        found,
        sections=tuple(sections),
        candidates=tuple(one for place, one in enumerate(found.candidates) if place not in edits.dropped),
        serial_order=orders["serial_order"],
        stage_order=orders["stage_order"],
        landmarks=landmarks,
    )
    n_reviewed = sum(one.is_decided for one in edits.sections) + edits.n_rejected
    changes = Changes(added, removed, tuple(moved), tuple(relabelled), tuple(regions), tuple(others), n_reviewed)
    return whole, changes


def _matched(found: FoundWafer, here: Sequence[int], sections: Sequence[Edited]) -> dict[int, Edited]:
    """The edited section of each number of the result that has one: best pairs first."""
    quads = {number: shapely.Polygon(found.sections[number].corners) for number in here}
    numbers, tree = list(quads), shapely.STRtree(list(quads.values()))
    weights = []
    for place, edited in enumerate(sections):
        shape = shapely.Polygon(edited.outline)
        near = {numbers[k] for k in tree.query(shape)}
        near |= {edited.number} if edited.number in quads else set()
        for number in near:
            shared = shape.intersection(quads[number]).area
            overlap = shared / (shape.area + quads[number].area - shared)
            if overlap > _LEAST_OVERLAP or edited.number == number:
                weights.append((overlap + _SAME_NUMBER * (edited.number == number), number, place))
    pairs: dict[int, Edited] = {}
    taken = set()
    for _, number, place in sorted(weights, key=lambda one: (-one[0], one[1:])):
        if number not in pairs and place not in taken:
            pairs[number] = sections[place]
            taken.add(place)
    return pairs


def _updated(one: FoundSection, edited: Edited) -> tuple[FoundSection, float]:
    """The section as a person left it, and how far its farthest corner was moved; 0 where it was not."""
    corners = _aligned(_quad(edited.outline), one.corners)
    px = float(np.linalg.norm(corners - one.corners, axis=1).max())
    after, px = one, px if px > _MOVED_PX else 0.0
    if px:
        design = np.column_stack([one.corners, np.ones(4)])
        move = np.linalg.lstsq(design, corners, rcond=None)[0]
        regions = tuple(Region(part.kind, part.points @ move[:2] + move[2]) for part in one.regions)
        magnet = None if one.magnet is None else tuple(map(float, np.array(one.magnet) @ move[:2] + move[2]))
        angle = None if one.angle_deg is None else side_angle_deg(corners)
        places: Any = {"corners": corners, "outline": edited.outline, "magnet": magnet, "regions": regions}
        after = replace(after, **places, angle_deg=angle, residual=None)
    if edited.regions is not None:
        given = replace(after, regions=edited.regions, magnet=edited.magnet)
        after = after if _same(_held(given), _held(one)) and not px else given
    label = edited.label or one.label
    if label != one.label:
        after = replace(after, label=label, votes={label: 1.0})
    if px or label != one.label or edited.is_decided:
        after = replace(after, confidence=1.0, reasons=())
    return after, px


def _added(edited: Edited, found: FoundWafer) -> FoundSection:
    corners, label = _quad(edited.outline), edited.label
    if label is None:
        counts = Counter(one.label for one in found.sections)
        label = max(found.class_names, key=lambda name: counts[name])
    known: Any = {"confidence": 1.0, "votes": {label: 1.0}, "label": label}
    if edited.known is not None and np.array_equal(edited.outline, edited.known.corners):
        return replace(edited.known, **known, reasons=())
    turned = [_is_clockwise(one.corners) for one in found.sections]
    if turned and _is_clockwise(corners) != (sum(turned) * 2 > len(turned)):
        corners = corners[[0, 3, 2, 1]]
    angle, reasons = (side_angle_deg(corners), ()) if edited.is_decided else (None, ("its direction is unknown",))
    more = known | {"magnet": edited.magnet, "regions": edited.regions or (), "reasons": reasons}
    return FoundSection(corners, edited.outline, score=1.0, angle_deg=angle, **more)


def _quad(outline: Points) -> Points:
    """The four corners of an outline: its own, or those of its smallest rectangle."""
    if len(outline) == 4:
        return outline
    return np.array(shapely.Polygon(outline).minimum_rotated_rectangle.exterior.coords[:4])


def _aligned(corners: Points, like: Points) -> Points:
    """The corners in the order that is nearest to that of `like`, whichever way both lie."""
    wanted = like - like.mean(0)
    ways = [np.roll(way, turn, axis=0) for way, turn in product((corners, corners[::-1]), range(4))]
    return min(ways, key=lambda way: float(np.square(way - way.mean(0) - wanted).sum()))


def _is_clockwise(corners: Points) -> bool:
    return not shapely.LinearRing(corners).is_ccw


def _inserted(order: Sequence[int], added: Sequence[int], sections: Sequence[FoundSection]) -> tuple[int, ...]:
    """The order with each added section where it makes the path least longer."""
    whole, centre = list(order), [one.corners.mean(0) for one in sections]
    for one in added:
        if one not in whole:
            path = np.array([centre[place] for place in whole])
            there = np.linalg.norm(path - centre[one], axis=1)
            between = there[:-1] + there[1:] - np.linalg.norm(np.diff(path, axis=0), axis=1)
            whole.insert(int(np.argmin([there[0], *between, there[-1]])), one)
    return tuple(whole)


def _held(one: FoundSection) -> list[Points | None]:
    """What belongs to a section: its regions of interest, all its focus points, its magnet."""
    focus = [part.points for part in one.regions if part.kind == "focus"]
    rois: list[Points | None] = [part.points for part in one.regions if part.kind == "roi"]
    return [*rois, np.concatenate(focus) if focus else None, None if one.magnet is None else np.array([one.magnet])]


def _same(some: Sequence[Points | None], others: Sequence[Points | None]) -> bool:
    pairs = [
        tuple(np.empty((0, 2)) if one is None else one for one in pair) for pair in zip(some, others, strict=False)
    ]
    return len(some) == len(others) and all(
        one.shape == other.shape and np.allclose(one, other, atol=0.01) for one, other in pairs
    )


def _edits_of_magc(path: Path, magc: MagcWafer, found: FoundWafer) -> Edits:
    held: dict[int, list[Region]] = defaultdict(list)
    for item in sorted(magc.rois, key=lambda one: (one.number, one.place or 0)):
        held[item.number].append(Region("roi", _places(item.polygon)))
    for item in magc.focus:
        held[item.number].append(Region("focus", _places(item.polygon)))
    magnets = {item.number: item.location[::-1] for item in magc.magnets if item.location}
    check, sections = OutlineCheck(), []
    for item in magc.sections:
        what, points = f"section {item.number} of {path}", [_places(item.polygon)[:, ::-1].tolist()]
        if parts := check.parts(what, points, found.height, found.width):
            belongs: Any = {"magnet": magnets.get(item.number), "regions": tuple(held[item.number])}
            sections.append(Edited(parts[0], None, item.number, **belongs))
    check.finish(path)
    orders = {"serial_order": magc.serial_order, "stage_order": magc.stage_order}
    landmarks = _places([item.location for item in magc.landmarks if item.location])
    return Edits(tuple(sections), landmarks, {key: one for key, one in orders.items() if isinstance(one, tuple)})


def _places(points: Any) -> Points:
    """Points (x, y) as places (row, column)."""
    return np.array([point[:2] for point in points or ()], dtype=np.float64).reshape(-1, 2)[:, ::-1]


def _decided(path: Path, document: Any, found: FoundWafer) -> Edits:
    try:
        file = _Decisions.model_validate_json(json.dumps(document))
    except ValidationError as error:
        raise InputError(f"{path} is damaged: {describe(error)} Export the decisions again.") from None
    if (file.wafer, file.digest) != (found.name, found_digest(found)):
        raise InputError(
            f"{path} must be of this result; it is of {file.wafer}, or was made before its sections were changed. "
            "Open the review sheet in the result's folder, and export the decisions there."
        )
    sections = {k: Edited(one.corners, None, k) for k, one in enumerate(found.sections)}
    check, more, n_rejected = OutlineCheck(), [], 0
    for place, one in enumerate(file.decisions):
        what = f"decision {place} of {path}"
        for key, listed in (("section", found.sections), ("candidate", found.candidates)):
            if (number := getattr(one, key)) is not None and number >= len(listed):
                check.faults.append(f"`{key}` must be below {len(listed)}; {what} has {number}.")
        if one.label not in found.class_names:
            check.faults.append(f"the class must be one of {', '.join(found.class_names)}; {what} has {one.label!r}.")
        parts = check.parts(what, [one.corners_xy], found.height, found.width)
        if check.faults or one.verdict == "reject":
            n_rejected += 1
            sections.pop(-1 if one.section is None else one.section, None)
            continue
        known = None if one.candidate is None else found.candidates[one.candidate]
        edited = Edited(parts[0], one.label, one.section, known=known, is_decided=True)
        if one.section is None:
            more.append(edited)
        else:
            sections[one.section] = edited
    check.finish(path)
    dropped = frozenset(one.candidate for one in file.decisions if one.candidate is not None)
    return Edits((*sections.values(), *more), dropped=dropped, n_rejected=n_rejected, is_whole=True)
