"""Weights in files: what is written is read back, and what does not fit is refused as a whole."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from emseg.errors import InputError
from emseg.wafer.detector import DetectorDesign, build_design
from emseg.wafer.detector.detector_build import load_weights, read_weights


def network(width: int = 4) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, width, 3), nn.BatchNorm2d(width))


def test_a_detectors_weights_are_written_and_read_back(tmp_path):
    first = build_design(DetectorDesign("ms_rcnn", 18, "fanet", size="small"), seed=1)
    second = build_design(DetectorDesign("ms_rcnn", 18, "fanet", size="small"), seed=2)
    save_file(first.state_dict(), tmp_path / "weights.safetensors")
    load_weights(second, tmp_path / "weights.safetensors")
    other = second.state_dict()
    assert all(torch.equal(value, other[name]) for name, value in first.state_dict().items())


@pytest.mark.parametrize("form", ["state dict", "checkpoint"])
def test_torchs_own_files_are_read(form, tmp_path):
    model, again = network(), network()
    state = model.state_dict()
    torch.save(state if form == "state dict" else {"meta": {"epoch": 3}, "state_dict": state}, tmp_path / "w.pth")
    load_weights(again, tmp_path / "w.pth")
    assert torch.equal(again[0].weight, model[0].weight)


def test_weights_of_another_architecture_are_refused_with_what_differs(tmp_path):
    fanet = build_design(DetectorDesign("mask_rcnn", 18, "fanet", size="small"))
    save_file(fanet.state_dict(), tmp_path / "fanet.safetensors")
    model = build_design(DetectorDesign("ms_rcnn", 18, "none", size="small", num_classes=2))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(InputError) as caught:
        load_weights(model, tmp_path / "fanet.safetensors")
    message = str(caught.value)
    assert "fanet.safetensors must have the weights of this detector; it lacks roi_head.mask_iou_head" in message
    assert "it has besides backbone.layer1.0.attention.fc.0.weight" in message
    assert "it has other shapes for roi_head.bbox_head.fc_cls.weight ((5, 256) instead of (3, 256))" in message
    assert "and 9 more" in message
    assert len(message.splitlines()) == 1
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Trap:
    """Pickled, it would run a command when it is read."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


def unreadable(case: str, folder: Path) -> Path:
    path = folder / f"{case}.pth"
    if case == "code":
        torch.save({"state_dict": Trap()}, path)
    elif case == "cut short":
        torch.save(network().state_dict(), path)
        path.write_bytes(path.read_bytes()[:200])
    elif case == "empty":
        path.touch()
    elif case == "text":
        path.write_text("weights")
    elif case == "a number":
        torch.save({"a": 3}, path)
    elif case == "a list":
        torch.save([torch.zeros(2)], path)
    elif case == "cut safetensors":
        path = folder / "weights.safetensors"
        save_file(network().state_dict(), path)
        path.write_bytes(path.read_bytes()[:-40])
    return path


WRONG = {
    "code": "damaged weights file .Weights only load failed",
    "cut short": "damaged weights file",
    "empty": "damaged weights file",
    "text": "damaged weights file",
    "a number": "must have tensors by name",
    "a list": "must have tensors by name",
    "cut safetensors": "damaged weights file",
    "absent": "absent.pth does not exist",
}


@pytest.mark.parametrize("case", WRONG)
def test_files_that_hold_no_weights_are_refused_with_their_reason(case, tmp_path):
    path = unreadable(case, tmp_path)
    with pytest.raises(InputError, match=WRONG[case]):
        read_weights(path)
