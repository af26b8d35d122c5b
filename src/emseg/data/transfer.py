"""Moving the bytes of one file over HTTP: what is tried again, what is refused, and when to stop.

| what happens | what is done |
|---|---|
| no connection at all (no such host, refused, no route, TLS) | stop at once: there is no network, or none to there |
| cut in the middle, reset, silence, 408, 425, 429, 5xx | try again after a pause, `Patience.n_attempts` times in all |
| 404, 403, 410, other 4xx | ask the next source; stop if it was the last |
| whole, but another size than the registry's | refuse that file |

The SHA-256 is compared afterwards, by pooch.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from emseg import __version__
from emseg.data.registry import DataFile, Dataset
from emseg.data.verification import Problem
from emseg.errors import InputError

if TYPE_CHECKING:
    import requests

CHUNK_BYTES = 1 << 16
TRANSIENT_STATUS = frozenset({408, 425, 429, *range(500, 600)})
LONGEST_PAUSE_S = 30.0
HEADERS = {
    "User-Agent": f"emseg/{__version__} (From Wafer to Membrane)",
    "Accept-Encoding": "identity",  # so that Content-Length is the file's size
}


@dataclass(frozen=True)
class Patience:
    """How long to wait and how often to try. Pauses double from `pause_s`; a server's Retry-After is kept to."""

    n_attempts: int = 3
    pause_s: float = 0.5
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 30.0

    def __post_init__(self) -> None:
        if self.n_attempts < 1 or self.pause_s < 0 or self.connect_timeout_s <= 0 or self.read_timeout_s <= 0:
            raise ValueError(f"`n_attempts` must be at least 1, times must be positive; got {self}")


class FileRefusedError(Exception):
    """What the server sent is not the file of the registry."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class TransferStoppedError(Exception):
    """Another file failed, or the user interrupted; this one was not tried to the end."""


class _NotThereError(Exception):
    """The server answered that it has no such file, or gives it to nobody."""


class _TransientError(Exception):
    """It may work in a moment."""

    def __init__(self, reason: str, pause_s: float = 0.0) -> None:
        super().__init__(reason)
        self.pause_s = pause_s


@dataclass(frozen=True)
class Line:
    """What the transfers of one fetch share: connections, patience, the signal to stop, and the counter of bytes."""

    session: "requests.Session"
    patience: Patience
    stop: threading.Event
    count: Callable[[int], None]


class Transfer:
    """A pooch downloader for one file; called as `transfer(url, output_file, pooch)`."""

    def __init__(self, wanted: Dataset, file: DataFile, line: Line) -> None:
        self.wanted, self.file, self.line = wanted, file, line
        self.url = ""
        self.n_received = 0

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        """Write the file's bytes to `output_file`, from the first source that has it."""
        target = Path(output_file)
        target.unlink()  # pooch made it readable to its owner alone; a shared cache wants the user's own permissions
        refusals = []
        for source_url in self.wanted.urls(self.file):
            self.url = source_url
            try:
                return self._insist(target)
            except _NotThereError as error:
                refusals.append(f"{source_url} answered {error}")
        raise InputError(
            f"{self.wanted.name} cannot be fetched, for {self.file.path} is not where the registry says: "
            f"{'; '.join(refusals)}; set EMSEG_DATA to a folder that holds {self.wanted.name}/; "
            f"{self.wanted.stand_in_note}."
        )

    def undo(self) -> None:
        """Take back what was counted of this file."""
        self.line.count(-self.n_received)
        self.n_received = 0

    def _insist(self, target: Path) -> None:
        """Receive from `self.url`, again after what may pass; give up after `n_attempts`."""
        for attempt in range(self.line.patience.n_attempts):
            try:
                return self._receive(target)
            except _TransientError as error:
                self.undo()
                reason, asked_pause_s = str(error), error.pause_s
            except BaseException:
                self.undo()
                raise
            if attempt + 1 < self.line.patience.n_attempts:
                pause_s = min(max(self.line.patience.pause_s * 2**attempt, asked_pause_s), LONGEST_PAUSE_S)
                if self.line.stop.wait(pause_s):
                    raise TransferStoppedError
        raise InputError(
            f"{self.wanted.name} was not fetched whole: {self.file.path} failed {self.line.patience.n_attempts} times "
            f"({reason}, from {self.url}); the files that came whole are kept, so run "
            f"`emseg data fetch {self.wanted.name}` again to go on."
        )

    def _receive(self, target: Path) -> None:
        """Receive once; sort every failure into transient, not there, refused, or final."""
        import requests

        timeout = (self.line.patience.connect_timeout_s, self.line.patience.read_timeout_s)
        try:
            with self.line.session.get(self.url, headers=HEADERS, stream=True, timeout=timeout) as reply:
                _require_ok(reply)
                announced = reply.raw.length_remaining  # of the body, as the header says; None if it does not
                with target.open("wb") as stream:
                    for chunk in reply.iter_content(CHUNK_BYTES):
                        if self.line.stop.is_set():
                            raise TransferStoppedError
                        stream.write(chunk)
                        self.line.count(len(chunk))
                        self.n_received += len(chunk)
                        if self.n_received > self.file.n_bytes:
                            break
        except requests.RequestException as error:
            if (reason := _unreachable(error)) is not None:
                raise InputError(self._offline(reason)) from error
            raise _TransientError(self._broken(error)) from error
        if self.n_received != self.file.n_bytes:
            if self.n_received < (self.file.n_bytes if announced is None else announced):
                raise _TransientError(self._cut())
            came = "more" if self.n_received > self.file.n_bytes else f"{self.n_received:,}"
            detail = f"at {self.url} it has {came} bytes instead of {self.file.n_bytes:,}"
            raise FileRefusedError(Problem(self.file.path, "altered", detail))

    def _broken(self, error: "requests.RequestException") -> str:
        import requests
        from urllib3.exceptions import ReadTimeoutError

        inner = error.args[0] if error.args else None
        if isinstance(error, requests.Timeout) or isinstance(inner, ReadTimeoutError):
            return f"no byte for {self.line.patience.read_timeout_s:g} s"
        return self._cut()

    def _cut(self) -> str:
        return f"truncated: the connection was cut before all {self.file.n_bytes:,} bytes were here"

    def _offline(self, reason: str) -> str:
        return (
            f"{self.wanted.name} cannot be fetched, for {urlsplit(self.url).hostname} cannot be reached ({reason}): "
            f"connect to the network and try again, or set EMSEG_DATA to a folder that holds {self.wanted.name}/; "
            f"{self.wanted.stand_in_note}."
        )


def _require_ok(reply: "requests.Response") -> None:
    """Raise `_TransientError` or `_NotThereError` unless the reply has status 200."""
    answer = f"{reply.status_code} {reply.reason}"
    if reply.status_code in TRANSIENT_STATUS:
        pause_s = 0.0
        with suppress(ValueError):  # a date, which few servers send
            pause_s = float(reply.headers.get("Retry-After", "0"))
        raise _TransientError(f"the server answered {answer}", pause_s)
    if reply.status_code != 200:
        raise _NotThereError(answer)


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
