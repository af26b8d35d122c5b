"""Draws: every image once an epoch, the same chance for the same draw, and processes that share the work."""

import random
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emseg.training.steps import epoch_order, seeded
from emseg.wafer.detector.mmdet_data import DrawDataset, DrawSampler, GreyJitter, QuarterTurns

N_IMAGES = 7


class Images:
    """A data set whose images are their own number and a number from NumPy's global generator."""

    def __len__(self):
        return N_IMAGES

    def __getitem__(self, index):
        return index, np.random.random()  # noqa: NPY002


def sampler(*, rank=0, world_size=1, by_epoch=False):
    one = DrawSampler(Images(), by_epoch=by_epoch)
    one.rank, one.world_size = rank, world_size
    return one


@given(seed=st.integers(0, 2**31), epoch=st.integers(0, 100))
def test_an_epoch_shows_every_image_once(seed, epoch):
    data = DrawDataset(Images(), seed)
    assert sorted(data.image_of(epoch * N_IMAGES + place) for place in range(N_IMAGES)) == list(range(N_IMAGES))


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = {tuple(epoch_order(seed, epoch, 50)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_a_draw_is_the_same_in_whatever_order_draws_are_made():
    first, second = DrawDataset(Images(), 3), DrawDataset(Images(), 3)
    forward = [first[draw] for draw in range(20)]
    assert [second[draw] for draw in reversed(range(20))] == forward[::-1]
    assert len({chance for _, chance in forward}) == 20


def test_drawing_leaves_the_global_generators_as_they_were():
    states = np.random.get_state()[1].copy(), random.getstate(), torch.get_rng_state()  # noqa: NPY002
    DrawDataset(Images(), 3)[11]
    with pytest.raises(ValueError, match="high <= 0"), seeded(5):
        np.random.randint(0)  # noqa: NPY002
    assert np.array_equal(states[0], np.random.get_state()[1])  # noqa: NPY002
    assert states[1] == random.getstate()
    assert torch.equal(states[2], torch.get_rng_state())


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_processes_together_take_the_draws_of_one_process(world_size):
    each = [list(islice(sampler(rank=rank, world_size=world_size), 6)) for rank in range(world_size)]
    assert sorted(draw for draws in each for draw in draws) == list(range(6 * world_size))


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_a_sampler_that_skips_goes_on_where_another_would_be(world_size):
    for rank in range(world_size):
        whole = list(islice(sampler(rank=rank, world_size=world_size), 12))
        resumed = sampler(rank=rank, world_size=world_size)
        resumed.skip(5)
        assert list(islice(resumed, 7)) == whole[5:]


def test_epochs_follow_each_other_and_one_can_begin_at_any():
    one = sampler(by_epoch=True)
    assert [list(one), list(one)] == [list(range(7)), list(range(7, 14))]
    resumed = sampler(by_epoch=True)
    resumed.skip_epochs(1)
    assert list(resumed) == list(range(7, 14))


def test_processes_take_equally_many_steps_of_an_epoch_and_stay_within_it():
    each = []
    for rank in range(3):
        one = sampler(rank=rank, world_size=3, by_epoch=True)
        one.skip_epochs(2)
        each.append(list(one))
    assert {len(draws) for draws in each} == {3}
    assert {draw for draws in each for draw in draws} == set(range(14, 21))


def turned_example(n_turns):
    """A white rectangle in a black image, with its mask and its box, after `n_turns` quarter turns."""
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks

    image = np.zeros((20, 30), dtype=np.uint8)
    image[3:8, 10:24] = 255
    mask = (image > 0).astype(np.uint8)
    results = {
        "img": image,
        "gt_masks": BitmapMasks(mask[None], 20, 30),
        "gt_bboxes": HorizontalBoxes(np.array([[10, 3, 24, 8]], dtype=np.float32)),
    }
    for seed in range(100):
        with seeded(seed):
            if np.random.randint(4) == n_turns:  # noqa: NPY002
                break
    with seeded(seed):
        return QuarterTurns().transform(results)


@pytest.mark.parametrize("n_turns", [0, 1, 2, 3])
def test_boxes_and_masks_turn_with_the_image(n_turns):
    results = turned_example(n_turns)
    white = results["img"] > 0
    rows, columns = np.nonzero(white)
    assert white.shape == ((20, 30) if n_turns % 2 == 0 else (30, 20))
    assert np.array_equal(results["gt_masks"].masks[0], white)
    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_array_equal(results["gt_bboxes"].numpy(), [box])


def test_grey_jitter_changes_mean_and_contrast_within_its_amount():
    image = np.random.default_rng(0).integers(100, 150, (64, 64)).astype(np.uint8)
    for seed in range(20):
        with seeded(seed):
            changed = GreyJitter(0.1).transform({"img": image.copy()})["img"]
        assert abs(float(changed.mean()) - image.mean()) <= 25.5 + 0.5
        assert 0.89 < changed.std() / image.std() < 1.11
        assert changed.dtype == np.uint8
