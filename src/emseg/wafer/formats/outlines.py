"""What the annotation files of all programs have in common: recognition, and the check of their outlines.

A file is recognized by its content: extensions are shared, and changed by hand. All its outlines are checked at once:

    refuse    one error lists every fault of the file
    repair    an outline that crosses itself becomes the areas that it encloses; what encloses none is left out
    skip      every outline at fault is left out

Both report in a note what they did. Points are (x, y) in pixels, as all these programs write them; a section may have
several parts. Holes are filled: a section is what its outer border encloses.
"""

import re
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import shapely
from jaxtyping import Bool, Float64
from numpy.typing import NDArray

from emseg.checks import require_one_of
from emseg.errors import InputError, suggest
from emseg.files import decoding, read_json
from emseg.sections import UNSORTED_CLASS, Section, WaferSections, as_polygon, require_polygon
from emseg.synthetic.wafer.section_crops import SECTION_CLASSES

Faults = Literal["refuse", "repair", "skip"]
Parts = tuple[Float64[np.ndarray, "_ 2"], ...]
N_SHOWN = 12
FARTHEST_PX = 1e6  # of points from the image's corner; farther ones are mistakes, and drawing them takes memory
ADVICE = (
    "--repair mends outlines, --skip leaves them out (in Python faults='repair', faults='skip'); "
    "`emseg wafer repair` does so for the COCO files of a folder."
)


Kind = Literal["magc", "mass", "labelme", "coco", "via", "geojson", "imagej", "yolo"]
KINDS: dict[Kind, str] = {
    "magc": "a .magc file",
    "mass": "a .mass.json file",
    "labelme": "a labelme file",
    "coco": "a COCO file",
    "via": "a file of VIA",
    "geojson": "a GeoJSON file, as of QuPath",
    "imagej": "an ImageJ ROI file or archive",
    "yolo": "a YOLO label file",
}
_FOREIGN = {
    b"PK\3\4": "a ZIP archive without ImageJ regions. Unpack it and name the annotation file in it",
    b"<": "XML (CVAT, Pascal VOC, Aperio). Export the annotations as COCO",
    b"\x89PNG": "an image. Name the image first, then its annotations",
    b"\xff\xd8\xff": "an image. Name the image first, then its annotations",
    b"II*\0": "an image. Name the image first, then its annotations",
    b"MM\0*": "an image. Name the image first, then its annotations",
    b"\x89HDF": "HDF5 (ilastik, DeepLabCut). Export the annotations as COCO",
    b"\xff\xfe": "UTF-16 text. Save it as UTF-8",
    b"\xfe\xff": "UTF-16 text. Save it as UTF-8",
}
_NUMBER = rb"(?:[0-9.e+-]+|[+-]?(?:nan|inf))"  # whatever `float` reads: what is wrong of it is a fault of its line


@dataclass(frozen=True, eq=False)
class Outline:
    """A section as a file has it: `what` names it in errors, `parts` are lists of points (x, y), or x, y, x, y, ..."""

    what: str
    parts: Sequence[Any]
    label: str = UNSORTED_CLASS
    angle_deg: float | None = None
    serial_number: int | None = None
    fault: str = ""  # why the file's text gives no outline
    number: int | None = None  # of the section in the result that the file was written from
    score: float | None = None


class OutlineCheck:
    """Checks the outlines of one file one after the other; `notes` lists what was mended or left out."""

    def __init__(self, faults: Faults = "refuse") -> None:
        require_one_of("faults", faults, get_args(Faults))
        self.policy, self.faults, self.notes = faults, list[str](), list[str]()

    def parts(self, what: str, given: Any, height: int, width: int, fault: str = "") -> Parts:
        """Return the parts (row, column) of an outline on an image of this size; none where it is at fault."""
        polygons: Parts = ()
        try:
            if fault:
                raise InputError(fault)
            if not isinstance(given, Sequence) or isinstance(given, str) or not len(given):
                raise InputError(f"{what} has no outline: it must be lists of points x1, y1, x2, y2, ....")
            polygons = tuple(_polygon(what, points) for points in given)
            for polygon in polygons:
                require_polygon(polygon, what, height, width)
        except InputError as error:
            if self.policy == "refuse":
                self.faults.append(str(error))
                return ()
            mended = _mended(polygons, height, width) if self.policy == "repair" else ()
            self.notes.append(f"{'repaired' if mended else 'left out'}: {error}")
            return mended
        return polygons

    def finish(self, path: object) -> None:
        """Raise `InputError` with all faults that were found."""
        refuse_faults(path, self.faults, ADVICE)


