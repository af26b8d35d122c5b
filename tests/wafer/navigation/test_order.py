"""Ribbons show the order of cutting, loose sections do not, and the stage's path is close to the shortest."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from wafer.navigation.found_wafers import ribbon, section_at, wafer_of

from emseg.data.registry import dataset_path
from emseg.errors import UsageError
from emseg.synthetic.wafer import WaferDesign, synthesize_wafer
from emseg.wafer.annotated_wafer import load_magc_wafer
from emseg.wafer.formats.magc import read_magc
from emseg.wafer.navigation.found import FoundSection
from emseg.wafer.navigation.order import (
    find_ribbons,
    order_sections,
    path_bound,
    path_length,
    path_lengths,
    shortest_path,
)

RNG = np.random.default_rng(3)


def shuffled(sections, seed=0):
    """The sections in another order, and at which place each one is now."""
    order = np.random.default_rng(seed).permutation(len(sections))
    return [sections[place] for place in order], [int(place) for place in np.argsort(order)]


def loose(n, seed):
    """`n` sections at random places and angles, some of which touch."""
    rng = np.random.default_rng(seed)
    return [section_at(*rng.uniform(100, 2000, 2), rng.uniform(-180, 180)) for _ in range(n)]


@pytest.mark.parametrize(("angle_deg", "bend_deg", "shift"), [(0, 0, 0), (75, 8, 0), (-160, -12, 0), (30, 0, 6)])
def test_a_ribbon_gives_the_order_of_cutting(angle_deg, bend_deg, shift):
    """Straight, bent, and with sections that slid along each other."""
    sections, places = shuffled(ribbon(9, 1000, 1000, angle_deg, bend_deg=bend_deg, shift=shift))
    ordered = order_sections(wafer_of(sections), next_side=2)
    assert ordered.serial_order == tuple(places)
    assert "assumed" not in " ".join(ordered.notes)


def test_the_other_direction_reverses_the_order():
    sections, places = shuffled(ribbon(6, 500, 500, 20))
    assert order_sections(wafer_of(sections), next_side=0).serial_order == tuple(places[::-1])


def test_an_unstated_direction_is_said_to_be_assumed():
    ordered = order_sections(wafer_of(ribbon(6, 500, 500)))
    assert ordered.serial_order == tuple(range(6))
    assert "which end was cut first is assumed" in ordered.notes[0]


def test_sections_outside_ribbons_have_no_place_in_the_order():
    sections = [*ribbon(6, 500, 500), section_at(1500, 1500), *ribbon(5, 2500, 700, 90)]
    ordered = order_sections(wafer_of(sections), next_side=2)
    assert set(ordered.serial_order) == set(range(12)) - {6}
    for run in (range(6), range(7, 12)):
        at = [ordered.serial_order.index(place) for place in run]
        assert at == list(range(at[0], at[0] + len(at)))
    assert "serial order of 11 of 12 sections" in ordered.notes[0]
    assert "the order of its ribbons is not visible" in ordered.notes[0]


def test_a_broken_ribbon_is_one_run():
    sections = [*ribbon(5, 500, 500), *ribbon(5, 500, 500 + 5 * 84 + 60)]
    assert find_ribbons(sections, next_side=2)[0] == (tuple(range(10)),)


def test_touching_across_is_no_ribbon():
    """Two ribbons side by side: links follow the ribbons, not the neighbours across."""
    sections = [*ribbon(6, 500, 500), *ribbon(6, 566, 500)]
    assert sorted(find_ribbons(sections)[0]) == [tuple(range(6)), tuple(range(6, 12))]


@pytest.mark.parametrize("seed", range(3))
def test_loose_sections_leave_the_serial_order_open(seed):
    ordered = order_sections(wafer_of(loose(150, seed)))
    assert ordered.serial_order is None
    assert "serial order not visible" in ordered.notes[0]
    assert ordered.notes[1].endswith("serial order unknown")


def test_unknown_angles_leave_the_serial_order_open():
    sections = [replace(one, angle_deg=None) for one in ribbon(9, 500, 500)]
    assert order_sections(wafer_of(sections)).serial_order is None


def test_a_known_serial_order_is_kept():
    sections = ribbon(4, 500, 500)
    assert order_sections(wafer_of(sections, serial_order=(3, 1, 0, 2))).serial_order == (3, 1, 0, 2)


def test_a_new_ordering_replaces_the_notes_of_the_last():
    once = order_sections(wafer_of(ribbon(6, 500, 500), notes=("one tile was blank",)), next_side=2)
    again = order_sections(replace(once, serial_order=None), next_side=0)
    assert again.serial_order == once.serial_order[::-1]
    assert (len(again.notes), again.notes[0]) == (3, "one tile was blank")


@pytest.mark.parametrize("side", [-1, 4, 1.5])
def test_an_impossible_side_is_refused(side):
    with pytest.raises(UsageError, match="`next_side` must be a whole number from 0 to 3"):
        order_sections(wafer_of(ribbon(4, 500, 500)), next_side=side)


@pytest.mark.parametrize("background", ["tape", "silicon"])
def test_links_on_a_synthetic_wafer_are_those_of_its_truth(background):
    """At least 95 % of the steps within runs go from one section to the next that was cut."""
    truth = synthesize_wafer(WaferDesign(height=1500, width=2000, background=background), seed=1).truth.sections
    boxed = [FoundSection(_box(one), one.polygon, one.label, 1.0, angle_deg=one.angle_deg) for one in truth]
    runs, confidence = find_ribbons(boxed, next_side=2)
    steps = [truth[b].serial_number - truth[a].serial_number for run in runs for a, b in itertools.pairwise(run)]
    assert len(steps) > 50
    assert np.mean(np.array(steps) == 1) >= 0.95
    assert 0.5 < confidence < 1


def _box(section):
    """The smallest rectangle in the direction of the section's angle, corners as a template has them."""
    radians = np.radians(section.angle_deg)
    axes = np.array([[np.cos(radians), np.sin(radians)], [-np.sin(radians), np.cos(radians)]])
    low, high = (section.polygon @ axes.T).min(0), (section.polygon @ axes.T).max(0)
    return np.array([(low[0], low[1]), (high[0], low[1]), (high[0], high[1]), (low[0], high[1])]) @ axes


