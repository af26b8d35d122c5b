"""Images of any size come back at their size, and what is no batch of grey images is refused."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emseg.errors import InputError
from emseg.membrane.networks import NetworkDesign, build_network
from emseg.membrane.networks.membrane_network import pad_to_stride

NETWORKS = {
    architecture: build_network(NetworkDesign(architecture, encoder, 3, 4), seed=0).eval()  # type: ignore[arg-type]
    for architecture, encoder in (("unet", "plain"), ("linknet", "resnet18"), ("casenet", "resnet18"))
}


@given(height=st.integers(1, 40), width=st.integers(1, 40))
@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("architecture", NETWORKS)
def test_logits_have_the_size_of_the_image(architecture: str, height: int, width: int) -> None:
    x = torch.randn(1, 1, height, width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        outputs = NETWORKS[architecture].training_outputs(x)
    assert all(logits.shape == x.shape and logits.isfinite().all() for logits in outputs)


@pytest.mark.parametrize("architecture", NETWORKS)
def test_padding_is_that_of_the_image_mirrored_by_hand(architecture: str) -> None:
    network = NETWORKS[architecture]
    x = torch.randn(1, 1, 30, 21, generator=torch.Generator().manual_seed(0))
    mirrored = torch.cat([x, x[:, :, 27:29].flip(2)], dim=2)  # to 32 rows
    mirrored = torch.cat([mirrored, mirrored[..., 17:20].flip(3)], dim=3)  # to 24 columns
    with torch.no_grad():
        torch.testing.assert_close(network(x), network(mirrored)[..., :30, :21])


def test_the_image_itself_stays_where_it_was() -> None:
    x = torch.randn(2, 1, 13, 3, generator=torch.Generator().manual_seed(0))
    padded = pad_to_stride(x, 16)
    assert padded.shape == (2, 1, 16, 16)
    assert torch.equal(padded[..., :13, :3], x)
    assert torch.equal(padded[..., :13, 3:], x[..., 2:].expand(-1, -1, -1, 13))  # too narrow to be mirrored
    assert torch.equal(pad_to_stride(padded, 16), padded)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(1, 3, 16, 16), r"one channel, .*got \[1, 3, 16, 16\]. Average the colours"),
        (torch.zeros(16, 16), r"got \[16, 16\].*add the axes"),
        (torch.zeros(1, 16, 16), r"got \[1, 16, 16\]"),
        (torch.zeros(1, 1, 16, 16, dtype=torch.uint8), r"floating-point images, .*got torch.uint8"),
        (torch.zeros(1, 1, 0, 16), "at least 1 pixels a side"),
    ],
)
def test_what_is_no_batch_of_grey_images_is_named(x: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        NETWORKS["unet"](x)


def test_images_too_small_for_fanets_frequencies_are_named() -> None:
    network = build_network(NetworkDesign("unet", "plain", 2, 16, attention="fanet"), seed=0).eval()
    with pytest.raises(InputError, match=r"at least 25 pixels a side; got \[1, 1, 64, 24\]"):
        network(torch.zeros(1, 1, 64, 24))
    assert network(torch.zeros(1, 1, 25, 64)).shape == (1, 1, 25, 64)
