"""Integrated gradients of pixels within one window of the image: the path, its quadrature, and where maps are gathered.

    map_t = (x - b) * integral over alpha in [0, 1] of grad f_t(b + alpha (x - b))
          ~ (x - b) * sum over k of weight_k grad f_t(b + alpha_k (x - b))

x, b    image and baseline, [height, width]
alpha   [point] where on the path the gradient is taken;  weight  [point] its part of the integral

The points of the path are the same for all targets t of a window, so each costs one forward pass, and one backward pass
for each target. The rules are captum's, name by name, so that maps can be compared pixel by pixel. "riemann_right", the
default and the U-RISC authors' choice, uses the image itself and not the baseline. "riemann_trapezoid" spreads n points
over [0, 1] but gives them the weights of n intervals where there are n - 1: its weights sum to 1 - 1/n.

A folder that keeps the maps of a run lets a killed one resume, with the same bits:

    settings.json   all that the maps depend on; another call's folder is refused by name
    plan.json       the windows, and how gradients are computed in them
    maps.npy        [target, height, width] float32, zero outside of the windows
    progress.json   how many targets are finished, in the order of the plan, and the scores
    open.npz        sums of gradients of the targets in work, and the next point of the path

Source: Sundararajan, Taly, Yan 2017, equations 1 and 3; captum 0.9, `captum/attr/_utils/approximation_methods.py`.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int

from emseg.attribution.inputs import Plane
from emseg.attribution.windowed import Box, Calling, Pass, Points
from emseg.checks import require_count, require_one_of
from emseg.errors import InputError, UsageError
from emseg.files import read_json, write_atomically, write_json

Quadrature = Literal["riemann_right", "riemann_left", "riemann_middle", "riemann_trapezoid", "gausslegendre"]
Setting = str | int | float | bool
Scores = tuple[Float[np.ndarray, " target"], Float[np.ndarray, " target"]]
SAVE_EVERY_S = 60.0


@dataclass(frozen=True, eq=False)
class PathRule:
    """Points on the path from 0 (baseline) to 1 (image), and the weights of their gradients."""

    alphas: Float[np.ndarray, " point"]
    weights: Float[np.ndarray, " point"]

    def __len__(self) -> int:
        return len(self.alphas)


def path_rule(quadrature: str, n_steps: int) -> PathRule:
    """Return the points and weights of a rule with `n_steps` points; captum's, to the last bit of float64."""
    require_one_of("quadrature", quadrature, get_args(Quadrature))
    n = require_count("n_steps", n_steps, 1 if quadrature == "gausslegendre" else 2)
    if quadrature == "gausslegendre":
        nodes, weights = np.polynomial.legendre.leggauss(n)
        return PathRule(0.5 * (1 + nodes), 0.5 * weights)
    first, last = {
        "riemann_right": (1 / n, 1.0),
        "riemann_left": (0.0, 1 - 1 / n),
        "riemann_middle": (1 / (2 * n), 1 - 1 / (2 * n)),
        "riemann_trapezoid": (0.0, 1.0),
    }[quadrature]
    weights = np.full(n, 1 / n)
    if quadrature == "riemann_trapezoid":
        weights[[0, -1]] /= 2
    return PathRule(np.linspace(first, last, n), weights)


class MapStore:
    """Maps and scores in memory, zero where nothing was written: nothing is kept for another run."""

    def __init__(self, n_targets: int, shape: Sequence[int]) -> None:
        self.maps: Float[np.ndarray, "target height width"] = np.zeros((n_targets, *shape), dtype=np.float32)
        self.scores: Scores = (np.zeros(n_targets), np.zeros(n_targets))
        self.n_finished = 0
        self.plan: Any = None

    def keep_plan(self, plan: Any) -> None:
        """Take the plan, as JSON knows it."""
        self.plan = plan

    def open_sums(self) -> tuple[int, int, Float[np.ndarray, "target height width"]] | None:
        """Return how many targets were in work, the next point and the sums, where a run was stopped."""
        return None

    def save_open(self, point: int, sums: Callable[[], Float[np.ndarray, "target height width"]]) -> None:
        """Keep what is in work, if it is time."""

    def finish(
        self, places: Sequence[int], box: Box, maps: Float[np.ndarray, "target row column"], scores: Scores
    ) -> None:
        """Take the finished maps of the targets at `places`, which are zero outside of `box`."""
        for place, one in zip(places, maps, strict=True):
            self.maps[place, box[0] : box[1], box[2] : box[3]] = one
        for kept, found in zip(self.scores, scores, strict=True):
            kept[list(places)] = found
        self.n_finished += len(places)


