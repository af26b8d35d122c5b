"""Parameters are refused before anything runs, and the message says what is allowed."""

import math
from pathlib import Path

import pytest

from emseg.errors import InputError, UsageError
from emseg.runs.parameters import parse_parameters_cell, resolve
from emseg.runs.project import find_chapter


@pytest.fixture
def parameters(project: Path):
    return find_chapter(project, "part/first").parameters()


def test_declarations_carry_type_help_and_limits(parameters):
    """The line `name: type = literal  # help, in [..]` says all there is to know of a parameter."""
    scale = parameters["scale"]
    assert (scale.type_name, scale.default, scale.help) == ("float", 1.5, "Factor on the result")
    assert str(scale.bounds) == "(0, 10]"
    assert parameters["kernel"].choices == ("area", "linear")
    assert parameters["levels"].type_name == "list[float]"


def test_papermill_sees_the_same_parameters(project: Path, parameters):
    """`papermill --help-notebook` and `emseg run` read one declaration: same names, types and defaults."""
    from papermill.inspection import inspect_notebook as inspect

    seen = inspect(str(project / "book" / "part" / "first.ipynb"))
    assert list(seen) == list(parameters)
    for name, parameter in parameters.items():
        assert seen[name]["inferred_type_name"] == parameter.type_name
        assert eval(seen[name]["default"]) == parameter.default
        assert parameter.help in seen[name]["help"]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("seed", "7", 7),
        ("scale", "2", 2.0),
        ("scale", "1e-3", 0.001),
        ("kernel", "linear", "linear"),
        ("fast", "true", True),
        ("levels", "[0.5, 3]", [0.5, 3.0]),
        ("levels", "0.5,3", [0.5, 3.0]),
        ("levels", "[]", []),
    ],
)
def test_text_of_the_command_line_becomes_the_declared_type(parameters, name, text, value):
    resolved = resolve(parameters, texts=[("", {name: text})])
    assert resolved[name] == value
    assert type(resolved[name]) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("sede", "1", r"unknown parameter 'sede'\. Did you mean 'seed'\? The parameters are: seed, scale"),
        ("seed", "1.5", r"parameter seed must be int; got 1\.5\. Allowed: int, in \[0, 1000\]"),
        ("seed", "-1", r"parameter seed is out of range: got -1\. Allowed: int, in \[0, 1000\]"),
        ("scale", "0", r"scale is out of range: got 0\.0\. Allowed: float, in \(0, 10\]"),
        ("scale", ".nan", r"scale must be finite; got nan"),
        ("scale", "-.inf", r"scale must be finite; got -inf"),
        ("kernel", "areas", r"kernel got 'areas'\. Allowed: one of area, linear\. Did you mean 'area'\?"),
        ("fast", "maybe", r"fast must be bool; got 'maybe'"),
        ("levels", "[1, 6]", r"levels is out of range: got 6\.0\. Allowed: list\[float\], each in \[0, 5\]"),
        ("levels", "[1, x]", r"levels must be list\[float\]; got 'x'"),
    ],
)
def test_wrong_text_is_refused_with_what_is_allowed(parameters, name, text, message):
    with pytest.raises(UsageError, match=message):
        resolve(parameters, texts=[("", {name: text})])


@pytest.mark.parametrize("value", [True, "2", None, [2.0], math.nan])
def test_wrong_types_in_a_file_are_refused_and_the_file_is_named(parameters, value):
    """A YAML file gives typed values; a boolean is no number, and a string is not parsed."""
    with pytest.raises(UsageError, match=r"mine\.yaml: parameter scale"):
        resolve(parameters, overrides=[("mine.yaml", {"scale": value})])


def test_later_sources_win(parameters):
    """Defaults give way to the profile, the profile to files, files to the command line."""
    overrides = [("profile", {"scale": 2.0, "seed": 1}), ("file", {"scale": 3.0})]
    assert resolve(parameters, overrides=overrides, texts=[("", {"seed": "9"})])["scale"] == 3.0
    assert resolve(parameters, overrides=overrides, texts=[("", {"seed": "9"})])["seed"] == 9


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("seed = 0", "must read"),
        ("seed: complex = 0", "types are int, float, str, bool"),
        ("seed: int", "must read"),
    ],
)
def test_a_badly_declared_parameter_is_a_defect_of_the_chapter(cell, message):
    with pytest.raises(UsageError, match=message):
        parse_parameters_cell(cell)


def test_a_default_out_of_its_own_range_is_a_defect_of_the_chapter(project: Path, rewrite):
    path = project / "book" / "part" / "first.ipynb"
    rewrite(path, "part/first", parameters="seed: int = 5  # Seed, in [0, 1]")
    with pytest.raises(InputError, match="chapter part/first are not well declared: parameter seed is out of range"):
        find_chapter(project, "part/first").parameters()


def test_a_chapter_without_a_parameters_cell_is_named(project: Path):
    import nbformat

    path = project / "book" / "part" / "second.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].metadata["tags"] = []
    nbformat.write(notebook, path)
    with pytest.raises(InputError, match=r"chapter part/second must have one code cell tagged 'parameters'; found 0"):
        find_chapter(project, "part/second").parameters()
