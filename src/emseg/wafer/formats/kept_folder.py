"""Folders that are made whole or not at all, and used again only for what they were made from.

A folder is made beside its place and renamed when it is whole, so a run that was killed leaves nothing that looks
finished. A folder that is there is used again if it was made from the same parameters; if files of it are missing it is
made again; anything else is refused by name, never overwritten.
"""

import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from emseg.errors import InputError, UsageError
from emseg.wafer.formats.coco import read_json
from emseg.wafer.formats.coco_folder import IMAGES, STATEMENT, Benchmark, open_benchmark


def find_kept(place: Path, parameters: Mapping[str, Any]) -> Benchmark | None:
    """Return the benchmark in `place` if it was made from these parameters and is whole; None if it must be made.

    Raises `UsageError`, naming what differs, if the folder holds anything else.
    """
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return None
    if not (place / STATEMENT).is_file():
        raise UsageError(f"{place} is not empty and holds no benchmark of ours. Choose another folder or remove it.")
    kept = open_benchmark(place) if _is_whole(place) else None
    made_from = read_json(place / STATEMENT).get("parameters", {})
    different = _differences(made_from, parameters)
    if different:
        raise UsageError(
            f"{place} holds a benchmark made from other parameters: {'; '.join(different[:3])}. "
            "Choose another folder, remove this one, or ask for what it holds."
        )
    return kept


@contextmanager
def made_whole(place: Path) -> Iterator[Path]:
    """Yield an empty folder beside `place` that takes its name when the body is done, and goes if it fails."""
    place.parent.mkdir(parents=True, exist_ok=True)
    begin = f".{place.name}.unfinished-{socket.gethostname()}-"
    for old in place.parent.glob(f"{begin}*"):  # left by a process that was killed
        owner = old.name.removeprefix(begin)
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(old, ignore_errors=True)
    unfinished = place.with_name(f"{begin}{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir()
        yield unfinished
        if (place / STATEMENT).is_file() and not _is_whole(place):
            shutil.rmtree(place)
        try:
            unfinished.rename(place)
        except OSError:
            if not _is_whole(place):  # another process may have made the same in the meantime
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def require_room(folder: Path, n_bytes: float) -> None:
    """Raise `InputError` if the disk of `folder` has not so many bytes free."""
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise InputError(
            f"this benchmark takes up to {n_bytes / 1e9:.1f} GB, and {folder.parent} has {free / 1e9:.1f} GB free. "
            "Make room, choose another folder, or a smaller preset."
        )


def plain(value: Any) -> Any:
    """Return what JSON makes of a value, so that it compares with what a file holds."""
    return json.loads(json.dumps(value))


def _is_whole(place: Path) -> bool:
    try:
        n_images = open_benchmark(place).statement["n_images"]
        return sum(1 for _ in (place / IMAGES).glob("*.png")) == int(n_images)
    except (InputError, OSError, KeyError, ValueError):
        return False


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key in sorted(set(old) | set(new)):
        was, wanted = old.get(key), new.get(key)
        if isinstance(was, dict) and isinstance(wanted, dict):
            found += _differences(was, wanted, f"{prefix}{key}.")
        elif was != wanted:
            found.append(f"{prefix}{key} is {was!r} there, {wanted!r} was asked for")
    return found
