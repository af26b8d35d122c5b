"""Only a chapter that ran through leaves a record; a failed one says where and why, and keeps what it did."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from emseg.runs.execute import ChapterFailedError, run_chapter, what_is_missing
from emseg.runs.gathering import read_record
from emseg.runs.project import find_chapter, load_profile

pytestmark = pytest.mark.filterwarnings("ignore")  # papermill's and the kernel's own; the chapters' are in notebooks
PUBLISH = 'from emseg.runs.session import Run\nrun = Run("part/first", seed=0)\nrun.metric("m", 1, n=1, label="M")\n'


def _run(project: Path, out: Path, **options):
    chapter = find_chapter(project, "part/first")
    parameters = load_profile(project, "smoke").resolve(chapter)
    return run_chapter(chapter, parameters, root=project, profile="smoke", out=out, progress=False, **options)


def test_a_run_leaves_a_valid_record_and_an_executed_notebook(project: Path, tmp_path: Path):
    files = _run(project, tmp_path / "out")
    record = read_record(files.record)
    assert record["metrics"]["scaled"]["value"] == 2.0 * 3.0  # the profile's scale, the default levels
    assert record["parameters"]["scale"] == 2.0
    assert record["data"][0]["kind"] == "synthetic"
    assert record["environment"]["device_kind"] == "cpu"
    assert record["peak_memory"]["host"] > 10
    assert what_is_missing(nbformat.read(files.notebook, as_version=4)) is None
    assert str(tmp_path) not in files.notebook.read_text()  # an executed notebook is published: no paths in it
    assert sorted(path.name for path in files.record.parent.iterdir()) == [files.notebook.name, files.record.name]


def test_a_failed_cell_is_named_and_leaves_no_record(project: Path, tmp_path: Path, rewrite):
    rewrite(project / "book" / "part" / "first.ipynb", "part/first", body=PUBLISH + "1 / 0")
    with pytest.raises(
        ChapterFailedError, match=r"chapter part/first failed: cell body raised ZeroDivisionError: division by"
    ):
        _run(project, tmp_path / "out", name="book")
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == ["book.failed.ipynb"]


@pytest.mark.parametrize("in_last_cell", [False, True])
def test_a_killed_kernel_leaves_no_record(project: Path, tmp_path: Path, rewrite, in_last_cell):
    """Killed before the numbers or after all of them: papermill's own metadata would call the notebook completed."""
    kill = "import os\nos.kill(os.getpid(), 9)\n"
    kill_when_shown = f"class Run(Run):\n    def _repr_mimebundle_(self, **_):\n        {kill.replace(chr(10), ';')}\n"
    body = PUBLISH + (kill_when_shown + "run.__class__ = Run" if in_last_cell else kill)
    rewrite(project / "book" / "part" / "first.ipynb", "part/first", body=body)
    with pytest.raises(ChapterFailedError, match=r"kernel died|killed"):
        _run(project, tmp_path / "out", name="book")
    assert not list((tmp_path / "out").rglob("*.json"))


def test_a_notebook_that_publishes_nothing_is_a_defect(project: Path, tmp_path: Path, rewrite):
    rewrite(project / "book" / "part" / "first.ipynb", "part/first", body="run = 1")
    with pytest.raises(ValueError, match="published no numbers; its last code cell must end with its `Run`"):
        _run(project, tmp_path / "out")


def test_a_relative_data_folder_means_the_same_in_the_notebook(project: Path, tmp_path: Path, rewrite, monkeypatch):
    """The kernel starts in the notebook's folder; `EMSEG_DATA=../data` is meant from where the command was given."""
    body = PUBLISH + f"import os\nassert os.environ['EMSEG_DATA'] == {str(project.parent / 'data')!r}\n"
    rewrite(project / "book" / "part" / "first.ipynb", "part/first", body=body)
    monkeypatch.setenv("EMSEG_DATA", "../data")
    _run(project, tmp_path / "out")


def test_a_page_shows_no_wish_for_widgets_and_every_other_warning(project: Path, tmp_path: Path, rewrite, monkeypatch):
    """Tqdm's bars for notebooks ask for ipywidgets, with a path of this machine; a chapter's own warnings are shown."""
    monkeypatch.delenv("PYTHONWARNINGS", raising=False)
    warn = "import warnings\nwarnings.warn('IProgress not found. Please update')\nwarnings.warn('a real concern')\n"
    rewrite(project / "book" / "part" / "first.ipynb", "part/first", body=warn + PUBLISH)
    page = _run(project, tmp_path / "out").notebook.read_text()
    assert "UserWarning: a real concern" in page
    assert "UserWarning: IProgress" not in page
    assert "PYTHONWARNINGS" not in os.environ


def test_an_older_record_outlives_a_failed_run(project: Path, tmp_path: Path, rewrite):
    first = _run(project, tmp_path / "out", name="book")
    before = first.record.read_text()
    rewrite(project / "book" / "part" / "first.ipynb", "part/first", body="raise SystemError('no')")
    with pytest.raises(ChapterFailedError):
        _run(project, tmp_path / "out", name="book")
    assert first.record.read_text() == before


@pytest.mark.slow
def test_concurrent_runs_lose_no_record(project: Path, tmp_path: Path):
    """Three runs of one chapter at once leave three records, each with its own parameters."""
    command = [sys.executable, "-m", "emseg", "run", "part/first", "--profile", "smoke", "--quiet"]
    jobs = [
        subprocess.Popen([*command, "--out", str(tmp_path / "out"), "-p", "seed", str(seed)], stdout=subprocess.DEVNULL)
        for seed in range(3)
    ]
    assert [job.wait(timeout=300) for job in jobs] == [0, 0, 0]
    records = [json.loads(path.read_text()) for path in (tmp_path / "out").rglob("*.json")]
    assert sorted(record["parameters"]["seed"] for record in records) == [0, 1, 2]
    assert len({record["run_id"] for record in records}) == 3


def test_plain_papermill_runs_a_chapter_and_keeps_its_numbers(project: Path, tmp_path: Path):
    import papermill

    notebook = papermill.execute_notebook(
        "book/part/first.ipynb", str(tmp_path / "out.ipynb"), parameters={"scale": 3.0}, progress_bar=False
    )
    payload = notebook.cells[-1].outputs[0].metadata["emseg"]
    assert payload["metrics"]["scaled"]["value"] == 9.0


@pytest.mark.parametrize("where", ["papermill", "a cell"])
def test_plain_papermill_and_a_students_cell_meet_the_declared_ranges(project: Path, tmp_path: Path, rewrite, where):
    """In the first lines of the notebook, before anything is computed."""
    import papermill
    from papermill.exceptions import PapermillExecutionError

    path = project / "book" / "part" / "first.ipynb"
    body = PUBLISH + "raise SystemError('computed')"
    rewrite(path, "part/first", body=body if where == "papermill" else "scale = 99\n" + body)
    parameters = {"scale": 99} if where == "papermill" else {"seed": 1}
    with pytest.raises(PapermillExecutionError, match=r"parameter scale is out of range: got 99\.0\. Allowed"):
        papermill.execute_notebook(str(path), str(tmp_path / "o.ipynb"), parameters=parameters, progress_bar=False)
