"""Integrated gradients of each target in the window that holds all it can see: the whole image's map in less time.

A window that covers the network's reach about a target, and lies on the network's grid, gives the target the score and
the gradient that it has in the whole image. Windows are small, so that several points of the path share a pass, with
torch's own backward pass: little in such a window is zero. Where the network sees more than the image, the image it is.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from chapters.attribution_fields.kept_maps import WindowMaps, code_digest, load_maps, save_maps
from emseg.attribution.attribution import Attribution
from emseg.attribution.integrated_gradients import attribute_pixels
from emseg.attribution.map_store import digest_of_array, digest_of_network
from emseg.attribution.path import Quadrature
from emseg.files import digest_of, find_root
from emseg.membrane.networks import NetworkDesign, build_network
from emseg.tiling.receptive_field import theoretical_receptive_field

POINTS_AT_ONCE = 8
"""Measured on one core with a window of 112 px: 8 points at once take 0.65 of the time of 8 points one by one."""
_CODE = tuple(
    f"attribution/{name}.py"
    for name in ("integrated_gradients", "kept_maps", "passes", "path", "path_integral", "window_integral")
)


@dataclass(frozen=True)
class IntegralOptions:
    """How the maps are computed: points of the path, rule of the integral, and what the path starts from.

    With `reach`, how far the network sees in px, and its `stride`, each target is attributed in a window that holds all
    it can see. Without, in the whole image. `folder` keeps finished maps; None keeps none.
    """

    n_steps: int = 100
    quadrature: Quadrature = "riemann_right"
    baseline: float = 0.0
    reach: int | None = None
    stride: int = 1
    folder: Path | None = None

    def attribute(
        self,
        network: nn.Module,
        image: NDArray[np.float32],
        targets: NDArray[np.int64],
        baseline: NDArray[np.float32] | None = None,
    ) -> Attribution:
        """Return the exact integrated gradients of some pixels."""
        start = np.full_like(image, self.baseline) if baseline is None else baseline
        path = None if self.folder is None else self.folder / self._file_name(network, image, targets, start)
        found = None if path is None else load_maps(path)
        if found is None:
            found = self._compute(network, image, targets, start)
            if path is not None:
                save_maps(path, found)
        return Attribution(
            maps=found.in_image((image.shape[0], image.shape[1])),
            targets=np.asarray(targets),
            scores=found.scores,
            baseline_scores=found.baseline_scores,
            quadrature=self.quadrature,
            n_steps=self.n_steps,
        )

    def _compute(
        self, network: nn.Module, image: NDArray[np.float32], targets: NDArray[np.int64], start: NDArray[np.float32]
    ) -> WindowMaps:
        if self.reach is None or min(image.shape) <= 2 * self.reach:
            found = attribute_pixels(
                network, image, targets, baseline=start, n_steps=self.n_steps, quadrature=self.quadrature
            )
            boxes = np.tile(np.array([0, image.shape[0], 0, image.shape[1]], dtype=np.int64), (len(targets), 1))
            return WindowMaps(boxes, tuple(found.maps), found.scores, found.baseline_scores)
        boxes, parts = np.empty((len(targets), 4), dtype=np.int64), []
        for box, target in zip(boxes, targets, strict=True):
            window, corner = visible_window(image.shape, target, self.reach, self.stride)
            box[:] = window[0].start, window[0].stop, window[1].start, window[1].stop
            parts.append(
                attribute_pixels(
                    network,
                    np.ascontiguousarray(image[window]),
                    (target - corner)[None],
                    baseline=np.ascontiguousarray(start[window]),
                    n_steps=self.n_steps,
                    quadrature=self.quadrature,
                    backward="full",
                    steps_at_once=POINTS_AT_ONCE,
                )
            )
        return WindowMaps(
            boxes,
            tuple(one.maps[0] for one in parts),
            np.array([one.scores[0] for one in parts]),
            np.array([one.baseline_scores[0] for one in parts]),
        )

    def _file_name(
        self, network: nn.Module, image: NDArray[np.float32], targets: NDArray[np.int64], start: NDArray[np.float32]
    ) -> str:
        arrays = [digest_of_array(np.asarray(one)) for one in (image, targets, start)]
        rule = f"{self.n_steps} {self.quadrature} {self.reach} {self.stride}"
        return f"{digest_of(code_digest(*_CODE), torch.__version__, digest_of_network(network), rule, *arrays)}.npz"


def integral_options(
    design: NetworkDesign, n_steps: int, quadrature: Quadrature, work_folder: str | Path | None = None
) -> IntegralOptions:
    """Return the options for networks of a design, which decides how far they see.

    Maps are kept in "maps" below `work_folder`, if one is named; a relative one lies below the project's root.
    """
    network = build_network(design, seed=0).eval()
    field = theoretical_receptive_field(network, stride=network.stride)
    folder = None if work_folder is None else find_root() / work_folder / "maps"  # an absolute one stays what it is
    return IntegralOptions(n_steps, quadrature, reach=field.reach, stride=network.stride, folder=folder)


def visible_window(
    shape: tuple[int, ...], target: NDArray[np.int64], reach: int, stride: int
) -> tuple[tuple[slice, slice], NDArray[np.int64]]:
    """Return the window that holds all pixels within `reach` of a target, on the network's grid, and its corner."""
    top, left = (max(0, (int(place) - reach) // stride * stride) for place in target)
    bottom, right = (
        min(side, -(-(int(place) + reach + 1) // stride) * stride) for side, place in zip(shape, target, strict=True)
    )
    return (slice(top, bottom), slice(left, right)), np.array([top, left], dtype=np.int64)
