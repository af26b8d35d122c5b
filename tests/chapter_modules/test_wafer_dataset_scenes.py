"""The places that are found show what they are said to show."""

from dataclasses import replace
from functools import cache
from itertools import combinations

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from wafer.made_wafers import random_wafer

from chapters.wafer_dataset import (
    SITUATIONS,
    Window,
    dust_specks,
    find_scenes,
    fullest_window,
    region_to_image,
    sections_by_class,
    touching_pairs,
    window_about,
)
from emseg.errors import UsageError
from emseg.synthetic.wafer import SyntheticWafer, WaferDesign, synthesize_wafer

windows = st.builds(Window, st.integers(0, 12), st.integers(0, 12), st.integers(1, 8))


@cache
def made_wafers() -> tuple[SyntheticWafer, ...]:
    return tuple(
        synthesize_wafer(WaferDesign(1024, 1024, 48, tissue, background, dust=3.0), seed=2)
        for tissue, background in (("scn", "tape"), ("zebrafish", "silicon"))
    )


@given(windows, windows)
def test_windows_meet_where_they_share_a_pixel(one: Window, other: Window) -> None:
    first, second = np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8)
    one.of(first)[:] = 1
    other.of(second)[:] = 1
    assert one.meets(other) == bool((first & second).any())


@pytest.mark.parametrize(
    ("center", "side", "expected"),
    [((50, 60), 20, (40, 50, 20)), ((2, 99), 20, (0, 80, 20)), ((50, 50), 500, (0, 0, 100))],
)
def test_a_window_is_moved_into_the_image(center: tuple[int, int], side: int, expected: tuple[int, int, int]) -> None:
    assert window_about(center, side, 100, 100) == Window(*expected)


def test_the_fullest_window_holds_as_many_centres_as_any_about_a_section() -> None:
    wafer = random_wafer(1, n=25)
    centers = [section.center for section in wafer.sections]

    def held(window: Window) -> int:
        return sum(
            window.row <= r < window.row + window.side and window.column <= c < window.column + window.side
            for r, c in centers
        )

    every = [window_about(center, 60, wafer.height, wafer.width) for center in centers]
    assert held(fullest_window(wafer, 60)) == max(map(held, every)) > 1


def test_scenes_show_their_situations_and_nothing_twice() -> None:
    wafers = made_wafers()
    scenes = find_scenes(wafers)
    assert list(scenes) == list(SITUATIONS)
    for one, other in combinations(scenes.values(), 2):
        assert one.wafer != other.wafer or not one.window.meets(other.window)

    def shown(situation: str) -> list[str]:
        window, truth = scenes[situation].window, wafers[scenes[situation].wafer].truth
        low = np.array([window.row, window.column])
        inside = [(np.array(section.center) >= low).all() and (np.array(section.center) < low + window.side).all()
                  for section in truth.sections]  # fmt: skip
        return [section.label for section, within in zip(truth.sections, inside, strict=True) if within]

    assert "incomplete" in shown("knife")
    assert "good" in shown("knife")
    assert {"fold", "good"} <= set(shown("fold"))
    assert shown("damaged").count("damaged") >= 1
    assert len(shown("stuck")) >= 4
    assert "incomplete" in shown("stuck")
    specks = dust_specks(wafers[scenes["dust"].wafer])
    window = scenes["dust"].window
    assert (np.abs(specks - (window.row + window.side / 2, window.column + window.side / 2)).max(1) < window.side).any()


def test_a_clean_wafer_has_no_dust_and_a_dusty_one_much() -> None:
    clean = synthesize_wafer(WaferDesign(512, 512, 48, dust=0.0), seed=0)
    assert len(dust_specks(clean)) == 0
    assert "dust" not in find_scenes([clean])
    some, much = (len(dust_specks(synthesize_wafer(WaferDesign(512, 512, 48, dust=d), seed=0))) for d in (0.5, 5.0))
    assert much > 3 * some


def test_examples_of_a_class_are_of_it_and_those_that_touch_fewest() -> None:
    truth = made_wafers()[0].truth
    degree = np.bincount(np.array(touching_pairs(truth)).ravel(), minlength=len(truth.sections))
    for name, chosen in sections_by_class(truth, 3).items():
        places = [k for k, section in enumerate(truth.sections) if section.label == name]
        assert len(chosen) == 3
        assert set(chosen) <= set(places)
        assert sorted(degree[list(chosen)]) == sorted(degree[places])[:3]


def test_scenes_of_no_wafer_are_refused() -> None:
    with pytest.raises(UsageError, match="at least one wafer"):
        find_scenes([])


def test_regions_to_image_lie_in_their_sections_and_need_an_angle() -> None:
    good = [one for one in made_wafers()[0].truth.sections if one.label == "good"]
    inside = [shapely.Polygon(one.polygon[:, ::-1]).contains(shapely.Polygon(region_to_image(one))) for one in good]
    assert sum(inside) > 0.9 * len(good)
    assert region_to_image(replace(good[0], angle_deg=None)) is None
