"""The learning rate: torch's one-cycle schedule as a function of the step, and a constant with a warm-up."""

import pytest
import torch

from emseg.membrane.training.learning_rate import learning_rate_at


@pytest.mark.parametrize(("n_steps", "warm_up_steps"), [(40, 10), (100, 30), (20, 4)])
def test_onecycle_is_torchs_own_without_its_momentum(n_steps, warm_up_steps):
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=5e-3, total_steps=n_steps, pct_start=warm_up_steps / n_steps, cycle_momentum=False
    )
    theirs = []
    for _ in range(n_steps):
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    ours = [
        learning_rate_at(step, schedule="onecycle", learning_rate=5e-3, warm_up_steps=warm_up_steps, n_steps=n_steps)
        for step in range(n_steps)
    ]
    assert ours == pytest.approx(theirs, rel=1e-9)


def test_a_constant_rate_is_reached_in_equal_steps():
    rates = [
        learning_rate_at(step, schedule="constant", learning_rate=1.0, warm_up_steps=4, n_steps=9) for step in range(9)
    ]
    assert rates == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("schedule", ["onecycle", "constant"])
def test_a_training_of_one_step_has_a_rate(schedule):
    rate = learning_rate_at(0, schedule=schedule, learning_rate=0.1, warm_up_steps=0, n_steps=1)
    assert rate == pytest.approx(0.1)
