"""Detection on whole wafers: each section once, from any file, at any scale, resumed to the same result."""

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image
from wafer.navigation.drawn_wafers import CLASSES, KNOWN_PX, DrawnNetwork, draw, drawn_finder, matched, ribbons

from emseg.errors import InputError, UsageError
from emseg.wafer.navigation import detect
from emseg.wafer.navigation.detect import detect_sections, estimate_section_size, plan_tiles
from emseg.wafer.wafer_source import open_wafer_image

QUADS, SIZE = ribbons(5, 20, KNOWN_PX)


@pytest.fixture(scope="module")
def image():
    return draw(QUADS, SIZE)


@pytest.fixture(scope="module")
def finder():
    return drawn_finder()


@pytest.fixture
def network(monkeypatch):
    stand_in = DrawnNetwork()
    monkeypatch.setattr(detect, "predict_soft", stand_in)
    return stand_in


@pytest.mark.parametrize("batch_size", [1, 3])
def test_every_section_of_touching_ribbons_is_found_once(finder, image, network, batch_size):
    found = detect_sections(finder, image, section_size_px=KNOWN_PX, batch_size=batch_size)
    assert len(found.sections) == len(QUADS)
    assert len(network.tiles) > 6
    overlaps = matched(found.sections, QUADS)
    assert overlaps.min() > 0.9
    labels = {one.label for one in found.sections}
    assert labels == set(CLASSES)


@pytest.mark.parametrize("factor", [0.6, 2.5])
def test_an_image_of_another_scale_is_scaled_to_what_the_network_knows(finder, network, factor):
    quads, size = ribbons(3, 12, KNOWN_PX * factor)
    found = detect_sections(finder, draw(quads, size), section_size_px=KNOWN_PX * factor)
    assert len(found.sections) == len(quads)
    assert matched(found.sections, quads).min() > 0.85
    assert all(max(tile.shape) == 10 * KNOWN_PX for tile in network.tiles)


def test_sections_at_the_images_own_border_are_kept(finder, network):
    quads, size = ribbons(2, 6, KNOWN_PX)
    low = np.min([corners.min(0) for corners in quads], axis=0) + 8
    cropped = draw(quads, size)[int(low[0]) :, int(low[1]) :]
    found = detect_sections(finder, cropped, section_size_px=KNOWN_PX)
    assert len(found.sections) == len(quads)


def write(path, image):
    kind = path.name.split(".")[0]
    if kind == "mapped":
        tifffile.imwrite(path, image)
    elif kind == "tiled":
        tifffile.imwrite(path, image, tile=(128, 128), compression="zlib", bigtiff=True)
    elif kind == "white_is_zero":
        tifffile.imwrite(path, 255 - image, photometric="miniswhite", compression="zlib")
    elif kind == "colour":
        tifffile.imwrite(path, np.stack([image] * 3, 2), tile=(128, 128), photometric="rgb", compression="zlib")
    elif kind == "pyramid":
        with tifffile.TiffWriter(path, bigtiff=True) as file:
            file.write(image, tile=(128, 128), compression="zlib", subifds=1)
            file.write(cv2.resize(image, None, fx=0.5, fy=0.5), tile=(128, 128), compression="zlib", subfiletype=1)
    else:
        Image.fromarray(image).save(path)
    return path


@pytest.mark.parametrize(
    "name", ["mapped.tif", "tiled.tif", "white_is_zero.tif", "colour.tif", "pyramid.tif", "plain.png"]
)
def test_every_file_gives_what_the_array_gives(tmp_path, finder, image, network, name):
    expected = detect_sections(finder, image, section_size_px=KNOWN_PX)
    found = detect_sections(finder, write(tmp_path / name, image), section_size_px=KNOWN_PX)
    assert [one.outline.tolist() for one in found.sections] == [one.outline.tolist() for one in expected.sections]
    assert any("colour" in note for note in found.notes) == (name == "colour.tif")


def test_a_smaller_level_of_a_pyramid_is_read_where_it_suffices(tmp_path, finder, network):
    quads, size = ribbons(3, 12, 2.2 * KNOWN_PX)
    wafer = open_wafer_image(write(tmp_path / "pyramid.tif", draw(quads, size)))
    grid, level, scale = plan_tiles(wafer, KNOWN_PX, 2.2 * KNOWN_PX)
    assert (level, scale[0]) == (1, pytest.approx(2, rel=0.01))
    assert (grid.height, grid.width) == wafer.level_shape(1)
    wafer.levels[0] = None  # whoever reads it fails
    found = detect_sections(finder, wafer, section_size_px=2.2 * KNOWN_PX)
    assert matched(found.sections, quads).min() > 0.85
    assert plan_tiles(wafer_with(wafer), KNOWN_PX, 1.5 * KNOWN_PX)[1] == 0


def wafer_with(wafer):
    wafer.levels[0] = np.zeros(wafer.shape, np.uint8)
    return wafer


