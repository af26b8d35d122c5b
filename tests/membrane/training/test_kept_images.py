"""Kept images: large predictions are written as they go and gone on with, to the bits of one in memory."""

import json

import numpy as np
import pytest
from membrane.training.toy_membranes import TINY_DESIGN, toy_image

from emseg.errors import InputError
from emseg.images import read_gray
from emseg.membrane.networks import build_network
from emseg.membrane.training import kept_images, predict_membrane
from emseg.membrane.training.kept_images import Pace, keep_prediction, keep_truth
from emseg.membrane.training.prediction import grid_for
from emseg.membrane.training.validation import to_levels

OPTIONS = {"tta": False, "tile": 64, "precision": "fp32"}


@pytest.fixture(scope="module")
def network():
    return build_network(TINY_DESIGN, seed=0).eval()


class Windows:
    """An image that is never read as a whole, and that may break at a row."""

    labelled = True

    def __init__(self, image, breaks_from=10**9):
        self.image, self.breaks_from = image, breaks_from
        self.name, self.height, self.width = image.name, image.height, image.width
        self.n_read = 0

    def read(self, window=None):
        assert window is not None, "a large image was read as a whole"
        if window[0].stop > self.breaks_from:
            raise InputError("the disk is gone")
        self.n_read += window[0].stop - window[0].start
        return self.image.read(window)


@pytest.mark.parametrize("tta", [False, True])
def test_a_large_image_gives_the_bits_of_one_predicted_in_memory(network, tmp_path, tta):
    image = toy_image("large", 0, side=120)
    path = tmp_path / "predictions" / "test" / "large.png"
    pace = Pace(tmp_path / "pace.json")
    keep_prediction(network, Windows(image), path, pace, **{**OPTIONS, "tta": tta})
    np.testing.assert_array_equal(read_gray(path), to_levels(predict_membrane(network, image.read(), tile=64, tta=tta)))
    assert pace.pixels == pytest.approx(120 * 120)
    assert pace.kept == pytest.approx(1e6 * pace.seconds / 120**2)
    assert [one.name for one in path.parent.iterdir()] == ["large.png"], "nothing unfinished is left"


def test_a_small_image_is_read_once_and_kept_whole(network, tmp_path):
    image = toy_image("small", 1, side=60)
    keep_prediction(network, image, tmp_path / "small.png", Pace(tmp_path / "pace.json"), **OPTIONS)
    np.testing.assert_array_equal(read_gray(tmp_path / "small.png"), to_levels(predict_membrane(network, image.image)))


def test_a_prediction_that_was_stopped_goes_on_and_ends_with_the_same_bits(network, tmp_path):
    """What was finished is not read again, and the pace is that of the tiles that were left."""
    image, path = toy_image("large", 2, side=200), tmp_path / "large.png"
    pace = Pace(tmp_path / "pace.json")
    with pytest.raises(InputError, match="the disk is gone"):
        keep_prediction(network, Windows(image, breaks_from=150), path, pace, **OPTIONS)
    assert not path.exists()
    (checkpoint,) = tmp_path.rglob("checkpoint.json")
    n_finished = json.loads(checkpoint.read_text())["finished"]
    grid = grid_for(network, (200, 200), tile=64, halo=None)
    assert 1 <= n_finished < len(grid.rows)
    rest, pace = Windows(image), Pace(tmp_path / "pace.json")
    keep_prediction(network, rest, path, pace, **OPTIONS)
    np.testing.assert_array_equal(read_gray(path), to_levels(predict_membrane(network, image.read(), tile=64)))
    assert pace.pixels == pytest.approx(200 * 200 * (1 - n_finished / len(grid.rows)))
    assert not list(tmp_path.rglob("*.unfinished"))


def test_a_prediction_that_was_stopped_before_its_png_needs_no_tile_again(network, tmp_path, monkeypatch):
    image, path = toy_image("large", 3, side=200), tmp_path / "large.png"
    with monkeypatch.context() as patch:
        patch.setattr(kept_images, "_write_png", lambda levels, path: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            keep_prediction(network, image, path, Pace(tmp_path / "pace.json"), **OPTIONS)
    again = Pace(tmp_path / "pace.json")
    assert again.kept is not None, "the pace is there before the image is"
    keep_prediction(network, image, path, again, **OPTIONS)
    assert again.pixels == 0
    np.testing.assert_array_equal(read_gray(path), to_levels(predict_membrane(network, image.read(), tile=64)))


def test_what_was_stopped_with_other_tiles_or_half_made_is_begun_anew(network, tmp_path):
    image, path = toy_image("large", 4, side=200), tmp_path / "large.png"
    with pytest.raises(InputError):
        keep_prediction(network, Windows(image, 150), path, Pace(tmp_path / "p.json"), **{**OPTIONS, "tile": 68})
    half_made = (
        tmp_path / "large.png.unfinished" / f"tile64-halo{grid_for(network, (200, 200), tile=64, halo=None).halo}-fp32"
    )
    half_made.mkdir()
    (half_made / "levels.npy").write_bytes(b"\x93NUMPY")
    keep_prediction(network, image, path, Pace(tmp_path / "p.json"), **OPTIONS)
    np.testing.assert_array_equal(read_gray(path), to_levels(predict_membrane(network, image.read(), tile=64)))
    assert not list(tmp_path.rglob("*.unfinished"))


def test_a_truth_is_bright_on_membrane_and_written_once(tmp_path):
    image, path = toy_image("a", 5), tmp_path / "truth" / "test" / "a.png"
    keep_truth(image, path)
    np.testing.assert_array_equal(read_gray(path), np.where(image.membrane, 255, 0))
    stamp = path.stat().st_mtime_ns
    keep_truth(image, path)
    assert path.stat().st_mtime_ns == stamp
