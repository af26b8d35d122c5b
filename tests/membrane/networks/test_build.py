"""Building is a function of design and seed, leaves the global random state alone, and fetches only when asked."""

import pytest
import torch
from torch import Tensor, nn

from emseg.errors import InputError, UsageError
from emseg.membrane.networks import NetworkDesign, build_network

DESIGNS = [
    NetworkDesign("unet", "plain", 2, 16),
    NetworkDesign("linknet", "resnet18", 3, 16, attention="fanet"),
    NetworkDesign("casenet", "resnet18", 4, 8),
    NetworkDesign("unet", "plain", 2, 16, attention="scse"),
]


def _weights(design: NetworkDesign, seed: int) -> dict[str, Tensor]:
    return build_network(design, seed=seed).state_dict()


@pytest.mark.parametrize("design", DESIGNS, ids=lambda design: f"{design.architecture}-{design.attention}")
def test_the_same_seed_gives_the_same_weights_whatever_was_drawn_before(design: NetworkDesign) -> None:
    first = _weights(design, 5)
    torch.rand(3)
    state = torch.get_rng_state()
    again, other = _weights(design, 5), _weights(design, 6)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    drawn = [name for name in first if first[name].ndim == 4 and name != "decoder.fusion.weight"]  # that is 1 / S
    assert drawn
    assert not any(torch.equal(first[name], other[name]) for name in drawn)


@pytest.mark.parametrize("encoder", ["plain", "resnet18"])
def test_networks_that_differ_in_the_encoders_attention_start_from_the_same_weights_elsewhere(encoder: str) -> None:
    none = _weights(NetworkDesign("unet", encoder, 2, 16), 0)
    for attention in ("se", "eca", "fca", "fanet"):
        attended = _weights(NetworkDesign("unet", encoder, 2, 16, attention=attention), 0)
        assert all(torch.equal(attended[name], value) for name, value in none.items())
        assert all(".attention." in name for name in set(attended) - set(none))


def test_encoder_and_decoder_do_not_share_a_stream() -> None:
    """Equal streams would make their weights equal up to scale."""
    network = build_network(NetworkDesign("unet", "plain", 2, 16), seed=0)
    encoder, decoder = network.encoder.levels[1].conv1.weight, network.decoder.blocks[0].conv1[0].weight
    n = min(encoder.numel(), decoder.numel())
    correlation = torch.corrcoef(torch.stack([encoder.detach().flatten()[:n], decoder.detach().flatten()[:n]]))[0, 1]
    assert abs(float(correlation)) < 0.1


@pytest.mark.parametrize("design", DESIGNS, ids=lambda design: f"{design.architecture}-{design.attention}")
def test_every_weight_learns(design: NetworkDesign) -> None:
    network = build_network(design, seed=0)
    x = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    sum(logits.square().mean() for logits in network.training_outputs(x)).backward()
    assert not [name for name, weight in network.named_parameters() if weight.grad is None]


@pytest.mark.parametrize("seed", [-1, 1.0, "0", None, True])
def test_a_seed_that_is_none_is_named(seed: object) -> None:
    with pytest.raises(UsageError, match="`seed` must be a whole number of at least 0"):
        build_network(DESIGNS[0], seed=seed)  # type: ignore[arg-type]


class TestFetchedWeights:
    def test_they_replace_the_encoders_and_not_its_attentions(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import segmentation_models_pytorch as smp

        made: list[nn.Module] = []
        original = smp.encoders.get_encoder

        def fetch(name: str, *, in_channels: int, weights: str) -> nn.Module:
            assert (name, in_channels, weights) == ("resnet18", 1, "imagenet")
            made.append(original(name, in_channels=1, weights=None))
            return made[-1]

        monkeypatch.setattr(smp.encoders, "get_encoder", fetch)
        random = NetworkDesign("unet", "resnet18", 3, attention="se")
        fetched = NetworkDesign("unet", "resnet18", 3, attention="se", encoder_weights="imagenet")
        ours, untrained, theirs = _weights(fetched, 0), _weights(random, 0), made[0].state_dict()
        for name, value in ours.items():
            key = name.removeprefix("encoder.")
            expected = theirs[key] if name.startswith("encoder.") and key in theirs else untrained[name]
            assert torch.equal(value, expected), name
        assert not torch.equal(ours["encoder.conv1.weight"], untrained["encoder.conv1.weight"])

    def test_names_that_smp_does_not_know_are_named(self) -> None:
        with pytest.raises(UsageError, match=r"`encoder_weights` must be one of 'imagenet'; got 'imagnet'"):
            build_network(NetworkDesign("unet", "resnet34", encoder_weights="imagnet"), seed=0)

    def test_no_network_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import segmentation_models_pytorch as smp

        def fail(*_: object, **__: object) -> None:
            raise ConnectionError("offline")

        monkeypatch.setattr(smp.encoders, "get_encoder", fail)
        with pytest.raises(InputError, match=r"'imagenet' of resnet18 could not be fetched .*encoder_weights=None"):
            build_network(NetworkDesign("unet", "resnet18", 3, encoder_weights="imagenet"), seed=0)
