"""Plans: the paper's values, refusals in one sentence, learning rates, and the fields that determine the weights."""

import pytest
import torch

from emseg.errors import UsageError
from emseg.membrane.training import PLANS, TrainingPlan


def test_the_papers_plan_is_adam_with_focal_and_dice():
    paper = PLANS["paper"]
    assert (paper.optimizer, paper.focal_gamma, paper.dice_weight, paper.crop_size) == ("adam", 2.0, 1.0, 1024)
    assert paper.batch_size == 4 * 8  # 4 on each of 8 GPUs
    assert paper.boundary_weight == paper.augmentation.bend_px == 0  # beyond the paper


def test_settings_leave_out_what_cannot_change_a_weight():
    small = PLANS["small"]
    faster = small.changed(n_workers=4, checkpoint_seconds=1.0, validate_every=7)
    assert faster.settings() == small.settings()
    assert small.changed(seed=1).settings() != small.settings()
    assert not set(TrainingPlan.without_effect) & set(small.settings())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_steps": 0}, "`n_steps` must be at least 1; got 0"),
        ({"batch_size": 2.5}, "`batch_size` must be a whole number"),
        ({"crop_size": 8}, "`crop_size` must be at least 16; got 8"),
        ({"learning_rate": 0}, "`learning_rate` must be greater than 0; got 0"),
        ({"learning_rate": float("nan")}, "`learning_rate` must be .*; got nan"),
        ({"optimizer": "adamW"}, "`optimizer` must be one of 'adam', 'adamw'; got 'adamW'. Did you mean"),
        ({"schedule": "cosine"}, "`schedule` must be one of 'onecycle', 'constant'"),
        ({"precision": "bf61"}, "`precision` must be one of 'auto', 'fp32', 'bf16', 'fp16'"),
        ({"warm_up_steps": 600}, "the warm-up must end before the training; got warm_up_steps=600, n_steps=600"),
        ({"n_devices": 3}, "`batch_size` must divide evenly among devices; got batch_size=4, n_devices=3"),
        ({"dice_weight": -1}, "`dice_weight` must be at least 0"),
        ({"augmentation": {}}, "`augmentation` must be .*; got {}"),
        ({"learning_rte": 1}, "a training plan has no 'learning_rte'. Did you mean 'learning_rate'"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        PLANS["small"].changed(**changes)


def test_a_plan_is_plain_and_frozen():
    with pytest.raises(AttributeError):
        TrainingPlan().n_steps = 3


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
    plan = TrainingPlan(schedule="onecycle", learning_rate=5e-3, warm_up_steps=warm_up_steps, n_steps=n_steps)
    ours = [plan.rate_at(step) for step in range(n_steps)]
    assert ours == pytest.approx(theirs, rel=1e-9)


def test_a_constant_rate_is_reached_in_equal_steps():
    plan = TrainingPlan(schedule="constant", learning_rate=1.0, warm_up_steps=4, n_steps=9)
    assert [plan.rate_at(step) for step in range(9)] == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("schedule", ["onecycle", "constant"])
def test_a_training_of_one_step_has_a_rate(schedule):
    rate = TrainingPlan(schedule=schedule, learning_rate=0.1, warm_up_steps=0, n_steps=1).rate_at(0)
    assert rate == pytest.approx(0.1)
