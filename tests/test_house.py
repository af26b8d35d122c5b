"""The house keeps its plan: imports point one way, files are few and named apart, and importing a method is cheap."""

import ast
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from emseg.runs.project import list_chapters, load_profile

ROOT = Path(__file__).resolve().parents[1]
LIBRARY, CHAPTERS = ROOT / "src" / "emseg", ROOT / "book" / "chapters"
# Floors from the ground up: a module imports its own package, its own floor where listed together, and lower floors.
FLOORS: list[set[str]] = [
    {"errors", "files", "checks", "images", "intervals", "figures", "wording", "sections", "source_code"},
    {"frequency", "tiling", "synthetic", "data"},
    {"training"},
    {"wafer", "membrane", "attribution", "sharpness"},
    {"runs", "reported"},
    {"cli", "__main__", "__init__"},
    {"chapters"},
]
FLOOR = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
# Neighbours on one floor that may know each other; no other pair may.
NEIGHBOURS = {("__main__", "cli"), ("attribution", "membrane"), ("reported", "runs")}
DETECTORS = {"mmdet", "mmcv", "mmengine"}
METHODS = (
    "emseg.attribution",
    "emseg.frequency",
    "emseg.membrane.scoring",
    "emseg.sharpness",
    "emseg.synthetic",
    "emseg.tiling",
    "emseg.wafer.formats",
    "emseg.wafer.scores",
)


def modules(*folders: Path) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in sorted(folder.rglob("*.py")) if "__pycache__" not in path.parts)


def imports(path: Path) -> set[str]:
    """Return the dotted names that a module imports, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room_of(name: str) -> str | None:
    """Return the room of a dotted name of ours: "membrane" for emseg.membrane.scoring, "chapters"; else None."""
    package, *rest = name.split(".")
    if package == "chapters":
        return "chapters"
    return (rest[0] if rest and rest[0] in FLOOR else "__init__") if package == "emseg" else None


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_imports_point_one_way():
    """Chapters use the library, the machinery and the methods use the shared parts, all use the ground floor."""
    wrong = []
    for path in modules(LIBRARY, CHAPTERS):
        inside = path.relative_to(LIBRARY if path.is_relative_to(LIBRARY) else CHAPTERS)
        room = "chapters" if path.is_relative_to(CHAPTERS) else inside.with_suffix("").parts[0]
        for name in sorted(imports(path)):
            other = room_of(name)
            if other is None or other in (room, "__init__"):  # `from emseg import __version__` is free
                continue
            same_floor = FLOOR[other] == FLOOR[room] and (FLOOR[room] == 0 or (room, other) in NEIGHBOURS)
            if FLOOR[other] > FLOOR[room] or (FLOOR[other] == FLOOR[room] and not same_floor):
                wrong.append(f"{shown(path)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_every_room_has_its_floor():
    rooms = {path.stem if path.is_file() else path.name for path in LIBRARY.iterdir()}
    assert rooms - {"__pycache__", "py"} <= set(FLOOR), "give a new room its floor in this test and in CONTRIBUTING.md"


def test_detectors_libraries_are_imported_in_their_room_alone():
    """And in no `__init__`, so that importing a room never loads them."""
    wrong = []
    for path in modules(LIBRARY, CHAPTERS):
        at_home = path.is_relative_to(LIBRARY / "wafer" / "detector") and path.name != "__init__.py"
        if DETECTORS & {name.split(".")[0] for name in imports(path)} and not at_home:
            wrong.append(shown(path))
    assert not wrong, "\n".join(wrong)


def test_no_two_packages_have_a_file_of_the_same_name():
    named = [path for path in modules(LIBRARY) if path.name != "__init__.py"]
    counts = Counter(path.name for path in named)
    twice = [shown(path) for path in named if counts[path.name] > 1]
    assert not twice, "\n".join(sorted(twice, key=lambda path: path.rsplit("/", 1)[1]))


def test_the_house_stays_small():
    """At most 15 Python files in a folder besides `__init__`; sizes fall towards 20,000 lines in 140 files, 5,500."""
    library, chapters = list(modules(LIBRARY)), list(modules(CHAPTERS))
    folders = Counter(path.parent for path in [*library, *chapters] if path.name != "__init__.py")
    assert {shown(folder): n for folder, n in folders.items() if n > 15} == {}
    assert (
        len(library) <= 165
    )  # lower these whenever a room was thinned; raised once for `wafer.navigation`, an ability of its own
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in library) <= 29_600
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in chapters) <= 6_930


def loaded_by(statement: str) -> set[str]:
    """Return the top-level names of the modules that a fresh process has loaded after a statement."""
    program = f"{statement}\nimport sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "book")])}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    return set(done.stdout.split())


def test_importing_all_methods_loads_no_machinery():
    """Neither nbformat nor Snakemake nor the detectors' libraries."""
    loaded = loaded_by("import " + ", ".join(METHODS))
    assert loaded & {"nbformat", "jsonschema", "papermill", "snakemake", *DETECTORS} == set()


def test_the_command_line_answers_before_it_loads_anything_heavy():
    loaded = loaded_by("import emseg.cli; emseg.cli.main.__module__")
    assert loaded & {"torch", "numpy", "pandas", "pydantic", "nbformat", "yaml", "matplotlib", "cv2"} == set()


def test_help_answers_within_half_a_second():
    """Of processor time, as a busy machine stretches any other."""
    before = os.times()
    subprocess.run([sys.executable, "-m", "emseg", "--help"], capture_output=True, check=True)
    after = os.times()
    assert after.children_user + after.children_system - before.children_user - before.children_system < 0.5


@pytest.mark.parametrize("chapter", list_chapters(ROOT), ids=lambda chapter: chapter.name)
def test_a_notebook_opened_as_it_is_equals_the_profile_laptop(chapter):
    """Who runs a notebook in JupyterLab, or by plain papermill, gets what `make book` shows."""
    defaults = {name: parameter.default for name, parameter in chapter.parameters().items()}
    assert defaults == load_profile(ROOT, "laptop").resolve(chapter)
