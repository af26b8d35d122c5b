"""`emseg run`, `chapters` and `records` as a stranger meets them: exit codes, one sentence, nothing half-done."""

import json
from pathlib import Path

import pytest
from book.staged import metric, record

from emseg.cli import main


def _fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(list(arguments))
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert captured.err.startswith("emseg: ")
    assert captured.err.count("\n") == 1
    return code, captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["run", "part/frist"],
            "unknown chapter 'part/frist'; the chapters are: part/first, part/second. Did you mean 'part/first'?",
        ),
        (
            ["run", "part/first", "--profile", "smok"],
            "unknown profile 'smok'; the profiles are: smoke, laptop. Did you mean 'smoke'?",
        ),
        (["run", "part/first", "-p", "sede", "1"], "unknown parameter 'sede'. Did you mean 'seed'?"),
        (
            ["run", "part/first", "-p", "scale", "-2"],
            "parameter scale is out of range: got -2.0. Allowed: float, in (0, 10].",
        ),
        (["run", "part/first", "--name", "a/b"], "--name must be a plain file name"),
        (["run", "part/first", "-p", "seed", "1", "-p", "seed", "2"], "-p seed must be given once; got 2. Leave one."),
    ],
)
def test_a_wrong_request_is_exit_code_2_and_one_sentence(project, capsys, arguments, message):
    code, text = _fails(capsys, *arguments)
    assert code == 2
    assert message in text
    assert not (project / "_build").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [("[1, 2]", "must contain a mapping"), ("a: [", "is not valid YAML"), (None, "mine.yaml does not exist")],
)
def test_a_bad_parameter_file_is_exit_code_1(project, capsys, content, message):
    if content is not None:
        Path("mine.yaml").write_text(content)
    code, text = _fails(capsys, "run", "part/first", "-f", "mine.yaml")
    assert code == 1
    assert message in text


def test_a_file_of_parameters_is_checked_like_the_rest(project, capsys):
    Path("mine.yaml").write_text("scale: fast\n")
    code, text = _fails(capsys, "run", "part/first", "-f", "mine.yaml")
    assert code == 2
    assert "mine.yaml: parameter scale must be float; got 'fast'" in text


def test_dry_run_shows_the_resolved_parameters_and_runs_nothing(project, capsys):
    assert main(["run", "first", "--profile", "smoke", "-p", "seed", "3", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "seed: 3" in shown
    assert "scale: 2.0" in shown
    assert not (project / "_build").exists()


def test_an_output_folder_that_is_a_file_is_refused_before_the_run(project, capsys):
    Path("out").write_text("")
    code, text = _fails(capsys, "run", "part/first", "--out", "out")
    assert code == 1
    assert "must be a folder, and a file is in the way" in text


def test_missing_data_are_named_before_anything_runs(project, capsys, monkeypatch):
    """Two seconds of a kernel's start are nothing; an hour of training before the first image is read would be."""
    monkeypatch.delenv("EMSEG_DATA", raising=False)
    monkeypatch.setenv("EMSEG_CACHE", str(project / "empty"))
    code, text = _fails(capsys, "run", "part/first", "-p", "data", "isbi2012")
    assert code == 1
    assert "isbi2012 is not on this machine: run `emseg data fetch isbi2012`" in text
    assert not (project / "_build").exists()


def test_outside_a_project_the_repair_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("EMSEG_PROJECT", str(tmp_path))
    code, text = _fails(capsys, "chapters")
    assert code == 1
    assert "EMSEG_PROJECT must name the folder that contains _toc.yml and book/" in text


def test_chapters_lists_titles_profiles_and_cost(project, capsys):
    assert main(["chapters"]) == 0
    table = capsys.readouterr().out
    assert "The title of part/first" in table
    assert "smoke" in table
    assert main(["chapters", "--json"]) == 0
    listing = json.loads(capsys.readouterr().out)
    assert listing["chapters"][0]["expected_minutes"] == {"smoke": 0.1, "laptop": None}


@pytest.mark.filterwarnings("ignore")
def test_a_run_can_be_listed_checked_and_kept(project, capsys):
    assert main(["run", "part/first", "--profile", "laptop", "--quiet", "--name", "book"]) == 0
    record = project / "_build" / "runs" / "laptop" / "part" / "first" / "book.json"
    assert main(["records", "check", str(record)]) == 0
    capsys.readouterr()
    assert main(["records", "keep", str(record)]) == 1  # no commit is known here: nobody could make it again
    assert "made from uncommitted code" in capsys.readouterr().err
    assert main(["records", "keep", str(record), "--dirty"]) == 0
    assert (project / "book" / "results" / "part" / "first" / "laptop.json").exists()
    capsys.readouterr()
    assert main(["records", "list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["kept", "run"]


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "", ".hidden", "a\\b"])
def test_names_that_become_paths_stay_in_their_folder(project, capsys, name):
    """`--as`, and the profile that a record of somebody else gives, as `--name`."""
    one = record("part/first", "laptop", ["synthetic"], 1, m=metric(1.0))
    (project / "mine.json").write_text(json.dumps(one))
    code, said = _fails(capsys, "records", "keep", "mine.json", "--dirty", "--as", name)
    assert code == 2
    assert f"--as must be a plain file name without a suffix; got {name!r}" in said
    if name:
        (project / "mine.json").write_text(json.dumps({**one, "profile": name}))
        code, said = _fails(capsys, "records", "keep", "mine.json", "--dirty")
        assert code == 2
        assert "the profile in mine.json must be a plain file name" in said
    assert not (project / "book" / "results").exists()
