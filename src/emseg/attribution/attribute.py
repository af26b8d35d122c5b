"""Signed maps of what pixels of a segmentation depend on, with as little computing as the network allows.

    completeness_gap[t] = sum over (row, column) of maps[t] - (f_t(x) - f_t(baseline))

f_t is the logit of target t. A loop over T targets around a library's integrated gradients makes T n forward and T n
backward passes of the whole image for n points of the path. Here

    windows    a target is computed in the window that its logit can depend on (`emseg.tiling.receptive_field`), on the
               network's grid, where the network gives it the logit of the whole image; where windows cover more pixels
               than the image, the image is computed once for all targets
    forward    one pass a point serves all targets of a window
    backward   leaves out what is zero for one pixel (`emseg.attribution.windowed`)

Each of the three is checked on the network itself, and left out where it changes the result by more than rounding.

Source: Sundararajan, Taly, Yan 2017, "Axiomatic attribution for deep networks", section 3 and equation 3.
"""

import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import nn
from tqdm import tqdm

from emseg.attribution.inputs import (
    Network,
    Plane,
    frozen,
    require_baseline,
    require_evaluation_mode,
    require_plane,
    require_targets,
)
from emseg.attribution.integrated_gradients import FolderStore, MapStore, Setting, WindowIntegral, path_rule
from emseg.attribution.windowed import (
    Box,
    Calling,
    Points,
    Precision,
    TorchPass,
    WindowedPass,
    differs_from_torch,
    union,
)
from emseg.checks import require_count, require_one_of
from emseg.errors import InputError, UsageError
from emseg.files import digest_of_array
from emseg.tiling.inference import device_of
from emseg.tiling.receptive_field import Dependence, measure_dependence

Backward = Literal["auto", "windowed", "full"]
MIB = 2**20
_CHECKED_PX = 128  # side of the part of an image on which gradients are compared and memory is measured
_SMALLEST_WINDOWED = 2**14  # pixels of a window from which leaving out zeros pays for its bookkeeping
_FEWEST_PASSES = 32  # passes back from which it pays for its check
_MOST_TARGETS_AT_ONCE = 256
_PIXELS_AT_ONCE = {"cpu": 2**16, "cuda": 2**22}  # of all points of one pass: small passes wait for calls, not numbers
_SAME_SCORE = {"fp32": 1e-4, "bf16": 0.05, "fp16": 0.02}


@dataclass(frozen=True, eq=False)
class Attribution:
    """Signed maps of the pixels `targets` of one image, and the scores that they explain.

    maps             [target, height, width] float32; positive where the pixel raised the target's logit
    targets          [target, 2] int64, (row, column)
    scores           [target] f(x), float64
    baseline_scores  [target] f(baseline), float64
    method           "integrated_gradients", or the name of another method
    quadrature       rule of the integral, "" for methods without one; `n_steps` points (0 for methods without steps)
    precision        "fp32", "bf16" or "fp16": what the network computed in
    settings         further options of the method, by name

    Methods that promise completeness (integrated gradients, DeepLift, LRP) share the difference of two scores out to
    the pixels, so their gap is the error of the quadrature and of the arithmetic. Of others it is no error.
    """

    maps: Float[np.ndarray, "target height width"]
    targets: Int[np.ndarray, "target 2"]
    scores: Float[np.ndarray, " target"]
    baseline_scores: Float[np.ndarray, " target"]
    method: str = "integrated_gradients"
    quadrature: str = ""
    n_steps: int = 0
    precision: str = "fp32"
    settings: Mapping[str, Setting] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.targets)
        shapes = (self.targets.shape, self.scores.shape, self.baseline_scores.shape)
        if self.maps.ndim != 3 or len(self.maps) != n or shapes != ((n, 2), (n,), (n,)):
            raise UsageError(
                f"`maps` must be [target, height, width], `targets` [target, 2] and both scores [target]; got shapes "
                f"{list(self.maps.shape)}, {', '.join(str(list(shape)) for shape in shapes)}."
            )

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def completeness_gap(self) -> Float[np.ndarray, " target"]:
        """Completeness gap: map sum minus score difference; in logits, float64."""
        return np.asarray(self.maps.sum(axis=(1, 2), dtype=np.float64) - (self.scores - self.baseline_scores))

    @property
    def relative_gap(self) -> Float[np.ndarray, " target"]:
        """|completeness gap| / |f(x) - f(baseline)|; NaN where the two scores are equal."""
        difference = np.abs(self.scores - self.baseline_scores)
        return np.asarray(np.abs(self.completeness_gap) / np.where(difference > 0, difference, np.nan))


