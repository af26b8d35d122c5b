"""Plans: the paper's values, refusals in one sentence, and what of a plan decides the weights."""

import pytest

from emseg.errors import UsageError
from emseg.membrane.training import PLANS, TrainingPlan
from emseg.membrane.training.plan import WITHOUT_EFFECT, settings_of


def test_the_papers_plan_is_adam_with_focal_and_dice():
    paper = PLANS["paper"]
    assert (paper.optimizer, paper.focal_gamma, paper.dice_weight, paper.crop_size) == ("adam", 2.0, 1.0, 1024)
    assert paper.batch_size == 4 * 8  # 4 on each of 8 GPUs
    assert paper.boundary_weight == paper.augmentation.bend_px == 0  # beyond the paper


def test_settings_leave_out_what_cannot_change_a_weight():
    small = PLANS["small"]
    faster = small.changed(n_workers=4, checkpoint_seconds=1.0, validate_every=7, tensorboard=True)
    assert settings_of(faster) == settings_of(small)
    assert settings_of(small.changed(seed=1)) != settings_of(small)
    assert not set(WITHOUT_EFFECT) & set(settings_of(small))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_steps": 0}, "`n_steps` must be a whole number of at least 1; got 0"),
        ({"batch_size": 2.5}, "`batch_size` must be a whole number"),
        ({"crop_size": 8}, "`crop_size` must be a whole number of at least 16; got 8"),
        ({"learning_rate": 0}, "`learning_rate` must be a positive number; got 0"),
        ({"learning_rate": float("nan")}, "`learning_rate` must be a positive number; got nan"),
        ({"optimizer": "adamW"}, "`optimizer` must be one of adam, adamw; got 'adamW'. Did you mean"),
        ({"schedule": "cosine"}, "`schedule` must be one of onecycle, constant"),
        ({"precision": "bf61"}, "`precision` must be one of auto, fp32, bf16, fp16"),
        ({"warm_up_steps": 600}, "the warm-up must end before the training; got warm_up_steps=600, n_steps=600"),
        ({"n_devices": 3}, "`batch_size` is shared out evenly among devices; got batch_size=4, n_devices=3"),
        ({"dice_weight": -1}, "`dice_weight` must be a number of at least 0"),
        ({"augmentation": {}}, "`augmentation` must be an Augmentation; got dict"),
        ({"tensorboard": "yes"}, "`tensorboard` must be true or false"),
        ({"learning_rte": 1}, "a training plan has no 'learning_rte'. Did you mean 'learning_rate'"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        PLANS["small"].changed(**changes)


def test_a_plan_is_plain_and_frozen():
    with pytest.raises(AttributeError):
        TrainingPlan().n_steps = 3
