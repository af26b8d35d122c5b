"""The section of a wafer as it usually looks, upright: by it all sections get one corner order and an angle to 360.

    T(q) = median over sections of I'(frame_i q),  frame_i refined against T, `_ROUNDS` times

I' is the locally normalized image (`emseg.wafer.navigation.alignment`), frame_i the rotation and shift of section i.
Corner 0 is at the left of the side from corner 0 to 1, which runs along the template's columns.

    template_from_annotations   from one or more sections that a person outlined; magnets and regions come with them
    median_template             from the wafer's own sections; the tissue's first corner is unknown, so all angles
                                share one unknown multiple of 90 degrees
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import cv2
import numpy as np
import shapely
from jaxtyping import Float32, Float64
from numpy.typing import NDArray

from emseg.errors import InputError
from emseg.sections import Section, WaferSections
from emseg.wafer.formats.magc import MagcItem, MagcWafer, side_angle_deg
from emseg.wafer.navigation.alignment import BLUR, Frame, cut, moved, refine, rigid, search
from emseg.wafer.navigation.found import Region
from emseg.wafer.quads import Quad, outline_quad

SIDE_PX = 72.0  # of the template: root of the section's area; smaller sections keep their size
UNORIENTED = (
    "No annotated section was given: corners and angles agree among the sections, but all angles share one unknown "
    "multiple of 90 degrees (see --template)."
)
_MARGIN = 0.08  # of a side, ground around the section
_MOST = 64  # sections of which the median is taken
_ROUNDS = 2
_TURNINGS = 4
_SQUARE = 1.25  # ratio of sides up to which quarter turns are tried


@dataclass(frozen=True, eq=False)
class SectionTemplate:
    """A usual section, in its own pixel grid (row, column).

    image       locally normalized, with a margin of ground
    corners     of the section within `image`
    scale       pixels of the wafer image for one of the template, where it was made
    oriented    whether corner 0 is the tissue's own, as annotated; else only the same one for all sections
    n_sections  of which it is the median
    """

    image: Float32[np.ndarray, "row column"]
    corners: Quad
    scale: float
    oriented: bool
    n_sections: int
    magnet: tuple[float, float] | None = None
    regions: tuple[Region, ...] = ()

    @property
    def side_px(self) -> float:
        """Root of the section's area."""
        return _side_px(self.corners)

    def mirrored(self) -> "SectionTemplate":
        """Return the template as a flipped image shows it, without magnet and regions."""
        corners = self.corners * (1, -1) + (0, self.image.shape[1])
        image = np.ascontiguousarray(self.image[:, ::-1])
        return replace(self, image=image, corners=corners, magnet=None, regions=())

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the template as named arrays, for a file of such; `from_arrays` reads them back."""
        known = {"scale": self.scale, "oriented": self.oriented, "n_sections": self.n_sections}
        magnet = () if self.magnet is None else self.magnet
        arrays = {"image": self.image, "corners": self.corners, "magnet": np.array(magnet, dtype=np.float64)}
        arrays |= {name: np.array(value, dtype=np.float64) for name, value in known.items()}
        return arrays | {f"{region.kind}.{place}": region.points for place, region in enumerate(self.regions)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "SectionTemplate":
        """Return the template that `arrays` describes."""
        named = sorted((name for name in arrays if "." in name), key=lambda name: int(name.split(".")[1]))
        regions = tuple(Region("roi" if name.startswith("roi") else "focus", arrays[name]) for name in named)
        point = arrays["magnet"]
        magnet = (float(point[0]), float(point[1])) if len(point) else None
        scale, oriented, n_sections = float(arrays["scale"]), bool(arrays["oriented"]), int(arrays["n_sections"])
        return cls(arrays["image"], arrays["corners"], scale, oriented, n_sections, magnet, regions)


def template_from_annotations(
    image: NDArray[Any],
    wafer: WaferSections,
    *,
    magnets: Mapping[int, tuple[float, float]] | None = None,
    regions: Mapping[int, Sequence[Region]] | None = None,
) -> SectionTemplate:
    """Return the template of the annotated sections of an image; those of class "good" where there are any.

    Side 0 is the one along the section's angle, or the first of its outline where that is unknown. `magnets` and
    `regions` are those of sections by their place in `wafer.sections` (see `parts_of_magc`): the template has the
    median magnet, and the regions of one section. Raises `InputError` where there is no section.
    """
    good = [place for place, one in enumerate(wafer.sections) if one.label == "good"]
    chosen = _spread(good or list(range(len(wafer.sections))))
    if not chosen:
        raise InputError(f"a template needs at least one annotated section; {wafer.name} has none. Outline one.")
    quads = np.array([_annotated_quad(wafer.sections[place]) for place in chosen])
    template, frames = _median(image, quads, oriented=True)
    to_template = {place: np.linalg.inv(frame) for place, frame in zip(chosen, frames, strict=True)}
    placed = [moved(to_template[k], np.array([point]))[0] for k, point in (magnets or {}).items() if k in to_template]
    if placed:
        row, column = np.median(placed, axis=0)
        template = replace(template, magnet=(float(row), float(column)))
    for place in [place for place in chosen if regions and regions.get(place)][:1]:
        drawn = tuple(Region(one.kind, moved(to_template[place], one.points)) for one in (regions or {})[place])
        template = replace(template, regions=drawn)
    return template


def median_template(image: NDArray[Any], quads: Float64[np.ndarray, "section 4 2"]) -> SectionTemplate:
    """Return the median of a wafer's own sections, turned by multiples of 90 degrees until they are most alike.

    `quads` run clockwise, as `outline_quad` gives them. Those of sections that are not nearly square are turned by
    180 degrees alone. Side 0 is a long one.
    """
    quads = quads[_spread(list(range(len(quads))))]
    sides = np.linalg.norm(np.roll(quads, -1, 1) - quads, axis=2)
    sides = sides[:, :2] + sides[:, 2:]
    quads = np.array([np.roll(quad, -int(k), 0) for quad, k in zip(quads, sides.argmax(1), strict=True)])
    long, short = np.median(sides.max(1)), np.median(sides.min(1))
    turns = (0, 1, 2, 3) if long < _SQUARE * short else (0, 2)
    frame_shape, frame_corners, scale = _upright(quads)
    looks = []
    for quad in quads:
        for k in turns:
            frame = rigid(frame_corners, np.roll(quad, -k, 0), scale)
            patch, _ = cut(image, frame, frame_shape, BLUR * _side_px(frame_corners))
            patch = cv2.GaussianBlur(patch, (0, 0), 0.5 * BLUR * _side_px(frame_corners)).ravel()
            looks.append((patch - patch.mean()) / max(float(patch.std()), 1e-6))
    look = np.array(looks).reshape(len(quads), len(turns), -1)
    alike = np.einsum("ip,jtp->ijt", look[:, 0], look).max(2).mean(1)
    usual = look[alike.argmax(), 0]
    for _ in range(_TURNINGS):
        turn = (look @ usual).argmax(1)
        usual = np.median(look[np.arange(len(quads)), turn], axis=0)
    turned = np.array([np.roll(quad, -turns[k], 0) for quad, k in zip(quads, turn, strict=True)])
    return _median(image, turned, oriented=False)[0]


def parts_of_magc(
    magc: MagcWafer,
) -> tuple[dict[int, tuple[float, float]], dict[int, list[Region]], Float64[np.ndarray, "landmark 2"] | None]:
    """Return a `.magc` file's magnets and regions by the place of their section, and its landmarks; (row, column)."""
    places = {item.number: place for place, item in enumerate(magc.sections)}
    magnets = {
        places[one.number]: (float(one.location[1]), float(one.location[0]))
        for one in magc.magnets
        if one.location and one.number in places
    }
    regions: dict[int, list[Region]] = {}
    groups: dict[Literal["roi", "focus"], tuple[MagcItem, ...]] = {"roi": magc.rois, "focus": magc.focus}
    for kind, items in groups.items():
        for one in items:
            if one.polygon and one.number in places:
                points = np.array([point[1::-1] for point in one.polygon], dtype=np.float64)
                regions.setdefault(places[one.number], []).append(Region(kind, points))
    landmarks = [one.location[1::-1] for one in magc.landmarks if one.location]
    return magnets, regions, np.array(landmarks, dtype=np.float64) if landmarks else None


