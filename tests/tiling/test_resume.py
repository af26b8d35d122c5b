"""A prediction that was stopped goes on where it was, with the same result; with other settings it does not."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from tiling import killed
from tiling.networks import convolutions

from emseg.errors import InputError, UsageError
from emseg.tiling import TileGrid, open_output, predict_tiled

IMAGE = np.random.default_rng(2).integers(0, 256, (100, 50), dtype=np.uint8)
HARD = TileGrid(100, 50, tile=24, halo=2)
SOFT = TileGrid(100, 50, tile=24, halo=2, overlap=13)


class StopError(Exception):
    """The process ends here."""


def stopping_after(n_calls: int, network=killed.network):
    """Return the network, which stops at call `n_calls`."""
    calls = 0

    def stopping(tiles: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls > n_calls:
            raise StopError
        return network(tiles)

    return stopping


def test_killed_at_random_moments_it_loses_at_most_one_row_of_tiles_each_time(tmp_path: Path) -> None:
    n_kills = 6
    done = subprocess.run(
        [sys.executable, killed.__file__, str(tmp_path), str(n_kills), "0"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["killed"] >= 3
    assert report["n_tiles"] <= report["computed"] <= report["n_tiles"] + report["killed"] * report["n_columns"]
    image = np.random.default_rng(0).integers(0, 256, (killed.GRID.height, killed.GRID.width), dtype=np.uint8)
    expected = predict_tiled(killed.network, image, killed.GRID, batch_size=2)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".log", ".npy", ".npy"]


@pytest.mark.parametrize("grid", [HARD, SOFT], ids=["none", "gaussian"])
@pytest.mark.parametrize("store", ["npy", "zarr"])
def test_stopped_at_every_call_the_result_is_the_same_bit_by_bit(grid: TileGrid, store: str, tmp_path: Path) -> None:
    expected = np.zeros((2, 100, 50), np.float16)
    predict_tiled(killed.network, IMAGE, grid, out=expected)
    n_columns = len(grid.columns)
    if store == "zarr":
        zarr.create_array(tmp_path / "out", shape=expected.shape, dtype="f2", chunks=(1, 30, 20))
    seen: list[int] = []
    for _ in range(len(grid.rows)):
        out = zarr.open_array(tmp_path / "out", mode="r+") if store == "zarr" else open_output(tmp_path / "o", grid, 2)
        arguments = {"out": out, "checkpoint": tmp_path / "state.json", "batch_size": n_columns}
        with pytest.raises(StopError):
            predict_tiled(stopping_after(1), IMAGE, grid, **arguments, progress=lambda done, _: seen.append(done))
        if len(seen) == len(grid.rows) - 1:
            break
    predict_tiled(killed.network, IMAGE, grid, **arguments, progress=lambda done, _: seen.append(done))
    np.testing.assert_array_equal(out[:], expected)
    assert seen == [n_columns * (row + 1) for row in range(len(grid.rows))]


def test_what_is_finished_is_not_computed_again(tmp_path: Path) -> None:
    arguments = {"out": open_output(tmp_path / "o.npy", SOFT, 2), "checkpoint": tmp_path / "state.json"}
    predict_tiled(killed.network, IMAGE, SOFT, **arguments)
    assert predict_tiled(stopping_after(0), IMAGE, SOFT, **arguments) is arguments["out"]


def begun(folder: Path, **settings: object) -> dict:
    """Begin a prediction, stop it after two calls, and return its arguments."""
    arguments = {
        "network": convolutions(1, n_classes=2),
        "image": IMAGE,
        "grid": SOFT,
        "out": open_output(folder / "o.npy", SOFT, 2),
        "checkpoint": folder / "state.json",
        "batch_size": 8,
        **settings,
    }

    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise StopError

    with pytest.raises(StopError):
        predict_tiled(**arguments, progress=stop)
    return arguments


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid": TileGrid(100, 50, tile=28, halo=2, overlap=13)}, "tile was 24 and is now 28"),
        ({"grid": TileGrid(100, 50, tile=24, halo=2, overlap=12)}, "overlap was 13 and is now 12"),
        ({"image": IMAGE + np.uint8(1)}, "image pixels was [0-9a-f]{16} and is now [0-9a-f]{16}"),
        ({"image": IMAGE[None]}, r"image shape was \(100, 50\) and is now \(1, 100, 50\)"),
        ({"network": convolutions(1, n_classes=2, seed=1)}, "network was [0-9a-f]{16} and is now"),
        ({"network": killed.network}, "network was [0-9a-f]{16} and is now a function"),
        ({"precision": "bfloat16"}, "precision was float32 and is now bfloat16"),
        ({"scale": 255.0}, "scale was 1.0 and is now 255.0"),
        ({"depends_on": {"weights": "new.pt"}}, r"depends_on\['weights'\] was old.pt and is now new.pt"),
        ({"depends_on": None}, r"depends_on\['weights'\] was old.pt and is now not given"),
    ],
)
def test_other_settings_are_refused_by_name(change: dict, message: str, tmp_path: Path) -> None:
    arguments = begun(tmp_path, depends_on={"weights": "old.pt"})
    with pytest.raises(InputError, match=f"belongs to a prediction with other settings: .*{message}"):
        predict_tiled(**{**arguments, **change})


def test_another_batch_size_may_go_on(tmp_path: Path) -> None:
    arguments = {**begun(tmp_path), "batch_size": 1}
    expected = predict_tiled(arguments["network"], IMAGE, SOFT).astype(np.float16)
    eps = float(np.finfo(np.float16).eps)  # two routes: a rounding in float32 may flip the last bit of float16
    np.testing.assert_allclose(predict_tiled(**arguments), expected, rtol=eps, atol=eps)


def test_an_output_that_was_made_anew_is_found_out(tmp_path: Path) -> None:
    arguments = begun(tmp_path)
    (tmp_path / "o.npy").unlink()
    with pytest.raises(InputError, match=r"are not those that were written. Open the output that was begun, or remove"):
        predict_tiled(**{**arguments, "out": open_output(tmp_path / "o.npy", SOFT, 2)})


@pytest.mark.parametrize("damage", ["no JSON", "no open rows", "another file"])
def test_a_damaged_checkpoint_is_refused(damage: str, tmp_path: Path) -> None:
    arguments = begun(tmp_path)
    if damage == "no open rows":
        for path in tmp_path.glob("state.json.open*"):
            path.unlink()
    else:
        (tmp_path / "state.json").write_text("{" if damage == "no JSON" else '{"finished": 1}')
    with pytest.raises(InputError, match=r"must be a checkpoint of a tiled prediction.*Remove it to begin anew"):
        predict_tiled(**arguments)


def test_a_checkpoint_in_no_folder_is_refused(tmp_path: Path) -> None:
    out = open_output(tmp_path / "o.npy", SOFT, 2)
    with pytest.raises(UsageError, match="`checkpoint` must lie in a folder that exists"):
        predict_tiled(stopping_after(0), IMAGE, SOFT, out=out, checkpoint=tmp_path / "none" / "state.json")