def attribute_pixels(
    model: Network,
    image: Any,
    targets: Any,
    *,
    baseline: Any = 0.0,
    method: str = "integrated_gradients",
    n_steps: int = 100,
    quadrature: str = "riemann_right",
    precision: str = "fp32",
    backward: str = "auto",
    memory_mib: float = 4096,
    steps_at_once: int | None = None,
    device: str | torch.device | None = None,
    progress: bool = False,
    resume_folder: str | Path | None = None,
) -> Attribution:
    """Return the integrated gradients of the logits of `targets`, (row, column) pixels of `image`.

    model          torch module in evaluation mode, or a function: [image, 1, height, width] -> logits of that shape
    image          [height, width], or with axes of length 1 before these, on the network's own scale
    baseline       where the path begins: one grey on that scale (0.0: mid-grey of a network of (0.5, 0.5)), or an image
    method         "integrated_gradients", or another of `emseg.attribution.captum_methods`; those take the model, the
                   image, the targets and the baseline, and ignore the other options
    n_steps        points of the path; `quadrature` is the rule, as captum calls it
    precision      "fp32", or "bf16" and "fp16" by torch's autocast
    backward       "full": torch's own; "windowed": leaves out zeros; "auto": windowed where it gives torch's gradients
    memory_mib     bound of graphs and maps; `steps_at_once` bounds the points in one forward pass
    device         where to compute; a module must be there already
    progress       draw a progress bar on a terminal
    resume_folder  keep finished maps there; the same call resumes after it was killed. The maps are then on disk

    Raises UsageError for a request, and InputError for an image or a network, that does not fit.
    """
    if method != "integrated_gradients":
        from emseg.attribution.captum_methods import attribute_with_captum

        if resume_folder is not None or precision != "fp32":
            raise UsageError(
                f'`precision` and `resume_folder` belong to method "integrated_gradients"; got {method!r}.'
            )
        return attribute_with_captum(model, image, targets, method=method, baseline=baseline)
    require_one_of("precision", precision, get_args(Precision))
    require_one_of("backward", backward, get_args(Backward))
    if steps_at_once is not None:
        require_count("steps_at_once", steps_at_once)
    plane = require_plane(image)
    weighted = isinstance(model, nn.Module) and next(model.parameters(), None) is not None
    plane = plane.to(device_of(model, device if weighted or device is not None else plane.device))
    start, places = require_baseline(baseline, plane), require_targets(targets, plane)
    rule = path_rule(quadrature, n_steps)
    require_evaluation_mode(model)
    distinct, repeats = _distinct(places)
    settings: dict[str, Setting] = {
        "network": digest_of_network(model),
        "image": digest_of_array(plane.cpu().numpy()),
        "baseline": digest_of_array(start.cpu().numpy()),
        "targets": digest_of_array(distinct),
        "quadrature": quadrature,
        "n_steps": n_steps,
        "precision": precision,
    }
    n = len(distinct)
    store = MapStore(n, plane.shape) if resume_folder is None else FolderStore(resume_folder, settings, n, plane.shape)
    limits = _Limits(memory_mib * MIB - (0 if resume_folder is not None else 4 * n * plane.numel()), memory_mib)
    if store.n_finished < n:
        calling = Calling(model, precision)  # type: ignore[arg-type]
        with frozen(model), tqdm(unit="pass", file=sys.stderr, disable=None if progress else True, leave=False) as bar:
            bar.reset(total=n * len(rule))
            bar.update(store.n_finished * len(rule))
            if store.plan is None:
                store.keep_plan(_plan(calling, plane, distinct, backward, limits, n * len(rule)))
            _compute(calling, plane, start, distinct, rule, store, limits, steps_at_once, bar)
    differences = store.scores[0] - store.scores[1]
    if differences.any() and not any(one.any() for one in store.maps):
        raise InputError(
            "The gradient is zero all along the path, though the scores change by up to "
            f"{np.abs(differences).max():.3g}. The network must be differentiable: "
            "look for round, sign, a comparison or an argmax."
        )
    return Attribution(
        maps=store.maps if n == len(places) else store.maps[repeats],
        targets=places,
        scores=store.scores[0][repeats],
        baseline_scores=store.scores[1][repeats],
        quadrature=quadrature,
        n_steps=n_steps,
        precision=precision,
        settings={
            "backward": "windowed" if any(one["windowed"] for one in store.plan) else "full",
            "n_windows": len(store.plan),
        },
    )


