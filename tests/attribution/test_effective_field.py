"""The effective field is the mean of shifted gradients."""

import numpy as np
import pytest

from emseg.attribution.field import effective_receptive_field
from emseg.errors import InputError, UsageError


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
