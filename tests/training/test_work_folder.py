"""The folder of a training: one training each, rows up to the checkpoint, files that are whole or absent."""

import json
import resource

import pytest
import torch

from emseg.errors import InputError, UsageError
from emseg.training import work_folder

SETTINGS = {"plan": {"seed": 0, "rate": 0.1}, "data": {"fingerprint": "a"}}
CHECKPOINT = {"step": 2, "seconds": 1.5, "network": {"w": torch.ones(2)}, "optimizer": {}}


def test_another_trainings_folder_is_refused_by_the_first_setting_that_differs(tmp_path):
    work_folder.begin(tmp_path / "work", SETTINGS, resume=True)
    work_folder.begin(tmp_path / "work", SETTINGS, resume=True)
    other = {"plan": {"seed": 1, "rate": 0.1, "new": True}, "data": {"fingerprint": "a"}}
    with pytest.raises(UsageError, match=r"has one with plan new=null, but true was requested\. Use another folder"):
        work_folder.begin(tmp_path / "work", other, resume=True)
    work_folder.begin(tmp_path / "work", other, resume=False)
    assert json.loads((tmp_path / "work" / "settings.json").read_text()) == other


def test_without_resume_everything_of_the_earlier_training_goes(tmp_path):
    work_folder.begin(tmp_path, SETTINGS, resume=True)
    work_folder.write_checkpoint(tmp_path, CHECKPOINT)
    work_folder.append_rows(tmp_path / work_folder.CURVES, [{"step": 1, "loss": 1.0}])
    (tmp_path / "mine.txt").write_text("stays")
    work_folder.begin(tmp_path, SETTINGS, resume=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.txt", "settings.json"]


def test_rows_after_the_checkpoint_and_incomplete_lines_are_dropped(tmp_path):
    path = tmp_path / "curves.csv"
    work_folder.append_rows(path, [{"step": step, "loss": step / 4} for step in (1, 2, 3)])
    with path.open("a") as file:
        file.write("4,0.")  # killed within a line
    assert work_folder.read_columns(path) == {"step": [1, 2, 3], "loss": [0.25, 0.5, 0.75]}
    work_folder.keep_rows(path, 2)
    work_folder.append_rows(path, [{"step": 3, "loss": 9.0}])
    assert work_folder.read_columns(path) == {"step": [1, 2, 3], "loss": [0.25, 0.5, 9.0]}
    work_folder.keep_rows(path, 0)
    assert work_folder.read_columns(path) == work_folder.read_columns(tmp_path / "absent.csv") == {}


def test_a_checkpoint_is_read_back_and_a_finished_training_has_none(tmp_path):
    assert work_folder.read_checkpoint(tmp_path) is work_folder.read_finished(tmp_path) is None
    work_folder.write_checkpoint(tmp_path, CHECKPOINT)
    kept = work_folder.read_checkpoint(tmp_path)
    assert (kept["step"], kept["seconds"]) == (2, 1.5)
    work_folder.finish(tmp_path, kept["network"], {"seconds": 2.0}, {"format": "toy"})
    finished = work_folder.read_finished(tmp_path)
    assert finished["seconds"] == 2.0
    assert len(finished["weights_sha256"]) == 64
    assert not (tmp_path / work_folder.CHECKPOINT).exists()


def test_a_checkpoint_of_something_else_names_what_it_lacks(tmp_path):
    torch.save({"step": 1}, tmp_path / work_folder.CHECKPOINT)
    with pytest.raises(InputError, match="it lacks network, optimizer, seconds"):
        work_folder.read_checkpoint(tmp_path)


def test_losses_are_written_in_groups_and_one_that_is_not_finite_is_named(tmp_path):
    curves = work_folder.CurveWriter(tmp_path, interval=2)
    assert not curves.note(1, 0.1, 1e-3, {"loss": torch.tensor(2.0), "part": 1.0})
    assert curves.note(2, 0.2, 1e-3, {"loss": torch.tensor(1.5), "part": 0.5})
    curves.write()
    assert work_folder.read_columns(tmp_path / work_folder.CURVES)["loss"] == [2.0, 1.5]
    curves.note(3, 0.3, 1e-3, {"loss": torch.tensor(float("inf")), "part": 0.0})
    with pytest.raises(UsageError, match="the loss must stay finite; it was inf at step 3"):
        curves.write()


@pytest.fixture
def full_disk():
    """No file may grow beyond 100 kB, as on a full disk; torch and safetensors then raise errors of their own."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", ["checkpoint.pt", "weights.safetensors", "curves.csv"])
def test_a_full_disk_is_told_with_the_file_and_what_to_do(tmp_path, full_disk, name):
    large, rows = {"w": torch.zeros(500, 500)}, [{"step": step, "loss": 0.5} for step in range(20_000)]
    work_folder.write_checkpoint(tmp_path, CHECKPOINT)
    write = {
        "checkpoint.pt": lambda: work_folder.write_checkpoint(tmp_path, large),
        "weights.safetensors": lambda: work_folder.finish(tmp_path, large, {}),
        "curves.csv": lambda: work_folder.append_rows(tmp_path / "curves.csv", rows),
    }[name]
    with pytest.raises(InputError, match=rf"{name} could not be written: .*\. Free some space and run again: the tra"):
        write()
    kept = work_folder.read_checkpoint(tmp_path)
    assert kept is not None
    assert kept["step"] == CHECKPOINT["step"]
    assert {path.name for path in tmp_path.iterdir()} <= {"checkpoint.pt", "curves.csv"}
