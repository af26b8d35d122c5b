"""What a chapter's result depends on, as a small file whose change makes the chapter run again.

The state of a chapter at a profile is its code (digest of the notebook), its parameters, the library it imports and the
data it reads. The build writes the state only where it differs from the file that is there, so the file's time is the
time of the last change that matters: a new comment, a rebased checkout or a touched file re-runs nothing.
"""

import json
from pathlib import Path
from typing import Any

from emseg.runs.digest import library_digest, notebook_digest
from emseg.runs.parameters import read_parameters, resolve
from emseg.runs.profiles import Profile
from emseg.runs.project import Chapter, list_chapters
from emseg.runs.record import write_atomically

DATA_PARAMETER = "data"
SYNTHETIC = "synthetic"


def resolve_at(chapter: Chapter, profile: Profile) -> dict[str, Any]:
    """Return the parameters of `chapter` at `profile`, checked."""
    overrides = [(f"profile {profile.name}, chapter {chapter.name}", profile.of(chapter.name).parameters)]
    return resolve(read_parameters(chapter), overrides=overrides)


def chapter_state(chapter: Chapter, profile: Profile) -> dict[str, Any]:
    """Return what the result of `chapter` at `profile` depends on, as JSON-ready values."""
    notebook = chapter.read()
    parameters = resolve_at(chapter, profile)
    return {
        "chapter": chapter.name,
        "profile": profile.name,
        "parameters": parameters,
        "notebook": notebook_digest(notebook),
        "library": library_digest(notebook, chapter.name),
        "data": _data_state(parameters),
    }


def write_states(root: Path, profile: Profile, folder: Path) -> dict[str, Path]:
    """Bring the state files of all chapters below `folder` up to date and return them by chapter."""
    files = {}
    for chapter in list_chapters(root):
        text = json.dumps(chapter_state(chapter, profile), indent=1, ensure_ascii=False) + "\n"
        path = folder / f"{chapter.name}.json"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_atomically(path, text)
        files[chapter.name] = path
    return files


def require_data(parameters: dict[str, Any]) -> None:
    """Raise `InputError`, with the repair, when the data set that the parameter `data` names is not on this machine."""
    from emseg.data import dataset_path
    from emseg.data.places import ABSENT

    if _data_state(parameters) == ABSENT:
        dataset_path(parameters[DATA_PARAMETER])


def _data_state(parameters: dict[str, Any]) -> str:
    """Return the state of the files of the data set that the parameter `data` names; synthetic data has no files."""
    name = parameters.get(DATA_PARAMETER, SYNTHETIC)
    if name == SYNTHETIC:
        return SYNTHETIC
    from emseg.data import state

    return state(name)
