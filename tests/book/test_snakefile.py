"""The build runs what has changed and nothing else, resumes after a kill without options, and can go to a cluster."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from runs.mini_project import make_notebook, make_project

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
WAITING_CELL = (
    "import pathlib, time\ntime.sleep(120 if pathlib.Path({mark!r}).exists() else 0)\n"
    'from emseg.runs.session import Run\nrun = Run("part/second", seed=0)\nrun.metric("m", 1, n=1, label="M")\n'
)
# Importing Snakemake takes seconds: this process does it once, and each call is a fork that imports our modules itself.
SERVER = """
import json, os, sys, traceback
import nbformat, numpy, pydantic, snakemake.cli, yaml
for line in sys.stdin:
    call = json.loads(line)
    child = os.fork()
    if not child:
        code = 1
        try:
            os.environ.pop("EMSEG_PROJECT", None)
            os.environ.update(call["environment"])
            os.chdir(call["folder"])
            sys.path[:0] = call["environment"].get("PYTHONPATH", "").split(os.pathsep)
            sys.argv[1:] = call["arguments"]
            log = os.open(call["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            snakemake.cli.main(sys.argv[1:])
        except SystemExit as stop:
            code = stop.code or 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
Snakemake = Callable[..., str]


def stand_in(folder: Path, command: str) -> None:
    """Let the line of the Snakefile with `command` touch the results instead of running a chapter."""
    snakefile = (folder / "Snakefile").read_text()
    (line,) = (line for line in snakefile.splitlines() if command in line)
    edit(folder / "Snakefile", line.strip(), '"touch {output}; "')


@pytest.fixture(scope="module")
def snakemake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snakemake]:
    """Function that runs Snakemake in a folder and returns what it says; a failure fails the test with that."""
    pipe, log = subprocess.PIPE, tmp_path_factory.mktemp("said") / "log.txt"
    with subprocess.Popen([sys.executable, "-c", SERVER], stdin=pipe, stdout=pipe, text=True) as server:

        def call(folder: Path, *arguments: str, **environment: str) -> str:
            options = ["--cores", "2", *arguments]
            request = {"folder": str(folder), "arguments": options, "environment": environment, "log": str(log)}
            print(json.dumps(request), file=server.stdin, flush=True)
            code, said = server.stdout.readline(), log.read_text()
            assert code == "0\n", said
            return said

        yield call
        server.stdin.close()


def planned(snakemake: Snakemake, folder: Path, *arguments: str, **environment: str) -> set[str]:
    """Return the chapters that a dry run would run."""
    said = snakemake(folder, "--dry-run", *arguments, "--", "chapters", **environment)
    return {line.split("chapter=")[1] for line in said.splitlines() if "wildcards: chapter=" in line}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def add_workflow(root: Path) -> Path:
    """Add the real Snakefile and its profile to a project: no other option is needed."""
    shutil.copy2(ROOT / "Snakefile", root)
    shutil.copytree(ROOT / "profiles", root / "profiles")
    (root / "_config.yml").write_text("title: A book\n")
    return root


@pytest.fixture
def workflow(project: Path) -> Path:
    """The small project with the Snakefile."""
    return add_workflow(project)


@pytest.fixture(scope="module")
def built_once(tmp_path_factory: pytest.TempPathFactory, snakemake: Snakemake) -> Path:
    """The same, both chapters run once."""
    root = add_workflow(make_project(tmp_path_factory.mktemp("built") / "project"))
    assert planned(snakemake, root) == {"part/first", "part/second"}
    snakemake(root, "--", "chapters")
    return root


@pytest.fixture
def build(tmp_path: Path, built_once: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that, for one test to change."""
    monkeypatch.delenv("EMSEG_PROJECT", raising=False)
    return Path(shutil.copytree(built_once, tmp_path / "copy"))


def test_only_what_changed_runs_again(snakemake: Snakemake, build: Path):
    """Nothing, a touched file, a comment, prose: no run. Code, or parameters of a profile: just that chapter."""
    assert "Nothing to be done" in snakemake(build, "--", "chapters")
    first, second = (build / "book" / "part" / f"{name}.ipynb" for name in ("first", "second"))

    first.touch()
    edit(first, "The title of part/first", "Another title")
    edit(first, "from emseg.runs.session import Run", "from emseg.runs.session import Run  # a comment")
    assert planned(snakemake, build) == set()

    edit(second, "scale * sum(levels)", "scale + sum(levels)")
    assert planned(snakemake, build) == {"part/second"}

    edit(build / "book" / "profiles" / "laptop.yaml", "chapters: {}", "chapters: {part/first: {parameters: {seed: 5}}}")
    assert planned(snakemake, build) == {"part/first", "part/second"}
    edit(build / "book" / "profiles" / "laptop.yaml", "seed: 5", "seed: 0")  # the default: as before
    assert planned(snakemake, build, "--config", "profile=smoke") == {
        "part/first",
        "part/second",
    }  # never run at that profile


def test_changed_data_runs_the_chapters_that_read_it(snakemake: Snakemake, build: Path, tmp_path: Path):
    """The state of real data is the state of its files, so a replaced file makes the result old."""
    images = tmp_path / "data" / "isbi2012" / "train" / "image"
    images.mkdir(parents=True)
    (images / "0.png").write_bytes(b"one")
    edit(build / "book" / "profiles" / "smoke.yaml", "{scale: 2.0}", "{scale: 2.0, data: isbi2012}")
    arguments = ["--config", "profile=smoke"]
    snakemake(build, *arguments, "--", "chapters", EMSEG_DATA=str(tmp_path / "data"))
    assert planned(snakemake, build, *arguments, EMSEG_DATA=str(tmp_path / "data")) == set()
    (images / "0.png").write_bytes(b"two!")
    assert planned(snakemake, build, *arguments, EMSEG_DATA=str(tmp_path / "data")) == {"part/first"}


def test_a_killed_build_resumes_where_it_stopped(snakemake: Snakemake, build: Path):
    """After kill -9 in the middle of one chapter, the finished one is kept and only the other is run."""
    for name in ("first", "second"):
        shutil.rmtree(build / "_build" / "runs" / "laptop" / "part" / name)
    mark = build / "still-waiting"
    mark.touch()
    body = WAITING_CELL.format(mark=str(mark))
    make_notebook(build / "book" / "part" / "second.ipynb", "part/second", body=body)
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--", "chapters"]
    log = build / "log.txt"
    with log.open("w") as stream:
        process = subprocess.Popen(command, cwd=build, start_new_session=True, stderr=stream)
    record = build / "_build" / "runs" / "laptop" / "part" / "first" / "book.json"
    deadline = time.monotonic() + 120
    while "1 of 3 steps" not in log.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = record.read_text()
    second = record.parents[1] / "second" / "book.json"
    assert not second.exists()  # the waiting chapter was in the middle of its work
    mark.unlink()
    said = snakemake(build, "--", "chapters")
    assert "wildcards: chapter=part/second" in said
    assert "wildcards: chapter=part/first" not in said
    assert record.read_text() == before
    assert second.exists()


def test_the_same_snakefile_goes_to_a_slurm_cluster(snakemake: Snakemake, workflow: Path):
    """A dry run with the executor plugin plans every chapter, with a time limit and, at profile gpu, one GPU."""
    project = workflow
    (project / "book" / "profiles" / "gpu.yaml").write_text("purpose: GPU\nchapters: {}\n")
    cluster = ["--executor", "slurm", "--jobs", "20", "--default-resources", "slurm_partition=gpu"]
    said = snakemake(project, *cluster, "--dry-run", "--config", "profile=gpu", "--", "chapters")
    assert said.count("wildcards: chapter=") == 2
    assert "gpu=1" in said
    assert "runtime=60" in said


def test_a_change_of_the_sharpness_indices_runs_the_sharpness_chapter_alone(snakemake: Snakemake, tmp_path: Path):
    """Two of the book's own chapters, in a copy: each depends on the modules it imports, and on no other."""
    copy = tmp_path / "copy"
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("src", "book"):
        shutil.copytree(ROOT / name, copy / name, ignore=ignore)
    for name in ("Snakefile", "_toc.yml", "_config.yml"):
        shutil.copy2(ROOT / name, copy)
    shutil.copytree(ROOT / "profiles", copy / "profiles")
    two = {"fanet/dct_derivation", "urisc/sharpness_analysis"}
    for notebook in (copy / "book").glob("*/*.ipynb"):
        if f"{notebook.parent.name}/{notebook.stem}" not in two:
            notebook.unlink()
    packages = os.pathsep.join([str(copy / "src"), str(copy / "book")])
    environment = {"PYTHONPATH": packages, "PYTHONDONTWRITEBYTECODE": "1"}
    assert planned(snakemake, copy, **environment) == two
    snakefile = (copy / "Snakefile").read_text()
    stand_in(copy, "emseg run {wildcards.chapter} --profile {PROFILE} --out")
    snakemake(copy, "--", "chapters", **environment)
    (copy / "Snakefile").write_text(snakefile)

    indices = copy / "src" / "emseg" / "sharpness" / "indices.py"
    indices.write_text(indices.read_text() + "\n# a comment changes nothing\n")
    assert planned(snakemake, copy, **environment) == set()
    indices.write_text(indices.read_text() + "\nSOMETHING_NEW = 1\n")
    assert planned(snakemake, copy, **environment) == {"urisc/sharpness_analysis"}


def test_a_matrix_makes_its_runs_and_none_that_is_committed(snakemake: Snakemake, build: Path):
    """Each is made once, an old one again; a committed record of today's code counts as its run, on any machine."""
    (build / "book" / "profiles" / "laptop.yaml").write_text(
        "purpose: default\nmatrices:\n  small:\n    chapter: part/first\n    seeds: 2\n"
        "    blocks: [{kernel: [area, linear]}]\n"
    )
    made = build / "_build" / "matrix" / "laptop" / "small" / "part" / "first"
    snakemake(build, "--config", "seeds=1", "--", "small")
    names = [path.stem for path in sorted(made.glob("*.json"))]
    assert names == ["area-seed0", "linear-seed0"]
    assert "Nothing to be done" in snakemake(build, "--config", "seeds=1", "--", "small")

    kept = build / "book" / "results" / "part" / "first" / "laptop"
    kept.mkdir(parents=True)
    (made / "area-seed0.json").rename(kept / "area-seed0.json")
    assert planned_runs(snakemake, build) == {"area-seed1", "linear-seed1"}
    edit(build / "book" / "part" / "first.ipynb", "scale * sum(levels)", "scale + sum(levels)")
    assert planned_runs(snakemake, build) == {"area-seed0", "area-seed1", "linear-seed0", "linear-seed1"}


def planned_runs(snakemake: Snakemake, folder: Path) -> set[str]:
    """Return the runs of the matrix that a dry run would make."""
    said = snakemake(folder, "--dry-run", "--", "small")
    return {line.split("run=")[1].strip() for line in said.splitlines() if "wildcards:" in line and "run=" in line}


def test_the_first_seeds_of_all_runs_go_before_the_second_of_any(snakemake: Snakemake, workflow: Path):
    """On one core the records appear seed by seed, so an interrupted matrix still compares like with like."""
    project = workflow
    matrix = "matrices: {scales: {chapter: part/first, seeds: 2, blocks: [{scale: [1.0, 2.0]}]}}\n"
    (project / "book" / "profiles" / "laptop.yaml").write_text(f"purpose: laptop\nchapters: {{}}\n{matrix}")
    stand_in(project, "emseg run {wildcards.chapter} --profile {PROFILE} --quiet")
    stand_in(project, "--out {MATRICES}")
    snakemake(project, "--cores", "1", "--", "scales")
    records = sorted((project / "_build" / "matrix").rglob("*.json"), key=lambda record: record.stat().st_mtime_ns)
    assert [record.stem.rsplit("-", 1)[1] for record in records] == ["seed0", "seed0", "seed1", "seed1"]
