"""A digest changes when behaviour changes, and only then."""

import os
from pathlib import Path

import nbformat
import pytest

from emseg.runs.digest import imported_modules, library_digest, notebook_digest
from emseg.source_code import code_digest, code_tree

BASE = "def f(x):\n    return x + 1\n"


@pytest.mark.parametrize(
    "same",
    [
        "def f(x):\n    '''Explain.'''\n    return x + 1  # why\n",
        "# a comment\n\n\ndef f( x ):\n    return (x + 1)\n",
        '"""Module docstring."""\ndef f(x):\n    return x + 1\n',
    ],
)
def test_comments_docstrings_and_layout_do_not_count(same):
    assert code_tree(same) == code_tree(BASE)


@pytest.mark.parametrize(
    "other",
    [
        "def f(x):\n    return x + 2\n",
        "def f(y):\n    return y + 1\n",
        "def f(x, /):\n    return x + 1\n",
        BASE + "f(1)\n",
    ],
)
def test_behaviour_counts(other):
    assert code_tree(other) != code_tree(BASE)


def test_the_tree_is_the_same_on_every_python_version():
    """A literal, so that each version of the test matrix must give just this; 3.12's formats end in an empty text."""
    call = "Call(func=Name(id='print'),args=[JoinedStr(values=[FormattedValue(value=Name(id='x'),conversion=-1,"
    spec = "format_spec=JoinedStr(values=[Constant(value='>'),FormattedValue(value=Name(id='w'),conversion=-1)]))])])"
    assert code_tree('print(f"{x:>{w}}")') == f"Module(body=[Expr(value={call}{spec})])"


def _packages(tmp_path: Path) -> dict[str, Path]:
    """A library and a package of chapter modules, which import the library."""
    root, chapters = tmp_path / "emseg", tmp_path / "chapters"
    chapters.mkdir()
    (chapters / "__init__.py").write_text("")
    (chapters / "first.py").write_text("from emseg.deep import g\ntable = g()\n")
    (chapters / "second.py").write_text("t = 1\n")
    (root / "sharp").mkdir(parents=True)
    (root / "__init__.py").write_text("")
    (root / "sharp" / "__init__.py").write_text("from emseg.sharp.indices import f\n")
    (root / "sharp" / "indices.py").write_text("def f():\n    from emseg.deep import g\n    return g()\n")
    (root / "sharp" / "table.csv").write_text("a,b\n1,2\n")
    (root / "sharp" / "claims.csv").write_text("id,chapter\nours,part/first\ntheirs,part/second\n")
    (root / "deep.py").write_text("def g():\n    return 1\n")
    (root / "other.py").write_text("h = 1\n")
    return {"emseg": root, "chapters": chapters}


def _notebook(source: str):
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])


def test_imports_are_followed_through_packages_and_functions(tmp_path: Path):
    """An import inside a function counts, as do the packages above a module; modules never imported do not."""
    found = imported_modules(["%matplotlib inline\nfrom emseg.sharp import f"], _packages(tmp_path))
    assert list(found) == ["emseg", "emseg.deep", "emseg.sharp", "emseg.sharp.indices"]


def test_modules_of_a_chapter_are_followed_into_the_library(tmp_path: Path):
    found = imported_modules(["from chapters.first import table"], _packages(tmp_path))
    assert list(found) == ["chapters", "chapters.first", "emseg", "emseg.deep"]


@pytest.mark.parametrize(
    ("file", "text", "changes"),
    [
        ("deep.py", "def g():\n    return 2\n", True),
        ("deep.py", "def g():\n    return 1  # still one\n", False),
        ("other.py", "h = 2\n", False),
        ("../chapters/first.py", "from emseg.deep import g\ntable = g() + 1\n", True),
        ("../chapters/first.py", "from emseg.deep import g\ntable = g()  # a table\n", False),
        ("../chapters/second.py", "t = 2\n", False),
        ("sharp/table.csv", "a,b\n1,3\n", True),
        ("sharp/claims.csv", "id,chapter\nours,part/first\nchanged,part/second\nnew,part/third\n", False),
        ("sharp/claims.csv", "id,chapter\nchanged,part/first\ntheirs,part/second\n", True),
    ],
)
def test_the_library_digest_covers_just_what_is_imported(tmp_path: Path, file, text, changes):
    roots = _packages(tmp_path)
    notebook = _notebook("from chapters.first import table\nfrom emseg.sharp import f")
    before = library_digest(notebook, "part/first", roots)
    (roots["emseg"] / file).write_text(text)
    os.utime(roots["emseg"] / file, ns=(1, 1))  # a cached tree must not hide the change, however coarse the clock
    assert (library_digest(notebook, "part/first", roots) != before) is changes


def test_the_digest_of_code_refuses_a_pattern_without_modules(tmp_path: Path):
    """A module that was moved must not silently leave the digest of cached results."""
    roots = _packages(tmp_path)
    assert code_digest("sharp/*.py", root=roots["emseg"]) != code_digest("deep.py", root=roots["emseg"])
    with pytest.raises(AssertionError, match=r"no module of emseg matches 'blunt/\*\.py'"):
        code_digest("blunt/*.py", root=roots["emseg"])


def test_prose_does_not_change_the_notebook_digest():
    notebook = _notebook("x = 1")
    before = notebook_digest(notebook)
    notebook.cells.append(nbformat.v4.new_markdown_cell("More words."))
    assert notebook_digest(notebook) == before
    notebook.cells[0].source = "x = 2"
    assert notebook_digest(notebook) != before
