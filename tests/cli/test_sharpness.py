"""`emseg sharpness`, as a user calls it: exit codes, what goes to stdout, what to stderr."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from PIL import Image

from emseg.cli import main
from emseg.sharpness import INDEX_NAMES, sharpness, survey


def image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (20, 30), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in (1, 2, 10):
        Image.fromarray(image(number)).save(tmp_path / f"section_{number}.png")
    return tmp_path


def test_json_holds_every_value_of_every_image_in_natural_order(folder, capsys):
    assert main(["sharpness", str(folder), "--json", "--pixel-size-nm", "2.18"]) == 0
    output = capsys.readouterr()
    rows = json.loads(output.out)
    assert [Path(row["image"]).name for row in rows] == ["section_1.png", "section_2.png", "section_10.png"]
    assert output.err == ""
    for row, number in zip(rows, (1, 2, 10), strict=True):
        expected = sharpness(image(number), 2.18)
        assert (row["height"], row["width"], row["pixel_size_nm"], row["page"]) == (20, 30, 2.18, None)
        for name in INDEX_NAMES:
            assert row[name] == expected.raw()[name]
            assert row[f"{name}_per_pixel"] == expected.per_pixel()[name]
            assert row[f"{name}_per_um2"] == expected.per_um2()[name]


def test_csv_has_the_columns_of_the_json(folder, capsys):
    main(["sharpness", str(folder), "--json"])
    from_json = json.loads(capsys.readouterr().out)
    assert main(["sharpness", str(folder), "--csv"]) == 0
    from_csv = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [list(row) for row in from_csv] == [list(row) for row in from_json]
    assert [row["image"] for row in from_csv] == [row["image"] for row in from_json]
    assert float(from_csv[0]["smd2_per_pixel"]) == from_json[0]["smd2_per_pixel"]
    assert from_csv[0]["smd2_per_um2"] == ""


@pytest.mark.parametrize(("per", "values"), [("pixel", "per_pixel"), ("image", "raw"), ("um2", "per_um2")])
def test_the_table_is_aligned_and_says_its_unit(folder, capsys, per, values):
    assert main(["sharpness", str(folder), "--per", per, "--pixel-size-nm", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert len({len(line) for line in lines[:4]}) == 1
    expected = getattr(sharpness(image(1), 4.0), values)()
    assert lines[1].split()[-7:] == [f"{value:.5g}" for value in expected.values()]
    assert "squared grey levels" in lines[-1]


@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"]])
def test_a_bad_file_is_named_and_the_others_are_measured(folder, capsys, form):
    (folder / "section_2.png").write_bytes((folder / "section_1.png").read_bytes()[:100])
    assert main(["sharpness", str(folder), str(folder / "none.tif"), *form]) == 1
    output = capsys.readouterr()
    assert "section_10.png" in output.out
    assert "section_2.png" not in output.out
    problems = output.err.splitlines()
    assert len(problems) == 2
    assert problems[0].endswith("none.tif does not exist. Check the name and the folder.")
    assert "section_2.png is a truncated or damaged PNG file" in problems[1]
    assert "Traceback" not in output.err
    if form == ["--json"]:
        assert len(json.loads(output.out)) == 2


@pytest.mark.parametrize("options", [(), ("--recursive",)])
def test_a_folder_of_one_zarr_array_is_measured_once(tmp_path, capsys, options):
    """Also a group with its pyramid, of which `--recursive` takes no level by itself."""
    group = zarr.create_group(tmp_path / "a.zarr")
    group.create_array("0", shape=(20, 30), dtype="u1")[:] = np.arange(600).reshape(20, 30) % 251
    assert main(["sharpness", str(tmp_path), "--json", *options]) == 0
    assert [Path(one["image"]).name for one in json.loads(capsys.readouterr().out)] == ["a.zarr"]


def test_nothing_to_measure_is_still_valid_json(tmp_path, capsys):
    assert main(["sharpness", str(tmp_path), "--json"]) == 1
    output = capsys.readouterr()
    assert json.loads(output.out) == []
    assert "it contains none" in output.err


def test_an_interrupted_run_keeps_what_it_measured(folder, capsys, monkeypatch):
    """The JSON array is closed after the images that were done."""

    def interrupted(*args, **kwargs):
        measurements = survey(*args, **kwargs)
        yield next(measurements)
        raise KeyboardInterrupt

    monkeypatch.setattr("emseg.sharpness.survey", interrupted)
    assert main(["sharpness", str(folder), "--json"]) == 130
    assert [Path(row["image"]).name for row in json.loads(capsys.readouterr().out)] == ["section_1.png"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--per", "um2"], "needs the pixel size"),
        (["--pixel-size-nm", "0"], "greater than 0 nm"),
        (["--pixel-size-nm", "nan"], "greater than 0 nm"),
        (["--pixel-size-nm=-4"], "greater than 0 nm"),
    ],
)
def test_a_wrong_request_exits_with_2_in_one_sentence(folder, capsys, options, message):
    assert main(["sharpness", str(folder), *options]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert message in output.err
    assert len(output.err.splitlines()) == 1


@pytest.mark.parametrize("arguments", [[], ["x.png", "--json", "--csv"], ["x.png", "--axis", "z"], ["x.png", "--jso"]])
def test_argparse_refuses_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["sharpness", *arguments])
    assert stopped.value.code == 2
    assert capsys.readouterr().out == ""
