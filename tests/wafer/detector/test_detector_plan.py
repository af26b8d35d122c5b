"""Plans: the paper's settings, and requests that are refused."""

import pytest

from emseg.errors import UsageError
from emseg.wafer.detector.detector_plan import PAPER, SMALL, DetectorPlan


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "adam"}, r"`optimizer` must be one of 'sgd', 'adamw'; got 'adam'. Did you mean 'adamw'"),
        ({"decay": "cosin"}, "Did you mean 'cosine'"),
        ({"precision": "fp8"}, "`precision` must be one of 'fp32', 'bf16', 'fp16'; got 'fp8'"),
        ({"flips": ("diagonal",)}, "`flips.0` must be one of 'horizontal', 'vertical'; got 'diagonal'"),
        ({"flips": "horizontal"}, "`flips` must be a list; got 'horizontal'"),
        ({"batch_size": 0}, "`batch_size` must be at least 1; got 0"),
        ({"batch_size": True}, "`batch_size` must be a whole number"),
        ({"seed": -1}, "`seed` must be at least 0; got -1"),
        ({"learning_rate": 0.0}, "`learning_rate` must be greater than 0; got 0.0"),
        ({"learning_rate": float("nan")}, "`learning_rate` must be finite; got nan"),
        ({"learning_rate": "fast"}, "`learning_rate` must be a number; got 'fast'"),
        ({"gradient_clip": -1.0}, "`gradient_clip` must be greater than 0; got -1.0"),
        ({"momentum": 1.0}, "`momentum` must be below 1; got 1.0"),
        ({"channels_last": 1}, "`channels_last` must be true or false; got 1"),
        ({"epochs": None}, "counted in `epochs` or in `steps`; got epochs=None, steps=None"),
        ({"steps": 100}, "counted in `epochs` or in `steps`; got epochs=36, steps=100"),
        ({"epochs": 20}, r"`milestones` must rise from 1 to at most epochs - 1; got \(24, 34\) with epochs=20"),
        ({"milestones": (34, 24)}, "`milestones` must rise"),
        ({"milestones": (1.5,)}, "`milestones.0` must be a whole number; got 1.5"),
        ({"epochs": None, "steps": 5000}, "`milestones` are epochs, so they need `epochs`"),
        ({"epochs": None, "steps": 2000, "milestones": ()}, "the warm-up must end before the training"),
        ({"scale": 16}, "`scale` must be at least 32; got 16"),
        ({"batch_sise": 4}, "a detector plan has no 'batch_sise'. Did you mean 'batch_size'"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused_by_name(changes, message):
    with pytest.raises(UsageError, match=message):
        PAPER.changed(**changes)


def test_workers_and_checkpoints_do_not_decide_the_weights_and_the_seed_does():
    assert SMALL.changed(n_workers=3, checkpoint_interval=7).settings() == SMALL.settings()
    assert SMALL.changed(seed=1).settings() != SMALL.settings()


def test_lists_become_tuples_so_that_a_schedule_from_json_equals_the_original():
    assert DetectorPlan(epochs=36, milestones=[24, 34], scale=1024, n_workers=4) == PAPER
