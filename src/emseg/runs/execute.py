"""Running one chapter: parameters in, an executed notebook and a run record out.

Papermill runs the notebook; this module adds what it lacks. Parameters are checked before a kernel starts. A failed
cell or a killed kernel is distinguished from success by what was executed, not by the notebook's own metadata
(papermill 2.7 leaves "completed" there when the kernel is killed). The record is written last, atomically, so that it
exists only for a run that succeeded.
"""

import contextlib
import os
import secrets
import subprocess
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat

from emseg.errors import InputError
from emseg.files import write_atomically
from emseg.runs.digest import OWN_FILES, OWN_FOLDER, code_digests
from emseg.runs.gathering import SCHEMA_VERSION, write_record
from emseg.runs.project import Chapter
from emseg.runs.session import METADATA_KEY

KERNEL = "python3"
_FOLDER_VARIABLES = ("EMSEG_DATA", "EMSEG_CACHE", "EMSEG_PROJECT")
_WARNINGS_VARIABLE = "PYTHONWARNINGS"
# What tqdm says when a library imports its bars for notebooks: a page can hold no such bar.
_NO_WIDGETS = "ignore:IProgress not found"
# Kernels announce on stderr that they talk over local TCP; the build's progress should not drown in that.
_KERNEL_ARGUMENTS = ["--IPKernelApp.log_level=50"]


class ChapterFailedError(InputError):
    """A chapter did not run through; the message says where and why."""


@dataclass(frozen=True)
class RunFiles:
    """Where a run left its executed notebook and its record."""

    notebook: Path
    record: Path


def run_files(out: Path, chapter: Chapter, name: str) -> RunFiles:
    """Return the files of the run called `name`: OUT/chapter/name.ipynb and .json."""
    folder = out / chapter.name
    return RunFiles(folder / f"{name}.ipynb", folder / f"{name}.json")


def run_chapter(
    chapter: Chapter,
    parameters: dict[str, Any],
    *,
    root: Path,
    profile: str,
    out: Path,
    name: str | None = None,
    progress: bool = True,
) -> RunFiles:
    """Run `chapter` with resolved `parameters` and return its files below `out`.

    `name` names the two files; by default it is the run's unique id, so that runs side by side never meet. A chapter
    that fails raises `ChapterFailedError` and leaves no record; what it did until then is kept as `NAME.failed.ipynb`.
    """
    started = datetime.now(UTC)
    run_id = f"{chapter.name.replace('/', '-')}-{profile}-{started:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
    files = run_files(out, chapter, name or run_id)
    prepare_folder(files.record.parent)
    digests, code = code_digests(chapter), git_state(root)

    working = files.notebook.with_name(f".{run_id}.running.ipynb")
    failed = files.notebook.with_suffix(".failed.ipynb")
    try:
        reason = _execute(chapter, parameters, working, progress)
        executed = nbformat.read(working, as_version=4) if working.exists() else None
        reason = reason or what_is_missing(executed)
        if reason:
            if executed is not None:
                write_atomically(failed, nbformat.writes(_cleaned(executed)))
            kept = f" What it did until then is in {failed}." if executed is not None else ""
            raise ChapterFailedError(f"chapter {chapter.name} failed: {reason}. No record was written.{kept}")
        payload = find_payload(executed, chapter.name)
        finished = datetime.now(UTC)
        record = {
            "schema": SCHEMA_VERSION,
            "run_id": run_id,
            "chapter": chapter.name,
            "profile": profile,
            "parameters": parameters,
            "seeds": payload["seeds"],
            "data": payload["data"],
            "digests": digests,
            "code": code,
            "environment": payload["environment"],
            "started": timestamp(started),
            "finished": timestamp(finished),
            "wall_s": round((finished - started).total_seconds(), 2),
            "peak_memory": payload["peak_memory"],
            "metrics": payload["metrics"],
        }
        write_atomically(files.notebook, nbformat.writes(_cleaned(executed)))
        write_record(files.record, record)
        failed.unlink(missing_ok=True)
    finally:
        working.unlink(missing_ok=True)
    return files


