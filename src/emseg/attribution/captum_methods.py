"""Other attribution methods at the interface of integrated gradients, computed by captum.

    saliency               w = d f_t / d x (signed here)                                      no completeness
    smoothgrad             mean of that gradient over images with Gaussian noise added        no completeness
    integrated_gradients   captum's own loop: the reference of `attribute_pixels`             complete
    deeplift               differences to the baseline passed back by the rescale rule        complete through layers
    gradient_shap          (x - b) times the gradient at random points between x and b        complete on average
    occlusion              f_t(x) - f_t(x with a window at the baseline's grey)               no completeness
    lrp                    relevance passed back by the epsilon rule, chains of layers only   nearly complete
    grad_cam               rectified weighted sum of a layer's maps, enlarged                 no completeness

For methods without completeness `completeness_gap` is not an error. DeepLift's rule applies where rectifiers are
modules (`nn.ReLU`); a rectifier that the forward calls as a function is passed by its gradient, which the gap then
shows.

Sources: Simonyan 2014, Smilkov 2017, Sundararajan 2017, Shrikumar 2017, Lundberg and Lee 2017, Zeiler and Fergus 2014,
Bach 2015, Selvaraju 2017, all as captum implements them. Deviation: LRP is refused for networks with skips, sums or
resizing outside of layers, where captum would pass gradients under its name.
"""

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from emseg.attribution.attribute import Attribution
from emseg.attribution.inputs import (
    Calling,
    Network,
    naming_gradient_errors,
    require_baseline,
    require_gradient,
    require_image,
    require_repeatable,
    require_targets,
)
from emseg.checks import Count, NotNegative, require_one_of, validated
from emseg.errors import InputError, UsageError, suggest
from emseg.tiling import device_of

CaptumMethod = Literal[
    "saliency", "smoothgrad", "integrated_gradients", "deeplift", "gradient_shap", "occlusion", "lrp", "grad_cam"
]
CAPTUM_METHODS: tuple[CaptumMethod, ...] = get_args(CaptumMethod)
Maps = Float[np.ndarray, "target height width"]
Places = Int[np.ndarray, "target 2"]


@validated
class CaptumOptions:
    """What the methods need beyond image and target.

    `n_samples`, `noise`: smoothgrad and gradient_shap (noise on the networks' scale of -1 to 1). `n_steps`,
    `quadrature`: integrated_gradients, captum's names. `window_px`, `stride_px`: occlusion. `layer`: grad_cam, a name
    of `named_modules()`. `seed`: of the random methods.
    """

    n_samples: Count = 16
    noise: NotNegative = 0.1
    n_steps: Count = 100
    quadrature: str = "riemann_right"
    window_px: Count = 9
    stride_px: Count = 3
    layer: str = ""
    seed: Annotated[int, Field(ge=0)] = 0

    def __post_init__(self) -> None:
        if self.stride_px > self.window_px:
            raise UsageError(
                "`stride_px` must not exceed `window_px`, or pixels are never occluded; "
                f"got {self.stride_px} and {self.window_px}."
            )


_USED_OPTIONS: Mapping[str, Sequence[str]] = {
    "smoothgrad": ("n_samples", "noise", "seed"),
    "gradient_shap": ("n_samples", "noise", "seed"),
    "occlusion": ("window_px", "stride_px"),
    "grad_cam": ("layer",),
}


