"""A record describes the process that computed: other code than the command saw, or edited meanwhile, gives none."""

import json
import shutil
import sys
from pathlib import Path

import kill_runs
import nbformat
import pytest

import emseg
from emseg.errors import InputError
from emseg.runs.execute import ChapterFailedError, prepare_folder, run_chapter
from emseg.runs.gathering import read_record
from emseg.runs.project import find_chapter, load_profile

pytestmark = pytest.mark.filterwarnings("ignore")  # papermill's and the kernel's own
PUBLISH = 'from emseg.runs.session import Run\nrun = Run("part/first", seed=0)\nrun.metric("m", 1, n=1, label="M")\n'


def _run(project: Path, **options):
    chapter = find_chapter(project, "part/first")
    parameters = load_profile(project, "smoke").resolve(chapter)
    out = project / "out"
    return run_chapter(chapter, parameters, root=project, profile="smoke", out=out, progress=False, **options)


def test_the_kernel_is_this_interpreter_whatever_kernelspecs_there_are(project: Path, rewrite, monkeypatch):
    """A `python3` in JUPYTER_PATH outranks the environment's own; it must not be asked."""
    spec = project / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    argv = ["no-such-python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "x", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(project / "jupyter"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(project / "runtime"))
    body = f"import sys\nassert sys.executable == {sys.executable!r}\n" + PUBLISH
    rewrite(project / "book" / "part" / "first.ipynb", "part/first", body=body)
    files = _run(project)
    assert read_record(files.record)["metrics"]["m"]["value"] == 1
    shown = nbformat.read(files.notebook, as_version=4).cells[-1].outputs[0].metadata["emseg"]
    assert "process" not in shown  # what tells machines apart is compared, and not published
    assert not list((project / "runtime").glob("*"))


def test_a_kernel_that_does_not_start_is_started_once_more(project: Path, monkeypatch):
    """Its ports are chosen before it binds them, and another program may be faster."""
    tried = project / "tried"
    code = f"import pathlib, sys\ntried = pathlib.Path({str(tried)!r})\n"
    code += "if not tried.exists():\n    sys.exit(tried.touch())\n"
    code += "from ipykernel import kernelapp\nkernelapp.launch_new_instance()"
    command = [sys.executable, "-c", code, "-f", "{connection_file}", "--IPKernelApp.log_level=50"]
    monkeypatch.setattr("emseg.runs.execute._KERNEL", command)
    assert read_record(_run(project).record)["metrics"]
    assert tried.exists()


def test_another_emseg_in_the_kernel_gives_no_record(project: Path, rewrite):
    """Its numbers may be anything; it stops where its `Run` is made, before it computes them."""
    shutil.copytree(Path(emseg.__file__).parent, project / "other" / "emseg")
    body = f"import sys\nsys.path.insert(0, {str(project / 'other')!r})\n" + PUBLISH
    body += f"open({str(project / 'computed')!r}, 'w').close()\n"
    rewrite(project / "book" / "part" / "first.ipynb", "part/first", body=body)
    with pytest.raises(ChapterFailedError, match=r"must import the `emseg` .* from .*other/emseg\. Look .* No record"):
        _run(project, name="book")
    assert not (project / "computed").exists()
    assert [path.name for path in (project / "out").rglob("*") if path.is_file()] == ["book.failed.ipynb"]


def test_source_that_was_edited_during_the_run_gives_no_record(project: Path, rewrite):
    """Prose and comments may change; code may not."""
    path = project / "book" / "part" / "first.ipynb"
    edit = f"from pathlib import Path\npath = Path({str(path)!r})\nold, new = '{{}}', '{{}}'\n"
    edit += "path.write_text(path.read_text().replace(old.replace('_', ''), new))\n"
    rewrite(path, "part/first", body=edit.format("The ti_tle", "Another title") + PUBLISH)
    assert _run(project, name="book").record.exists()
    assert "Another title of" in path.read_text()
    rewrite(path, "part/first", body=edit.format("lab_el=", "unit=0, label=") + PUBLISH)
    with pytest.raises(ChapterFailedError, match="its source was edited during the run"):
        _run(project, name="other")
    assert not list((project / "out").rglob("other.json"))


def test_too_little_space_is_said_before_the_run(project: Path, monkeypatch):
    usage = shutil.disk_usage(project)._replace(free=5_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(InputError, match=r"out needs 200 MB of free space for a run; 5 MB are free\. Free some space"):
        prepare_folder(project / "out")


def test_a_disk_that_fills_during_the_run_is_one_sentence(project: Path, monkeypatch):
    """Papermill writes the notebook after each cell."""

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("papermill.iorw.LocalHandler.write", full)
    with pytest.raises(InputError, match=r"out/part/first could not be written: No space left on device\. Free some"):
        _run(project)
    assert not [path for path in (project / "out").rglob("*") if path.is_file()]


@pytest.mark.slow
def test_killed_runs_leave_nothing_behind_and_no_wrong_record(tmp_path: Path, monkeypatch):
    """A short slice of `tests/kill_runs.py`: each of the four signals once, while the kernel works."""
    monkeypatch.setenv("PYTHONPATH", ":".join(filter(None, sys.path)))
    assert kill_runs.main(4, 3, tmp_path, longest_s=4.0) == []
