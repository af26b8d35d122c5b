"""What is asked, checked before anything is computed: image, baseline, targets, and the network's behaviour.

A network is a torch module, or any function, from images [image, channel, height, width] to a map of logits of their
size. All methods differentiate that map, so it must have a gradient, and it must be a function of one image: the
network is run on a part of the image alone and in a batch, and refused where the outputs differ, random numbers are
drawn (dropout) or a buffer changes (batch normalisation in training mode).

Images are on the scale of the networks, x = (grey / 255 - 0.5) / 0.5: black is -1, mid-grey 0, white 1. Baselines are

    mid_grey   0 everywhere; zeros after normalising, the authors' choice
    black      -1 everywhere: the grey of a membrane, so that membranes can hardly be attributed to
    mean       the image's own mean grey
    blurred    the image after a Gaussian blur: its slow changes without its edges
    patches    real patches instead of the image; the attribution is the mean over them

Targets are sampled by class, with p the predicted probability of membrane, t the truth and a threshold c:

    correct_membrane     p >= c and t          false_positive       p >= c and not t
    false_negative       p < c and t           correct_background   p < c and not t

Sources: Sundararajan, Taly, Yan 2017, section 2 (baselines); Erion et al. 2021 (the mean over real inputs); Shi et al.
2022, Figure 8 (the first three classes).
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Int64
from numpy.typing import NDArray
from torch import Tensor, nn

from emseg.checks import require_count, require_number, require_one_of
from emseg.errors import InputError, UsageError

Network = nn.Module | Callable[[Tensor], Any]
Precision = Literal["fp32", "bf16", "fp16"]
Image = Float[Tensor, "channel height width"]
Points = Float[Tensor, "point channel height width"]
Logits = Float[Tensor, "point 1 height width"]
BaselineName = Literal["mid_grey", "black", "mean", "blurred", "patches"]
BASELINE_NAMES: tuple[BaselineName, ...] = get_args(BaselineName)
PixelClass = Literal["correct_membrane", "false_positive", "false_negative", "correct_background"]
PIXEL_CLASSES: tuple[PixelClass, ...] = get_args(PixelClass)
SAME_SCORE = {"fp32": 1e-4, "bf16": 0.05, "fp16": 0.02}  # of the largest logit: what rounding may change


class Calling(nn.Module):
    """The network as it is called: in a `precision`, `output` and `channel` picked from what it returns.

    Of a function, `parts` are the modules that it refers to: as a bound method, a partial, or by a variable.
    """

    def __init__(
        self,
        network: Network,
        precision: Precision = "fp32",
        output: str | int | None = None,
        channel: int | None = None,
    ) -> None:
        super().__init__()
        if not callable(network):
            raise UsageError(f"`model` must be a torch module or a function; got {type(network).__name__}.")
        if torch.is_inference_mode_enabled():
            raise UsageError("Attribution must record gradients; torch.inference_mode() forbids it. Leave that mode.")
        self.network, self.precision, self.output, self.channel = network, precision, output, channel
        self.one_at_a_time = False  # whether it refuses batches, as `require_repeatable` finds
        self.parts = nn.ModuleList([] if isinstance(network, nn.Module) else modules_of(network))
        self.stride = getattr(network, "stride", 1)

    @property
    def dtype(self) -> torch.dtype:
        """float64 for a network with weights of that type, else float32."""
        weight = next((one for one in self.parameters() if one.is_floating_point()), None)
        return torch.float64 if weight is not None and weight.dtype == torch.float64 else torch.float32

    def forward(self, points: Points) -> Any:
        """Return the requested map, unchecked."""
        half: Any = nullcontext()
        if self.precision != "fp32":
            half = torch.autocast(points.device.type, torch.bfloat16 if self.precision == "bf16" else torch.float16)
        with half, naming_gradient_errors():
            return _picked(self.network(points), self.output, self.channel)

    def logits(self, points: Points) -> Logits:
        """Return the same, checked to be logits of the points."""
        return require_logits(self(points), points)


def modules_of(network: Any) -> list[nn.Module]:
    """Return the module that a network is, or those that a function refers to."""
    if isinstance(network, partial):
        return [part for one in (network.func, *network.args, *network.keywords.values()) for part in modules_of(one)]
    if inspect.ismethod(network):
        return modules_of(network.__self__)
    if inspect.isfunction(network):
        names = inspect.getclosurevars(network)
        found = [*names.nonlocals.values(), *names.globals.values()]
        return [one for one in found if isinstance(one, nn.Module)]
    return [network] if isinstance(network, nn.Module) else []


def _picked(found: Any, output: str | int | None, channel: int | None) -> Any:
    """Return the map that `output` and `channel` name."""
    if not isinstance(found, Tensor):
        names = list(found) if isinstance(found, dict) else list(range(len(found))) if hasattr(found, "__len__") else []
        if output is None:
            raise InputError(
                f"The network must return one tensor of logits; got {type(found).__name__}. "
                f"Choose its map with `output=`: {' or '.join(map(repr, names)) or 'there is none'}."
            )
        if output not in names:
            raise UsageError(f"`output` must be one of {', '.join(map(repr, names))}; got {output!r}.")
        found = found[output]
    elif output is not None:
        raise UsageError(f"`output` picks from several maps, but the network returns one tensor; got {output!r}.")
    if channel is None or not isinstance(found, Tensor) or found.ndim != 4:
        return found
    require_count("channel", channel, 0, found.shape[1] - 1)
    return found[:, channel : channel + 1]


def require_image(image: Any, dtype: torch.dtype = torch.float32, name: str = "image") -> Image:
    """Return one image as [channel, height, width] on its device, from that, [height, width] or [1, channel, h, w]."""
    try:
        pixels = image if isinstance(image, Tensor) else torch.from_numpy(np.asarray(image))
    except (TypeError, ValueError):
        raise InputError(f"`{name}` must be an array or a tensor; got {type(image).__name__}.") from None
    if pixels.ndim not in (2, 3, 4) or (pixels.ndim == 4 and len(pixels) != 1) or 0 in pixels.shape:
        raise InputError(
            f"`{name}` must be one image, [height, width] or [channel, height, width]; got shape "
            f"{list(pixels.shape)}. Attribute one image at a time."
        )
    if not pixels.is_floating_point():
        raise InputError(
            f"`{name}` must be floating point, on the network's own scale; got {pixels.dtype}. "
            "For 8-bit greys that is (grey / 255 - 0.5) / 0.5."
        )
    pixels = pixels.detach().reshape(-1, *pixels.shape[-2:]).to(dtype)
    n_bad = int((~torch.isfinite(pixels)).sum())
    if n_bad:
        raise InputError(f"`{name}` must be finite; {n_bad} of its pixels are NaN or infinite. Replace them.")
    return pixels


def require_baseline(baseline: Any, image: Image) -> Image:
    """Return the baseline as an image: the same grey everywhere (on the network's scale), or an image of this size."""
    if isinstance(baseline, str):
        raise UsageError(f"`baseline` must be a number or an image; got {baseline!r}. Use `make_baseline` for a name.")
    if isinstance(baseline, int | float):
        pixels = torch.full_like(image, require_number("baseline", baseline))
    else:
        pixels = require_image(baseline, image.dtype, "baseline").to(image.device)
    if pixels.shape != image.shape:
        raise UsageError(
            f"`baseline` must be one number or an image of {tuple(image.shape)} (channel, height, width), as `image` "
            f"is; got {tuple(pixels.shape)}."
        )
    if torch.equal(pixels, image):
        raise UsageError("`baseline` must differ from `image`: between equal images there is nothing to attribute.")
    return pixels


def require_targets(targets: Any, image: Image) -> Int[np.ndarray, "target 2"]:
    """Return targets as int64 [target, (row, column)]; a target may come twice."""
    try:
        places = np.asarray(targets)
    except ValueError:
        raise UsageError(f"`targets` must be (row, column) pairs, [target, 2]; got {targets!r}.") from None
    if places.size == 0:
        raise UsageError("`targets` must give at least one pixel as (row, column); got none.")
    if places.shape == (2,):
        places = places[None]
    if places.ndim != 2 or places.shape[1] != 2:
        raise UsageError(f"`targets` must be (row, column) pairs, [target, 2]; got shape {list(places.shape)}.")
    if places.dtype.kind not in "iu":
        raise UsageError(f"`targets` must be whole pixel numbers; got {places.dtype}. Round them.")
    places, (height, width) = places.astype(np.int64), image.shape[-2:]
    outside = ((places < 0) | (places >= np.array([height, width]))).any(axis=1)
    if outside.any():
        first = int(np.flatnonzero(outside)[0])
        raise UsageError(
            f"`targets` must be inside the image, rows 0 to {height - 1} and columns 0 to {width - 1}; target {first} "
            f"is {tuple(places[first].tolist())}, and {int(outside.sum())} of {len(places)} are outside. "
            "Targets are (row, column), not (x, y)."
        )
    return places


def require_repeatable(calling: Calling, image: Image) -> Logits:
    """Return the logits of an image; refuse a network whose output is not a function of that image alone."""
    before = {name: value.clone() for name, value in calling.named_buffers()}
    device = image.device.type
    states = [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if device == "cuda" else [])]
    with torch.no_grad():
        try:
            alone = calling.logits(image[None].clone())
        except (InputError, UsageError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            shape, text = [1, *image.shape], f"{type(error).__name__}: {error}".split("\n")[0]
            raise InputError(
                f"The network must take an image of shape {shape}, {image.dtype}; it fails: {text}"
            ) from error
        try:
            batch = calling.logits(torch.stack([image, image.flip(-1)]))
        except Exception:  # a network that takes one image at a time
            calling.one_at_a_time = True
            batch = calling.logits(image[None].clone())
        now = [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if device == "cuda" else [])]
        changed = [name for name, value in calling.named_buffers() if not torch.equal(value, before[name])]
        for name in changed:
            calling.get_buffer(name).copy_(before[name])
    names = ", ".join(name.removeprefix("network.").removeprefix("parts.") for name in changed[:3])
    moved, limit = (batch[0] - alone[0]).abs().max(), SAME_SCORE[calling.precision] * alone.abs().max()
    reasons = {
        f"it changes {names}": bool(changed),
        "its output depends on chance, as with dropout": not all(map(torch.equal, states, now)),
        "an image's output depends on the rest of its batch, or differs from call to call": bool(moved > limit),
    }
    for reason, found in reasons.items():
        if found:
            raise UsageError(
                f"The network must be in evaluation mode: {reason}. Call network.eval() first, also on a network "
                "inside a function, and give functional.dropout its `training=False`."
            )
    return alone


