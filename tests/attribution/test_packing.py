"""Targets that share passes: without error beyond the receptive field, with a measured one within it."""

import numpy as np
import pytest
from attribution.small_networks import make, make_image
from hypothesis import given, settings
from hypothesis import strategies as st

from emseg.attribution import PackingOptions, attribute_pixels
from emseg.attribution.packing import (
    draw_signs,
    measure_error,
    pack_by_boxes,
    pack_by_distance,
    smallest_cell,
    whole_image,
)
from emseg.errors import UsageError

GRID = [(row, column) for row in range(3, 40, 8) for column in range(2, 48, 9)]


@pytest.mark.parametrize("points_at_once", [1, 3])
def test_on_a_local_network_packed_maps_are_the_exact_ones(points_at_once):
    network, image = make("local"), make_image(40, 48)
    exact, packed = (
        attribute_pixels(network, image, GRID, n_steps=5, packing=name, steps_at_once=points_at_once)
        for name in ("none", "auto")
    )
    assert packed.packing_error is not None
    assert packed.packing_error.proved
    assert exact.packing_error is None
    scale = np.abs(exact.maps).max()
    assert np.abs(packed.maps - exact.maps).max() < 1e-6 * scale
    assert "without error" in str(packed.packing_error)


def test_on_a_local_network_all_targets_share_a_pass():
    network, image = make("local"), make_image(40, 48)
    assert len(pack_by_boxes([(r - 3, r + 4, c - 3, c + 4) for r, c in GRID]).groups) == 1
    found = attribute_pixels(network, image, [(10, 10), (11, 10), (10, 11)], n_steps=2, packing="auto")
    exact = attribute_pixels(network, image, [(10, 10), (11, 10), (10, 11)], n_steps=2)
    assert np.abs(found.maps - exact.maps).max() < 1e-6 * np.abs(exact.maps).max()


def test_the_stated_error_is_the_error_and_a_larger_cell_makes_a_smaller_one():
    network, image = make("gated"), make_image(40, 48)
    exact = attribute_pixels(network, image, GRID, n_steps=6)
    errors = []
    for cell in (2, 6):
        options = PackingOptions(n_sampled=len(GRID), cell_px=cell)
        packed = attribute_pixels(network, image, GRID, n_steps=6, packing="auto", packing_options=options)
        stated = packed.packing_error
        assert stated is not None
        assert not stated.proved
        difference = np.abs(packed.maps - exact.maps).sum(axis=(1, 2)) / np.abs(exact.maps).sum(axis=(1, 2))
        assert stated.relative_l1[np.argsort(stated.targets)] == pytest.approx(difference, rel=1e-3)
        assert f"+-{cell} px" in str(stated)
        errors.append(np.median(stated.relative_l1))
    assert 0 < errors[1] < errors[0]


def test_sharing_without_a_neighbour_is_exact():
    network, image = make("gated"), make_image(40, 48)
    options = PackingOptions(cell_px=1)
    exact, packed = (
        attribute_pixels(network, image, [(20, 20)], n_steps=3, packing=p, packing_options=options).maps
        for p in ("none", "auto")
    )
    assert np.abs(packed - exact).max() < 1e-6 * np.abs(exact).max()


places = st.lists(st.tuples(st.integers(0, 39), st.integers(0, 47)), min_size=1, max_size=30, unique=True)


@settings(max_examples=50, deadline=None)
@given(targets=places, cell=st.integers(0, 12))
def test_cells_of_a_group_do_not_overlap_and_every_target_has_one(targets, cell):
    targets = np.array(targets)
    plan = pack_by_distance(targets, cell, 40, 48)
    assert sorted(t for group in plan.groups for t in group) == list(range(len(targets)))
    for group in plan.groups:
        taken = np.zeros((40, 48), dtype=int)
        for t in group:
            top, bottom, left, right = plan.cells[t]
            taken[top:bottom, left:right] += 1
            row, column = targets[t]
            assert top <= max(0, row - cell)
            assert bottom >= min(40, row + cell + 1)
            assert left <= max(0, column - cell)
            assert right >= min(48, column + cell + 1)
        assert taken.max() == 1


@settings(max_examples=50, deadline=None)
@given(targets=places, reach=st.integers(0, 9))
def test_receptive_fields_of_a_group_do_not_overlap(targets, reach):
    boxes = [(max(0, r - reach), r + reach + 1, max(0, c - reach), c + reach + 1) for r, c in targets]
    plan = pack_by_boxes(boxes)
    assert sorted(t for group in plan.groups for t in group) == list(range(len(targets)))
    for group in plan.groups:
        taken = np.zeros((60, 60), dtype=int)
        for t in group:
            taken[boxes[t][0] : boxes[t][1], boxes[t][2] : boxes[t][3]] += 1
        assert taken.max() == 1


def test_the_smallest_cell_holds_what_it_says():
    maps = np.zeros((1, 21, 21), dtype=np.float32)
    maps[0, 10, 10], maps[0, 10, 13], maps[0, 3, 10] = 6.0, -3.0, 1.0
    targets = np.array([[10, 10]])
    assert smallest_cell(maps, targets, 0.5) == 0
    assert smallest_cell(maps, targets, 0.3) == 3
    assert smallest_cell(maps, targets, 0.05) == 7


def test_the_error_counts_what_is_lost_and_what_is_added():
    exact = np.array([[[1.0, 0.5, 0.0, 0.0]]], dtype=np.float32)
    packed = np.array([[[1.0, 0.0, 0.25, 0.0]]], dtype=np.float32)
    error = measure_error(packed, exact, np.array([4]), whole_image(1, 1, 4))
    assert error.relative_l1.tolist() == [0.5]
    assert error.relative_area.tolist() == [0.0]


def test_signs_are_balanced_and_the_same_each_time():
    signs = draw_signs(200, 50)
    assert set(np.unique(signs)) == {-1.0, 1.0}
    assert abs(signs.mean()) < 0.05
    assert np.array_equal(signs, draw_signs(200, 50))


@pytest.mark.parametrize(
    ("options", "match"),
    [({"tolerance": 0.0}, "between 0 and 1"), ({"n_sampled": 0}, "at least 1"), ({"cell_px": -1}, "0 or more")],
)
def test_bad_options_are_named(options, match):
    with pytest.raises(UsageError, match=match):
        PackingOptions(**options)
