"""What mmdet needs from us, registered when this module is imported: operators first, then mmdet, then our parts.

    AttentionResNet        the residual networks of `emseg.frequency.resnet` as a backbone
    WaferMaskRCNN          mmdet's Mask R-CNN and Mask Scoring R-CNN, whose boxes keep their precision
    WaferMaskScoringRCNN   in mixed precision

The backbone maps x [batch, in_channels, height, width] to the maps of the stages `out_indices`, strides 4, 8, 16, 32.
An attention sits in every block, after its last normalisation. mmdet's own ResNet takes attentions as plugins, and not
in the basic blocks of ResNet-34. The keys of the weights are torchvision's, with `.attention.` where one sits.

Its initial weights: `init_cfg` None draws them (convolutions as He et al. 2015; the attention's last, from a separate
generator, so that all else gets the same weights whatever the attention). {"type": "Pretrained", "checkpoint": X} loads
torchvision's, where X is a file or "torchvision://resnet34" or "torchvision://resnet50", which is downloaded.

Under autocast mmdet's heads output boxes, scores and masks in the precision of their last layer. bfloat16 has 8
significant bits: a corner at pixel 300 is rounded to 2 pixels, one at 1000 to 4. Here the layers run in mixed
precision, but the outputs of the pyramid and the heads are float32, and so is every box.

Deviation: mmdet starts the last normalisation of every block at zero where nothing is pretrained; here it starts at
one, as in torchvision.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import get_model_weights

from emseg.errors import UsageError
from emseg.frequency.attention import block_attention
from emseg.frequency.resnet import Block, ResNet, ResNetDesign, initialize, load_weights
from emseg.wafer.detector.detector_build import read_weights
from emseg.wafer.detector.mmdet_config import require_mmdet
from emseg.wafer.detector.mmdet_operators import provide_operators

require_mmdet()
provide_operators()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # moved classes, escape sequences in old docstrings: nothing for our users
    import mmdet.models
    import mmdet.structures  # noqa: F401

from mmdet.models.detectors import MaskRCNN, MaskScoringRCNN  # noqa: E402  # only now can mmdet be imported
from mmdet.registry import MODELS  # noqa: E402

PREFIX = "torchvision://"


@MODELS.register_module()
class AttentionResNet(ResNet):
    """A backbone of `depths` blocks a stage; the names of the arguments are mmdet's where mmdet has them."""

    def __init__(
        self,
        block: Block = "basic",
        depths: Sequence[int] = (3, 4, 6, 3),
        base_channels: int = 64,
        in_channels: int = 3,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        attention: str = "none",
        attention_options: Mapping[str, object] | None = None,
        init_cfg: Mapping[str, object] | None = None,
    ) -> None:
        design = ResNetDesign(block, tuple(depths), base_channels, in_channels, n_classes=1)
        if not out_indices or not set(out_indices) <= set(range(len(design.depths))):
            raise UsageError(
                f"`out_indices` must name stages from 0 to {len(design.depths) - 1}; got {tuple(out_indices)!r}."
            )
        pretrained = init_cfg or {"type": "Pretrained", "checkpoint": ""}
        if pretrained.get("type") != "Pretrained" or not isinstance(pretrained.get("checkpoint"), str):
            raise UsageError(
                "`init_cfg` of the backbone must be None or have the type 'Pretrained' and a checkpoint; "
                f"got {init_cfg!r}."
            )
        make = block_attention(attention, attention_options or {})
        with torch.random.fork_rng(devices=[]):
            super().__init__(design, lambda channels, stage: make(channels, 2 ** (stage + 1)))
        del self.fc
        self.pretrained = str(pretrained["checkpoint"])
        self.out_indices, self.frozen_stages, self.norm_eval = tuple(out_indices), frozen_stages, norm_eval
        self._freeze()

    def init_weights(self) -> None:
        """Draw new weights, or load the pretrained ones; one number is drawn from torch's generator, always."""
        initialize(self, torch.Generator().manual_seed(int(torch.randint(2**62, ()))))
        if self.pretrained:
            name = self.pretrained.removeprefix(PREFIX)
            weights = read_weights(name) if name == self.pretrained else _download(name)
            load_weights(self, weights, head=False)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]  # maps in place of classes
        """Return the maps of the stages `out_indices`."""
        maps = self.features(x)
        return tuple(maps[stage] for stage in self.out_indices)

    def train(self, mode: bool = True) -> "AttentionResNet":
        """Set the mode; frozen stages stay in evaluation, and so do all normalisations with `norm_eval`."""
        super().train(mode)
        self._freeze()
        for module in self.modules() if self.norm_eval else ():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def _freeze(self) -> None:
        """Stop the stem and the first `frozen_stages` stages from learning."""
        stages = [self.get_submodule(f"layer{stage}") for stage in range(1, self.frozen_stages + 1)]
        for part in (self.conv1, self.bn1, *stages) if self.frozen_stages >= 0 else ():
            part.eval().requires_grad_(False)


def _download(name: str) -> Mapping[str, Tensor]:
    """Return torchvision's weights called `name`, for example "resnet50", from its address or torch's cache."""
    try:
        choices: Any = get_model_weights(name)
    except ValueError:
        raise UsageError(f"torchvision must have the weights; it has none named {name!r}.") from None
    return choices["IMAGENET1K_V1"].get_state_dict(progress=False)  # type: ignore[no-any-return]


class _Float32Outputs:
    """A detector of mmdet whose pyramid and heads output float32, whatever precision they compute in."""

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        made = dict(self.named_modules())  # type: ignore[attr-defined]  # of the detector beside this class
        for name in ("neck", "rpn_head", "roi_head.bbox_head", "roi_head.mask_head", "roi_head.mask_iou_head"):
            if name in made:
                made[name].register_forward_hook(lambda _module, _inputs, outputs: in_float32(outputs))


def in_float32(outputs: object) -> object:
    """Return the tensors of any nest of lists and tuples in float32 at least; None stays None."""
    if isinstance(outputs, Tensor):
        return outputs.float() if outputs.dtype in (torch.float16, torch.bfloat16) else outputs
    if isinstance(outputs, list | tuple):
        return type(outputs)(in_float32(output) for output in outputs)
    return outputs


@MODELS.register_module()
class WaferMaskRCNN(_Float32Outputs, MaskRCNN):  # type: ignore[misc]
    """mmdet's Mask R-CNN with boxes in float32."""


@MODELS.register_module()
class WaferMaskScoringRCNN(_Float32Outputs, MaskScoringRCNN):  # type: ignore[misc]
    """mmdet's Mask Scoring R-CNN with boxes in float32."""
