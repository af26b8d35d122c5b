"""A benchmark is made once and whole, has the counts that were asked for, and is never taken for another one."""

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from emseg.errors import InputError, UsageError
from emseg.synthetic.wafer import BACKGROUNDS
from emseg.synthetic.wafer.benchmark_design import PRESETS, BenchmarkDesign, preset
from emseg.wafer import wafer_benchmark
from emseg.wafer.formats.benchmark_folder import Benchmark, find_kept, made_whole
from emseg.wafer.splits import pixel_leak
from emseg.wafer.tiles import tile_origins
from emseg.wafer.wafer_benchmark import default_folder, make_benchmark

SMOKE = PRESETS["smoke"]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    return make_benchmark("smoke", tmp_path_factory.mktemp("benchmarks") / "smoke", seed=3)


@pytest.fixture
def copy(smoke: Benchmark, tmp_path: Path) -> Path:
    return Path(shutil.copytree(smoke.folder, tmp_path / "smoke"))


def test_all_splits_have_the_counts_of_the_design_and_both_tissues_on_either_side(smoke: Benchmark) -> None:
    assert smoke.kind == "synthetic"
    for split in ("crops", "region", "wafer"):
        train, validation = smoke.read(split, "train"), smoke.read(split, "validation")
        assert (len(train.images), len(validation.images)) == (SMOKE.n_train, SMOKE.n_validation)
        assert {place.wafer.split("-")[0] for place in train.places} == {"scn", "zebrafish"}
        leak = pixel_leak(train.places, validation.places)
        assert (leak.mean > 0) == (split == "crops")


def test_the_wafer_split_validates_on_wafers_that_were_not_trained_on(smoke: Benchmark) -> None:
    wafers = [{place.wafer for place in smoke.read("wafer", which).places} for which in ("train", "validation")]
    assert wafers[1] == set(SMOKE.validation_names())
    assert not wafers[0] & wafers[1]


def test_the_folder_holds_the_tiles_of_its_splits_and_no_other_file(smoke: Benchmark) -> None:
    used = {
        image.file_name
        for split in smoke.splits
        for which in ("train", "validation")
        for image in smoke.read(split, which).images
    }
    assert {path.name for path in (smoke.folder / "images").iterdir()} == used
    assert {path.name for path in smoke.folder.iterdir()} == {"images", "annotations", "benchmark.json"}
    for name in used:
        tile = cv2.imread(str(smoke.folder / "images" / name), cv2.IMREAD_UNCHANGED)
        assert (tile.shape, tile.dtype) == ((192, 192), np.uint8)


def test_tiles_without_sections_are_trained_and_scored_on(tmp_path: Path) -> None:
    """Of nearly empty wafers nearly all tiles are empty: which tiles count is never chosen by the truth."""
    sparse = dataclasses.replace(SMOKE, pattern=dataclasses.replace(SMOKE.pattern, n_sections=4), n_validation=12)
    made = make_benchmark(sparse, tmp_path / "sparse", seed=3)
    for which in ("train", "validation"):
        coco = made.read("wafer", which)
        assert sum(not coco.of_image(image) for image in coco.images) > len(coco.images) / 4


@pytest.mark.slow  # two processes start anew
def test_the_same_seed_gives_the_same_benchmark_in_several_processes(smoke: Benchmark, tmp_path: Path) -> None:
    assert make_benchmark("smoke", tmp_path / "again", seed=3, n_workers=2).fingerprint == smoke.fingerprint


def test_another_seed_gives_another_benchmark(smoke: Benchmark, tmp_path: Path) -> None:
    assert make_benchmark("smoke", tmp_path / "other", seed=4).fingerprint != smoke.fingerprint


def test_a_folder_that_is_there_is_used_again(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wafer_benchmark, "synthesize_wafer", _never)
    assert make_benchmark("smoke", copy, seed=3).folder == copy


def test_a_folder_that_lost_files_is_made_again(copy: Path, smoke: Benchmark) -> None:
    next((copy / "images").iterdir()).unlink()
    (copy / "annotations" / "crops" / "train.json").unlink()
    assert make_benchmark("smoke", copy, seed=3).fingerprint == smoke.fingerprint
    assert len(list((copy / "images").iterdir())) == smoke.statement["n_images"]


