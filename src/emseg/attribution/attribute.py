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
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import nn
from tqdm import tqdm

from emseg.attribution.inputs import (
    SAME_SCORE,
    Calling,
    Image,
    Network,
    Points,
    Precision,
    frozen,
    modules_of,
    require_baseline,
    require_image,
    require_repeatable,
    require_targets,
)
from emseg.attribution.integrated_gradients import MapStore, PathRule, Setting, integrate, path_rule
from emseg.attribution.windowed import Box, TorchPass, WindowedPass, differs_from_torch, union
from emseg.checks import require_count, require_number, require_one_of
from emseg.errors import InputError, UsageError
from emseg.files import digest_of_array
from emseg.tiling.inference import device_of
from emseg.tiling.receptive_field import measure_dependence

Backward = Literal["auto", "windowed", "full"]
MIB = 2**20
_CHECKED_PX = 128  # side of the part of an image on which gradients are compared and memory is measured
_SMALLEST_WINDOWED = 2**14  # pixels of a window from which leaving out zeros pays for its bookkeeping
_FEWEST_PASSES = 32  # passes back from which it pays for its check
_MOST_TARGETS_AT_ONCE = 256
_KEPT_LOGITS = 256  # of the image, in a folder: by these another network or function is recognised
_PIXELS_AT_ONCE = {"cpu": 2**16, "cuda": 2**22}  # of all points of one pass: small passes wait for calls, not numbers


