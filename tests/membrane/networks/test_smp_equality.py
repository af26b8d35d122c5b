"""At the standard width the networks are segmentation-models-pytorch's own."""

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from emseg.membrane.networks import MembraneNetwork, NetworkDesign, build_network
from emseg.membrane.networks.architectures import ResNetEncoder
from emseg.membrane.networks.network_design import RESNETS, encoder_attention

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def _images(n: int = 2, size: int = 64) -> Tensor:
    return torch.randn(n, 1, size, size, generator=torch.Generator().manual_seed(1))


def _smp(design: NetworkDesign) -> nn.Module:
    options = {
        "encoder_name": design.encoder,
        "encoder_depth": design.encoder_depth,
        "encoder_weights": None,
        "in_channels": 1,
        "classes": 1,
    }
    if design.architecture == "linknet":
        return smp.Linknet(**options)
    attention = "scse" if design.attention == "scse" else None
    return smp.Unet(**options, decoder_channels=design.unet_channels, decoder_attention_type=attention)


def _train_a_little(network: MembraneNetwork) -> None:
    """Give batch normalisation other statistics than those it starts with, or their order would not matter."""
    with torch.no_grad():
        network.train()(_images())
    network.eval()


@pytest.mark.parametrize(
    "design",
    [
        NetworkDesign("linknet", "resnet18"),
        NetworkDesign("unet", "resnet50"),
        NetworkDesign("unet", "resnet18", attention="scse"),
        NetworkDesign("unet", "resnet18", decoder_channels=(40, 30, 20, 10, 5)),
    ],
    ids=lambda design: f"{design.architecture}-{design.encoder}-{design.attention}",
)
def test_same_keys_shapes_and_answers_as_smp(design: NetworkDesign) -> None:
    ours, theirs = build_network(design, seed=3), _smp(design)
    assert _shapes(ours) == _shapes(theirs)
    _train_a_little(ours)
    theirs.load_state_dict(ours.state_dict())
    x = _images()
    for mode in (False, True):
        ours.train(mode)
        theirs.train(mode)
        with torch.no_grad():
            torch.testing.assert_close(ours(x), theirs(x), **TOLERANCE)


@pytest.mark.parametrize("name", sorted(RESNETS))
def test_every_encoder_has_the_keys_and_shapes_of_smps(name: str) -> None:
    theirs = smp.encoders.get_encoder(name, in_channels=1, weights=None) if name != "resnet152" else None
    with torch.device("meta"):
        ours = ResNetEncoder(NetworkDesign(encoder=name).resnet, encoder_attention("none", {}))
        theirs = theirs or smp.encoders.resnet.ResNetEncoder(**smp.encoders.encoders[name]["params"])
    expected = _shapes(theirs)
    if name == "resnet152":  # made on no device, which smp cannot do for one channel
        expected = {key: value for key, value in expected.items() if not key.startswith("fc.")}
        expected["conv1.weight"] = (64, 1, 7, 7)
    assert _shapes(ours) == expected
    assert ours.out_channels[1:] == list(theirs.out_channels[1:])


def test_a_shallower_unet_is_smps_without_the_stages_that_it_leaves_unused() -> None:
    design = NetworkDesign("unet", "resnet18", encoder_depth=3)
    ours, theirs = build_network(design, seed=0), _smp(design)
    unused = ("encoder.layer3.", "encoder.layer4.")
    assert _shapes(ours) == {key: value for key, value in _shapes(theirs).items() if not key.startswith(unused)}
    theirs.load_state_dict(ours.state_dict(), strict=False)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(_images()), theirs.eval()(_images()), **TOLERANCE)


def test_narrow_networks_have_the_structure_of_the_standard_one() -> None:
    standard, narrow = (NetworkDesign("unet", "resnet18", base_channels=width) for width in (64, 16))
    names = [list(build_network(design, seed=0).state_dict()) for design in (standard, narrow)]
    assert names[0] == names[1]
