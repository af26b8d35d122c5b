"""The sums of gradients along the path: portions of targets, of which each shares the forward passes of all points.

for each portion of targets:
    for each portion of points:             one forward pass
        for each group of targets:          one backward pass, added to each target's sum inside its cell
    map = (x - b) * sum
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from emseg.attribution.map_store import MapStore, OpenSums
from emseg.attribution.memory import Portions
from emseg.attribution.packing import Packing, draw_signs
from emseg.attribution.passes import Passes, Seeds
from emseg.attribution.path import PathRule
from emseg.attribution.targets import Plane
from emseg.errors import InputError

Report = Callable[[int], object]
"""Called with the number of backward passes that were made since the last call."""


@dataclass(frozen=True, eq=False)
class PathIntegral:
    """The integral of the gradients of `targets` from `baseline` to `image`."""

    image: Plane
    baseline: Plane
    targets: Int[np.ndarray, "target 2"]
    rule: PathRule
    passes: Passes

    def compute(self, packing: Packing, store: MapStore, portion: Portions, report: Report) -> None:
        """Compute the maps that `store` does not have yet."""
        while store.n_finished < len(self.targets):
            self._compute_portion(packing, store, portion, report)

    def _compute_portion(self, packing: Packing, store: MapStore, portion: Portions, report: Report) -> None:
        """Compute the next targets' maps, going on from the sums that a run left that was stopped."""
        first, begun = store.n_finished, store.open_sums()
        groups = groups_from(packing, first, portion.targets_at_once if begun is None else begun.stop - first)
        places = np.concatenate(groups)
        sums = torch.zeros((len(places), *self.image.shape), device=self.image.device)
        point = 0
        if begun is not None:
            sums.copy_(torch.from_numpy(begun.sums))
            point = begun.n_points
            report(point * len(groups))
        signs = np.ones((len(self.rule), len(self.targets)))
        if not packing.proved:
            signs = draw_signs(*signs.shape)
        while point < len(self.rule):
            stop = min(point + portion.points_at_once, len(self.rule))
            self._add_points(slice(point, stop), groups, packing, signs, sums, report)
            if point == 0:  # a network that gives NaN does so at once, or hardly ever
                _require_finite(sums, self.targets[places])
            point = stop
            if point < len(self.rule):
                store.save_open(lambda n=point: OpenSums(first, first + len(places), n, sums.cpu().numpy()))  # type: ignore[misc]
        _require_finite(sums, self.targets[places])
        store.finish(places, sums.mul_(self.image - self.baseline).cpu().numpy())

    def _add_points(
        self,
        points: slice,
        groups: Sequence[Sequence[int]],
        packing: Packing,
        signs: Float[np.ndarray, "point target"],
        sums: Float[Tensor, "target height width"],
        report: Report,
    ) -> None:
        """Add the gradients at some points of the path: one forward pass, and one backward pass a group."""
        alphas = torch.from_numpy(self.rule.alphas[points]).to(self.image)[:, None, None, None]
        graph = self.passes.forward(self.baseline + alphas * (self.image - self.baseline))
        begin = 0
        for group in groups:
            rows, columns = self.targets[list(group)].T
            seeds = torch.from_numpy(signs[points][:, list(group)]).to(self.image)
            gradient = graph.gradient(Seeds(rows.tolist(), columns.tolist(), seeds))
            for place, target in enumerate(group, start=begin):
                factors = self.rule.weights[points] * signs[points, target]
                gradient.add_to(sums[place], factors, packing.cells[target])
            begin += len(group)
            report(len(alphas))


def groups_from(packing: Packing, first: int, n_targets: int) -> list[tuple[int, ...]]:
    """Return the groups of the `n_targets` targets from place `first` of the order of work on; groups may be cut."""
    groups, begin = [], 0
    for group in packing.groups:
        part = group[max(0, first - begin) : max(0, first + n_targets - begin)]
        if part:
            groups.append(part)
        begin += len(group)
    return groups


def _require_finite(sums: Float[Tensor, "target height width"], targets: Int[np.ndarray, "target 2"]) -> None:
    bad = ~torch.isfinite(sums).flatten(1).all(dim=1).cpu().numpy()
    if bad.any():
        row, column = targets[int(np.flatnonzero(bad)[0])].tolist()
        raise InputError(
            f"The gradients must be finite; those of target (row {row}, column {column}) hold NaN or infinity, and "
            f"so do {int(bad.sum())} of {len(bad)} targets. Look for a square root, logarithm or division at zero in "
            'the network; in "fp16", for numbers past 65,504.'
        )