def attribute_with_captum(
    model: Network,
    image: Any,
    targets: Any,
    *,
    method: str = "integrated_gradients",
    baseline: Any = 0.0,
    options: CaptumOptions | None = None,
    output: str | int | None = None,
    channel: int | None = None,
) -> Attribution:
    """Return the maps of `targets` (row, column) by one of captum's methods, one target after the other.

    Arguments but `options` are those of `attribute_pixels`. Saliency, SmoothGrad and Grad-CAM do not use the baseline;
    it only enters their `completeness_gap`. Raises `UsageError` for an unknown method, for a method that is not defined
    for this network, and what `attribute_pixels` raises for targets, images and networks that cannot be attributed.
    """
    require_one_of("method", method, CAPTUM_METHODS)
    options = options or CaptumOptions()
    calling = Calling(model, "fp32", output, channel)
    pixels = require_image(image, calling.dtype)
    pixels = pixels.to(device_of(calling, None if next(calling.parameters(), None) is not None else pixels.device))
    base, places = require_baseline(baseline, pixels), require_targets(targets, pixels)
    require_repeatable(calling, pixels)
    if method in ("deeplift", "lrp", "grad_cam") and not isinstance(model, nn.Module):
        raise UsageError(f"{method} follows the layers of a torch module; got a function. Pass the module itself.")
    x, b = pixels[None], base[None]
    scores, base_scores = (_scores(calling, one, places) for one in (x, b))
    called = model if output is None and channel is None else calling
    with naming_gradient_errors(), _seeded(options.seed):
        if method == "occlusion":
            maps = _occlusion(called, x, b, places, options)
        else:
            attribute = _by_target(method, called, x, b, options)
            # captum calls an output pixel (channel, row, column)
            every = [attribute((0, int(row), int(column))) for row, column in places]
            maps = np.stack([one.detach()[0].sum(dim=0).cpu().numpy() for one in every])
    if not np.isfinite(maps).all():
        raise InputError(f"{method} must give finite attributions; got NaN or infinity. Check the network's weights.")
    integrated = method == "integrated_gradients"
    return Attribution(
        maps=np.ascontiguousarray(maps, dtype=np.float32),
        targets=places,
        scores=scores,
        baseline_scores=base_scores,
        method=method,
        quadrature=options.quadrature if integrated else "",
        n_steps=options.n_steps if integrated else 0,
        settings={name: getattr(options, name) for name in _USED_OPTIONS.get(method, ())},
    )


def _scores(calling: Calling, x: Tensor, places: Places) -> Float[np.ndarray, " target"]:
    with torch.enable_grad():
        answer = require_gradient(calling.logits(x.clone().requires_grad_()))
    return np.asarray(answer.detach()[0, 0].double().cpu().numpy()[places[:, 0], places[:, 1]])


def _by_target(
    method: str, model: Any, x: Tensor, b: Tensor, options: CaptumOptions
) -> Callable[[tuple[int, int, int]], Tensor]:
    """Return the function from a target to its map, [1, channel, height, width]."""
    import captum.attr as captum  # type: ignore[import-untyped]

    def leaf() -> Tensor:
        return x.clone().requires_grad_()

    if method == "saliency":
        return lambda target: captum.Saliency(model).attribute(leaf(), target=target, abs=False)
    if method == "smoothgrad":
        noise = {"nt_type": "smoothgrad", "nt_samples": options.n_samples, "nt_samples_batch_size": 1}
        tunnel, noise["stdevs"] = captum.NoiseTunnel(captum.Saliency(model)), options.noise
        return lambda target: tunnel.attribute(leaf(), target=target, abs=False, **noise)
    if method == "integrated_gradients":
        rule = {"n_steps": options.n_steps, "method": options.quadrature, "internal_batch_size": 1}
        return lambda target: captum.IntegratedGradients(model).attribute(x, b, target=target, **rule)
    if method == "gradient_shap":
        drawn = {"n_samples": options.n_samples, "stdevs": options.noise}
        return lambda target: captum.GradientShap(model).attribute(leaf(), b, target=target, **drawn)
    if method == "lrp":
        _require_chain(model)
        return lambda target: captum.LRP(model).attribute(leaf(), target=target)
    if method == "grad_cam":
        return _grad_cam(model, x, options.layer)
    twin = _untied(model, x)

    def deeplift(target: tuple[int, int, int]) -> Tensor:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Setting forward, backward hooks")  # it removes them again
            return captum.DeepLift(twin).attribute(leaf(), b, target=target)  # type: ignore[no-any-return]

    return deeplift


class _CalledInTurn(nn.Module):
    """As many copies of a layer as a forward pass calls it; the calls take them in turn."""

    def __init__(self, layer: nn.Module, n_calls: int) -> None:
        super().__init__()
        self.copies = nn.ModuleList(copy.deepcopy(layer) for _ in range(n_calls))
        self.n_called = 0

    def forward(self, *inputs: Any) -> Any:
        self.n_called += 1
        return self.copies[(self.n_called - 1) % len(self.copies)](*inputs)


