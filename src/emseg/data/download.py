"""Getting a data set: only the files that are not here yet, a few at a time, each verified before it takes its name.

pooch keeps the cache: it writes to a temporary file in the file's own folder, compares the SHA-256, and renames. So a
file is there whole or not at all, two processes may fetch the same set at once, and a fetch that was cut goes on where
it stopped, by file. `transfer.py` moves the bytes of one file.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from emseg.data.places import data_root, folder_of
from emseg.data.registry import DataFile, Dataset, dataset
from emseg.data.transfer import FileRefusedError, Line, Patience, Transfer
from emseg.data.verification import Problem, dataset_path, examine_files, summarize
from emseg.errors import InputError, UsageError

N_PARALLEL = 4


def fetch(
    name: str | Dataset,
    *,
    progress: bool | None = None,
    n_parallel: int = N_PARALLEL,
    patience: Patience | None = None,
) -> Path:
    """Return the folder of the data set after getting the files that are missing, truncated or altered there.

    `progress` shows one bar over all files on stderr; None means on a terminal only. With `EMSEG_DATA` set nothing is
    downloaded: the set there is verified. Raises `InputError`, with what to do: no network, the server has no such
    file, it sends something else than the registry's bytes, or the cache cannot be written.
    """
    if n_parallel < 1:
        raise UsageError(f"`n_parallel` must be at least 1; got {n_parallel}")
    wanted = dataset(name)
    if data_root() is not None:
        return dataset_path(wanted)
    folder = folder_of(wanted)
    wrong = {problem.path for problem in examine_files(folder, wanted.files)}
    files = [file for file in wanted.files if file.path in wrong]
    if files:
        try:
            for parent in {(folder / file.path).parent for file in files}:
                parent.mkdir(parents=True, exist_ok=True)
            _fetch_files(wanted, files, folder, progress, n_parallel, patience or Patience())
        except OSError as error:
            raise InputError(
                f"cannot write {wanted.name} to {folder} ({_reason(error)}): it takes "
                f"{sum(file.n_bytes for file in files) / 1e6:.1f} MB more; make room there and allow writing, or set "
                f"EMSEG_CACHE to another folder."
            ) from error
    return folder


def _fetch_files(
    wanted: Dataset, files: Sequence[DataFile], folder: Path, progress: bool | None, n_parallel: int, patience: Patience
) -> None:
    """Fetch `files` into `folder`; a refused file does not stop the others, anything else does."""
    import pooch
    import requests

    refused: list[Problem] = []
    keeper = pooch.Pooch(
        path=folder,
        base_url="",
        registry={file.path: f"sha256:{file.sha256}" for file in files},
        urls={file.path: wanted.urls(file)[0] for file in files},
    )

    def fetch_one(file: DataFile, line: Line) -> None:
        transfer = Transfer(wanted, file, line)
        try:
            keeper.fetch(file.path, downloader=transfer)
        except (InputError, FileRefusedError):
            raise
        except ValueError as error:  # pooch compared the SHA-256; it kept nothing
            transfer.undo()
            problem = Problem(file.path, "altered", f"at {transfer.url} its SHA-256 is another")
            raise FileRefusedError(problem) from error

    with (
        _quiet_pooch(),
        _progress_bar(wanted.name, files, progress) as count,
        requests.Session() as session,  # one for all threads: connections are kept and used again
        ThreadPoolExecutor(n_parallel, thread_name_prefix="emseg-fetch") as executor,
    ):
        line = Line(session, patience, threading.Event(), count)
        futures = [executor.submit(fetch_one, file, line) for file in files]
        try:
            for future in as_completed(futures):
                try:
                    future.result()
                except FileRefusedError as error:
                    refused.append(error.problem)
        except BaseException:
            line.stop.set()
            executor.shutdown(wait=False, cancel_futures=True)
            raise
    if refused:
        n_right = len(files) - len(refused)
        raise InputError(
            f"{wanted.name} was not fetched whole, for what came is not what the registry lists: {summarize(refused)}. "
            f"It was not kept; {n_right} of {len(files)} files are right. A proxy may have changed it, or the "
            f"source did; {wanted.stand_in_note}."
        )


def _reason(error: OSError) -> str:
    """Return the operating system's own words, which pooch wraps for a folder that is read-only."""
    inner = error.__cause__
    return error.strerror or (inner.strerror if isinstance(inner, OSError) else None) or str(error)


@contextmanager
def _progress_bar(name: str, files: Sequence[DataFile], progress: bool | None) -> Iterator[Callable[[int], None]]:
    """Yield a function that counts bytes on one bar, from any thread."""
    from tqdm import tqdm

    lock = threading.Lock()
    n_bytes = sum(file.n_bytes for file in files)
    hide = None if progress is None else not progress
    with tqdm(total=n_bytes, desc=f"{name}, {len(files)} files", unit="B", unit_scale=True, disable=hide) as bar:

        def count(n: int) -> None:
            with lock:
                bar.update(n)

        yield count


@contextmanager
def _quiet_pooch() -> Iterator[None]:
    """Keep pooch from logging one line a file; the bar says it."""
    import pooch

    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
