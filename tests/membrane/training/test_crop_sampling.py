"""Draws: functions of seed and number, fair, inside the images, the same however the work is shared out."""

import numpy as np
import pytest
import torch
from membrane.training.toy_membranes import toy_image, toy_set

from emseg.membrane.dataset import ArrayImage
from emseg.membrane.training import NO_AUGMENTATION, Augmentation, TrainingPlan
from emseg.membrane.training.crop_sampling import StepBatches, crop_draw, read_window
from emseg.training.steps import step_seed

SIZES = [(60, 80), (90, 50), (70, 70)]


STANDARD = Augmentation()


def draws(n, *, seed=3, augmentation=STANDARD, crop_size=32):
    return [crop_draw(seed, number, SIZES, crop_size, augmentation) for number in range(n)]


def test_every_image_is_shown_once_an_epoch_in_an_order_of_its_own():
    epochs = np.array([one.image for one in draws(300)]).reshape(100, 3)
    assert (np.sort(epochs, axis=1) == [0, 1, 2]).all()
    assert len({tuple(row) for row in epochs}) == 6


def test_crops_lie_within_their_images_and_reach_every_place():
    places = [[one.row, one.column] for one in draws(3000) if one.image == 0]
    assert np.min(places, axis=0).tolist() == [0, 0]
    assert np.max(places, axis=0).tolist() == [60 - 32, 80 - 32]


def test_draws_are_independent_of_each_other_and_follow_the_settings():
    many = draws(4000)
    assert np.mean([one.warped for one in many]) == pytest.approx(0.5, abs=0.03)
    assert np.bincount([one.turns for one in many]) / 4000 == pytest.approx(0.25, abs=0.03)
    assert np.mean([one.mirrored for one in many]) == pytest.approx(0.5, abs=0.03)
    for name, low, high in (("angle", -np.pi, np.pi), ("zoom", 0.8, 1.25), ("contrast", -0.25, 0.25)):
        values = np.array([getattr(one, name) for one in many])
        assert low <= values.min() < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < values.max() <= high
        assert abs(np.corrcoef(values[1:], values[:-1])[0, 1]) < 0.06


def test_one_setting_does_not_move_the_draws_of_another():
    plain, bent = draws(20), draws(20, augmentation=Augmentation(bend_px=2.0, contrast=0.0))
    assert [one.row for one in plain] == [one.row for one in bent]
    assert [one.angle for one in plain] == [one.angle for one in bent]
    assert all(one.contrast == 0 for one in bent)
    assert np.std([one.bend for one in bent]) == pytest.approx(2.0, rel=0.1)


def test_other_seeds_draw_otherwise():
    assert [one.row for one in draws(9)] != [one.row for one in draws(9, seed=4)]
    assert len({step_seed(0, step, process) for step in range(100) for process in range(4)}) == 400


def test_a_window_beyond_the_image_is_its_mirror_image():
    """NumPy's padding is the oracle, on an image that is smaller than the window as well."""
    image = toy_image("a", 0, side=20)
    padded = np.pad(image.image, 40, mode="reflect"), np.pad(image.membrane, 40, mode="reflect")
    for row, column, side in ((-3, 5, 12), (14, -6, 15), (2, 2, 10), (-13, -9, 45)):
        window = read_window(image, row, column, side)
        for channel, whole in enumerate(padded):
            np.testing.assert_array_equal(
                window[channel], whole[40 + row : 40 + row + side, 40 + column : 40 + column + side]
            )


def test_an_image_smaller_than_the_crop_is_in_its_middle():
    one = crop_draw(0, 0, [(20, 100)], 32, NO_AUGMENTATION)
    assert one.row == -6
    assert 0 <= one.column <= 68


def batches(**given):
    return StepBatches(toy_set().train, TrainingPlan(seed=5, batch_size=4, crop_size=16), **given)


def test_a_batch_is_a_function_of_the_step():
    first, second = batches(), batches()
    _ = second[0], second[9]
    assert torch.equal(first[7].windows, second[7].windows)
    assert not torch.equal(first[7].windows, first[8].windows)


def test_processes_together_see_the_crops_of_one():
    whole = batches()[3]
    shares = [batches(process=process, n_processes=2)[3] for process in range(2)]
    assert torch.equal(torch.stack([share.windows for share in shares], 1).flatten(0, 1), whole.windows)
    assert torch.equal(torch.stack([share.angle for share in shares], 1).flatten(), whole.angle)


def test_the_truth_of_a_crop_is_its_own():
    """Where grey is the mask itself, the window's channels agree everywhere."""
    mask = toy_image("a", 1).membrane
    image = ArrayImage("a", mask.astype(np.uint8), mask)
    data = StepBatches([image], TrainingPlan(batch_size=8, crop_size=32))
    windows = data[0].windows
    assert torch.equal(windows[:, 0], windows[:, 1])
