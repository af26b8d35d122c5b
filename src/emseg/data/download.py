"""Getting a data set: only the files that are not here yet, a few at a time, each verified before it takes its name.

pooch keeps the cache: it writes to a temporary file in the file's own folder, compares the SHA-256, and renames. A file
is there whole or not at all, two processes may fetch the same set at once, and an interrupted fetch resumes by file.
Moving the bytes is ours, because a reader needs to know what went wrong:

| what happens | what is done |
|---|---|
| no connection at all (no such host, refused, no route, TLS) | stop at once: no network, or no route to the host |
| cut in the middle, reset, silence, 408, 425, 429, 5xx | try again after a pause, `Patience.n_attempts` times in all |
| 404, 403, 410, other 4xx | ask the next source; stop if it was the last |
| whole, but another size or SHA-256 than the registry's | refuse that file, fetch the others |
"""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from emseg import __version__
from emseg.checks import Count, NotNegative, Positive, require_count, validated
from emseg.data.registry import (
    DataFile,
    Dataset,
    Problem,
    data_root,
    dataset,
    dataset_path,
    examine_files,
    folder_of,
    summarize,
)
from emseg.errors import InputError

if TYPE_CHECKING:
    import requests

N_PARALLEL = 4
_CHUNK_BYTES = 1 << 16
_TRANSIENT_STATUS = frozenset({408, 425, 429, *range(500, 600)})
_LONGEST_PAUSE_S = 30.0
_HEADERS = {
    "User-Agent": f"emseg/{__version__} (From Wafer to Membrane)",
    "Accept-Encoding": "identity",  # so that Content-Length is the file's size
}


@validated
class Patience:
    """How long to wait and how often to try. Pauses double from `pause_s`; a server's Retry-After is respected."""

    n_attempts: Count = 3
    pause_s: NotNegative = 0.5
    connect_timeout_s: Positive = 10.0
    read_timeout_s: Positive = 30.0


class _RefusedError(Exception):
    """What the server sent is not the file of the registry; the argument is the `Problem`."""


class _StoppedError(Exception):
    """Another file failed, or the user interrupted."""


class _NotThereError(Exception):
    """The server answered that it has no such file, or refuses it."""


