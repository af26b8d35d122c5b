"""A matrix runs one chapter for every combination and seed, and does nothing twice."""

from pathlib import Path

import pytest

from emseg.errors import InputError, UsageError
from emseg.runs.digest import code_digests, runs_to_do
from emseg.runs.project import find_chapter, load_profile, parse_matrix

ENTRY = {
    "chapter": "part/first",
    "seeds": 2,
    "parameters": {"scale": 2.0},
    "blocks": [{"kernel": ["area", "linear"], "fast": [False, True]}, {"kernel": ["area"], "levels": [[1.0]]}],
}


def matrix_runs(project: Path, **changes: object):
    return parse_matrix("m", {**ENTRY, **changes}, "profile x").runs(project, {"scale": 3.0, "levels": [0.5]})


def test_runs_are_all_combinations_the_first_seed_of_all_before_the_second_of_any(project: Path):
    """Values name the runs; the matrix's parameters win over the profile's, a block's over both."""
    found = matrix_runs(project)
    assert [run.name for run in found[:5]] == [
        "area-False-seed0",
        "area-True-seed0",
        "linear-False-seed0",
        "linear-True-seed0",
        "area-[1.0]-seed0",
    ]
    assert [run.parameters["seed"] for run in found] == [0] * 5 + [1] * 5
    assert {run.parameters["scale"] for run in found} == {2.0}
    assert found[0].parameters["levels"] == [0.5]
    assert found[4].parameters["levels"] == [1.0]


def test_seeds_count_from_the_matrixs_own_first_seed(project: Path):
    """So that a second machine can take other seeds."""
    found = matrix_runs(project, parameters={"seed": 7}, seeds=3)
    assert sorted({run.parameters["seed"] for run in found}) == [7, 8, 9]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blocks": [{"kernel": ["square"]}]}, "kernel got 'square'"),
        ({"blocks": [{"kernle": ["area"]}]}, "kernle"),
        ({"blocks": [{"kernel": ["area"]}, {"kernel": ["area"]}]}, "twice"),
        ({"blocks": [{"kernel": "area"}]}, "matrix m: `blocks.0.kernel` must be .*list; got 'area'"),
        ({"blocks": []}, "matrix m: `blocks` must .*; got"),
        ({"seeds": 0}, "`seeds` must be at least 1; got 0"),
        ({"runs": 1}, "matrix has no 'runs'"),
    ],
)
def test_what_makes_no_matrix_is_named(project: Path, changes: dict, message: str):
    """Before anything runs."""
    with pytest.raises((InputError, UsageError), match=message):
        matrix_runs(project, **changes)


def test_a_run_with_a_record_of_todays_code_is_done(project: Path):
    """Other parameters, or other code, do not count."""
    found = matrix_runs(project)
    chapter = find_chapter(project, "part/first")
    digests = code_digests(chapter)
    done = {"parameters": dict(found[3].parameters), "digests": digests}
    old = {"parameters": dict(found[4].parameters), "digests": {**digests, "library": "other"}}
    left = runs_to_do(found, chapter, [done, old])
    assert [run.name for run in left] == [run.name for run in found if run is not found[3]]


def test_a_profile_has_matrices_of_any_number_of_seeds(project: Path):
    (project / "book" / "profiles" / "laptop.yaml").write_text(
        "purpose: p\nmatrices:\n  small_matrix:\n    chapter: part/first\n    blocks: [{kernel: [area]}]\n"
    )
    matrix = load_profile(project, "laptop").matrices["small_matrix"]
    assert matrix.with_seeds(4).seeds == 4
    with pytest.raises(UsageError, match="`seeds` must be at least 1; got 0"):
        matrix.with_seeds(0)
