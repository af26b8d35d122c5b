"""`emseg rerun`, `emseg missing` and what `emseg records keep` refuses, as a stranger meets them."""

import json
from pathlib import Path
from typing import Any

import pytest
from book.staged import CHAPTER, metric, record

from emseg.cli import main
from emseg.reported import load_claims
from emseg.runs.digest import code_digests
from emseg.runs.gathering import write_record
from emseg.runs.project import find_chapter

PARAMETERS = {"seed": 0, "scale": 2.0, "kernel": "area", "levels": [1.0, 2.0], "fast": False, "data": "synthetic"}
MATRIX = """
matrices:
  grid:
    chapter: part/first
    seeds: 2
    blocks: [{kernel: [area, linear]}]
"""


def committed(project: Path, name: str = "laptop", profile: str = "laptop", **changes: Any) -> Path:
    """Write a record of part/first by today's code, whose number is that of `PARAMETERS` unless changed."""
    value = changes.pop("value", 6.0)
    one = record("part/first", profile, ["synthetic"], 2, scaled=metric(value, n=4, **changes.pop("more", {})))
    one |= {"parameters": PARAMETERS, "digests": code_digests(find_chapter(project, "part/first")), **changes}
    path = project / "book" / "results" / "part" / "first" / f"{name}.json"
    write_record(path, one)
    return path


@pytest.mark.filterwarnings("ignore")
def test_a_repeated_run_agrees_within_the_spread_that_its_record_declares(project, capsys):
    same = committed(project)
    within = committed(project, "within", value=6.2, more={"spread": 0.3})
    assert main(["rerun", str(same), str(within), "--all"]) == 0
    out = capsys.readouterr().out
    assert f"{same}: 1 same" in out
    assert "scaled: agrees; committed 6.2, repeated 6 (declared: within 0.48)" in out
    beyond = committed(project, "beyond", value=7.0, more={"spread": 0.3})
    assert main(["rerun", str(beyond)]) == 1
    assert "scaled: disagrees; committed 7, repeated 6" in capsys.readouterr().out


def test_a_record_that_cannot_be_repeated_is_refused_before_any_run(project, capsys):
    gone = committed(project, "gone", parameters=PARAMETERS | {"levle": 1})
    assert main(["rerun", str(committed(project)), str(gone)]) == 2
    assert "unknown parameter 'levle'" in capsys.readouterr().err
    assert not (project / "_build").exists()


def test_missing_runs_are_listed_with_their_cost(project, capsys):
    """A record of today's code counts, one of older code does not; costs come from the records most alike."""
    profile = project / "book" / "profiles" / "laptop.yaml"
    profile.write_text(profile.read_text() + MATRIX)
    assert main(["missing", "grid"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert lines[0].split() == ["laptop", "grid", "area-seed0", "cost", "unknown"]
    parameters = PARAMETERS | {"scale": 1.5}
    committed(project, "laptop/area-seed0", parameters=parameters)
    committed(project, "laptop/linear-seed0", parameters=parameters | {"kernel": "linear"}, wall_s=90.0)
    old = parameters | {"kernel": "linear", "seed": 1}
    committed(project, "laptop/linear-seed1", parameters=old, digests={"notebook": "0a", "library": "0b"}, wall_s=90.0)
    assert main(["missing", "grid", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(one["name"], round(one["minutes"], 1)) for one in found] == [("area-seed1", 0.2), ("linear-seed1", 1.5)]
    assert {one["basis"] for one in found} == {"on Some CPU"}
    assert main(["missing", "grid", "--profile", "smoke"]) == 0
    assert capsys.readouterr().out.startswith("0 runs without a record")
    assert main(["missing", "gird"]) == 2
    assert "unknown matrix 'gird'; there are: grid. Did you mean 'grid'?" in capsys.readouterr().err


def test_a_chapter_whose_record_is_of_older_code_is_missing(project, capsys):
    path = committed(project, parameters=PARAMETERS | {"scale": 1.5})
    assert main(["missing"]) == 0
    assert capsys.readouterr().out.startswith("0 runs")
    write_record(path, json.loads(path.read_text()) | {"digests": {"notebook": "0a", "library": "0b"}})
    assert main(["missing"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == [
        "laptop",
        "chapter",
        "part/first",
        *["0.2", "min", "on", "Some", "CPU"],
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"profile": "smoke"}, "is a test run (profile smoke), which is not evidence"),
        ({"digests": {"notebook": "0a", "library": "0b"}}, "was made by older code. Run part/first again"),
        ({"code": {"commit": None, "tree_clean": None}}, "was made from uncommitted code"),
    ],
)
def test_what_is_no_evidence_is_not_kept(project, capsys, changes, message):
    path = committed(project).rename(project / "mine.json")
    assert main(["records", "keep", str(path)]) == 0
    write_record(path, json.loads(path.read_text()) | changes)
    capsys.readouterr()
    assert main(["records", "keep", str(path), "--as", "other"]) == 1
    assert message in capsys.readouterr().err
    assert not (project / "book" / "results" / "part" / "first" / "other.json").exists()


def test_a_number_that_could_not_decide_its_claim_is_not_kept(project, capsys):
    """The claim's number varies over images, and the record has neither interval nor spread."""
    claim = next(one for one in load_claims(CHAPTER) if one.replicates == "images")
    path = project / "mine.json"
    write_record(path, record(CHAPTER, "lab", ["real"], 2, **{claim.metric: metric(0.5, claim.unit)}))
    assert main(["records", "keep", str(path)]) == 1
    assert f"`{claim.metric}` needs an interval over images" in capsys.readouterr().err
