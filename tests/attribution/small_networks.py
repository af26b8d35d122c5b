"""Small networks of many kinds, with weights that make every layer matter."""

from collections.abc import Callable

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional


class TinyUNet(nn.Module):
    """A U-Net of two levels: plain convolutions, maxima, a transposed convolution, a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.deep = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.last = nn.Sequential(nn.Conv2d(8, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        near = self.down(x)
        return self.last(torch.cat([near, self.up(self.deep(functional.max_pool2d(near, 2)))], dim=1))


class Gated(nn.Module):
    """Channel attention from global means, spatial attention, smooth functions, bilinear resizing, padding, strides."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 6, 5, stride=2, padding=2)
        self.gate = nn.Linear(6, 6)
        self.place = nn.Conv2d(6, 1, 3, padding=2, dilation=2)
        self.depthwise = nn.Conv2d(6, 6, 3, groups=6)
        self.last = nn.Conv2d(6, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.silu(self.first(x))
        y = y * torch.sigmoid(self.gate(y.mean(dim=(2, 3))))[:, :, None, None]
        y = y * torch.tanh(self.place(y)) + 0.5 * y
        y = functional.leaky_relu(self.depthwise(functional.pad(y, (1, 1, 1, 1))), 0.1, inplace=True)
        y = functional.interpolate(y, size=x.shape[2:], mode="bilinear", align_corners=False)
        return self.last(functional.avg_pool2d(y, 3, stride=1, padding=1))


class LayerNormed(nn.Module):
    """Parts without a rule of their own: a normalisation over channels, a rearrangement, a strided slice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.LayerNorm(8)
        self.last = nn.Conv2d(2, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.first(x)[:, :, ::2, ::2].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.last(functional.pixel_shuffle(functional.gelu(y), 2))


def local() -> nn.Module:
    """Three 3 x 3 convolutions: a field of 7 x 7 pixels."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 1, 3, padding=1),
    )


def resnet_unet() -> nn.Module:
    return smp.Unet("resnet18", encoder_weights=None, in_channels=1, classes=1)


def scse_linknet() -> nn.Module:
    return smp.Linknet("resnet18", encoder_weights=None, in_channels=1, classes=1)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "local": local,
    "tiny U-Net": TinyUNet,
    "gated": Gated,
    "layer-normed": LayerNormed,
    "ResNet U-Net": resnet_unet,
    "LinkNet": scse_linknet,
}


def make(name: str, seed: int = 0) -> nn.Module:
    """Return a network in evaluation mode with random weights, biases and statistics of batch normalisation."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = NETWORKS[name]().eval()
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.copy_(0.1 * torch.randn(part.num_features, generator=generator))
                part.running_var.copy_(0.5 + torch.rand(part.num_features, generator=generator))
        for weight in network.parameters():
            if weight.ndim == 1:
                weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return network


def make_image(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(height, width, generator=torch.Generator().manual_seed(100 + seed))