def _annotated_quad(section: Section) -> Quad:
    """Return the four corners of an outline, from the side that its angle describes."""
    is_quad = len(section.polygon) == 4
    quad = section.polygon if is_quad else outline_quad(section.polygon)
    if section.angle_deg is None:
        return quad
    off = [abs((side_angle_deg(quad, side) - section.angle_deg + 180) % 360 - 180) for side in range(4)]
    return np.roll(quad, -int(np.argmin(off)), axis=0)


def _median(
    image: NDArray[Any], quads: Float64[np.ndarray, "section 4 2"], *, oriented: bool
) -> tuple[SectionTemplate, list[Frame]]:
    """Return the median of sections whose corners agree in order, and where each lies in the image."""
    shape, corners, scale = _upright(quads)
    side_px = _side_px(corners)
    frames = [rigid(corners, quad, scale) for quad in quads]
    for last in [False] * _ROUNDS + [True]:
        usual = np.median([cut(image, frame, shape, BLUR * side_px)[0] for frame in frames], axis=0)
        usual = usual.astype(np.float32)
        if last or len(quads) == 1:
            break
        fits = [refine(search(image, usual, side_px, frame), usual) for frame in frames]
        frames = [frame if fit is None else fit.to_image for frame, fit in zip(frames, fits, strict=True)]
    back = [moved(np.linalg.inv(frame), quad) for frame, quad in zip(frames, quads, strict=True)]
    return SectionTemplate(usual, np.median(back, axis=0), scale, oriented, len(quads)), frames


def _upright(quads: Float64[np.ndarray, "section 4 2"]) -> tuple[tuple[int, int], Quad, float]:
    """Return the shape of a template of quads, the mean quad in it and its scale."""
    usual = quads[0]
    for _ in range(3):
        usual = np.mean([moved(rigid(quad, usual), quad) for quad in quads], axis=0)
    scale = max(_side_px(usual) / SIDE_PX, 1.0)
    down, right = usual[1] - usual[0]
    length = np.hypot(down, right)
    upright = usual @ np.array([(right, down), (-down, right)]) / (length * scale)
    margin = _MARGIN * _side_px(upright)
    upright = upright - upright.min(0) + margin
    rows, columns = np.ceil(upright.max(0) + margin).astype(int)
    return (int(rows), int(columns)), upright, float(scale)


def _side_px(quad: Quad) -> float:
    return float(np.sqrt(shapely.Polygon(quad).area))


def _spread(places: list[int]) -> list[int]:
    """Return at most `_MOST` of places, evenly."""
    step = max(len(places) / _MOST, 1.0)
    return [places[int(k * step)] for k in range(min(len(places), _MOST))]
