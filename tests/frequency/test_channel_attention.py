"""Channel attention: each mechanism equals its paper's, and they fall together where the equations say so."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.fcanet_layer import fcanet_attention, fcanet_description
from tolerances import assert_routes_agree
from torch import nn
from torch.nn import functional

from emseg.errors import UsageError
from emseg.frequency import (
    ATTENTIONS,
    TOP16,
    EfficientChannelAttention,
    FanetAttention,
    FcaAttention,
    SqueezeExcite,
    build_attention,
    dct_pool,
)
from emseg.frequency.attention import adaptive_kernel_size, gate_layers, require_image_size, smallest_image


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.5).to(dtype)


def with_random_weights(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module in float64, its weights large enough for the factors to differ."""
    generator = torch.Generator().manual_seed(seed)
    module = module.double()
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator, dtype=torch.float64))
    return module


def test_squeeze_excite_is_the_equation_of_its_paper() -> None:
    """sigmoid(W2 relu(W1 mean)) x."""
    x, layer = noise(2, 32, 5, 6), with_random_weights(SqueezeExcite(32, reduction=4))
    squeeze, excite = layer.fc[0].weight, layer.fc[2].weight
    assert squeeze.shape == (8, 32)
    hidden = (x.sum(dim=(2, 3)) / 30 @ squeeze.T).clamp(min=0)
    wanted = x / (1 + torch.exp(-(hidden @ excite.T)))[..., None, None]
    assert (layer(x) - wanted).abs().max() < 1e-13


def test_eca_weights_a_channel_by_its_neighbours_means() -> None:
    """With k weights w: sigmoid(sum_j w_j mean_(c + j - k // 2)), means beyond the ends being 0."""
    x, layer = noise(2, 16, 5, 6), with_random_weights(EfficientChannelAttention(16, kernel_size=5))
    means, weight = functional.pad(x.mean(dim=(2, 3)), (2, 2)), layer.conv.weight.flatten()
    score = torch.stack([(means[:, c : c + 5] * weight).sum(dim=1) for c in range(16)], dim=1)
    assert (layer(x) - x * torch.sigmoid(score)[..., None, None]).abs().max() < 1e-13


@pytest.mark.parametrize(("channels", "size"), [(1, 1), (16, 3), (64, 3), (128, 5), (256, 5), (512, 5), (2048, 7)])
def test_ecas_kernel_grows_with_the_channels(channels: int, size: int) -> None:
    """The odd number at |log2(C) / 2 + 1 / 2|: 3 for 64 channels, 5 for 256, as the paper's table says."""
    assert adaptive_kernel_size(channels) == size
    assert EfficientChannelAttention(channels).conv.weight.numel() == size


@pytest.mark.parametrize(("size", "pooled"), [((56, 56), 56), ((7, 7), 7), ((64, 48), 14), ((20, 31), 28), ((9, 7), 7)])
def test_fca_is_fcanets_layer(size: tuple[int, int], pooled: int) -> None:
    """The layer rederived with stored filters gives the same, with and without pooling, also where it enlarges."""
    x, layer = noise(2, 32, *size), with_random_weights(FcaAttention(32, pooled))
    wanted = fcanet_attention(x, pooled, TOP16, layer.fc[0].weight, layer.fc[2].weight)
    assert (layer.describe(x) - fcanet_description(x, pooled, TOP16)).abs().max() < 1e-12
    assert (layer(x) - wanted).abs().max() < 1e-12


def test_fca_takes_the_weights_of_fcanets_layer() -> None:
    """The linear layers have the names and shapes of FcaNet's code: fc.0 and fc.2, no bias."""
    assert {name: tuple(value.shape) for name, value in FcaAttention(64, 56).state_dict().items()} == {
        "fc.0.weight": (4, 64),
        "fc.2.weight": (64, 4),
    }


def test_fanet_with_the_lowest_frequency_alone_is_squeeze_excite() -> None:
    """Same weights, frequencies [(0, 0)]: the same map out, at any size."""
    fanet, senet = FanetAttention(32, frequencies=[(0, 0)], reduction=8), SqueezeExcite(32, reduction=8)
    with_random_weights(senet)
    fanet.double().load_state_dict(senet.state_dict())
    for size in ((7, 7), (33, 18), (80, 90)):
        x = noise(2, 32, *size)
        assert_routes_agree(fanet(x), senet(x))


