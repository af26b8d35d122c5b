"""What cannot be done is refused in one sentence, before long work or at the first tile that does not fit."""

import resource

import numpy as np
import pytest
import torch
import zarr
from torch import nn

from emseg.errors import InputError, UsageError
from emseg.tiling import TileGrid, open_output, predict_tiled

IMAGE = np.zeros((60, 80), np.uint8)
GRID = TileGrid(60, 80, tile=24, halo=2)
SOFT = TileGrid(60, 80, tile=24, halo=2, overlap=4)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"tile": 64, "halo": 32}, r"`tile` must exceed twice `halo`; got tile=64, halo=32. Use a larger tile or"),
        ({"tile": 100, "multiple": 32}, "`tile` must be divisible by `multiple`; got tile=100, multiple=32. Use 96."),
        ({"tile": 0}, "`tile` must be at least 1; got 0."),
        ({"tile": 64.0}, "`tile` must be a whole number; got 64.0."),
        ({"halo": -1}, "`halo` must be at least 0; got -1."),
        ({"multiple": True}, "`multiple` must be a whole number; got True."),
        ({"height": 0}, "`height` must be at least 1; got 0."),
        ({"halo": 8, "overlap": 49}, "or tiles would not advance; got tile=64, halo=8, overlap=49"),
        ({"halo": 20, "multiple": 32}, "by at least `multiple`, or tiles would not advance"),
    ],
)
def test_grids_that_cannot_be(changed: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TileGrid(**{"height": 200, "width": 200, "tile": 64, "halo": 0, **changed})


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((60, 80, 3), np.uint8), r"got shape \(60, 80, 3\). Move its channels to the front"),
        (np.zeros((61, 80), np.uint8), r"as large as the grid, 60 x 80 pixels; got shape \(61, 80\)"),
        (np.zeros(60, np.uint8), r"must be \(row, column\) or \(channel, row, column\); got shape \(60,\)"),
        (np.zeros((1, 1, 60, 80), np.uint8), "Hand over one at a time"),
        (np.zeros((60, 80), complex), "integers or floating-point numbers; got complex128"),
        (np.zeros((60, 80), object), "integers or floating-point numbers; got object"),
    ],
)
def test_images_that_do_not_fit(image: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        predict_tiled(_unreached, image, GRID)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (np.zeros((1, 60, 81), np.float32), r"of 60 x 80 pixels; got shape \(1, 60, 81\)"),
        (np.zeros((1, 60, 80)), "`out.dtype` must be one of 'float16', 'float32', 'uint8'; got 'float64'"),
        (np.broadcast_to(np.float32(0), (60, 80)), "`out` must be writable; this one was opened for reading"),
        (IMAGE, "`out` must not be the image itself"),
        (IMAGE[None], "`out` must not be the image itself"),
    ],
)
def test_outputs_that_do_not_fit(out: np.ndarray, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        predict_tiled(_unreached, IMAGE, GRID, out=out)


def test_outputs_on_disk_that_were_opened_for_reading(tmp_path) -> None:
    np.save(tmp_path / "out.npy", np.zeros((60, 80), np.float16))
    zarr.create_array(tmp_path / "out.zarr", shape=(60, 80), dtype="f2")
    for out in [np.load(tmp_path / "out.npy", mmap_mode="r"), zarr.open_array(tmp_path / "out.zarr", mode="r")]:
        with pytest.raises(UsageError, match="opened for reading"):
            predict_tiled(_unreached, IMAGE, GRID, out=out)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "`batch_size` must be a whole number of at least 1; got 0"),
        ({"batch_size": 2.5}, "got 2.5"),
        ({"precision": "bf16"}, "`precision` must be one of 'float32', 'bfloat16', 'float16'; got 'bf16'"),
        ({"scale": 0}, "`scale` finite and positive; got mean=0.0, scale=0"),
        ({"mean": float("nan")}, "`mean` must be finite"),
        ({"depends_on": {"weights": "a"}}, "Name a `checkpoint` file"),
        ({"checkpoint": "state.json"}, "needs an `out` on disk.*got no `out`"),
        ({"checkpoint": "state.json", "out": np.zeros((60, 80), np.float32)}, "got an array in memory"),
    ],
)
def test_requests_that_cannot_be(settings: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        predict_tiled(_unreached, IMAGE, GRID, **settings)


def test_a_device_on_which_the_network_is_not() -> None:
    match = r"weights are on cpu, but `device` is cuda:7. Move them with network.to\('cuda:7'\)"
    with pytest.raises(UsageError, match=match):
        predict_tiled(nn.Conv2d(1, 1, 1), IMAGE, GRID, device="cuda:7")
    with pytest.raises(UsageError, match="must have weights to compute with; `meta` has shapes alone"):
        predict_tiled(nn.Conv2d(1, 1, 1), IMAGE, GRID, device="meta")


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (lambda x: x[..., :-1], r"shape \[\d, class, 24, 24\] for tiles of shape \[\d, 1, 24, 24\].*\[\d, 1, 24, 23\]"),
        (lambda x: x[:, 0], r"an added axis for its one class"),
        (lambda x: x[:1], r"\[1, 1, 24, 24\]"),
        (lambda x: x.to(torch.int64), "got torch.int64"),
        (lambda x: {"map": x}, "must return one tensor .* got dict"),
    ],
)
@pytest.mark.parametrize("grid", [GRID, SOFT])
def test_networks_whose_answers_do_not_fit(network, message: str, grid: TileGrid) -> None:
    with pytest.raises(InputError, match=message):
        predict_tiled(network, IMAGE, grid)


