"""Draws as functions of seed and step: fair, independent, and without effect on the generators outside."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emseg.checks import validated
from emseg.errors import UsageError
from emseg.training.steps import Plan, epoch_order, image_of_draw, seeded, step_seed


@validated
class ToyPlan(Plan):
    n_steps: int = 3


@given(seed=st.integers(0, 2**31), epoch=st.integers(0, 100), n_images=st.integers(1, 9))
def test_an_epoch_shows_every_image_once(seed, epoch, n_images):
    shown = [image_of_draw(seed, epoch * n_images + place, n_images) for place in range(n_images)]
    assert sorted(shown) == list(range(n_images))


def test_epochs_seeds_steps_and_processes_have_draws_of_their_own():
    assert len({epoch_order(seed, epoch, 50) for seed in range(3) for epoch in range(3)}) == 9
    assert len({step_seed(0, step, process) for step in range(100) for process in range(4)}) == 400


def test_seeding_is_repeatable_and_restores_the_global_generators_even_after_an_error():
    states = np.random.get_state()[1].copy(), random.getstate(), torch.get_rng_state()  # noqa: NPY002
    drawn = []
    for _ in range(2):
        with seeded(5):
            drawn.append((np.random.random(), random.random(), float(torch.rand(()))))  # noqa: NPY002
    assert drawn[0] == drawn[1]
    with pytest.raises(ZeroDivisionError), seeded(5):
        1 / 0  # noqa: B018
    assert np.array_equal(states[0], np.random.get_state()[1])  # noqa: NPY002
    assert states[1] == random.getstate()
    assert torch.equal(states[2], torch.get_rng_state())


def test_a_plans_settings_leave_out_what_cannot_change_a_weight():
    plan = ToyPlan(seed=4)
    assert plan.changed(n_workers=3).settings() == plan.settings() == {"seed": 4, "device": "auto", "n_steps": 3}
    assert plan.changed(seed=5).settings() != plan.settings()
    with pytest.raises(UsageError, match=r"a toy plan has no 'n_step'\. Did you mean 'n_steps'"):
        plan.changed(n_step=3)
    with pytest.raises(UsageError, match="`seed` must be at least 0; got -1"):
        ToyPlan(seed=-1)
