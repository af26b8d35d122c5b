"""Integrated gradients of many pixels of one image, sharing all that can be shared.

    map_t = (x - b) * sum over k of weight_k grad f_t(b + alpha_k (x - b))          (emseg.attribution.path)

The points of the path are the same for all targets t, so the forward passes are, too. A loop over targets around a
library's integrated gradients makes T n forward and T n backward passes for T targets and n points; here there are

    n forward and T n backward passes                  packing="none": exact
    n forward and G n backward passes                  packing="auto": targets in G groups (emseg.attribution.packing)

and a backward pass leaves out what cannot differ from zero (emseg.attribution.windowed).

Source: Sundararajan, Taly, Yan 2017, equation 3. Deviation: `packing="auto"` where receptive fields overlap.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NoReturn

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from torch import Tensor, nn
from tqdm import tqdm

from emseg.attribution.attribution import Attribution, PackingError
from emseg.attribution.map_store import FolderStore, MapStore, Setting, digest_of_array, digest_of_network
from emseg.attribution.memory import GraphSize, keep_freed_memory, metering, portions
from emseg.attribution.packing import (
    Packing,
    PackingOptions,
    draw_sample,
    measure_error,
    pack_by_boxes,
    pack_by_distance,
    smallest_cell,
    whole_image,
)
from emseg.attribution.passes import Calling, FullPasses, Passes, Precision
from emseg.attribution.path import Quadrature, path_rule
from emseg.attribution.path_integral import PathIntegral, groups_from
from emseg.attribution.targets import (
    Network,
    Plane,
    distinct_targets,
    frozen,
    require_baseline,
    require_evaluation_mode,
    require_plane,
    require_targets,
)
from emseg.attribution.windowed import WindowedPasses, differs_from_torch
from emseg.errors import InputError, UsageError

Backward = Literal["auto", "windowed", "full"]
PackingName = Literal["none", "auto"]
CHECKED_PX = 256
"""Side of the part of an image on which windowed passes are compared with torch's."""
Maps = Float[np.ndarray, "target height width"]


