"""Running one chapter: parameters in, an executed notebook and a run record out.

Papermill runs the notebook; this module adds what it lacks. Parameters are checked before a kernel starts. The kernel
is this very interpreter (no kernelspec is searched) and reports what code it ran; where that is not what the command
saw, no record is written. A failed cell or a killed kernel is distinguished from success by what was executed, not by
the notebook's own metadata (papermill 2.7 leaves "completed" there when the kernel is killed). The record is written
last, atomically, so that it exists only for a run that succeeded.
"""

import contextlib
import importlib.util
import json
import os
import platform
import secrets
import shutil
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat
import psutil

from emseg.data import ABSENT, dataset_path
from emseg.errors import InputError
from emseg.files import ROOT_VARIABLE, digest_of, write_atomically
from emseg.runs.digest import (
    DATA_PARAMETER,
    IN_OWN_FOLDER,
    OWN_FOLDER,
    SYNTHETIC,
    data_state,
    git_state,
    process_facts,
)
from emseg.runs.gathering import SCHEMA_VERSION, write_record
from emseg.runs.project import Chapter
from emseg.runs.session import EXPECTED_VARIABLE, METADATA_KEY

OWN_FILES = ("weights", "pretraining_file")  # parameters for a file of the user's, unless empty
_FOLDER_VARIABLES = ("EMSEG_DATA", "EMSEG_CACHE")
_WARNINGS_VARIABLE, _PATH = "PYTHONWARNINGS", "PYTHONPATH"
# What tqdm says when a library imports its bars for notebooks: a page can hold no such bar.
_NO_WIDGETS = "ignore:IProgress not found"
# Kernels announce on stderr that they talk over local TCP; the build's progress should not drown in that.
_KERNEL = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--IPKernelApp.log_level=50"]
_SPACE_MB = 200  # an executed notebook with its figures takes a few
_STALE_S, _KILLED_S = 60, 5
_ANOTHER = {
    "interpreter": "another Python than this command's",
    "emseg": "an `emseg` from another folder than this command's",
    "notebook": "another notebook than this command's",
    "library": "another version of `emseg` or `chapters` than this command's",
    "commit": "another commit than this command's",
}


class ChapterFailedError(InputError):
    """A chapter did not run through; the message states where and why."""


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
    failed = files.notebook.with_suffix(".failed.ipynb")
    prepare_folder(files.record.parent)
    code, before = git_state(root), process_facts(root, chapter.name)
    with _work_folder(files.record.parent, run_id) as work, _kernel_environment(root, chapter.name, before):
        working = work / "notebook.ipynb"
        reason = _execute(chapter, parameters, working, progress)
        executed = nbformat.read(working, as_version=4) if working.exists() else None
        reason = reason or what_is_missing(executed)
        payload = {} if reason else find_payload(executed, chapter.name)
        reason = reason or _what_differs(before, payload.pop("process", None), process_facts(root, chapter.name))
        if reason:
            if executed is not None:
                write_atomically(failed, nbformat.writes(_cleaned(executed)))
            kept = f" What it did until then is in {failed}." if executed is not None else ""
            raise ChapterFailedError(f"chapter {chapter.name} failed: {reason}. No record was written.{kept}")
        finished = datetime.now(UTC)
        record = {
            "schema": SCHEMA_VERSION,
            "run_id": run_id,
            **payload,
            "profile": profile,
            "parameters": parameters,
            "digests": {name: before[name] for name in ("notebook", "library")},
            "code": code,
            "started": timestamp(started),
            "finished": timestamp(finished),
            "wall_s": round((finished - started).total_seconds(), 2),
        }
        write_atomically(files.notebook, nbformat.writes(_cleaned(executed)))
        write_record(files.record, record)
        failed.unlink(missing_ok=True)
    return files


