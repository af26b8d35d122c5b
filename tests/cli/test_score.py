"""`emseg score`, as a user calls it: matching by name, what is named, exit codes, table, lines, JSON and pictures."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
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
    dark[0, 0] = 101 if membrane(3)[0, 0] else 241  # of two values alone it would be a label
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
    deep = label(mask).astype(np.uint16) * 257
    deep[0, :9] = range(9)
    wrong = {
        "size": (label(mask[:-1]), "size.png must have the size of its truth; it is 63 x 80"),
        "colour": (np.stack([label(mask), label(~mask), label(mask)], -1), "colour.png must be grey"),
        "deep": (deep, "deep.png must be 8-bit or float in 0 to 1, because its pixels are integers (uint16)"),
        "inverted": (255 - label(mask), "inverted.png looks inverted"),
    }
    for name, (image, _) in wrong.items():
        save(image, pred / f"{name}.png")
        save(label(mask), truth / f"{name}.png")
    logits = label(mask).astype(np.float32)
    logits[0, 0] = 3.5
    save(logits, pred / "logits.tif")
    save(label(mask), truth / "logits.tif")
    save(label(mask), pred / "extra.png")
    save(label(mask), truth / "missing.png")
    save(label(mask), pred / "1.png")
    assert score(pred, truth, "--json") == 1
    output = capsys.readouterr()
    found = json.loads(output.out)
    assert {one["name"] for one in found["images"]} == {"1", "2", "10"}
    sentences = [sentence for _, sentence in wrong.values()] + [
        "logits.tif must contain probabilities in 0 to 1; it contains 0 to 255",
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
    assert "empty contains no images. Name the folder whose files are to be scored." in error
    assert "--recursive" not in error


def test_a_truth_that_is_an_image_is_refused(tmp_path, capsys):
    image = np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)
    assert score(save(label(membrane(1, (40, 40))), tmp_path / "p.png"), save(image, tmp_path / "t.png")) == 1
    assert "Is it the image or a probability map?" in capsys.readouterr().err


def test_pages_of_a_tiff_are_scored_one_by_one(tmp_path, capsys):
    stack = np.stack([label(membrane(n)) for n in range(3)])
    pred, truth = save(stack, tmp_path / "p.tif"), save(stack, tmp_path / "t.tif")
    assert score(pred, truth, "--json") == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)["images"]] == ["p#0", "p#1", "p#2"]
    assert score(pred, save(stack[:2], tmp_path / "short.tif")) == 1
    assert "must have as many pages" in capsys.readouterr().err


def test_two_folders_of_one_file_each_are_a_pair_image_by_image(tmp_path, capsys):
    """As ISBI 2012 is distributed: one stack of images, one of labels, of different names."""
    stack = np.stack([label(membrane(n)) for n in range(3)])
    save(stack, tmp_path / "pred" / "train-prediction.tif")
    save(stack, tmp_path / "truth" / "train-labels.tif")
    assert score(tmp_path / "pred", tmp_path / "truth", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in found["images"]] == [f"train-prediction#{n}" for n in range(3)]
    assert found["summary"]["v_rand"]["mean"] == 1.0


def test_a_zarr_array_is_a_file_and_one_of_a_folders_images(folders, tmp_path, capsys):
    for place in (tmp_path / "1.zarr", folders[0] / "1.zarr"):
        stored = zarr.create_array(place, shape=(64, 80), dtype="u1", chunks=(32, 32))
        stored[:] = label(membrane(1))
    (folders[0] / "1.tif").unlink()
    for pred, truth, names in ((tmp_path / "1.zarr", folders[1] / "1.png", ["1"]), (*folders, ["1", "2", "10"])):
        assert score(pred, truth, "--json") == 0
        images = json.loads(capsys.readouterr().out)["images"]
        assert [one["name"] for one in images] == names
        assert images[0]["membrane_f1"] == 1


def test_the_competitions_number_stands_beside_the_strict_one(tmp_path, capsys):
    """The program's sums by hand: t is the truth as it is stored, inverted, so that greys count as weights."""
    rng = np.random.default_rng(1)
    truth = np.where(membrane(6), rng.integers(0, 9, (64, 80)), rng.integers(247, 256, (64, 80))).astype(np.uint8)
    predicted = np.roll(membrane(6), 2, 1)
    paths = save(label(predicted), tmp_path / "p.png"), save(truth, tmp_path / "t.png")
    t, p = 255.0 - truth, predicted * 1.0
    precision, recall = (p * (t > 0)).sum() / p.sum(), (p * t).sum() / t.sum()
    f1 = 2 * precision * recall / (precision + recall)
    assert score(*paths, "--as-competition", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["summary"]["competition_f1"]["mean"] == pytest.approx(f1, abs=1e-12)
    assert found["images"][0]["competition_precision"] == pytest.approx(precision, abs=1e-12)
    strict = score_image(predicted, membrane(6)).membrane.f1
    assert found["summary"]["membrane_f1"]["mean"] == pytest.approx(strict)
    assert f1 > strict + 0.01
    assert score(*paths, "--as-competition") == 0
    table = capsys.readouterr().out
    assert (
        table.index("Pixels, by the competition's program") < table.index(f"{f1:.4f}") < table.index("Pixels, within")
    )
    assert score(save(255 - truth, tmp_path / "bright.png"), paths[1], "--membrane", "bright", "--as-competition") == 1
    assert "refused by the competition: it is a lossy label" in capsys.readouterr().err


def test_a_two_valued_truth_has_the_same_competition_number_whatever_its_values(tmp_path, capsys):
    prediction, found = save(label(np.roll(membrane(6), 1, 1)), tmp_path / "p.png"), []
    for low, high in ((0, 255), (0, 1), (1, 2)):
        truth = save(np.where(membrane(6), low, high).astype(np.uint8), tmp_path / f"{low}{high}.tif")
        assert score(prediction, truth, "--as-competition", "--json") == 0
        summary = json.loads(capsys.readouterr().out)["summary"]
        found.append((summary["competition_f1"]["mean"], summary["membrane_f1"]["mean"]))
    assert found[0] == found[1] == found[2]
    assert found[0][0] == pytest.approx(found[0][1])


NOTES = {
    **{
        f"constant {grey}": (
            np.full((64, 80), grey, np.uint8),
            None,
            "1 of 1 predictions are constant (p), thresholded",
        )
        for grey in (0, 127, 128, 255)
    },
    "no membrane": (
        None,
        np.full((64, 80), 255, np.uint8),
        "1 of 1 truths have no membrane (t-file-of-p): their recall",
    ),
    "raw": (
        np.random.default_rng(0).normal(130, 30, (64, 80)).clip(0, 255).astype(np.uint8),
        None,
        "1 of 1 predictions may be the image itself instead of a probability of membrane (p)",
    ),
}


@pytest.mark.parametrize("name", NOTES)
def test_what_would_mislead_is_noted(tmp_path, capsys, name):
    image, truth, note = NOTES[name]
    prediction = save(label(np.roll(membrane(4), 1, 1)) if image is None else image, tmp_path / "p.png")
    truth = save(label(membrane(4)) if truth is None else truth, tmp_path / "t.png")
    assert score(prediction, truth, "--json") == 0
    notes = json.loads(capsys.readouterr().out)["notes"]
    assert any(note.replace("t-file-of-p", "p") in one for one in notes), notes
    assert (
        score(save(label(np.roll(membrane(4), 1, 1)), tmp_path / "q.png"), save(label(membrane(4)), truth), "--json")
        == 0
    )
    assert json.loads(capsys.readouterr().out)["notes"] == []


def test_a_soft_probability_map_is_not_taken_for_the_image(tmp_path, capsys):
    soft = ndimage.gaussian_filter(membrane(4).astype(float), 2) * 0.8 + 0.05
    save((255 * (1 - soft)).astype(np.uint8), tmp_path / "p.png")
    assert score(tmp_path / "p.png", save(label(membrane(4)), tmp_path / "t.png"), "--json") == 0
    assert not [one for one in json.loads(capsys.readouterr().out)["notes"] if "image itself" in one]


def test_the_same_folder_twice_is_noted(folders, capsys):
    assert score(folders[1], folders[1], "--json") == 0
    assert "3 of 3 predictions are the truth's own file (1, 2, 10)" in json.loads(capsys.readouterr().out)["notes"][0]


def test_a_two_valued_truth_of_any_values_type_and_form_gives_the_same_scores(tmp_path, capsys):
    mask = membrane(5)
    bright = np.where(mask, 255, 0).astype(np.uint8)
    rgba = np.dstack([bright] * 3 + [np.full_like(bright, 255)])
    truths = {
        f"{low}_{high}.tif": np.where(mask, high, low).astype(np.uint8) for low, high in ((0, 2), (1, 2), (0, 100))
    }
    truths |= {f"{kind}.tif": np.where(mask, 1, 0).astype(kind) for kind in ("uint8", "uint16", "uint32", "float32")}
    truths |= {"wide.tif": bright.astype(np.uint16), "rgb.png": rgba[..., :3], "rgba.png": rgba, "plain.png": bright}
    prediction = save(label(np.roll(mask, 1, 1)), tmp_path / "prediction.png")
    rows = {}
    for name, image in truths.items():
        assert score(prediction, save(image, tmp_path / name), "--truth-membrane", "bright", "--json") == 0, name
        rows[name] = json.loads(capsys.readouterr().out)["summary"]
    expected = score_image(np.roll(mask, 1, 1), mask).row()
    assert rows["plain.png"]["membrane_f1"]["mean"] == expected["membrane_f1"] > 0.4
    assert all(row == rows["plain.png"] for row in rows.values())


def test_probabilities_that_rounding_took_past_one_are_clipped(tmp_path, capsys):
    truth = save(label(membrane(3)), tmp_path / "truth.png")
    soft = ndimage.gaussian_filter(membrane(3).astype(np.float32), 0.5)
    found = []
    for top in (1.0, 1.0000002):
        path = save(np.where(soft > 0.9, np.float32(top), soft), tmp_path / f"{top}.tif")
        assert score(path, truth, "--membrane", "bright", "--json") == 0
        found.append(json.loads(capsys.readouterr().out)["summary"])
    assert found[0] == found[1]


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_scored(folders, capsys):
    """Whatever the decoder raises: one bad file never ends a folder, and the exit code says so."""
    (folders[0] / "2.tif").write_bytes((folders[0] / "2.tif").read_bytes()[:300])
    assert score(*folders, "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in found["images"]] == ["1", "10"]
    assert len(found["problems"]) == 1
    assert "2.tif" in found["problems"][0]


def test_the_competitions_refusals_are_a_note_and_on_request_an_error(tmp_path, capsys):
    thick = save(label(ndimage.binary_dilation(membrane(6), iterations=2)), tmp_path / "thick.png")
    assert score(thick, thick) == 0
    assert "1 of 1 predictions would be refused by the U-RISC competition's program" in capsys.readouterr().err
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
        (("pred", "truth", "--threshold", "nan"), 2, "`threshold` must be finite; got nan."),
        (
            ("pred", "truth", "--maps", "truth/1.png/x"),
            1,
            "truth/1.png/x cannot be made: Not a directory. Name",
        ),
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
        (("stacks", "stack"), 1, "nothing to score: no file in stacks is a pair with the file of its name in stack."),
        (("stacks/else.tif", "other/else.png"), 1, "stacks/else.tif and other/else.png are not a pair."),
    ],
)
def test_wrong_requests_end_in_one_sentence(folders, monkeypatch, capsys, arguments, code, message):
    monkeypatch.chdir(folders[0].parent)
    Path("empty").mkdir()
    save(label(membrane(1)), Path("other") / "else.png")
    save(label(membrane(1)), Path("other") / "z.png")
    save(label(membrane(1)), Path("near") / "my_else.tif")
    save(np.stack([label(membrane(1))] * 2), Path("stacks") / "else.tif")
    save(np.stack([label(membrane(1))] * 3), Path("stack") / "other.tif")
    assert score(*arguments) == code
    assert message in capsys.readouterr().err.splitlines()[-1]
