"""A chapter of results finds all records of another chapter, each once."""

from pathlib import Path

from book.staged import metric, record

from emseg.runs.gathering import gather_records
from emseg.runs.record import write_record


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
