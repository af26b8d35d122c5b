"""Training: the same weights after a kill, a finished run at once, and everything that cannot work named beforehand."""

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock, Timeout
from PIL import Image
from wafer.detector.toy_sections import TINY_DESIGN, TINY_PLAN, change_truth, toy_folder

from emseg.errors import InputError, UsageError
from emseg.wafer.detector import detector_trainer
from emseg.wafer.detector.detector_build import build_design
from emseg.wafer.detector.detector_design import DetectorDesign
from emseg.wafer.detector.detector_trainer import train_detector
from emseg.wafer.detector.mmdet_config import runner_config

pytestmark = pytest.mark.usefixtures("one_thread")

IN_ANOTHER_PROCESS = """
import sys
import torch
from wafer.detector.toy_sections import TINY_DESIGN, TINY_PLAN
from emseg.wafer.detector.detector_trainer import train_detector
torch.set_num_threads(1)
train_detector(TINY_DESIGN, TINY_PLAN.changed(steps=60), sys.argv[1], "crops", sys.argv[2])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return toy_folder(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def trained(folder, one_thread, tmp_path_factory):
    """One training, with whatever it says and warns of."""
    return train_detector(TINY_DESIGN, TINY_PLAN, folder, "crops", tmp_path_factory.mktemp("work"))


def test_a_training_changes_the_weights_and_keeps_a_loss_for_each_step(trained):
    start = build_design(TINY_DESIGN, seed=TINY_PLAN.seed).state_dict()
    name = "roi_head.mask_iou_head.fc_mask_iou.weight"
    assert not torch.equal(start[name], trained.model.state_dict()[name])
    assert trained.curves["step"] == [1, 2, 3, 4, 5, 6]
    parts = [name for name in trained.curves if name.startswith("loss_")]
    assert {"loss_rpn_cls", "loss_bbox", "loss_mask", "loss_mask_iou"} <= set(parts)
    totals = np.sum([trained.curves[name] for name in parts], axis=0)
    np.testing.assert_allclose(totals, trained.curves["loss"], rtol=1e-5)


@pytest.mark.filterwarnings("ignore")  # pycocotools and NumPy 2
def test_normalisations_settle_at_the_means_of_training_batches_and_stay(folder, tmp_path):
    """With the greys that images have: changed ones, or black tiles among the last ten, left masks in shreds."""
    from emseg.wafer.detector import mmdet_data  # noqa: F401, I001 - before mmdet
    from mmdet.registry import DATASETS
    from mmengine.registry import DefaultScope

    plan = TINY_PLAN.changed(norm_batches=3, learning_rate=1e-12)  # the weights stay, so that they can be used below
    model = train_detector(TINY_DESIGN, plan, folder, "crops", tmp_path / "settled", progress=False).model
    config = runner_config(TINY_DESIGN, plan, folder, "crops", tmp_path / "none")
    with DefaultScope.overwrite_default_scope("mmdet"):
        draws = DATASETS.build(config["train_dataloader"]["dataset"])
    draws.full_init()
    means = []
    with draws.own_greys():
        for first in range(0, 3 * plan.batch_size, plan.batch_size):
            batch = {"inputs": [draws[draw]["inputs"] for draw in range(first, first + plan.batch_size)]}
            tiles = model.data_preprocessor(batch, False)["inputs"]
            means.append(model.backbone.conv1(tiles).mean(dim=(0, 2, 3)))
    assert torch.allclose(model.backbone.bn1.running_mean, torch.stack(means).mean(0), atol=1e-5)
    running = train_detector(TINY_DESIGN, plan.changed(norm_batches=0), folder, "crops", tmp_path / "running")
    assert not torch.allclose(running.model.backbone.bn1.running_mean, model.backbone.bn1.running_mean, atol=1e-3)


def test_a_training_starts_from_given_weights(trained, folder, tmp_path):
    still = TINY_PLAN.changed(learning_rate=1e-12, steps=3)
    model = train_detector(TINY_DESIGN, still, folder, "crops", tmp_path / "still", start_from=trained.weights).model
    assert torch.allclose(model.backbone.conv1.weight, trained.model.backbone.conv1.weight, atol=1e-8)
    with pytest.raises(UsageError, match=r"one training; .* start sha256"):
        train_detector(TINY_DESIGN, still, folder, "crops", tmp_path / "still")


def test_the_learning_rate_warms_up_and_falls(trained):
    rates = trained.curves["learning_rate"]
    assert rates[0] == pytest.approx(1e-6)
    assert max(rates) <= 1e-3
    assert rates[-1] < max(rates)


def test_a_training_stops_at_any_step_and_gives_the_same_weights(folder, trained, tmp_path):
    """Interrupted from within after each step, so that the resumed part begins with every kind of draw."""
    from emseg.wafer.detector.mmdet_runner import CurvesHook

    after = CurvesHook.after_train_iter
    for stop in (3, 4, 5):
        work_dir = tmp_path / str(stop)

        def interrupt(self, runner, *args, stop=stop, **named):
            after(self, runner, *args, **named)
            if runner.iter + 1 == stop:
                raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(CurvesHook, "after_train_iter", interrupt)
            with pytest.raises(KeyboardInterrupt):
                train_detector(TINY_DESIGN, TINY_PLAN, folder, "crops", work_dir)
        again = train_detector(TINY_DESIGN, TINY_PLAN, folder, "crops", work_dir)
        assert again.weights.read_bytes() == trained.weights.read_bytes()
        assert again.curves["step"] == trained.curves["step"]
        assert again.curves["loss"] == trained.curves["loss"]


@pytest.mark.slow
def test_a_killed_training_ends_with_the_same_weights_bit_for_bit(folder, tmp_path):
    schedule, work_dir = TINY_PLAN.changed(steps=60), tmp_path / "killed"
    command = [sys.executable, "-c", IN_ANOTHER_PROCESS, str(folder), str(work_dir)]
    paths = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths})
    while not (work_dir / "checkpoint.pt").exists() and process.poll() is None:
        time.sleep(0.02)
    time.sleep(np.random.default_rng().uniform(0, 1))  # anywhere, also within the writing of a checkpoint
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (work_dir / "finished.json").exists()
    resumed = train_detector(TINY_DESIGN, schedule, folder, "crops", work_dir)
    whole = train_detector(TINY_DESIGN, schedule, folder, "crops", tmp_path / "whole")
    assert resumed.weights.read_bytes() == whole.weights.read_bytes()
    assert resumed.curves["loss"] == whole.curves["loss"]


@pytest.mark.parametrize("changes", [{"n_workers": 1}, {"checkpoint_interval": 5}])
def test_workers_and_checkpoints_change_no_weight(folder, trained, tmp_path, changes):
    again = train_detector(TINY_DESIGN, TINY_PLAN.changed(**changes), folder, "crops", tmp_path)
    torch.testing.assert_close(again.model.state_dict(), trained.model.state_dict())


def test_the_state_of_chance_outside_does_not_matter_and_is_left_alone(folder, trained, tmp_path):
    torch.manual_seed(123)
    state = torch.get_rng_state()
    again = train_detector(TINY_DESIGN, TINY_PLAN, folder, "crops", tmp_path)
    assert again.weights.read_bytes() == trained.weights.read_bytes()
    assert torch.equal(torch.get_rng_state(), state)


def test_another_seed_gives_other_weights(folder, trained, tmp_path):
    again = train_detector(TINY_DESIGN, TINY_PLAN.changed(seed=1), folder, "crops", tmp_path)
    assert again.weights.read_bytes() != trained.weights.read_bytes()


def test_a_finished_training_is_returned_without_training(folder, trained, monkeypatch):
    monkeypatch.setattr("emseg.wafer.detector.detector_trainer._run", None)
    again = train_detector(TINY_DESIGN, TINY_PLAN, folder, "crops", trained.weights.parent)
    assert again.curves == trained.curves
    assert again.seconds == trained.seconds
    assert not again.model.training
    for name, value in trained.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name])


def test_a_training_by_epochs_resumes_at_an_epoch_and_counts_its_smaller_last_steps(folder, tmp_path):
    schedule = TINY_PLAN.changed(
        steps=None, epochs=3, batch_size=3, decay="milestones", milestones=(1, 2), checkpoint_interval=1
    )
    whole = train_detector(TINY_DESIGN, schedule, folder, "crops", tmp_path / "whole")
    assert whole.curves["step"] == [1, 2, 3, 4, 5, 6]  # four tiles are steps of three and one
    from emseg.wafer.detector.mmdet_runner import CurvesHook

    def interrupt(self, runner):
        if runner.epoch == 1:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CurvesHook, "before_train_epoch", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train_detector(TINY_DESIGN, schedule, folder, "crops", tmp_path / "cut")
    resumed = train_detector(TINY_DESIGN, schedule, folder, "crops", tmp_path / "cut")
    assert resumed.weights.read_bytes() == whole.weights.read_bytes()
    assert whole.curves["learning_rate"][-1] == pytest.approx(1e-5)


def test_bfloat16_trains_on_the_cpu(folder, trained, tmp_path):
    again = train_detector(TINY_DESIGN, TINY_PLAN.changed(precision="bf16"), folder, "crops", tmp_path)
    assert again.curves["loss"][0] == pytest.approx(trained.curves["loss"][0], rel=0.05)
    assert next(again.model.parameters()).dtype == torch.float32


def test_a_training_is_quiet(folder, tmp_path, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train_detector(TINY_DESIGN, TINY_PLAN.changed(steps=3), folder, "crops", tmp_path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (TINY_PLAN.changed(precision="fp16"), "precision='fp16' needs a GPU"),
        (TINY_PLAN.changed(device="gpu"), "`device` must be auto, cpu, cuda or cuda:N; got 'gpu'"),
        (TINY_PLAN.changed(device="cuda:99"), "`device` 'cuda:99' is not there: torch sees"),
    ],
)
def test_a_device_that_cannot_is_refused(folder, tmp_path, schedule, message):
    with pytest.raises(UsageError, match=message):
        train_detector(TINY_DESIGN, schedule, folder, "crops", tmp_path)


def test_a_work_folder_of_another_training_is_refused_by_what_differs(folder, trained):
    other = TINY_PLAN.changed(learning_rate=0.5)
    with pytest.raises(UsageError, match=r"has one with plan learning_rate=0.001, but 0.5 was requested"):
        train_detector(TINY_DESIGN, other, folder, "crops", trained.weights.parent)
    design = DetectorDesign(detector="mask_rcnn", depth=18, size="small", changes=TINY_DESIGN.changes)
    with pytest.raises(UsageError, match='has one with design detector="ms_rcnn", but "mask_rcnn" was requested'):
        train_detector(design, TINY_PLAN, folder, "crops", trained.weights.parent)


def test_a_loss_that_is_not_finite_ends_the_training_with_advice(folder, tmp_path):
    wild = TINY_PLAN.changed(learning_rate=1e9, warm_up_steps=0, gradient_clip=None, steps=40)
    with pytest.raises(UsageError, match=r"the loss must stay finite; it was .* Lower `learning_rate`"):
        train_detector(TINY_DESIGN, wild, folder, "crops", tmp_path)


def test_too_little_memory_says_what_to_lower(folder, tmp_path, monkeypatch):
    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr("emseg.wafer.detector.detector_trainer._run", fail)
    with pytest.raises(UsageError, match=r"Use a smaller batch_size \(now 2\), smaller tiles, or precision='bf16'"):
        train_detector(TINY_DESIGN, TINY_PLAN, folder, "crops", tmp_path)


def test_a_checkpoint_that_is_none_is_never_unpickled(folder, tmp_path):
    import pickle

    class Harmful:
        def __reduce__(self):
            return Path.touch, (tmp_path / "was_run",)

    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "checkpoint.pt").write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(InputError, match=r"checkpoint.pt is not a checkpoint of a training"):
        train_detector(TINY_DESIGN, TINY_PLAN, folder, "crops", tmp_path / "work")
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((64, 64), dtype=np.uint16), "images must be 8-bit grey; .* has more bits"),
        (np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3), "must be grey"),
        (np.zeros((64, 64), dtype=bool), "1-bit"),
        (np.zeros((64, 32), dtype=np.uint8), "has 64 x 32 pixels .* gives 64 x 64"),
        (None, "must contain an image .* it contains text"),
    ],
)
def test_an_image_that_is_no_grey_tile_is_named_before_training(tmp_path, image, message):
    folder = toy_folder(tmp_path / "toy")
    path = sorted((folder / "images").iterdir())[0]
    if image is None:
        path.write_bytes(b"no image")
    else:
        Image.fromarray(image).save(path)
    with pytest.raises(InputError, match=message):
        train_detector(TINY_DESIGN, TINY_PLAN, folder, "crops", tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_of_several_processes_one_at_a_time_rewrites_a_users_folder(tmp_path, monkeypatch):
    def locked(folder, into):
        with pytest.raises(Timeout):
            FileLock(into.parent / ".coco.lock").acquire(timeout=0)
        raise InputError("seen")

    monkeypatch.setattr(detector_trainer, "own_benchmark", locked)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="seen"):
        train_detector(TINY_DESIGN, TINY_PLAN, tmp_path / "user", "given", tmp_path / "runs" / "work")


def test_tiles_smaller_than_fanets_highest_frequency_are_refused_before_training(tmp_path):
    """At stride 16 a tile of 64 px has maps of 4 x 4, on which index 6 does not exist."""
    design = DetectorDesign(depth=18, attention="fanet", size="small")
    with pytest.raises(UsageError, match=r"`tile` must be at least 97 x 97 pixels .* stride 16 .*; got 64 x 64"):
        train_detector(design, TINY_PLAN, toy_folder(tmp_path / "toy"), "crops", tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_annotations_that_name_a_missing_image_are_refused_before_training(tmp_path):
    folder = toy_folder(tmp_path / "toy")
    change_truth(folder, "train", "file_name", "gone.png")
    with pytest.raises(InputError, match=r"names images that are not in .*gone.png"):
        train_detector(TINY_DESIGN, TINY_PLAN, folder, "crops", tmp_path / "work")
