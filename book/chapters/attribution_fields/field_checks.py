"""The chapter's comparisons of methods and checks of maps, on windows that hold all that a target can see.

A window about a target that covers its receptive field, and begins at a multiple of the network's stride, gives the
target the score and the gradient that it has in the whole image. So methods that need many passes, such as occlusion,
run on the window. Where the receptive field is larger than the image, the window is the image.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, Int64
from torch import nn

from chapters.attribution_fields.field_survey import ConditionFields, ImageFields
from emseg.attribution.attribution import Attribution
from emseg.attribution.captum_methods import CAPTUM_METHODS, CaptumOptions, attribute_with_captum
from emseg.attribution.sanity import Cascade, Curve, cascading_randomisation, deletion_curve, insertion_curve
from emseg.attribution.window_integral import IntegralOptions, visible_window
from emseg.errors import InputError

NOT_FOR_U_NETS = ("lrp",)  # not a chain of layers
CHECKED = ("integrated gradients", "saliency", "random order")


@dataclass(frozen=True, eq=False)
class Window:
    """A part of an image on the networks' scale, and its target as [1, 2] within it."""

    image: Float32[np.ndarray, "row column"]
    target: Int64[np.ndarray, "1 2"]


def window_about(fields: ConditionFields, one: ImageFields, target: Int64[np.ndarray, " 2"]) -> Window:
    """Return the window about a target that holds its receptive field."""
    reach = fields.receptive_field.reach
    if reach is None:
        return Window(one.scaled, target[None].astype(np.int64))
    window, corner = visible_window(one.image.shape, target, reach, fields.network.stride)
    return Window(np.ascontiguousarray(one.scaled[window]), (target - corner)[None].astype(np.int64))


def correct_targets(fields: ConditionFields, n_most: int) -> list[tuple[ImageFields, Int64[np.ndarray, " 2"]]]:
    """Return up to `n_most` correct membrane pixels with their images, the images taking turns."""
    queues = [
        [(one, one.sample.targets[place]) for place in one.sample.of("correct_membrane")] for one in fields.images
    ]
    turns = [queue[turn] for turn in range(max(map(len, queues))) for queue in queues if turn < len(queue)]
    if not turns:
        raise InputError(f"{fields.condition.label} has no correct membrane pixel. Train its network for more steps.")
    return turns[:n_most]


def maps_by_method(
    fields: ConditionFields, options: IntegralOptions, *, n_samples: int, seed: int
) -> tuple[Window, dict[str, Attribution]]:
    """Return one correct membrane pixel's window and its maps by every method that suits a U-Net.

    Grad-CAM looks at the encoder's last convolution, its coarsest map.
    """
    one, target = correct_targets(fields, 1)[0]
    window = window_about(fields, one, target)
    convolutions = [name for name, layer in fields.network.named_modules() if isinstance(layer, nn.Conv2d)]
    convolutions = [name for name in convolutions if name.startswith("encoder.")]
    settings = CaptumOptions(n_samples=n_samples, window_px=9, stride_px=9, layer=convolutions[-1], seed=seed)
    maps = {"integrated_gradients": options.attribute(fields.network, window.image, window.target)}
    for method in CAPTUM_METHODS:
        if method not in (*maps, *NOT_FOR_U_NETS):
            maps[method] = attribute_with_captum(
                fields.network, window.image, window.target, method=method, options=settings
            )
    return window, maps


def randomised_maps(
    fields: ConditionFields, options: IntegralOptions, *, n_targets: int, n_stages: int, seed: int
) -> Cascade:
    """Return how maps of correct membrane pixels of one image change while its layers are randomised."""
    one = max(fields.images, key=lambda image: len(image.sample.of("correct_membrane")))
    targets = one.sample.targets[one.sample.of("correct_membrane")][:n_targets]
    if not len(targets):
        raise InputError(f"{fields.condition.label} has no correct membrane pixel. Train its network for more steps.")
    return cascading_randomisation(
        fields.network, lambda network: options.attribute(network, one.scaled, targets), n_stages=n_stages, seed=seed
    )


def deletion_and_insertion(
    fields: ConditionFields, options: IntegralOptions, *, n_targets: int, shares: Sequence[float], seed: int
) -> dict[str, tuple[Curve, Curve]]:
    """Return deletion and insertion curves of integrated gradients, of saliency and of a random order of the pixels.

    Shares are of the pixels of the window that a target can see.
    """
    rng = np.random.default_rng([seed, 6])
    found: dict[str, list[tuple[Curve, Curve]]] = {name: [] for name in CHECKED}
    for one, target in correct_targets(fields, n_targets):
        window = window_about(fields, one, target)
        integrated = options.attribute(fields.network, window.image, window.target)
        saliency = attribute_with_captum(fields.network, window.image, window.target, method="saliency")
        random = replace(integrated, maps=rng.random(integrated.maps.shape, dtype=np.float32))
        for name, maps in zip(CHECKED, (integrated, saliency, random), strict=True):
            found[name].append(
                (
                    deletion_curve(fields.network, window.image, maps, shares=shares),
                    insertion_curve(fields.network, window.image, maps, shares=shares),
                )
            )
    return {
        name: (_joined([one for one, _ in pairs]), _joined([other for _, other in pairs]))
        for name, pairs in found.items()
    }


def _joined(curves: Sequence[Curve]) -> Curve:
    return Curve(curves[0].shares, np.concatenate([curve.scores for curve in curves]))
