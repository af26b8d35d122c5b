"""Maps to measure on: random fields of a known spectrum, their rectified form, and the maps of a network on images.

A random field is made in the cosine domain, where its coefficients are independent, so what pooling costs has an exact
expectation (`emseg.frequency.aliasing.expected_agreement`):

    x = idct2(sqrt(S) * noise),     S_hw = 1 / max(rho, rho_1)^(2 alpha),    rho = sqrt((h / H)^2 + (w / W)^2)

    alpha = 0   white: every frequency alike, the hardest case for pooling
    alpha = 1   amplitude falls as 1 / frequency, as in photographs
    alpha = 2   smooth: nearly all energy in the lowest frequencies

    S, x   [height, width], [maps, height, width];  rho_1 = 1 / max(H, W), so S_00 is finite

Rectified maps (a ReLU behind a threshold) are sparse and not Gaussian. The maps of a network are taken where FANet's
and FcaNet's attention reads them: behind the last batch normalisation of a block, before the residual sum. The
weights are random, for none are at hand without a download: such maps have the shapes and the smoothness that the
strides and filters give, not what training gives.

Source for alpha = 1: D. J. Field, "Relations between the statistics of natural images and the response properties of
cortical cells", J. Opt. Soc. Am. A 4 (1987) 2379-2394.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from emseg.errors import InputError, UsageError
from emseg.frequency.dct import idct2, require_size

# The strides of the four stages of a ResNet, which set the sizes of its maps.
STAGE_STRIDES = (4, 8, 16, 32)


def stage_sizes(image_size: int) -> tuple[int, ...]:
    """Return the sides of the maps of the four stages of a ResNet for an image side of `image_size` pixels."""
    return tuple(-(-require_size(image_size, "image_size") // stride) for stride in STAGE_STRIDES)


def power_law_spectrum(height: int, width: int, alpha: float) -> Float[Tensor, "height width"]:
    """Return the variances S of the orthonormal coefficients, scaled so that the map's mean variance is 1; float64."""
    height, width = require_size(height, "height"), require_size(width, "width")
    if not 0 <= alpha <= 4:
        raise UsageError(
            f"`alpha` must be between 0 (white) and 4 (very smooth); got {alpha}. Photographs have about 1."
        )
    down = torch.arange(height, dtype=torch.float64)[:, None] / height
    across = torch.arange(width, dtype=torch.float64) / width
    rho = torch.hypot(down, across).clamp(min=1.0 / max(height, width))
    power = rho ** (-2.0 * alpha)
    return power / power.mean()


def random_maps(
    spectrum: Float[Tensor, "height width"], n_maps: int, generator: torch.Generator
) -> Float[Tensor, "map height width"]:
    """Return Gaussian maps, orthonormal coefficients independent with variances `spectrum`; float32, on the CPU."""
    noise = torch.randn((require_size(n_maps, "n_maps"), *spectrum.shape), generator=generator)
    return idct2(noise * spectrum.sqrt().to(torch.float32), normalization="ortho")


def rectified_maps(
    maps: Float[Tensor, "map height width"], active_share: float = 0.25
) -> Float[Tensor, "map height width"]:
    """Return max(x - t, 0) with one threshold t for all maps, so that `active_share` of all pixels stay above zero."""
    if not 0 < active_share < 1:
        raise UsageError(
            f"`active_share` must lie between 0 and 1; got {active_share}. Use 0.25 for one pixel in four."
        )
    values = maps.flatten()
    rank = max(1, round(values.numel() * (1.0 - active_share)))
    return (maps - values.kthvalue(rank).values).clamp(min=0)


def attention_inputs(images: Float[Tensor, "image 1 height width"], seed: int) -> list[Float[Tensor, "_ _ _"]]:
    """Return the maps that channel attention would read in the last block of each ResNet-34 stage, random weights.

    One tensor a stage, image and channel flattened into `map`. Every channel is normalised over the batch, as in
    training. The global random state is left as it was found.
    """
    if images.ndim != 4 or images.shape[1] != 1 or min(images.shape[-2:]) < 32:
        raise InputError(
            "`images` must have the shape (images, 1, height, width), at least 32 pixels a side; "
            f"got {tuple(images.shape)}. Use images[:, None] for grey images."
        )
    from torchvision.models import resnet34  # 1.5 s to import: only who asks for network maps pays

    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(seed)
        network = resnet34(weights=None).train()
    kept: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        kept.append(output.flatten(0, 1).clone())  # the residual sum is written over the output

    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        stage[-1].bn2.register_forward_hook(keep)
    standard = (images - images.mean()) / images.std().clamp(min=1e-6)
    with torch.no_grad():
        network(standard.to(torch.float32).expand(-1, 3, -1, -1))
    return kept


def section_drawing(size: int) -> Float[Tensor, "size size"]:
    """Return a drawing of one bright, tilted section on a dark wafer, values 0 and 1, float64: a map to look at."""
    position = (torch.arange(require_size(size), dtype=torch.float64) + 0.5) / size
    row, column = position[:, None] - 0.42, position[None, :] - 0.56
    along, across = 0.94 * column + 0.34 * row, 0.94 * row - 0.34 * column
    return ((along.abs() < 0.2) & (across.abs() < 0.12 + 0.2 * along)).to(torch.float64)
