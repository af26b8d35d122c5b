"""A small project with two chapters, in a temporary folder, for the tests of running and building."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

PARAMETERS = """\
seed: int = 0  # Seed of the random generator, in [0, 1000]
scale: float = 1.5  # Factor on the result, in (0, 10]
kernel: str = "area"  # Resampling kernel, one of: area, linear
levels: list[float] = [1.0, 2.0]  # Blur levels, each in [0, 5]
fast: bool = False  # Skip what takes long
data: str = "synthetic"  # Data set, one of: synthetic, isbi2012
"""
BODY = """\
from emseg.runs.session import Run
run = Run("{chapter}", seed=seed)
run.uses("made up", kind="synthetic", fingerprint="none")
run.metric("scaled", scale * sum(levels), n=len(levels), label="Scaled sum")
"""


def make_notebook(path: Path, chapter: str, *, parameters: str = PARAMETERS, body: str | None = None) -> None:
    """Write a chapter with a parameters cell, a body and the closing `run`."""
    cells = [
        nbformat.v4.new_markdown_cell(f"# The title of {chapter}", id="title"),
        nbformat.v4.new_code_cell(parameters, id="parameters", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(BODY.format(chapter=chapter) if body is None else body, id="body"),
        nbformat.v4.new_code_cell("run", id="run"),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook: Any = nbformat.v4.new_notebook(cells=cells, metadata=kernel)
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


def make_project(root: Path) -> Path:
    """Write a project with the chapters part/first and part/second and the profiles `smoke` and `laptop`."""
    for name in ("part/first", "part/second"):
        make_notebook(root / "book" / f"{name}.ipynb", name)
    (root / "_toc.yml").write_text("format: jb-book\nroot: book/index\n")
    profiles = root / "book" / "profiles"
    profiles.mkdir()
    (profiles / "smoke.yaml").write_text(
        "purpose: tests\nchapters:\n  part/first:\n    expected_minutes: 0.1\n    parameters: {scale: 2.0}\n"
    )
    (profiles / "laptop.yaml").write_text("purpose: default\nchapters: {}\n")
    return root


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small project (`make_project`); the working directory is in it."""
    root = make_project(tmp_path / "project")
    monkeypatch.chdir(root)
    monkeypatch.delenv("EMSEG_PROJECT", raising=False)
    return root


@pytest.fixture
def rewrite() -> Callable[..., None]:
    """Function that writes a chapter's notebook anew with another body or other parameters."""
    return make_notebook
