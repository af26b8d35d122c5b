"""Predictions in files: large ones are written as they go and resume, and equal those in memory."""

import json

import numpy as np
import pytest
from membrane.training.toy_membranes import TINY_DESIGN, toy_image

from emseg.errors import InputError
from emseg.images import read_gray
from emseg.membrane.networks import build_network
from emseg.membrane.training import membrane_prediction, predict_membrane, predict_to_png
from emseg.membrane.training.membrane_prediction import grid_for, to_levels

OPTIONS = {"tile": 64}


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
def test_a_large_image_gives_the_levels_of_one_predicted_in_memory(network, tmp_path, tta):
    image = toy_image("large", 0, side=120)
    path = tmp_path / "predictions" / "test" / "large.png"
    tiles = []
    predict_to_png(network, Windows(image), path, tta=tta, **OPTIONS, progress=lambda *done: tiles.append(done))
    in_memory = to_levels(predict_membrane(network, image.read(), tile=64, tta=tta))
    assert np.abs(read_gray(path).astype(int) - in_memory).max() <= 1
    assert len(np.unique(in_memory)) > 5
    n_tiles = grid_for(network, (120, 120), tile=64, halo=None).n_tiles
    assert tiles == [(done, n_tiles) for done in range(1, n_tiles + 1)]
    assert [one.name for one in path.parent.iterdir()] == ["large.png"], "nothing unfinished is left"


def test_a_small_image_is_read_once_and_kept_whole(network, tmp_path):
    image = toy_image("small", 1, side=60)
    predict_to_png(network, image, tmp_path / "small.png", **OPTIONS)
    np.testing.assert_array_equal(read_gray(tmp_path / "small.png"), to_levels(predict_membrane(network, image.image)))


def test_a_prediction_that_was_stopped_goes_on_and_ends_with_the_same_bits(network, tmp_path):
    """What was finished is not read again."""
    image, path = toy_image("large", 2, side=200), tmp_path / "large.png"
    predict_to_png(network, image, tmp_path / "undisturbed.png", **OPTIONS)
    with pytest.raises(InputError, match="the disk is gone"):
        predict_to_png(network, Windows(image, breaks_from=150), path, **OPTIONS)
    assert not path.exists()
    (checkpoint,) = tmp_path.rglob("checkpoint.json")
    n_finished = json.loads(checkpoint.read_text())["finished"]
    grid = grid_for(network, (200, 200), tile=64, halo=None)
    assert 1 <= n_finished < len(grid.rows)
    tiles = []
    predict_to_png(network, Windows(image), path, **OPTIONS, progress=lambda done, total: tiles.append(done))
    assert path.read_bytes() == (tmp_path / "undisturbed.png").read_bytes()
    assert len(tiles) == grid.n_tiles * (1 - n_finished / len(grid.rows))
    assert not list(tmp_path.rglob("*.unfinished"))


def test_a_prediction_that_was_stopped_before_its_png_needs_no_tile_again(network, tmp_path, monkeypatch):
    image, path = toy_image("large", 3, side=200), tmp_path / "large.png"
    with monkeypatch.context() as patch:
        patch.setattr(membrane_prediction, "write_png", lambda levels, path: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            predict_to_png(network, image, path, **OPTIONS)
    tiles = []
    predict_to_png(network, image, path, **OPTIONS, progress=lambda done, total: tiles.append(done))
    assert tiles == []
    np.testing.assert_array_equal(read_gray(path), to_levels(predict_membrane(network, image.read(), tile=64)))


def test_what_was_stopped_with_other_tiles_or_half_made_is_begun_anew(network, tmp_path):
    image, path = toy_image("large", 4, side=200), tmp_path / "large.png"
    with pytest.raises(InputError):
        predict_to_png(network, Windows(image, 150), path, **{**OPTIONS, "tile": 68})
    half_made = (
        tmp_path / "large.png.unfinished" / f"tile64-halo{grid_for(network, (200, 200), tile=64, halo=None).halo}-fp32"
    )
    half_made.mkdir()
    (half_made / "levels.npy").write_bytes(b"\x93NUMPY")
    predict_to_png(network, image, path, **OPTIONS)
    np.testing.assert_array_equal(read_gray(path), to_levels(predict_membrane(network, image.read(), tile=64)))
    assert not list(tmp_path.rglob("*.unfinished"))
