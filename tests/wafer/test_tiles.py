"""Tiles cover the image exactly, and what they show of a section is what lies in them."""

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from wafer.made_wafers import picture, random_wafer, rectangle, wafer

from emseg.errors import InputError, UsageError
from emseg.wafer.tiles import Tiling, cut_tiles, plan_tiles, tile_origins

CROSS = np.array([(10, 10), (10, 30), (60, 30), (60, 10), (50, 10), (50, 25), (20, 25), (20, 10)], float)  # a bracket


@given(st.integers(16, 400), st.integers(1, 1200), st.floats(0, 0.9))
def test_tiles_cover_an_axis_without_a_gap_and_end_at_its_end(tile: int, more: int, overlap: float) -> None:
    length = tile + more - 1
    origins = tile_origins(length, tile, overlap)
    assert origins[0] == 0
    assert origins[-1] == length - tile
    steps = np.diff(origins)
    assert (steps > 0).all()
    assert (steps <= max(round(tile * (1 - overlap)), 1)).all()
    assert (steps <= tile).all()


def test_the_papers_tiles_of_a_10k_wafer_are_121() -> None:
    assert len(tile_origins(10_000, 1024, 0.1)) ** 2 == 121


def test_every_pixel_of_the_image_is_in_a_tile_and_tiles_are_views() -> None:
    made = random_wafer(0)
    image = picture(made)
    rebuilt = np.zeros_like(image)
    for tile, pixels in cut_tiles(image, made, Tiling(64, 0.25)):
        assert pixels.base is image
        rebuilt[tile.row : tile.row + 64, tile.column : tile.column + 64] = pixels
    np.testing.assert_array_equal(rebuilt, image)


@given(st.integers(0, 10_000))
def test_the_clipped_outlines_of_disjoint_tiles_add_up_to_the_sections(seed: int) -> None:
    made = random_wafer(seed, height=128, width=192)
    area = np.zeros(len(made.sections))
    for tile in plan_tiles(made, Tiling(64, 0.0, minimum_visible=0.0)):
        for shown in tile.sections:
            area[shown.number] += shown.area_px
            assert sum(shapely.Polygon(part).area for part in shown.parts) == pytest.approx(shown.area_px)
            assert shown.visible == pytest.approx(shown.area_px / made.sections[shown.number].area_px)
            points = np.concatenate(shown.parts)
            assert points.min() >= 0
            assert points.max() <= 64
    image = shapely.box(0, 0, made.height, made.width)
    expected = [shapely.Polygon(section.polygon).intersection(image).area for section in made.sections]
    np.testing.assert_allclose(area, expected, atol=1e-6)


def test_a_clipped_outline_fills_the_same_pixels_as_the_whole_one() -> None:
    """The oracle is OpenCV's fill of the whole outline, cut by pixels; only pixels on the outline may differ."""
    made = random_wafer(3)
    for tile in plan_tiles(made, Tiling(64, 0.25, minimum_visible=0.0)):
        for shown in tile.sections:
            whole = _fill(made.sections[shown.number].polygon, made.height, made.width)
            clipped = np.zeros((64, 64), np.uint8)
            for part in shown.parts:
                clipped |= _fill(part, 64, 64)
            wrong = (clipped != tile.pixels(whole)).sum()
            assert wrong <= 0.02 * 64 * 64


def test_a_section_within_a_tile_keeps_its_points_in_their_order() -> None:
    (tile,) = plan_tiles(wafer(CROSS, height=80, width=80), Tiling(80))
    np.testing.assert_array_equal(tile.sections[0].parts[0], CROSS)
    assert tile.sections[0].visible == 1


def test_a_clip_that_falls_in_two_pieces_is_one_section_of_two_parts() -> None:
    bracket = np.array([(2, 5), (2, 60), (30, 60), (30, 5), (25, 5), (25, 40), (8, 40), (8, 5)], float)
    left, _ = plan_tiles(wafer(bracket, height=36, width=72), Tiling(36, 0.0, minimum_visible=0.0))
    assert [len(shown.parts) for shown in left.sections] == [2]
    assert left.sections[0].area_px == pytest.approx(31 * 6 + 31 * 5)


@pytest.mark.parametrize(("below", "n"), [("crowd", 1), ("drop", 0)])
def test_a_section_that_shows_too_little_is_a_crowd_or_dropped(below: str, n: int) -> None:
    made = wafer(rectangle(10, 54, 20, 104), height=60, width=120)  # 12 % of it in the left tile
    left, right = plan_tiles(made, Tiling(60, 0.0, minimum_visible=0.2, below_minimum=below))  # type: ignore[arg-type]
    assert [shown.crowd for shown in left.sections] == [True] * n
    assert left.is_empty
    assert [shown.crowd for shown in right.sections] == [False]
    (only,) = plan_tiles(made, Tiling(60, 0.0, below_minimum=below, keep_empty=False))  # type: ignore[arg-type]
    assert only.column == 60


def test_a_section_that_only_touches_a_tile_is_not_in_it() -> None:
    made = wafer(rectangle(10, 60, 20, 70), height=60, width=120)
    left, _ = plan_tiles(made, Tiling(60, 0.0, minimum_visible=0.0))
    assert left.sections == ()


def test_a_memory_mapped_image_is_read_tile_by_tile(tmp_path) -> None:
    made = random_wafer(1)
    np.save(tmp_path / "image.npy", picture(made))
    mapped = np.load(tmp_path / "image.npy", mmap_mode="r")
    for _, pixels in cut_tiles(mapped, made, Tiling(64)):
        assert np.shares_memory(pixels, mapped)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tile": 8}, "`tile` must be at least 16; got 8"),
        ({"overlap": 1.0}, "fraction from 0 to 0.9; got 1.0"),
        ({"overlap": 10}, "For 10 % give 0.1"),
        ({"minimum_visible": -0.1}, "`minimum_visible` must be at least 0; got -0.1"),
        ({"below_minimum": "keep"}, "one of 'crowd', 'drop'; got 'keep'"),
    ],
)
def test_a_tiling_that_cannot_be_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Tiling(**change)  # type: ignore[arg-type]


def test_a_tile_larger_than_the_image_is_refused_with_the_size_to_use() -> None:
    with pytest.raises(UsageError, match=r"got tile=1024 for 100 px\. Use tile=100 or less"):
        plan_tiles(wafer(rectangle(10, 10, 20, 20)), Tiling())


def test_a_wafer_without_sections_is_refused_where_empty_tiles_are_not_wanted() -> None:
    assert all(tile.is_empty for tile in plan_tiles(wafer(), Tiling(50)))
    with pytest.raises(InputError, match="made has no section"):
        plan_tiles(wafer(), Tiling(50, keep_empty=False))


def test_outlines_of_another_image_are_refused() -> None:
    with pytest.raises(InputError, match=r"100 x 120 px by its outlines, the image 100 x 121"):
        list(cut_tiles(np.zeros((100, 121), np.uint8), wafer(), Tiling(50)))


def _fill(polygon: np.ndarray, height: int, width: int) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    scaled = np.round((polygon[:, ::-1] - 0.5) * 256).astype(np.int32)
    cv2.fillPoly(mask, [scaled], 1, shift=8)
    return mask
