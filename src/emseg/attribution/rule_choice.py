"""Which rule an operation of a network gets: read off from its name in torch and from its arguments.

A rule is returned where it holds for these arguments; None says that torch's own gradient must do. Batch normalisation
in training mode has no rule at all: there the pixels of a batch depend on each other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from emseg.attribution.convolution_rules import Convolution, TransposedConvolution
from emseg.attribution.laid_out import LaidOut
from emseg.attribution.pixel_rules import ChannelFactor, Channels, Product, Rectifier, Same
from emseg.attribution.resizing_rules import LinearResizing, MaxPooling, NearestUpsampling
from emseg.attribution.window_rule import NotWindowedError, Rule, axes_of, whole

aten = torch.ops.aten
_NORMS = {
    aten.native_batch_norm.default: (1, 3, 4, 5, 7),
    aten.cudnn_batch_norm.default: (1, 3, 4, 5, 7),
    aten._native_batch_norm_legit_no_training.default: (1, 3, 4, None, 6),
}
"""Where an operation takes its weight, running mean, running variance, training flag and epsilon."""
_COPIES = {aten.clone.default, aten._to_copy.default, aten.alias.default, aten.lift_fresh.default}


@dataclass(frozen=True, eq=False)
class RuleChoice:
    """Chooses rules; `tracked` says of a tensor whether it depends on the image."""

    laid_out: LaidOut
    tracked: Callable[[object], bool]

    def of(self, func: Any, args: Any, kwargs: Any, first: Tensor, out: Any, inputs: Sequence[Tensor]) -> Rule | None:
        """Return the rule of an operation, None where torch's own gradient must do."""
        x = inputs[0]
        if func in _NORMS:
            return self._norm(func, args, len(inputs))
        if func in (aten.relu.default, aten.relu_.default):
            return Rectifier(self.laid_out.map(first))
        if func in _COPIES and func is not aten.alias.default:
            return Same([x.dtype])
        if first.ndim != 4 or any(tensor.ndim != 4 for tensor in inputs):
            return None
        if func in (aten.add.Tensor, aten.add_.Tensor):
            plain = kwargs.get("alpha", 1) == 1 and all(tensor.shape == first.shape for tensor in inputs)
            return Same([tensor.dtype for tensor in inputs]) if plain else None
        if func is aten.mul.Tensor:
            return self._product(args, first)
        if func is aten.cat.default:
            return self._joined(args, kwargs, first)
        if len(inputs) != 1:
            return None
        if func is aten.convolution.default:
            return self._convolution(args, first)
        if func is aten.max_pool2d_with_indices.default:
            return _max_pooling(args, x.shape, x.dtype, out)
        if func is aten.upsample_nearest2d.default:
            down, across = (n_out / n_in for n_out, n_in in zip(first.shape[2:], x.shape[2:], strict=True))
            return NearestUpsampling((int(down), int(across))) if down % 1 == across % 1 == 0 else None
        if func is aten.upsample_bilinear2d.default:
            return _bilinear(args, x, first)
        return None

    def _norm(self, func: Any, args: Any, n_inputs: int) -> Rule | None:
        weight, _, variance, training, epsilon = _NORMS[func]
        if n_inputs != 1 or (training is not None and args[training]):
            raise NotWindowedError("batch normalisation is in training mode")
        factor = torch.rsqrt(args[variance] + args[epsilon])
        if args[weight] is not None:
            factor = factor * args[weight]
        return ChannelFactor(factor, args[variance])

    def _product(self, args: Any, out: Tensor) -> Rule | None:
        factors, shapes = [], []
        for mine, other in ((args[0], args[1]), (args[1], args[0])):
            if not self.tracked(mine):
                continue
            if not isinstance(other, Tensor) or other.ndim not in (0, 4) or not other.is_floating_point():
                return None
            factors.append(other)
            shapes.append(mine.shape)
        return Product(factors, shapes, (out.shape[2], out.shape[3]))

    def _joined(self, args: Any, kwargs: Any, out: Tensor) -> Rule | None:
        axis = args[1] if len(args) > 1 else kwargs.get("dim", 0)
        if axis % 4 != 1:
            return None
        parts, begin = [], 0
        for tensor in args[0]:
            if self.tracked(tensor):
                parts.append(slice(begin, begin + tensor.shape[1]))
            begin += tensor.shape[1]
        return Channels(parts)

    def _convolution(self, args: Any, out: Tensor) -> Rule | None:
        x, weight, _, stride, padding, dilation, transposed, _, groups = args
        kernel = weight.shape[2:]
        if weight.ndim != 4:
            return None
        if transposed:
            axes = axes_of(out.shape[2:], x.shape[2:], kernel, stride, padding, dilation)
            return TransposedConvolution(weight, axes, stride, dilation, groups)
        axes = axes_of(x.shape[2:], out.shape[2:], kernel, stride, padding, dilation)
        two = [axis.padding for axis in axes]
        weight = self.laid_out.weight(weight)
        return Convolution(weight, axes, stride, two, dilation, groups, self.laid_out.memory_format)


def _max_pooling(args: Any, shape: torch.Size, dtype: torch.dtype, out: Any) -> Rule:
    defaults: tuple[Any, ...] = ([], 0, 1, False)
    options: tuple[Any, ...] = (*args[1:], *defaults[len(args) - 2 :])
    kernel, stride, padding, dilation, ceil = options
    indices, n_out = out[1], out[0].shape[2:]
    axes = axes_of(shape[2:], n_out, kernel, stride or kernel, padding, dilation)

    def backward(values: Tensor) -> Tensor:
        like = torch.empty(shape, dtype=dtype, device=values.device)
        given = (kernel, stride or kernel, padding, dilation, ceil)
        places = indices.contiguous()
        gradient: Tensor = aten.max_pool2d_with_indices_backward(values.contiguous(), like, *given, places)
        return gradient

    return MaxPooling(indices, axes, backward)


def _bilinear(args: Any, x: Tensor, out: Tensor) -> Rule:
    shape, n_out, aligned = x.shape, list(out.shape[2:]), bool(args[2])
    scales = (*args[3:], None, None)[:2]

    def matrix(axis: int) -> Tensor:
        eye = torch.eye(shape[axis], dtype=torch.float32, device=x.device)[None, :, :, None]
        size = [n_out[axis - 2], 1]
        return aten.upsample_bilinear2d(eye, size, aligned, scales[axis - 2], None)[0, :, :, 0].T.contiguous()  # type: ignore[no-any-return]

    def backward(values: Tensor) -> Tensor:
        return aten.upsample_bilinear2d_backward(values, n_out, list(shape), aligned, *scales)  # type: ignore[no-any-return]

    return LinearResizing((matrix(2), matrix(3)), whole(out.shape), backward)
