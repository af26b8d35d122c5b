"""What is asked, checked before anything is computed: the image, the baseline, the targets and the network.

A network is a torch module, or any function, from [image, 1, height, width] to logits of the same shape. Its gradient
with respect to the image is what all methods need, so a network that gives none is refused by name: one whose
`predict` switches gradients off, one that rounds or takes an argmax, one that overwrites what its gradient needs,
one in training mode (batch normalisation would make every image of a path depend on the others).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from torch import Tensor, nn

from emseg.errors import InputError, UsageError

Network = nn.Module | Callable[[Tensor], Tensor]
Plane = Float[Tensor, "height width"]


def require_plane(image: Tensor | ArrayLike, name: str = "image") -> Plane:
    """Return one grey image as float32 [height, width] on its device, from that, [1, h, w] or [1, 1, h, w]."""
    plane = image if isinstance(image, Tensor) else torch.from_numpy(np.asarray(image))
    if plane.ndim not in (2, 3, 4) or any(n != 1 for n in plane.shape[:-2]) or 0 in plane.shape:
        raise InputError(
            f"`{name}` must be one grey image, [height, width] or with axes of length 1 before these; got shape "
            f"{list(plane.shape)}. Attribute one image at a time."
        )
    if not plane.is_floating_point():
        raise InputError(
            f"`{name}` must be floating point, on the network's own scale; got {plane.dtype}. "
            "For 8-bit greys that is (grey / 255 - 0.5) / 0.5."
        )
    plane = plane.detach().reshape(plane.shape[-2:]).to(torch.float32)
    if not bool(torch.isfinite(plane).all()):
        n_bad = int((~torch.isfinite(plane)).sum())
        raise InputError(f"`{name}` must hold finite numbers; {n_bad} of its pixels are NaN or infinite. Mend them.")
    return plane


def require_baseline(baseline: float | Tensor | ArrayLike, image: Plane) -> Plane:
    """Return the baseline as an image: the same grey everywhere (on the network's scale), or an image of this size."""
    if isinstance(baseline, int | float):
        if not np.isfinite(baseline):
            raise UsageError(f"`baseline` must be finite; got {baseline}.")
        plane = torch.full_like(image, float(baseline))
    else:
        plane = require_plane(baseline, "baseline").to(image.device)
    if plane.shape != image.shape:
        raise UsageError(
            f"`baseline` must be one number or an image of {tuple(image.shape)} pixels, as `image` is; got "
            f"{tuple(plane.shape)}."
        )
    if torch.equal(plane, image):
        raise UsageError("`baseline` must differ from `image`: between equal images there is nothing to attribute.")
    return plane


def require_targets(targets: ArrayLike | Sequence[tuple[int, int]], image: Plane) -> Int[np.ndarray, "target 2"]:
    """Return targets as int64 [target, (row, column)]; a target may come twice."""
    places = np.asarray(targets)
    if places.size == 0:
        raise UsageError("`targets` must name at least one pixel as (row, column); got none.")
    if places.ndim == 1 and places.shape == (2,):
        places = places[None]
    if places.ndim != 2 or places.shape[1] != 2:
        raise UsageError(f"`targets` must be (row, column) pairs, [target, 2]; got shape {list(places.shape)}.")
    if places.dtype.kind not in "iu":
        raise UsageError(f"`targets` must be whole pixel numbers; got {places.dtype}. Round them.")
    places = places.astype(np.int64)
    outside = ((places < 0) | (places >= np.array(image.shape))).any(axis=1)
    if outside.any():
        first = int(np.flatnonzero(outside)[0])
        raise UsageError(
            f"`targets` must lie in the image, rows 0 to {image.shape[0] - 1} and columns 0 to {image.shape[1] - 1}; "
            f"target {first} is {tuple(places[first].tolist())}, and {int(outside.sum())} of {len(places)} lie "
            "outside. Targets are (row, column), not (x, y)."
        )
    return places


def distinct_targets(
    targets: Int[np.ndarray, "target 2"],
) -> tuple[Int[np.ndarray, "distinct 2"], Int[np.ndarray, " target"]]:
    """Return each target once, in the order of its first coming, and for each target its place among these."""
    distinct, first, place = np.unique(targets, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return distinct[order], np.argsort(order)[place.reshape(-1)]


def require_evaluation_mode(network: Network) -> None:
    """Refuse a network with parts that act otherwise in training: batch normalisation, dropout."""
    if not isinstance(network, nn.Module):
        return
    depends = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
    for name, part in network.named_modules():
        if part.training and isinstance(part, depends):
            raise UsageError(
                f"The network must be in evaluation mode; its part {name or type(part).__name__!r} "
                f"({type(part).__name__}) is in training mode, where an image's answer depends on chance or on the "
                "rest of its batch. Call network.eval() first."
            )


def require_logits(answer: object, points: Tensor) -> Tensor:
    """Return what the network answered to `points` if it is one finite logit a pixel of each of them."""
    if not isinstance(answer, Tensor):
        raise InputError(
            f"The network must return one tensor of logits [image, 1, height, width]; got {type(answer).__name__}. "
            "Wrap it in a function that picks the map, for example lambda x: network(x)[-1]."
        )
    if answer.shape != points.shape:
        n, _, height, width = points.shape
        hint = (
            f"it returns {answer.shape[1]} channels: wrap it in a function that keeps one, lambda x: network(x)[:, :1]."
            if answer.ndim == 4 and answer.shape[1] != 1 and answer.shape[2:] == points.shape[2:]
            else "its map has another size: resize it in a wrapper, or give an image whose size its stride divides."
        )
        raise InputError(
            f"The network must return logits of shape [{n}, 1, {height}, {width}], one a pixel; got "
            f"{list(answer.shape)}: {hint}"
        )
    if not answer.is_floating_point():
        raise InputError(f"The network must return floating-point logits; got {answer.dtype}, which have no gradient.")
    if not bool(torch.isfinite(answer).all()):
        raise InputError("The network must return finite logits; got NaN or infinity. Check its weights and its input.")
    return answer


def require_gradient(answer: Tensor) -> Tensor:
    """Refuse an answer that torch cannot differentiate with respect to the image."""
    if not answer.requires_grad:
        raise InputError(
            "The network's answer must have a gradient with respect to the image; it has none. Its forward switches "
            "gradients off (as a `predict` method does), detaches its input or takes an argmax: pass the module itself."
        )
    return answer


@contextmanager
def naming_gradient_errors() -> Iterator[None]:
    """Turn what torch says of parts that cannot be differentiated into one sentence with a repair."""
    try:
        yield
    except RuntimeError as error:
        text = str(error).split("\n")[0].strip()
        if "modified by an inplace operation" in text or "in-place operation" in text:
            raise InputError(
                f"The network overwrites values that its own gradient needs: {text} Replace that in-place operation "
                "(x += 1, relu_, inplace=True) by one that makes a new tensor."
            ) from error
        if "does not require grad" in text or "not implemented" in text or "not differentiable" in text:
            raise InputError(f"The network has a part that cannot be differentiated: {text}.") from error
        raise


@contextmanager
def frozen(network: Network) -> Iterator[None]:
    """Ask for no gradient of the weights for a while; afterwards each is as it was."""
    weights = [p for p in network.parameters() if p.requires_grad] if isinstance(network, nn.Module) else []
    try:
        for weight in weights:
            weight.requires_grad_(False)
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)
