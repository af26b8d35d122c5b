"""The theoretical receptive field of any network equals textbook arithmetic."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from emseg.errors import UsageError
from emseg.tiling.receptive_field import theoretical_receptive_field


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
    assert field.reach is None
    assert field.reach is None
    assert field.area_nm2(2.0, 10, 20) == 10 * 20 * 4.0


def test_a_network_that_answers_with_another_size_is_refused():
    with pytest.raises(UsageError, match="output of the input's size"):
        theoretical_receptive_field(nn.Conv2d(1, 1, 3), stride=1)
