"""A running server and an empty cache."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from data_sets.local_server import Server


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that data sets are cached in; `EMSEG_DATA` is unset."""
    monkeypatch.setenv("EMSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("EMSEG_DATA", raising=False)
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path / "cache" / "data"
