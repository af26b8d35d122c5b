"""Other attribution methods at the interface of integrated gradients, computed by captum.

    saliency               w = d f_t / d x (signed here)                                      no completeness
    smoothgrad             mean of that gradient over images with Gaussian noise added        no completeness
    integrated_gradients   captum's own loop: the reference of `attribute_pixels`             complete
    deeplift               differences to the baseline passed back by the rescale rule        complete through layers
    gradient_shap          (x - b) times the gradient at random points between x and b        complete on average
    occlusion              f_t(x) - f_t(x with a window at the baseline's grey)               no completeness
    lrp                    relevance passed back by the epsilon rule, chains of layers only   nearly complete
    grad_cam               rectified weighted sum of a layer's maps, enlarged                 no completeness

Only methods that are complete share f_t(x) - f_t(baseline) out to the pixels; for the others `completeness_gap` is no
error. DeepLift's rule holds where rectifiers are modules (`nn.ReLU`); a rectifier that the forward calls as a function
is passed by its gradient, which the gap then shows.

Sources: Simonyan 2014, Smilkov 2017, Sundararajan 2017, Shrikumar 2017, Lundberg and Lee 2017, Zeiler and Fergus 2014,
Bach 2015, Selvaraju 2017, all as captum implements them. Deviation: LRP is refused for networks with skips, sums or
resizing outside of layers, where captum would pass gradients under its name.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from torch import Tensor, nn

from emseg.attribution.attribution import Attribution
from emseg.attribution.targets import (
    Network,
    naming_gradient_errors,
    require_baseline,
    require_evaluation_mode,
    require_gradient,
    require_logits,
    require_plane,
    require_targets,
)
from emseg.attribution.untied import untied
from emseg.errors import InputError, UsageError, suggest
from emseg.tiling import device_of

CaptumMethod = Literal[
    "saliency", "smoothgrad", "integrated_gradients", "deeplift", "gradient_shap", "occlusion", "lrp", "grad_cam"
]
CAPTUM_METHODS: tuple[CaptumMethod, ...] = get_args(CaptumMethod)
METHOD_LABELS: dict[str, str] = {
    "saliency": "saliency",
    "smoothgrad": "SmoothGrad",
    "integrated_gradients": "integrated gradients",
    "deeplift": "DeepLift",
    "gradient_shap": "GradientSHAP",
    "occlusion": "occlusion",
    "lrp": "LRP",
    "grad_cam": "Grad-CAM",
}
_MODULES_ONLY = ("deeplift", "lrp", "grad_cam")


@dataclass(frozen=True)
class CaptumOptions:
    """What the methods need beyond image and target; each says which one it belongs to.

    `n_samples`, `noise`: smoothgrad and gradient_shap (noise on the networks' scale of -1 to 1). `n_steps`,
    `quadrature`: integrated_gradients, captum's names. `window_px`, `stride_px`: occlusion. `layer`: grad_cam, a name
    of `named_modules()`. `seed`: of the random methods.
    """

    n_samples: int = 16
    noise: float = 0.1
    n_steps: int = 100
    quadrature: str = "riemann_right"
    window_px: int = 9
    stride_px: int = 3
    layer: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("n_samples", "n_steps", "window_px", "stride_px"):
            if getattr(self, name) < 1:
                raise UsageError(f"`{name}` must be at least 1; got {getattr(self, name)}.")
        if self.stride_px > self.window_px:
            raise UsageError(
                "`stride_px` must not exceed `window_px`, or pixels are never occluded; "
                f"got {self.stride_px} and {self.window_px}."
            )
        if not self.noise >= 0:
            raise UsageError(f"`noise` must not be negative; got {self.noise}.")


def attribute_with_captum(
    model: Network,
    image: Tensor | ArrayLike,
    targets: ArrayLike,
    *,
    method: str = "integrated_gradients",
    baseline: float | Tensor | ArrayLike = 0.0,
    options: CaptumOptions | None = None,
) -> Attribution:
    """Return the maps of `targets` (row, column) by one of captum's methods, one target after the other.

    `image` and `baseline` are on the network's scale. Saliency, SmoothGrad and Grad-CAM do not use the baseline; it
    only enters their `completeness_gap`. Raises `UsageError` for an unknown method, for a method that is not defined
    for this network, and what `attribute_pixels` raises for targets, images and networks that cannot be attributed.
    """
    if method not in CAPTUM_METHODS:
        raise UsageError(
            f"`method` must be one of {', '.join(CAPTUM_METHODS)}; got {method!r}.{suggest(method, CAPTUM_METHODS)}"
        )
    options = options or CaptumOptions()
    plane = require_plane(image)
    plane = plane.to(device_of(model, plane.device if not isinstance(model, nn.Module) else None))
    base = require_baseline(baseline, plane)
    places = require_targets(targets, plane)
    require_evaluation_mode(model)
    if method in _MODULES_ONLY and not isinstance(model, nn.Module):
        raise UsageError(f"{method} follows the layers of a torch module; got a function. Pass the module itself.")
    x, b = plane[None, None], base[None, None]
    scores, base_scores = (_scores(model, one, places) for one in (x, b))
    with naming_gradient_errors(), _seeded(options.seed):
        maps = _METHODS[method](model, x, b, places, options)
    if not np.isfinite(maps).all():
        raise InputError(f"{method} must give finite attributions; got NaN or infinity. Check the network's weights.")
    return Attribution(
        maps=np.ascontiguousarray(maps, dtype=np.float32),
        targets=places,
        scores=scores,
        baseline_scores=base_scores,
        method=method,
        quadrature=options.quadrature if method == "integrated_gradients" else "",
        n_steps=options.n_steps if method == "integrated_gradients" else 0,
        settings=_settings(method, options),
    )


Maps = Float[np.ndarray, "target height width"]
Places = Int[np.ndarray, "target 2"]


def _scores(model: Network, x: Tensor, places: Places) -> Float[np.ndarray, " target"]:
    with torch.enable_grad():
        answer = require_logits(require_gradient(model(x.clone().requires_grad_())), x)
    return np.asarray(answer.detach()[0, 0].double().cpu().numpy()[places[:, 0], places[:, 1]])


def _each_target(attribute: Callable[[tuple[int, int, int]], Tensor], places: Places) -> Maps:
    """Return the map of each target; captum names an output pixel (channel, row, column)."""
    maps = [attribute((0, int(row), int(column))).detach()[0, 0].cpu().numpy() for row, column in places]
    return np.stack(maps)


def _saliency(model: Network, x: Tensor, b: Tensor, places: Places, options: CaptumOptions) -> Maps:
    from captum.attr import Saliency  # type: ignore[import-untyped]

    method = Saliency(model)
    return _each_target(lambda t: method.attribute(x.clone().requires_grad_(), target=t, abs=False), places)


def _smoothgrad(model: Network, x: Tensor, b: Tensor, places: Places, options: CaptumOptions) -> Maps:
    from captum.attr import NoiseTunnel, Saliency

    method = NoiseTunnel(Saliency(model))

    def attribute(target: tuple[int, int, int]) -> Tensor:
        answer: Tensor = method.attribute(
            x.clone().requires_grad_(),
            nt_type="smoothgrad",
            nt_samples=options.n_samples,
            nt_samples_batch_size=1,
            stdevs=options.noise,
            target=target,
            abs=False,
        )
        return answer

    return _each_target(attribute, places)


def _integrated_gradients(model: Network, x: Tensor, b: Tensor, places: Places, options: CaptumOptions) -> Maps:
    from captum.attr import IntegratedGradients

    method = IntegratedGradients(model)

    def attribute(target: tuple[int, int, int]) -> Tensor:
        answer: Tensor = method.attribute(
            x, b, target=target, n_steps=options.n_steps, method=options.quadrature, internal_batch_size=1
        )
        return answer

    return _each_target(attribute, places)


def _deeplift(model: Network, x: Tensor, b: Tensor, places: Places, options: CaptumOptions) -> Maps:
    from captum.attr import DeepLift

    assert isinstance(model, nn.Module)
    method = DeepLift(untied(model, x))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting forward, backward hooks")  # it removes them again
        return _each_target(lambda t: method.attribute(x.clone().requires_grad_(), b, target=t), places)


def _gradient_shap(model: Network, x: Tensor, b: Tensor, places: Places, options: CaptumOptions) -> Maps:
    from captum.attr import GradientShap

    method = GradientShap(model)

    def attribute(target: tuple[int, int, int]) -> Tensor:
        answer: Tensor = method.attribute(
            x.clone().requires_grad_(), b, n_samples=options.n_samples, stdevs=options.noise, target=target
        )
        return answer

    return _each_target(attribute, places)


def _occlusion(model: Network, x: Tensor, b: Tensor, places: Places, options: CaptumOptions) -> Maps:
    """One pass a window serves all targets: captum takes several outputs of one image and keeps them apart."""
    from captum.attr import Occlusion

    rows, columns = (torch.from_numpy(one).to(x.device) for one in (places[:, 0], places[:, 1]))

    def scores(points: Tensor) -> Tensor:
        return model(points)[:, 0, rows, columns]

    side = min(options.window_px, x.shape[-2], x.shape[-1])
    stride = min(options.stride_px, side)
    with torch.no_grad():
        maps = Occlusion(scores).attribute(
            x, sliding_window_shapes=(1, side, side), strides=(1, stride, stride), baselines=b
        )
    return np.asarray(maps.reshape(len(places), *x.shape[-2:]).cpu().numpy())


def _lrp(model: Network, x: Tensor, b: Tensor, places: Places, options: CaptumOptions) -> Maps:
    from captum.attr import LRP
    from captum.attr._core.lrp import (  # type: ignore[import-untyped]
        SUPPORTED_LAYERS_WITH_RULES,
        SUPPORTED_NON_LINEAR_LAYERS,
    )

    assert isinstance(model, nn.Module)
    _require_chain(model, tuple(SUPPORTED_LAYERS_WITH_RULES), tuple(SUPPORTED_NON_LINEAR_LAYERS))
    return _each_target(lambda t: LRP(model).attribute(x.clone().requires_grad_(), target=t), places)


def _require_chain(model: nn.Module, with_rules: tuple[type, ...], rectifiers: tuple[type, ...]) -> None:
    """Refuse a network that is not a chain of layers for which LRP has a rule."""
    try:
        nodes = list(torch.fx.symbolic_trace(model).graph.nodes)
    except Exception as error:  # tracing fails in as many ways as there are forwards
        raise UsageError(
            f"LRP is defined here for chains of layers; this network's forward could not be followed ({error}). "
            "Use deeplift, its close relative."
        ) from error
    layers = dict(model.named_modules())
    for node in nodes:
        if node.op in ("placeholder", "output"):
            continue
        if node.op != "call_module" or len(node.all_input_nodes) != 1:
            raise UsageError(
                f"LRP is defined here for chains of layers; this network's forward also does {node.name!r}, for which "
                "there is no rule. Use deeplift, its close relative."
            )
        kind = type(layers[str(node.target)])
        if kind not in (*with_rules, *rectifiers):
            raise UsageError(
                f"LRP has no rule for {kind.__name__} ({node.target!r}). Use deeplift, its close relative."
            )


def _grad_cam(model: Network, x: Tensor, b: Tensor, places: Places, options: CaptumOptions) -> Maps:
    from captum.attr import LayerAttribution, LayerGradCam

    assert isinstance(model, nn.Module)
    layers = {name: module for name, module in model.named_modules() if name}
    if options.layer not in layers:
        convolutions = [name for name, module in layers.items() if isinstance(module, nn.Conv2d)]
        raise UsageError(
            f"grad_cam explains by one layer, named as in `named_modules()`; got {options.layer!r}."
            f"{suggest(options.layer, layers)} Convolutions here: {', '.join(convolutions)}."
        )
    method = LayerGradCam(model, layers[options.layer])

    def attribute(target: tuple[int, int, int]) -> Tensor:
        coarse = method.attribute(x.clone().requires_grad_(), target=target, relu_attributions=True)
        if not isinstance(coarse, Tensor) or coarse.ndim != 4:
            raise UsageError(
                f"grad_cam needs a layer that gives one map [image, channel, row, column]; {options.layer!r} does not."
            )
        fine: Tensor = LayerAttribution.interpolate(coarse, tuple(x.shape[-2:]), interpolate_mode="bilinear")
        return fine

    return _each_target(attribute, places)


_METHODS: dict[str, Callable[[Network, Tensor, Tensor, Places, CaptumOptions], Maps]] = {
    "saliency": _saliency,
    "smoothgrad": _smoothgrad,
    "integrated_gradients": _integrated_gradients,
    "deeplift": _deeplift,
    "gradient_shap": _gradient_shap,
    "occlusion": _occlusion,
    "lrp": _lrp,
    "grad_cam": _grad_cam,
}
_USED_OPTIONS: dict[str, Sequence[str]] = {
    "smoothgrad": ("n_samples", "noise", "seed"),
    "gradient_shap": ("n_samples", "noise", "seed"),
    "occlusion": ("window_px", "stride_px"),
    "grad_cam": ("layer",),
}


def _settings(method: str, options: CaptumOptions) -> dict[str, Any]:
    return {name: getattr(options, name) for name in _USED_OPTIONS.get(method, ())}


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Let captum, which draws from the global states of torch and NumPy, draw from `seed`; put both back afterwards."""
    before = np.random.get_state()  # noqa: NPY002 (captum draws from it)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002
