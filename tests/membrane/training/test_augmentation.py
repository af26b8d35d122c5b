"""Augmentation: torchvision's transforms are the oracle, truth stays with its image, nothing is lost that was kept."""

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from emseg.errors import UsageError
from emseg.membrane.training import NO_AUGMENTATION, Augmentation
from emseg.membrane.training.crop_sampling import BEND_POINTS, CropBatch, augmented


def batch(windows, **given):
    """A batch that is not augmented but for what is given."""
    n = len(windows)
    plain = {
        "turns": torch.zeros(n, dtype=torch.int64),
        "mirrored": torch.zeros(n, dtype=torch.bool),
        "warped": torch.zeros(n, dtype=torch.bool),
        "angle": torch.zeros(n),
        "zoom": torch.ones(n),
        "bend": torch.zeros(n, 2, BEND_POINTS, BEND_POINTS),
        "brightness": torch.zeros(n),
        "contrast": torch.zeros(n),
    }
    return CropBatch(
        windows, **{name: torch.as_tensor(given.get(name, value), dtype=value.dtype) for name, value in plain.items()}
    )


@pytest.fixture
def windows():
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 1, 12, 12, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(80, 80), mode="bicubic").clamp(0, 1)
    grey = (255 * smooth).to(torch.uint8)
    return torch.cat([grey, (smooth > 0.5).to(torch.uint8)], dim=1)


def test_a_warp_that_changes_nothing_is_the_crop(windows):
    exact = augmented(batch(windows), 40)
    warped = augmented(batch(windows, warped=[True]), 40)
    torch.testing.assert_close(warped[0], exact[0], rtol=0, atol=1e-5)
    assert torch.equal(warped[1], exact[1])
    assert torch.equal(exact[1][0, 0], windows[0, 1, 20:60, 20:60].float())


@pytest.mark.parametrize("angle", [-70.0, 12.0, 45.0, 133.0])
@pytest.mark.parametrize("zoom", [0.8, 1.0, 1.3])
def test_turn_and_zoom_are_torchvisions(windows, angle, zoom):
    """Torchvision turns clockwise for positive angles, we the other way round."""
    ours, membrane = augmented(batch(windows, warped=[True], angle=[np.radians(angle)], zoom=torch.tensor([zoom])), 40)
    turn = {"angle": -angle, "translate": [0.0, 0.0], "scale": zoom, "shear": [0.0, 0.0]}
    grey = transforms.affine(windows[:, :1].float(), interpolation=InterpolationMode.BILINEAR, **turn)
    truth = transforms.affine(windows[:, 1:], interpolation=InterpolationMode.NEAREST, **turn)
    theirs = (grey[..., 20:60, 20:60] / 255 - 0.5) / 0.5
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-4)
    assert (membrane != truth[..., 20:60, 20:60]).float().mean() < 0.005  # ties at half pixels


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_warp_by_quarter_turns_is_the_exact_turn(windows, turns, mirrored):
    exact = augmented(batch(windows, turns=[turns], mirrored=[mirrored]), 40)
    warped = augmented(batch(windows, warped=[True], angle=[turns * np.pi / 2], mirrored=[mirrored]), 40)
    torch.testing.assert_close(warped[0], exact[0], rtol=0, atol=2e-3)
    assert (warped[1] != exact[1]).float().mean() < 0.01
    expected = torch.rot90(windows[0, 0, 20:60, 20:60].flip(-1) if mirrored else windows[0, 0, 20:60, 20:60], turns)
    torch.testing.assert_close(exact[0][0, 0], (expected / 255 - 0.5) / 0.5)


def test_bending_moves_image_and_truth_together_and_not_on_average(windows):
    bend = torch.full((1, 2, BEND_POINTS, BEND_POINTS), 0.0)
    bend[:, 0] = 3.0  # rows: what is three pixels below comes here
    bent = augmented(batch(windows, warped=[True], bend=bend), 40)
    torch.testing.assert_close(bent[0][0, 0], (windows[0, 0, 23:63, 20:60] / 255 - 0.5) / 0.5, rtol=0, atol=1e-5)
    assert torch.equal(bent[1][0, 0], windows[0, 1, 23:63, 20:60].float())


def test_each_crop_of_a_batch_has_its_own_changes(windows):
    both = torch.cat([windows, windows.flip(-1)])
    together = augmented(batch(both, warped=[True, False], angle=[0.4, 0.0], contrast=[0.2, -0.1]), 40)
    for place, own in enumerate(({"warped": [True], "angle": [0.4], "contrast": [0.2]}, {"contrast": [-0.1]})):
        alone = augmented(batch(both[place : place + 1], **own), 40)
        torch.testing.assert_close(together[0][place : place + 1], alone[0])
        assert torch.equal(together[1][place : place + 1], alone[1])


def test_brightness_and_contrast_are_torchvisions_about_the_mean(windows):
    middle = windows // 2 + 64  # so that no value is clipped
    grey = middle[:, :1, 20:60, 20:60] / 255
    brighter, _ = augmented(batch(middle, brightness=[0.1]), 40)
    torch.testing.assert_close(brighter, ((grey + 0.1) - 0.5) / 0.5)
    # torchvision's contrast blends with the mean as well
    stronger, _ = augmented(batch(middle, contrast=[0.3]), 40)
    torch.testing.assert_close(stronger, (transforms.adjust_contrast(grey, 1.3) - 0.5) / 0.5)


def test_grey_values_stay_within_what_a_camera_gives(windows):
    image, _ = augmented(batch(windows, brightness=[0.9], contrast=[0.9]), 40)
    assert image.max() == 1
    assert image.min() >= -1


@pytest.mark.parametrize("degrees", [0.0, 20.0, 180.0])
def test_the_window_holds_all_that_a_warp_can_reach(degrees):
    """A corner of the crop, turned and shrunk as far as allowed, stays inside."""
    augmentation = Augmentation(rotation_degrees=degrees, zoom=1.5)
    half = augmentation.window_size(64) / 2
    angles = np.radians(np.linspace(-degrees, degrees, 361))
    corner = 1.5 * 32 * (np.abs(np.cos(angles)) + np.abs(np.sin(angles)))
    assert corner.max() <= half
    assert half - corner.max() < 2
    assert NO_AUGMENTATION.window_size(64) == 64


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"zoom": 0.5}, "`zoom` must be at least 1; got 0.5"),
        ({"warp_probability": 2}, "`warp_probability` must be at most 1"),
        ({"rotation_degrees": float("nan")}, "`rotation_degrees` must be .*; got nan"),
        ({"flips": 1}, "`flips` must be true or false; got 1"),
        ({"contrast": True}, "`contrast` must be a number"),
    ],
)
def test_amounts_out_of_range_are_refused(given, message):
    with pytest.raises(UsageError, match=message):
        Augmentation(**given)
