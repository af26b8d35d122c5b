"""Far-apart targets share a backward pass; each map is cut from the shared gradient by a cell about its target.

    g = d/dx sum over t in group of sign[k, t] f_t(point_k)          one pass for the group
    map_t += weight_k sign[k, t] g inside the cell of t              nothing outside of it

A cell is the square of `cell_px` pixels on each side of its target, larger where its group leaves room. Two errors are
made: what a map holds outside its cell is lost, and what other targets of the group hold inside the cell is added. The
signs, drawn at random for each target and point of the path, make the second kind cancel along the path; a target's
own share keeps its sign. Both errors are none where the networks' receptive fields, box by box, do not overlap:

    box_t and box_u disjoint for all t, u of a group     =>     the packed maps are the exact ones

The receptive field is not needed where the gradients fade earlier: then the cell is the smallest that holds all but
`tolerance` of |map| on average over a sample of targets, and the error is measured on that sample against exact maps.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from emseg.attribution.attribution import PackingError
from emseg.attribution.passes import Box
from emseg.errors import UsageError

AREA_THRESHOLD = 0.01
"""The share of a map's maximum above which a pixel belongs to the field; the U-RISC paper's."""
SEED = 20220  # of the sample and of the signs: the same call gives the same maps


@dataclass(frozen=True)
class PackingOptions:
    """How targets may share backward passes.

    `tolerance` is the share of |map| that may lie outside a cell, on average over `n_sampled` targets, on which the
    error is then measured. `cell_px` names the cell instead: half its side in pixels.
    """

    tolerance: float = 0.1
    n_sampled: int = 4
    cell_px: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < 1:
            raise UsageError(f"`tolerance` must lie between 0 and 1; got {self.tolerance}. 0.1 is the default.")
        if self.n_sampled < 1:
            raise UsageError(f"`n_sampled` must be at least 1, so that the error can be stated; got {self.n_sampled}.")
        if self.cell_px is not None and self.cell_px < 0:
            raise UsageError(f"`cell_px` must be 0 or more pixels; got {self.cell_px}.")


@dataclass(frozen=True, eq=False)
class Packing:
    """Which targets share passes, `groups` of places in the list of targets, and the cell of each target."""

    groups: tuple[tuple[int, ...], ...]
    cells: Int[np.ndarray, "target 4"]
    cell_px: int
    proved: bool


def whole_image(n_targets: int, height: int, width: int) -> Packing:
    """Return the packing that packs nothing: every target alone, its cell the whole image."""
    cells = np.tile(np.array([0, height, 0, width]), (n_targets, 1))
    return Packing(tuple((t,) for t in range(n_targets)), cells, max(height, width), True)


def pack_by_boxes(boxes: Sequence[Box]) -> Packing:
    """Return groups of targets whose receptive fields do not overlap: packed without error."""
    groups: list[list[int]] = []
    edges = np.array(boxes, dtype=np.int64)
    for t, (top, bottom, left, right) in enumerate(boxes):
        for group in groups:
            others = edges[group]
            apart = (others[:, 0] >= bottom) | (others[:, 1] <= top) | (others[:, 2] >= right) | (others[:, 3] <= left)
            if apart.all():
                group.append(t)
                break
        else:
            groups.append([t])
    side = int((edges[:, [1, 3]] - edges[:, [0, 2]]).max())
    return Packing(tuple(map(tuple, groups)), edges, side // 2, True)


def pack_by_distance(targets: Int[np.ndarray, "target 2"], cell_px: int, height: int, width: int) -> Packing:
    """Return groups of targets whose cells do not overlap, cells enlarged to half the way to the nearest neighbour."""
    groups: list[list[int]] = []
    for t, place in enumerate(targets):
        for group in groups:
            if (np.abs(targets[group] - place).max(axis=1) > 2 * cell_px).all():
                group.append(t)
                break
        else:
            groups.append([t])
    cells = np.empty((len(targets), 4), dtype=np.int64)
    for group in groups:
        for t in group:
            distances = np.abs(targets[group] - targets[t]).max(axis=1)
            distances = distances[distances > 0]
            half = (int(distances.min()) - 1) // 2 if len(distances) else max(height, width)
            row, column = targets[t]
            cells[t] = (
                max(0, row - half),
                min(height, row + half + 1),
                max(0, column - half),
                min(width, column + half + 1),
            )
    return Packing(tuple(map(tuple, groups)), cells, cell_px, False)


def draw_signs(n_points: int, n_targets: int) -> Float[np.ndarray, "point target"]:
    """Return +1 or -1 for each point of the path and each target."""
    return np.random.default_rng(SEED).choice(np.array([-1.0, 1.0]), size=(n_points, n_targets))


def draw_sample(n_targets: int, n_sampled: int) -> Int[np.ndarray, " sampled"]:
    """Return places in the list of targets, drawn without repetition and sorted."""
    return np.sort(np.random.default_rng(SEED).choice(n_targets, size=min(n_sampled, n_targets), replace=False))


def smallest_cell(
    maps: Float[np.ndarray, "sampled height width"], targets: Int[np.ndarray, "sampled 2"], tolerance: float
) -> int:
    """Return the smallest distance within which all but `tolerance` of |map| lies, on average over the maps."""
    _, height, width = maps.shape
    inside = np.zeros(max(height, width))
    for one, (row, column) in zip(maps, targets, strict=True):
        weight = np.abs(one, dtype=np.float64)
        distance = np.maximum(np.abs(np.arange(height) - row)[:, None], np.abs(np.arange(width) - column)[None])
        shares = np.bincount(distance.ravel(), weights=weight.ravel(), minlength=len(inside))
        inside += np.cumsum(shares) / max(weight.sum(), np.finfo(float).tiny) / len(maps)
    return int(np.argmax(inside >= min(1 - tolerance, inside[-1])))


def measure_error(
    packed: Float[np.ndarray, "sampled height width"],
    exact: Float[np.ndarray, "sampled height width"],
    sample: Int[np.ndarray, " sampled"],
    packing: Packing,
) -> PackingError:
    """Return what packing changed in the maps of the sample."""
    l1, area = [], []
    for ours, theirs in zip(packed, exact, strict=True):
        total = np.abs(theirs, dtype=np.float64).sum()
        l1.append(np.abs(ours - theirs, dtype=np.float64).sum() / total if total else 0.0)
        pixels = _field_pixels(theirs)
        area.append(_field_pixels(ours) / pixels - 1 if pixels else 0.0)
    return PackingError(packing.cell_px, packing.proved, sample, np.array(l1), np.array(area))


def _field_pixels(one: Float[np.ndarray, "height width"]) -> int:
    return int((one > AREA_THRESHOLD * np.abs(one).max()).sum())
