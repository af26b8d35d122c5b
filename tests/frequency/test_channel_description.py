"""What reaches an attention is read where it reads it, and described by what it holds."""

import pytest
import torch

from chapters.channel_attention.channel_description import attention_maps, maps_of_one_mean, mean_spectrum
from emseg.errors import UsageError
from emseg.frequency import TOP16, dct_coefficients
from emseg.frequency.attention import SqueezeExcite
from emseg.frequency.resnet import ResNet, ResNetDesign

SMALL = ResNetDesign(depths=(1, 1), base_channels=16, in_channels=1, n_classes=4)


def test_the_maps_are_those_that_the_attention_weights():
    """Attention times map plus shortcut, behind a ReLU, is what the block hands on."""
    network = ResNet(
        SMALL, lambda channels, _: SqueezeExcite(channels, reduction=4), generator=torch.Generator().manual_seed(0)
    ).eval()
    images = torch.randn(3, 1, 56, 56, generator=torch.Generator().manual_seed(1))
    maps = attention_maps(network, images)
    assert [tuple(one.shape) for one in maps] == [(3, 16, 14, 14), (3, 32, 7, 7)]
    with torch.no_grad():
        stem = network.maxpool(torch.relu(network.bn1(network.conv1(images))))
        expected = torch.relu(network.layer1[0].attention(maps[0]) + stem)
        torch.testing.assert_close(network.layer1(stem), expected)
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_a_network_without_attention_layers_is_refused():
    with pytest.raises(UsageError, match="blocks with a submodule `attention`"):
        attention_maps(torch.nn.Conv2d(1, 1, 3), torch.zeros(1, 1, 8, 8))


def test_the_drawn_maps_share_their_mean_and_differ_in_other_components():
    maps = torch.stack(list(maps_of_one_mean(56).values()))
    components = dct_coefficients(maps, TOP16)
    torch.testing.assert_close(components[:, 0], torch.full((4,), 0.5, dtype=torch.float64))
    assert (torch.pdist(components[:, 1:]) > 0.02).all()
    assert maps.min() >= 0
    assert maps.max() <= 1


def test_a_map_of_one_cosine_has_all_its_variance_at_that_frequency_whatever_its_mean():
    u = torch.arange(20) + 0.5
    wave = torch.cos(torch.pi * 3 * u / 20)[:, None] * torch.cos(torch.pi * 2 * u / 20)
    spectrum = mean_spectrum(wave[None, None] + 7)
    assert spectrum[3, 2] == pytest.approx(1, abs=1e-6)
    assert spectrum.sum() == pytest.approx(1)