def _untied(network: nn.Module, example: Tensor) -> nn.Module:
    """Return a copy whose layers without weights are called once each, as DeepLift needs: it keeps what passed through.

    Raises `UsageError` for a layer with weights that is called more than once: its copies would not be one layer.
    """
    twin = copy.deepcopy(network)
    calls: dict[str, int] = {}
    leaves = {name: layer for name, layer in twin.named_modules() if name and not list(layer.children())}
    hooks = [
        layer.register_forward_pre_hook(lambda _, __, name=name: calls.update({name: calls.get(name, 0) + 1}))
        for name, layer in leaves.items()
    ]
    with torch.no_grad():
        twin(example)
    for hook in hooks:
        hook.remove()
    for name, n_calls in calls.items():
        if n_calls > 1:
            if any(True for _ in leaves[name].parameters()):
                raise UsageError(
                    f"deeplift needs layers that are called once; {name!r} has weights and is called {n_calls} times. "
                    "Use integrated gradients."
                )
            parent, _, own = name.rpartition(".")
            setattr(twin.get_submodule(parent), own, _CalledInTurn(leaves[name], n_calls))
    return twin


def _occlusion(model: Any, x: Tensor, b: Tensor, places: Places, options: CaptumOptions) -> Maps:
    """One pass a window serves all targets: captum takes several outputs of one image and keeps them apart."""
    from captum.attr import Occlusion

    rows, columns = (torch.from_numpy(one).to(x.device) for one in (places[:, 0], places[:, 1]))
    side = min(options.window_px, x.shape[-2], x.shape[-1])
    stride = min(options.stride_px, side)
    with torch.no_grad():
        maps = Occlusion(lambda points: model(points)[:, 0, rows, columns]).attribute(
            x, sliding_window_shapes=(x.shape[1], side, side), strides=(x.shape[1], stride, stride), baselines=b
        )
    # A window covers all channels, and each of them gets its whole effect.
    return np.asarray(maps.reshape(len(places), *x.shape[1:])[:, 0].cpu().numpy())


def _require_chain(model: nn.Module) -> None:
    """Refuse a network that is not a chain of layers for which LRP has a rule."""
    from captum.attr._core.lrp import (  # type: ignore[import-untyped]
        SUPPORTED_LAYERS_WITH_RULES,
        SUPPORTED_NON_LINEAR_LAYERS,
    )

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
        if kind not in (*SUPPORTED_LAYERS_WITH_RULES, *SUPPORTED_NON_LINEAR_LAYERS):
            raise UsageError(
                f"LRP has no rule for {kind.__name__} ({node.target!r}). Use deeplift, its close relative."
            )


def _grad_cam(model: nn.Module, x: Tensor, name: str) -> Callable[[tuple[int, int, int]], Tensor]:
    from captum.attr import LayerAttribution, LayerGradCam

    network: Any = model.network if isinstance(model, Calling) else model
    layers = {key: module for key, module in network.named_modules() if key}
    if name not in layers:
        convolutions = [key for key, module in layers.items() if isinstance(module, nn.Conv2d)]
        raise UsageError(
            f"grad_cam explains by one layer, named as in `named_modules()`; got {name!r}."
            f"{suggest(name, layers)} Convolutions here: {', '.join(convolutions)}."
        )
    method = LayerGradCam(model, layers[name])

    def attribute(target: tuple[int, int, int]) -> Tensor:
        coarse = method.attribute(x.clone().requires_grad_(), target=target, relu_attributions=True)
        if not isinstance(coarse, Tensor) or coarse.ndim != 4:
            raise UsageError(
                f"grad_cam needs a layer that gives one map [image, channel, row, column]; {name!r} does not."
            )
        fine: Tensor = LayerAttribution.interpolate(coarse, tuple(x.shape[-2:]), interpolate_mode="bilinear")
        return fine

    return attribute


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
