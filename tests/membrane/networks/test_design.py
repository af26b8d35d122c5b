"""A design is plain data, and one that cannot be built is refused in one sentence."""

import json
import subprocess
import sys

import pytest

from emseg.errors import UsageError
from emseg.membrane.networks import NetworkDesign


def test_the_default_is_the_papers_unet() -> None:
    design = NetworkDesign()
    assert (design.architecture, design.encoder, design.attention) == ("unet", "resnet50", "none")
    assert design.level_channels == (64, 256, 512, 1024, 2048)
    assert design.level_strides == (2, 4, 8, 16, 32)
    assert design.unet_channels == (256, 128, 64, 32, 16)  # smp's


@pytest.mark.parametrize(
    ("design", "levels", "decoder"),
    [
        (NetworkDesign(encoder="plain", encoder_depth=3, base_channels=8), (8, 16, 32, 64), (32, 16, 8)),
        (NetworkDesign(encoder="plain", encoder_depth=4), (64, 128, 256, 512, 1024), (512, 256, 128, 64)),
        (NetworkDesign(encoder="resnet18", base_channels=16), (16, 16, 32, 64, 128), (64, 32, 16, 8, 8)),
        (NetworkDesign(encoder="resnet50", encoder_depth=3, base_channels=32), (32, 128, 256), (32, 16, 8)),
    ],
)
def test_widths_follow_from_the_first(design: NetworkDesign, levels: tuple[int, ...], decoder: tuple[int, ...]) -> None:
    assert design.level_channels == levels
    assert design.unet_channels == decoder
    assert design.stride == design.level_strides[-1]


def test_a_design_goes_to_json_and_back() -> None:
    frequencies = [(0, 0), (0, 1), (2, 0), (1, 1)]
    options = {"reduction": 4, "frequencies": frequencies}
    for design in (
        NetworkDesign(),
        NetworkDesign("unet", "plain", 2, 8, (24, 12), "fanet", options),
        NetworkDesign("casenet", "resnet152"),
        NetworkDesign("linknet", "resnet18", in_channels=2),
    ):
        values = json.loads(json.dumps(design.to_dict()))
        assert NetworkDesign(**values).to_dict() == values
        assert NetworkDesign(**values).unet_channels == design.unet_channels
    again = NetworkDesign(**json.loads(json.dumps(NetworkDesign(decoder_channels=(5, 4, 3, 2, 1)).to_dict())))
    assert again == NetworkDesign(decoder_channels=(5, 4, 3, 2, 1))


def test_a_design_from_before_there_were_channels_has_one() -> None:
    values = NetworkDesign("linknet", "resnet18").to_dict()
    assert values.pop("in_channels") == 1
    assert NetworkDesign(**values) == NetworkDesign("linknet", "resnet18")


def test_fanet_needs_maps_that_have_its_frequencies() -> None:
    shallow = {"encoder": "plain", "encoder_depth": 3, "base_channels": 16, "attention": "fanet"}
    assert NetworkDesign(encoder="plain", encoder_depth=3).min_size == 1
    assert NetworkDesign(**shallow).min_size == 6 * 8 + 1  # Table 1 goes up to 6
    assert NetworkDesign(**shallow, attention_options={"frequencies": ((0, 0), (0, 2))}).min_size == 2 * 8 + 1
    assert NetworkDesign(**shallow, attention_options={"indexing": "scaled"}).min_size == 6 * 8 + 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"architecture": "u-net"}, "`architecture` must be one of .*got 'u-net'. Did you mean 'unet'"),
        ({"encoder": "resnet5"}, "`encoder` must be one of .*Did you mean 'resnet50'"),
        ({"attention": "fannet"}, "`attention` must be one of .*Did you mean 'fanet'"),
        ({"encoder_depth": 6}, "`encoder_depth` must be 2 to 5 for the encoder 'resnet50'; got 6"),
        ({"encoder_depth": 1}, "`encoder_depth` must be 2 to 5"),
        ({"encoder": "plain", "encoder_depth": 0}, "encoder_depth"),
        ({"encoder_depth": 2.5}, "encoder_depth"),
        ({"base_channels": 2}, "`base_channels` must be at least 4; got 2"),
        ({"base_channels": "64"}, "base_channels"),
        ({"in_channels": 0}, "`in_channels` must be at least 1; got 0"),
        ({"in_channels": True}, "`in_channels` must be a whole number"),
        ({"in_channels": 1.0}, "`in_channels` must be a whole number"),
        ({"decoder_channels": (64, 32)}, "one entry for each of 5 halvings .*got 2 with .*, or give 5"),
        ({"decoder_channels": (64, 32, 16, 8, 0)}, "decoder_channels"),
        ({"decoder_channels": "wide"}, "`decoder_channels` must be a list; got 'wide'"),
        ({"decoder_channels": 64}, "`decoder_channels` must be a list; got 64"),
        ({"architecture": "linknet", "decoder_channels": (1, 2, 3, 4, 5)}, "belong to the U-Net, .*Leave them out"),
        ({"architecture": "casenet", "attention": "scse"}, "'scse' belongs to the U-Net's decoder"),
        ({"attention_options": ["reduction"]}, "`attention_options` must be a valid dictionary"),
        ({"attention_options": {"reduction": 4}}, "'none', which has none; got 'reduction'"),
        ({"attention": "se", "attention_options": {"reducton": 4}}, "Did you mean 'reduction'"),
        ({"attention": "eca", "attention_options": {"reduction": 4}}, "which has kernel_size; got 'reduction'"),
        ({"attention": "eca", "attention_options": {"kernel_size": 4}}, "must be odd"),
        ({"attention": "se", "encoder": "plain", "base_channels": 8}, "at stride 1: .*Use reduction=8 or less"),
        ({"attention": "fanet", "encoder": "plain", "base_channels": 8}, "at stride 1: .*divides 8"),
        ({"attention": "scse", "base_channels": 16}, r'Use attention_options=\{"reduction": 8\}'),
        ({"attention": "scse", "attention_options": {"reduction": 0}}, "reduction"),
        ({"encoder_weights": 3}, "`encoder_weights` must be text; got 3"),
        ({"encoder_weights": "imagenet", "base_channels": 32}, "exist for ResNets of base_channels=64"),
        ({"encoder_weights": "imagenet", "encoder": "plain"}, "exist for ResNets"),
    ],
)
def test_what_cannot_be_built_is_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        NetworkDesign(**values)  # type: ignore[arg-type]


def test_a_name_that_no_design_has_is_named() -> None:
    with pytest.raises(UsageError, match=r"has no 'encodr'. Did you mean 'encoder'"):
        NetworkDesign(**{"encodr": "plain"})


def test_a_design_alone_does_not_import_smp() -> None:
    code = "import sys, emseg.membrane.networks; print('segmentation_models_pytorch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
