"""A record follows its schema, and is written whole or not at all."""

import copy
import errno
import json
from pathlib import Path

import pytest

from emseg.errors import InputError
from emseg.runs.gathering import read_record, validate_record, write_record

RECORD = {
    "schema": 1,
    "run_id": "part-first-smoke-20260101T000000Z-00000000",
    "chapter": "part/first",
    "profile": "smoke",
    "parameters": {"seed": 0},
    "seeds": [0],
    "data": [{"name": "made up", "kind": "synthetic", "fingerprint": "none", "n_images": None, "pixel_size_nm": 2.18}],
    "digests": {"notebook": "ab12", "library": "cd34"},
    "code": {"commit": None, "tree_clean": None},
    "environment": {
        "python": "3.11.7",
        "platform": "Linux x86_64",
        "packages": {"numpy": "2.4"},
        "cuda": None,
        "device": "A processor",
        "device_kind": "cpu",
        "cores": 2,
    },
    "started": "2026-01-01T00:00:00Z",
    "finished": "2026-01-01T00:00:01Z",
    "wall_s": 1.0,
    "peak_memory": {"host": 100.0, "gpu": None},
    "metrics": {"scaled": {"value": 1.0, "unit": "1", "n": 2, "label": "Sum", "spread": None, "interval": [0.0, 2.0]}},
}


def test_a_good_record_survives_writing_and_reading(tmp_path: Path):
    write_record(tmp_path / "deep" / "record.json", RECORD)
    assert read_record(tmp_path / "deep" / "record.json") == RECORD
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["record.json"]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("data", 0, "kind"), "realistic", "at data/0/kind: 'realistic' is not one of"),
        (("metrics", "scaled", "n"), 0, "at metrics/scaled/n"),
        (("metrics", "scaled", "value"), "1", "at metrics/scaled/value"),
        (("code", "commit"), "abc", "at code/commit"),
        (("schema",), 2, "at schema"),
        (("run_id",), "a b", "at run_id"),
    ],
)
def test_what_the_schema_refuses_is_named(path, value, message):
    record = copy.deepcopy(RECORD)
    target = record
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    with pytest.raises(InputError, match=message):
        validate_record(record)


def test_a_missing_and_an_extra_key_are_refused():
    with pytest.raises(InputError, match="'wall_s' is a required property"):
        validate_record({key: value for key, value in RECORD.items() if key != "wall_s"})
    with pytest.raises(InputError, match="host"):
        validate_record({**RECORD, "host": "a"})


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """One sentence names the file and the repair; an older record stays as it was."""
    target = tmp_path / "record.json"
    write_record(target, RECORD)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match=r"record\.json could not be written: No space left on device"):
        write_record(target, {**RECORD, "wall_s": 9.0})
    assert json.loads(target.read_text())["wall_s"] == 1.0
    assert list(tmp_path.iterdir()) == [target]


def test_broken_json_is_named(tmp_path: Path):
    (tmp_path / "cut.json").write_text('{"schema": 1')
    with pytest.raises(InputError, match=r"cut\.json is no run record: it is not valid JSON"):
        read_record(tmp_path / "cut.json")
