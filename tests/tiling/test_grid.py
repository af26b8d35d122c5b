"""Along an axis, tiles cover every pixel, and their weights sum to one."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emseg.tiling import TileGrid
from emseg.tiling.grid import core_weights


@st.composite
def grids(draw: st.DrawFn) -> TileGrid:
    """Any valid grid, of which the rows are looked at."""
    multiple, halo = draw(st.integers(1, 8)), draw(st.integers(0, 12))
    overlap = draw(st.integers(0, 30))
    tile = multiple * (-(-(2 * halo + overlap) // multiple) + draw(st.integers(1, 6)))
    return TileGrid(draw(st.integers(1, 200)), 1, tile=tile, halo=halo, overlap=overlap, multiple=multiple)


@given(grids())
def test_every_pixel_is_given_with_weights_that_sum_to_one(grid: TileGrid) -> None:
    total = np.zeros(grid.height)
    for tile in grid.rows:
        total[tile.start : tile.stop] += 1 if tile.weights is None else tile.weights
    np.testing.assert_allclose(total, 1, rtol=0, atol=1e-6 if grid.overlap else 0)


@given(grids())
def test_what_is_given_lies_a_halo_away_from_every_end_of_a_tile_but_the_images(grid: TileGrid) -> None:
    extent = grid.multiple * math.ceil(grid.height / grid.multiple)
    size = min(grid.tile, extent)
    for tile in grid.rows:
        assert tile.start < tile.stop
        assert tile.start - tile.origin >= (0 if tile.start == 0 else grid.halo)
        assert tile.origin + size - tile.stop >= (0 if tile.stop == grid.height else grid.halo)
    assert grid.rows[0].origin == 0
    assert grid.rows[-1].origin + size == extent


@given(grids())
def test_tiles_begin_at_multiples_and_go_on_downwards(grid: TileGrid) -> None:
    origins = np.array([tile.origin for tile in grid.rows])
    assert (np.diff(origins) > 0).all()
    assert (np.diff(origins) <= grid.step).all()
    assert (origins % grid.multiple == 0).all()
    assert (np.diff([tile.start for tile in grid.rows]) > 0).all()


@given(grids())
def test_no_fewer_tiles_would_do(grid: TileGrid) -> None:
    extent = grid.multiple * math.ceil(grid.height / grid.multiple)
    assert len(grid.rows) == 1 + max(0, math.ceil((extent - grid.tile) / grid.step))


def test_gaussian_weights_are_the_bells_shares() -> None:
    cores = ((0, 16), (8, 24), (16, 32))
    _, middle, _ = core_weights(cores)
    bells = [np.exp(-0.5 * ((np.arange(8, 24) + 0.5 - centre) / 2) ** 2) for centre in (8, 16, 24)]
    bells[0][8:], bells[2][:8] = 0, 0
    np.testing.assert_allclose(middle, bells[1] / sum(bells), rtol=1e-6)


def test_a_track_1_image_in_tiles_of_512_with_a_halo_of_64() -> None:
    grid = TileGrid(9958, 9959, tile=512, halo=64, multiple=32)
    assert (len(grid.rows), len(grid.columns), grid.n_tiles, grid.tile_shape) == (26, 26, 676, (512, 512))
    assert grid.computed_share == pytest.approx(1.787, abs=1e-3)


def test_a_tile_shrinks_to_a_small_image() -> None:
    assert TileGrid(40, 300, tile=128, halo=32, multiple=32).tile_shape == (64, 128)
