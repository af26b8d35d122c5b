"""`emseg wafer import`: corrections from the command line."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from wafer.navigation.found_wafers import found_wafer

from emseg.cli import main
from emseg.wafer.navigation.exports import read_found, write_wafer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found, image = found_wafer(), tmp_path / "wafer.png"
    cv2.imwrite(str(image), np.random.default_rng(0).integers(0, 255, (found.height, found.width), np.uint8))
    write_wafer(found, tmp_path / "found", image=image)
    return tmp_path / "found"


def test_an_edited_file_is_imported_and_the_sheet_written_again(folder: Path, capsys: pytest.CaptureFixture) -> None:
    path = folder / "made.labelme.json"
    document = json.loads(path.read_text())
    del document["shapes"][3:5]
    path.write_text(json.dumps(document))
    (folder / "stage.csv").write_text("old")
    assert main(["wafer", "import", str(folder), str(path)]) == 0
    out, err = capsys.readouterr()
    assert "2 removed (3, 4)" in out
    assert "10 sections, numbered anew" in out
    assert "run `emseg wafer stage` again" in err
    assert len(read_found(folder).sections) == 10
    assert (folder / "made.review.html").stat().st_size > 30_000


def test_without_its_image_the_files_are_written_all_the_same(folder: Path, capsys: pytest.CaptureFixture) -> None:
    (folder.parent / "wafer.png").unlink()
    assert main(["wafer", "import", str(folder), str(folder / "made.geojson"), "--out", str(folder.parent / "b")]) == 0
    out, err = capsys.readouterr()
    assert "no changes" in out
    assert "the review sheet was not written again: no image" in err
    assert len(list((folder.parent / "b").iterdir())) == 9


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("missing.json", "does not exist"),
        ("../wafer.png", "it is an image"),
        ("made.csv", "it is none of them"),
        ("made.found.json", "is a result itself"),
    ],
)
def test_what_cannot_be_imported_is_one_sentence(
    folder: Path, file: str, message: str, capsys: pytest.CaptureFixture
) -> None:
    before = (folder / "made.found.json").read_bytes()
    assert main(["wafer", "import", str(folder), str(folder / file)]) == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert (folder / "made.found.json").read_bytes() == before


def test_a_corrected_result_is_not_found_again(folder: Path, capsys: pytest.CaptureFixture) -> None:
    """Finding again in its folder would replace what a person did."""
    (folder / "tiles").mkdir()
    (folder / "tiles" / "settings.json").write_text("{}")
    assert main(["wafer", "import", str(folder), str(folder / "made.geojson")]) == 0
    assert main(["wafer", "find", str(folder.parent / "wafer.png"), "--out", str(folder)]) == 2
    assert "a result that a person corrected" in capsys.readouterr().err


def test_finding_writes_the_review_sheet_beside_the_files(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """All in one call, the sheet with the number that was expected; the network is replaced by a drawn result."""
    finder = type("Finder", (), {"class_names": ("good", "incomplete", "fold", "damaged")})()
    monkeypatch.setattr("emseg.wafer.navigation.finder.load_finder", lambda weights, device: finder)
    monkeypatch.setattr("emseg.wafer.navigation.find.find_sections", lambda wafer, finder, **known: found_wafer())
    out = tmp_path / "new"
    assert main(["wafer", "find", str(tmp_path / "wafer.png"), "--out", str(out), "--expected", "14"]) == 0
    assert '"expected": 14' in (out / "made.review.html").read_text()
    assert len(list(out.iterdir())) == 10
    assert "made.review.html" in capsys.readouterr().out
