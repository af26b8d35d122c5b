"""`emseg score`, as a user calls it: matching by name, what is named, exit codes, table, lines, JSON and pictures."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from emseg.cli import main
from emseg.membrane.scoring import ScoreSettings, score_image, summarize


def membrane(seed: int, shape: tuple[int, int] = (64, 80)) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 4)
    return np.abs(noise) < 0.1 * noise.std()


def label(mask: np.ndarray) -> np.ndarray:
    return np.where(mask, 0, 255).astype(np.uint8)


def save(image: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".tif":
        tifffile.imwrite(path, image, photometric="minisblack")
    else:
        Image.fromarray(image).save(path)
    return path


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for number in (1, 2, 10):
        save(label(membrane(number)), tmp_path / "truth" / f"{number}.png")
        save(label(np.roll(membrane(number), 1, 1)), tmp_path / "pred" / f"{number}.tif")
    return tmp_path / "pred", tmp_path / "truth"


def score(*arguments: object) -> int:
    return main(["score", *map(str, arguments)])


def test_json_holds_every_score_of_every_image_in_natural_order(folders, capsys):
    assert score(*folders, "--json", "--tolerance", "8nm", "--pixel-size-nm", "4") == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in found["images"]] == ["1", "2", "10"]
    settings = ScoreSettings(tolerance_px=2, pixel_size_nm=4)
    expected = [score_image(np.roll(membrane(n), 1, 1), membrane(n), settings) for n in (1, 2, 10)]
    for one, scores in zip(found["images"], expected, strict=True):
        assert {name: one[name] for name in scores.row()} == scores.row()
        assert (one["kind"], one["height"], one["width"]) == ("label", 64, 80)
    for name, spread in summarize(expected).items():
        assert found["summary"][name]["mean"] == pytest.approx(spread.mean)
        assert (found["summary"][name]["sd"], found["summary"][name]["n"]) == (pytest.approx(spread.sd), 3)
    assert found["settings"]["tolerance_px"] == 2
    assert found["problems"] == []
    assert found["best_threshold"] == {}


def test_the_table_gives_mean_deviation_and_number_of_images(folders, capsys):
    assert score(*folders) == 0
    lines = capsys.readouterr().out.splitlines()
    f1 = [score_image(np.roll(membrane(n), 1, 1), membrane(n)).membrane.f1 for n in (1, 2, 10)]
    row = next(line for line in lines if line.startswith("  membrane F1"))
    mean, sd, lowest, highest = (f"{value:.4f}" for value in (np.mean(f1), np.std(f1, ddof=1), min(f1), max(f1)))
    assert row.split()[2:] == [mean, "±", sd, lowest, highest, "3"]
    assert "Pixels, within 3 px" in lines
    assert len({len(line) for line in lines if line.startswith("  ")}) == 1


def test_a_line_for_each_image_comes_first(folders, capsys):
    assert score(*folders, "--per-image") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("image")
    assert [line.split()[0] for line in lines[1:4]] == ["1", "2", "10"]
    assert lines[4] == ""


def test_two_files_are_scored_and_one_image_has_no_deviation(folders, capsys):
    assert score(folders[0] / "1.tif", folders[1] / "1.png", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["summary"]["v_rand"]["sd"] is None
    assert found["summary"]["assd_nm"] == {"mean": None, "sd": None, "lowest": None, "highest": None, "n": 0}


def test_probability_maps_are_named_and_get_a_best_threshold(tmp_path, capsys):
    truth = save(label(membrane(3)), tmp_path / "truth.png")
    dark = np.where(membrane(3), 100, 240).astype(np.uint8)  # p = 0.61 on membrane, 0.06 elsewhere
    for image, name in ((dark, "grey.png"), ((dark / 255).astype(np.float32), "float.tif")):
        assert score(save(image, tmp_path / name), truth, "--json") == 0
        found = json.loads(capsys.readouterr().out)
        assert found["images"][0]["kind"] == "probability map"
        assert "are probability maps" in found["notes"][0]
        assert found["summary"]["membrane_f1"]["mean"] == 1.0
        assert found["best_threshold"]["v_rand"]["threshold"] == 0.6
        assert len(found["images"][0]["at_thresholds"]) == 11
        assert score(tmp_path / name, truth, "--threshold", "0.7", "--no-best-threshold", "--json") == 0
        found = json.loads(capsys.readouterr().out)
        assert found["summary"]["membrane_recall"]["mean"] == 0.0
        assert found["best_threshold"] == {}


def test_a_lossy_label_is_a_label(tmp_path, capsys):
    mask = membrane(4)
    lossy = np.where(mask, 5, 250) + np.random.default_rng(0).integers(-2, 3, mask.shape)
    truth = save(lossy.astype(np.uint8), tmp_path / "truth.png")
    assert score(save(lossy.astype(np.uint8), tmp_path / "pred.png"), truth, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["images"][0]["kind"] == "lossy label"
    assert found["summary"]["membrane_f1"]["mean"] == 1.0


def test_polarity_is_asked_for_and_never_guessed(tmp_path, capsys):
    dark, bright = label(membrane(5)), 255 - label(membrane(5))
    dark, bright = save(dark, tmp_path / "dark.png"), save(bright, tmp_path / "bright.png")
    assert score(bright, dark) == 1
    assert "bright.png looks inverted: its correlation with the truth is -1.00" in capsys.readouterr().err
    assert score(bright, bright) == 1
    assert "bright.png looks inverted: dark pixels are" in capsys.readouterr().err
    for arguments in ((bright, dark, "--membrane", "bright"), (dark, bright, "--truth-membrane", "bright")):
        assert score(*arguments, "--json") == 0
        assert json.loads(capsys.readouterr().out)["summary"]["membrane_f1"]["mean"] == 1.0


def test_an_inverted_poor_prediction_of_rare_membrane_is_scored_and_named(tmp_path, capsys):
    truth = np.zeros((50, 80), bool)
    truth[::20] = True  # 6 %; the prediction below correlates with it by -0.06 only
    wrong = np.random.default_rng(0).random(truth.shape) < np.where(truth, 0.2, 0.06)
    truth, poor = save(label(truth), tmp_path / "t.png"), save(label(~wrong), tmp_path / "poor.png")
    assert score(poor, truth, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["images"][0]["may_be_inverted"] is True
    assert "1 of 1 predictions may be inverted (poor): 93% of poor is membrane" in found["notes"][0]
    inverted_f1 = f"would be {score_image(wrong, np.asarray(Image.open(truth)) == 0).membrane.f1:.2f}, not 0."
    assert inverted_f1 in found["notes"][0]
    assert score(poor, truth) == 0
    assert "note: 1 of 1 predictions may be inverted" in capsys.readouterr().err
    assert score(poor, truth, "--membrane", "bright", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["images"][0]["may_be_inverted"], found["notes"]) == (False, [])


def test_one_bit_files_grey_palettes_and_wide_integers_are_scored_as_the_same_labels(tmp_path, capsys):
    mask = membrane(8)
    truth = save(label(mask), tmp_path / "t.png")
    palette = Image.fromarray(mask.astype(np.uint8)).convert("P")
    palette.putdata(mask.astype(int).ravel().tolist())
    palette.putpalette([255, 255, 255, 0, 0, 0])
    palette.save(tmp_path / "palette.png")
    save(~mask, tmp_path / "one_bit.png")
    save(~mask, tmp_path / "one_bit.tif")
    save(label(mask).astype(np.int32), tmp_path / "integers.tif")
    for name in ("palette.png", "one_bit.png", "one_bit.tif", "integers.tif"):
        for pair in ((tmp_path / name, truth), (truth, tmp_path / name)):
            assert score(*pair, "--json") == 0
            found = json.loads(capsys.readouterr().out)
            assert (found["images"][0]["kind"], found["summary"]["membrane_f1"]["mean"]) == ("label", 1.0)


def test_every_file_that_cannot_be_scored_is_named_and_the_others_are_scored(folders, capsys):
    pred, truth = folders
    mask = membrane(1)
    wrong = {
        "size": (label(mask[:-1]), "size.png must have the size of its truth; it is 63 x 80"),
        "colour": (
            np.stack([label(mask), *2 * [label(mask) // 2 + 7]], -1),
            "colour.png must be grey; it is a colour image",
        ),
        "deep": (label(mask).astype(np.uint16) * 257, "deep.png must be 8-bit or float in 0 to 1; it is 16-bit"),
        "inverted": (255 - label(mask), "inverted.png looks inverted"),
        "zero_one": (label(mask) // 255, "zero_one.png must use the greys 0 to 255; it holds 0 and 1 only"),
    }
    for name, (image, _) in wrong.items():
        save(image, pred / f"{name}.png")
        save(label(mask), truth / f"{name}.png")
    save(label(mask).astype(np.float32), pred / "logits.tif")
    save(label(mask), truth / "logits.tif")
    save(label(mask), pred / "extra.png")
    save(label(mask), truth / "missing.png")
    save(label(mask), pred / "1.png")
    assert score(pred, truth, "--json") == 1
    output = capsys.readouterr()
    found = json.loads(output.out)
    assert {one["name"] for one in found["images"]} == {"1", "2", "10"}
    sentences = [sentence for _, sentence in wrong.values()] + [
        "logits.tif must hold probabilities in 0 to 1; it holds 0 to 255",
        "extra.png has no truth",
        "missing.png has no prediction",
        "1.tif has the same name as",
    ]
    for sentence in sentences:
        assert sum(sentence in problem for problem in found["problems"]) == 1, sentence
        assert sentence in output.err
    assert len(found["problems"]) == len(sentences)


def test_a_folder_without_images_is_named_with_a_repair_that_this_command_has(folders, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert score(tmp_path / "empty", folders[1]) == 1
    error = capsys.readouterr().err
    assert "empty holds no images. Name the folder whose files are to be scored." in error
    assert "--recursive" not in error


def test_a_truth_that_is_an_image_is_refused(tmp_path, capsys):
    image = np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)
    assert score(save(label(membrane(1, (40, 40))), tmp_path / "p.png"), save(image, tmp_path / "t.png")) == 1
    assert "must be a label; most of its pixels are grey" in capsys.readouterr().err


def test_pages_of_a_tiff_are_scored_one_by_one(tmp_path, capsys):
    stack = np.stack([label(membrane(n)) for n in range(3)])
    pred, truth = save(stack, tmp_path / "p.tif"), save(stack, tmp_path / "t.tif")
    assert score(pred, truth, "--json") == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)["images"]] == ["p#0", "p#1", "p#2"]
    assert score(pred, save(stack[:2], tmp_path / "short.tif")) == 1
    assert "must have as many pages" in capsys.readouterr().err


def test_the_competitions_refusals_are_a_note_and_on_request_an_error(tmp_path, capsys):
    thick = save(label(ndimage.binary_dilation(membrane(6), iterations=2)), tmp_path / "thick.png")
    assert score(thick, thick) == 0
    assert "competition's script would refuse 1 of 1 predictions" in capsys.readouterr().err
    assert score(thick, thick, "--as-competition") == 1
    assert "thick.png would be refused by the competition" in capsys.readouterr().err


def test_pictures_show_false_positives_red_and_false_negatives_blue(folders, tmp_path):
    assert score(*folders, "--maps", tmp_path / "maps", "--tolerance", "0px") == 0
    picture = np.asarray(Image.open(tmp_path / "maps" / "1_errors.png").convert("RGB"))
    truth, prediction = membrane(1), np.roll(membrane(1), 1, 1)
    assert {tuple(map(int, pixel)) for pixel in picture[prediction & ~truth]} == {(213, 94, 0)}
    assert {tuple(map(int, pixel)) for pixel in picture[truth & ~prediction]} == {(0, 114, 178)}
    assert {tuple(map(int, pixel)) for pixel in picture[~truth & ~prediction]} == {(255, 255, 255)}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("pred", "nowhere"), 1, "nowhere does not exist"),
        (("pred", "truth/1.png"), 2, "two files or two folders"),
        (("pred", "truth", "--tolerance", "3mm"), 2, "--tolerance must be a radius such as 3px or 12nm; got '3mm'"),
        (("pred", "truth", "--tolerance", "12nm"), 2, "--tolerance in nm needs the pixel size"),
        (("pred", "truth", "--tolerance=-1"), 2, "`tolerance_px` must be at least 0; got -1.0"),
        (("pred", "truth", "--pixel-size-nm", "0"), 2, "`pixel_size_nm` must be greater than 0; got 0.0"),
        (("pred", "truth", "--threshold", "2"), 2, "`threshold` must be at most 1; got 2.0"),
        (("pred", "truth", "--maps", "truth"), 2, "--maps must not be the folder of PRED or TRUTH"),
        (
            ("pred", "other"),
            1,
            "in other, as it must apart from the extension; 1.tif, for example, is nearest to z.png. Rename",
        ),
        (
            ("near", "other"),
            1,
            "my_else.tif, for example, is nearest to else.png. Did you mean 'else'? Rename the files",
        ),
        (("pred", "empty"), 1, "nothing to score: there is no image in empty."),
        (("stacks", "other"), 1, "nothing to score: no file in stacks is a pair with the file of its name in other."),
        (("stacks/else.tif", "other/else.png"), 1, "stacks/else.tif and other/else.png are no pair."),
    ],
)
def test_wrong_requests_end_in_one_sentence(folders, monkeypatch, capsys, arguments, code, message):
    monkeypatch.chdir(folders[0].parent)
    Path("empty").mkdir()
    save(label(membrane(1)), Path("other") / "else.png")
    save(label(membrane(1)), Path("other") / "z.png")
    save(label(membrane(1)), Path("near") / "my_else.tif")
    save(np.stack([label(membrane(1))] * 2), Path("stacks") / "else.tif")
    assert score(*arguments) == code
    assert message in capsys.readouterr().err.splitlines()[-1]
