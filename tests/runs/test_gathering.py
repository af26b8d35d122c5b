"""A chapter of results finds all records of another chapter, each once."""

import math
from pathlib import Path

import pytest
from book.staged import metric, record

from emseg.errors import InputError
from emseg.runs.digest import code_digests
from emseg.runs.gathering import gather_records, records_frame, write_record
from emseg.runs.project import find_chapter


def test_kept_records_and_cells_are_found_once_without_tests(tmp_path: Path):
    """A cell that was kept lies in two places; records of other chapters and of `smoke` do not belong."""
    first, second = (record("part/first", "lab", ["synthetic"], day, m=metric(1.0)) for day in (3, 2))
    other = record("part/second", "lab", ["synthetic"], 4, m=metric(1.0))
    test = record("part/first", "smoke", ["synthetic"], 5, m=metric(1.0))
    cell = tmp_path / "_build" / "matrix" / "lab" / "m" / "part" / "first"
    kept = tmp_path / "book" / "results" / "part" / "first"
    for path, one in [
        (cell / "a.json", first),
        (cell / "b.json", test),
        (kept / "lab" / "a.json", first),
        (kept / "lab.json", second),
        (kept.with_name("second") / "lab.json", other),
    ]:
        write_record(path, one)
    assert [one["run_id"] for one in gather_records(tmp_path, "part/first")] == [second["run_id"], first["run_id"]]
    assert gather_records(tmp_path / "nowhere", "part/first") == []


def test_records_become_one_table_with_a_row_for_each(project: Path):
    """Parameters, metrics and facts of the run side by side; what a run lacks is NaN; today's code is recognized."""
    old = record("part/first", "lab", ["synthetic", "real"], 2, m=metric(1.0), n=metric(2.0))
    new = record("part/first", "lab", [], 3, m=metric(3.0))
    new["digests"] = code_digests(find_chapter(project, "part/first"))
    for name, one in {"old": old, "new": new}.items():
        write_record(project / "book" / "results" / "part" / "first" / "lab" / f"{name}.json", one)
    frame = records_frame("part/first", project)
    assert list(frame.index) == [old["run_id"], new["run_id"]]
    assert list(frame["metrics"]["m"]) == [1.0, 3.0]
    assert math.isnan(frame["metrics", "n"].iloc[1])
    assert list(frame["parameters"]["factors"]) == [[2, 4], [2, 4]]
    assert list(frame["run"]["data_kind"]) == ["real+synthetic", "none"]
    assert list(frame["run", "current"]) == [False, True]
    assert frame["run", "record"].iloc[0] == old
    assert records_frame([], project).empty


BAD = {"half": '{"schema": 1', "foreign": '{"kind": "foreign"}', "deep": "[" * 100_000 + "]" * 100_000}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_a_file_that_is_no_record_is_reported_in_a_build_and_refused_among_the_committed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
):
    """What a killed process or another program left in `_build` hides no record."""
    good = record("part/first", "lab", ["synthetic"], 1, m=metric(1.0))
    matrix, kept = (tmp_path / folder / "part" / "first" for folder in ("_build/matrix", "book/results"))
    write_record(matrix / "good.json", good)
    (matrix / "bad.json").write_text(content)
    assert gather_records(tmp_path, "part/first") == [good]
    said = capsys.readouterr().err
    assert said.startswith("emseg: skipped ")
    assert "bad.json" in said
    assert said.count("\n") == 1
    kept.mkdir(parents=True)
    (kept / "bad.json").write_text(content)
    with pytest.raises(InputError, match=r"bad\.json"):
        gather_records(tmp_path, "part/first")
