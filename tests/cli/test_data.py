"""`emseg data`, as a user calls it: exit codes, what goes to stdout, what to stderr."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from data_sets.local_server import closed_address

from emseg.cli import main
from emseg.data import registry

CONTENTS = {"image/0.png": b"zero", "image/1.png": b"one"}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """`EMSEG_DATA`, which is empty; the registry holds one data set, `tiny`, at an address where nobody answers."""
    tiny = {
        "title": "two small files",
        "kind": "real",
        "terms": "do as you like",
        "citation": "nobody2026",
        "pixel_size_nm": None,
        "section_nm": None,
        "stand_in": None,
        "stand_in_note": "nothing replaces it",
        "sources": [closed_address()],
        "layout": {"image": "upstream"},
        "files": [f"{hashlib.sha256(content).hexdigest()} {len(content)} {path}" for path, content in CONTENTS.items()],
    }
    monkeypatch.setattr(registry, "read_registry", lambda: {"tiny": tiny})
    monkeypatch.setenv("EMSEG_DATA", str(tmp_path))
    monkeypatch.setenv("EMSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    registry.datasets.cache_clear()
    yield tmp_path
    registry.datasets.cache_clear()


@pytest.fixture
def tiny(root: Path) -> Path:
    """The data set's folder, complete."""
    (root / "tiny" / "image").mkdir(parents=True)
    for path, content in CONTENTS.items():
        (root / "tiny" / path).write_bytes(content)
    return root / "tiny"


@pytest.mark.parametrize("action", ["path", "fetch"])
def test_path_and_fetch_print_the_folder_alone_on_stdout(
    tiny: Path, capsys: pytest.CaptureFixture[str], action: str
) -> None:
    assert main(["data", action, "tiny"]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{tiny}\n"
    assert ("do as you like" in captured.err) == (action == "fetch")


def test_check_says_how_many_files_are_right(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", "tiny"]) == 0
    assert capsys.readouterr().out == f"tiny: 2 of 2 files are right in {tiny}\n"


def test_check_names_each_file_that_is_wrong_and_fails(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tiny / "image/0.png").write_bytes(b"zer")
    (tiny / "image/1.png").write_bytes(b"two")
    assert main(["data", "check", "tiny"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "image/0.png is truncated (3 of 4 bytes)"
    assert lines[1].startswith("image/1.png is altered (SHA-256")
    assert lines[2] == f"tiny: 0 of 2 files are right in {tiny}"


@pytest.mark.parametrize("action", ["path", "fetch", "check"])
def test_an_absent_set_is_one_line_on_stderr_and_exit_code_1(
    root: Path, capsys: pytest.CaptureFixture[str], action: str
) -> None:
    assert main(["data", action, "tiny"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"emseg: EMSEG_DATA is {root}, which contains no tiny")
    assert captured.err.count("\n") == 1


def test_path_never_downloads_and_fetch_offline_is_one_line(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("EMSEG_DATA")
    assert main(["data", "path", "tiny"]) == 1
    assert "run `emseg data fetch tiny`" in capsys.readouterr().err
    assert not (root / "cache").exists()
    assert main(["data", "fetch", "tiny"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("emseg: tiny cannot be fetched, for 127.0.0.1 cannot be reached")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("action", ["path", "fetch", "check"])
def test_a_misspelt_name_is_a_wrong_request(root: Path, capsys: pytest.CaptureFixture[str], action: str) -> None:
    assert main(["data", action, "tinny"]) == 2
    assert "Did you mean 'tiny'" in capsys.readouterr().err


def test_an_action_is_required(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["data"])
    assert "ACTION" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("present", "damaged", "where"),
    [(False, False, "not here"), (True, True, "1 of 2 files are wrong"), (True, False, "")],
)
def test_list_says_what_each_set_is_and_where(
    root: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
    present: bool,
    damaged: bool,
    where: str,
) -> None:
    folder = request.getfixturevalue("tiny") if present else root / "tiny"
    if damaged:
        (folder / "image/0.png").unlink()
    assert main(["data", "list"]) == 0
    table = capsys.readouterr().out
    for part in ("tiny", "two small files", "do as you like", where or str(folder)):
        assert part in table
    assert main(["data", "list", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["name"], row["n_files"], row["n_bytes"]) == ("tiny", 2, 7)
    assert row["folder"] == (str(folder) if present and not damaged else None)
    assert where in (row["problem"] or "")


def test_list_works_where_emseg_data_is_no_folder(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EMSEG_DATA", str(root / "nowhere"))
    assert main(["data", "list"]) == 0
    assert "not here" in capsys.readouterr().out
