"""The theoretical field equals textbook arithmetic; the effective one is the mean of shifted gradients."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from emseg.attribution.receptive_field import effective_receptive_field, theoretical_receptive_field
from emseg.errors import InputError, UsageError


class TinyUNet(nn.Module):
    """One level: 3x3 at full size, pool by 2, 3x3, nearest up, concatenate, 3x3, 1x1."""

    def __init__(self, *, functional_pool: bool) -> None:
        super().__init__()
        self.down, self.middle = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1)
        self.up, self.last = nn.Conv2d(4, 2, 3, padding=1), nn.Conv2d(2, 1, 1)
        self.norm = nn.BatchNorm2d(2)
        self.pool = nn.MaxPool2d(2)
        self.functional_pool = functional_pool

    def forward(self, x):
        high = self.norm(self.down(x)).relu()
        low = functional.max_pool2d(high, 2) if self.functional_pool else self.pool(high)
        low = functional.interpolate(self.middle(low).relu(), scale_factor=2.0)
        return self.last(self.up(torch.cat([high, low], dim=1)).relu())


class Gated(nn.Module):
    """A convolution times a gate computed from the whole map."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x):
        y = self.conv(x)
        return y * torch.sigmoid(y.mean(dim=(2, 3), keepdim=True))


@pytest.mark.parametrize("n_layers", [1, 2, 5])
def test_n_convolutions_of_three_see_n_pixels_each_way(n_layers):
    layers = [nn.Conv2d(1, 1, 3, padding=1) for _ in range(n_layers)]
    field = theoretical_receptive_field(nn.Sequential(*layers), stride=1)
    assert (field.up, field.down, field.left, field.right) == (n_layers,) * 4
    assert (field.height, field.width, field.reach) == (2 * n_layers + 1, 2 * n_layers + 1, n_layers)


def test_kernels_of_unequal_sides_are_seen_by_axis():
    field = theoretical_receptive_field(nn.Conv2d(1, 1, (1, 7), padding=(0, 3)), stride=1)
    assert (field.up, field.down, field.left, field.right) == (0, 0, 3, 3)


def test_weights_of_zero_and_dead_rectifiers_do_not_shrink_the_field():
    layers = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.ReLU(), nn.Conv2d(1, 1, 3, padding=1))
    for parameter in layers.parameters():
        nn.init.constant_(parameter, 0.0)
    nn.init.constant_(layers[0].bias, -5.0)
    assert theoretical_receptive_field(layers, stride=1).reach == 2
    assert not layers[0].weight.detach().any(), "the caller's weights stay as they were"


@pytest.mark.parametrize("functional_pool", [True, False])
def test_the_field_of_a_u_net_follows_from_its_strides(functional_pool):
    """The last 3x3 of an even row t reads row t - 1, whose cell averages t - 2 and t - 1; the 3x3 at half size adds the
    cell from t - 4 on, and the first 3x3 one more row: 5 upwards, and 5 downwards of an odd row.
    """
    field = theoretical_receptive_field(TinyUNet(functional_pool=functional_pool), stride=2)
    assert (field.up, field.down, field.left, field.right) == (5, 5, 5, 5)


def test_perturbing_a_pixel_outside_the_field_changes_nothing_and_inside_something():
    generator = torch.Generator().manual_seed(3)
    network = TinyUNet(functional_pool=False).eval()
    field = theoretical_receptive_field(network, stride=2)
    image = torch.rand((1, 1, 32, 32), generator=generator)
    outside = image.clone()
    outside[0, 0, 16 - field.up - 1] += 1.0
    outside[0, 0, :, 16 + field.right + 1] += 1.0
    with torch.no_grad():
        assert float(network(outside)[0, 0, 16, 16]) == float(network(image)[0, 0, 16, 16])


def test_a_gate_from_the_whole_map_makes_the_field_global():
    field = theoretical_receptive_field(Gated(), stride=4)
    assert field.is_global
    assert field.reach is None
    assert field.area_nm2(2.0, 10, 20) == 10 * 20 * 4.0


def test_a_network_that_answers_with_another_size_is_refused():
    with pytest.raises(UsageError, match="output of the input's size"):
        theoretical_receptive_field(nn.Conv2d(1, 1, 3), stride=1)


def test_the_effective_field_is_the_mean_of_shifted_gradients():
    maps = np.zeros((2, 9, 9))
    maps[0, 4, 5] = 2.0  # one to the right of its target
    maps[1, 2, 3] = -4.0  # one to the right of its target, of the other sign
    field = effective_receptive_field(maps, [[4, 4], [2, 2]], 2, power=1)
    assert field.weight[2, 3] == 3.0
    assert field.weight.sum() == 3.0
    assert effective_receptive_field(maps, [[4, 4], [2, 2]], 2, power=2).weight[2, 3] == 10.0


def test_places_outside_the_image_are_left_out_of_the_mean():
    maps = np.ones((2, 5, 5))
    field = effective_receptive_field(maps, [[0, 0], [2, 2]], 2)
    assert np.all(field.weight == 1.0)


@pytest.mark.parametrize(
    ("gradients", "targets", "error", "message"),
    [
        (np.ones((2, 4, 4)), [[1, 1]], UsageError, "need targets"),
        (np.zeros((1, 4, 4)), [[1, 1]], InputError, "not all zero"),
        (np.full((1, 4, 4), np.nan), [[1, 1]], InputError, "finite"),
    ],
)
def test_gradients_that_have_no_field_are_refused(gradients, targets, error, message):
    with pytest.raises(error, match=message):
        effective_receptive_field(gradients, targets, 1)


@pytest.mark.parametrize("depth", [1, 2])
def test_fields_by_gradients_and_by_impulses_agree(depth):
    """`emseg.membrane.networks` follows impulses forward; this module follows gradients back."""
    from emseg.membrane.networks import NetworkDesign, build_network
    from emseg.membrane.networks.receptive_field import receptive_field

    design = NetworkDesign(encoder="plain", encoder_depth=depth, base_channels=4)
    network = build_network(design, seed=0)
    found = theoretical_receptive_field(network, stride=network.stride)
    expected = receptive_field(design)
    assert (found.up, found.left) == (expected.before, expected.before)
    assert (found.down, found.right) == (expected.after, expected.after)
