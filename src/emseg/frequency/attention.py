"""Channel attention: a description of each channel, a gate that turns it into one factor, and the map weighted by it.

    F     [batch, channel]   what is read from each channel
    a     [batch, channel]   its factor, between 0 and 1
    x'_c  = a_c x_c          the weighted feature map

    name    class                        F                                                a
    none    nn.Identity                                                                   1          (ResNet)
    se      `SqueezeExcite`              GAP(x), the means                                two layers
    eca     `EfficientChannelAttention`  GAP(x)                                           sigmoid(conv_k(F)), no bias
    fca     `FcaAttention`               Eq. 5 of FANet on the map pooled by stage        two layers
    fanet   `FanetAttention`             Eq. 5 of FANet on the map itself                 two layers, or one

    two layers   a = sigmoid(W2 relu(W1 F))     W1 [channel / reduction, channel], W2 [channel, channel / reduction]
    one layer    a = sigmoid(W F)               W [channel, channel]
    conv_k       one convolution along the channels, k = |log2(C) / 2 + 1 / 2|_odd weights in all, truncated and then
                 increased by one if even, as in ECA-Net's code: 3, 5 from 128 channels, 7 from 2048

FcaNet pools a map to n x n (56, 28, 14, 7 by stage: what the stages measure on an image of 224 pixels) and takes
orthonormal components of index (h * (n // 7), w * (n // 7)). What is summed are then not the map's cosines but
staircases: `emseg.frequency.aliasing`.

FANet's paper leaves three choices open. The defaults here: normalization "mean", so that SENet is the case of the one
frequency (0, 0) at every size of the map; indexing "raw", Eq. 4 as printed, where section 4.3 could mean FcaNet's
scaled index, on large maps a much higher frequency; two layers, as in SENet and FcaNet, where Eq. 6 writes one `fc`
(reduction / 2 times as many weights; comparisons at equal parameters need two).

Deviation: no layer has a bias by default, as in FcaNet's code; its cosines, a buffer of the size of a map, are not
stored. `emseg.frequency.resnet.load_weights` reads the published files.

Source: Hu et al. 2018 (SENet), sections 3 and 6; Wang et al. 2020 (ECA-Net), Eq. 12 with gamma = 2, b = 1; Qin et al.
2021 (FcaNet), section 3 and code; Sun et al. 2021 (FANet), section 3.2, Eqs. 4 to 6, Table 1.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from emseg.checks import require_count, require_one_of
from emseg.errors import UsageError, suggest
from emseg.frequency.aliasing import adaptive_pool_matrix
from emseg.frequency.dct import PARTS, TOP16, Indexing, Normalization, dct_basis, forward_weight, resolve_frequencies
from emseg.frequency.pooling import dct_pool, require_groups
from emseg.frequency.projection import Maps, Sums

ATTENTIONS = ("none", "se", "eca", "fca", "fanet")

# What FcaNet pools each stage to: the sizes of the four stages, of strides 4 to 32, on a 224-pixel image.
FCANET_IMAGE_SIZE = 224
FCANET_SIZES = (56, 28, 14, 7)

# Pairs are checked when the layer is made, against a map larger than any; against the map itself when it is read.
LARGEST_MAP = 2**20

# Makes the attention of one block from its channels and the stride of its maps.
BlockAttention = Callable[[int, int], nn.Module]


def gate_layers(channels: int, reduction: int = 16, layers: int = 2, *, bias: bool = False) -> nn.Sequential:
    """Return the layers that turn F into the factors, named as in FcaNet's code; `reduction` is that of two layers."""
    channels = require_count("channels", channels)
    if layers == 1:
        return nn.Sequential(nn.Linear(channels, channels, bias=False), nn.Sigmoid())
    if layers != 2:
        raise UsageError(f"`layers` must be 1 or 2; got {layers!r}. SENet and FcaNet have 2.")
    if channels < require_count("reduction", reduction):
        raise UsageError(
            f"`reduction` must not exceed the number of channels, or no hidden unit is left; "
            f"got {channels} channels and reduction={reduction}. Use reduction={channels} or less."
        )
    squeeze = nn.Linear(channels, channels // reduction, bias=bias)
    excite = nn.Linear(channels // reduction, channels, bias=bias)
    return nn.Sequential(squeeze, nn.ReLU(), excite, nn.Sigmoid())


def scale_channels(x: Maps, factors: Sums) -> Maps:
    """Return the feature map with each channel multiplied by its factor."""
    return x * factors[:, :, None, None]


class SqueezeExcite(nn.Module):
    """SENet's channel attention for maps of `channels` channels; `reduction` = 16 is the paper's.

    `bias`: for the weights of the networks whose layers have biases, as timm's (`load_weights`).
    """

    def __init__(self, channels: int, *, reduction: int = 16, bias: bool = False) -> None:
        super().__init__()
        self.fc = gate_layers(channels, reduction, bias=bias)

    def forward(self, x: Maps) -> Maps:
        """Return the weighted feature map."""
        return scale_channels(x, self.fc(x.mean(dim=(2, 3))))


def adaptive_kernel_size(channels: int) -> int:
    """Return k, the odd number of neighbouring channels that ECA-Net reads."""
    size = int((math.log2(require_count("channels", channels)) + 1) / 2)
    return size if size % 2 else size + 1


class EfficientChannelAttention(nn.Module):
    """ECA-Net's channel attention; `kernel_size` defaults to `adaptive_kernel_size(channels)`."""

    def __init__(self, channels: int, *, kernel_size: int | None = None) -> None:
        super().__init__()
        size = adaptive_kernel_size(channels) if kernel_size is None else require_count("kernel_size", kernel_size)
        if size % 2 == 0:
            raise UsageError(
                f"`kernel_size` must be odd, so that it has a middle; got {size}. Use {size - 1} or {size + 1}."
            )
        self.conv = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)

    def forward(self, x: Maps) -> Maps:
        """Return the weighted feature map."""
        means = x.mean(dim=(2, 3))
        return scale_channels(x, self.conv(means[:, None])[:, 0].sigmoid())


class FcaAttention(nn.Module):
    """FcaNet's channel attention for maps that are pooled to `pooled_size` pixels a side."""

    def __init__(
        self, channels: int, pooled_size: int, *, reduction: int = 16, frequencies: Sequence[Sequence[int]] = TOP16
    ) -> None:
        super().__init__()
        self.pooled_size = require_count("pooled_size", pooled_size)
        resolve_frequencies(frequencies, self.pooled_size, self.pooled_size, "scaled")
        self.frequencies = tuple((h, w) for h, w in frequencies)
        require_groups(channels, len(self.frequencies))
        self.fc = gate_layers(channels, reduction)

    def stored_cosines(self) -> Float[Tensor, "channel size size"]:
        """Return what FcaNet's code stores as `dct_layer.weight`: the cosine of each channel."""
        size = self.pooled_size
        pairs = resolve_frequencies(self.frequencies, size, size, "scaled")
        rows, columns = (dct_basis(size, axis, normalization="ortho") for axis in zip(*pairs, strict=True))
        every = rows[:, :, None] * columns[:, None]
        return every.repeat_interleave(self.fc[0].weight.shape[1] // len(pairs), dim=0)  # type: ignore[index]

    def describe(self, x: Maps) -> Sums:
        """Return F, what the attention knows of each channel."""
        size = self.pooled_size
        if torch.compiler.is_exporting():  # ONNX has no adaptive pooling of a size that is left open
            rows, columns = (adaptive_pool_matrix(n, size, dtype=x.dtype, device=x.device) for n in x.shape[-2:])
            x = rows @ x @ columns.mT
        elif x.shape[-2:] != (size, size):
            x = functional.adaptive_avg_pool2d(x, (size, size))
        return dct_pool(x, self.frequencies, normalization="ortho", indexing="scaled")

    def forward(self, x: Maps) -> Maps:
        """Return the weighted feature map."""
        return scale_channels(x, self.fc(self.describe(x)))

    def extra_repr(self) -> str:
        """Return what the printed module shows."""
        return f"pooled_size={self.pooled_size}, {len(self.frequencies)} frequencies"


class FanetAttention(nn.Module):
    """FANet's channel attention; no parameter or buffer depends on the size of the map."""

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        frequencies: Sequence[Sequence[int]] = TOP16,
        normalization: Normalization = "mean",
        indexing: Indexing = "raw",
        layers: int = 2,
    ) -> None:
        super().__init__()
        forward_weight(1, normalization)
        resolve_frequencies(frequencies, LARGEST_MAP, LARGEST_MAP, indexing)
        self.frequencies = tuple((h, w) for h, w in frequencies)
        require_groups(channels, len(self.frequencies))
        self.normalization: Normalization = normalization
        self.indexing: Indexing = indexing
        self.fc = gate_layers(channels, reduction, layers)

    def describe(self, x: Maps) -> Sums:
        """Return F of Eq. 5, what the attention knows of each channel."""
        return dct_pool(x, self.frequencies, normalization=self.normalization, indexing=self.indexing)

    def forward(self, x: Maps) -> Maps:
        """Return the weighted feature map (Eq. 6)."""
        return scale_channels(x, self.fc(self.describe(x)))

    def extra_repr(self) -> str:
        """Return what the printed module shows."""
        return f"{len(self.frequencies)} frequencies, normalization={self.normalization!r}, indexing={self.indexing!r}"


_CLASSES: Mapping[str, type[nn.Module]] = {
    "se": SqueezeExcite,
    "eca": EfficientChannelAttention,
    "fca": FcaAttention,
    "fanet": FanetAttention,
}


def build_attention(name: str, channels: int, *, stage: int | None = None, reduction: int = 16) -> nn.Module:
    """Return the attention called `name`, for maps of `channels` channels.

    `stage` is that of a backbone, 1 to 4; only "fca" needs it, to know its pooled size. ECA has no `reduction`.
    """
    require_one_of("name", name, ATTENTIONS)
    if name == "fca" and (stage is None or not 1 <= stage <= len(FCANET_SIZES)):
        raise UsageError(
            f'`stage` must be 1 to {len(FCANET_SIZES)} for "fca", which pools by stage; got {stage!r}. '
            "Give the stage, or use FcaAttention with a pooled_size."
        )
    options = {"reduction": reduction} if "reduction" in block_options(name) else {}
    return block_attention(name, options)(channels, 2 ** ((stage or 1) + 1))


def block_options(name: str) -> tuple[str, ...]:
    """Return the names of the options of an attention, the keyword arguments of its class; none for "none"."""
    if name not in _CLASSES:
        return ()
    parameters = inspect.signature(_CLASSES[name]).parameters.values()
    return tuple(parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY)


def block_attention(name: str, options: Mapping[str, Any]) -> BlockAttention:
    """Return the maker of the attention of one block, which takes its channels and the stride of its maps.

    Raises `UsageError` for an option that the attention does not have; the maker checks the values.
    """
    require_one_of("attention", name, ATTENTIONS)
    require_options(name, options, block_options(name))

    def make(channels: int, stride: int) -> nn.Module:
        if name == "none":
            return nn.Identity()
        pooled_size = (FCANET_IMAGE_SIZE // stride,) if name == "fca" else ()
        return _CLASSES[name](channels, *pooled_size, **options)

    return make


def smallest_image(name: str, options: Mapping[str, Any], stride: int) -> tuple[int, int]:
    """Return the fewest rows and columns of an image whose maps at `stride`, rounded up, contain all frequencies.

    FANet reads frequency k from maps of more than k pixels: Table 1 at stride 32 needs 193. The others read any map.
    """
    if name != "fanet":
        return 1, 1
    pairs = options.get("frequencies", TOP16)
    scaled = options.get("indexing", "raw") == "scaled"
    rows, columns = (PARTS if scaled else 1 + max(axis) for axis in zip(*pairs, strict=True))
    return stride * (rows - 1) + 1, stride * (columns - 1) + 1


def require_image_size(argument: str, shape: Sequence[int], name: str, options: Mapping[str, Any], stride: int) -> None:
    """Raise `UsageError` where images of `shape` (rows, columns), the value of `argument`, are too small for FANet."""
    least = smallest_image(name, options, stride)
    if shape[0] < least[0] or shape[1] < least[1]:
        raise UsageError(
            f"`{argument}` must be at least {least[0]} x {least[1]} pixels (rows x columns), or maps of stride "
            f"{stride} are smaller than the highest frequency of the attention {name!r}; got {shape[0]} x {shape[1]}. "
            "Use larger images, fewer stages with attention, or lower `frequencies`."
        )


def require_options(name: str, options: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Raise `UsageError` for the first of the `options` that is not one of the `known` ones of an attention."""
    for option in options:
        if option not in known:
            has = f"has {', '.join(known)}" if known else "has none"
            raise UsageError(
                f"`attention_options` must be options of the attention {name!r}, which {has}; got {option!r}."
                + suggest(str(option), known)
            )
