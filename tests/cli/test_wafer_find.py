"""`emseg wafer find` writes all files and says what it found; a stopped call resumes, and faults are one sentence."""

import errno
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from wafer.navigation.drawn_wafers import KNOWN_PX, DrawnNetwork, draw, drawn_finder, ribbons

from emseg import files
from emseg.cli import main
from emseg.files import read_json
from emseg.wafer.annotated_wafer import read_annotated_wafer
from emseg.wafer.navigation import detect
from emseg.wafer.navigation.exports import read_found, write_wafer
from emseg.wafer.navigation.finder import save_finder

QUADS, SIZE = ribbons(2, 8, KNOWN_PX)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """An image and a finder, as command line options."""
    folder = tmp_path_factory.mktemp("inputs")
    Image.fromarray(draw(QUADS, SIZE)).save(folder / "drawn.png")
    weights = save_finder(drawn_finder(), folder / "finder.safetensors")
    return [str(folder / "drawn.png"), "--weights", str(weights), "--device", "cpu"]


@pytest.fixture
def network(monkeypatch):
    stand_in = DrawnNetwork()
    monkeypatch.setattr(detect, "predict_soft", stand_in)
    return stand_in


def find(inputs, out, *more):
    return main(["wafer", "find", *inputs, "--out", str(out), "--section-size-px", str(KNOWN_PX), *more])


def test_all_files_are_written_and_the_summary_is_in_words(tmp_path, inputs, network, capsys):
    assert find(inputs, tmp_path / "out", "--expected", "17") == 0
    said = capsys.readouterr().out
    assert said.startswith("16 sections on drawn: 8 good, 8 folded.\n")
    assert "16 sections were found, 17 expected" in said
    assert "drawn.magc" in said.splitlines()[-1]
    assert len(said) < 2000
    assert len(read_found(tmp_path / "out").sections) == len(QUADS)
    _, sections = read_annotated_wafer(inputs[0], tmp_path / "out" / "drawn.coco.json")
    assert len(sections.sections) == len(QUADS)


def test_only_a_class_goes_to_other_programs(tmp_path, inputs, network):
    assert find(inputs, tmp_path / "out", "--class", "good") == 0
    _, sections = read_annotated_wafer(inputs[0], tmp_path / "out" / "drawn.magc")
    assert len(sections.sections) == 8
    assert len(read_found(tmp_path / "out").sections) == len(QUADS)


@pytest.mark.parametrize("name", ["drawn.magc", "drawn.mass.json", "drawn.coco.json"])
def test_a_template_of_one_section_is_read_from_annotations(tmp_path, inputs, network, name):
    """With the wafer's landmarks, where the format has them."""
    assert find(inputs, tmp_path / "first") == 0
    marks = np.array([(10.0, 12.5), (60.0, 400.0), (80.0, 20.0)])
    write_wafer(replace(read_found(tmp_path / "first"), landmarks=marks), tmp_path / "first")
    assert find(inputs, tmp_path / "second", "--template", str(tmp_path / "first" / name)) == 0
    found = read_found(tmp_path / "second")
    assert len(found.sections) == len(QUADS)
    if name == "drawn.coco.json":
        assert found.landmarks is None
    else:
        np.testing.assert_allclose(found.landmarks, marks)


def test_the_same_call_again_needs_no_network(tmp_path, inputs, network):
    assert find(inputs, tmp_path / "out") == 0
    first = (tmp_path / "out" / "drawn.found.json").read_bytes()
    network.stop_after = 0
    assert find(inputs, tmp_path / "out") == 0
    assert (tmp_path / "out" / "drawn.found.json").read_bytes() == first


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--section-size-px", "0"], 2, "`section_size_px` must be a finite number greater than 0"),
        (["--class", "god"], 2, "--class must be one of good, folded; got 'god'"),
        (["--device", "tpu"], 2, "`device` must be auto, cpu, cuda or cuda:N; got 'tpu'"),
        (["--weights", "none.safetensors"], 1, "none.safetensors does not exist"),
        (["--template", "none.magc"], 1, "none.magc does not exist"),
    ],
)
def test_a_wrong_option_is_one_sentence(tmp_path, inputs, network, capsys, options, code, message):
    assert find(inputs, tmp_path / "out", *options) == code
    assert message in capsys.readouterr().err
    assert network.tiles == []


def test_a_folder_of_something_else_is_left_alone(tmp_path, inputs, network, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert find(inputs, tmp_path / "out") == 2
    assert "--out must be new, empty, or a folder of the same call" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_full_disk_is_one_sentence(tmp_path, inputs, network, capsys, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    assert find(inputs, tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert "could not be written: No space left on device. Free some space" in said
    assert len(said.splitlines()) == 1


def test_a_stopped_search_resumes(tmp_path):
    """The real network, untrained: what it reports is noise, and the same noise with and without the interruption."""
    noise = np.random.default_rng(0).integers(0, 255, (1600, 300)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "long.png")
    weights = save_finder(drawn_finder(), tmp_path / "finder.safetensors")
    base = [
        str(tmp_path / "long.png"),
        "--weights",
        str(weights),
        "--device",
        "cpu",
        "--section-size-px",
        str(KNOWN_PX),
    ]
    command = [sys.executable, "-m", "emseg", "wafer", "find", *base, "--out", str(tmp_path / "out")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=listen)
    rows = tmp_path / "out" / "tiles"
    while not (rows / "row0000.json").exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, said
    assert "interrupted" in said.splitlines()[-1]
    kept = {path.name: path.stat().st_mtime_ns for path in rows.glob("row*.json")}
    assert kept
    assert not list((tmp_path / "out").rglob(".*")), "a half-written file was left"
    assert main(["wafer", "find", *base, "--out", str(tmp_path / "out")]) == 0
    assert len(list(rows.glob("row*.json"))) > len(kept)
    assert {name: (rows / name).stat().st_mtime_ns for name in kept} == kept
    assert main(["wafer", "find", *base, "--out", str(tmp_path / "whole")]) == 0
    one, other = (read_json(tmp_path / name / "long.found.json") for name in ("out", "whole"))
    assert [section["outline"] for section in one["sections"]] == [section["outline"] for section in other["sections"]]


def listen():
    """Give the process the usual signals, which one in the background may have been told to ignore."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
