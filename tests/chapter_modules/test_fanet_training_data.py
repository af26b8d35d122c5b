"""The data of a training by name: parts that do not meet, fresh wafers, and what cannot be had named at once."""

from pathlib import Path

import numpy as np
import pytest

from chapters.fanet_training import FRESH_SPLIT, fullest_tiles, report_data, training_data
from emseg.errors import InputError, UsageError
from emseg.runs.session import Run
from emseg.wafer.splits import TRAIN, VALIDATION, pixel_leak


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMSEG_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield training_data("synthetic", preset="smoke", split="wafer", seed=3)


def test_fresh_wafers_are_others_than_those_trained_and_validated_on(synthetic):
    """Another seed: no fingerprint, and no tile of the same name with the same pixels."""
    assert synthetic.parts == ("validation", "fresh")
    assert synthetic.fresh.fingerprint != synthetic.benchmark.fingerprint
    seen, fresh = synthetic.benchmark.read("wafer", VALIDATION), synthetic.fresh.read(FRESH_SPLIT, VALIDATION)
    assert len(fresh.images) == len(seen.images)
    assert synthetic.truth("fresh").is_file()
    ours = {path.read_bytes() for path in (synthetic.benchmark.folder / "images").glob("*.png")}
    theirs = [(synthetic.fresh.folder / "images" / image.file_name).read_bytes() for image in fresh.images]
    assert not ours & set(theirs)


def test_the_fullest_tiles_come_first(synthetic):
    """For figures: many sections a tile."""
    coco = synthetic.benchmark.read("wafer", VALIDATION)
    tiles = fullest_tiles(synthetic, n=2)
    counts = [sum(one.image_id == name for one in coco.annotations) for name in tiles]
    assert counts == sorted(counts, reverse=True)
    assert max(counts) == max(sum(one.image_id == image.id for one in coco.annotations) for image in coco.images)
    assert len(fullest_tiles(synthetic)) == len(coco.images)
    assert all(tile.dtype == np.uint8 for tile in tiles.values())


def test_a_run_says_which_data_it_used(synthetic):
    """Both data sets, each with the tiles that count."""
    run = Run("fanet/fanet_training", seed=0)
    report_data(run, synthetic)
    assert [use.kind for use in run.data] == ["synthetic", "synthetic"]
    assert run.data[0].n_images == sum(
        len(synthetic.benchmark.read("wafer", part).images) for part in (TRAIN, VALIDATION)
    )
    assert run.data[1].n_images == len(synthetic.fresh.read(FRESH_SPLIT, VALIDATION).images)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": "synthetik"}, "Did you mean 'synthetic'"),
        ({"source": "synthetic", "preset": "labtop"}, "`preset` must be one of"),
        ({"source": "folder"}, "`folder` must name a COCO folder"),
    ],
)
def test_data_that_cannot_be_meant_is_refused(arguments, message):
    """Before a wafer is drawn."""
    with pytest.raises(UsageError, match=message):
        training_data(**arguments)


def test_a_split_that_is_not_there_is_refused(synthetic, monkeypatch):
    """With those that are."""
    monkeypatch.setenv("EMSEG_CACHE", str(synthetic.benchmark.folder.parents[1]))
    with pytest.raises(UsageError, match="crops"):
        training_data("synthetic", preset="smoke", split="wafers", seed=3)


def test_a_folder_without_annotations_is_named(tmp_path: Path):
    """The user's own data."""
    with pytest.raises(InputError, match="annotations"):
        training_data("folder", folder=tmp_path, split="given")


def test_the_real_wafer_is_split_so_that_no_pixel_is_seen_twice(real_data, tmp_path, monkeypatch):
    """433 sections, one class; the left 60 % of the columns to learn from, the rest to score on."""
    monkeypatch.setenv("EMSEG_CACHE", str(tmp_path))
    data = training_data("magc_wafer", split="region")
    train, held_out = (data.benchmark.read("region", part) for part in (TRAIN, VALIDATION))
    assert pixel_leak(train.places, held_out.places).mean == 0
    assert (data.n_classes, data.fresh, data.benchmark.kind) == (1, None, "real")
    assert len(train.images) > len(held_out.images) > 50