class FolderStore(MapStore):
    """Maps in a folder; `settings` are what they depend on."""

    def __init__(
        self, folder: str | Path, settings: Mapping[str, Setting], n_targets: int, shape: Sequence[int]
    ) -> None:
        self.folder, wanted = Path(folder), (n_targets, *shape)
        if self.folder.exists() and not self.folder.is_dir():
            raise UsageError(f"`resume_folder` must be a folder; {self.folder} is a file. Give another.")
        maps_file, progress, plan = (self.folder / name for name in ("maps.npy", "progress.json", "plan.json"))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not self._is_same(settings):
                np.lib.format.open_memmap(maps_file, mode="w+", dtype=np.float32, shape=wanted).flush()
                write_json(self.folder / "settings.json", dict(settings))
            self.maps = np.load(maps_file, mmap_mode="r+")
        except (OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"`resume_folder` {self.folder} cannot be used: {error}. Give another folder.") from error
        if self.maps.shape != wanted or self.maps.dtype != np.float32:
            raise InputError(
                f"{maps_file} must hold float32 maps of shape {list(wanted)}; it holds {self.maps.dtype} of shape "
                f"{list(self.maps.shape)}. Give another `resume_folder`."
            )
        begun: Any = read_json(progress) if progress.exists() else {"n_finished": 0, "scores": [[0.0] * n_targets] * 2}
        self.n_finished = int(begun["n_finished"])
        self.scores = (np.array(begun["scores"][0]), np.array(begun["scores"][1]))
        self.plan = read_json(plan) if plan.exists() else None
        self._saved = time.monotonic()

    def keep_plan(self, plan: Any) -> None:
        """Write the plan, so that a run that resumes follows it."""
        super().keep_plan(plan)
        write_json(self.folder / "plan.json", plan)

    def open_sums(self) -> tuple[int, int, Float[np.ndarray, "target height width"]] | None:
        """Return what was in work when a run was stopped, if it follows the finished targets."""
        path = self.folder / "open.npz"
        if not path.exists():
            return None
        with np.load(path) as file:
            first, point = (int(n) for n in file["place"])
            return (len(file["sums"]), point, file["sums"]) if first == self.n_finished else None

    def save_open(self, point: int, sums: Callable[[], Float[np.ndarray, "target height width"]]) -> None:
        """Write what is in work once `SAVE_EVERY_S` have passed since the last time."""
        if time.monotonic() - self._saved >= SAVE_EVERY_S:
            place, kept = np.array([self.n_finished, point]), sums()
            write_atomically(self.folder / "open.npz", lambda file: np.savez(file, place=place, sums=kept))
            self._saved = time.monotonic()

    def finish(
        self, places: Sequence[int], box: Box, maps: Float[np.ndarray, "target row column"], scores: Scores
    ) -> None:
        """Write the finished maps, then that they are finished."""
        super().finish(places, box, maps, scores)
        assert isinstance(self.maps, np.memmap)
        self.maps.flush()
        kept = [one.tolist() for one in self.scores]
        write_json(self.folder / "progress.json", {"n_finished": self.n_finished, "scores": kept})
        (self.folder / "open.npz").unlink(missing_ok=True)
        self._saved = time.monotonic()

    def _is_same(self, settings: Mapping[str, Setting]) -> bool:
        """Return whether a run with these settings was begun here; raise InputError where another one was."""
        path = self.folder / "settings.json"
        if not path.exists():
            return False
        then: dict[str, Setting] = json.loads(path.read_text(encoding="utf-8"))
        changed = [
            f"{name} was {then.get(name, 'not given')} and is now {settings.get(name, 'not given')}"
            for name in dict.fromkeys([*then, *settings])
            if then.get(name) != settings.get(name)
        ]
        if changed:
            raise InputError(
                f"`resume_folder` {self.folder} belongs to an attribution with other settings: {'; '.join(changed)}. "
                "Use the settings it was begun with, or give another folder."
            )
        return True


@dataclass(frozen=True, eq=False)
class WindowIntegral:
    """The integral of the gradients of `targets` [target, (row, column)] in `box` of an image and its baseline."""

    calling: Calling
    forward: Callable[[Points], Pass]
    image: Plane
    baseline: Plane
    box: Box
    rule: PathRule

    def compute(
        self,
        places: Sequence[int],
        targets: Int[np.ndarray, "target 2"],
        store: MapStore,
        points_at_once: int,
        report: Callable[[int], object],
    ) -> None:
        """Compute the maps of some targets of this window, resuming from the sums that a stopped run left."""
        top, bottom, left, right = self.box
        x, b = (one[top:bottom, left:right] for one in (self.image, self.baseline))
        inside = targets - np.array([top, left])
        with torch.no_grad():
            logits = self.calling.logits(torch.stack([x, b])[:, None])[:, 0].double().cpu().numpy()
        sums, point = torch.zeros((len(targets), *x.shape), device=x.device), 0
        begun = store.open_sums()
        if begun is not None and begun[2].shape == tuple(sums.shape):
            sums.copy_(torch.from_numpy(begun[2]))
            point = begun[1]
            report(point * len(targets))
        while point < len(self.rule):
            stop = min(point + points_at_once, len(self.rule))
            alphas = torch.from_numpy(self.rule.alphas[point:stop]).to(x)[:, None, None, None]
            weights = torch.from_numpy(self.rule.weights[point:stop]).to(x)
            graph = self.forward(b + alphas * (x - b))
            for total, (row, column) in zip(sums, inside.tolist(), strict=True):
                values, (first, last, begin, end) = graph.gradient(row, column)
                total[first:last, begin:end] += torch.einsum("p,phw->hw", weights, values.to(weights.dtype))
                report(len(alphas))
            if point == 0:  # a network that gives NaN does so at once, or hardly ever
                _require_finite(sums, targets)
            point = stop
            if point < len(self.rule):
                store.save_open(point, lambda: sums.cpu().numpy())
        _require_finite(sums, targets)
        rows, columns = inside.T
        scores = (logits[0, rows, columns], logits[1, rows, columns])
        store.finish(places, self.box, sums.mul_(x - b).cpu().numpy(), scores)


def _require_finite(sums: Float[torch.Tensor, "target height width"], targets: Int[np.ndarray, "target 2"]) -> None:
    bad = ~torch.isfinite(sums).flatten(1).all(dim=1).cpu().numpy()
    if bad.any():
        row, column = targets[int(np.flatnonzero(bad)[0])].tolist()
        raise InputError(
            f"The gradients must be finite; those of target (row {row}, column {column}) hold NaN or infinity, and "
            f"so do {int(bad.sum())} of {len(bad)} targets. Look for a square root, logarithm or division at zero in "
            'the network; in "fp16", for numbers past 65,504.'
        )
