"""Does a map depend on what the network has learnt, and does it point at pixels that matter?

    cascading randomisation   replace the weights of the layers by random ones, from the last layer to the first, and
                              compare each map with the one before any was replaced (Spearman's rank correlation of the
                              absolute values within the pixels that either map reaches)
    deletion                  set pixels to the baseline, the most positive first; the score should fall early
    insertion                 start from the baseline and put pixels back in the same order; it should rise early

A method whose maps do not change with the weights shows the image, and not the network. Deletion and insertion are one
method against another on one network; a random order gives the line to beat.

Sources: Adebayo et al. 2018, "Sanity checks for saliency maps"; Petsiuk, Das, Saenko 2018, RISE. Deviation: random
weights keep each layer's own mean and standard deviation, so that activations stay in range.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Float64
from numpy.typing import NDArray
from torch import Tensor, nn

from emseg.attribution.attribute import Attribution
from emseg.errors import UsageError
from emseg.tiling import device_of


@dataclass(frozen=True)
class Cascade:
    """After each stage, the first with no layer replaced: `n_layers` replaced so far, and how alike the maps are.

    `correlation` [stage, target] is that of absolute values, which share the shape of the receptive field whatever the
    weights; `signed` that of the values themselves.
    """

    correlation: Float64[np.ndarray, "stage target"]
    signed: Float64[np.ndarray, "stage target"]
    n_layers: tuple[int, ...]


def cascading_randomisation(
    network: nn.Module, attribute: Callable[[nn.Module], Attribution], *, n_stages: int = 4, seed: int = 0
) -> Cascade:
    """Return how alike the maps stay while layers are randomised in `n_stages` equal steps, the last layers first.

    The caller's network stays as it is. Layers are those with weights, convolutions and linear ones; normalisations
    are randomised with the layer before them.
    """
    layers = [name for name, module in network.named_modules() if _weights(module) is not None]
    if not layers or not 1 <= n_stages <= len(layers):
        raise UsageError(
            f"`n_stages` must be from 1 to the number of layers with weights, {len(layers)}; got {n_stages}."
        )
    before = attribute(network)
    randomised = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(seed)
    edges = np.linspace(0, len(layers), n_stages + 1).round().astype(int)
    stages = [before.maps]
    for start, stop in pairwise(edges):
        for name in layers[::-1][start:stop]:
            _randomise(randomised.get_submodule(name), generator)
        stages.append(attribute(randomised).maps)
    absolute, signed = (
        np.array(
            [
                [rank_correlation(*pair, signed=with_sign) for pair in zip(before.maps, maps, strict=True)]
                for maps in stages
            ]
        )
        for with_sign in (False, True)
    )
    return Cascade(absolute, signed, tuple(int(edge) for edge in edges))


def _weights(module: nn.Module) -> Tensor | None:
    weight = module._parameters.get("weight")
    return weight if weight is not None and weight.dim() > 1 else None


def _randomise(module: nn.Module, generator: torch.Generator) -> None:
    weight = _weights(module)
    assert weight is not None
    with torch.no_grad():
        draws = torch.randn(weight.shape, generator=generator).to(weight)
        spread = weight.std() if weight.numel() > 1 else weight.abs().mean()
        weight.copy_(weight.mean() + draws * spread)


def rank_correlation(first: NDArray[np.float32], second: NDArray[np.float32], *, signed: bool = False) -> float:
    """Return Spearman's correlation over the pixels where either map is not 0, of absolute values unless `signed`.

    Returns 0 where one of the two is flat.
    """
    from scipy.stats import spearmanr

    reached = (first != 0) | (second != 0)
    values = [one[reached] if signed else np.abs(one[reached]) for one in (first, second)]
    if any(len(one) < 2 or (one == one[0]).all() for one in values):
        return 0.0
    return float(spearmanr(*values).statistic)


@dataclass(frozen=True)
class Curve:
    """Scores [target, point] of targets after `shares` [point] of the pixels were changed."""

    shares: Float64[np.ndarray, " point"]
    scores: Float64[np.ndarray, "target point"]

    @property
    def relative(self) -> Float64[np.ndarray, "target point"]:
        """Scores with the first at 0 and the last at 1, so that targets can be averaged; NaN where both are equal."""
        first, last = self.scores[:, :1], self.scores[:, -1:]
        return np.asarray((self.scores - first) / np.where(last != first, last - first, np.nan))


def deletion_curve(
    network: Callable[[Tensor], Tensor],
    image: Float[np.ndarray, "row column"],
    attribution: Attribution,
    *,
    shares: Sequence[float],
    baseline: Float[np.ndarray, "row column"] | float = 0.0,
) -> Curve:
    """Return each target's score while the pixels are set to the baseline, the most positive attribution first.

    `shares` of the pixels, from 0 to 1, rising; image and baseline are on the network's scale.
    """
    return _changed(network, image, attribution, shares, baseline, insert=False)


def insertion_curve(
    network: Callable[[Tensor], Tensor],
    image: Float[np.ndarray, "row column"],
    attribution: Attribution,
    *,
    shares: Sequence[float],
    baseline: Float[np.ndarray, "row column"] | float = 0.0,
) -> Curve:
    """Return each target's score while the image's pixels replace the baseline's, in the order of `deletion_curve`."""
    return _changed(network, image, attribution, shares, baseline, insert=True)


def _changed(
    network: Callable[[Tensor], Tensor],
    image: NDArray[np.floating],
    attribution: Attribution,
    shares: Sequence[float],
    baseline: NDArray[np.floating] | float,
    *,
    insert: bool,
) -> Curve:
    points = np.asarray(shares, dtype=np.float64)
    if len(points) < 2 or points[0] != 0 or points[-1] > 1 or not (np.diff(points) > 0).all():
        raise UsageError(f"`shares` must rise from 0 to at most 1; got {list(shares)}. Begin with 0.")
    if attribution.maps.shape[1:] != image.shape:
        raise UsageError(f"maps and image must have one size; got {attribution.maps.shape[1:]} and {image.shape}.")
    grey = np.asarray(np.broadcast_to(np.asarray(baseline, dtype=np.float32), image.shape)).ravel()
    whole = image.astype(np.float32).ravel()
    start, end = (grey, whole) if insert else (whole, grey)
    scores = np.empty((len(attribution.targets), len(points)))
    device = device_of(network, None)
    for one, (row, column), line in zip(attribution.maps, attribution.targets, scores, strict=True):
        order = np.argsort(-one, axis=None, kind="stable")
        for point, share in enumerate(points):
            changed = order[: round(float(share) * len(order))]
            values = start.copy()
            values[changed] = end[changed]
            with torch.inference_mode():
                answer = network(torch.from_numpy(values.reshape(1, 1, *image.shape)).to(device))
            line[point] = float(answer[0, 0, int(row), int(column)])
    return Curve(points, scores)