class _TransientError(Exception):
    """It may work in a moment: the reason, and the pause in seconds that the server requested."""


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
    file, it sends other bytes than the registry's, or the cache cannot be written.
    """
    require_count("n_parallel", n_parallel)
    wanted = dataset(name)
    if data_root() is not None:
        return dataset_path(wanted)
    folder = folder_of(wanted)
    wrong = {problem.path for problem in examine_files(folder, wanted.files)}
    files = [file for file in wanted.files if file.path in wrong]
    if not files:
        return folder
    try:
        for parent in {(folder / file.path).parent for file in files}:
            parent.mkdir(parents=True, exist_ok=True)
        refused = _fetch_files(wanted, files, folder, progress, n_parallel, patience or Patience())
    except OSError as error:
        inner = error.__cause__  # pooch wraps that of a folder that is read-only
        reason = error.strerror or (inner.strerror if isinstance(inner, OSError) else None) or str(error)
        raise InputError(
            f"cannot write {wanted.name} to {folder} ({reason}): it takes "
            f"{sum(file.n_bytes for file in files) / 1e6:.1f} MB more; make room there and allow writing, or set "
            f"EMSEG_CACHE to another folder."
        ) from error
    if refused:
        raise InputError(
            f"{wanted.name} was not fetched whole, for what came is not what the registry lists: {summarize(refused)}. "
            f"It was not kept; {len(files) - len(refused)} of {len(files)} files are right. A proxy may have changed "
            f"it, or the source did; {wanted.stand_in_note}."
        )
    return folder


def _fetch_files(
    wanted: Dataset, files: Sequence[DataFile], folder: Path, progress: bool | None, n_parallel: int, patience: Patience
) -> list[Problem]:
    """Fetch `files` into `folder` and return those refused; anything else that fails stops all."""
    import pooch
    import requests

    keeper = pooch.Pooch(
        path=folder,
        base_url="",
        registry={file.path: f"sha256:{file.sha256}" for file in files},
        urls={file.path: wanted.urls(file)[0] for file in files},
    )
    stop = threading.Event()
    with (
        _progress_bar(wanted.name, files, progress) as count,
        requests.Session() as session,  # one for all threads: connections are reused
        ThreadPoolExecutor(n_parallel, thread_name_prefix="emseg-fetch") as executor,
    ):
        pooch.get_logger().setLevel(logging.WARNING)  # the bar replaces its line for each file

        def fetch_one(file: DataFile) -> Problem | None:
            transfer = _Transfer(wanted, file, session, patience, stop, count)
            try:
                keeper.fetch(file.path, downloader=transfer)
            except _RefusedError as error:
                return error.args[0]  # type: ignore[no-any-return]
            except InputError:
                raise
            except ValueError:  # pooch compared the SHA-256 and kept nothing
                transfer.undo()
                return Problem(file.path, "altered", f"at {transfer.url} its SHA-256 is another")
            return None

        futures = [executor.submit(fetch_one, file) for file in files]
        try:
            return [problem for future in as_completed(futures) if (problem := future.result()) is not None]
        except BaseException:
            stop.set()
            executor.shutdown(wait=False, cancel_futures=True)
            raise


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


@dataclass
class _Transfer:
    """A pooch downloader for one file; `session`, `stop` and `count` are shared by all files of one fetch."""

    wanted: Dataset
    file: DataFile
    session: "requests.Session"
    patience: Patience
    stop: threading.Event
    count: Callable[[int], None]
    url: str = ""
    n_received: int = 0

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        """Write the file's bytes to `output_file`, from the first source that has it."""
        target = Path(output_file)
        target.unlink()  # pooch made it readable to its owner alone; a shared cache wants the user's own permissions
        refusals = []
        for address in self.wanted.urls(self.file):
            self.url = address
            try:
                return self._insist(target)
            except _NotThereError as error:
                refusals.append(f"{self.url} answered {error}")
        raise InputError(
            f"{self.wanted.name} cannot be fetched, for {self.file.path} is not where the registry lists it: "
            f"{'; '.join(refusals)}; set EMSEG_DATA to a folder that contains {self.wanted.name}/; "
            f"{self.wanted.stand_in_note}."
        )

    def undo(self) -> None:
        """Take back what was counted of this file."""
        self.count(-self.n_received)
        self.n_received = 0

    def _insist(self, target: Path) -> None:
        """Receive from `self.url`, again after what may pass; give up after `n_attempts`."""
        for attempt in range(1, self.patience.n_attempts + 1):
            try:
                return self._receive(target)
            except _TransientError as error:
                self.undo()
                reason, asked_pause_s = error.args
            except BaseException:
                self.undo()
                raise
            pause_s = min(max(self.patience.pause_s * 2 ** (attempt - 1), asked_pause_s), _LONGEST_PAUSE_S)
            if attempt < self.patience.n_attempts and self.stop.wait(pause_s):
                raise _StoppedError
        raise InputError(
            f"{self.wanted.name} was not fetched whole: {self.file.path} failed {self.patience.n_attempts} times "
            f"({reason}, from {self.url}); the files that came whole are kept, so run "
            f"`emseg data fetch {self.wanted.name}` again to go on."
        )

    def _receive(self, target: Path) -> None:
        """Receive once; sort every failure into transient, not there, refused, or final."""
        import requests
        from urllib3.exceptions import ReadTimeoutError

        cut = f"truncated: the connection was cut before all {self.file.n_bytes:,} bytes were here"
        timeout = (self.patience.connect_timeout_s, self.patience.read_timeout_s)
        try:
            with self.session.get(self.url, headers=_HEADERS, stream=True, timeout=timeout) as reply:
                answer = f"{reply.status_code} {reply.reason}"
                if reply.status_code in _TRANSIENT_STATUS:
                    pause_s = 0.0
                    with suppress(ValueError):  # a date, which few servers send
                        pause_s = float(reply.headers.get("Retry-After", "0"))
                    raise _TransientError(f"the server answered {answer}", pause_s)
                if reply.status_code != 200:
                    raise _NotThereError(answer)
                announced = reply.raw.length_remaining  # of the body, as the header says; None if it does not
                with target.open("wb") as stream:
                    for chunk in reply.iter_content(_CHUNK_BYTES):
                        if self.stop.is_set():
                            raise _StoppedError
                        stream.write(chunk)
                        self.count(len(chunk))
                        self.n_received += len(chunk)
                        if self.n_received > self.file.n_bytes:
                            break
        except requests.RequestException as error:
            if (unreachable := _unreachable(error)) is not None:
                raise InputError(
                    f"{self.wanted.name} cannot be fetched, for {urlsplit(self.url).hostname} cannot be reached "
                    f"({unreachable}): connect to the network and try again, or set EMSEG_DATA to a folder that "
                    f"contains {self.wanted.name}/; {self.wanted.stand_in_note}."
                ) from error
            inner = error.args[0] if error.args else None
            silent = isinstance(error, requests.Timeout) or isinstance(inner, ReadTimeoutError)
            raise _TransientError(f"no byte for {timeout[1]:g} s" if silent else cut, 0.0) from error
        if self.n_received < (self.file.n_bytes if announced is None else min(announced, self.file.n_bytes)):
            raise _TransientError(cut, 0.0)
        if self.n_received != self.file.n_bytes:
            came = "more" if self.n_received > self.file.n_bytes else f"{self.n_received:,}"
            detail = f"at {self.url} it has {came} bytes instead of {self.file.n_bytes:,}"
            raise _RefusedError(Problem(self.file.path, "altered", detail))


def _unreachable(error: "requests.RequestException") -> str | None:
    """Return why no connection came about, or None if there was one."""
    import requests
    from urllib3.exceptions import NewConnectionError

    if isinstance(error, requests.ConnectTimeout):
        return "no answer"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy does not answer"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate cannot be verified"
    cause = getattr(error.args[0], "reason", None) if error.args else None
    if isinstance(cause, NewConnectionError):
        said = str(cause).rsplit("] ", 1)[-1].rstrip(")")  # "...: [Errno 111] Connection refused"
        return f"its name is not known: {said}" if "resolve" in str(cause) else said
    if isinstance(error, requests.ConnectionError | requests.Timeout | requests.exceptions.ChunkedEncodingError):
        return None
    return f"{type(error).__name__}: {error}"