def attribute_pixels(
    model: Network,
    image: Tensor | ArrayLike,
    targets: ArrayLike | Sequence[tuple[int, int]],
    *,
    baseline: float | Tensor | ArrayLike = 0.0,
    method: str = "integrated_gradients",
    n_steps: int = 100,
    quadrature: Quadrature = "riemann_right",
    packing: PackingName = "none",
    packing_options: PackingOptions | None = None,
    precision: Precision = "fp32",
    backward: Backward = "auto",
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
    method         "integrated_gradients", or one of captum's that `emseg.attribution.captum_methods` names; those take
                   the model, the image, the targets and the baseline, and leave the other options alone
    n_steps        points of the path; `quadrature` names the rule, as captum does
    packing        "none": each target its own backward passes, exact. "auto": far-apart targets share them; exact where
                   their receptive fields do not overlap, otherwise `packing_error` of the result says what it changed
    precision      "fp32", or "bf16" and "fp16" by torch's autocast
    backward       "full": torch's own; "windowed": leaves out zeros; "auto": windowed where it gives torch's gradients
    memory_mib     bound of what is held for graphs and maps; `steps_at_once` bounds the points in one forward pass
    device         where to compute; a module must be there already
    progress       draw a line on a terminal
    resume_folder  keep finished maps there; the same call goes on after it was killed. The maps are then on disk

    Raises UsageError for a request, and InputError for an image or a network, that does not fit.
    """
    if method != "integrated_gradients":
        from emseg.attribution.captum_methods import attribute_with_captum

        if packing != "none" or resume_folder is not None or precision != "fp32":
            raise UsageError(
                f'`packing`, `precision` and `resume_folder` belong to method "integrated_gradients"; got {method!r}.'
            )
        return attribute_with_captum(model, image, targets, method=method, baseline=baseline)
    options = packing_options or PackingOptions()
    if packing not in ("none", "auto"):
        raise UsageError(f'`packing` must be "none" or "auto"; got {packing!r}.')
    if backward not in ("auto", "windowed", "full"):
        raise UsageError(f'`backward` must be "auto", "windowed" or "full"; got {backward!r}.')
    if steps_at_once is not None and steps_at_once < 1:
        raise UsageError(f"`steps_at_once` must be at least 1; got {steps_at_once}.")
    plane = require_plane(image)
    plane = plane.to(_device_of(model, plane, device))
    start = require_baseline(baseline, plane)
    places = require_targets(targets, plane)
    rule = path_rule(quadrature, n_steps)
    calling = Calling(model, precision)
    require_evaluation_mode(model)
    distinct, repeats = distinct_targets(places)
    keep_freed_memory(plane.device)
    with frozen(model):
        scores = calling.scores(plane, distinct)
        baseline_scores = calling.scores(start, distinct)
        passes, graph = _choose_passes(calling, plane, distinct, backward)
        settings: dict[str, Setting] = {
            "network": digest_of_network(model),
            "image": digest_of_array(plane.cpu().numpy()),
            "baseline": digest_of_array(start.cpu().numpy()),
            "targets": digest_of_array(distinct),
            "quadrature": quadrature,
            "n_steps": n_steps,
            "precision": precision,
            "packing": packing if packing == "none" else str(options),
        }
        folder = None if resume_folder is None else Path(resume_folder)
        limits = _Limits(graph, memory_mib, steps_at_once)
        integral = PathIntegral(plane, start, distinct, rule, passes)
        with _drawing(progress) as bar:
            if packing == "auto":
                maps, error = _packed(integral, options, limits, folder, settings, bar)
            else:
                plan = whole_image(len(distinct), *plane.shape)
                maps, error = _compute(integral, plan, limits, folder, settings, bar), None
    _require_some_gradient(maps, scores - baseline_scores)
    if error is not None and len(distinct) < len(places):
        error = replace(error, targets=np.array([int(np.argmax(repeats == t)) for t in error.targets]))
    return Attribution(
        maps=maps if len(distinct) == len(places) else maps[repeats],
        targets=places,
        scores=scores[repeats],
        baseline_scores=baseline_scores[repeats],
        method="integrated_gradients",
        quadrature=quadrature,
        n_steps=n_steps,
        packing=packing,
        packing_error=error,
        precision=precision,
        settings={"backward": "full" if isinstance(passes, FullPasses) else "windowed"},
    )


@dataclass(frozen=True)
class _Limits:
    graph: GraphSize
    memory_mib: float
    steps_at_once: int | None


def _compute(
    integral: PathIntegral,
    packing: Packing,
    limits: _Limits,
    folder: Path | None,
    settings: Mapping[str, Setting],
    bar: "tqdm[NoReturn]",
) -> Maps:
    """Return the maps of all targets, from memory or from `folder`."""
    n_targets, (height, width) = len(integral.targets), integral.image.shape
    portion = portions(
        limits.graph,
        height * width,
        n_targets,
        len(integral.rule),
        limits.memory_mib,
        maps_on_disk=folder is not None,
        steps_at_once=limits.steps_at_once,
        device=integral.image.device,
    )
    store = (
        MapStore(n_targets, height, width)
        if folder is None
        else FolderStore(folder, settings, n_targets, height, width)
    )
    bar.reset(total=len(packing.groups) * len(integral.rule))
    if store.n_finished:
        bar.update(len(groups_from(packing, 0, store.n_finished)) * len(integral.rule))
    integral.compute(packing, store, portion, bar.update)
    return store.maps


def _packed(
    integral: PathIntegral,
    options: PackingOptions,
    limits: _Limits,
    folder: Path | None,
    settings: Mapping[str, Setting],
    bar: "tqdm[NoReturn]",
) -> tuple[Maps, PackingError]:
    """Return the maps of targets that share passes, and what that changed."""
    targets, (height, width) = integral.targets, integral.image.shape
    boxes = integral.passes.boxes(targets)
    if boxes is not None:
        plan = pack_by_boxes(boxes)
        if len(plan.groups) <= max(1, len(targets) // 2):
            nothing = np.zeros(0)
            maps = _compute(integral, plan, limits, folder, settings, bar)
            return maps, PackingError(plan.cell_px, True, nothing.astype(np.int64), nothing, nothing)
    sample = draw_sample(len(targets), options.n_sampled)
    sampled = replace(integral, targets=targets[sample])
    alone = whole_image(len(sample), height, width)
    exact = _compute(sampled, alone, limits, folder and folder / "sample", {**settings, "sample": str(sample)}, bar)
    cell = options.cell_px if options.cell_px is not None else smallest_cell(exact, targets[sample], options.tolerance)
    plan = pack_by_distance(targets, cell, height, width)
    maps = _compute(integral, plan, limits, folder, settings, bar)
    return maps, measure_error(maps[sample], exact, sample, plan)


def _choose_passes(
    calling: Calling, image: Plane, targets: Int[np.ndarray, "target 2"], backward: Backward
) -> tuple[Passes, GraphSize]:
    """Return the way to run the network that `backward` names, and how much memory a point takes."""
    if backward != "full":
        reason = _reason_against_windows(calling, image, targets)
        if reason is None:
            windowed = WindowedPasses(calling, image.device)
            return windowed, windowed.measure(image)
        if backward == "windowed":
            raise UsageError(
                f'`backward="windowed"` does not suit this network: {reason}. Use "auto", which takes torch\'s passes.'
            )
    with metering(calling.network) as meter:
        FullPasses(calling).forward(image[None, None])
    return FullPasses(calling), meter.size


def _reason_against_windows(calling: Calling, image: Plane, targets: Int[np.ndarray, "target 2"]) -> str | None:
    """Return why windowed passes do not give torch's gradients, None where they do, as far as two targets tell.

    The comparison is made on a part of a large image, for torch's graph takes much memory there; where the network does
    not take that size, on all of it.
    """
    top, left = np.clip(targets[0] - CHECKED_PX // 2, 0, np.maximum(np.array(image.shape) - CHECKED_PX, 0))
    part = image[top : top + CHECKED_PX, left : left + CHECKED_PX]
    middle = np.array([[part.shape[0] // 2, part.shape[1] // 2]])
    inside = np.concatenate([targets[:1] - [top, left], middle])
    try:
        return differs_from_torch(calling, part, inside)
    except (ValueError, RuntimeError):
        if part.shape == image.shape:
            raise
    return differs_from_torch(calling, image, targets[[0, len(targets) // 2]])


def _device_of(model: Network, image: Plane, device: str | torch.device | None) -> torch.device:
    """Return the module's device, or for a function the `device` asked for, or the image's."""
    asked = None if device is None else torch.device(device)
    first = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    if first is None:
        return asked or image.device
    if asked is not None and (asked.type != first.device.type or asked.index not in (None, first.device.index)):
        raise UsageError(
            f"The network's weights are on {first.device}, but `device` is {asked}. "
            f"Move them with network.to({str(asked)!r})."
        )
    return first.device


def _require_some_gradient(maps: Maps, differences: Float[np.ndarray, " target"]) -> None:
    """Refuse maps that are zero everywhere though the scores differ: rounding and sign have gradients, all zero."""
    if differences.any() and not any(one.any() for one in maps):
        raise InputError(
            "The gradient is zero all along the path, though the scores change by up to "
            f"{np.abs(differences).max():.3g}. The network must be differentiable: "
            "look for round, sign, a comparison or an argmax."
        )


@contextmanager
def _drawing(progress: bool) -> Iterator["tqdm[NoReturn]"]:
    """Draw a line on a terminal that counts backward passes."""
    with tqdm(unit="pass", file=sys.stderr, disable=None if progress else True, leave=False) as bar:
        yield bar
