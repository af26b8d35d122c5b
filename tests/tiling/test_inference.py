"""Blending, scales, types, batches, modes and progress of `predict_tiled`."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.tiling import blended
from tiling.networks import convolutions
from torch import nn

from emseg.tiling import TileGrid, predict_tiled
from emseg.tiling.inference import even_batches

IMAGE = np.random.default_rng(5).integers(0, 256, (92, 60), dtype=np.uint8)


def of_its_own_mean(tiles: torch.Tensor) -> torch.Tensor:
    """A network whose neighbouring tiles disagree: two classes that depend on the whole tile."""
    level = tiles.mean(dim=(1, 2, 3), keepdim=True)
    return torch.cat([tiles + level, level.expand_as(tiles)], dim=1)


@pytest.mark.parametrize(("step", "batch_size"), [(4, 5), (8, 1), (16, 64)])
def test_blending_equals_the_textbook_however_many_tiles_lie_on_a_pixel(step: int, batch_size: int) -> None:
    def weight(origin: int, length: int) -> np.ndarray:
        return np.exp(-0.5 * ((np.arange(28) + 0.5 - 14) / 3.5) ** 2)

    grid = TileGrid(92, 60, tile=28, halo=0, overlap=28 - step)
    found = predict_tiled(of_its_own_mean, IMAGE, grid, batch_size=batch_size)
    np.testing.assert_allclose(found, blended(of_its_own_mean, IMAGE, 28, step, weight), rtol=1e-5)


def test_blending_leaves_no_seam_where_tiles_disagree() -> None:
    """Neighbours that differ by 1 leave a step of 1 without blending, and none above 0.2 over 24 pixels of overlap."""
    image = np.zeros((64, 120), np.float32)
    image[:, 60:] = 1

    def side(tiles: torch.Tensor) -> torch.Tensor:
        return tiles.mean(dim=(2, 3), keepdim=True).round().expand_as(tiles)

    hard = predict_tiled(side, image, TileGrid(64, 120, tile=64, halo=0))
    soft = predict_tiled(side, image, TileGrid(64, 120, tile=72, halo=0, overlap=24))
    assert np.abs(np.diff(hard, axis=2)).max() == 1
    assert 0 < np.abs(np.diff(soft, axis=2)).max() < 0.2


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    halo=st.integers(0, 5),
    overlap=st.integers(0, 12),
    room=st.integers(1, 12),
)
def test_a_constant_network_gives_a_constant_image(size, halo, overlap, room) -> None:
    grid = TileGrid(*size, tile=2 * halo + overlap + room, halo=halo, overlap=overlap)
    found = predict_tiled(lambda tiles: torch.full_like(tiles, 0.7), np.zeros(size, np.uint8), grid)
    np.testing.assert_allclose(found, 0.7, rtol=1e-6)


@pytest.mark.parametrize("overlap", [0, 8])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float16", 5e-4), ("uint8", 0.5001 / 255)])
def test_probabilities_are_stored_within_the_rounding_of_the_type(overlap: int, dtype: str, tolerance: float) -> None:
    grid = TileGrid(92, 60, tile=32, halo=2, overlap=overlap)
    out = np.zeros((1, 92, 60), dtype)
    predict_tiled(torch.sigmoid, IMAGE, grid, mean=128, scale=40, out=out)
    expected = 1 / (1 + np.exp(-(IMAGE[None].astype(float) - 128) / 40))
    values = out / 255 if dtype == "uint8" else out.astype(float)
    np.testing.assert_allclose(values, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_near_single_and_not_equal(precision: str) -> None:
    network = nn.Conv2d(1, 1, 3, padding=1)
    grid = TileGrid(92, 60, tile=32, halo=1)
    single = predict_tiled(network, IMAGE, grid, scale=255)
    half = predict_tiled(network, IMAGE, grid, scale=255, precision=precision)
    assert 0 < np.abs(half - single).max() < 0.02


def test_batch_normalisation_sees_no_batch_and_every_part_keeps_its_mode() -> None:
    network = nn.Sequential(convolutions(1), nn.BatchNorm2d(1), nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    network.train()
    network[3].eval()
    grid = TileGrid(92, 60, tile=32, halo=1)
    found = [predict_tiled(network, IMAGE, grid, batch_size=n) for n in (1, 5)]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)
    assert [part.training for part in network] == [True, True, True, False]
    assert int(network[1].num_batches_tracked) == 0


def test_no_gradients_are_kept() -> None:
    modes = []

    def network(tiles: torch.Tensor) -> torch.Tensor:
        modes.append(torch.is_inference_mode_enabled())
        return tiles

    predict_tiled(network, IMAGE, TileGrid(92, 60, tile=64, halo=2))
    assert modes
    assert all(modes)


def test_tiles_are_counted_as_they_are_done() -> None:
    seen: list[tuple[int, int]] = []
    sizes: list[int] = []

    def network(tiles: torch.Tensor) -> torch.Tensor:
        sizes.append(len(tiles))
        return tiles

    grid = TileGrid(92, 60, tile=20, halo=2)
    predict_tiled(network, IMAGE, grid, batch_size=3, progress=lambda done, total: seen.append((done, total)))
    assert sizes == [2, 2] * len(grid.rows)
    assert seen == [(done, grid.n_tiles) for done in np.cumsum(sizes)]


@given(st.integers(1, 100), st.integers(1, 20))
def test_batches_are_as_few_and_as_even_as_can_be(n_tiles: int, batch_size: int) -> None:
    batches = even_batches(n_tiles, batch_size)
    sizes = [stop - first for first, stop in batches]
    assert sum(sizes) == n_tiles
    assert len(sizes) == -(-n_tiles // batch_size)
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    assert [first for first, _ in batches] == [0, *(stop for _, stop in batches[:-1])]


def test_each_row_of_the_image_is_read_no_oftener_than_tiles_overlap() -> None:
    class Counted:
        shape, dtype = IMAGE.shape, IMAGE.dtype
        rows_read = np.zeros(92, int)

        def __getitem__(self, index: tuple[slice, slice]) -> np.ndarray:
            self.rows_read[index[0]] += 1
            return IMAGE[index]

    image = Counted()
    predict_tiled(lambda tiles: tiles, image, TileGrid(92, 60, tile=24, halo=4))
    assert image.rows_read.min() == 1
    assert image.rows_read.max() == 2
