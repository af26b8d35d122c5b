"""Diagrams keep their proportions: blocks fit their texts, and arrows end at their last point."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from chapters.drawing.diagrams import Part, arrow, block, canvas, frame, note, operator, slab, stack
from emseg.errors import UsageError


@pytest.fixture
def axis():
    yield canvas(4.0, 2.0)
    plt.close("all")


def test_one_unit_is_one_inch_also_after_pictures_were_drawn(axis):
    whole = stack(axis, 1.0, 1.0, [np.zeros((4, 4))] * 3, side=0.5, step=(0.1, 0.2))
    assert whole == pytest.approx(Part(1.0, 1.0, 0.7, 0.9))
    dpi = axis.figure.dpi
    np.testing.assert_allclose(axis.transData.transform([(0, 0), (1, 0), (0, 1)]), [(0, 0), (dpi, 0), (0, dpi)])


def test_a_block_is_as_large_as_its_text_needs_and_refuses_a_longer_one(axis):
    short, long = (block(axis, 2.0, 1.0, text) for text in ("fc", "fc, ReLU, fc, sigmoid"))
    assert long.width > 2 * short.width
    assert long.height == pytest.approx(short.height, rel=0.3)
    with pytest.raises(UsageError, match="must fit its block"):
        block(axis, 2.0, 1.0, "fc, ReLU, fc, sigmoid", width=0.5)


def test_a_slab_and_an_operator_return_what_they_cover(axis):
    part = slab(axis, 1.0, 1.0, width=0.2, height=0.5, depth=0.25, text="x", shape="64 × 56 × 56")
    assert part == pytest.approx(Part(1.0, 1.0, 0.3, 0.6))
    corners = np.concatenate([patch.get_path().vertices for patch in axis.patches[1:]])
    assert corners.max(axis=0) == pytest.approx([part.right[0], part.top[1]])
    assert operator(axis, 3.0, 1.0, "+", radius=0.1).top == pytest.approx((3.0, 1.1))


def test_an_arrow_points_at_its_last_point_and_needs_two(axis):
    arrow(axis, (0.5, 0.5), (0.5, 1.5), (3.0, 1.5), text="shortcut")
    head = axis.texts[0]
    assert head.xy == (3.0, 1.5)
    assert axis.texts[1].get_position() == pytest.approx((1.75, 1.54))
    with pytest.raises(UsageError, match="at least two points"):
        arrow(axis, (0.5, 0.5))


def test_a_frame_and_a_note_stay_where_they_were_put(axis):
    assert frame(axis, 0.5, 0.5, 3.5, 1.5, "gate") == Part(2.0, 1.0, 3.0, 1.0)
    written = note(axis, 2.0, 1.0, "GAP")
    assert (written.x, written.y) == pytest.approx((2.0, 1.0), abs=0.02)
    with pytest.raises(UsageError, match="must be one of blue"):
        block(axis, 1.0, 1.0, "fc", colour="pink")
