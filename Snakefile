"""The DAG of the book: each chapter runs by itself, then the staged book is built.

    snakemake --cores all --config profile=laptop -- book
    snakemake --executor slurm --jobs 20 --config profile=gpu -- chapters      (on a cluster)
    snakemake --cores all --resources gpu=1 --config profile=gpu seeds=3 -- fanet_matrix

A chapter runs again when its `state` differs from that of the last run: the digests of its notebook and of the modules
that it imports, its parameters, its data. Snakemake keeps the states as parameters of the rules (profiles/default sets
`rerun-triggers: params`; `mtime` serves the HTML alone, as no other rule has inputs).

A matrix of the profile is a target of its own. Its runs are done when today's code has made them, here or in a committed
record; an interrupted matrix therefore resumes. `seeds=N` sets the number of seeds, `cell_threads=N` the cores of a run.
"""

import shlex

import sys
from pathlib import Path

from emseg.runs.digest import runs_to_do
from emseg.runs.execute import run_files
from emseg.runs.gathering import MATRIX_FOLDER, RESULTS_FOLDER, read_records, result_state
from emseg.runs.project import SEED, list_chapters, load_profile
from emseg.runs.staging import book_sources, build_book

PROFILE = config.get("profile", "laptop")
ROOT = Path(workflow.basedir)
BUILD = Path("_build")
RUNS = BUILD / "runs" / PROFILE
HTML = BUILD / "html" / PROFILE
MATRICES = MATRIX_FOLDER / PROFILE
FILES_NAME = "book"  # `emseg run --name`: a build has one run of each chapter

RESOURCES = {"mem_mb": 8000, **({"gpu": 1} if PROFILE in ("gpu", "paper") else {})}

profile = load_profile(ROOT, PROFILE)
CHAPTERS = {chapter.name: chapter for chapter in list_chapters(ROOT)}
RUN_FILES = {name: run_files(RUNS, chapter, FILES_NAME) for name, chapter in CHAPTERS.items()}
RECORDS = [files.record for files in RUN_FILES.values()]

matrices = {name: matrix.with_seeds(int(config.get("seeds", matrix.seeds))) for name, matrix in profile.matrices.items()}
runs = {
    (name, run.name): run
    for name, matrix in matrices.items()
    for run in matrix.runs(ROOT, profile.of(matrix.chapter).parameters)
}


def chapter_state(wildcards):
    """Return what the result of a chapter depends on."""
    return result_state(ROOT, CHAPTERS[wildcards.chapter], profile.resolve(CHAPTERS[wildcards.chapter]))


def matrix_state(wildcards):
    """Return what the result of a matrix's run depends on."""
    run = runs[wildcards.matrix, wildcards.run]
    return result_state(ROOT, CHAPTERS[run.chapter], run.parameters)


def matrix_arguments(wildcards):
    """Return the parameters of a matrix's run for the command line."""
    parameters = runs[wildcards.matrix, wildcards.run].parameters
    return shlex.join(word for name, value in parameters.items() for word in ("-p", name, str(value)))


def records_to_make(matrix):
    """Return the records of a matrix's runs, except those that a committed record already holds."""
    chapter = CHAPTERS[matrix.chapter]
    committed = read_records(ROOT / RESULTS_FOLDER / chapter.name / PROFILE)
    todo = runs_to_do([run for (name, _), run in runs.items() if name == matrix.name], chapter, committed)
    return [MATRICES / run.matrix / run.chapter / f"{run.name}.json" for run in todo]


def minutes(wildcards, attempt):
    """Time to request from a cluster: twice what the profile expects, more on a second attempt."""
    return max(10, int(2 * (profile.of(wildcards.chapter).expected_minutes or 30))) * attempt


wildcard_constraints:
    chapter="|".join(CHAPTERS),
    matrix="|".join(matrices) or "none",
    run="[^/]+",


localrules:
    book,
    chapters,
    html,


rule book:
    input:
        HTML / "index.html",


rule chapters:
    input:
        RECORDS,


rule chapter:
    output:
        notebook=RUNS / "{chapter}" / f"{FILES_NAME}.ipynb",
        record=RUNS / "{chapter}" / f"{FILES_NAME}.json",
    threads: 1
    resources:
        runtime=minutes,
        **RESOURCES,
    params:
        state=chapter_state,
    shell:
        "{sys.executable} -m emseg run {wildcards.chapter} --profile {PROFILE} --out {RUNS} --name {FILES_NAME} --quiet"


rule html:
    input:
        RECORDS,
        book_sources(ROOT),
    output:
        HTML / "index.html",
    run:
        build_book(ROOT, PROFILE, RUN_FILES, BUILD / "staged" / PROFILE, HTML)


# A rule for each seed, so that the first seeds go first: an interrupted matrix still compares like with like.
for seed in sorted({run.parameters[SEED] for run in runs.values()}):

    rule:
        name:
            f"run_of_seed_{seed}"
        wildcard_constraints:
            run=rf"([^/]+-)?seed{seed}",
        priority: 1000 - seed
        output:
            record=MATRICES / "{matrix}" / "{chapter}" / "{run}.json",
        threads: int(config.get("cell_threads", 1))
        resources:
            runtime=lambda wildcards, attempt: 60 * attempt,
            **RESOURCES,
        params:
            state=matrix_state,
            arguments=matrix_arguments,
        shell:
            "OMP_NUM_THREADS={threads} {sys.executable} -m emseg run {wildcards.chapter} --profile {PROFILE} --quiet"
            " --out {MATRICES}/{wildcards.matrix} --name {wildcards.run} {params.arguments}"


for matrix in matrices.values():

    rule:
        name:
            matrix.name
        localrule: True
        input:
            records_to_make(matrix),
