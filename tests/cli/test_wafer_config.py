"""`emseg wafer config`: what it prints is the config, and what it cannot print is said."""

import pytest
from wafer.detector.toy_sections import toy_folder

from emseg.cli import main
from emseg.wafer.detector.detector_design import DetectorDesign
from emseg.wafer.detector.detector_plan import PAPER, SMALL
from emseg.wafer.detector.mmdet_config import runner_config


def printed(capsys, tmp_path, *arguments):
    from mmengine import Config

    assert main(["wafer", "config", *map(str, arguments)]) == 0
    path = tmp_path / "printed.py"
    path.write_text(capsys.readouterr().out)
    return Config.fromfile(path, import_custom_modules=False).to_dict()


def test_the_printed_config_is_the_papers(capsys, tmp_path):
    from mmengine import Config

    design = DetectorDesign(detector="ms_rcnn", depth=50, attention="fanet", attention_options={"indexing": "scaled"})
    ours = runner_config(design, PAPER.changed(batch_size=4))
    arguments = ("--detector", "ms_rcnn", "--attention", "fanet", "--option", "indexing=scaled")
    assert printed(capsys, tmp_path, *arguments, "--set", "batch_size=4") == Config(ours).to_dict()


def test_steps_take_the_place_of_epochs(capsys, tmp_path):
    config = printed(capsys, tmp_path, "--size", "small", "--set", "epochs=3", "--set", "warm_up_steps=5")
    assert config["train_cfg"] == {"type": "EpochBasedTrainLoop", "max_epochs": 3}
    assert config["optim_wrapper"]["optimizer"]["lr"] == SMALL.learning_rate


def test_the_classes_and_files_are_those_of_the_folder(capsys, tmp_path):
    folder = toy_folder(tmp_path / "toy")
    config = printed(capsys, tmp_path, "--size", "small", "--data", folder, "--split", "crops")
    data = config["train_dataloader"]["dataset"]["dataset"]
    assert data["ann_file"] == str(folder / "annotations" / "crops" / "train.json")
    assert data["data_prefix"] == {"img": str(folder / "images")}
    assert data["metainfo"]["classes"] == ["good", "incomplete", "fold", "damaged"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--detector", "mask_rcn"], "Did you mean 'mask_rcnn'"),
        (["--size", "large"], "`size` must be one of 'paper', 'small'; got 'large'"),
        (["--set", "batch_sise=4"], "a detector plan has no 'batch_sise'. Did you mean 'batch_size'"),
        (["--set", "batch_size"], "--set takes NAME=VALUE; got 'batch_size'"),
        (["--set", "learning_rate=fast"], "`learning_rate` must be a number; got 'fast'"),
        (["--option", "indexing=raw"], "which has none; got 'indexing'"),
    ],
)
def test_a_config_typo_is_named_and_the_exit_code_is_2(capsys, arguments, message):
    assert main(["wafer", "config", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_named(capsys, tmp_path):
    assert main(["wafer", "config", "--data", str(tmp_path / "gone")]) == 1
    assert "gone" in capsys.readouterr().err
