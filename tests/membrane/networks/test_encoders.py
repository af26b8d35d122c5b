"""The encoders are those of their papers, with the attention where it belongs."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from emseg.frequency.resnet import ResNet
from emseg.membrane.networks import MembraneNetwork, NetworkDesign, build_network
from emseg.membrane.networks.architectures import DoubleConvolution

ENCODER_ATTENTIONS = ("se", "eca", "fca", "fanet")


def _images(size: int = 64) -> Tensor:
    return torch.randn(1, 1, size, size, generator=torch.Generator().manual_seed(1))


def _plain(attention: str = "none", depth: int = 2) -> MembraneNetwork:
    return build_network(NetworkDesign("unet", "plain", depth, 16, attention=attention), seed=0).eval()


def test_the_plain_unet_is_the_originals_double_convolutions_and_skips_at_every_resolution() -> None:
    network = _plain()
    weights = network.state_dict()

    def convolve(x: Tensor, convolution: str, norm: str) -> Tensor:
        x = functional.conv2d(x, weights[f"{convolution}.weight"], padding=1)
        scale = weights[f"{norm}.weight"] / (weights[f"{norm}.running_var"] + 1e-5).sqrt()
        shift = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale
        return (x * scale[:, None, None] + shift[:, None, None]).clamp(min=0)

    x, skips = _images(), []
    for level in range(3):
        for number in (1, 2):
            name = f"encoder.levels.{level}"
            x = convolve(x, f"{name}.conv{number}", f"{name}.bn{number}")
        skips.append(x)
        if level < 2:
            x = functional.max_pool2d(x, 2)
    for block, skip in enumerate((skips[1], skips[0])):
        x = torch.cat([x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3), skip], dim=1)
        for number in (1, 2):
            name = f"decoder.blocks.{block}.conv{number}"
            x = convolve(x, f"{name}.0", f"{name}.1")
    head = functional.conv2d(x, weights["segmentation_head.0.weight"], weights["segmentation_head.0.bias"], padding=1)
    with torch.no_grad():
        torch.testing.assert_close(network(_images()), head, rtol=1e-4, atol=1e-5)


def test_the_small_unet_of_the_books_floor_has_a_tenth_of_a_million_weights() -> None:
    network = build_network(NetworkDesign("unet", "plain", 3, 8), seed=0)
    assert network.encoder.out_channels == [1, 8, 16, 32, 64]
    assert 0.1e6 < sum(weight.numel() for weight in network.parameters()) < 0.15e6


@pytest.mark.parametrize("attention", ENCODER_ATTENTIONS)
@pytest.mark.parametrize("architecture", ["unet", "linknet", "casenet"])
def test_every_block_of_a_resnet_encoder_has_the_attention_of_the_frequency_chapters(
    architecture: str, attention: str
) -> None:
    design = NetworkDesign(architecture, "resnet18", 3, 16, attention=attention)  # type: ignore[arg-type]
    network = build_network(design, seed=0).eval()
    assert design.resnet is not None
    reference = ResNet(design.resnet, attention).eval()
    weights = {**reference.state_dict(), **network.encoder.state_dict()}
    assert set(weights) - set(network.encoder.state_dict()) == {"fc.weight", "fc.bias"}
    reference.load_state_dict(weights)
    with torch.no_grad():
        for ours, theirs in zip(network.encoder(_images(224))[2:], reference.features(_images(224)), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert str(network.encoder.layer1[0].attention) == str(reference.layer1[0].attention)


@pytest.mark.parametrize("attention", ENCODER_ATTENTIONS)
def test_every_double_convolution_of_the_plain_encoder_is_followed_by_its_attention(attention: str) -> None:
    network = _plain(attention)
    seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def watch(block: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        rectified = nn.Sequential(*list(block.children())[:-1])(*inputs)
        seen.append((block.attention(rectified), rectified, output))

    for block in network.modules():
        if isinstance(block, DoubleConvolution):
            block.register_forward_hook(watch)
    with torch.no_grad():
        network(_images(32))
    assert len(seen) == 3
    for attended, rectified, output in seen:
        torch.testing.assert_close(output, attended)
        assert not torch.allclose(output, rectified)


def test_fcanet_pools_each_level_to_its_size_on_224_pixels() -> None:
    plain = _plain("fca", depth=5).encoder
    assert [level.attention.pooled_size for level in plain.levels] == [224, 112, 56, 28, 14, 7]
    resnet = build_network(NetworkDesign("unet", "resnet18", base_channels=16, attention="fca"), seed=0).encoder
    assert [getattr(resnet, f"layer{n}")[0].attention.pooled_size for n in (1, 2, 3, 4)] == [56, 28, 14, 7]


def test_options_reach_the_attention() -> None:
    options = {"reduction": 4, "frequencies": [[0, 0], [1, 0]], "indexing": "scaled", "layers": 2}  # as JSON has them
    design = NetworkDesign("unet", "plain", 2, 8, attention="fanet", attention_options=options)
    attention = build_network(design, seed=0).encoder.levels[0].attention
    assert attention.frequencies == ((0, 0), (1, 0))
    assert attention.indexing == "scaled"
    assert attention.fc[0].out_features == 2


def test_scse_stands_in_every_decoder_block_and_may_be_narrower() -> None:
    design = NetworkDesign("unet", "plain", 3, 8, attention="scse", attention_options={"reduction": 4})
    network = build_network(design, seed=0)
    hidden = [
        getattr(block, f"attention{n}").attention.cSE[1].out_channels
        for block in network.decoder.blocks
        for n in (1, 2)
    ]
    assert hidden == [24, 8, 12, 4, 6, 2]
    with torch.no_grad():
        assert not torch.allclose(network.eval()(_images()), _plain(depth=3)(_images()))
