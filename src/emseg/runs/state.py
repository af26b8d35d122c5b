"""What a chapter's result depends on, as a small file whose change makes the chapter run again.

The state of a chapter at a profile is its code (digest of the notebook), its parameters, the library it imports and the
data it reads. The build writes the state only where it differs from the file that is there, so the file's time is the
time of the last change that matters: a new comment, a rebased checkout or a touched file re-runs nothing.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from emseg.errors import InputError
from emseg.files import digest_of, find_root
from emseg.runs.digest import library_digest, notebook_digest
from emseg.runs.gathering import gather_records
from emseg.runs.matrix import Cell
from emseg.runs.parameters import read_parameters, resolve
from emseg.runs.profiles import Profile
from emseg.runs.project import Chapter, find_chapter, list_chapters
from emseg.runs.record import write_atomically

DATA_PARAMETER = "data"
RECORDS_PARAMETER = "records_of"  # names the chapter whose records a chapter gathers
SYNTHETIC = "synthetic"
OWN_FOLDER = "folder"  # the parameter that gives a folder of the user's; as a data set's name: images of any source
OWN_FILES = ("weights", "pretraining_file")  # parameters that give a file of the user's, where they are not empty
# Data sets that nobody but the user can bring, and where they come from.
IN_OWN_FOLDER = {OWN_FOLDER: "your own data", "urisc": "U-RISC (https://github.com/EmmaSRH/U-RISC-Data-Code)"}


def resolve_at(chapter: Chapter, profile: Profile) -> dict[str, Any]:
    """Return the parameters of `chapter` at `profile`, checked."""
    overrides = [(f"profile {profile.name}, chapter {chapter.name}", profile.of(chapter.name).parameters)]
    return resolve(read_parameters(chapter), overrides=overrides)


def chapter_state(chapter: Chapter, profile: Profile) -> dict[str, Any]:
    """Return what the result of `chapter` at `profile` depends on, as JSON-ready values."""
    return _state(chapter, profile, resolve_at(chapter, profile))


def _state(chapter: Chapter, profile: Profile, parameters: dict[str, Any]) -> dict[str, Any]:
    notebook = chapter.read()
    state = {
        "chapter": chapter.name,
        "profile": profile.name,
        "parameters": parameters,
        "notebook": notebook_digest(notebook),
        "library": library_digest(notebook, chapter.name),
        "data": _data_state(parameters),
    }
    gathered = parameters.get(RECORDS_PARAMETER)
    return state if gathered is None else {**state, "records": _records_state(gathered)}


def write_states(root: Path, profile: Profile, folder: Path) -> dict[str, Path]:
    """Bring the state files of all chapters below `folder` up to date and return them by chapter."""
    files = {}
    for chapter in list_chapters(root):
        files[chapter.name] = folder / f"{chapter.name}.json"
        _write_if_changed(files[chapter.name], chapter_state(chapter, profile))
    return files


def write_cell_states(root: Path, profile: Profile, cells: Iterable[Cell], folder: Path) -> None:
    """Bring the state files of the cells of matrices up to date: FOLDER/matrix/cell.json."""
    states: dict[str, dict[str, Any]] = {}  # of the chapters, for the digests are the same for all cells of one
    for cell in cells:
        chapter = find_chapter(root, cell.chapter)
        if cell.chapter not in states:
            states[cell.chapter] = _state(chapter, profile, dict(cell.parameters))
        state = {**states[cell.chapter], "parameters": dict(cell.parameters), "data": _data_state(cell.parameters)}
        _write_if_changed(folder / cell.matrix / f"{cell.name}.json", state)


def _write_if_changed(path: Path, state: dict[str, Any]) -> None:
    text = json.dumps(state, indent=1, ensure_ascii=False) + "\n"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomically(path, text)


def require_data(parameters: dict[str, Any]) -> None:
    """Raise `InputError`, with the repair, when data or a file that the parameters name is not on this machine."""
    from emseg.data import dataset_path
    from emseg.data.places import ABSENT

    for name in OWN_FILES:
        given = parameters.get(name, "")
        if given and not Path(given).expanduser().is_file():
            raise InputError(
                f"`{name}` must name a file, from where you stand or by its whole path; got {given!r}, which is none. "
                "Correct the path, or leave the parameter empty."
            )
    if _data_state(parameters) != ABSENT:
        return
    if parameters[DATA_PARAMETER] in IN_OWN_FOLDER:
        named = parameters.get(OWN_FOLDER, "")
        raise InputError(
            f"`folder` must name a folder of {IN_OWN_FOLDER[parameters[DATA_PARAMETER]]} when `data` is "
            f"{parameters[DATA_PARAMETER]!r}; got {named!r}, which is no folder. Give its path, or take "
            f"data={SYNTHETIC!r}, which needs none."
        )
    dataset_path(parameters[DATA_PARAMETER])


def _records_state(chapter: str) -> list[str]:
    """Return the names of all records of `chapter` that a chapter which gathers them would find."""
    return sorted(record["run_id"] for record in gather_records(find_root(), chapter))


def _data_state(parameters: Mapping[str, Any]) -> str:
    """Return the state of the files of the data set that the parameter `data` names; synthetic data has no files."""
    name = parameters.get(DATA_PARAMETER, SYNTHETIC)
    if name == SYNTHETIC:
        return SYNTHETIC
    if name in IN_OWN_FOLDER:
        return _folder_state(str(parameters.get(OWN_FOLDER, "")))
    from emseg.data import state

    return state(name)


def _folder_state(folder: str) -> str:
    """Return a digest of the names, sizes and times of all files of a folder; the user's data may have any layout."""
    from emseg.data.places import ABSENT

    root = Path(folder)
    if not folder or not root.is_dir():
        return ABSENT
    files = sorted(path for path in root.rglob("*") if path.is_file())
    stats = [(path.relative_to(root).as_posix(), path.stat()) for path in files]
    return digest_of(*(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats))
