"""The residual networks of `emseg.frequency.resnet` as a backbone that mmdet knows: `AttentionResNet`.

    x [batch, in_channels, height, width]  ->  the maps of the stages `out_indices`, strides 4, 8, 16, 32

An attention sits in every block, behind its last normalisation. mmdet's own ResNet takes attentions as plugins, and
not in the basic blocks of ResNet-34. The keys of the weights are torchvision's, with `.attention.` where one sits.

Initial weights: `init_cfg` None draws them (convolutions as He et al. 2015; the attention's last, from a generator of
its own, so that everything else gets the same weights whatever the attention). {"type": "Pretrained", "checkpoint": X}
loads torchvision's, where X is a file or "torchvision://resnet34" or "torchvision://resnet50", fetched over a network.

Deviation: mmdet starts the last normalisation of every block at zero where nothing is pretrained; here it starts at
one, as in torchvision.
"""

from collections.abc import Mapping, Sequence

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

from emseg.errors import UsageError
from emseg.frequency.resnet import Block, ResNet, ResNetDesign, initialize, load_torchvision
from emseg.wafer.detector.block_attention import attention_maker
from emseg.wafer.detector.weights import read_weights

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
        with torch.random.fork_rng(devices=[]):
            super().__init__(design, attention_maker(attention, attention_options))
        del self.fc
        self.pretrained = _checkpoint(init_cfg)
        self.out_indices, self.frozen_stages, self.norm_eval = tuple(out_indices), frozen_stages, norm_eval
        self._freeze()

    def init_weights(self) -> None:
        """Draw new weights, or load the pretrained ones; one number is drawn from torch's generator, always."""
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        initialize(self, generator)
        if self.pretrained is not None:
            load_torchvision(self, _read(self.pretrained), head=False)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]  # maps in place of classes
        """Return the maps of the stages `out_indices`."""
        maps = self.features(x)
        return tuple(maps[stage] for stage in self.out_indices)

    def train(self, mode: bool = True) -> "AttentionResNet":
        """Set the mode; frozen stages stay in evaluation, and so do all normalisations with `norm_eval`."""
        super().train(mode)
        self._freeze()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def _freeze(self) -> None:
        """Stop the stem and the first `frozen_stages` stages from learning."""
        if self.frozen_stages < 0:
            return
        frozen = [self.conv1, self.bn1]
        frozen += [self.get_submodule(f"layer{stage}") for stage in range(1, self.frozen_stages + 1)]
        for part in frozen:
            part.eval()
            for parameter in part.parameters():
                parameter.requires_grad_(False)


def _checkpoint(init_cfg: Mapping[str, object] | None) -> str | None:
    if init_cfg is None:
        return None
    if init_cfg.get("type") != "Pretrained" or not isinstance(init_cfg.get("checkpoint"), str):
        raise UsageError(
            f"`init_cfg` of the backbone must be None or hold the type 'Pretrained' and a checkpoint; got {init_cfg!r}."
        )
    return str(init_cfg["checkpoint"])


def _read(checkpoint: str) -> Mapping[str, Tensor]:
    """Return torchvision's weights from a file or from torchvision's own address."""
    if checkpoint.startswith(PREFIX):
        return _fetch(checkpoint.removeprefix(PREFIX))
    return read_weights(checkpoint)


def _fetch(name: str) -> Mapping[str, Tensor]:
    """Return torchvision's weights called `name`, for example "resnet50", from its address or torch's cache."""
    from torchvision.models import get_model_weights

    try:
        choices = get_model_weights(name)
    except ValueError:
        raise UsageError(f"torchvision must have the weights; it has none of the name {name!r}.") from None
    weights: Mapping[str, Tensor] = choices["IMAGENET1K_V1"].get_state_dict(progress=False)
    return weights