def test_an_output_without_a_plane_for_each_class() -> None:
    out = np.zeros((1, 60, 80), np.float32)
    with pytest.raises(UsageError, match=r"each class of the network, that is 2; got shape \(1, 60, 80\)"):
        predict_tiled(lambda x: torch.cat([x, x], 1), IMAGE, GRID, out=out)


@pytest.mark.parametrize("grid", [GRID, SOFT])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_names_its_tile(grid: TileGrid, value: float) -> None:
    image = IMAGE.astype(np.float32)
    image[-1, -1] = value  # in the last tile alone
    row, column = len(grid.rows) - 1, len(grid.columns) - 1
    where = f"begins at row {grid.rows[row].origin}, column {grid.columns[column].origin} of the image"
    message = rf"finite; 1 of \d+ values are NaN or infinite in tile \({row}, {column}\), which {where}"
    with pytest.raises(InputError, match=message):
        predict_tiled(lambda x: x, image, grid, batch_size=8)


def test_nan_in_what_is_thrown_away_does_no_harm() -> None:
    def network(tiles: torch.Tensor) -> torch.Tensor:
        answer = tiles.clone()
        inner = tiles.amax((1, 2, 3)) == 0  # not the tiles at the image's left border
        answer[inner, :, 1:-1, 1] = torch.nan  # within the halo
        return answer

    image = np.zeros((60, 80), np.uint8)
    image[:, 0] = 1
    for grid in (GRID, SOFT):
        np.testing.assert_allclose(predict_tiled(network, image, grid)[0], image, atol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "value", "message"),
    [
        (
            "uint8",
            1.5,
            r"uint8 stores probabilities from 0 to 1; tile \(0, 0\).* from 1.5 to 1.5. End the network with",
        ),
        ("uint8", -0.5, "values from -0.5 to -0.5"),
        ("float16", 1e5, "float16 stores values up to 65504; .* Use an output of float32"),
    ],
)
@pytest.mark.parametrize("grid", [GRID, SOFT])
def test_values_that_the_output_cannot_hold(dtype: str, value: float, message: str, grid: TileGrid) -> None:
    with pytest.raises(InputError, match=message):
        predict_tiled(lambda x: torch.full_like(x, value), IMAGE, grid, out=np.zeros((60, 80), dtype))


def test_an_output_file_is_opened_again_and_never_overwritten(tmp_path) -> None:
    out = open_output(tmp_path / "new" / "out.npy", GRID, 1)
    out[:] = 7
    out.flush()
    assert (open_output(tmp_path / "new" / "out.npy", GRID, 1) == 7).all()
    with pytest.raises(InputError, match=r"contains float16 of shape \(1, 60, 80\); this mosaic is uint8"):
        open_output(tmp_path / "new" / "out.npy", GRID, 1, "uint8")
    (tmp_path / "text.npy").write_text("no array")
    with pytest.raises(InputError, match=r"must be a writable \.npy file"):
        open_output(tmp_path / "text.npy", GRID, 1)


def _unreached(tiles: torch.Tensor) -> torch.Tensor:
    raise AssertionError("the network was called")


def test_an_output_that_the_disk_cannot_hold_is_told_before_anything_is_predicted(tmp_path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, before[1]))
    try:
        with pytest.raises(InputError, match=r"out\.npy could not be written: .*\. Free some space or choose another"):
            open_output(tmp_path / "out.npy", GRID, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())