@pytest.mark.parametrize("size", [7, 14, 28, 56])
def test_fanet_is_fcanet_where_nothing_is_pooled(size: int) -> None:
    """On maps of the pooled size, FANet with FcaNet's normalisation and indices is FcaNet; on others it is not."""
    fca = with_random_weights(FcaAttention(32, size, reduction=2))
    fanet = FanetAttention(32, reduction=2, normalization="ortho", indexing="scaled").double()
    fanet.load_state_dict(fca.state_dict())
    x = noise(2, 32, size, size)
    assert (fanet(x) - fca(x)).abs().max() < 1e-12
    larger = noise(2, 32, size + 3, size)
    assert (fanet(larger) - fca(larger)).abs().max() > 1e-3


def test_raw_and_scaled_indices_agree_on_maps_of_seven_pixels_only() -> None:
    """On 7 x 7 the scaled index is the index; on 14 x 14 no longer."""
    raw, scaled = FanetAttention(16), FanetAttention(16, indexing="scaled")
    assert_routes_agree(raw.describe(noise(1, 16, 7, 7)), scaled.describe(noise(1, 16, 7, 7)))
    assert (raw.describe(noise(1, 16, 14, 14)) - scaled.describe(noise(1, 16, 14, 14))).abs().max() > 1e-3


def test_fanet_is_eq6_with_one_layer_or_two() -> None:
    """sigmoid(fc(F)) x, F being dct_pool with Table 1; `fc` one matrix or a bottleneck of two."""
    x = noise(2, 32, 9, 11)
    description = dct_pool(x)
    one = with_random_weights(FanetAttention(32, layers=1))
    wanted = x * torch.sigmoid(description @ one.fc[0].weight.T)[..., None, None]
    assert (one(x) - wanted).abs().max() < 1e-13
    two = with_random_weights(FanetAttention(32, reduction=8))
    hidden = (description @ two.fc[0].weight.T).clamp(min=0)
    wanted = x * torch.sigmoid(hidden @ two.fc[2].weight.T)[..., None, None]
    assert (two(x) - wanted).abs().max() < 1e-13


@given(height=st.integers(7, 70), width=st.integers(7, 70), name=st.sampled_from(ATTENTIONS))
@settings(max_examples=30, deadline=None)
def test_every_attention_weights_whole_channels_by_factors_between_0_and_1(height: int, width: int, name: str) -> None:
    """On any size the map that comes out is, channel by channel, the map that went in times one number."""
    x = noise(2, 32, height, width, seed=height * 100 + width)
    out = with_random_weights(build_attention(name, 32, stage=4))(x)
    factors = (out * x).sum(dim=(2, 3)) / x.square().sum(dim=(2, 3))
    assert (out - factors[..., None, None] * x).abs().max() < 1e-12
    assert bool(((factors >= 0) & (factors <= 1 + 1e-12)).all())
    assert bool((out == x).all()) == (name == "none")


@pytest.mark.parametrize("name", ATTENTIONS)
def test_nothing_in_the_state_depends_on_the_size_of_the_map(name: str) -> None:
    """No buffers, and the same keys and shapes after maps of two sizes, as before any."""
    layer = build_attention(name, 32, stage=3)
    before = {key: value.shape for key, value in layer.state_dict().items()}
    layer(noise(1, 32, 20, 30, dtype=torch.float32)), layer(noise(1, 32, 64, 65, dtype=torch.float32))
    assert {key: value.shape for key, value in layer.state_dict().items()} == before
    assert not list(layer.buffers())


@pytest.mark.parametrize("name", ["se", "fca", "fanet"])
def test_se_fca_and_fanet_have_equal_parameters(name: str) -> None:
    """2 C^2 / 16 weights each, so that their comparison is fair; ECA has k, one layer C^2."""
    count = sum(weight.numel() for weight in build_attention(name, 256, stage=1).parameters())
    assert count == 2 * 256**2 // 16
    assert sum(weight.numel() for weight in FanetAttention(256, layers=1).parameters()) == 256**2


