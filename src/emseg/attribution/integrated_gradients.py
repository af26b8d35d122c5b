"""Integrated gradients of pixels within one window of the image: the path, its quadrature, and where maps are gathered.

    map_t = (x - b) * integral over alpha in [0, 1] of grad f_t(b + alpha (x - b))
          ~ (x - b) * sum over k of weight_k grad f_t(b + alpha_k (x - b))

x, b    image and baseline, [channel, height, width]; maps are summed over the channels
alpha   [point] where on the path the gradient is taken;  weight  [point] its part of the integral

The points of the path are the same for all targets t of a window, so each costs one forward pass, and one backward pass
for each target. The rules are captum's, name by name, so that maps can be compared pixel by pixel. "riemann_right", the
default and the U-RISC authors' choice, uses the image itself and not the baseline. "riemann_trapezoid" spreads n points
over [0, 1] but gives them the weights of n intervals where there are n - 1: its weights sum to 1 - 1/n.

A folder that keeps the maps of a run lets a killed one resume, with the same bits:

    settings.json   all that the maps depend on, with what the network returned for the image: another call is refused
    plan.json       the windows, and how gradients are computed in them
    maps.npy        [target, height, width] float32, zero outside of the windows
    progress.json   how many targets are finished, in the order of the plan, and the scores
    open.npz        sums of gradients of the targets in work, and the next point of the path

Source: Sundararajan, Taly, Yan 2017, equations 1 and 3; captum 0.9, `captum/attr/_utils/approximation_methods.py`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int

from emseg.attribution.inputs import SAME_SCORE, Calling, Image, Points
from emseg.attribution.windowed import Box, TorchPass, WindowedPass
from emseg.checks import changes_between, require_count, require_one_of
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
    """Maps and scores, zero where nothing was written: in memory, or in a `folder`, where a killed run resumes.

    `settings` are what the maps depend on, `answer` some logits of the image, compared up to rounding.
    """

    def __init__(
        self,
        folder: str | Path | None,
        settings: Mapping[str, Any],
        answer: Float[np.ndarray, " pixel"],
        n_targets: int,
        shape: Sequence[int],
    ) -> None:
        self.folder = None if folder is None else Path(folder)
        self.n_finished, self._saved = 0, time.monotonic()
        self.plan: Any = None
        self.scores: Scores = (np.zeros(n_targets), np.zeros(n_targets))
        wanted = (n_targets, *shape)
        if self.folder is None:
            self.maps: Float[np.ndarray, "target height width"] = np.zeros(wanted, dtype=np.float32)
            return
        if self.folder.exists() and not self.folder.is_dir():
            raise UsageError(f"`resume_folder` must be a folder; {self.folder} is a file. Give another.")
        names = ("maps.npy", "settings.json", "progress.json", "plan.json")
        maps_file, settings_file, progress, plan = (self.folder / name for name in names)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if settings_file.exists():
                self._require_same(read_json(settings_file), settings, answer)
            else:
                np.lib.format.open_memmap(maps_file, mode="w+", dtype=np.float32, shape=wanted).flush()
                write_json(settings_file, {**settings, "answer": answer.tolist()})
            self.maps = np.load(maps_file, mmap_mode="r+")
        except (OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"`resume_folder` {self.folder} cannot be used: {error}. Give another folder.") from error
        if self.maps.shape != wanted or self.maps.dtype != np.float32:
            raise InputError(
                f"{maps_file} must contain float32 maps of shape {list(wanted)}; it contains {self.maps.dtype} of "
                f"shape {list(self.maps.shape)}. Give another `resume_folder`."
            )
        if progress.exists():
            begun: Any = read_json(progress)
            self.n_finished = int(begun["n_finished"])
            self.scores = (np.array(begun["scores"][0]), np.array(begun["scores"][1]))
        self.plan = read_json(plan) if plan.exists() else None

    def _require_same(self, then: Any, now: Mapping[str, Any], answer: Float[np.ndarray, " pixel"]) -> None:
        theirs = np.asarray(then.pop("answer", ()))
        changed = changes_between(then, now)
        scale = float(np.abs(answer).max())
        if not changed and (
            theirs.shape != answer.shape or np.abs(theirs - answer).max() > SAME_SCORE[now["precision"]] * scale
        ):
            changed = ["the network returned other logits for this image"]
        if changed:
            raise InputError(
                f"`resume_folder` {self.folder} belongs to an attribution with other settings: {'; '.join(changed)}. "
                "Use the settings it was begun with, or give another folder."
            )

    def keep_plan(self, plan: Any) -> None:
        """Take the plan, as JSON knows it, so that a run that resumes follows it."""
        self.plan = plan
        if self.folder is not None:
            write_json(self.folder / "plan.json", plan)

    def open_sums(self) -> tuple[int, Float[np.ndarray, "target channel height width"]] | None:
        """Return the next point and the sums of what was in work when a run was stopped, if it is next."""
        path = None if self.folder is None else self.folder / "open.npz"
        if path is None or not path.exists():
            return None
        with np.load(path) as file:
            first, point = (int(n) for n in file["place"])
            return (point, file["sums"]) if first == self.n_finished else None

    def save_open(self, point: int, sums: Float[torch.Tensor, "target channel height width"]) -> None:
        """Write what is in work once `SAVE_EVERY_S` have passed since the last time."""
        if self.folder is not None and time.monotonic() - self._saved >= SAVE_EVERY_S:
            place, kept = np.array([self.n_finished, point]), sums.cpu().numpy()
            write_atomically(self.folder / "open.npz", lambda file: np.savez(file, place=place, sums=kept))
            self._saved = time.monotonic()

    def finish(
        self, places: Sequence[int], box: Box, maps: Float[np.ndarray, "target row column"], scores: Scores
    ) -> None:
        """Take the finished maps of the targets at `places`, which are zero outside of `box`; then, that they are."""
        for place, one in zip(places, maps, strict=True):
            self.maps[place, box[0] : box[1], box[2] : box[3]] = one
        for kept, found in zip(self.scores, scores, strict=True):
            kept[list(places)] = found
        self.n_finished += len(places)
        if self.folder is not None:
            assert isinstance(self.maps, np.memmap)
            self.maps.flush()
            finished = {"n_finished": self.n_finished, "scores": [one.tolist() for one in self.scores]}
            write_json(self.folder / "progress.json", finished)
            (self.folder / "open.npz").unlink(missing_ok=True)
            self._saved = time.monotonic()


def integrate(
    calling: Calling,
    forward: Callable[[Points], TorchPass | WindowedPass],
    image: Image,
    baseline: Image,
    window: tuple[Box, Sequence[int], Int[np.ndarray, "target 2"]],
    rule: PathRule,
    store: MapStore,
    points_at_once: int,
    report: Callable[[int], object],
) -> None:
    """Give `store` the maps of the targets of one `window` (box, places and pixels of the targets).

    Resumes from the sums that a stopped run left. One graph exists at a time.
    """
    (top, bottom, left, right), places, targets = window
    x, b = (one[:, top:bottom, left:right] for one in (image, baseline))
    inside = targets - np.array([top, left])
    with torch.no_grad():
        logits = torch.cat([calling.logits(one[None].clone()) for one in (x, b)])[:, 0].double().cpu().numpy()
    sums, point = torch.zeros((len(targets), *x.shape), device=x.device, dtype=x.dtype), 0
    begun = store.open_sums()
    if begun is not None and begun[1].shape == tuple(sums.shape):
        point = begun[0]
        sums.copy_(torch.from_numpy(begun[1]))
        report(point * len(targets))
    while point < len(rule):
        stop = min(point + points_at_once, len(rule))
        alphas, weights = (torch.from_numpy(one[point:stop]).to(x) for one in (rule.alphas, rule.weights))
        graph = forward(b + alphas[:, None, None, None] * (x - b))
        for total, (row, column) in zip(sums, inside.tolist(), strict=True):
            values, (first, last, begin, end) = graph.gradient(row, column)
            total[:, first:last, begin:end] += torch.einsum("p,pchw->chw", weights, values)
            report(len(alphas))
        del graph, values  # before the next is made
        if point == 0:  # a network that gives NaN does so at once, or hardly ever
            _require_finite(sums, targets)
        point = stop
        if point < len(rule):
            store.save_open(point, sums)
    _require_finite(sums, targets)
    rows, columns = inside.T
    maps = sums.mul_(x - b).sum(dim=1).float().cpu().numpy()
    store.finish(places, (top, bottom, left, right), maps, (logits[0, rows, columns], logits[1, rows, columns]))


def _require_finite(
    sums: Float[torch.Tensor, "target channel height width"], targets: Int[np.ndarray, "target 2"]
) -> None:
    bad = ~torch.isfinite(sums).flatten(1).all(dim=1).cpu().numpy()
    if bad.any():
        row, column = targets[int(np.flatnonzero(bad)[0])].tolist()
        raise InputError(
            f"The gradients must be finite; those of target (row {row}, column {column}) contain NaN or infinity, and "
            f"so do {int(bad.sum())} of {len(bad)} targets. Look for a square root, logarithm or division at zero in "
            'the network; in "fp16", for numbers past 65,504.'
        )
