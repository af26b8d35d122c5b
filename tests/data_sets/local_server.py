"""A data set of small files, and a local server that holds it and misbehaves on request."""

import hashlib
import socket
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from emseg.data import DataFile, Dataset

CONTENTS = {f"train/image/{number}.png": bytes([number]) * (20_000 + number) for number in range(6)} | {
    "wafer.magc": b"[sections]\nnumber = 433\n" * 50
}


class Server(ThreadingHTTPServer):
    """Serves `contents` by path; `moods[path]` lists what to do instead, once each, before it behaves.

    A mood is "cut" (half the body, then the connection closes), "silent" (no answer for a while), "slow" (a few bytes
    at a time), "endless" (a body without end), a status code, or the bytes to send in place of the right ones.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.contents = {f"/pinned/upstream/{path}": content for path, content in CONTENTS.items()}
        self.moods: dict[str, list[object]] = {}
        self.requests: list[str] = []
        self.user_agents: set[str] = set()
        self.lock = threading.Lock()
        self.n_open = self.n_open_at_most = 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/pinned/"

    def asked(self) -> Counter[str]:
        """How often each file was asked for, by its path in the data set."""
        return Counter(path.removeprefix("/pinned/upstream/") for path in self.requests)

    def spoil(self, path: str, *moods: object) -> None:
        self.moods[f"/pinned/upstream/{path}"] = list(moods)


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        with server.lock:
            server.requests.append(self.path)
            server.user_agents.add(self.headers["User-Agent"])
            server.n_open += 1
            server.n_open_at_most = max(server.n_open, server.n_open_at_most)
            moods = server.moods.get(self.path)
            mood = moods.pop(0) if moods else None
        try:
            time.sleep(0.01)
            self._answer(mood)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with server.lock:
                server.n_open -= 1

    def _answer(self, mood: object) -> None:
        content = self.server.contents.get(self.path)
        if isinstance(mood, bytes):
            content = mood
        if mood == "silent":
            time.sleep(1.0)
        if mood == "endless":
            self.send_response(200)
            self.end_headers()
            while True:
                self.wfile.write(bytes(1 << 16))
        if isinstance(mood, int) or content is None:
            self.send_response(mood if isinstance(mood, int) else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if mood == "slow":
            for start in range(0, len(content), 100):
                self.wfile.write(content[start : start + 100])
                time.sleep(0.02)
            return
        self.wfile.write(content[: len(content) // 2] if mood == "cut" else content)
        if mood == "cut":
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def closed_address() -> str:
    """Return an address at which nobody answers: its port was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/"


def make_dataset(*sources: str, name: str = "small") -> Dataset:
    """Return a data set of the small files, to be had at `sources`."""
    files = tuple(
        DataFile(path, f"upstream/{path}", len(content), hashlib.sha256(content).hexdigest())
        for path, content in CONTENTS.items()
    )
    return Dataset(
        name=name,
        title="small files",
        kind="real",
        terms="none",
        citation="nobody2026",
        pixel_size_nm=4.0,
        section_nm=None,
        stand_in="emseg.synthetic.tissue.synthesize_tissue",
        stand_in_note="synthetic tissue from emseg.synthetic.tissue.synthesize_tissue replaces it",
        sources=sources or ("http://127.0.0.1:9/",),
        files=files,
    )


def write_dataset(folder: Path) -> None:
    """Write the small files where the data set's folder is."""
    for path, content in CONTENTS.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