def require_data(parameters: dict[str, Any]) -> None:
    """Raise `InputError`, with the repair, for data or a file of the parameters that is not on this machine."""
    for name in OWN_FILES:
        if given := parameters.get(name, ""):
            path = Path(given).expanduser()
            if not path.is_file():
                raise InputError(
                    f"`{name}` must name a file, relative to the current folder or absolute; got {given!r}, which is "
                    "none. Correct the path, or leave the parameter empty."
                )
            with path.open("rb") as file:
                head = file.read(9)
            if not (head.startswith((b"PK", b"\x80")) or head[8:] == b"{"):  # torch's two formats, safetensors
                raise InputError(
                    f"`{name}` must name a checkpoint; {given!r} begins like none: a page, a pointer or half a "
                    "download may have its name. Get the file again."
                )
    data = parameters.get(DATA_PARAMETER, SYNTHETIC)
    if data not in IN_OWN_FOLDER:
        if data_state(parameters) == ABSENT:
            dataset_path(data)
        return
    folder = Path(parameters.get(OWN_FOLDER, "")).expanduser()
    if not parameters.get(OWN_FOLDER) or not folder.is_dir():
        named = parameters.get(OWN_FOLDER, "")
        raise InputError(
            f"`folder` must name a folder of {IN_OWN_FOLDER[data]} when `data` is {data!r}; got {named!r}, which is "
            f"not a folder. Give its path, or take data={SYNTHETIC!r}, which needs none."
        )
    if data == OWN_FOLDER and "track" in parameters:  # membranes; else wafers
        from emseg.membrane.dataset.folder_set import first_look

        size_px = parameters.get("size_px", 0) if "n_train" in parameters else 0  # else that of synthetic images alone
        first_look(folder, parameters.get("split", "block"), size_px)
    elif data == OWN_FOLDER and "split" in parameters:
        from emseg.wafer.formats import open_benchmark

        open_benchmark(folder)


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
    if (free := shutil.disk_usage(folder).free / 1e6) < _SPACE_MB:
        raise InputError(
            f"{folder} needs {_SPACE_MB} MB of free space for a run; {free:.0f} MB are free. "
            "Free some space or choose another --out."
        )


def timestamp(moment: datetime) -> str:
    """Return a moment as ISO 8601 in UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def what_is_missing(notebook: Any) -> str | None:
    """Return why an executed notebook did not run through, or None when every code cell did, without an error."""
    if notebook is None:
        return "it stopped before its first cell"
    for cell in notebook.cells:
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        for output in cell.outputs:
            if output.output_type == "error":
                return f"cell {cell.get('id')} raised {output.ename}: {_one_line(output.evalue)}"
        if cell.execution_count is None:
            return f"cell {cell.get('id')} was not executed, for the kernel died or was killed before it"
    return None


def find_payload(notebook: Any, chapter: str) -> dict[str, Any]:
    """Return what the notebook's `Run` published; a notebook that published nothing is a defect of the chapter."""
    for cell in reversed(notebook.cells):
        for output in cell.get("outputs", ()):
            payload = output.get("metadata", {}).get(METADATA_KEY)
            if payload:
                if payload["chapter"] != chapter:
                    raise InputError(f"chapter {chapter} calls itself {payload['chapter']!r}; mend its `Run(...)`.")
                return payload  # type: ignore[no-any-return]
    raise InputError(f"chapter {chapter} published no numbers; its last code cell must end with its `Run`.")


def _what_differs(before: dict[str, Any], kernel: dict[str, Any] | None, after: dict[str, Any]) -> str | None:
    """Return why a record of this command would not describe what the kernel ran, or None when it would."""
    if any(before[name] != after[name] for name in ("notebook", "library")):
        return "its source was edited during the run. Run it again, and leave book/ and src/ alone until it ends"
    for name, words in _ANOTHER.items():
        if (kernel or {}).get(name) != after[name]:
            return f"its kernel ran {words}. Look for a PYTHONPATH, a `sys.path` or an installation that hides it"
    return None


