"""Small networks whose receptive field is known. Their weights are whole numbers, so sums are exact in any order."""

import torch
from torch import Tensor, nn


def convolutions(n_layers: int, n_channels: int = 1, n_classes: int = 1, seed: int = 0) -> nn.Sequential:
    """Return 3 x 3 convolutions with zero padding: an output pixel depends on pixels up to `n_layers` away."""
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for layer in range(n_layers):
        last = layer == n_layers - 1
        conv = nn.Conv2d(n_channels if layer == 0 else 2, n_classes if last else 2, 3, padding=1)
        with torch.no_grad():
            for parameter in conv.parameters():
                parameter.copy_(torch.randint(-1, 2, parameter.shape, generator=generator))
        layers += [conv] if last else [conv, nn.ReLU()]
    return nn.Sequential(*layers)


class Pyramid(nn.Module):
    """A U-Net in small: halves its map twice, doubles it twice, adds what it passed. Sizes must be divisible by 4.

    An output pixel depends on pixels up to 1 + 2 (1 + 2 + 1) + 3 + 1 = 13 away at most.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (convolutions(1, seed=seed) for seed in range(3))
        self.last = convolutions(1, n_classes=2, seed=3)

    def forward(self, x: Tensor) -> Tensor:
        """Return two maps of the size of x."""
        high = self.first(x)
        middle = self.second(nn.functional.max_pool2d(high, 2))
        low = self.third(nn.functional.max_pool2d(middle, 2))
        up = nn.functional.interpolate(middle + nn.functional.interpolate(low, scale_factor=2.0), scale_factor=2.0)
        return self.last(high + up)