@pytest.mark.parametrize("name", ["se", "eca", "fca", "fanet"])
def test_gradients_reach_the_map_and_every_weight(name: str) -> None:
    """Finite differences agree for the map and for the weights."""
    layer = with_random_weights(build_attention(name, 16, stage=4))
    x = noise(1, 16, 8, 7).requires_grad_()
    names, weights = zip(*layer.named_parameters(), strict=True)

    def call(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(call, (x, *weights), fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ATTENTIONS)
def test_half_precision_is_close_to_double(name: str, dtype: torch.dtype) -> None:
    """Within a few roundings of the same layer in float64, on a map whose sum is past float16's range."""
    layer = build_attention(name, 32, stage=2)
    x = noise(1, 32, 128, 96, dtype=dtype) + 8
    wanted = layer.double()(x.double())
    assert ((layer.to(dtype)(x).double() - wanted).abs() / wanted.abs().max()).max() < 8 * torch.finfo(dtype).eps


@pytest.mark.parametrize("name", ATTENTIONS)
def test_channels_last_stays_channels_last(name: str) -> None:
    """The layout of the map passes through, with the same values."""
    layer, x = build_attention(name, 64, stage=3), noise(2, 64, 20, 24, dtype=torch.float32)
    out = layer(x.to(memory_format=torch.channels_last))
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert_routes_agree(out, layer(x))


def test_fca_pools_by_stage() -> None:
    """56, 28, 14 and 7 pixels for the stages 1 to 4."""
    assert [build_attention("fca", 16, stage=stage).pooled_size for stage in (1, 2, 3, 4)] == [56, 28, 14, 7]


def test_printing_a_layer_tells_its_choices() -> None:
    """What two runs may differ in can be read off the printed model."""
    assert "16 frequencies, normalization='mean', indexing='scaled'" in repr(FanetAttention(16, indexing="scaled"))
    assert "pooled_size=28" in repr(FcaAttention(16, 28))


def test_the_hidden_layer_is_narrower_by_the_reduction() -> None:
    """The default reduction of 16 leaves 40 channels 2 units; a description of zeros opens every gate half."""
    layers = gate_layers(40)
    assert layers[0].weight.shape == (40 // 16, 40)
    assert torch.equal(layers(torch.zeros(1, 40)), torch.full((1, 40), 0.5))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: build_attention("fcanet", 64), "one of 'none', 'se', .*; got 'fcanet'. Did"),
        (lambda: build_attention("fanett", 64), "Did you mean 'fanet'"),
        (lambda: build_attention(None, 64), "got None"),
        (lambda: build_attention("fca", 64), '`stage` must be 1 to 4 for "fca", which pools by stage; got None'),
        (lambda: build_attention("fca", 64, stage=5), "got 5"),
        (lambda: build_attention("fanet", 40), "got 40 channels and 16 frequencies"),
        (lambda: build_attention("fca", 40, stage=1), "got 40 channels and 16 frequencies"),
        (lambda: SqueezeExcite(8), "got 8 channels and reduction=16. Use reduction=8 or less"),
        (lambda: SqueezeExcite(0), "`channels` must be a whole number of at least 1; got 0"),
        (lambda: SqueezeExcite(16, reduction=0), "`reduction` must be a whole number of at least 1; got 0"),
        (lambda: EfficientChannelAttention(16, kernel_size=4), "must be odd.*got 4. Use 3 or 5"),
        (lambda: FcaAttention(16, 6), "needs at least 7 pixels along each axis"),
        (lambda: FcaAttention(16, 56, frequencies=[(7, 0)]), "from 0 to 6"),
        (lambda: FanetAttention(16, frequencies=[]), "at least one pair"),
        (lambda: FanetAttention(16, frequencies=[(0, -1)]), "got -1"),
        (lambda: FanetAttention(16, normalization="meen"), "Did you mean 'mean'"),
        (lambda: FanetAttention(16, indexing="scale"), "Did you mean 'scaled'"),
        (lambda: FanetAttention(16, layers=3), "`layers` must be 1 or 2; got 3"),
    ],
)
def test_wrong_layers_are_refused_when_they_are_made(make: object, message: str, without_type_checks: None) -> None:
    with pytest.raises(UsageError, match=message):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("options", "stride", "least"),
    [
        ({}, 32, (193, 193)),
        ({"indexing": "scaled"}, 32, (193, 193)),
        ({"frequencies": [(0, 0), (2, 9)]}, 8, (17, 73)),
        ({"frequencies": [(0, 0)]}, 16, (1, 1)),
    ],
)
def test_the_smallest_image_is_the_smallest_that_fanet_reads(
    options: dict[str, object], stride: int, least: tuple[int, int]
) -> None:
    """Maps of ceil(size / stride) pixels are read at that size, and refused one row or one column below it."""
    assert smallest_image("fanet", options, stride) == least
    layer = FanetAttention(16, **options)  # type: ignore[arg-type]
    layer(torch.zeros(1, 16, *(-(-n // stride) for n in least)))
    for smaller in ((least[0] - 1, least[1]), (least[0], least[1] - 1)):
        if min(smaller) > 0:
            with pytest.raises(UsageError):
                layer(torch.zeros(1, 16, *(-(-n // stride) for n in smaller)))
            with pytest.raises(UsageError, match=f"`crop_size` must be at least {least[0]} x {least[1]} pixels"):
                require_image_size("crop_size", smaller, "fanet", options, stride)
    require_image_size("crop_size", least, "fanet", options, stride)
    require_image_size("crop_size", (1, 1), "fca", {}, stride)
