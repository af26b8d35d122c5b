"""Annotations with errors, made from the truth: a model of an annotator's rounds.

    missed     a stretch of membrane is left out: from one junction to the next, at most about 600 nm of it
    spurious   an outline as wide as a membrane is drawn inside a cell, where an organelle may be
    displaced  a smooth random field moves every point of the lines

Stretches and outlines are put in a random order, u = (place + 1/2) / number of stretches; those with u below the
requested fraction are wrong, and the displacement field has a fixed shape. With one seed, a better round therefore
contains a subset of the errors of a worse one.

This is a model of ours: its parameters were chosen, not measured on annotators.
"""

from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from skimage.morphology import skeletonize

from chapters.urisc_dataset import line_width_px
from emseg.checks import Fraction, validated
from emseg.errors import InputError

ORGANELLE_NM = (90.0, 260.0)
"""Smallest and largest half axis of a spurious outline; those that do not fit inside their cell are drawn smaller."""
LONGEST_STRETCH_NM = 600.0
_JUNCTION = 3  # a skeleton pixel with at least this many neighbours is a junction


@validated
class AnnotationErrors:
    """How much is wrong in an annotation."""

    missed: Fraction = 0.0  # of the stretches of membrane
    spurious: Fraction = 0.0  # false outlines for each true stretch
    displacement_nm: Annotated[float, Field(ge=0, le=500)] = 0.0  # root mean square displacement of lines
    displacement_scale_nm: Annotated[float, Field(gt=0, le=10_000)] = 250.0  # distance over which it changes


@dataclass(frozen=True, eq=False)
class Tracing:
    """A truth taken apart, so that annotations of it can be made quickly; see `trace`."""

    membrane: NDArray[np.bool_]
    pixel_size_nm: float
    line_width_px: float
    stretches: NDArray[np.int32]  # [height, width]: on membrane the stretch's number, 1 to `n_stretches`, else 0
    chances: NDArray[np.float64]  # [n_stretches + 1]: u of each stretch
    outlines: NDArray[np.float64]  # [n, 5]: row, column, two half axes in px, angle in degrees
    outline_chances: NDArray[np.float64]  # [n]: u of each outline
    field: NDArray[np.float32]  # [height, width, 2]: displacement (row, column) of root mean square length 1

    @property
    def n_stretches(self) -> int:
        """How many stretches of membrane there are."""
        return len(self.chances) - 1

    def annotate(self, errors: AnnotationErrors) -> NDArray[np.bool_]:
        """Return the membrane mask of an annotation with these errors."""
        drawn = self.membrane & (self.chances[self.stretches] >= errors.missed)
        if errors.spurious:
            width = max(round(self.line_width_px), 1)
            canvas = drawn.astype(np.uint8)
            for row, column, first, second, angle in self.outlines[self.outline_chances < errors.spurious]:
                axes = (max(round(first), 1), max(round(second), 1))
                centre = (int(column), int(row))
                cv2.ellipse(canvas, centre, axes, float(angle), 0.0, 360.0, (1.0,), thickness=width)
            drawn = canvas.astype(np.bool_)
        if errors.displacement_nm:
            drawn = _moved(drawn, self.field * np.float32(errors.displacement_nm / self.pixel_size_nm))
        return drawn


def trace(
    membrane: NDArray[np.bool_], pixel_size_nm: float, *, seed: int, displacement_scale_nm: float = 250.0
) -> Tracing:
    """Divide a truth into stretches and draw all random numbers; raises InputError if it has no membrane."""
    if not membrane.any():
        raise InputError("a truth must hold membrane for an annotation of it to have errors; it holds none.")
    generator = np.random.default_rng(seed)
    width_px = line_width_px(membrane)
    stretches, n = _stretches(membrane, max(round(LONGEST_STRETCH_NM / pixel_size_nm), 4))
    chances = np.concatenate([[1.0], (generator.permutation(n) + 0.5) / n])
    outlines = _places_for_outlines(membrane, n, width_px, pixel_size_nm, generator)
    return Tracing(
        membrane=membrane,
        pixel_size_nm=pixel_size_nm,
        line_width_px=width_px,
        stretches=stretches,
        chances=chances,
        outlines=outlines,
        outline_chances=(generator.permutation(len(outlines)) + 0.5) / n,
        field=_unit_field(membrane.shape, displacement_scale_nm / pixel_size_nm, generator),
    )


def _stretches(membrane: NDArray[np.bool_], longest_px: int) -> tuple[NDArray[np.int32], int]:
    """Return, on membrane, the number of the nearest stretch of the skeleton, and how many there are."""
    skeleton: NDArray[np.bool_] = skeletonize(membrane)  # type: ignore[no-untyped-call]
    neighbours = cv2.boxFilter(skeleton.view(np.uint8), -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
    lines = skeleton & (neighbours - 1 < _JUNCTION)
    lines[longest_px // 2 :: longest_px] = False
    lines[:, longest_px // 2 :: longest_px] = False
    if not lines.any():
        lines = skeleton
    _, nearest = cv2.distanceTransformWithLabels(
        (~lines).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_CCOMP
    )
    numbers = np.asarray(nearest, np.int32)
    return np.where(membrane, numbers, 0), int(numbers.max())


def _places_for_outlines(
    membrane: NDArray[np.bool_], n: int, width_px: float, pixel_size_nm: float, generator: np.random.Generator
) -> NDArray[np.float64]:
    room = np.asarray(cv2.distanceTransform((~membrane).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5))
    rows, columns = (generator.integers(0, side, n) for side in membrane.shape)
    smallest, largest = (length / pixel_size_nm for length in ORGANELLE_NM)
    first = generator.uniform(smallest, largest, n)
    slimness, angles = generator.uniform(0.45, 0.9, n), generator.uniform(0.0, 180.0, n)
    first = np.minimum(first, room[rows, columns] - 1.5 * width_px)
    fits = first >= max(1.5 * width_px, 0.4 * smallest)
    outlines = np.stack([rows, columns, first, first * slimness, angles], axis=1)
    return np.asarray(outlines[fits], np.float64)


def _unit_field(shape: tuple[int, ...], scale_px: float, generator: np.random.Generator) -> NDArray[np.float32]:
    """Return a smooth random field [height, width, 2] whose root mean square length is 1."""
    step = max(scale_px / 2.0, 1.0)
    coarse = generator.standard_normal((int(shape[0] / step) + 4, int(shape[1] / step) + 4, 2)).astype(np.float32)
    field = np.asarray(cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC), np.float32)
    return field / np.float32(np.sqrt((field**2).sum(axis=2).mean()))


def _moved(mask: NDArray[np.bool_], field: NDArray[np.float32]) -> NDArray[np.bool_]:
    rows, columns = np.indices(mask.shape, dtype=np.float32)
    moved = cv2.remap(
        mask.view(np.uint8),
        columns + field[:, :, 1],
        rows + field[:, :, 0],
        interpolation=cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(moved).astype(np.bool_)
