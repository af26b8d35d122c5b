"""Merging: every section once, whatever tiles show of it, and sections that touch or overlap stay apart."""

import numpy as np
import pytest
import shapely
from wafer.navigation.drawn_wafers import quad

from emseg.wafer.navigation.merge import Seen, merge_detections

INF = np.inf
ONE_TILE = np.array([[-INF, -INF, INF, INF]])
FOUR_TILES = np.array([[-INF, -INF, 200, 200], [-INF, 100, 200, INF], [100, -INF, INF, 200], [100, 100, INF, INF]])


def seen(corners, score=0.9, label="good", tile=0, *, whole=True):
    return Seen(np.asarray(corners, float), score, label, tile, whole)


def shifted(corners, draw):
    return corners + draw.normal(0, 1.0, (4, 2))


def test_a_section_in_four_tiles_is_one_and_scores_the_mean():
    draw, corners = np.random.default_rng(0), quad((150, 150), 40, 20)
    found = merge_detections(
        [seen(shifted(corners, draw), score, tile=tile) for tile, score in enumerate((0.9, 0.8, 0.7, 0.6))],
        FOUR_TILES,
        margin=2,
    )
    assert [one.score for one in found] == [pytest.approx(0.75)]


def test_a_tile_that_holds_a_section_and_sees_nothing_votes_against_it():
    found = merge_detections([seen(quad((150, 150), 40, 20), 0.8, tile=2)], FOUR_TILES, margin=2)
    assert [one.score for one in found] == [pytest.approx(0.2)]


def test_a_tile_that_cuts_a_section_has_no_vote_on_its_score():
    found = merge_detections([seen(quad((50, 100), 40, 0), 0.8, tile=0)], FOUR_TILES, margin=2)  # tile 1 has half of it
    assert [one.score for one in found] == [pytest.approx(0.8)]


def test_the_class_is_the_one_with_the_larger_sum_of_scores():
    corners = quad((150, 150), 40, 20)
    votes = [("folded", 0.9, 0), ("good", 0.6, 1), ("good", 0.6, 2)]
    (found,) = merge_detections([seen(corners, s, label, tile) for label, s, tile in votes], FOUR_TILES, margin=2)
    assert found.label == "good"
    assert found.votes == {"folded": pytest.approx(0.9 / 2.1), "good": pytest.approx(1.2 / 2.1)}


def test_a_class_in_doubt_is_no_doubt_that_there_is_a_section():
    corners = quad((50, 50), 40, 20)
    views = [seen(corners, 0.45, "good"), seen(corners, 0.4, "fold"), seen(corners, 0.3, "fold")]
    (found,) = merge_detections(views, ONE_TILE, margin=2)
    assert found.score == pytest.approx(0.85)
    (certain,) = merge_detections([*views, seen(corners, 0.7, "damaged")], ONE_TILE, margin=2)
    assert certain.score == 1


@pytest.mark.parametrize("angle", [0, 20, 45, 70])
@pytest.mark.parametrize("aspect", [1.0, 2.0])
@pytest.mark.parametrize("overlap", [0.0, 0.15, 0.3])
def test_sections_edge_to_edge_or_overlapping_stay_two(angle, aspect, overlap):
    """Each seen in all four tiles, with noise in the corners."""
    draw = np.random.default_rng(angle)
    first = quad((150, 140), 40, angle, aspect)
    second = first + (first[3] - first[0]) * (1 - overlap)
    views = [seen(shifted(one, draw), 0.9, tile=tile) for one in (first, second) for tile in range(4)]
    assert len(merge_detections(views, FOUR_TILES, margin=2)) == 2


def test_what_a_border_cuts_goes_when_a_neighbour_shows_it_whole():
    whole = quad((50, 180), 60, 0)
    cut = np.clip(whole, None, (INF, 200))
    (found,) = merge_detections([seen(cut, 0.99, whole=False), seen(whole, 0.7, tile=1)], FOUR_TILES, margin=2)
    np.testing.assert_array_equal(found.outline, whole)
    assert found.score == pytest.approx(0.7)


def test_what_is_only_seen_cut_stays_at_half_its_score():
    (found,) = merge_detections([seen(quad((150, 150), 120, 0), 0.8, whole=False)], FOUR_TILES, margin=2)
    assert found.score == pytest.approx(0.4)


@pytest.mark.parametrize("score", [0.3, 0.99])
def test_one_outline_over_two_sections_gives_way_to_them(score):
    """Also where the network is surer of it than of the two."""
    first, second = (
        quad((100, 100), 40, 30),
        quad((100, 100), 40, 30) + (quad((0, 0), 40, 30)[3] - quad((0, 0), 40, 30)[0]),
    )
    both = shapely.get_coordinates(shapely.MultiPoint([*first, *second]).convex_hull)[:-1]
    others = [seen(quad((300 + 60 * k, 100), 40, 0)) for k in range(3)]  # what is usual
    found = merge_detections([seen(both, score), seen(first, 0.8), seen(second, 0.8), *others], ONE_TILE, margin=2)
    assert len(found) == 5
    assert max(shapely.Polygon(one.outline).area for one in found) < 1700


def test_a_large_section_is_not_taken_for_two_because_parts_of_it_were_seen():
    """Its parts fill little of it."""
    large = quad((100, 100), 60, 0)
    parts = [seen(quad((85, 85), 18, 0), 0.7), seen(quad((115, 115), 18, 0), 0.7)]
    others = [seen(quad((300 + 60 * k, 100), 40, 0)) for k in range(5)]
    found = merge_detections([seen(large, 0.9), *parts, *others], ONE_TILE, margin=2)
    assert len(found) == 6


def test_nothing_seen_is_nothing_found():
    assert merge_detections([], ONE_TILE, margin=2) == []


def test_outlines_that_cross_themselves_are_merged_too():
    bow = quad((100, 100), 40, 0)[[0, 1, 3, 2]]
    assert len(merge_detections([seen(quad((100, 100), 40, 0)), seen(bow, 0.3)], ONE_TILE, margin=2)) == 1