def prepare_folder(folder: Path) -> None:
    """Make `folder` and make sure, before any long work, that it can be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{folder} must be a folder, and a file is in the way. Choose another --out.") from None
    except OSError as error:
        raise InputError(f"{folder} cannot be made: {error.strerror}. Choose another --out.") from error
    if not os.access(folder, os.W_OK):
        raise InputError(f"{folder} is not writable. Choose another --out, or mend its permissions.")


def git_state(root: Path) -> dict[str, Any]:
    """Return the commit of the checkout at `root` and whether its tracked files are unchanged; None where unknown."""
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return {"commit": None, "tree_clean": None}
    return {"commit": commit, "tree_clean": _git(root, "status", "--porcelain", "--untracked-files=no") == ""}


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def timestamp(moment: datetime) -> str:
    """Return a moment as ISO 8601 in UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def what_is_missing(notebook: Any) -> str | None:
    """Return why an executed notebook did not run through, or None when every code cell did, without an error."""
    if notebook is None:
        return "it stopped before its first cell"
    for position, cell in enumerate(notebook.cells, start=1):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        where = f"cell {position} ({cell.get('id', 'no id')})"
        for output in cell.outputs:
            if output.output_type == "error":
                return f"{where} raised {output.ename}: {_one_line(output.evalue)}"
        if cell.execution_count is None:
            return f"{where} was not executed, for the kernel died or was killed before it"
    return None


def find_payload(notebook: Any, chapter: str) -> dict[str, Any]:
    """Return what the notebook's `Run` published; a notebook that published nothing is a defect of the chapter."""
    for cell in reversed(notebook.cells):
        for output in cell.get("outputs", ()):
            payload = output.get("metadata", {}).get(METADATA_KEY)
            if payload:
                if payload["chapter"] != chapter:
                    raise InputError(f"chapter {chapter} calls itself {payload['chapter']!r}; mend its `Run(...)`.")
                return dict(payload)
    raise InputError(f"chapter {chapter} published no numbers; its last code cell must end with its `Run`.")


def _execute(chapter: Chapter, parameters: dict[str, Any], working: Path, progress: bool) -> str | None:
    """Run the notebook into `working`; return why it stopped, or None when papermill saw nothing wrong."""
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    with warnings.catch_warnings(), _kernel_environment():
        warnings.simplefilter("ignore")  # those of papermill's imports; a chapter's own show in its notebook
        try:
            papermill.execute_notebook(
                str(chapter.path),
                str(working),
                parameters=_for_the_kernel(parameters),
                kernel_name=KERNEL,
                progress_bar=progress,
                cwd=str(chapter.path.parent),
                log_output=False,
                extra_arguments=_KERNEL_ARGUMENTS,
            )
        except PapermillExecutionError as error:
            return f"cell {error.cell_index + 1} raised {error.ename}: {_one_line(error.evalue)}"
        except DeadKernelError:
            return "its kernel died or was killed (often for want of memory)"
        except RuntimeError as error:
            return f"its kernel could not run: {_one_line(str(error))}"
    return None


def _for_the_kernel(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters with relative places of the user's made absolute; the record keeps them as given."""
    named = {name: parameters[name] for name in (OWN_FOLDER, *OWN_FILES) if parameters.get(name)}
    return parameters | {name: str(Path(place).expanduser().resolve()) for name, place in named.items()}


@contextlib.contextmanager
def _kernel_environment() -> Iterator[None]:
    """Give the kernel absolute folders, for it starts in the notebook's and not in ours, and no wish for widgets."""
    before = {name: os.environ.get(name) for name in (*_FOLDER_VARIABLES, _WARNINGS_VARIABLE)}
    os.environ.update({name: str(Path(value).resolve()) for name in _FOLDER_VARIABLES if (value := before[name])})
    os.environ[_WARNINGS_VARIABLE] = ",".join(filter(None, [before[_WARNINGS_VARIABLE], _NO_WIDGETS]))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _cleaned(notebook: Any) -> Any:
    """Return the notebook without papermill's notes of paths and times: the record holds what matters of them."""
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
    return notebook


def _one_line(text: str) -> str:
    return " ".join(text.split())[:400].rstrip(".") or "no message"
