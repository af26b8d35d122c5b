"""The random split leaks, and by how much is exact; the other two do not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wafer.made_wafers import random_wafer

from emseg.errors import InputError, UsageError
from emseg.wafer.splits import pixel_leak, split_crops, split_regions, split_wafers, thin
from emseg.wafer.tiles import Tile, TilePlace, Tiling, plan_tiles

TILING = Tiling(48, 0.25)
WAFERS = [random_wafer(seed, name=f"wafer-{seed}") for seed in range(3)]
TILES = [tile for wafer in WAFERS for tile in plan_tiles(wafer, TILING)]


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(1, 25), st.integers(1, 25)), max_size=8))
def test_the_leak_is_the_share_of_pixels_under_any_training_tile(places: list[tuple[int, int, int, int]]) -> None:
    """The oracle paints the training tiles on a picture and counts."""
    train = [TilePlace("a", *place) for place in places]
    tile = TilePlace("a", 15, 20, 20, 24)
    painted = np.zeros((80, 80), bool)
    for place in train:
        painted[place.row : place.row + place.height, place.column : place.column + place.width] = True
    expected = painted[15:35, 20:44].mean()
    assert pixel_leak(train, [tile]).shares[0] == pytest.approx(expected, abs=1e-12)


def test_the_random_split_shares_pixels_and_the_two_others_share_none() -> None:
    crops = split_crops(TILES, train_share=0.7, seed=0)
    region = split_regions(WAFERS, TILING, left_share=0.6)
    wafer = split_wafers(TILES, validation_wafers=["wafer-2"])
    leaks = [_leak(split.train, split.validation) for split in (crops, region, wafer)]
    assert leaks[0].mean > 0.2
    assert leaks[0].share_touched > 0.8
    assert [leak.mean for leak in leaks[1:]] == [0, 0]


def test_tiles_of_another_wafer_do_not_count() -> None:
    place = TilePlace("a", 0, 0, 10, 10)
    other = TilePlace("b", 0, 0, 10, 10)
    assert pixel_leak([other], [place]).mean == 0
    assert pixel_leak([place], [place]).mean == 1


def test_every_tile_is_on_one_side_of_the_random_split_and_the_seed_decides_which() -> None:
    split = split_crops(TILES, train_share=0.7, seed=1)
    assert len(split.train) == round(0.7 * len(TILES))
    names = [tile.file_name for tile in (*split.train, *split.validation)]
    assert sorted(names) == sorted(tile.file_name for tile in TILES)
    again = split_crops(TILES, train_share=0.7, seed=1)
    other = split_crops(TILES, train_share=0.7, seed=2)
    assert [tile.file_name for tile in again.train] == [tile.file_name for tile in split.train]
    assert [tile.file_name for tile in other.train] != [tile.file_name for tile in split.train]


def test_no_tile_of_the_regions_crosses_the_border_and_both_regions_are_covered() -> None:
    split = split_regions(WAFERS[:1], TILING, left_share=0.6)
    assert max(tile.column + tile.width for tile in split.train) == 120
    assert min(tile.column for tile in split.validation) == 120
    assert max(tile.column + tile.width for tile in split.validation) == WAFERS[0].width


def test_whole_wafers_are_on_one_side() -> None:
    split = split_wafers(TILES, validation_wafers=["wafer-0", "wafer-1"])
    assert {tile.wafer for tile in split.train} == {"wafer-2"}
    assert {tile.wafer for tile in split.validation} == {"wafer-0", "wafer-1"}


def test_thinning_gives_exactly_the_counts_in_the_old_order() -> None:
    split = thin(split_wafers(TILES, validation_wafers=["wafer-0"]), n_train=7, n_validation=5, seed=0)
    assert (len(split.train), len(split.validation)) == (7, 5)
    order = [tile.file_name for tile in TILES]
    places = [order.index(tile.file_name) for tile in split.train]
    assert places == sorted(set(places))


def test_a_split_that_cannot_be_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="`train_share` must be a finite number greater than 0 and below 1; got 70"):
        split_crops(TILES, train_share=70, seed=0)
    with pytest.raises(UsageError, match="wafer-1 gives 190 and 10 px for tiles of 48"):
        split_regions(WAFERS[1:], TILING, left_share=0.95)
    with pytest.raises(UsageError, match="must name wafers that have tiles; got wafer-7"):
        split_wafers(TILES, validation_wafers=["wafer-7"])
    with pytest.raises(InputError, match="split 'wafer' leaves no tile for train"):
        split_wafers(TILES, validation_wafers=[wafer.name for wafer in WAFERS])
    with pytest.raises(UsageError, match=r"has \d+ tiles for validation, 1000 were requested"):
        thin(split_crops(TILES, train_share=0.5, seed=0), n_train=1, n_validation=1000, seed=0)


def _leak(train: tuple[Tile, ...], validation: tuple[Tile, ...]):
    return pixel_leak(train, validation)