def require_logits(answer: Any, points: Points) -> Logits:
    """Return what the network answered to `points` if it is one finite logit a pixel of each of them."""
    if not isinstance(answer, Tensor):
        raise InputError(f"The network must return a tensor of logits; got {type(answer).__name__}.")
    n, _, height, width = points.shape
    if answer.shape != (n, 1, height, width):
        hint = (
            f"it returns {answer.shape[1]} channels: choose one with `channel=`."
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
    """Turn torch's message about parts that cannot be differentiated into one sentence with a repair."""
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
def frozen(network: nn.Module) -> Iterator[None]:
    """Ask for no gradient of the weights for a while; afterwards each is as it was."""
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    try:
        for weight in weights:
            weight.requires_grad_(False)
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)


def network_input(image: NDArray[Any]) -> Float32[np.ndarray, "row column"]:
    """Return an 8-bit grey image on the scale of the networks, -1 (black) to 1 (white)."""
    if image.dtype != np.uint8 or image.ndim != 2:
        raise InputError(
            f"an image must be 8-bit grey, [row, column]; got {image.dtype} of shape {image.shape}. Convert it first."
        )
    return np.asarray((image.astype(np.float32) / 255.0 - 0.5) / 0.5, dtype=np.float32)


def make_baseline(
    name: str,
    image: NDArray[Any],
    *,
    sigma_px: float = 16.0,
    references: Sequence[NDArray[Any]] = (),
    n_patches: int = 4,
    generator: np.random.Generator | None = None,
) -> Float32[np.ndarray, "baseline row column"]:
    """Return the baselines by name for an image on the networks' scale; one, or `n_patches` for "patches".

    `sigma_px` is the blur of "blurred". Patches are cut, of the image's size, from `references` (other images on the
    networks' scale) at places that `generator` draws. Raises `UsageError` for an unknown name, and for patches without
    references as large as the image.
    """
    require_one_of("baseline", name, BASELINE_NAMES)
    values = _on_scale(image)
    if name == "blurred":
        sigma = require_number("sigma_px", sigma_px, above=0)
        return np.asarray(cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101))[None]
    if name != "patches":
        grey = {"mid_grey": 0.0, "black": -1.0, "mean": values.mean()}[name]
        return np.full((1, *values.shape), grey, dtype=np.float32)
    (height, width), patches = values.shape, []
    fitting = [one for one in references if one.shape[0] >= height and one.shape[1] >= width]
    if not fitting or generator is None or n_patches < 1:
        raise UsageError(
            f'the baseline "patches" needs a generator, n_patches of at least 1 and references of at least {height} x '
            f"{width} px; got {len(fitting)} such, n_patches={n_patches}. Give other images of the same set."
        )
    for _ in range(n_patches):
        source = _on_scale(fitting[int(generator.integers(len(fitting)))])
        row = int(generator.integers(source.shape[0] - height + 1))
        column = int(generator.integers(source.shape[1] - width + 1))
        patches.append(source[row : row + height, column : column + width])
    return np.stack(patches)


