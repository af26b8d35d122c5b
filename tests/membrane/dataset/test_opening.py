"""Sets are opened by name; the same arguments give the same images, and wrong ones are named at once."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from emseg.errors import InputError, UsageError
from emseg.membrane.dataset import open_membrane_set
from emseg.membrane.dataset.known_sets import tissue_seed
from emseg.membrane.dataset.labels import TRACK_2_FACTOR, downsampled_pair
from emseg.synthetic.tissue import synthesize_tissue

SMALL = {"n_train": 2, "n_validation": 1, "n_test": 1}


@pytest.mark.parametrize(("track", "pixel_size_nm"), [("track1", 2.18), ("track2", 21.2), ("isbi_like", 4.0)])
def test_a_synthetic_set_has_the_numbers_asked_for_at_the_tracks_pixel_size(track: str, pixel_size_nm: float):
    opened = open_membrane_set("synthetic", track=track, **SMALL, size_px=32, seed=3)
    assert [len(images) for images in opened.parts.values()] == [2, 1, 1]
    assert {(image.height, image.width, image.labelled) for image in opened.train} == {(32, 32, True)}
    assert opened.kind == "synthetic"
    assert opened.pixel_size_nm == pytest.approx(pixel_size_nm, rel=1e-3)


def test_no_two_images_show_the_same_tissue_and_another_seed_shows_others():
    first = open_membrane_set("synthetic", **SMALL, size_px=64, seed=0)
    second = open_membrane_set("synthetic", **SMALL, size_px=64, seed=1)
    images = [image.read() for one in (first, second) for part in one.parts.values() for image in part]
    assert len({image.tobytes() for image in images}) == 8
    assert first.fingerprint != second.fingerprint


def test_more_images_add_to_a_set_without_changing_those_it_has():
    few = open_membrane_set("synthetic", **SMALL, size_px=48)
    many = open_membrane_set("synthetic", n_train=3, n_validation=2, n_test=1, size_px=48)
    np.testing.assert_array_equal(few.train[1].read(), many.train[1].read())
    np.testing.assert_array_equal(few.test[0].read(), many.test[0].read())


def test_track_2_is_the_tissue_of_track_1_resized_as_the_authors_did():
    side = 40
    made = open_membrane_set("synthetic", track="track2", n_train=1, n_validation=1, n_test=1, size_px=side, seed=5)
    source = round(side * TRACK_2_FACTOR)
    drawn = synthesize_tissue((source, source), seed=tissue_seed(5, "train", 0))
    label = np.where(drawn.membrane, 0, 255).astype(np.uint8)
    resized = cv2.resize(label, (side, side), interpolation=cv2.INTER_LINEAR)
    binary = cv2.threshold(resized, 122, 255, cv2.THRESH_BINARY)[1]
    np.testing.assert_array_equal(made.train[0].read_membrane(), binary == 0)
    np.testing.assert_array_equal(
        made.train[0].read(), cv2.resize(drawn.image, (side, side), interpolation=cv2.INTER_LINEAR)
    )
    original = open_membrane_set("synthetic", track="track1", n_train=1, n_validation=1, n_test=1, size_px=200, seed=5)
    np.testing.assert_array_equal(original.train[0].read_membrane(), drawn.membrane[:200, :200])


def test_a_bilinear_label_reads_four_pixels_of_each_patch():
    membrane = np.zeros((97, 97), bool)
    membrane[40:43, 3] = True  # a speck between the pixels that are read
    assert not downsampled_pair(np.zeros((97, 97), np.uint8), membrane, (10, 10))[1].any()
    with pytest.raises(UsageError, match="`shape` must lie between"):
        downsampled_pair(np.zeros((9, 9), np.uint8), np.zeros((9, 9), bool), (10, 10))


@pytest.mark.real_data
def test_isbi_keeps_its_test_sections_apart(real_data: Path):
    opened = open_membrane_set("isbi2012")
    assert [image.name for image in opened.test] == [f"section_{number}" for number in range(20, 30)]
    assert [image.name for image in opened.validation] == [f"section_{number:02d}" for number in (4, 9, 14, 19)]
    assert [len(images) for images in opened.parts.values()] == [16, 4, 10]
    assert (opened.kind, opened.pixel_size_nm) == ("real", 4.0)
    shares = [image.read_membrane().mean() for part in opened.parts.values() for image in part]
    assert np.mean(shares) == pytest.approx(0.2196, abs=2e-4)  # measured apart from this code


@pytest.mark.real_data
def test_isbi_in_another_division_has_another_fingerprint(real_data: Path):
    one = open_membrane_set("isbi2012")
    other = open_membrane_set("isbi2012", split="interleaved")
    few = open_membrane_set("isbi2012", n_train=2, n_validation=1, n_test=1, size_px=128)
    assert len({one.fingerprint, other.fingerprint, few.fingerprint}) == 3
    assert few.test[0].read().shape == (128, 128)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data": "isbi2013"}, "Did you mean 'isbi2012'"),
        ({"data": "synthetic", "track": "track3"}, "`track` must be one of 'track1'"),
        ({"data": "synthetic", "split": "random"}, "`split` must be one of 'block', 'interleaved'; got 'random'"),
        ({"data": "synthetic", "split": "interleaved"}, "`split` must be 'block' for 'synthetic', which comes divided"),
        ({"data": "isbi2012", "track": "isbi_like"}, "'isbi_like' is synthetic"),
        ({"data": "synthetic", "folder": "here"}, "`folder` is for data='urisc'"),
        ({"data": "urisc"}, "`folder` must name the folder"),
        ({"data": "synthetic", "n_train": -1}, "`n_train` must be a whole number of at least 0; got -1"),
        ({"data": "synthetic", "n_test": 1.5}, "`n_test` must be a whole number of at least 0; got 1.5"),
        ({"data": "synthetic", "size_px": 8}, "`size_px` must be at least 16"),
    ],
)
def test_wrong_requests_are_named(arguments: dict[str, Any], message: str):
    with pytest.raises(UsageError, match=message):
        open_membrane_set(**arguments)


def test_isbi_that_is_not_here_names_the_stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EMSEG_DATA", str(tmp_path))
    with pytest.raises(InputError, match=r"synthetic tissue .* stands in for it"):
        open_membrane_set("isbi2012")
