"""One training step of two networks with an attention in every block: a classifier, and torchvision's Mask R-CNN.

A step is forward, loss, backward and SGD. The images are noise with four squares as objects, for what a step costs
hardly depends on what is to be learned. Few proposals are kept, so that the backbone, in which the networks differ, is
not lost in the heads.

Deviation: FANet trains the Mask R-CNN of mmdetection; torchvision's has the same parts and needs nothing more here.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from chapters.channel_attention.cost.timing import Call
from emseg.frequency.resnet import RESNET18, RESNET50, ResNet

DESIGNS = {"cpu": RESNET18, "cuda": RESNET50}
PYRAMID_CHANNELS, N_CLASSES, N_PROPOSALS, N_BOXES = 256, 5, 100, 16


def classifier_step(attention: str, images: Tensor) -> Call:
    """Return a training step of a residual network with this attention on `images`."""
    network = _backbone(attention, images.device).to(images.device)
    target = torch.arange(len(images), device=images.device)

    def losses() -> Tensor:
        return functional.cross_entropy(network(images), target)

    return _step(network, losses)


def detector_step(attention: str, images: Tensor) -> Call:
    """Return a training step of Mask R-CNN on `images`, with this attention in every block of its backbone."""
    network = _mask_rcnn(attention, images).to(images.device)
    targets = [_four_squares(images.shape[-1], images.device)] * len(images)

    def losses() -> Tensor:
        return torch.stack(list(network(list(images), targets).values())).sum()

    return _step(network, losses)


class Pyramid(nn.Module):
    """The maps of a network's stages as a detector reads them."""

    def __init__(self, network: ResNet) -> None:
        super().__init__()
        from torchvision.ops import FeaturePyramidNetwork

        self.network, self.out_channels = network, PYRAMID_CHANNELS
        self.pyramid = FeaturePyramidNetwork(list(network.design.out_channels), PYRAMID_CHANNELS)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return one map a stage, all with the same number of channels."""
        maps = {str(stage): one for stage, one in enumerate(self.network.features(images))}
        return self.pyramid(maps)  # type: ignore[no-any-return]


def _backbone(attention: str, device: torch.device) -> ResNet:
    with torch.random.fork_rng(devices=[]):  # layers draw from the global state before the generator sets them
        return ResNet(DESIGNS[device.type], attention, generator=torch.Generator().manual_seed(0))


def _mask_rcnn(attention: str, images: Tensor) -> nn.Module:
    # 1.5 s to import: only who measures training steps pays.
    from torchvision.models.detection import MaskRCNN
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.ops import MultiScaleRoIAlign

    side = images.shape[-1]
    with torch.random.fork_rng(devices=[]):  # torchvision draws its initial weights from the global state
        torch.random.manual_seed(0)
        network: nn.Module = MaskRCNN(
            Pyramid(_backbone(attention, images.device)),
            N_CLASSES,
            min_size=side,
            max_size=side,
            rpn_anchor_generator=AnchorGenerator(((32,), (64,), (128,), (256,)), ((1.0,),) * 4),
            box_roi_pool=MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2),
            mask_roi_pool=MultiScaleRoIAlign(["0", "1", "2", "3"], 14, 2),
            rpn_post_nms_top_n_train=N_PROPOSALS,
            box_batch_size_per_image=N_BOXES,
        )
    return network


def _four_squares(side: int, device: torch.device) -> dict[str, Tensor]:
    """Return four objects, each of a class of its own, as torchvision's detectors take them."""
    corners = torch.tensor([[0.1, 0.1], [0.5, 0.1], [0.1, 0.5], [0.5, 0.5]], device=device) * side
    boxes = torch.cat([corners, corners + 0.3 * side], dim=1).round()
    masks = torch.zeros(4, side, side, dtype=torch.uint8, device=device)
    for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
        mask[top:bottom, left:right] = 1
    return {"boxes": boxes, "labels": torch.arange(1, 5, device=device), "masks": masks}


def _step(network: nn.Module, losses: Callable[[], Tensor]) -> Call:
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        losses().backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step
