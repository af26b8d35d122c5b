"""The DAG of the book: each chapter runs by itself, then the staged book is built.

    snakemake --cores all --config profile=laptop -- book
    snakemake --executor slurm --jobs 20 --config profile=gpu -- chapters      (on a cluster)
    snakemake --cores all --resources gpu=1 --config profile=gpu seeds=3 -- fanet_matrix

A chapter runs again when its state file is newer than its record. State files are brought up to date when this file is
read; they change only with the notebook's code, its parameters, its data, or a module of emseg that it imports.

A matrix of the profile is a target of its own. Its cells are done when today's code has made them, here or in a kept
record; so a matrix that was killed goes on where it was. `seeds=N` sets how many seeds it has, `cell_threads=N` how many
cores a cell gets.
"""

import shlex

import sys
from pathlib import Path

from emseg.runs.execute import run_files
from emseg.runs.matrix import MATRIX_FOLDER, SEED, cells_to_run, kept_cells_folder, matrix_cells
from emseg.runs.profiles import load_profile
from emseg.runs.project import list_chapters
from emseg.runs.record import read_records
from emseg.runs.staging import book_sources, build_book
from emseg.runs.state import write_cell_states, write_states

PROFILE = config.get("profile", "laptop")
ROOT = Path(workflow.basedir)
BUILD = Path("_build")
RUNS = BUILD / "runs" / PROFILE
STATES = BUILD / "state" / PROFILE
HTML = BUILD / "html" / PROFILE
FILES_NAME = "book"  # `emseg run --name`: a build has one run of each chapter

RESOURCES = {"mem_mb": 8000, **({"gpu": 1} if PROFILE in ("gpu", "paper") else {})}

profile = load_profile(ROOT, PROFILE)
CHAPTERS = {chapter.name: chapter for chapter in list_chapters(ROOT)}
RUN_FILES = {name: run_files(RUNS, chapter, FILES_NAME) for name, chapter in CHAPTERS.items()}
write_states(ROOT, profile, ROOT / STATES)

CELLS = MATRIX_FOLDER / PROFILE
matrices = {name: matrix.with_seeds(int(config.get("seeds", matrix.seeds))) for name, matrix in profile.matrices.items()}
cells = {
    (name, cell.name): cell
    for name, matrix in matrices.items()
    for cell in matrix_cells(ROOT, matrix, profile.of(matrix.chapter).parameters)
}
write_cell_states(ROOT, profile, cells.values(), ROOT / STATES / "cells")


def cell_file(cell):
    """Return the record of a cell."""
    return CELLS / cell.matrix / cell.chapter / f"{cell.name}.json"


def wanted_cells(name):
    """Return the records of a matrix's cells, but of those that a kept record holds already."""
    matrix = matrices[name]
    kept = read_records(kept_cells_folder(ROOT, matrix.chapter, PROFILE))
    of_this = [cell for (of, _), cell in cells.items() if of == name]
    return [cell_file(cell) for cell in cells_to_run(of_this, CHAPTERS[matrix.chapter], kept)]


def cell_command(wildcards):
    """Return the command that runs a cell with its parameters."""
    cell = cells[wildcards.matrix, wildcards.cell]
    values = [("-p", name, str(value)) for name, value in cell.parameters.items()]
    words = [sys.executable, "-m", "emseg", "run", cell.chapter, "--profile", PROFILE, "--quiet", "--name", cell.name]
    return shlex.join([*words, "--out", str(CELLS / cell.matrix), *(word for value in values for word in value)])


def minutes(wildcards, attempt):
    """Time to ask a cluster for: twice what the profile expects, more on a second attempt."""
    return max(10, int(2 * (profile.of(wildcards.chapter).expected_minutes or 30))) * attempt


wildcard_constraints:
    chapter="|".join(CHAPTERS),
    matrix="|".join(matrices) or "none",
    cell="[^/]+",


localrules:
    book,
    chapters,
    html,


rule book:
    input:
        HTML / "index.html",


rule chapters:
    input:
        [files.record for files in RUN_FILES.values()],


rule chapter:
    input:
        STATES / "{chapter}.json",
    output:
        notebook=RUNS / "{chapter}" / f"{FILES_NAME}.ipynb",
        record=RUNS / "{chapter}" / f"{FILES_NAME}.json",
    threads: 1
    resources:
        runtime=minutes,
        **RESOURCES,
    shell:
        "{sys.executable} -m emseg run {wildcards.chapter} --profile {PROFILE} --out {RUNS} --name {FILES_NAME} --quiet"


rule html:
    input:
        [files.record for files in RUN_FILES.values()],
        book_sources(ROOT),
    output:
        HTML / "index.html",
    run:
        build_book(ROOT, PROFILE, RUN_FILES, BUILD / "staged" / PROFILE, HTML)


# A rule for each seed, so that the first seeds go first: a matrix that is cut short still compares like with like.
for seed in sorted({cell.parameters[SEED] for cell in cells.values()}):

    rule:
        name:
            f"cell_of_seed_{seed}"
        wildcard_constraints:
            cell=rf"([^/]+-)?seed{seed}",
        priority: 1000 - seed
        input:
            STATES / "cells" / "{matrix}" / "{cell}.json",
        output:
            record=CELLS / "{matrix}" / "{folder}" / "{cell}.json",
        threads: int(config.get("cell_threads", 1))
        resources:
            runtime=lambda wildcards, attempt: 60 * attempt,
            **RESOURCES,
        params:
            command=cell_command,
        shell:
            "OMP_NUM_THREADS={threads} {params.command}"


for matrix_name in matrices:

    rule:
        name:
            matrix_name
        localrule: True
        input:
            wanted_cells(matrix_name),