@pytest.mark.parametrize("n_tiles", [1, 5, 8])
def test_an_interrupted_search_resumes_to_the_same_result(tmp_path, finder, image, network, n_tiles):
    whole = detect_sections(finder, image, section_size_px=KNOWN_PX)
    n_all, network.tiles[:], network.stop_after = len(network.tiles), [], n_tiles
    with pytest.raises(KeyboardInterrupt):
        detect_sections(finder, image, section_size_px=KNOWN_PX, folder=tmp_path)
    network.stop_after, done = None, len(list((tmp_path / "tiles").glob("row*.json")))
    resumed = detect_sections(finder, image, section_size_px=KNOWN_PX, folder=tmp_path)
    assert len(network.tiles) < n_tiles + n_all if done else len(network.tiles) == n_tiles + n_all
    assert [one.outline.tolist() for one in resumed.sections] == [one.outline.tolist() for one in whole.sections]
    assert [one.score for one in resumed.sections] == [one.score for one in whole.sections]


def test_a_finished_search_needs_no_network(tmp_path, finder, image, network):
    first = detect_sections(finder, image, folder=tmp_path)
    network.stop_after = 0
    again = detect_sections(finder, image, folder=tmp_path)
    assert [one.outline.tolist() for one in again.sections] == [one.outline.tolist() for one in first.sections]
    assert again.notes == first.notes
    assert again.network_seconds == 0


def test_a_folder_of_another_search_is_refused(tmp_path, finder, image, network):
    detect_sections(finder, image, section_size_px=KNOWN_PX, folder=tmp_path)
    with pytest.raises(InputError, match=r"section_size_px was 32\.0 and is now 40\.0"):
        detect_sections(finder, image, section_size_px=40.0, folder=tmp_path)
    with pytest.raises(InputError, match="image was"):
        detect_sections(finder, image[::-1], section_size_px=KNOWN_PX, folder=tmp_path)
    with pytest.raises(InputError, match="finder was"):
        detect_sections(drawn_finder(section_size_um=5.0), image, section_size_px=KNOWN_PX, folder=tmp_path)


@pytest.mark.parametrize("factor", [0.5, 1.0, 4.0])
def test_the_section_size_is_estimated_and_said(finder, network, factor):
    """The stand-in recognizes, like a network, sections within a factor of two of what it knows."""
    network.sizes = (KNOWN_PX / 1.8, KNOWN_PX * 1.8)
    side = KNOWN_PX * factor
    quads, size = ribbons(4, 14, side)
    wafer = open_wafer_image(draw(quads, size))
    assert estimate_section_size(finder, wafer) == pytest.approx(side, rel=0.1)
    found = detect_sections(finder, wafer)
    assert f"Sections are about {found.section_size_px:.0f} px wide, as estimated in a first pass." in found.notes
    assert len(found.sections) == len(quads)


def test_the_pixel_size_gives_the_section_size_where_the_finder_knows_micrometres(image, network):
    finder = drawn_finder(section_size_um=640.0)
    assert detect_sections(finder, image, pixel_size_um=20.0).section_size_px == pytest.approx(32)


def test_a_wrong_section_size_is_said_with_the_measured_one(finder, image, network):
    found = detect_sections(finder, image, section_size_px=2 * KNOWN_PX)
    (note,) = (note for note in found.notes if "measures" in note)
    assert "search again with --section-size-px 3" in note


@pytest.mark.parametrize("size", [1.0, 1e6])
def test_an_impossible_section_size_is_refused(finder, image, network, size):
    with pytest.raises(UsageError, match="sections must be at least 4 px wide and fit into the image"):
        detect_sections(finder, image, section_size_px=size)


def test_a_wafer_without_sections_is_an_empty_result(finder, network):
    found = detect_sections(finder, draw([], SIZE))
    assert found.sections == ()
    assert any("No section was recognized" in note for note in found.notes)


def test_an_image_of_one_grey_is_refused(finder, network):
    with pytest.raises(InputError, match="has one grey value"):
        detect_sections(finder, np.zeros((500, 600), np.uint8), section_size_px=KNOWN_PX)
    assert network.tiles == []


def test_black_borders_of_a_mosaic_cost_no_network(finder, image, network):
    bordered = np.pad(image, ((0, 900), (0, 0)))
    found = detect_sections(finder, bordered, section_size_px=KNOWN_PX)
    assert len(found.sections) == len(QUADS)
    grid, _, _ = plan_tiles(open_wafer_image(bordered), KNOWN_PX, KNOWN_PX)
    assert len(network.tiles) < grid.n_tiles
    assert all(tile.max() > tile.min() for tile in network.tiles)


def test_reaching_the_networks_limit_of_detections_is_said(finder, image, network):
    network.capped = True
    found = detect_sections(finder, image, section_size_px=KNOWN_PX)
    assert any("the network's limit of detections was reached" in note for note in found.notes)


def test_progress_counts_all_tiles(finder, image, network):
    calls = []
    detect_sections(finder, image, section_size_px=KNOWN_PX, progress=lambda *call: calls.append(call))
    assert calls[-1][0] == calls[-1][1] == len(network.tiles)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
