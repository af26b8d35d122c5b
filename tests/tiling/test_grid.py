"""Along an axis, tiles cover every pixel, and their weights sum to one."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emseg.tiling import TileGrid
from emseg.tiling.grid import axis_tiles, core_weights


@st.composite
def axes(draw: st.DrawFn) -> dict[str, object]:
    """Any valid arguments of `axis_tiles`."""
    multiple = draw(st.integers(1, 8))
    halo, blending = draw(st.integers(0, 12)), draw(st.sampled_from(["none", "linear", "gaussian"]))
    overlap = 0 if blending == "none" else draw(st.integers(1, 30))
    tile = multiple * (-(-(2 * halo + overlap) // multiple) + draw(st.integers(1, 6)))
    return {
        "length": draw(st.integers(1, 200)),
        "tile": tile,
        "halo": halo,
        "step": multiple * ((tile - 2 * halo - overlap) // multiple),
        "multiple": multiple,
        "blending": blending,
        "extended": draw(st.booleans()),
    }


@given(axes())
def test_every_pixel_is_given_with_weights_that_sum_to_one(axis: dict) -> None:
    total = np.zeros(axis["length"])
    for tile in axis_tiles(**axis):
        total[tile.start : tile.stop] += 1 if tile.weights is None else tile.weights
    np.testing.assert_allclose(total, 1, rtol=0, atol=0 if axis["blending"] == "none" else 1e-6)


@given(axes())
def test_what_is_given_lies_a_halo_away_from_every_end_of_a_tile_but_the_images(axis: dict) -> None:
    tiles, length, halo = axis_tiles(**axis), axis["length"], axis["halo"]
    extent = axis["multiple"] * math.ceil(length / axis["multiple"])
    size = axis["tile"] if axis["extended"] else min(axis["tile"], extent)
    for tile in tiles:
        assert tile.start < tile.stop
        at_top = not axis["extended"] and tile.start == 0
        at_bottom = not axis["extended"] and tile.stop == length
        assert tile.start - tile.origin >= (0 if at_top else halo)
        assert tile.origin + size - tile.stop >= (0 if at_bottom else halo)
    if not axis["extended"]:
        assert tiles[0].origin == 0
        assert tiles[-1].origin + size == extent


@given(axes())
def test_tiles_begin_at_multiples_and_go_on_downwards(axis: dict) -> None:
    tiles = axis_tiles(**axis)
    origins = np.array([tile.origin for tile in tiles])
    assert (np.diff(origins) > 0).all()
    assert (np.diff(origins) <= axis["step"]).all()
    assert ((origins - origins[0]) % axis["multiple"] == 0).all()
    assert (np.diff([tile.start for tile in tiles]) > 0).all()


@given(axes())
def test_no_fewer_tiles_would_do(axis: dict) -> None:
    margin = axis["halo"] if axis["extended"] else 0
    extent = axis["multiple"] * math.ceil((axis["length"] + 2 * margin) / axis["multiple"])
    assert len(axis_tiles(**axis)) == 1 + max(0, math.ceil((extent - axis["tile"]) / axis["step"]))


def test_linear_weights_of_two_tiles_cross_in_the_middle_of_the_overlap() -> None:
    left, right = core_weights(((0, 10), (6, 16)), "linear")
    np.testing.assert_allclose(left, [*[1] * 6, 0.875, 0.625, 0.375, 0.125])
    np.testing.assert_allclose(right, [0.125, 0.375, 0.625, 0.875, *[1] * 6])


def test_gaussian_weights_are_the_bells_shares() -> None:
    cores = ((0, 16), (8, 24), (16, 32))
    _, middle, _ = core_weights(cores, "gaussian")
    bells = [np.exp(-0.5 * ((np.arange(8, 24) + 0.5 - centre) / 2) ** 2) for centre in (8, 16, 24)]
    bells[0][8:], bells[2][:8] = 0, 0
    np.testing.assert_allclose(middle, bells[1] / sum(bells), rtol=1e-6)


def test_a_track_1_image_in_tiles_of_512_with_a_halo_of_64() -> None:
    grid = TileGrid(9958, 9959, tile=512, halo=64, multiple=32)
    assert (len(grid.rows), len(grid.columns), grid.n_tiles, grid.tile_shape) == (26, 26, 676, (512, 512))
    assert grid.computed_share == pytest.approx(1.787, abs=1e-3)


def test_a_tile_shrinks_to_a_small_image_and_a_mirrored_image_grows_to_the_tile() -> None:
    small = {"height": 40, "width": 300, "tile": 128, "halo": 32, "multiple": 32}
    assert TileGrid(**small).tile_shape == (64, 128)
    assert TileGrid(**small, border="reflect").tile_shape == (128, 128)
    assert len(TileGrid(**small, border="reflect").rows) == 1
