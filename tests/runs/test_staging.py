"""The staged book has prose and code from the source, outputs from the run, and the records its pages quote."""

import json
from pathlib import Path

import nbformat
import pytest

from emseg.errors import InputError
from emseg.runs.execute import RunFiles, run_chapter
from emseg.runs.project import find_chapter
from emseg.runs.staging import BUILD_FILE, CELLS_FOLDER, RECORDS_FOLDER, merge_outputs, stage_book


def _notebook(*sources: str, tags: list[str] | None = None):
    cells = [nbformat.v4.new_code_cell(source, id=f"c{position}") for position, source in enumerate(sources)]
    if tags:
        cells[0].metadata["tags"] = tags
    return nbformat.v4.new_notebook(cells=cells)


def _executed(notebook):
    copy = nbformat.reads(nbformat.writes(notebook), as_version=4)
    for count, cell in enumerate(copy.cells, start=1):
        cell.outputs = [nbformat.v4.new_output("stream", text=f"out {count}")]
        cell.execution_count = count
    return copy


def test_outputs_come_from_the_run_and_prose_from_the_source():
    source = _notebook("a = 1", "b = 2")
    executed = _executed(source)
    source.cells.insert(1, nbformat.v4.new_markdown_cell("New words.", id="m"))
    merged = merge_outputs(source, executed)
    assert [cell.cell_type for cell in merged.cells] == ["code", "markdown", "code"]
    assert merged.cells[2].outputs[0].text == "out 2"


def test_injected_parameters_are_shown_below_the_declared_in_one_folded_cell():
    source = _notebook("seed: int = 0", "b = 2", tags=["parameters"])
    executed = _executed(source)
    injected = nbformat.v4.new_code_cell("seed = 5", id="new", metadata={"tags": ["injected-parameters"]})
    executed.cells.insert(1, injected)
    merged = merge_outputs(source, executed)
    assert [cell.source for cell in merged.cells] == ["seed: int = 0\n\nseed = 5", "b = 2"]
    assert "hide-input" in merged.cells[0].metadata["tags"]


def test_a_new_comment_keeps_its_outputs():
    """A comment re-runs nothing, so the page must take it from the source."""
    source = _notebook("a = 1")
    executed = _executed(source)
    source.cells[0].source = "a = 1  # why"
    merged = merge_outputs(source, executed)
    assert merged.cells[0].source == "a = 1  # why"
    assert merged.cells[0].outputs[0].text == "out 1"


def test_outputs_of_other_code_are_refused():
    source = _notebook("a = 1")
    executed = _executed(source)
    source.cells[0].source = "a = 2"
    with pytest.raises(InputError, match="cell c0 has changed since it was executed; run the chapter again"):
        merge_outputs(source, executed)


@pytest.mark.filterwarnings("ignore")
def test_a_staged_book_holds_notebooks_records_and_what_the_build_is(project: Path, tmp_path: Path):
    (project / "_config.yml").write_text("title: A book\n")
    (project / "book" / "index.md").write_text("# A book\n")
    runs: dict[str, RunFiles] = {}
    for name in ("part/first", "part/second"):
        chapter = find_chapter(project, name)
        options = {"root": project, "profile": "smoke", "out": tmp_path / "out", "name": "book", "progress": False}
        runs[name] = run_chapter(chapter, {"seed": 4}, **options)
    kept = json.loads(runs["part/first"].record.read_text()) | {"run_id": "kept-one", "profile": "lab"}
    results = project / "book" / "results" / "part" / "first"
    (results / "lab").mkdir(parents=True)
    (results / "lab.json").write_text(json.dumps(kept))
    (results / "lab" / "one-cell.json").write_text(json.dumps(kept | {"run_id": "a-cell"}))

    staged = stage_book(project, tmp_path / "staged", "smoke", runs)
    facts = json.loads((staged / BUILD_FILE).read_text())
    assert facts["profile"] == "smoke"
    assert set(facts["current_runs"]) == {"part/first", "part/second"}
    assert facts["library_digests"]["part/first"] == kept["digests"]["library"]
    assert len(list((staged / RECORDS_FOLDER).glob("*.json"))) == 3
    assert [path.stem for path in (staged / RECORDS_FOLDER / CELLS_FOLDER).glob("*.json")] == ["a-cell"]
    assert not (staged / "book" / "profiles").exists()
    notebook = nbformat.read(staged / "book" / "part" / "first.ipynb", as_version=4)
    assert notebook.cells[-1].outputs
    with pytest.raises(InputError, match="chapter part/second has not been run"):
        stage_book(project, tmp_path / "staged", "smoke", {"part/second": RunFiles(tmp_path / "none", tmp_path / "no")})