def _on_scale(image: NDArray[Any]) -> NDArray[np.float32]:
    if image.ndim != 2 or not np.issubdtype(image.dtype, np.floating) or not np.isfinite(image).all():
        raise InputError(
            "a baseline needs a finite image [row, column] on the networks' scale; got "
            f"{image.dtype} of shape {image.shape}. Pass it through `network_input` first."
        )
    return np.ascontiguousarray(image, dtype=np.float32)


@dataclass(frozen=True)
class PixelSample:
    """Targets [target, 2] as (row, column), and the class [target] of each, a place in `PIXEL_CLASSES`."""

    targets: Int64[np.ndarray, "target 2"]
    classes: Int64[np.ndarray, " target"]

    def __len__(self) -> int:
        return len(self.targets)

    def of(self, name: PixelClass) -> Int64[np.ndarray, " place"]:
        """Return the places in the list of the targets of one class."""
        return np.flatnonzero(self.classes == PIXEL_CLASSES.index(name))

    @property
    def counts(self) -> dict[PixelClass, int]:
        """How many targets each class has."""
        return {name: len(self.of(name)) for name in PIXEL_CLASSES}


def pixel_class_masks(
    probability: NDArray[Any], truth: NDArray[Any], *, threshold: float = 0.5
) -> dict[PixelClass, Bool[np.ndarray, "row column"]]:
    """Return a mask for each class; together they cover every pixel once.

    Raises `InputError` for maps of unequal shape, a truth that is not boolean, or probabilities outside [0, 1].
    """
    if probability.shape != truth.shape or probability.ndim != 2:
        raise InputError(
            f"probability and truth must be [row, column] of one shape; got {probability.shape} and {truth.shape}."
        )
    if truth.dtype != np.bool_:
        raise InputError(f"truth must be boolean, True on membrane; got {truth.dtype}. Compare it with its threshold.")
    if not (np.isfinite(probability).all() and probability.min() >= 0 and probability.max() <= 1):
        raise InputError("probabilities must be finite and between 0 and 1. Pass logits through a sigmoid first.")
    found = probability >= threshold
    return dict(zip(PIXEL_CLASSES, (found & truth, found & ~truth, ~found & truth, ~found & ~truth), strict=True))


