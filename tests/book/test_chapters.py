"""The book's own chapters: their declarations are read alike by emseg and papermill, and each profile is valid."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

from emseg.runs.digest import code_cells
from emseg.runs.project import list_chapters, list_profiles, load_profile
from emseg.source_code import code_lines

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = {chapter.name: chapter for chapter in list_chapters(ROOT)}
PROFILES = list_profiles(ROOT)
by_chapter = pytest.mark.parametrize("chapter", CHAPTERS.values(), ids=CHAPTERS)


@by_chapter
def test_papermill_reads_the_same_typed_and_described_parameters(chapter):
    """`papermill --help-notebook` shows every parameter with its type, default and help."""
    from papermill.inspection import inspect_notebook

    declared = chapter.parameters()
    seen = inspect_notebook(str(chapter.path))
    assert list(seen) == list(declared)
    for name, parameter in declared.items():
        assert parameter.help, f"{name} needs a help text"
        assert seen[name]["inferred_type_name"] == parameter.type_name
        assert ast.literal_eval(seen[name]["default"]) == parameter.default
        assert parameter.help in seen[name]["help"]


@by_chapter
@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_gives_valid_parameters_and_an_expected_cost(chapter, profile):
    loaded = load_profile(ROOT, profile)
    loaded.resolve(chapter)
    assert loaded.of(chapter.name).expected_minutes, "say in the profile how long the chapter takes"


def test_profiles_name_no_chapter_that_is_not_there():
    for name in PROFILES:
        assert set(load_profile(ROOT, name).chapters) <= set(CHAPTERS)


@by_chapter
def test_notebooks_explain_in_prose_and_show_the_idea_in_short_cells(chapter):
    """A visible cell with a function or a loop has at most 20 lines; ids are readable; no outputs are committed."""
    notebook = chapter.read()
    for cell in code_cells(notebook):
        kinds = {type(node) for node in ast.walk(ast.parse(code_lines(cell.source)))}
        forbidden = kinds & {ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.For, ast.While}
        lines = [line for line in cell.source.splitlines() if line and not line.startswith(("import ", "from "))]
        n_lines = len(lines)
        hidden = "hide-input" in cell.metadata.get("tags", [])  # bookkeeping
        assert not forbidden or hidden or n_lines <= 20, (
            f"cell {cell.id} holds {forbidden} in {n_lines} lines: use chapters/"
        )
        assert not cell.outputs, f"cell {cell.id}: clear the outputs before committing"
        assert cell.execution_count is None, f"cell {cell.id}"
    for cell in notebook.cells:
        assert re.fullmatch(r"[a-z][a-z0-9-]*[a-z0-9]", cell.id), f"give the cell {cell.id!r} a readable id"
        assert not re.fullmatch(r"[0-9a-f]{8}", cell.id), f"give the cell {cell.id!r} a readable id"
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    nbformat.validate(notebook)


@by_chapter
def test_every_figure_has_a_caption_a_name_and_alt_text(chapter):
    """A cell that draws says in words what it shows; `name` makes it referable, and the prose does refer to it."""
    notebook = chapter.read()
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    figures = [cell for cell in code_cells(notebook) if "figure" in cell.metadata.get("mystnb", {})]
    assert figures
    for cell in figures:
        figure, image = cell.metadata["mystnb"]["figure"], cell.metadata["mystnb"]["image"]
        assert len(figure["caption"]) > 40, cell.id
        assert len(image["alt"]) > 40, cell.id
        assert figure["name"].startswith("fig-"), cell.id
        assert f"`{figure['name']}`" in prose, f"no sentence refers to {figure['name']}"