@dataclass(frozen=True, eq=False)
class Attribution:
    """Signed maps of the pixels `targets` of one image, and the scores that they explain.

    maps             [target, height, width] float32, summed over channels; positive where the pixel raised the logit
    targets          [target, 2] int64, (row, column)
    scores           [target] f(x), float64
    baseline_scores  [target] f(baseline), float64
    method           "integrated_gradients", or the name of another method
    quadrature       rule of the integral, "" for methods without one; `n_steps` points (0 for methods without steps)
    precision        "fp32", "bf16" or "fp16": what the network computed in
    settings         further options of the method, by name

    Methods that promise completeness (integrated gradients, DeepLift, LRP) share the difference of two scores out to
    the pixels, so their gap is the error of the quadrature and of the arithmetic. For others it is not an error.
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
    output: str | int | None = None,
    channel: int | None = None,
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

    model          torch module in evaluation mode, or a function: [image, channel, height, width] -> logits
                   [image, 1, height, width]; one with weights in float64 is computed in float64
    image          [height, width] or [channel, height, width], on the network's own scale
    baseline       where the path begins: one grey on that scale (0.0: mid-grey of a network of (0.5, 0.5)), or an image
    output         which of several maps that the network returns, by key or place ("out" of torchvision's networks)
    channel        which channel of that map, where it has several
    method         "integrated_gradients", or another of `emseg.attribution.captum_methods`; those take all of the
                   above, and ignore the options below
    n_steps        points of the path; `quadrature` is the rule, as captum calls it
    precision      "fp32", or "bf16" and "fp16" by torch's autocast
    backward       "full": torch's own; "windowed": leaves out zeros; "auto": windowed where it gives torch's gradients
    memory_mib     bound of graph, gradients and maps, in addition to the network and one pass without gradients
    steps_at_once  most points of the path in one forward pass; one, for a network that takes one image at a time
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
        return attribute_with_captum(
            model, image, targets, method=method, baseline=baseline, output=output, channel=channel
        )
    require_one_of("precision", precision, get_args(Precision))
    require_one_of("backward", backward, get_args(Backward))
    require_number("memory_mib", memory_mib, above=0)
    if steps_at_once is not None:
        require_count("steps_at_once", steps_at_once)
    calling = Calling(model, precision, output, channel)  # type: ignore[arg-type]
    pixels = require_image(image, calling.dtype)
    pixels = pixels.to(device_of(calling, device or (None if [*calling.parameters()] else pixels.device)))
    start, places = require_baseline(baseline, pixels), require_targets(targets, pixels)
    rule = path_rule(quadrature, n_steps)
    _, first, repeats = np.unique(places, axis=0, return_index=True, return_inverse=True)
    distinct, repeats = places[np.sort(first)], np.argsort(np.argsort(first))[repeats.reshape(-1)]
    n, shape = len(distinct), pixels.shape[-2:]
    map_bytes = 0 if resume_folder is not None else 4 * n * shape.numel()
    job = _Job(calling, pixels, start, distinct, rule, memory_mib, memory_mib * MIB - map_bytes)
    logits = job.on_part(lambda part, _: require_repeatable(calling, part))
    settings: dict[str, Setting] = {
        "network": digest_of_network(model),
        "output": repr(output),
        "channel": repr(channel),
        "image": digest_of_array(pixels.cpu().numpy()),
        "baseline": digest_of_array(start.cpu().numpy()),
        "targets": digest_of_array(distinct),
        "quadrature": quadrature,
        "n_steps": n_steps,
        "precision": precision,
    }
    answer = logits.flatten()[:: max(1, logits.numel() // _KEPT_LOGITS)].double().cpu().numpy()
    store = MapStore(resume_folder, settings, answer, n, shape)
    if store.n_finished < n:
        with (
            frozen(calling),
            tqdm(unit="pass", file=sys.stderr, disable=None if progress else True, leave=False) as bar,
        ):
            bar.reset(total=n * len(rule))
            bar.update(store.n_finished * len(rule))
            if store.plan is None:
                store.keep_plan(job.plan(backward))
            job.compute(store, 1 if calling.one_at_a_time else steps_at_once, bar.update)
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


def _area(box: Sequence[int]) -> int:
    return (box[1] - box[0]) * (box[3] - box[2])


@dataclass(frozen=True, eq=False)
class _Job:
    """One request: distinct targets, and how many bytes there are for graphs, sums and gradients."""

    calling: Calling
    image: Image
    baseline: Image
    targets: Int[np.ndarray, "target 2"]
    rule: PathRule
    memory_mib: float
    n_bytes: float

    @property
    def target_bytes(self) -> int:
        """Bytes that a pixel of one target's sums and finished map takes."""
        return self.image.element_size() * len(self.image) + 4

    def compute(self, store: MapStore, steps_at_once: int | None, report: Callable[[int], object]) -> None:
        """Compute the maps that `store` does not have yet, window after window following its plan."""
        weights: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        passes: dict[bool, Callable[[Points], TorchPass | WindowedPass]] = {
            True: partial(WindowedPass, self.calling, weights=weights),
            False: partial(TorchPass, self.calling),
        }
        done = 0
        for window in store.plan:
            box, places = tuple(window["box"]), window["places"]
            n_pixels = _area(box)
            peak, per_target = window["bytes_per_pixel"] * n_pixels, self.target_bytes * n_pixels
            wanted = steps_at_once or max(1, _PIXELS_AT_ONCE.get(self.image.device.type, 2**22) // n_pixels)
            # At most half of what one point leaves goes to further points, so that targets can share forward passes.
            spare = max(0.0, (self.n_bytes - peak - per_target) / 2)
            at_once = max(1, min(wanted, len(self.rule), 1 + int(spare // max(peak, 1))))
            together = max(1, min(_MOST_TARGETS_AT_ONCE, int((self.n_bytes - at_once * peak) // per_target)))
            while places:
                skipped = min(len(places), max(0, store.n_finished - done))
                done, places = done + skipped, places[skipped:]
                begun = store.open_sums()
                part = places[: together if begun is None else len(begun[1])]
                if part:
                    here = (box, part, self.targets[part])
                    call = passes[window["windowed"]]
                    integrate(self.calling, call, self.image, self.baseline, here, self.rule, store, at_once, report)
                    done, places = done + len(part), places[len(part) :]

    def plan(self, backward: str) -> list[dict[str, Any]]:
        """Return the windows: box, places of their targets, how gradients are computed, memory that a pixel takes."""
        shape, n_passes = self.image.shape[-2:], len(self.targets) * len(self.rule)
        full = Calling(self.calling.network, "fp32", self.calling.output, self.calling.channel)
        seen = measure_dependence(full, 2 * max(shape), len(self.image))
        boxes = [(0, shape[0], 0, shape[1]) if seen is None else seen.window(one, shape) for one in self.targets]
        pixel_bytes = {False: self.on_part(partial(self._bytes_per_pixel, windowed=False))}
        fits = shape.numel() * (pixel_bytes[False] + self.target_bytes) <= self.n_bytes
        worth = backward == "windowed" or (backward == "auto" and n_passes >= _FEWEST_PASSES)
        windows = self._windows(boxes, fits, windowed=worth)
        if backward == "windowed" or any(one["windowed"] for one in windows):
            reason = self.on_part(self._reason_against_windows)
            if reason is not None and backward == "windowed":
                raise UsageError(
                    f'`backward="windowed"` does not suit this network: {reason}. '
                    'Use "auto", which takes torch\'s passes.'
                )
            if reason is not None:
                windows = self._windows(boxes, fits, windowed=False)
        for one in windows:
            one["windowed"] = one["windowed"] or backward == "windowed"
            if one["windowed"] not in pixel_bytes:
                pixel_bytes[True] = self.on_part(partial(self._bytes_per_pixel, windowed=True))
            one["bytes_per_pixel"] = n_graph = pixel_bytes[one["windowed"]]
            n_pixels = _area(one["box"])
            if n_pixels * (n_graph + self.target_bytes) > self.n_bytes:
                maps = self.memory_mib - self.n_bytes / MIB
                least = maps + n_pixels * (n_graph + self.target_bytes) / MIB
                raise UsageError(
                    f"`memory_mib` must contain one point of the path and the maps: here {least:.0f} MiB, of which the "
                    f"graph of one forward pass takes {n_pixels * n_graph / MIB:.0f} and the maps of all targets "
                    f"{maps:.0f}; got {self.memory_mib:g}. Raise it, crop the image, or give a `resume_folder`, which "
                    "keeps the maps on disk."
                )
        return windows

    def _windows(self, boxes: Sequence[Box], fits: bool, *, windowed: bool) -> list[dict[str, Any]]:
        """Return windows with their targets, which together cost the least; the image itself only if it `fits`.

        Measured on U-Nets of several sizes, a pass back costs as much as one forward: of the whole window where torch
        makes it, and of what the target depends on where zeros are left out. The latter does not pay in small windows.
        """

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
        height, width = self.image.shape[-2:]
        together = [((0, height, 0, width), list(range(len(boxes))))]
        if (sum(cost(*one) for one in found) >= 0.9 * cost(*together[0]) and fits) or not self._give_scores(found):
            found = together
        return [{"box": list(box), "places": places, "windowed": leaves_out_zeros(box)} for box, places in found]

    def _give_scores(self, windows: Sequence[tuple[Box, list[int]]]) -> bool:
        """Return whether the network gives each target the same logit in its window as in the whole image."""
        with torch.no_grad():
            logits = self.calling.logits(self.image[None].clone())[0, 0]
            for (top, bottom, left, right), members in windows:
                try:
                    part = self.calling.logits(self.image[None, :, top:bottom, left:right].clone())[0, 0]
                except Exception:  # a network that refuses the window's size, by whatever it raises
                    return False
                rows, columns = torch.from_numpy(self.targets[members].T).to(logits.device)
                error = (part[rows - top, columns - left] - logits[rows, columns]).abs().max()
                if float(error) > SAME_SCORE[self.calling.precision] * float(logits.abs().max()):
                    return False
        return True

    def _reason_against_windows(self, part: Image, place: Sequence[int]) -> str | None:
        """Return why gradients restricted to windows are not torch's, None where they are."""
        middle = (part.shape[1] // 2, part.shape[2] // 2)
        return differs_from_torch(self.calling, part[None], [(int(place[0]), int(place[1])), middle])

    def _bytes_per_pixel(self, part: Image, place: Sequence[int], *, windowed: bool) -> float:
        """Return the memory that a pixel of one point takes."""
        points = part[None]
        graph = WindowedPass(self.calling, points, {}) if windowed else TorchPass(self.calling, points, keep=True)
        weights = _storages([*self.calling.parameters()])
        kept = {address: size for address, size in _storages(graph.tensors).items() if address not in weights}
        # Besides the graph, a running pass holds about four of the largest maps, eight where windows are summed.
        return (sum(kept.values()) + (8 if windowed else 4) * max([part.nbytes, *kept.values()])) / part[0].numel()

    def on_part(self, call: Callable[[Image, Any], Any]) -> Any:
        """Return `call` of a part of a large image and a target in it; of the image if the network refuses the part."""
        shape = np.array(self.image.shape[-2:])
        corner = np.clip(self.targets[0] - _CHECKED_PX // 2, 0, np.maximum(shape - _CHECKED_PX, 0)) // 32 * 32
        part = self.image[:, corner[0] :, corner[1] :][:, :_CHECKED_PX, :_CHECKED_PX]
        if part.shape != self.image.shape:
            with suppress(Exception):
                return call(part, self.targets[0] - corner)
        return call(self.image, self.targets[0])


def _storages(tensors: Sequence[torch.Tensor]) -> dict[int, int]:
    storages = [tensor.untyped_storage() for tensor in tensors]
    return {storage.data_ptr(): storage.nbytes() for storage in storages}


def digest_of_network(network: Network) -> str:
    """Return a digest of a module's class and weights; of a function, of its name and of the modules it refers to."""
    name = repr(network) if isinstance(network, nn.Module) else getattr(network, "__qualname__", type(network).__name__)
    digest = hashlib.sha256(name.encode())
    for key, value in (item for module in modules_of(network) for item in module.state_dict().items()):
        if isinstance(value, torch.Tensor):
            digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
