"""Parameters are refused before anything runs, and the message says what is allowed."""

import math
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from emseg.errors import InputError, UsageError
from emseg.runs.parameters import Parameter, check_namespace, load_mapping, parse_parameters_cell, resolve
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
        ("seed", "010", 10),
        ("seed", "0x10", 16),
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
        ("seed", "1_0", r"seed must be int; got '1_0'"),
        ("fast", "yes", r"fast must be bool; got 'yes'"),
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


def test_a_parameter_file_is_yaml_1_2(tmp_path: Path):
    """`1e-3` is a number and `010` is ten; a repeated key, of which YAML 1.1 takes the last, is refused."""
    declared = {p.name: p for p in parse_parameters_cell("rate: float = 1.0\nseed: int = 0\nn_steps: int = 1")}
    file = tmp_path / "numbers.yaml"
    file.write_text("rate: 1e-3\nseed: 010\nn_steps: 5\n")
    assert resolve(declared, texts=[("", load_mapping(file, as_written=True))]) == {
        "rate": 0.001,
        "seed": 10,
        "n_steps": 5,
    }
    file.write_text("rate: 1e-3\nn_steps: 5\nn_steps: 7\n")
    with pytest.raises(InputError, match=r"numbers\.yaml is not valid YAML \('n_steps' is given twice; keep one\)"):
        load_mapping(file, as_written=True)


def test_a_parameter_file_that_would_unfold_without_end_is_refused(tmp_path: Path):
    file = tmp_path / "many.yaml"
    file.write_text(
        "a: &a [x, x]\n" + "".join(f"{n}: &{n} [*{p}, *{p}]\n" for p, n in zip("abcd", "bcde", strict=True))
    )
    with pytest.raises(InputError, match=r"many\.yaml is not valid YAML \(an alias is not read here"):
        load_mapping(file, as_written=True)


def test_profiles_are_yaml_1_2_too(tmp_path: Path):
    file = tmp_path / "p.yaml"
    file.write_text("a: 1e-3\nb: 010\nc: yes\nd: [0x1f, 0o17, .5, -.inf, ~, 1_0, 12:30]\ne:\n")
    assert load_mapping(file) == {
        "a": 0.001,
        "b": 10,
        "c": "yes",
        "d": [31, 15, 0.5, -math.inf, None, "1_0", "12:30"],
        "e": None,
    }


KINDS = ("int", "float", "bool", "str")
WRITTEN = st.one_of(
    st.integers().map(str),
    st.floats().map(repr),
    st.sampled_from(["010", "1e-3", "1E5", "0x1f", "0o17", "yes", "True", "null", ".nan", "-.inf", "1_000", "12:30"]),
    st.text("0123456789eE+-.xo_ayTrue", max_size=8),
    st.text(max_size=12),
)


@given(st.sampled_from(KINDS), st.booleans(), st.lists(WRITTEN, max_size=3))
def test_a_value_means_the_same_in_a_file_and_on_the_command_line(kind: str, is_list: bool, words: list[str]):
    """`-f` and `-p` give one value or one refusal, for whatever text and type."""
    text = f"[{', '.join(words)}]" if is_list else "".join(words[:1])
    try:
        node = yaml.compose(f"value: {text}\n")
    except yaml.YAMLError:
        return  # no file can hold it without quotes
    (_, value), *more = node.value
    if more or (not is_list and (not isinstance(value, yaml.ScalarNode) or value.style or value.value != text)):
        return  # the file says something else there: a comment, quotes, an anchor
    if is_list and [getattr(item, "value", None) for item in value.value] != words:
        return
    parameter = Parameter("value", kind, is_list, None, "")
    (given_in_file,) = yaml_file(f"value: {text}\n").values()

    def outcome(written: object) -> object:
        try:
            return repr(parameter.parse(written))
        except UsageError as refusal:
            return str(refusal)

    assert outcome(given_in_file) == outcome(text)


def yaml_file(content: str) -> dict:
    class File:
        name = "values.yaml"

        def read_text(self, encoding: str) -> str:
            return content

    return load_mapping(File(), as_written=True)  # type: ignore[arg-type]


CELL = 'scale: float = 1.5  # Factor, in (0, 10]\nkernel: str = "area"  # Kernel, one of: area, linear\n'


@pytest.mark.parametrize(
    ("cells", "values", "message"),
    [
        (
            [CELL],
            {"scale": -3, "kernel": "area"},
            "scale is out of range: got -3.0. Allowed: float, in (0, 10]",
        ),
        ([CELL, "scale = 99"], {"scale": 99, "kernel": "area"}, "parameter scale is out of range: got 99.0"),
        ([CELL], {"scale": 1, "kernel": "areas"}, "Did you mean 'area'"),
        ([CELL, CELL.replace("1.5", "-1.0")], {"scale": -1.0, "kernel": "area"}, "out of range: got -1.0"),
    ],
)
def test_a_notebook_refuses_values_that_its_own_declarations_do_not_allow(cells, values, message):
    """However they were set: by plain papermill, in a cell of a student's, by a changed default."""
    with pytest.raises(UsageError, match=re.escape(message)):
        check_namespace(["import math", *cells, "%matplotlib inline"], values)
    allowed = {"scale": 1, "kernel": "linear", "other": "a variable of the reader's"}
    check_namespace([*cells, "other: int = 1"], allowed)
