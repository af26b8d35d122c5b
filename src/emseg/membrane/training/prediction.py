"""What a network makes of a whole image: the probability of membrane at every pixel.

    p = sigmoid(network(x)),  x = (g / 255 - 0.5) / 0.5 for grey values g

An image of at most `tile` pixels a side is seen whole. A larger one is cut into tiles that overlap, see `emseg.tiling`:
each tile's outer `halo` pixels, where the network lacks surroundings, are thrown away. `predict_membrane` answers in
memory; `predict_to_disk` writes levels round(255 p) as it goes, and goes on where it was stopped.

Test-time augmentation takes the mean of p over the eight ways to turn and mirror a square.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from emseg.errors import InputError, UsageError
from emseg.membrane.networks import MembraneNetwork, receptive_field
from emseg.membrane.training.augmentation import MIDDLE_GREY
from emseg.membrane.training.devices import torch_precision
from emseg.tiling import ImageArray, OutputArray, Precision, TileGrid, predict_tiled

WHOLE_IMAGE = 1024  # what is seen at once takes memory: about 2 GB for a ResNet-50 U-Net at this side
LARGEST_HALO = 192
N_DIHEDRAL = 8


class MembraneProbability(nn.Module):
    """A network's logits as probabilities, over `n_views` of the eight turns and mirror images."""

    def __init__(self, network: nn.Module, n_views: int = 1) -> None:
        super().__init__()
        self.network, self.n_views = network, n_views

    def forward(self, x: Float[Tensor, "tile channel row column"]) -> Float[Tensor, "tile 1 row column"]:
        """Return the mean probability over the views."""
        total: Tensor | None = None
        for view, back in dihedral_views(self.n_views):
            answer = back(torch.sigmoid(self.network(view(x)).float()))
            total = answer if total is None else total + answer
        assert total is not None
        return total / self.n_views


def dihedral_views(n_views: int) -> Iterator[tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]]:
    """Yield pairs of functions that turn an image, and turn what is found in it back."""
    for number in range(n_views):
        turns, mirrored = number % 4, number >= 4

        def view(x: Tensor, turns: int = turns, mirrored: bool = mirrored) -> Tensor:
            return torch.rot90(x.flip(-1) if mirrored else x, turns, (-2, -1))

        def back(x: Tensor, turns: int = turns, mirrored: bool = mirrored) -> Tensor:
            turned = torch.rot90(x, -turns, (-2, -1))
            return turned.flip(-1) if mirrored else turned

        yield view, back


def predict_membrane(
    network: MembraneNetwork,
    image: UInt8[np.ndarray, "row column"],
    *,
    tta: bool = False,
    tile: int = WHOLE_IMAGE,
    halo: int | None = None,
    batch_size: int = 1,
    precision: str = "fp32",
    progress: Callable[[int, int], None] | None = None,
) -> Float32[np.ndarray, "row column"]:
    """Return the probability of membrane, in 0 to 1.

    `halo`, for images larger than `tile`: None is the network's own `receptive_field`, at most `LARGEST_HALO`.
    `precision`: "fp32", "bf16" or "fp16". The network stays where and as it is. Raises `UsageError` and `InputError` as
    `predict_tiled` does.
    """
    if image.dtype != np.uint8 or image.ndim != 2:
        raise InputError(f"an image must be grey, uint8 (row, column); got {image.dtype} of shape {image.shape}.")
    grid = grid_for(network, image.shape, tile=tile, halo=halo)
    answer = predict_tiled(
        MembraneProbability(network, N_DIHEDRAL if tta else 1),
        image,
        grid,
        batch_size=batch_size,
        precision=_tiling_precision(precision),
        mean=MIDDLE_GREY,
        scale=MIDDLE_GREY,
        progress=progress,
    )
    probability: Float32[np.ndarray, "row column"] = np.asarray(answer[0], dtype=np.float32)
    return probability


def predict_to_disk(
    network: MembraneNetwork,
    image: ImageArray,
    grid: TileGrid,
    out: OutputArray,
    checkpoint: Path,
    *,
    tta: bool = False,
    precision: str = "fp32",
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the levels of membrane, 0 to 255, to `out`, an array of uint8 on disk; go on where `checkpoint` says.

    The levels are those of `predict_membrane` on the same tiles (`grid_for`), one tile a batch, to the bit.
    """
    predict_tiled(
        MembraneProbability(network, N_DIHEDRAL if tta else 1),
        image,
        grid,
        batch_size=1,
        precision=_tiling_precision(precision),
        mean=MIDDLE_GREY,
        scale=MIDDLE_GREY,
        out=out,
        checkpoint=checkpoint,
        depends_on={"views": N_DIHEDRAL if tta else 1},
        progress=progress,
    )


def grid_for(network: MembraneNetwork, shape: tuple[int, ...], *, tile: int, halo: int | None) -> TileGrid:
    """Return the tiles of an image: one where it fits into a tile."""
    height, width = shape
    if max(height, width) <= tile:
        return TileGrid(height, width, tile=max(height, width), halo=0)
    stride = network.stride
    if halo is None:
        reach = receptive_field(network).reach
        largest = min(LARGEST_HALO, (tile - stride) // 3)
        halo = largest if reach is None else min(reach, largest)
    return TileGrid(height, width, tile=tile, halo=halo, multiple=stride)


def _tiling_precision(precision: str) -> Precision:
    if precision not in ("fp32", "bf16", "fp16"):
        raise UsageError(f"`precision` must be fp32, bf16 or fp16; got {precision!r}.")
    return torch_precision(precision)  # type: ignore[return-value]
