"""Where the halo covers the receptive field, tiles equal the network on the whole image, to rounding."""

import numpy as np
import pytest
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from tiling.networks import Pyramid, convolutions

from emseg.tiling import TileGrid, predict_tiled


def whole(network: torch.nn.Module, image: np.ndarray, multiple: int = 1) -> np.ndarray:
    """Return what the network says of the whole image, extended by reflection to multiples and cut back."""
    image = image[None] if image.ndim == 2 else image
    _, height, width = image.shape
    more = [(0, 0), (0, -height % multiple), (0, -width % multiple)]
    with torch.inference_mode():
        answer = network(torch.from_numpy(np.pad(image, more, mode="reflect").astype(np.float32))[None])
    return answer[0, :, :height, :width].numpy()


def assert_equal_to_rounding(found: np.ndarray, expected: np.ndarray) -> None:
    """Two routes to the same numbers: equal up to some roundings of the type, relative to the largest value."""
    scale = float(np.abs(expected).max(initial=1.0))
    np.testing.assert_allclose(found, expected, rtol=0, atol=8 * np.finfo(expected.dtype).eps * scale)


def picture(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    n_layers=st.integers(1, 4),
    more_halo=st.integers(0, 3),
    room=st.integers(1, 30),
    batch_size=st.integers(1, 7),
    n_channels=st.integers(1, 2),
)
def test_convolutions_with_zero_padding(size, n_layers, more_halo, room, batch_size, n_channels) -> None:
    network, image = convolutions(n_layers, n_channels, n_classes=2), picture(n_channels, *size)
    halo = n_layers + more_halo
    grid = TileGrid(*size, tile=2 * halo + room, halo=halo)
    found = predict_tiled(network, image, grid, batch_size=batch_size)
    assert_equal_to_rounding(found, whole(network, image))


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(2, 150), st.integers(2, 150)),
    halo=st.integers(13, 20),
    room=st.integers(1, 6),
    batch_size=st.integers(1, 5),
)
def test_a_network_that_halves_its_maps(size, halo, room, batch_size) -> None:
    network, image = Pyramid(), picture(*size)
    grid = TileGrid(*size, tile=4 * (-(-2 * halo // 4) + room), halo=halo, multiple=4)
    assert_equal_to_rounding(
        predict_tiled(network, image, grid, batch_size=batch_size), whole(network, image, multiple=4)
    )


def test_a_network_that_halves_its_maps_differs_where_tiles_do_not_begin_at_multiples() -> None:
    network, image = Pyramid(), picture(100, 100)
    grid = TileGrid(100, 100, tile=44, halo=15)
    assert any(column.origin % 4 for column in grid.columns)
    assert (predict_tiled(network, image, grid) != whole(network, image)).any()


def test_a_halo_below_the_receptive_field_differs_from_the_whole() -> None:
    network, image = convolutions(3), picture(62, 62)
    assert (predict_tiled(network, image, TileGrid(62, 62, tile=32, halo=1)) != whole(network, image)).any()


@pytest.mark.parametrize("overlap", [1, 9, 17])
def test_blending_equals_the_whole_to_rounding(overlap: int) -> None:
    network, image = convolutions(3), picture(70, 83)
    grid = TileGrid(70, 83, tile=32, halo=3, overlap=overlap)
    assert_equal_to_rounding(predict_tiled(network, image, grid), whole(network, image))


@pytest.mark.parametrize("kind", ["memory map", "zarr", "big endian", "uint16", "float64", "every other pixel"])
def test_every_kind_of_image_and_output_gives_the_same(kind: str, tmp_path) -> None:
    network, image = convolutions(2), picture(75, 61)
    grid, expected = TileGrid(75, 61, tile=24, halo=2), whole(convolutions(2), image)
    given_image, out = image, np.zeros((1, 75, 61), np.float32)
    if kind == "memory map":
        np.save(tmp_path / "image.npy", image)
        given_image = np.load(tmp_path / "image.npy", mmap_mode="r")
        out = np.lib.format.open_memmap(tmp_path / "out.npy", mode="w+", dtype=np.float32, shape=(75, 61))
    elif kind == "zarr":
        given_image = zarr.create_array(tmp_path / "image.zarr", shape=image.shape, dtype="u1", chunks=(16, 16))
        given_image[:] = image
        out = zarr.create_array(tmp_path / "out.zarr", shape=(1, 75, 61), dtype="f4", chunks=(1, 10, 20))
    elif kind == "every other pixel":
        given_image = np.repeat(np.repeat(image, 2, 0), 2, 1)[::2, ::2]
    else:
        given_image = image.astype({"big endian": ">u2", "uint16": "u2", "float64": "f8"}[kind])
    assert predict_tiled(network, given_image, grid, out=out) is out
    assert_equal_to_rounding(np.asarray(out[:]).reshape(1, 75, 61), expected)


def test_a_function_is_called_as_a_module_is() -> None:
    network, image = convolutions(2), picture(40, 40)
    grid = TileGrid(40, 40, tile=24, halo=2)
    found = predict_tiled(lambda tiles: network(tiles).numpy(), image, grid, device="cpu")
    assert_equal_to_rounding(found, whole(network, image))
