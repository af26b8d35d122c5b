"""The DAG of the book: each chapter runs by itself, then the staged book is built.

    snakemake --cores all --config profile=laptop -- book
    snakemake --executor slurm --jobs 20 --config profile=gpu -- chapters      (on a cluster)

A chapter runs again when its state file is newer than its record. State files are brought up to date when this file is
read; they change only with the notebook's code, its parameters, its data, or a module of emseg that it imports.
"""

import sys
from pathlib import Path

from emseg.runs.execute import run_files
from emseg.runs.profiles import load_profile
from emseg.runs.project import list_chapters
from emseg.runs.staging import book_sources, build_book
from emseg.runs.state import write_states

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


def minutes(wildcards, attempt):
    """Time to ask a cluster for: twice what the profile expects, more on a second attempt."""
    return max(10, int(2 * (profile.of(wildcards.chapter).expected_minutes or 30))) * attempt


wildcard_constraints:
    chapter="|".join(CHAPTERS),


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
