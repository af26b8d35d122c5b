"""The leak of planned and of written tiles, against enumeration; what was not run says so."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from chapters.fanet_results import HELD_FIXED, NETWORK, SCORES
from chapters.wafer_dataset import (
    expected_leak,
    leak_table,
    random_split_leak,
    report_split_leak,
    same_networks,
    section_leak,
    split_leak,
)
from emseg.errors import InputError, UsageError
from emseg.runs.session import Run
from emseg.wafer.formats.benchmark_folder import Benchmark, SplitFiles
from emseg.wafer.splits import pixel_leak
from emseg.wafer.tiles import TilePlace, Tiling

SIDE = 20


def place(row: int, column: int, wafer: str = "a") -> TilePlace:
    return TilePlace(wafer, row, column, SIDE, SIDE)


@pytest.mark.parametrize("overlap", [0.0, 0.1, 0.25, 0.5])
@pytest.mark.parametrize("train_share", [0.0, 0.3, 0.7, 1.0])
def test_the_expected_leak_is_the_mean_over_all_choices_of_neighbours(overlap: float, train_share: float) -> None:
    """All 2^8 sets of neighbours in training, weighted by their probability."""
    step = round(SIDE * (1 - overlap))
    neighbours = [(i, j) for i, j in product((-1, 0, 1), repeat=2) if (i, j) != (0, 0)]
    mean = 0.0
    for chosen in product((False, True), repeat=8):
        train = [place(i * step, j * step) for (i, j), wanted in zip(neighbours, chosen, strict=True) if wanted]
        weight = np.prod([train_share if wanted else 1 - train_share for wanted in chosen])
        mean += float(weight) * pixel_leak(train, [place(0, 0)]).mean
    assert expected_leak(overlap, train_share) == pytest.approx(mean, abs=1e-12)


@pytest.mark.parametrize(("overlap", "train_share"), [(0.51, 0.5), (-0.1, 0.5), (0.1, 1.1)])
def test_an_expectation_outside_its_equation_is_refused(overlap: float, train_share: float) -> None:
    with pytest.raises(UsageError, match=r"`overlap` must be .* at most 0\.5|`train_share` must be .* at most 1"):
        expected_leak(overlap, train_share)


def test_planned_wafers_that_tiles_fill_evenly_leak_as_expected() -> None:
    """39 steps of 90 and a tile of 100: 1600 tiles, of which few lie on the border."""
    leak = random_split_leak(39 * 90 + 100, Tiling(100, 0.1), train_share=0.7, n_wafers=2, seed=0)
    assert len(leak.shares) == 960
    assert leak.mean == pytest.approx(expected_leak(0.1, 0.7), abs=0.015)
    none = random_split_leak(1000, Tiling(100, 0.0), train_share=0.7, n_wafers=1, seed=0)
    assert none.shares.tolist() == [0.0] * 30


def test_planning_no_wafer_is_refused() -> None:
    with pytest.raises(UsageError, match="`n_wafers` must be a whole number of at least 1"):
        random_split_leak(1000, Tiling(100, 0.1), train_share=0.7, n_wafers=0, seed=0)


def written(folder: Path, *, keys: tuple[str, ...] = ("section",)) -> Benchmark:
    """Return a benchmark of two tiles of a wafer that share a quarter; sections 0 and 1 to train, 1, 2, 3 to validate.

    Section 0 is a crowd on the validation tile, and section 3 one on the training tile.
    """
    shown = {"train": [(0, 0), (1, 0), (3, 1)], "validation": [(1, 0), (2, 0), (3, 0), (0, 1)]}
    for part, column in (("train", 0), ("validation", 15)):
        outline = [2.0, 2.0, 6.0, 2.0, 6.0, 6.0, 2.0, 6.0]
        tile = {"id": 1, "file_name": "a.png", "height": SIDE, "width": SIDE, "wafer": "a", "row": 0, "column": column}
        annotations = [
            {"id": k, "image_id": 1, "category_id": 1, "segmentation": [outline], "iscrowd": crowd}
            | ({"section": section} if "section" in keys else {})
            for k, (section, crowd) in enumerate(shown[part])
        ]
        document = {"images": [tile], "annotations": annotations, "categories": [{"id": 1, "name": "good"}]}
        (folder / f"{part}.json").write_text(json.dumps(document))
    (folder / "a.png").touch()
    files = SplitFiles(folder / "train.json", folder / "validation.json", folder, folder)
    return Benchmark(folder, {"crops": files}, ("good",), "synthetic", "0", None, {})


def test_pixel_and_section_leak_of_a_benchmark_are_those_of_its_files(tmp_path: Path) -> None:
    benchmark = written(tmp_path)
    assert split_leak(benchmark, "crops").shares.tolist() == [0.25]
    assert section_leak(benchmark, "crops") == pytest.approx(1 / 3)
    run = Run("fanet/wafer_dataset", seed=0)
    report_split_leak(run, "crops", split_leak(benchmark, "crops"), sections=1 / 3, n_sections=3)
    values = {name: metric.value for name, metric in run.metrics.items()}
    assert values == {"crops_leak_mean": 0.25, "crops_leak_touched": 1.0, "crops_sections_seen": 1 / 3}


def test_annotations_that_do_not_name_their_section_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lacks 'section'"):
        section_leak(written(tmp_path, keys=()), "crops")


def trained(
    *runs: tuple[float, float], split: str = "crops", attentions: tuple[str, ...] = ("se", "se")
) -> pd.DataFrame:
    """Return runs with the scores (ap, fresh_ap), one attention each."""
    same: dict[str, Any] = dict.fromkeys([*HELD_FIXED, *NETWORK], "same") | {"split": split}
    rows = [
        same | {"attention": name, "seed": seed, "ap": ap, "fresh_ap": fresh}
        for seed, ((ap, fresh), name) in enumerate(zip(runs, attentions, strict=False))
    ]
    return pd.DataFrame(rows, columns=[*HELD_FIXED, *NETWORK, "seed", *SCORES])


def test_the_table_shows_means_and_the_difference_and_says_what_was_not_run() -> None:
    runs = trained((50.0, 46.0), (54.0, 48.0))
    table = leak_table([("crops", runs), ("wafer", trained())])
    first, second = ([cell.text for cell in row] for row in table.rows)
    assert first[:3] == ["crops", "52.0", "47.0"]
    assert first[3:] == ["+5.0 (n = 2)", "2"]  # two seeds give no interval
    assert second == ["wafer", "not run", "not run", "not run", "0"]
    with pytest.raises(UsageError, match="`split` must be one of"):
        leak_table([("tiles", runs)])
    three = trained((50.0, 46.0), (54.0, 48.0), (52.0, 47.0), attentions=("se", "se", "se"))
    assert leak_table([("crops", three)]).rows[0][3].text.startswith("+5.0 (")


def test_the_control_keeps_the_networks_that_were_trained_under_the_other_split_too() -> None:
    control = trained((50.0, 50.0), (50.0, 50.0), split="wafer", attentions=("se", "eca"))
    assert same_networks(control, trained((1.0, 1.0)))["attention"].tolist() == ["se"]
    assert same_networks(control, trained()).equals(control)
