"""Wafers of the user become a benchmark under one split, and what does not fit together is named."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from wafer.made_wafers import picture, random_wafer

from emseg.errors import InputError, UsageError
from emseg.sections import WaferSections
from emseg.wafer.annotated_wafer import load_magc_wafer
from emseg.wafer.splits import pixel_leak
from emseg.wafer.tiles import Tiling, plan_tiles
from emseg.wafer.wafer_benchmark import benchmark_from_wafers

TILING = Tiling(64, 0.5, keep_empty=False)
FIRST, SECOND = (random_wafer(seed, name=f"wafer-{seed}") for seed in (0, 1))
WAFERS = [(picture(FIRST), FIRST), (picture(SECOND), SECOND)]


def test_one_wafer_is_split_by_region_and_kept(tmp_path: Path) -> None:
    made = benchmark_from_wafers([WAFERS[0]], tmp_path / "one", tiling=TILING)
    assert (made.kind, list(made.splits), made.pixel_size_um) == ("real", ["region"], 2.0)
    train, validation = (made.read("region", which).places for which in ("train", "validation"))
    assert max(place.column + place.width for place in train) == 120
    assert min(place.column for place in validation) == 120
    again = benchmark_from_wafers([WAFERS[0]], tmp_path / "one", tiling=TILING)
    assert again.fingerprint == made.fingerprint
    with pytest.raises(UsageError, match=r"train_share was 0\.6 and is now 0\.5"):
        benchmark_from_wafers([WAFERS[0]], tmp_path / "one", tiling=TILING, train_share=0.5)
    other = dataclasses.replace(FIRST, sections=FIRST.sections[1:])
    with pytest.raises(UsageError, match=r"wafers\.wafer-0 was"):
        benchmark_from_wafers([(WAFERS[0][0], other)], tmp_path / "one", tiling=TILING)
    with pytest.raises(UsageError, match=r"pixels\.wafer-0 was"):
        benchmark_from_wafers([(WAFERS[0][0] // 2, FIRST)], tmp_path / "one", tiling=TILING)


def test_all_tiles_of_a_wafer_count_unless_the_empty_ones_are_left_out(tmp_path: Path) -> None:
    """An evaluation set is never chosen by the truth."""
    image, sections = WAFERS[0]
    alone = dataclasses.replace(sections, sections=sections.sections[:4])
    made = {
        empty: benchmark_from_wafers([(image, alone)], tmp_path / str(empty), split="crops", tiling=tiling)
        for empty, tiling in ((True, Tiling(64)), (False, Tiling(64, keep_empty=False)))
    }
    n_tiles = {empty: sum(one.statement["counts"]["crops"].values()) for empty, one in made.items()}
    assert n_tiles[True] == len(plan_tiles(alone, Tiling(64))) > n_tiles[False]


def test_two_wafers_under_the_three_splits(tmp_path: Path) -> None:
    shares = {}
    for split in ("crops", "region", "wafer"):
        validation = ["wafer-1"] if split == "wafer" else []
        made = benchmark_from_wafers(WAFERS, tmp_path / split, split=split, tiling=TILING, validation_wafers=validation)
        train, held_out = (made.read(split, which).places for which in ("train", "validation"))
        shares[split] = pixel_leak(train, held_out).mean
        assert {place.wafer for place in held_out} == ({"wafer-1"} if split == "wafer" else {"wafer-0", "wafer-1"})
    assert shares["crops"] > 0.3
    assert (shares["region"], shares["wafer"]) == (0, 0)


def test_the_magc_wafer_gives_tiles_of_both_regions(real_data: Path, tmp_path: Path) -> None:
    image, sections = load_magc_wafer()
    made = benchmark_from_wafers([(image, sections)], tmp_path / "magc", tiling=Tiling(512, 0.25))
    train, validation = made.read("region", "train"), made.read("region", "validation")
    assert pixel_leak(train.places, validation.places).mean == 0
    assert max(place.column + place.width for place in train.places) == round(0.6 * 5380)
    shown = {"train": train.count("section"), "validation": validation.count("section")}
    assert shown["train"] > 248
    assert shown["validation"] > 185
    assert any(not validation.of_image(image) for image in validation.images), "the mosaic's border has no sections"


def test_wafers_that_do_not_fit_together_are_named(tmp_path: Path) -> None:
    image = WAFERS[1][0]
    with pytest.raises(UsageError, match="must contain at least one wafer"):
        benchmark_from_wafers([], tmp_path)
    with pytest.raises(UsageError, match=r"different names, .* got wafer-0, wafer-0"):
        benchmark_from_wafers([WAFERS[0], WAFERS[0]], tmp_path)
    with pytest.raises(UsageError, match="a wafer's name must be letters"):
        benchmark_from_wafers([(image, dataclasses.replace(SECOND, name="a/b"))], tmp_path)
    classes = dataclasses.replace(SECOND, class_names=(*SECOND.class_names, "lost"))
    with pytest.raises(InputError, match=r"must have the same classes; wafer-0 has good.*, wafer-1 has .*lost"):
        benchmark_from_wafers([WAFERS[0], (image, classes)], tmp_path)
    finer = dataclasses.replace(SECOND, pixel_size_um=1.0)
    with pytest.raises(InputError, match=r"one pixel size; wafer-0 has 2.0 um, wafer-1 has 1.0 um"):
        benchmark_from_wafers([WAFERS[0], (image, finer)], tmp_path)
    with pytest.raises(InputError, match=r"its outlines, the image 150 x 199"):
        benchmark_from_wafers([(image[:, :-1], SECOND)], tmp_path)
    with pytest.raises(InputError, match="must have 8 bits; wafer-1 is uint16"):
        benchmark_from_wafers([(image.astype(np.uint16), SECOND)], tmp_path)
    with pytest.raises(
        UsageError, match=r"must be one of 'crops', 'region', 'wafer'; got 'wafers'\. Did you mean 'wafer'"
    ):
        benchmark_from_wafers(WAFERS, tmp_path, split="wafers", tiling=TILING)
    with pytest.raises(
        UsageError, match=r"one of 'synthetic', 'real', 'licensed'; got 'licenced'\. Did you mean 'licensed'"
    ):
        benchmark_from_wafers([WAFERS[0]], tmp_path, tiling=TILING, kind="licenced")
    empty = WaferSections("bare", 150, 200, ())
    with pytest.raises(InputError, match="bare has no section"):
        benchmark_from_wafers([(image, empty)], tmp_path, tiling=TILING)
