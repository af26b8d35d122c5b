"""Maps in windows are those of the whole image, and those that were finished are not made again."""

import numpy as np
import pytest
from attribution.small_networks import make

from chapters.attribution_fields.kept_maps import WindowMaps, code_digest, load_maps, save_maps
from emseg.attribution.window_integral import IntegralOptions, integral_options, visible_window
from emseg.membrane.networks import NetworkDesign

IMAGE = np.random.default_rng(0).normal(size=(40, 48)).astype(np.float32)
TARGETS = np.array([[20, 21], [1, 46], [39, 0]])


def options(folder=None, **changes):
    return IntegralOptions(**{"n_steps": 3, "reach": 3, "folder": folder, **changes})


def test_maps_are_zero_outside_their_windows_and_the_images_inside():
    network = make("local")
    windows = options().attribute(network, IMAGE, TARGETS)
    whole = options(reach=None).attribute(network, IMAGE, TARGETS)
    assert np.allclose(windows.maps, whole.maps, atol=1e-6)
    assert not windows.maps[0, :17].any()
    assert windows.relative_gap == pytest.approx(whole.relative_gap, rel=1e-3)


def test_a_window_lies_on_the_networks_grid_and_inside_the_image():
    window, corner = visible_window((40, 48), np.array([20, 46]), 5, 4)
    assert (window, corner.tolist()) == ((slice(12, 28), slice(40, 48)), [12, 40])


def test_finished_maps_are_taken_from_their_folder(tmp_path):
    network = make("local")
    first = options(tmp_path).attribute(network, IMAGE, TARGETS)
    network.register_forward_pre_hook(lambda *_: pytest.fail("the network was run again"))
    again = options(tmp_path).attribute(network, IMAGE, TARGETS)
    assert np.array_equal(first.maps, again.maps)
    assert np.array_equal(first.scores, again.scores)
    assert np.array_equal(first.completeness_gap, again.completeness_gap)


@pytest.mark.parametrize(
    "change", [{"n_steps": 4}, {"quadrature": "riemann_middle"}, {"baseline": 0.5}, {"reach": 4}, {"stride": 2}]
)
def test_other_settings_have_another_file(tmp_path, change):
    network = make("local")
    options(tmp_path).attribute(network, IMAGE, TARGETS)
    options(tmp_path, **change).attribute(network, IMAGE, TARGETS)
    assert len(list(tmp_path.iterdir())) == 2


def test_other_weights_images_and_targets_have_another_file(tmp_path):
    for network, image, targets in (
        (make("local"), IMAGE, TARGETS),
        (make("local", seed=1), IMAGE, TARGETS),
        (make("local"), IMAGE + 1, TARGETS),
        (make("local"), IMAGE, TARGETS[1:]),
    ):
        options(tmp_path).attribute(network, image, targets)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_file_that_cannot_be_read_is_made_again(tmp_path):
    network = make("local")
    first = options(tmp_path).attribute(network, IMAGE, TARGETS)
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:100])
    assert load_maps(kept) is None
    again = options(tmp_path).attribute(network, IMAGE, TARGETS)
    assert np.array_equal(first.maps, again.maps)
    assert load_maps(kept) is not None


def test_kept_maps_come_back_bit_by_bit(tmp_path):
    rng = np.random.default_rng(1)
    boxes = np.array([[0, 3, 1, 5], [2, 4, 0, 2]])
    maps = (rng.normal(size=(3, 4)).astype(np.float32), rng.normal(size=(2, 2)).astype(np.float32))
    save_maps(tmp_path / "deep" / "one.npz", WindowMaps(boxes, maps, rng.normal(size=2), rng.normal(size=2)))
    found = load_maps(tmp_path / "deep" / "one.npz")
    assert found is not None
    whole = found.in_image((4, 5))
    assert np.array_equal(whole[0, :3, 1:], maps[0])
    assert np.array_equal(whole[1, 2:4, :2], maps[1])
    assert np.count_nonzero(whole) == 16


def test_the_digest_of_code_is_of_the_modules_that_are_named():
    assert code_digest("attribution/path.py") != code_digest("attribution/p*.py")
    assert code_digest("attribution/path.py") == code_digest("attribution/path.p?")


def test_options_of_a_design_know_how_far_it_sees(tmp_path):
    found = integral_options(
        NetworkDesign(encoder="plain", encoder_depth=2, base_channels=4), 5, "riemann_right", tmp_path
    )
    assert found.reach is not None
    assert found.reach > found.stride == 4
    assert found.folder == tmp_path / "maps"
