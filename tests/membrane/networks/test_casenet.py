"""CASENet is the one that U-RISC describes: five sides, sliced concatenation, grouped fusion."""

import numpy as np
import pytest
import torch
from reference import casenet as reference
from torch import nn

from emseg.membrane.networks import NetworkDesign, build_network
from emseg.membrane.networks.architectures import SideFusion


def _maps(channels: tuple[int, ...], size: tuple[int, int]) -> list[torch.Tensor]:
    """Maps of two images at strides 2, 4, 8, ..."""
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, width, size[0] // 2**n, size[1] // 2**n, generator=generator, dtype=torch.float64)
        for n, width in enumerate(channels, start=1)
    ]


def test_sides_and_fusion_are_the_textbooks() -> None:
    channels, size = (4, 3, 5, 6), (32, 48)
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(0)
        fusion = SideFusion(channels).double()
        for parameter in fusion.parameters():
            nn.init.normal_(parameter)
    maps = _maps(channels, size)
    with torch.no_grad():
        *sides, fused = fusion(maps, size)
    for image in range(2):
        expected = []
        for module, features in zip(fusion.sides, maps, strict=True):
            weight, bias = module.weight[:, :, 0, 0].detach().numpy(), module.bias.detach().numpy()
            classified = reference.classify(features[image].numpy(), weight, bias)
            expected.append(np.array([reference.enlarge(activation, *size) for activation in classified]))
        for side, activation in zip(sides, expected, strict=True):
            np.testing.assert_allclose(side[image], activation, atol=1e-12)
        weight, bias = fusion.fusion.weight[:, :, 0, 0].detach().numpy(), fusion.fusion.bias.detach().numpy()
        np.testing.assert_allclose(fused[image], reference.fuse(expected, weight, bias), atol=1e-12)


def test_the_papers_casenet_has_five_sides_after_the_blocks_of_a_resnet152() -> None:
    design = NetworkDesign("casenet", "resnet152")
    assert design.level_channels == (64, 256, 512, 1024, 2048)
    with torch.device("meta"):
        decoder = SideFusion(design.level_channels)
    assert [tuple(side.weight.shape) for side in decoder.sides] == [(1, c, 1, 1) for c in design.level_channels]
    assert tuple(decoder.fusion.weight.shape) == (1, 5, 1, 1)
    narrow = build_network(NetworkDesign("casenet", "resnet152", base_channels=4), seed=0)
    blocks = [len(getattr(narrow.encoder, f"layer{stage}")) for stage in (1, 2, 3, 4)]
    assert blocks == [3, 8, 36, 3]
    assert len(narrow.decoder.sides) == 5


@pytest.mark.parametrize(("encoder", "depth"), [("resnet18", 5), ("resnet50", 3), ("plain", 4)])
def test_each_map_of_the_encoder_has_a_side_that_is_supervised_and_the_answer_is_the_fused_one(
    encoder: str, depth: int
) -> None:
    network = build_network(NetworkDesign("casenet", encoder, depth, 8), seed=0).eval()
    x = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        outputs, answer = network.training_outputs(x), network(x)
    assert len(outputs) == len(network.design.level_channels) + 1
    assert torch.equal(outputs[-1], answer)
    # The fusion starts as the mean of the sides.
    torch.testing.assert_close(answer, torch.stack(outputs[:-1]).mean(dim=0), rtol=1e-4, atol=1e-5)


def test_each_side_sees_its_own_stage_alone() -> None:
    network = build_network(NetworkDesign("casenet", "resnet18", base_channels=8), seed=0).eval()
    x = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = network.training_outputs(x)
        network.encoder.layer4[1].conv2.weight.mul_(2)
        after = network.training_outputs(x)
    changed = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert changed == [False, False, False, False, True, True]
