"""`emseg wafer` makes, cuts and shows; whatever is wrong is one sentence and an exit code."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from emseg.cli import main
from emseg.wafer.annotated_wafer import read_annotated_wafer
from emseg.wafer.formats.benchmark_folder import open_benchmark

SIZE = ["--height", "300", "--width", "420", "--section-length", "40", "--seed", "5", "--pixel-size-um", "4"]


@pytest.fixture(scope="module")
def wafer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One synthetic wafer, made by the command."""
    folder = tmp_path_factory.mktemp("wafer")
    assert main(["wafer", "synthesize", str(folder), "--name", "one", *SIZE]) == 0
    return folder


def test_a_synthetic_wafer_comes_with_its_truth_in_three_formats(wafer: Path) -> None:
    assert {path.name for path in wafer.iterdir()} == {"one.png", "one.coco.json", "one.magc", "one.mass.json"}
    centers = []
    for name in ("one.coco.json", "one.magc", "one.mass.json"):
        image, sections = read_annotated_wafer(wafer / "one.png", wafer / name)
        assert image.shape == (300, 420)
        centers.append([section.center for section in sections.sections])
    np.testing.assert_allclose(centers[0], centers[1], atol=0.1)
    np.testing.assert_allclose(centers[0], centers[2], atol=0.1)


