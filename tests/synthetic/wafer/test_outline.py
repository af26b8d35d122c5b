"""Outlines: contours equal scikit-image's, gaps equal shapely's, and what nobody can see is not in the truth."""

import math

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import find_contours

from emseg.synthetic.wafer import wafer_kernels as kernels
from emseg.synthetic.wafer.drawn_wafer import visible_sections
from emseg.synthetic.wafer.layout import Placed
from emseg.synthetic.wafer.section_shape import draw_shape

LENGTH = 100.0
SMOOTH = np.zeros((64, 64), dtype=np.float32)


@pytest.mark.parametrize("seed", range(12))
def test_the_largest_contour_is_that_of_scikit_image(seed):
    rng = np.random.default_rng(seed)
    value = np.kron(rng.uniform(0, 1, (7, 7)), np.ones((3, 3))) + 0.01 * rng.uniform(0, 1, (21, 21))
    value = np.pad(value, 1).astype(np.float32)
    ours = shapely.Polygon(kernels.largest_contour(value, 0.5))
    theirs = [shapely.Polygon(ring) for ring in find_contours(value, 0.5) if len(ring) > 3]
    assert ours.area == pytest.approx(max(ring.area for ring in theirs), rel=1e-5)


def test_a_picture_without_anything_has_no_contour():
    assert kernels.largest_contour(np.zeros((9, 9), dtype=np.float32), 0.5).shape == (0, 2)


def test_a_single_pixel_is_a_diamond_around_its_centre():
    value = np.zeros((5, 5), dtype=np.float32)
    value[2, 3] = 1
    contour = kernels.largest_contour(value, 0.5)
    assert sorted(map(tuple, contour.tolist())) == [(1.5, 3.0), (2.0, 2.5), (2.0, 3.5), (2.5, 3.0)]


def rectangle(box: np.ndarray) -> shapely.Polygon:
    y, x, c, s, half_u, half_v = box
    signs = ((1, 1), (1, -1), (-1, -1), (-1, 1))
    return shapely.Polygon(
        [(y + a * half_u * c - b * half_v * s, x + a * half_u * s + b * half_v * c) for a, b in signs]
    )


place = st.floats(-6, 6)
half = st.floats(0.5, 4)
turn = st.floats(0, math.pi)


@given(place, place, turn, turn, half, half, half, half)
@settings(max_examples=200, deadline=None)
def test_two_sections_are_apart_exactly_where_shapely_finds_them_apart(y, x, a, b, u0, v0, u1, v1):
    first = np.array([0.0, 0.0, math.cos(a), math.sin(a), u0, v0])
    second = np.array([y, x, math.cos(b), math.sin(b), u1, v1])
    gap = kernels.gap_between(first, second)
    assert gap == pytest.approx(kernels.gap_between(second, first), abs=1e-9)
    if abs(gap) > 1e-6:
        assert (gap > 0) == (not rectangle(first).intersects(rectangle(second)))
    assert gap <= rectangle(first).distance(rectangle(second)) + 1e-9


def laid(*places: tuple[float, float], qualities: tuple[str, ...] = ()) -> list[Placed]:
    rng = np.random.default_rng(4)
    out = []
    for k, (y, x) in enumerate(places):
        shape = draw_shape(qualities[k] if qualities else "good", LENGTH, 70.0, None, 0.5, rng)
        out.append(Placed(shape, k, np.array([y, x, 1.0, 0.0, *shape.half])))
    return out


def seen(placed: list[Placed]):
    return visible_sections(placed, np.zeros((len(placed), 2)), SMOOTH, LENGTH)


def test_a_free_section_is_outlined_whole():
    (one,) = seen(laid((200.0, 300.0)))
    polygon = shapely.Polygon(one.polygon)
    assert polygon.area == pytest.approx(one.cover.sum() / 255.0, rel=0.01)
    assert (polygon.centroid.x, polygon.centroid.y) == pytest.approx((200.0, 300.0), abs=2.0)


def test_the_lower_section_keeps_what_is_seen_of_it():
    lower, upper = seen(laid((200.0, 300.0), (255.0, 300.0)))
    below, above = shapely.Polygon(lower.polygon), shapely.Polygon(upper.polygon)
    assert above.area == pytest.approx(upper.cover.sum() / 255.0, rel=0.01)
    assert below.area == pytest.approx(0.55 * lower.cover.sum() / 255.0, rel=0.1)
    assert below.intersection(above).area < 0.01 * below.area


def test_a_hidden_section_is_not_on_the_wafer():
    assert [one.placed.serial for one in seen(laid((200.0, 300.0), (205.0, 302.0)))] == [1]


def test_a_section_with_another_within_its_outline_is_not_on_the_wafer():
    placed = laid((200.0, 300.0), (200.0, 300.0))
    rng = np.random.default_rng(0)
    small = draw_shape("good", 0.4 * LENGTH, 28.0, None, 0.0, rng)
    placed[1] = Placed(small, 1, np.array([200.0, 300.0, 1.0, 0.0, *small.half]))
    assert [one.placed.serial for one in seen(placed)] == [1]


def test_a_section_whose_defect_is_hidden_is_not_on_the_wafer():
    """A good section may lie partly below another one; of a folded one the fold must be seen."""
    lower = laid((200.0, 300.0), qualities=("fold",))[0]
    y, x = lower.shape.defect.mean(0) - lower.shape.middle  # upright: (u, v) is (row, column)
    rng = np.random.default_rng(0)
    small = draw_shape("good", 80.0, 60.0, None, 0.0, rng)
    over = Placed(small, 1, np.array([200.0 + y, 300.0 + x, 1.0, 0.0, *small.half]))
    beside = Placed(small, 1, np.array([400.0, 300.0, 1.0, 0.0, *small.half]))
    assert [one.placed.serial for one in seen([lower, over])] == [1]
    assert [one.placed.serial for one in seen([lower, beside])] == [0, 1]
