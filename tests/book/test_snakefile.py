"""The build runs what has changed and nothing else, resumes after a kill without options, and can go to a cluster."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runs.mini_project import make_notebook

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
WAITING_CELL = (
    "import pathlib, time\ntime.sleep(120 if pathlib.Path({mark!r}).exists() else 0)\n"
    'from emseg.runs.session import Run\nrun = Run("part/second", seed=0)\nrun.metric("m", 1, n=1, label="M")\n'
)


def snakemake(folder: Path, *arguments: str, **environment: str) -> str:
    """Run Snakemake in `folder` and return what it says; a failure fails the test with that."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, **environment})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def planned(folder: Path, *arguments: str, **environment: str) -> set[str]:
    """Return the chapters that a dry run would run."""
    said = snakemake(folder, "--dry-run", *arguments, "--", "chapters", **environment)
    return {line.split("chapter=")[1] for line in said.splitlines() if "wildcards: chapter=" in line}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.fixture
def workflow(project: Path) -> Path:
    """The small project with the real Snakefile and its profile: no other option is needed."""
    shutil.copy2(ROOT / "Snakefile", project)
    shutil.copytree(ROOT / "profiles", project / "profiles")
    (project / "_config.yml").write_text("title: A book\n")
    return project


@pytest.fixture
def build(workflow: Path) -> Path:
    """The same, both chapters run once."""
    project = workflow
    assert planned(project) == {"part/first", "part/second"}
    snakemake(project, "--", "chapters")
    return project


def test_only_what_changed_runs_again(build: Path):
    """Nothing, a touched file, a comment, prose: no run. Code, or parameters of a profile: just that chapter."""
    assert "Nothing to be done" in snakemake(build, "--", "chapters")
    first, second = (build / "book" / "part" / f"{name}.ipynb" for name in ("first", "second"))

    first.touch()
    edit(first, "The title of part/first", "Another title")
    edit(first, "from emseg.runs.session import Run", "from emseg.runs.session import Run  # a comment")
    assert planned(build) == set()

    edit(second, "scale * sum(levels)", "scale + sum(levels)")
    assert planned(build) == {"part/second"}

    edit(build / "book" / "profiles" / "laptop.yaml", "chapters: {}", "chapters: {part/first: {parameters: {seed: 5}}}")
    assert planned(build) == {"part/first", "part/second"}
    edit(build / "book" / "profiles" / "laptop.yaml", "seed: 5", "seed: 0")  # the default: as before
    assert planned(build, "--config", "profile=smoke") == {"part/first", "part/second"}  # never run at that profile


def test_changed_data_runs_the_chapters_that_read_it(build: Path, tmp_path: Path):
    """The state of real data is the state of its files, so a replaced file makes the result old."""
    images = tmp_path / "data" / "isbi2012" / "train" / "image"
    images.mkdir(parents=True)
    (images / "0.png").write_bytes(b"one")
    edit(build / "book" / "profiles" / "smoke.yaml", "{scale: 2.0}", "{scale: 2.0, data: isbi2012}")
    arguments = ["--config", "profile=smoke"]
    snakemake(build, *arguments, "--", "chapters", EMSEG_DATA=str(tmp_path / "data"))
    assert planned(build, *arguments, EMSEG_DATA=str(tmp_path / "data")) == set()
    (images / "0.png").write_bytes(b"two!")
    assert planned(build, *arguments, EMSEG_DATA=str(tmp_path / "data")) == {"part/first"}


def test_a_killed_build_resumes_where_it_stopped(build: Path):
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


def test_the_same_snakefile_goes_to_a_slurm_cluster(workflow: Path):
    """A dry run with the executor plugin plans every chapter, with a time limit and, at profile gpu, one GPU."""
    project = workflow
    (project / "book" / "profiles" / "gpu.yaml").write_text("purpose: GPU\nchapters: {}\n")
    cluster = ["--executor", "slurm", "--jobs", "20", "--default-resources", "slurm_partition=gpu"]
    said = snakemake(project, *cluster, "--dry-run", "--config", "profile=gpu", "--", "chapters")
    assert said.count("wildcards: chapter=") == 2
    assert "gpu=1" in said
    assert "runtime=60" in said


def test_a_change_of_the_sharpness_indices_runs_the_sharpness_chapter_and_not_the_dct_chapter(tmp_path: Path):
    """The book's own chapters, in a copy: each depends on the modules it imports, and on no other."""
    copy = tmp_path / "copy"
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("src", "book"):
        shutil.copytree(ROOT / name, copy / name, ignore=ignore)
    for name in ("Snakefile", "_toc.yml", "_config.yml"):
        shutil.copy2(ROOT / name, copy)
    shutil.copytree(ROOT / "profiles", copy / "profiles")
    packages = os.pathsep.join([str(copy / "src"), str(copy / "book")])
    environment = {"PYTHONPATH": packages, "PYTHONDONTWRITEBYTECODE": "1"}
    every = planned(copy, **environment)
    assert {"fanet/dct_derivation", "urisc/sharpness_analysis"} <= every
    snakefile = (copy / "Snakefile").read_text()
    run_line = next(line for line in snakefile.splitlines() if "emseg run {wildcards.chapter} --profile" in line)
    edit(copy / "Snakefile", run_line, '        "touch {output}"')  # stand-ins for results: a dry run reads none
    snakemake(copy, "--", "chapters", **environment)
    (copy / "Snakefile").write_text(snakefile)
    assert planned(copy, **environment) == set()

    indices = copy / "src" / "emseg" / "sharpness" / "indices.py"
    indices.write_text(indices.read_text() + "\n# a comment changes nothing\n")
    assert planned(copy, **environment) == set()
    indices.write_text(indices.read_text() + "\nSOMETHING_NEW = 1\n")
    again = planned(copy, **environment)
    assert "urisc/sharpness_analysis" in again
    assert "fanet/dct_derivation" not in again


def test_a_matrix_makes_its_runs_and_none_that_is_committed(build: Path):
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
    assert planned_runs(build) == {"area-seed1", "linear-seed1"}
    edit(build / "book" / "part" / "first.ipynb", "scale * sum(levels)", "scale + sum(levels)")
    assert planned_runs(build) == {"area-seed0", "area-seed1", "linear-seed0", "linear-seed1"}


def planned_runs(folder: Path) -> set[str]:
    """Return the runs of the matrix that a dry run would make."""
    said = snakemake(folder, "--dry-run", "--", "small")
    return {line.split("run=")[1].strip() for line in said.splitlines() if "wildcards:" in line and "run=" in line}


def test_the_first_seeds_of_all_runs_go_before_the_second_of_any(workflow: Path):
    """On one core the records appear seed by seed, so an interrupted matrix still compares like with like."""
    project = workflow
    matrix = "matrices: {scales: {chapter: part/first, seeds: 2, blocks: [{scale: [1.0, 2.0]}]}}\n"
    (project / "book" / "profiles" / "laptop.yaml").write_text(f"purpose: laptop\nchapters: {{}}\n{matrix}")
    snakemake(project, "--cores", "1", "--", "scales")
    records = sorted((project / "_build" / "matrix").rglob("*.json"), key=lambda record: record.stat().st_mtime_ns)
    assert [record.stem.rsplit("-", 1)[1] for record in records] == ["seed0", "seed0", "seed1", "seed1"]
