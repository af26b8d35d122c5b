"""What tiles hold is counted as defined: crowds left out, touching by distance, clipped by the border, COCO's sizes."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import shapely
from wafer.made_wafers import QUALITIES, random_wafer, rectangle

from chapters.wafer_dataset import (
    report_statistics,
    statistics_table,
    tile_statistics,
    touching_gap_px,
    touching_pairs,
)
from emseg.errors import InputError
from emseg.runs.session import Run
from emseg.wafer.formats.coco import CocoAnnotation, CocoImage, CocoSet

SIZE = 256


def made(*sections: tuple[int, np.ndarray, str, bool], n_tiles: int = 1) -> CocoSet:
    """Return tiles with sections (tile, outline, class, crowd)."""
    images = tuple(CocoImage(k, f"{k}.png", SIZE, SIZE) for k in range(1, n_tiles + 1))
    annotations = tuple(
        CocoAnnotation(k, tile, label, (outline,), crowd) for k, (tile, outline, label, crowd) in enumerate(sections)
    )
    return CocoSet(Path("made.json"), images, annotations, QUALITIES, (1, 2, 3, 4))


def square(top: float, left: float, side: float) -> np.ndarray:
    return rectangle(top, left, top + side, left + side)


def test_crowds_count_nowhere_but_can_be_touched() -> None:
    found = tile_statistics(
        made((1, square(50, 50, 40), "good", False), (1, square(50, 90.5, 40), "fold", True), n_tiles=2)
    )
    assert (len(found.per_tile), len(found.areas_px)) == (2, 1)
    assert found.labels == ("good",)
    assert found.per_tile.tolist() == [1, 0]
    assert found.touching.tolist() == [True]


@pytest.mark.parametrize(("gap", "touches"), [(0.0, True), (0.9, True), (1.1, False)])
def test_sections_touch_up_to_two_percent_of_a_usual_side(gap: float, touches: bool) -> None:
    found = tile_statistics(made((1, square(50, 50, 50), "good", False), (1, square(50, 100 + gap, 50), "good", False)))
    assert found.touching.tolist() == [touches, touches]


def test_sections_of_other_tiles_do_not_touch() -> None:
    found = tile_statistics(
        made((1, square(50, 50, 50), "good", False), (2, square(50, 100, 50), "good", False), n_tiles=2)
    )
    assert not found.touching.any()


@pytest.mark.parametrize(
    ("outline", "clipped"),
    [
        (square(0, 50, 40), True),
        (square(50, 0, 40), True),
        (square(SIZE - 40, 50, 40), True),
        (square(50, SIZE - 40, 40), True),
        (square(0.5, 0.5, 40), False),
    ],
)
def test_a_section_is_clipped_where_it_reaches_the_border(outline: np.ndarray, clipped: bool) -> None:
    assert tile_statistics(made((1, outline, "good", False))).clipped.tolist() == [clipped]


def test_sizes_have_cocos_borders() -> None:
    sides = (31.9, 32, 96, 96.1)
    found = tile_statistics(
        made(*((k + 1, square(50, 50, side), "good", False) for k, side in enumerate(sides)), n_tiles=4)
    )
    assert found.size_shares == {"small": 0.25, "medium": 0.5, "large": 0.25}
    np.testing.assert_allclose(np.sqrt(found.areas_px), sides)


def test_touching_pairs_of_a_wafer_are_those_of_all_pairs_distances() -> None:
    wafer = random_wafer(3, n=30)
    shapes = [shapely.Polygon(section.polygon) for section in wafer.sections]
    gap = touching_gap_px(np.array([shape.area for shape in shapes]))
    expected = [(i, j) for (i, one), (j, other) in combinations(enumerate(shapes), 2) if one.distance(other) <= gap]
    assert expected
    assert touching_pairs(wafer) == expected


def test_tiles_without_a_section_that_counts_are_refused() -> None:
    with pytest.raises(InputError, match="crowds alone"):
        tile_statistics(made((1, square(5, 5, 40), "good", True)))


def test_the_table_counts_classes_and_says_which_a_set_lacks() -> None:
    ours = tile_statistics(made((1, square(50, 50, 40), "fold", False)))
    coco = made((1, square(50, 50, 40), "good", False))
    real = tile_statistics(CocoSet(coco.path, coco.images, coco.annotations, ("good",), (1,)))
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in statistics_table({"a": ours, "b": real}).rows}
    assert rows["Tiles"] == ["1", "1"]
    assert rows["of class fold"] == ["1", "no such class"]
    assert rows["of class good"][:2] == ["0", "1"]
    assert rows["Medium"][:2] == ["100.0%", "100.0%"]


def test_shares_of_a_run_are_over_both_parts() -> None:
    train = tile_statistics(made((1, square(50, 50, 40), "good", False), (1, square(0, 150, 20), "fold", False)))
    validation = tile_statistics(
        made((1, square(50, 50, 40), "good", False), (2, square(50, 50, 100), "good", False), n_tiles=2)
    )
    run = Run("fanet/wafer_dataset", seed=0)
    report_statistics(run, train, validation)
    values = {name: metric.value for name, metric in run.metrics.items()}
    assert (values["n_tiles_train"], values["n_tiles_validation"], values["n_sections_train"]) == (1, 2, 2)
    assert (values["share_good"], values["share_fold"], values["share_clipped"]) == (0.75, 0.25, 0.25)
    assert (values["share_small"], values["share_medium"], values["share_large"]) == (0.25, 0.5, 0.25)
    assert values["sections_per_tile"] == pytest.approx(4 / 3)
