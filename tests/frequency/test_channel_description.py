"""What reaches an attention is read where it reads it, and costs are measured of what they are said to be."""

import pytest
import torch

from emseg.errors import UsageError
from emseg.frequency import TOP16, dct_coefficients
from emseg.frequency.attention import SqueezeExcite
from emseg.frequency.channel_description import attention_maps, maps_of_one_mean, mean_spectrum
from emseg.frequency.cost import DEVICES, POOLINGS, StageCost, cost_table, measure_costs, median_ms, report_costs
from emseg.frequency.resnet import ResNet, ResNetDesign
from emseg.runs.session import Run

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


def test_the_times_are_those_of_the_calls():
    """Nothing is faster than multiplying matrices; each is called once a round and once before."""
    calls = {"nothing": 0, "work": 0}
    matrix = torch.randn(300, 300)

    def count(name: str, work: bool) -> None:
        calls[name] += 1
        if work:
            _ = matrix @ matrix @ matrix

    times = median_ms({"nothing": lambda: count("nothing", False), "work": lambda: count("work", True)}, "cpu", 5)
    assert calls == {"nothing": 6, "work": 6}
    assert 0 < times["nothing"] < times["work"]


def test_a_device_that_is_not_here_is_listed_as_not_run():
    costs = measure_costs(224, batch=1, rounds=1, seed=0)
    assert [(cost.device, cost.stage) for cost in costs] == [
        (device, stage) for device in DEVICES for stage in (1, 2, 3, 4)
    ]
    table = cost_table(costs)
    run = Run("fanet/channel_attention", seed=0)
    report_costs(run, costs, 1)
    assert {"cpu_pooling_ratio", "cpu_stored_ratio", "cpu_eca_ratio", "cpu_fca_ratio", "cpu_fanet_ratio"} <= set(
        run.metrics
    )
    if not torch.cuda.is_available():
        assert [cell.text for cell in table.rows[-1]][2:] == ["not run"] * 7
        assert not any(name.startswith("cuda") for name in run.metrics)


def test_ratios_are_taken_over_all_stages_together():
    pooling, attention = dict.fromkeys(POOLINGS, 2.0), {"se": 4.0, "eca": 4.0, "fca": 6.0, "fanet": 8.0}
    first = StageCost("cpu", 1, (1, 256, 64, 64), pooling | {"dct_pool": 3.0}, attention)
    second = StageCost("cpu", 2, (1, 512, 32, 32), pooling, attention)
    run = Run("fanet/channel_attention", seed=0)
    report_costs(run, [first, second], 5)
    assert run.metrics["cpu_pooling_ratio"].value == pytest.approx(5 / 4)
    assert run.metrics["cpu_fanet_ratio"].value == pytest.approx(2)
    assert first.pooling_ratio("dct_pool") == pytest.approx(1.5)


def test_no_round_is_no_measurement():
    with pytest.raises(UsageError, match="`rounds` and `batch` must be at least 1; got rounds=0"):
        measure_costs(224, batch=1, rounds=0, seed=0)