def refuse_faults(path: object, faults: Sequence[str], advice: str = "") -> None:
    """Raise `InputError` that lists the `faults` of a file, if there are any."""
    if faults:
        more = f" And {len(faults) - N_SHOWN} more." if len(faults) > N_SHOWN else ""
        first = f"{path} has {len(faults)} faults: " if len(faults) > 1 else ""
        raise InputError(f"{first}{' '.join(faults[:N_SHOWN])}{more} {advice}".rstrip())


def wafer_sections(
    outlines: Iterable[Outline],
    path: Path,
    *,
    name: str,
    height: int,
    width: int,
    class_names: Sequence[str] | None = None,
    pixel_size_um: float | None = None,
    faults: Faults = "refuse",
    notes: Iterable[str] = (),
) -> WaferSections:
    """Return the outlines of a file as the sections of a wafer image of this size.

    Without `class_names` the classes are the paper's four if all labels are among them, else the labels in alphabetical
    order. Raises `InputError` with all faults, for a file without sections, and for other classes.
    """
    check, sections, notes = OutlineCheck(faults), [], list(notes)
    for one in outlines:
        if parts := check.parts(one.what, one.parts, height, width, one.fault):
            sections.append(Section(parts[0], one.label, one.angle_deg, one.serial_number, parts[1:]))
        if class_names is not None and not one.fault and one.label not in class_names:
            check.faults.append(
                f"the class of a section must be one of {', '.join(class_names)}; {one.what} is {one.label!r}."
                + suggest(one.label, class_names)
            )
    check.finish(path)
    if not sections:
        instead = "; ".join([*notes, *check.notes][:N_SHOWN])
        raise InputError(
            f"{path} has no section. Draw its outlines first.{f' It was read so: {instead}' * bool(instead)}"
        )
    labels = sorted({section.label for section in sections})
    names = tuple(class_names or (SECTION_CLASSES if set(labels) <= set(SECTION_CLASSES) else labels))
    return WaferSections(name, height, width, tuple(sections), names, pixel_size_um, (*notes, *check.notes))


def outline_of_mask(mask: Bool[np.ndarray, "row column"]) -> list[list[tuple[float, float]]]:
    """Return the parts (x, y) of a mask, as `outline_of_runs` does."""
    changes = np.flatnonzero(np.diff(mask.T.ravel().astype(np.int8), prepend=0, append=0))
    return outline_of_runs(np.diff(changes, prepend=0), len(mask))


def outline_of_runs(runs: NDArray[np.integer[Any]], height: int) -> list[list[tuple[float, float]]]:
    """Return the parts (x, y) of a mask of alternating runs of 0 and 1 down its columns, the first of 0.

    They are the outer borders along the edges of the pixels, so areas are exact but for holes. A run is a
    part of a column, or two with whole columns between; nothing is decoded, and the outline is the union of these.
    """
    ends = np.cumsum(runs)
    boxes = []
    for start, end in zip(ends[0::2].tolist(), ends[1::2].tolist(), strict=False):
        (first, top), (last, bottom) = divmod(start, height), divmod(end, height)
        if first == last:
            boxes.append((first, top, first + 1, bottom))
            continue
        boxes += [(first, top, first + 1, height), (first + 1, 0, last, height), (last, 0, last + 1, bottom)]
    filled = [shapely.box(*box) for box in boxes if box[0] < box[2] and box[1] < box[3]]
    parts = shapely.get_parts(shapely.union_all(filled))
    return [list(part.exterior.coords) for part in parts if part.geom_type == "Polygon"]


