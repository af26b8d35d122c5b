"""The printed config: the paper's settings line by line, and what a config may not be."""

from pathlib import Path

import pytest
from wafer.detector.toy_sections import TINY_DESIGN, TINY_PLAN

from emseg.errors import UsageError
from emseg.wafer.detector.detector_design import DetectorDesign
from emseg.wafer.detector.detector_plan import PAPER, SMALL
from emseg.wafer.detector.mmdet_config import runner_config, train_pipeline

PAPER_CONFIG = runner_config(DetectorDesign(), PAPER, "data", "crops", "work")
LOADER = PAPER_CONFIG["train_dataloader"]


@pytest.mark.parametrize(
    ("setting", "ours", "papers"),
    [
        ("mmdetection", PAPER_CONFIG["default_scope"], "mmdet"),
        (
            "SGD with momentum 0.9, weight decay 1e-4, learning rate 0.01",
            PAPER_CONFIG["optim_wrapper"],
            {
                "type": "OptimWrapper",
                "optimizer": {"type": "SGD", "lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4},
            },
        ),
        ("8 images a step", LOADER["batch_size"], 8),
        ("36 epochs", PAPER_CONFIG["train_cfg"], {"type": "EpochBasedTrainLoop", "max_epochs": 36}),
        (
            "linear warm-up over 2000 iterations, from mmdet's 0.001",
            PAPER_CONFIG["param_scheduler"][0],
            {"type": "LinearLR", "start_factor": 0.001, "by_epoch": False, "begin": 0, "end": 2000},
        ),
        (
            "a tenth at epochs 24 and 34",
            PAPER_CONFIG["param_scheduler"][1],
            {
                "type": "MultiStepLR",
                "begin": 0,
                "end": 36,
                "by_epoch": True,
                "milestones": [24, 34],
                "gamma": 0.1,
            },
        ),
        ("no other schedule", len(PAPER_CONFIG["param_scheduler"]), 2),
        (
            "images scaled to 1024, else mmdet's own augmentation",
            LOADER["dataset"]["dataset"]["pipeline"][:-1],
            [
                {"type": "LoadImageFromFile", "color_type": "color"},
                {"type": "LoadAnnotations", "with_bbox": True, "with_mask": True},
                {"type": "Resize", "scale": (1024, 1024), "keep_ratio": True},
                {"type": "RandomFlip", "prob": 0.5, "direction": "horizontal"},
            ],
        ),
        (
            "mmdet's filter of images",
            LOADER["dataset"]["dataset"]["filter_cfg"],
            {"filter_empty_gt": True, "min_size": 32},
        ),
        (
            "the four classes",
            LOADER["dataset"]["dataset"]["metainfo"]["classes"],
            ["good", "incomplete", "fold", "damaged"],
        ),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_the_papers_config_equals_the_papers_settings(setting, ours, papers):
    assert ours == papers


def test_the_config_can_be_dumped_and_read_back(tmp_path):
    from mmengine import Config

    config = Config(runner_config(TINY_DESIGN, TINY_PLAN, "data", "wafer", "work"))
    config.dump(tmp_path / "config.py")
    assert Config.fromfile(tmp_path / "config.py", import_custom_modules=False).to_dict() == config.to_dict()


def test_the_four_flips_of_two_axes_come_equally_often():
    (flip,) = (step for step in train_pipeline(SMALL, 1) if step["type"] == "RandomFlip")
    assert flip["direction"] == ["horizontal", "vertical", "diagonal"]
    assert flip["prob"] == [0.25, 0.25, 0.25]  # which leaves 0.25 for none


def test_the_cosine_begins_where_the_warm_up_ends_and_ends_with_the_training():
    warm_up, cosine = runner_config(TINY_DESIGN, SMALL, "data", "wafer", "work")["param_scheduler"]
    assert warm_up["end"] == cosine["begin"] == SMALL.warm_up_steps
    assert cosine["begin"] + cosine["T_max"] == cosine["end"] == SMALL.steps


@pytest.mark.parametrize(
    ("precision", "wrapper"), [("fp32", "OptimWrapper"), ("bf16", "AutocastOptimWrapper"), ("fp16", "AmpOptimWrapper")]
)
def test_each_precision_has_its_optimizer_wrapper(precision, wrapper):
    config = runner_config(TINY_DESIGN, SMALL.changed(precision=precision), "data", "wafer", "work")
    assert config["optim_wrapper"]["type"] == wrapper


def test_processes_share_a_steps_images():
    config = runner_config(TINY_DESIGN, SMALL.changed(batch_size=8), Path("data"), "wafer", "work", world_size=4)
    assert config["train_dataloader"]["batch_size"] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"world_size": 3}, "`batch_size` must divide among the processes; got batch_size=2 for 3"),
        ({"class_names": ("section",)}, "got num_classes=4 and 1 classes"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        runner_config(TINY_DESIGN, SMALL, "data", "wafer", "work", **options)