def mean_over_baselines(
    attribute: Callable[[Any], Attribution], baselines: Float[np.ndarray, "baseline row column"]
) -> Attribution:
    """Return the mean of `attribute(baseline)` over the baselines; maps and the baseline's scores are averaged.

    The mean of complete attributions is complete: it shares out f(x) minus the mean of f(baseline).
    """
    if baselines.ndim != 3 or not len(baselines):
        raise UsageError(f"`baselines` must be [baseline, row, column], at least one; got shape {baselines.shape}.")
    every = [attribute(baseline) for baseline in baselines]
    if len(every) == 1:
        return every[0]
    return replace(
        every[0],
        maps=np.asarray(np.mean([one.maps for one in every], axis=0, dtype=np.float64), dtype=np.float32),
        baseline_scores=np.mean([one.baseline_scores for one in every], axis=0),
        settings={**every[0].settings, "n_baselines": len(every)},
    )


@dataclass(frozen=True)
class _Limits:
    """Bytes for graphs and open maps; `asked_mib` for the message."""

    n_bytes: float
    asked_mib: float


def _compute(
    calling: Calling,
    image: Plane,
    baseline: Plane,
    targets: Int[np.ndarray, "target 2"],
    rule: Any,
    store: MapStore,
    limits: _Limits,
    steps_at_once: int | None,
    bar: Any,
) -> None:
    """Compute the maps that `store` does not have yet, window after window as its plan says."""
    weights: dict[int, Any] = {}

    def windowed(points: Points) -> WindowedPass:
        return WindowedPass(calling, points, weights)

    def full(points: Points) -> TorchPass:
        return TorchPass(calling, points)

    done = 0
    for window in store.plan:
        box, places = window["box"], window["places"]
        n_pixels = _area(box)
        peak = window["bytes_per_pixel"] * n_pixels
        wanted = steps_at_once or max(1, _PIXELS_AT_ONCE.get(image.device.type, 2**22) // n_pixels)
        spare = limits.n_bytes - peak - 8 * n_pixels
        # At most half of what one point leaves goes to further points, so that targets can share forward passes.
        at_once = max(1, min(wanted, len(rule), 1 + int(max(0.0, spare / 2) // max(peak, 1))))
        together = max(1, min(_MOST_TARGETS_AT_ONCE, int((limits.n_bytes - at_once * peak) // (8 * n_pixels))))
        forward = windowed if window["windowed"] else full
        integral = WindowIntegral(calling, forward, image, baseline, tuple(box), rule)
        while places:
            skipped = min(len(places), max(0, store.n_finished - done))
            done, places = done + skipped, places[skipped:]
            begun = store.open_sums()
            part = places[: together if begun is None else begun[0]]
            if part:
                integral.compute(part, targets[part], store, at_once, bar.update)
                done, places = done + len(part), places[len(part) :]


def _plan(
    calling: Calling,
    image: Plane,
    targets: Int[np.ndarray, "target 2"],
    backward: str,
    limits: _Limits,
    n_passes: int,
) -> list[dict[str, Any]]:
    """Return the windows: box, places of their targets, how gradients are computed, memory that a pixel takes."""
    seen = measure_dependence(calling.network, 2 * max(image.shape))
    pixel_bytes = {False: _bytes_per_pixel(calling, image, targets, windowed=False)}
    room = limits.n_bytes / (pixel_bytes[False] + 8)
    worth = backward == "windowed" or (backward == "auto" and n_passes >= _FEWEST_PASSES)
    windows = _windows(calling, image, targets, seen, room, windowed=worth)
    if backward == "windowed" or any(one["windowed"] for one in windows):
        reason = _reason_against_windows(calling, image, targets)
        if reason is not None and backward == "windowed":
            raise UsageError(
                f'`backward="windowed"` does not suit this network: {reason}. Use "auto", which takes torch\'s passes.'
            )
        if reason is not None:
            windows = _windows(calling, image, targets, seen, room, windowed=False)
    for one in windows:
        one["windowed"] = one["windowed"] or backward == "windowed"
        if one["windowed"] not in pixel_bytes:
            pixel_bytes[True] = _bytes_per_pixel(calling, image, targets, windowed=True)
        one["bytes_per_pixel"] = bytes_per_pixel = pixel_bytes[one["windowed"]]
        least = _area(one["box"]) * (bytes_per_pixel + 8)
        if least > limits.n_bytes:
            maps = limits.asked_mib - limits.n_bytes / MIB
            raise UsageError(
                f"`memory_mib` must hold one point of the path and the maps: here {maps + least / MIB:.0f} MiB, of "
                f"which the graph of one forward pass takes {_area(one['box']) * bytes_per_pixel / MIB:.0f} and the "
                f"maps of all targets {maps:.0f}; got {limits.asked_mib:g}. Raise it, crop the image, or give a "
                "`resume_folder`, which keeps the maps on disk."
            )
    return windows


def _area(box: Sequence[int]) -> int:
    return (box[1] - box[0]) * (box[3] - box[2])


def _windows(
    calling: Calling,
    image: Plane,
    targets: Int[np.ndarray, "target 2"],
    seen: Dependence | None,
    room: float,
    *,
    windowed: bool,
) -> list[dict[str, Any]]:
    """Return windows with their targets, which together cost the least; the image itself only if `room` pixels hold it.

    Measured on U-Nets of several sizes, a pass back costs as much as one forward: of the whole window where torch makes
    it, and of what the target depends on where zeros are left out. The latter does not pay in small windows.
    """
    whole = (0, image.shape[0], 0, image.shape[1])
    boxes = [whole if seen is None else seen.window(target, image.shape) for target in targets]

    def leaves_out_zeros(box: Box) -> bool:
        return windowed and _area(box) >= _SMALLEST_WINDOWED

    def cost(box: Box, members: Sequence[int]) -> float:
        if leaves_out_zeros(box):
            return _area(box) + 0.9 * sum(_area(boxes[place]) for place in members)
        return _area(box) * (1.0 + len(members))

    found: list[tuple[Box, list[int]]] = []
    for place, box in enumerate(boxes):
        for number, (other, members) in enumerate(found):
            both, joined = union(box, other), [*members, place]
            if cost(both, joined) <= cost(other, members) + cost(box, [place]):
                found[number] = (both, joined)
                break
        else:
            found.append((box, [place]))
    together = [(whole, list(range(len(targets))))]
    if sum(cost(*one) for one in found) >= 0.9 * cost(*together[0]) and image.numel() <= room:
        found = together
    if found != together and not _give_scores(calling, image, targets, found):
        found = together
    return [{"box": list(box), "places": places, "windowed": leaves_out_zeros(box)} for box, places in found]


def _give_scores(
    calling: Calling, image: Plane, targets: Int[np.ndarray, "target 2"], windows: Sequence[tuple[Box, list[int]]]
) -> bool:
    """Return whether the network gives each target the same logit in its window as in the whole image."""
    with torch.no_grad():
        logits = calling.logits(image[None, None])[0, 0]
        scale = float(logits.abs().max())
        for (top, bottom, left, right), members in windows:
            try:
                part = calling.logits(image[None, None, top:bottom, left:right])[0, 0]
            except (ValueError, RuntimeError):  # a network that refuses the window's size
                return False
            rows, columns = torch.from_numpy(targets[members].T).to(image.device)
            error = (part[rows - top, columns - left] - logits[rows, columns]).abs().max()
            if float(error) > _SAME_SCORE[calling.precision] * scale:
                return False
    return True


def _reason_against_windows(calling: Calling, image: Plane, targets: Int[np.ndarray, "target 2"]) -> str | None:
    """Return why gradients restricted to windows are not torch's, None where they are, on a part of a large image."""

    def compare(part: Plane, place: Int[np.ndarray, " 2"]) -> str | None:
        middle = (part.shape[0] // 2, part.shape[1] // 2)
        return differs_from_torch(calling, part[None, None], [(int(place[0]), int(place[1])), middle])

    reason: str | None = _on_part(compare, image, targets)
    return reason


def _bytes_per_pixel(calling: Calling, image: Plane, targets: Int[np.ndarray, "target 2"], *, windowed: bool) -> float:
    """Return the memory that a pixel of one point takes, measured on a part of a large image."""

    def measure(part: Plane, place: Int[np.ndarray, " 2"]) -> float:
        points = part[None, None]
        graph = WindowedPass(calling, points, {}) if windowed else TorchPass(calling, points, keep=True)
        weights = _storages([*calling.network.parameters()] if isinstance(calling.network, nn.Module) else [])
        kept = {address: size for address, size in _storages(graph.tensors).items() if address not in weights}
        # Besides the graph, a running pass holds about four of the largest maps.
        return (sum(kept.values()) + 4 * max([4 * part.numel(), *kept.values()])) / part.numel()

    n_bytes: float = _on_part(measure, image, targets)
    return n_bytes


def _on_part(call: Callable[[Plane, Any], Any], image: Plane, targets: Int[np.ndarray, "target 2"]) -> Any:
    """Return `call` of a part of a large image and a target in it; of the image if the network refuses the part."""
    corner = np.clip(targets[0] - _CHECKED_PX // 2, 0, np.maximum(np.array(image.shape) - _CHECKED_PX, 0)) // 32 * 32
    part = image[corner[0] :, corner[1] :][:_CHECKED_PX, :_CHECKED_PX]
    if part.shape != image.shape:
        try:
            return call(part, targets[0] - corner)
        except (ValueError, RuntimeError):
            pass
    return call(image, targets[0])


def _storages(tensors: Sequence[torch.Tensor]) -> dict[int, int]:
    storages = [tensor.untyped_storage() for tensor in tensors]
    return {storage.data_ptr(): storage.nbytes() for storage in storages}


def _distinct(
    targets: Int[np.ndarray, "target 2"],
) -> tuple[Int[np.ndarray, "distinct 2"], Int[np.ndarray, " target"]]:
    """Return each target once, in the order of its first coming, and for each target its place among these."""
    distinct, first, place = np.unique(targets, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return distinct[order], np.argsort(order)[place.reshape(-1)]


def digest_of_network(network: Network) -> str:
    """Return a digest of a module's class and weights; a function is known by its name alone."""
    if not isinstance(network, nn.Module):
        return f"function {getattr(network, '__qualname__', type(network).__name__)}"
    digest = hashlib.sha256(repr(network).encode())
    for name, value in network.state_dict().items():
        if isinstance(value, torch.Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