def sample_pixels(
    probability: NDArray[Any],
    truth: NDArray[Any],
    per_class: int,
    generator: np.random.Generator,
    *,
    margin: int = 0,
    spacing: int = 0,
    threshold: float = 0.5,
) -> PixelSample:
    """Return up to `per_class` random targets of each class, a class after the other.

    Targets are at least `margin` pixels inside the border and at least `spacing` pixels apart (in rows or in columns),
    whatever their class. Classes take turns, the rarest first, so that a common class does not crowd out a rare one; a
    class with too few places gives fewer. Raises `UsageError` where the margin leaves no pixel.
    """
    for name, value, least in (("per_class", per_class, 1), ("margin", margin, 0), ("spacing", spacing, 0)):
        require_count(name, value, least)
    masks = pixel_class_masks(probability, truth, threshold=threshold)
    height, width = truth.shape
    if 2 * margin >= min(height, width):
        raise UsageError(
            f"`margin` must be below half the image's shorter side; got {margin} for {height} x {width} px. "
            "Use larger images or a smaller margin."
        )
    free = np.zeros((height, width), dtype=bool)
    free[margin : height - margin, margin : width - margin] = True
    chosen: dict[PixelClass, list[tuple[int, int]]] = {name: [] for name in PIXEL_CLASSES}
    by_rarity = sorted(PIXEL_CLASSES, key=lambda name: int((masks[name] & free).sum()))
    for _ in range(per_class):
        for kind in by_rarity:
            places = np.flatnonzero(masks[kind] & free)
            if len(places):
                row, column = divmod(int(places[generator.integers(len(places))]), width)
                chosen[kind].append((row, column))
                reach = max(spacing, 1)
                free[max(0, row - reach + 1) : row + reach, max(0, column - reach + 1) : column + reach] = False
    targets = [target for name in PIXEL_CLASSES for target in chosen[name]]
    classes = [index for index, name in enumerate(PIXEL_CLASSES) for _ in chosen[name]]
    return PixelSample(np.array(targets, dtype=np.int64).reshape(-1, 2), np.array(classes, dtype=np.int64))