def test_the_same_seed_gives_the_same_files(wafer: Path, tmp_path: Path) -> None:
    assert main(["wafer", "synthesize", str(tmp_path), "--name", "one", *SIZE]) == 0
    for path in wafer.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_a_preset_makes_a_benchmark_once_and_tells_its_leak(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["wafer", "synthesize", str(tmp_path / "smoke"), "--preset", "smoke"]
    assert main(command) == 0
    first = capsys.readouterr().out
    assert "10 tiles to train" in first
    assert first.count("), 0.0 % of the validation pixels") == 2  # region and wafer
    assert main(command) == 0
    assert capsys.readouterr().out == first


def test_wafers_are_cut_into_a_folder_that_opens(
    wafer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = ["--wafer", str(wafer / "one.png"), str(wafer / "one.magc")]
    assert main(["wafer", "tiles", str(tmp_path / "cut"), *pair, "--tile", "128", "--pixel-size-um", "4"]) == 0
    made = open_benchmark(tmp_path / "cut")
    assert (made.class_names, made.pixel_size_um, list(made.splits)) == (("section",), 4.0, ["region"])
    output = capsys.readouterr().out
    assert f"fingerprint {made.fingerprint}" in output
    assert f"{len(made.read('region', 'train').images)} tiles to train" in output


def test_tiles_without_sections_are_left_out_on_request_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = ["wafer", "synthesize", str(tmp_path / "sparse"), "--height", "512", "--width", "512", "--sections", "2"]
    assert main(one) == 0
    pair = ["--wafer", *(str(tmp_path / "sparse" / f"wafer.{kind}") for kind in ("png", "magc"))]
    counts = {}
    for flags in ((), ("--keep-empty",), ("--drop-empty",)):
        folder = tmp_path / ("cut" + "".join(flags))
        assert main(["wafer", "tiles", str(folder), *pair, "--tile", "128", "--split", "crops", *flags]) == 0
        counts[flags] = len(list((folder / "images").iterdir()))
    assert counts[()] == counts["--keep-empty",] > counts["--drop-empty",]


def test_a_16_bit_wafer_is_cut_with_a_grey_range(
    wafer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grey = cv2.imread(str(wafer / "one.png"), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(tmp_path / "deep.png"), grey.astype(np.uint16) * 100)
    cut = ["wafer", "tiles", str(tmp_path / "cut"), "--tile", "128"]
    pair = ["--wafer", str(tmp_path / "deep.png"), str(wafer / "one.coco.json")]
    assert main([*cut, *pair]) == 1
    assert "--grey-range" in capsys.readouterr().err
    assert main([*cut, *pair, "--grey-range", "0", "25500"]) == 0
    name = next((tmp_path / "cut" / "images").iterdir()).name
    row, column = (int(part[1:]) for part in name.removesuffix(".png").split("_")[1:])
    tile = cv2.imread(str(tmp_path / "cut" / "images" / name), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(tile, grey[row : row + 128, column : column + 128])


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_a_wafer_and_tiles_are_shown(wafer: Path, tmp_path: Path, suffix: str) -> None:
    picture = tmp_path / f"wafer.{suffix}"
    assert main(["wafer", "show", str(wafer / "one.png"), str(wafer / "one.coco.json"), "--out", str(picture)]) == 0
    if suffix == "png":
        colours = np.asarray(Image.open(picture).convert("RGB")).astype(int)
        green = (np.abs(colours - (0x00, 0x9E, 0x73)) < 40).all(axis=2)  # outlines of the class "good"
        assert green.sum() > 500
    else:
        assert "#009e73" in picture.read_text()
    pair = ["--wafer", str(wafer / "one.png"), str(wafer / "one.coco.json")]
    assert main(["wafer", "tiles", str(tmp_path / "cut"), *pair, "--tile", "128"]) == 0
    assert main(["wafer", "show", str(tmp_path / "cut"), "--n-tiles", "3", "--out", str(picture)]) == 0
    assert picture.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            "synthesize OUT --preset labtop",
            2,
            "'paper'; got 'labtop'. Did you mean 'laptop'",
        ),
        ("synthesize OUT --preset smoke --height 300", 2, "--height is for one wafer"),
        ("synthesize OUT --workers 2", 2, "--workers is for a benchmark"),
        ("synthesize OUT --tissue liver", 2, "`tissue` must be one of 'scn', 'zebrafish'; got 'liver'"),
        ("synthesize OUT --name a/b", 2, "a wafer's name must be letters"),
        ("synthesize OUT --seed -1", 2, "`seed` must"),
        ("tiles OUT --wafer IMAGE MAGC --tile 4000", 2, "a tile must fit|each region must be at least a tile wide"),
        ("tiles OUT --wafer IMAGE MAGC --overlap 10", 2, "For 10 % give 0.1"),
        ("tiles OUT --wafer IMAGE MAGC --split regions", 2, "got 'regions'. Did you mean 'region'"),
        (
            "tiles OUT --wafer IMAGE MAGC --tile 128 --split wafer --validation two",
            2,
            "wafers that have tiles; got two",
        ),
        ("tiles OUT --wafer IMAGE MAGC --tile 128 --wafer IMAGE MAGC", 2, "wafers must have different names"),
        ("tiles OUT --wafer IMAGE COCO --classes good fold", 1, "the classes must be good, fold"),
        ("tiles OUT --wafer MAGC IMAGE", 1, "it is an image"),
        ("tiles OUT --wafer NOWHERE MAGC", 1, "nowhere.png does not exist"),
        ("show IMAGE --out a.png", 2, "an image needs its annotations"),
        ("show IMAGE MAGC --out a.gif", 2, "must end with .png, .svg or .pdf"),
        ("show OUT MAGC --out a.png", 1, "out does not exist"),
        ("show FOLDER MAGC --out a.png", 2, "a COCO folder has its own annotations"),
        ("show FOLDER --out a.png", 1, "no annotations for train"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    arguments: str, code: int, message: str, wafer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {
        "OUT": tmp_path / "out",
        "IMAGE": wafer / "one.png",
        "MAGC": wafer / "one.magc",
        "COCO": wafer / "one.coco.json",
        "NOWHERE": tmp_path / "nowhere.png",
        "FOLDER": tmp_path,
    }
    words = [str(places.get(word, word)) for word in arguments.split()]
    assert main(["wafer", *words]) == code
    error = capsys.readouterr().err.splitlines()
    assert error[-1].startswith("emseg: ")
    assert any(part in error[-1] for part in message.split("|"))
    assert not (tmp_path / "out").exists()


def test_an_image_of_a_user_whose_size_the_file_does_not_know_is_named(
    wafer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((wafer / "one.coco.json").read_text())
    content["images"][0]["width"] = 421
    (tmp_path / "wrong.json").write_text(json.dumps(content))
    command = ["wafer", "show", str(wafer / "one.png"), str(tmp_path / "wrong.json"), "--out", str(tmp_path / "a.png")]
    assert main(command) == 1
    assert "300 x 421 px by its outlines, the image 300 x 420" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["synthesize", "tiles", "show"])
def test_help_is_there(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["wafer", command, "--help"])
    assert stop.value.code == 0
    assert "example" in capsys.readouterr().out


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What `train_finder` was asked for; it trains nothing and answers with made scores."""
    from emseg.wafer.navigation import training

    asked: list[dict[str, Any]] = []
    scores = {"n_tiles": 9, "n_sections": 40, "found": 38, "missed": 2, "false": 1, "ap": 71.25, "ap50": 95.0}

    def made(source: Any, out: Path, **options: Any) -> Any:
        asked.append({"source": source, "out": out, **options})
        finder = SimpleNamespace(class_names=("section",), section_size_px=64.2)
        return SimpleNamespace(scores=scores, finder=finder, path=out / "sections.safetensors", notes=("as it is",))

    monkeypatch.setattr(training, "train_finder", made)
    return asked


def test_training_prints_scores_and_what_was_noted(
    wafer: Path, tmp_path: Path, trainings: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    pair = [str(wafer / "one.png"), str(wafer / "one.magc")]
    options = ["--steps", "40", "--columns", "0", "0.6", "--start-from", "shipped", "--seed", "3"]
    assert main(["wafer", "train", *pair, "--out", str(tmp_path), *options]) == 0
    printed = capsys.readouterr().out
    assert "In the validation columns, 38 of 40 sections were found" in printed
    assert "2 missed, and 1 found where none is" in printed
    assert "Note: as it is." in printed
    (asked,) = trainings
    assert (asked["columns"], asked["start_from"].name) == ((0.0, 0.6), "sections.safetensors")
    assert (asked["plan"].steps, asked["plan"].warm_up_steps, asked["plan"].seed) == (40, 4, 3)
    assert asked["source"][0][1].name == "one"


def test_a_folder_is_trained_on_as_it_is(tmp_path: Path, trainings: list[dict[str, Any]]) -> None:
    assert main(["wafer", "train", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    assert trainings[0]["source"] == tmp_path


def test_an_image_without_annotations_cannot_be_trained_on(
    wafer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["wafer", "train", str(wafer / "one.png"), "--out", str(tmp_path)]) == 2
    assert "Give IMAGE ANNOTATIONS" in capsys.readouterr().err
