"""One detector of Table 2 from end to end: made once, and named by all that decides it."""

import numpy as np
import pytest
from wafer.detector.toy_sections import TINY_DESIGN, TINY_PLAN, toy_folder

from chapters.fanet_training import (
    TrainingData,
    attention_options,
    make_schedule,
    mask_scoring_target,
    train_and_score,
    work_name,
)
from emseg.errors import UsageError
from emseg.wafer.detector.detector_design import DetectorDesign
from emseg.wafer.detector.detector_plan import PAPER, SMALL
from emseg.wafer.formats.benchmark_folder import open_benchmark


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return TrainingData("folder", open_benchmark(toy_folder(tmp_path_factory.mktemp("toy"))), "crops", None)


def test_a_cell_is_trained_and_predicted_once(data, tmp_path):
    """The second call reads weights and detections, and gives the same scores."""
    first = train_and_score(TINY_DESIGN, TINY_PLAN, data, tmp_path, n_resamples=100, progress=False)
    times = {path.name: path.stat().st_mtime_ns for path in first.work_dir.iterdir() if path.is_file()}
    assert {"weights.safetensors", "detections-validation.json"} <= set(times)
    assert first.tiles_at_limit == 4  # after six steps anything is found, up to the limit
    again = train_and_score(TINY_DESIGN, TINY_PLAN, data, tmp_path, n_resamples=100, progress=False)
    assert {path.name: path.stat().st_mtime_ns for path in again.work_dir.iterdir() if path.is_file()} == times
    assert again.scores["validation"].overall == first.scores["validation"].overall
    assert again.detections == first.detections
    assert len(again.trained.curves["step"]) == TINY_PLAN.steps


def test_a_work_folder_is_named_by_what_decides_the_weights(data):
    """Seed, attention, options, steps, split; not by how often checkpoints are written."""
    names = {
        work_name(design, schedule, data)
        for design in (TINY_DESIGN, DetectorDesign(depth=18, attention="fanet", size="small"))
        for schedule in (TINY_PLAN, TINY_PLAN.changed(seed=1), TINY_PLAN.changed(steps=7))
    }
    assert len(names) == 6
    assert work_name(TINY_DESIGN, TINY_PLAN.changed(checkpoint_interval=3), data) in names


def test_zero_leaves_a_schedule_as_it_is():
    """And few steps shorten the warm-up."""
    assert make_schedule("paper", seed=4) == PAPER.changed(seed=4)
    short = make_schedule("small", n_steps=20, batch=3, learning_rate=0.01, seed=0)
    assert (short.steps, short.warm_up_steps, short.batch_size, short.learning_rate) == (20, 2, 3, 0.01)
    assert make_schedule("small", n_steps=5000, seed=0).warm_up_steps == SMALL.warm_up_steps
    with pytest.raises(UsageError, match="counted in epochs"):
        make_schedule("paper", n_steps=100)


def test_attentions_take_only_options_that_they_have():
    """So that one notebook can name them all."""
    given = {"reduction": 4, "indexing": "scaled", "normalization": "ortho"}
    assert attention_options("fanet", **given) == given
    assert attention_options("se", **given) == attention_options("fca", **given) == {"reduction": 4}
    assert attention_options("eca", **given) == attention_options("none", **given) == {}


def test_the_target_of_mask_scoring_counts_the_whole_section():
    """A perfect mask in a proposal that holds half of a section has the target 1/2."""
    section = np.zeros((20, 30), bool)
    section[5:15, 4:24] = True
    logits = np.where(section[:14, :14], 1.0, -1.0)
    assert mask_scoring_target(logits, section, (0, 0)) == pytest.approx(90 / 200, rel=1e-5)
    assert mask_scoring_target(-logits, section, (0, 0)) == 0
