"""Which program's annotations a file holds, by its content: extensions are shared, and changed by hand."""

import re
import zipfile
from pathlib import Path
from typing import Any, Literal

from emseg.errors import InputError
from emseg.files import decoding, read_json

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
}


def kind_of(path: Path) -> Kind:
    """Return the kind of an annotation file; raises `InputError` that says what else it is."""
    with decoding(path, "annotation"), path.open("rb") as file:
        start = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
        is_archive = start.startswith(b"PK") and any(name.endswith(".roi") for name in zipfile.ZipFile(file).namelist())
    if start.startswith(b"Iout") or is_archive:
        return "imagej"
    if re.match(rb"\[[A-Za-z]|[#;]", start):
        return "magc"
    if re.fullmatch(rb"[0-9]+( +[0-9.eE+-]+){4,}\s*", start.split(b"\n")[0] + b"\n"):
        return "yolo"
    if start[:1] in (b"{", b"["):
        document = read_json(path)
        if (kind := json_kind(document)) is not None:
            return kind
    found = next((what for mark, what in _FOREIGN.items() if start.startswith(mark)), "none of them")
    raise InputError(f"{path} must be {', '.join(KINDS.values())}; it is {found}.")


def json_kind(document: Any) -> Kind | None:
    """Return which program wrote a JSON document; None where it is none of those."""
    if isinstance(document, list):
        return "geojson" if document and isinstance(document[0], dict) and "geometry" in document[0] else None
    if not isinstance(document, dict):
        return None
    keys: tuple[tuple[str, Kind], ...] = (("shapes", "labelme"), ("images", "coco"), ("sections", "mass"))
    keys += (("features", "geojson"), ("geometry", "geojson"), ("_via_img_metadata", "via"))
    entries = list(document.values())
    is_via = bool(entries) and all(isinstance(one, dict) and "regions" in one and "filename" in one for one in entries)
    return next((kind for key, kind in keys if key in document), "via" if is_via else None)


def other_kind(document: Any, wanted: Kind) -> str:
    """Return ", it is a labelme file" and the like, where a JSON document is of another kind than `wanted`."""
    kind = json_kind(document)
    return "" if kind in (None, wanted) else f"; it is {KINDS[kind]}"  # type: ignore[index]