@contextlib.contextmanager
def _work_folder(folder: Path, run_id: str) -> Iterator[Path]:
    """Yield a folder for the files of a run in progress; what killed runs of this machine left there is removed."""
    machine = digest_of(platform.node())[:6]  # another one may share the file system
    for left in folder.glob(f".*.*-{machine}.running"):
        if not psutil.pid_exists(int(left.name.split(".")[-2].split("-")[0])):
            shutil.rmtree(left, ignore_errors=True)
    for left in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _STALE_S:
                left.unlink()
    work = folder / f".{run_id}.{os.getpid()}-{machine}.running"
    own = psutil.Process()
    others = own.children(recursive=True)
    try:
        work.mkdir()
        yield work
    finally:
        kernels = [child for child in own.children(recursive=True) if child not in others]
        for kernel in kernels:  # one that an interrupted start left, or it would write into the folder
            with contextlib.suppress(psutil.Error):
                kernel.kill()
        psutil.wait_procs(kernels, timeout=_KILLED_S)
        shutil.rmtree(work, ignore_errors=True)


def _execute(
    chapter: Chapter, parameters: dict[str, Any], working: Path, progress: bool, again: bool = True
) -> str | None:
    """Run the notebook into `working`; return why it could not run, or None: `what_is_missing` finds failed cells."""
    if importlib.util.find_spec("ipykernel") is None:
        raise InputError('running a chapter needs the package ipykernel. pip install "emseg[book]"')
    import papermill
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    class ThisPython(KernelSpecManager):
        def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
            return KernelSpec(argv=_KERNEL, display_name=kernel_name, language="python")

    class Kernel(AsyncKernelManager):
        def __init__(self, **options: Any) -> None:
            file = str(working.with_name("connection"))
            super().__init__(connection_file=file, kernel_spec_manager=ThisPython(), **options)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of papermill's imports; a chapter's own show in its notebook
        try:
            papermill.execute_notebook(
                str(chapter.path),
                str(working),
                parameters=_for_the_kernel(parameters),
                kernel_name="python3",
                progress_bar=progress,
                cwd=str(chapter.path.parent),
                log_output=False,
                kernel_manager_class=Kernel,
            )
        except PapermillExecutionError:
            return None
        except DeadKernelError:
            return "its kernel died or was killed (often for want of memory)"
        except RuntimeError as error:  # no cell ran yet: for one, another program took a port meant for the kernel
            if again:
                return _execute(chapter, parameters, working, progress, again=False)
            return f"its kernel could not run: {_one_line(str(error))}"
        except OSError as error:
            raise InputError(
                f"{working.parent.parent} could not be written: {error.strerror or error}. "
                "Free some space or choose another --out, then run again."
            ) from error
    return None


def _for_the_kernel(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters with relative places of the user's made absolute; the record keeps them as given."""
    named = {name: parameters[name] for name in (OWN_FOLDER, *OWN_FILES) if parameters.get(name)}
    return parameters | {name: str(Path(place).expanduser().resolve()) for name, place in named.items()}


@contextlib.contextmanager
def _kernel_environment(root: Path, chapter: str, facts: dict[str, Any]) -> Iterator[None]:
    """Give the kernel absolute folders, for it starts in the notebook's, no wish for widgets, and what to be."""
    names = (*_FOLDER_VARIABLES, _WARNINGS_VARIABLE, _PATH, ROOT_VARIABLE, EXPECTED_VARIABLE)
    before = {name: os.environ.get(name) for name in names}
    os.environ.update({name: str(Path(value).resolve()) for name in _FOLDER_VARIABLES if (value := before[name])})
    if path := before[_PATH]:
        os.environ[_PATH] = os.pathsep.join(map(os.path.abspath, path.split(os.pathsep)))
    os.environ[_WARNINGS_VARIABLE] = ",".join(filter(None, [before[_WARNINGS_VARIABLE], _NO_WIDGETS]))
    os.environ[ROOT_VARIABLE] = str(root.resolve())
    os.environ[EXPECTED_VARIABLE] = json.dumps({"chapter": chapter} | {one: facts[one] for one in ("emseg", "library")})
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)
        os.environ.update({name: value for name, value in before.items() if value is not None})


def _cleaned(notebook: Any) -> Any:
    """Return the notebook without papermill's notes of paths and times: the record contains what matters of them."""
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
    return notebook


def _one_line(text: str) -> str:
    return " ".join(text.split())[:400].rstrip(".") or "no message"
