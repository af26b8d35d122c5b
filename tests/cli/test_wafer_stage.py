"""`emseg wafer stage` writes micrometres of the stage; whatever is wrong is one sentence and an exit code."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from wafer.navigation.found_wafers import ribbon, section_at, wafer_of

from emseg.cli import main
from emseg.wafer.formats.magc import read_magc
from emseg.wafer.formats.mass_json import read_mass_json
from emseg.wafer.navigation.exports import read_found, write_wafer
from emseg.wafer.navigation.found import Region
from emseg.wafer.navigation.order import order_sections
from emseg.wafer.navigation.stage import read_landmarks

MARKS = np.array([(100.0, 100.0), (3900.0, 200.0), (3800.0, 3900.0), (150.0, 3700.0)])  # x, y in pixels


def to_um(points_xy):
    """The invented stage: 2 um a pixel, its y axis pointing up."""
    return np.asarray(points_xy) * (2.0, -2.0) + (5000.0, 9000.0)


@pytest.fixture
def folder(tmp_path):
    """A result with a ribbon of 6 sections, one of them folded, and a loose one."""
    sections = [*ribbon(6, 900, 900, 25), section_at(2500, 3000, -70)]
    sections[3] = replace(sections[3], label="fold")
    write_wafer(order_sections(wafer_of(sections, pixel_size_um=2.0), next_side=2), tmp_path / "found")
    return tmp_path / "found"


def landmarks(path, **columns):
    """A file of landmarks; `columns` replace its own."""
    x_um, y_um = to_um(MARKS).T
    table = {"name": list("ABCD"), "x_px": MARKS[:, 0], "y_px": MARKS[:, 1], "x_um": x_um, "y_um": y_um} | columns
    pd.DataFrame(table).to_csv(path, index=False)
    return str(path)


def test_the_stage_files_hold_sections_and_regions_in_um(folder, tmp_path, capsys):
    found = read_found(folder)
    roi = Region("roi", np.array([(-8.0, -8.0), (8.0, -8.0), (8.0, 8.0)]) + found.sections[2].corners.mean(0))
    drawn = replace(
        found, sections=tuple(replace(one, regions=(roi,) * (k == 2)) for k, one in enumerate(found.sections))
    )
    write_wafer(drawn, tmp_path / "drawn")
    marks = landmarks(tmp_path / "marks.csv")
    regions = ["--regions", str(tmp_path / "drawn" / "drawn.magc"), "--on", "2"]
    assert main(["wafer", "stage", str(folder), "--landmarks", marks, *regions]) == 0
    out = capsys.readouterr()
    assert out.out.startswith("similarity, 2 um a pixel; distance at each landmark, in um:\n  A  0.00  (0.00 when left")
    assert "stage path" in out.out
    assert "path in serial order" in out.out
    assert "the stage is mirrored" in out.err

    table = pd.read_csv(folder / "stage.csv").set_index("section")
    assert table.stage_place.tolist() == list(range(7))
    assert tuple(table.index) == found.stage_order
    assert table.serial_place[:6].isna().sum() + table.serial_place[6:].isna().sum() == 1
    for number, one in enumerate(found.sections):
        expected = to_um(np.vstack([one.corners.mean(0), one.corners])[:, ::-1]).ravel()
        np.testing.assert_allclose(table.loc[number].iloc[4:].astype(float), expected, atol=2e-3)
        corners = to_um(one.corners[:, ::-1])
        angle = np.degrees(np.arctan2(*(corners[1] - corners[0])[::-1]))
        assert table.angle_deg[number] == pytest.approx(angle, abs=2e-3)

    points = pd.read_csv(folder / "stage_regions.csv")
    assert points.groupby("section").size().tolist() == [3] * 7
    at_2 = points[points.section == 2][["x_um", "y_um"]]
    np.testing.assert_allclose(at_2, to_um(roi.points[:, ::-1]), atol=2e-3)

    magc, mass = read_magc(folder / "drawn.magc"), read_mass_json(folder / "drawn.mass.json")
    assert (len(magc.rois), len(magc.landmarks), magc.stage_order) == (7, 4, found.stage_order)
    assert [tuple(mark.location) for mark in magc.landmarks] == [tuple(mark) for mark in MARKS]
    assert all(len(one.rois) == 1 for one in mass.sections.values())
    again = read_landmarks(folder / "drawn.mass.json")  # in SBEMimage's terms source and target
    np.testing.assert_allclose(again.pixels, MARKS[:, ::-1])
    np.testing.assert_allclose(again.stage_um, to_um(MARKS))


def test_only_sections_of_a_class_are_written(folder, tmp_path):
    marks = landmarks(tmp_path / "marks.csv")
    assert main(["wafer", "stage", str(folder), "--landmarks", marks, "--class", "good"]) == 0
    table = pd.read_csv(folder / "stage.csv")
    assert set(table.section) == {0, 1, 2, 4, 5, 6}
    assert table.stage_place.tolist() == list(range(6))
    assert {item.number for item in read_magc(folder / "drawn.magc").sections} == {0, 1, 2, 4, 5, 6}
    assert len(read_found(folder).sections) == 7


def test_a_stated_side_orders_the_sections_anew(folder, tmp_path):
    marks = landmarks(tmp_path / "marks.csv")
    assert main(["wafer", "stage", str(folder), "--landmarks", marks, "--next-side", "0"]) == 0
    assert read_found(folder).serial_order == (5, 4, 3, 2, 1, 0)


def test_the_landmarks_of_the_wafer_are_used(folder, tmp_path):
    write_wafer(replace(read_found(folder), landmarks=MARKS[:, ::-1]), folder)
    landmarks(tmp_path / "marks.csv")
    table = pd.read_csv(tmp_path / "marks.csv").drop(columns=["x_px", "y_px"])
    table.to_csv(tmp_path / "short.csv", index=False)
    assert main(["wafer", "stage", str(folder), "--landmarks", str(tmp_path / "short.csv")]) == 0
    section = read_found(folder).sections[0].corners.mean(0)
    line = pd.read_csv(folder / "stage.csv").set_index("section").loc[0]
    assert (line.x_um, line.y_um) == pytest.approx(tuple(to_um(section[::-1])), abs=2e-3)


def test_a_wafer_without_sections_gives_empty_tables(tmp_path):
    write_wafer(order_sections(wafer_of([])), tmp_path / "found")
    marks = landmarks(tmp_path / "marks.csv")
    assert main(["wafer", "stage", str(tmp_path / "found"), "--landmarks", marks]) == 0
    assert len(pd.read_csv(tmp_path / "found" / "stage.csv")) == 0


@pytest.mark.parametrize(
    ("options", "columns", "code", "fault"),
    [
        (["--class", "godo"], {}, 2, "`--class` must be one of 'good', 'fold'; got 'godo'. Did you mean 'good'?"),
        (["--kind", "rigid"], {}, 2, "`kind` must be one of"),
        (["--next-side", "4"], {}, 2, "`next_side` must be a whole number from 0 to 3"),
        ([], {"name": ["A", "B", "B", "C"]}, 1, "must have different names"),
        ([], {"x_px": [0, 1000, 2000, 3000], "y_px": [0, 1000, 2000, 3000]}, 1, "must not be collinear"),
        (["--regions", "absent.magc"], {}, 1, "absent.magc"),
    ],
)
def test_faults_are_one_sentence_and_nothing_is_written(folder, tmp_path, capsys, options, columns, code, fault):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    marks = landmarks(tmp_path / "marks.csv", **columns)
    assert main(["wafer", "stage", str(folder), "--landmarks", marks, *options]) == code
    error = capsys.readouterr().err
    assert fault in error
    assert error.count("\n") == 1
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_swapped_pair_is_refused(folder, tmp_path, capsys):
    x_um, y_um = to_um(MARKS[[1, 0, 2, 3]]).T
    marks = landmarks(tmp_path / "marks.csv", x_um=x_um, y_um=y_um)
    assert main(["wafer", "stage", str(folder), "--landmarks", marks]) == 1
    assert "landmarks A and B seem to be swapped" in capsys.readouterr().err
    assert not (folder / "stage.csv").exists()