@pytest.mark.parametrize("n", [3, 5, 7])
def test_a_few_points_get_the_shortest_path(n):
    points = RNG.uniform(0, 1000, (n, 2))
    shortest = min(path_length(points, order) for order in itertools.permutations(range(n)))
    order = shortest_path(points, seconds=0.05)
    assert sorted(order) == list(range(n))
    assert path_length(points, order) == pytest.approx(shortest)
    assert path_bound(points, shortest) <= shortest + 1e-9


def test_the_path_runs_along_a_line_from_its_upper_left_end():
    points = np.stack([np.arange(20.0), np.arange(20.0)], axis=1)[::-1]
    assert shortest_path(points, seconds=0.05) == tuple(range(19, -1, -1))


@pytest.mark.parametrize(("n", "seconds"), [(100, 0.2), (500, 0.5)])
def test_the_path_is_within_3_percent_of_the_bound(n, seconds):
    points = RNG.uniform(0, 10_000, (n, 2))
    length = path_length(points, shortest_path(points, seconds=seconds))
    assert path_bound(points, length) <= length <= 1.03 * path_bound(points, length)


def test_the_bound_is_that_of_the_spanning_tree_or_above():
    """The tree without potentials is the first round; the ascent raises it by a tenth on random points."""
    from scipy.sparse.csgraph import minimum_spanning_tree
    from scipy.spatial.distance import cdist

    points = RNG.uniform(0, 10_000, (200, 2))
    tree = minimum_spanning_tree(cdist(points, points)).sum()
    length = path_length(points, shortest_path(points, seconds=0.2))
    assert 1.08 * tree < path_bound(points, length) <= length


@pytest.mark.parametrize("n", [0, 1, 2])
def test_hardly_any_sections(n):
    ordered = order_sections(wafer_of(loose(n, 0)))
    assert sorted(ordered.stage_order) == list(range(n))
    assert ordered.serial_order is None


def test_sections_at_one_place():
    assert sorted(shortest_path(np.ones((5, 2)), seconds=0.05)) == list(range(5))


def test_lengths_are_in_um_where_the_pixel_size_is_known():
    ordered = order_sections(wafer_of(ribbon(6, 500, 500)), next_side=2)
    in_px, in_um = path_lengths(ordered), path_lengths(replace(ordered, pixel_size_um=2.0))
    assert (in_px.unit, in_um.unit, in_px.n_serial) == ("px", "um", 6)
    assert in_px.serial == pytest.approx(5 * 84)
    assert (in_um.stage, in_um.serial, in_um.bound) == pytest.approx((2 * 420, 2 * 420, 2 * in_px.bound))
    assert "path in serial order 420 px (6 sections)" in ordered.notes[-1]


def test_lengths_of_some_classes_leave_the_others_out():
    sections = [replace(one, label=("good", "fold")[k == 2]) for k, one in enumerate(ribbon(6, 500, 500))]
    ordered = order_sections(wafer_of(sections), next_side=2)
    some = path_lengths(ordered, ("good",))
    assert (some.stage, some.serial, some.n_serial) == (pytest.approx(420), pytest.approx(420), 5)
    assert some.bound <= some.stage
    assert path_lengths(ordered, ("fold",)).stage == 0


def test_the_magc_wafer_has_no_visible_order_and_a_path_shorter_than_its_own(real_data):
    """Its sections were collected one by one. The file's stage order is 36,442 px long."""
    sections = load_magc_wafer()[1].sections
    found = [FoundSection(one.polygon, one.polygon, one.label, 1.0, angle_deg=one.angle_deg) for one in sections]
    assert find_ribbons(found)[1] < 0.25
    centers = np.array([one.center for one in sections])
    own = path_length(centers, read_magc(dataset_path("magc_wafer") / "wafer_example1.magc").stage_order)
    length = path_length(centers, shortest_path(centers, seconds=0.5))
    assert own == pytest.approx(36_442.5, abs=0.1)
    assert own / 1.02 < path_bound(centers, length) <= length < own