@pytest.mark.parametrize(
    ("design", "seed", "message"),
    [
        (SMOKE, 5, "seed was 3 and is now 5"),
        (dataclasses.replace(SMOKE, overlap=0.2), 3, r"design\.overlap was 0\.1 and is now 0\.2"),
    ],
)
def test_a_folder_made_from_other_parameters_is_refused_by_name(
    copy: Path, design: BenchmarkDesign, seed: int, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        make_benchmark(design, copy, seed=seed)


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not empty and contains no benchmark of ours"):
        make_benchmark("smoke", tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_a_run_that_fails_leaves_nothing_and_one_that_was_killed_is_cleared_away(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), made_whole(tmp_path / "set") as unfinished:
        unfinished.joinpath("half").rename(unfinished)
    assert list(tmp_path.iterdir()) == []
    dead = unfinished.with_name(unfinished.name.replace(str(os.getpid()), "99999999"))
    (dead / "images").mkdir(parents=True)
    with made_whole(tmp_path / "set") as unfinished:
        (unfinished / "whole").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_two_processes_that_make_the_same_benchmark_agree_on_the_first(copy: Path) -> None:
    statement = (copy / "benchmark.json").read_bytes()
    with made_whole(copy) as unfinished:
        (unfinished / "late").touch()
    assert (copy / "benchmark.json").read_bytes() == statement
    assert not (copy / "late").exists()


def test_without_a_folder_the_cache_is_used_and_each_design_has_its_own_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EMSEG_CACHE", str(tmp_path))
    places = {default_folder(design, seed) for design in PRESETS.values() for seed in (0, 1)}
    assert len(places) == 2 * len(PRESETS)
    assert {place.parent for place in places} == {tmp_path / "benchmarks"}


def test_too_little_room_on_the_disk_is_said_before_anything_is_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 10**6))  # type: ignore[attr-defined]
    monkeypatch.setattr(wafer_benchmark, "synthesize_wafer", _never)
    with pytest.raises(InputError, match=r"takes up to 7\.4 GB, and .* has 0\.0 GB free"):
        make_benchmark("paper", tmp_path / "paper")


def test_too_few_tiles_are_counted(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has \d+ tiles for train, 100 were requested\. Make more wafers"):
        make_benchmark(dataclasses.replace(SMOKE, n_train=100), tmp_path / "much")


def test_the_papers_counts_fit_its_wafers_under_every_split() -> None:
    paper = preset("paper")
    assert (paper.n_train, paper.n_validation, paper.tile, paper.overlap) == (2708, 1193, 1024, 0.1)
    down = len(tile_origins(10_000, 1024, 0.1))
    assert down * down * paper.n_train_wafers >= 2708
    assert down * down * paper.n_validation_wafers >= 1193
    assert down * len(tile_origins(7000, 1024, 0.1)) * paper.n_wafers >= 2708
    assert down * len(tile_origins(3000, 1024, 0.1)) * paper.n_wafers >= 1193


def test_every_preset_has_both_tissues_and_its_backgrounds_on_either_side() -> None:
    for design in PRESETS.values():
        for side in (range(design.n_train_wafers), range(design.n_train_wafers, design.n_wafers)):
            wafers = [design.wafer(index) for index in side]
            assert {wafer.tissue for wafer in wafers} == {"scn", "zebrafish"}
            assert {wafer.background for wafer in wafers} == ({"tape"} if design.name == "clear" else set(BACKGROUNDS))


def test_only_the_clear_preset_is_made_easy() -> None:
    for name, design in PRESETS.items():
        wafer = design.wafer(0)
        easy = (
            wafer.severity is not None,
            wafer.fold_tone != "either",
            wafer.overlapping_share + wafer.piled_share == 0,
        )
        assert easy == (name == "clear",) * 3
    least = PRESETS["clear"].wafer(0).severity
    assert least is not None
    assert min(least.missing[0], least.folded[0], least.torn[0]) == 0.2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_train": 0}, "`n_train` must be at least 1; got 0"),
        ({"tile": 600}, "`tile` must fit into `wafer_px`; got tile=600, wafer_px=512"),
        ({"splits": ("wafers",)}, "must be one of 'crops', 'region', 'wafer'; got 'wafers'. Did you mean 'wafer'"),
        ({"splits": ()}, r"`splits` must be a longer list; got \(\)"),
        ({"tissues": ("liver",)}, "`tissues.0` must be one of 'scn', 'zebrafish'; got 'liver'"),
        ({"section_length_px": 400.0}, "at least two section lengths"),
    ],
)
def test_a_design_that_cannot_be_is_refused_at_once(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        dataclasses.replace(SMOKE, **change)


def test_regions_narrower_than_a_tile_are_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`wafer_px` gives 461 and 51 px for tiles of 192"):
        make_benchmark(dataclasses.replace(SMOKE, left_share=0.9), tmp_path / "narrow")


def test_a_misspelt_preset_gets_a_suggestion() -> None:
    named = r"one of 'smoke', 'clear', 'laptop', 'medium', 'paper'; got 'labtop'\. Did you mean 'laptop'"
    with pytest.raises(UsageError, match=named):
        make_benchmark("labtop")
    with pytest.raises(UsageError, match="`n_workers` must be a whole number of at least 1"):
        make_benchmark("smoke", n_workers=0)
    with pytest.raises(UsageError, match="`seed` must be a whole number of at least 0"):
        make_benchmark("smoke", seed=-1)


def test_parameters_that_are_kept_are_those_that_were_given(copy: Path) -> None:
    parameters = json.loads((copy / "benchmark.json").read_text())["parameters"]
    assert find_kept(copy, parameters) is not None
    assert parameters["design"] == json.loads(json.dumps(dataclasses.asdict(SMOKE)))


def _never(*_: object, **__: object) -> None:
    raise AssertionError("no wafer should have been drawn")
