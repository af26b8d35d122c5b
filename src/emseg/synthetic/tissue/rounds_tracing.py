"""Annotations with errors in them, made from the truth: how a person's rounds of annotation may come about.

    missed     a stretch of membrane is left out: from one junction to the next, at most about 600 nm of it
    spurious   an outline is drawn inside a cell where an organelle may lie, as wide as a membrane
    displaced  lines wander off their place: a smooth random field moves every point

Stretches and places for outlines are put in a random order, u = (place in it + 1/2) / number of stretches, and those
are wrong whose u is below the share asked for; the field of displacements has one shape. So with one seed a better
round holds a part of the errors of a worse one, as if somebody had found the others.

This is a model of ours: its parameters were chosen, not measured on annotators.
"""

from dataclasses import dataclass, fields

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.morphology import skeletonize

from chapters.urisc_dataset.set_statistics import line_width_px
from emseg.errors import InputError, UsageError

ORGANELLE_NM = (90.0, 260.0)
"""Smallest and largest half axis of a spurious outline; those that do not fit inside their cell are drawn smaller."""
LONGEST_STRETCH_NM = 600.0
_JUNCTION = 3  # neighbours on the skeleton from which on a pixel is one
_LIMITS = {"missed": 1.0, "spurious": 1.0, "displacement_nm": 500.0, "displacement_scale_nm": 10_000.0}


@dataclass(frozen=True)
class AnnotationErrors:
    """How much is wrong in an annotation.

    `missed`: share of the stretches of membrane. `spurious`: false outlines for each true stretch, up to 1.
    `displacement_nm`: root mean square distance that lines are moved. `displacement_scale_nm`: distance over which the
    displacement changes.
    """

    missed: float = 0.0
    spurious: float = 0.0
    displacement_nm: float = 0.0
    displacement_scale_nm: float = 250.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value, most = getattr(self, field.name), _LIMITS[field.name]
            if not 0 <= value <= most:
                raise UsageError(f"`{field.name}` must lie in 0 to {most:g}; got {value}.")
        if self.displacement_scale_nm == 0:
            raise UsageError("`displacement_scale_nm` must be positive; got 0.")


@dataclass(frozen=True, eq=False)
class Tracing:
    """A truth taken apart, so that annotations of it can be made quickly; see `trace`.

    `stretches` [height, width]: on membrane the number of the stretch, 1 to `n_stretches`, else 0. `chances`
    [n_stretches + 1]: u of each. `outlines` [n, 5]: row, column, two half axes in px and angle in degrees of each place
    for a spurious outline. `outline_chances` [n]: u of each. `field` [height, width, 2]: displacement (row, column) of
    root mean square length 1 at every point.
    """

    membrane: NDArray[np.bool_]
    pixel_size_nm: float
    line_width_px: float
    stretches: NDArray[np.int32]
    chances: NDArray[np.float64]
    outlines: NDArray[np.float64]
    outline_chances: NDArray[np.float64]
    field: NDArray[np.float32]

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
    """Return a truth taken apart into stretches, with all random numbers drawn; raise `InputError` without membrane."""
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