def _polygon(what: str, points: Any) -> Float64[np.ndarray, "vertex 2"]:
    try:
        numbers = np.asarray(points, dtype=np.float64)
    except (TypeError, ValueError):
        numbers = np.empty((0, 0))
    if not ((numbers.ndim == 1 and numbers.size % 2 == 0) or (numbers.ndim == 2 and numbers.shape[1] == 2)):
        raise InputError(f"an outline must be points x1, y1, x2, y2, ... of numbers; that of {what} is not.")
    if np.abs(numbers[np.isfinite(numbers)]).max(initial=0) > FARTHEST_PX:
        raise InputError(f"an outline must touch the image; {what} reaches beyond {FARTHEST_PX:g} px.")
    return as_polygon(numbers.reshape(-1, 2)[:, ::-1])


def _mended(polygons: Parts, height: int, width: int) -> Parts:
    usable = [shapely.Polygon(one) for one in polygons if len(one) >= 3 and np.isfinite(one).all()]
    pieces = shapely.get_parts(shapely.get_parts([shapely.make_valid(one) for one in usable]))
    image = shapely.box(0, 0, height, width)
    kept = [one for one in pieces if one.geom_type == "Polygon" and one.area > 0 and one.intersects(image)]
    return tuple(as_polygon(shapely.get_coordinates(one.exterior)) for one in kept)


def number_in(text: object) -> int | None:
    """Return the number in a name that we gave to a section, "section 17" or "good section 17"; None in any other."""
    found = re.search(r"section ([0-9]{1,9})\Z", str(text), re.ASCII)
    return None if found is None else int(found[1])


def kind_of(path: Path) -> Kind:
    """Return the kind of an annotation file; raises `InputError` that describes any other file."""
    with decoding(path, "annotation"), path.open("rb") as file:
        start = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
        is_archive = start.startswith(b"PK") and any(name.endswith(".roi") for name in zipfile.ZipFile(file).namelist())
    if not start:
        raise InputError(f"{path} must contain annotations; the file is empty. Draw outlines, or copy it again.")
    if start.startswith(b"Iout") or is_archive:
        return "imagej"
    if re.match(rb"\[[A-Za-z]|[#;]", start):
        return "magc"
    if re.fullmatch(rb"%s([ \t]+%s){3,}\s*" % (_NUMBER, _NUMBER), start.split(b"\n")[0].lower()):
        return "yolo"
    found = next((what for mark, what in _FOREIGN.items() if start.startswith(mark)), "none of them")
    if start[:1] in (b"{", b"["):
        document = read_json(path)
        if (kind := json_kind(document)) is not None:
            return kind
        task = document[0] if isinstance(document, list) and document else document
        if isinstance(task, dict) and ({"annotations", "data"} <= set(task) or "annotation_id" in task):
            found = "Label Studio's own JSON. Export as COCO"
    raise InputError(f"{path} must be {', '.join(KINDS.values())}; it is {found}.")


def json_kind(document: Any) -> Kind | None:
    """Return which program wrote a JSON document; None where it is none of those."""
    if isinstance(document, list):
        return "geojson" if document and isinstance(document[0], dict) and "geometry" in document[0] else None
    if not isinstance(document, dict):
        return None
    keys: tuple[tuple[str, Kind], ...] = (("shapes", "labelme"), ("images", "coco"), ("sections", "mass"))
    keys += (("features", "geojson"), ("geometry", "geojson"), ("_via_img_metadata", "via"))
    keys += (("coordinates", "geojson"), ("geometries", "geojson"))
    entries = list(document.values())
    is_via = bool(entries) and all(isinstance(one, dict) and "regions" in one and "filename" in one for one in entries)
    return next((kind for key, kind in keys if key in document), "via" if is_via else None)


def other_kind(document: Any, wanted: Kind | None) -> str:
    """Return ", it is a labelme file" and the like, where a JSON document is of another kind than `wanted`."""
    kind = json_kind(document)
    return "" if kind in (None, wanted) else f"; it is {KINDS[kind]}"
