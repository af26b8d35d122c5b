"""Staging and building: a copy of the book whose notebooks carry their outputs, with the records its pages quote.

Notebooks are kept without outputs. The staged copy takes prose and code from the source and outputs from the executed
notebook, cell by cell, so that a change of prose reaches the page without another run. `records/` contains every run
record that a page may quote, `build.json` describes the build.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat

from emseg.errors import InputError
from emseg.files import write_atomically, write_json
from emseg.runs.digest import git_state, library_digest
from emseg.runs.execute import RunFiles, timestamp
from emseg.runs.gathering import RESULTS_FOLDER, read_record
from emseg.runs.parameters import PARAMETERS_TAG
from emseg.runs.project import find_chapter, list_chapters
from emseg.source_code import code_tree

BUILD_FILE = "build.json"
RECORDS_FOLDER = "records"
CELLS_FOLDER = "cells"  # below the records: runs of matrices, which only the ledger lists one by one
_INJECTED_TAG = "injected-parameters"
_FOLDED = "hide-input"  # myst-nb's tag: parameters are one click away, not in the reader's way
_NOT_STAGED = shutil.ignore_patterns("*.ipynb", "results", "profiles", "__pycache__", ".ipynb_checkpoints", "_build")


def stage_book(root: Path, target: Path, profile: str, runs: Mapping[str, RunFiles]) -> Path:
    """Make the staged book of `profile` at `target` from the chapters' `runs` and return its path.

    Whatever was at `target` is replaced; a chapter of the book without a run raises `InputError`.
    """
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(root / "book", target / "book", ignore=_NOT_STAGED)
    for path in _companions(root):
        shutil.copy2(path, target / path.name)
    for name, files in runs.items():
        if not files.notebook.exists():
            raise InputError(f"chapter {name} has not been run: {files.notebook} is missing.")
        staged = merge_outputs(find_chapter(root, name).read(), nbformat.read(files.notebook, as_version=4))
        write_atomically(target / "book" / f"{name}.ipynb", nbformat.writes(staged))
    records = {name: read_record(files.record) for name, files in runs.items()}
    committed = []
    for path in sorted((root / RESULTS_FOLDER).rglob("*.json")):
        record = read_record(path)
        committed.append(record["run_id"])
        folder = "" if path.parent == root / RESULTS_FOLDER / record["chapter"] else CELLS_FOLDER
        write_json(target / RECORDS_FOLDER / folder / f"{record['run_id']}.json", record)
    for record in records.values():
        write_json(target / RECORDS_FOLDER / f"{record['run_id']}.json", record)
    facts = {
        "profile": profile,
        **git_state(root),
        "built": timestamp(datetime.now(UTC)),
        "current_runs": {name: record["run_id"] for name, record in records.items()},
        "committed": committed,
        "library_digests": {  # of today's chapters: a committed record may outlive its own
            chapter.name: library_digest(chapter.read(), chapter.name) for chapter in list_chapters(root)
        },
    }
    write_json(target / BUILD_FILE, facts)
    return target


def merge_outputs(source: Any, executed: Any) -> Any:
    """Return `source` with the outputs of `executed`, matched by cell id, and injected parameters below the declared.

    Code that differs between the two raises `InputError`: its outputs would belong to something else.
    """
    by_id = {cell.get("id"): cell for cell in executed.cells}
    injected = [cell for cell in executed.cells if _INJECTED_TAG in cell.metadata.get("tags", [])]
    for cell in source.cells:
        if cell.cell_type != "code":
            continue
        ran = by_id.get(cell.get("id"))
        if ran is None or code_tree(ran.source) != code_tree(cell.source):
            raise InputError(f"cell {cell.get('id')} has changed since it was executed; run the chapter again.")
        cell.outputs, cell.execution_count = ran.outputs, ran.execution_count
        if PARAMETERS_TAG in cell.metadata.get("tags", []):
            cell.source = "\n\n".join(one.source for one in (cell, *injected))
            cell.metadata["tags"] = sorted({*cell.metadata["tags"], _FOLDED})
            cell.metadata["mystnb"] = {
                "code_prompt_show": "Show the parameters",
                "code_prompt_hide": "Hide the parameters",
            }
    return source


def book_sources(root: Path) -> list[Path]:
    """Return the files that the pages are made of, besides the runs: a change in one of them makes a new build."""
    book = [path for path in (root / "book").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    library = [path for package in (".", "reported", "runs") for path in (root / "src" / "emseg" / package).glob("*.*")]
    return sorted([*_companions(root), *book, *library])


def _companions(root: Path) -> list[Path]:
    names = ("_config.yml", "_toc.yml", "CITATION.cff", "CHANGELOG.md")
    return [root / name for name in names if (root / name).exists()]


def build_book(root: Path, profile: str, runs: Mapping[str, RunFiles], staged: Path, html: Path) -> None:
    """Stage the book of `profile` at `staged` and build its HTML at `html`, with warnings as errors.

    The HTML is built next to `html` and moved there when it is whole, so that a failed build leaves the last good one.
    """
    stage_book(root, staged, profile, runs)
    jupyter_book = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    subprocess.run([*jupyter_book, "config", "sphinx", str(staged)], stdout=subprocess.DEVNULL, check=True)
    fresh = html.with_name(f".{html.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "-n", "--keep-going", "-q"]
    command += ["-d", str(staged / ".doctrees"), str(staged), str(fresh)]
    extensions = os.pathsep.join(filter(None, [str(staged / "book" / "_ext"), os.environ.get("PYTHONPATH")]))
    if subprocess.run(command, env={**os.environ, "PYTHONPATH": extensions}, check=False).returncode != 0:
        raise InputError("the book was not built, for Sphinx warned (see above); warnings are errors here.")
    shutil.rmtree(html, ignore_errors=True)
    fresh.rename(html)
