"""A template laid over one section: a rotation, a place and the correlation that is left.

    I'(p) = (I - g * I) / sqrt(g * (I - g * I)^2 + e)      local normalization, g a Gaussian of `BLUR` section sides
    maximize over rotation R and shift t:  corr(T(q), I'(R q + t))

The local normalization takes out gradients and seams of the illumination, so that templates and sections of different
greys can be compared. The place is searched for within `REACH` section sides (normalized cross-correlation) and then
refined between pixels by ECC (Evangelidis and Psarakis, IEEE TPAMI 30:1858, 2008).

Places are homogeneous (row, column, 1), continuous; a matrix `to_image` [3, 3] takes the template's to the image's.
"""

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8
from numpy.typing import NDArray

Frame = Float64[np.ndarray, "3 3"]
Patch = Float32[np.ndarray, "row column"]

BLUR = 0.05
REACH = 0.12
FARTHEST = 0.3  # of the template's longer side that a refinement may move a corner; beyond, it has gone astray
_NOISE = 3.0  # grey levels
_CRITERIA = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 50, 1e-4)


@dataclass(frozen=True, eq=False)
class Alignment:
    """Where a template lies in the image, and how well: `correlation` -1 to 1.

    patch, valid   the image around it, normalized, and where that lies within the image
    to_patch       the template's place in the patch as OpenCV has it, (column, row) of pixel centres
    from_patch     the patch's place in the image
    """

    correlation: float
    patch: Patch
    valid: UInt8[np.ndarray, "row column"]
    to_patch: Float32[np.ndarray, "2 3"]
    from_patch: Frame

    @property
    def to_image(self) -> Frame:
        """The template's place in the image."""
        frame: Frame = self.from_patch @ _from_cv(self.to_patch)
        return frame


def rigid(source: Float64[np.ndarray, "point 2"], target: Float64[np.ndarray, "point 2"], scale: float = 1.0) -> Frame:
    """Return the rotation and shift, after scaling by `scale`, that take `source` nearest to `target`."""
    a, b = (points @ np.array([1, 1j]) for points in (source, target))
    turn = np.vdot(a - a.mean(), b - b.mean())
    turn *= scale / max(abs(turn), 1e-12)
    shift = b.mean() - turn * a.mean()
    return np.array([(turn.real, -turn.imag, shift.real), (turn.imag, turn.real, shift.imag), (0.0, 0.0, 1.0)])


def moved(frame: Frame, points: Float64[np.ndarray, "point 2"]) -> Float64[np.ndarray, "point 2"]:
    """Return points (row, column) taken through a frame."""
    there: Float64[np.ndarray, "point 2"] = points @ frame[:2, :2].T + frame[:2, 2]
    return there


def cut(
    image: NDArray[Any], to_image: Frame, shape: tuple[int, int], blur_px: float
) -> tuple[Patch, UInt8[np.ndarray, "row column"]]:
    """Return the image within a frame of `shape`, normalized locally, and 1 where the frame lies within the image."""
    corners = moved(to_image, np.array([(0, 0), (0, shape[1]), shape, (shape[0], 0)], dtype=np.float64))
    low = np.clip(np.floor(corners.min(0)).astype(int) - 2, 0, np.array(image.shape) - 1)
    high = np.clip(np.ceil(corners.max(0)).astype(int) + 2, low + 1, image.shape)
    part: np.ndarray = np.asarray(image[low[0] : high[0], low[1] : high[1]])
    reduction = max(float(np.sqrt(abs(np.linalg.det(to_image[:2, :2])))), 1.0)
    size = np.maximum(np.round(np.array(part.shape) / reduction), 1).astype(int)
    if reduction > 1.0:
        part = cv2.resize(part, (int(size[1]), int(size[0])), interpolation=cv2.INTER_AREA)
    to_part = np.diag([*(size / (high - low)), 1.0]) @ np.array([(1, 0, -low[0]), (0, 1, -low[1]), (0, 0, 1.0)])
    matrix, flags = _to_cv(to_part @ to_image), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    patch = cv2.warpAffine(part.astype(np.float32), matrix, shape[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)
    valid = cv2.warpAffine(np.ones(part.shape, np.uint8), matrix, shape[::-1], flags=flags)
    return normalized(patch, blur_px), valid


def normalized(patch: Patch, blur_px: float) -> Patch:
    """Return a patch without its local mean and divided by its local standard deviation."""
    detail = patch - cv2.GaussianBlur(patch, (0, 0), blur_px)
    even: Patch = detail / np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), blur_px) + np.float32(_NOISE**2))
    return even


def search(image: NDArray[Any], template: Patch, side_px: float, start: Frame) -> Alignment:
    """Return the best shift of a template, to whole pixels of it, within `REACH` of its `side_px` around `start`."""
    pad = round(REACH * side_px)
    inward = np.array([(1, 0, -pad), (0, 1, -pad), (0, 0, 1)], dtype=np.float64)
    shape = (template.shape[0] + 2 * pad, template.shape[1] + 2 * pad)
    patch, valid = cut(image, start @ inward, shape, BLUR * side_px)
    _, match, _, (column, row) = cv2.minMaxLoc(cv2.matchTemplate(patch, template, cv2.TM_CCOEFF_NORMED))
    to_patch = np.array([(1, 0, column), (0, 1, row)], dtype=np.float32)
    return Alignment(match, patch, valid, to_patch, start @ inward)


def refine(found: Alignment, template: Patch, *, affine: bool = False) -> Alignment | None:
    """Return an alignment refined between pixels, None where it goes astray; `affine` also stretches and shears."""
    motion = cv2.MOTION_AFFINE if affine else cv2.MOTION_EUCLIDEAN
    arguments = (found.to_patch.copy(), motion, _CRITERIA, found.valid, 1)
    try:
        correlation, to_patch = cv2.findTransformECC(template, found.patch, *arguments)
    except cv2.error:  # it does not converge
        return None
    corners = np.array([(x, y, 1) for x in (0, template.shape[1]) for y in (0, template.shape[0])])
    farthest = np.linalg.norm(corners @ (to_patch - found.to_patch).T, axis=1).max()
    if not farthest < FARTHEST * max(template.shape):
        return None
    return replace(found, correlation=correlation, to_patch=to_patch)


def _to_cv(frame: Frame) -> Float64[np.ndarray, "2 3"]:
    """Return a frame as OpenCV has it: (column, row) of pixel centres."""
    flipped = frame[:2, :2][::-1, ::-1]
    return np.column_stack([flipped, frame[:2, 2][::-1] + flipped @ [0.5, 0.5] - 0.5])


def _from_cv(matrix: NDArray[Any]) -> Frame:
    flipped = matrix[:, :2].astype(np.float64)
    shift = matrix[:, 2] - flipped @ [0.5, 0.5] + 0.5
    return np.vstack([np.column_stack([flipped[::-1, ::-1], shift[::-1]]), (0.0, 0.0, 1.0)])
