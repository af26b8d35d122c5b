"""Where a data set lies on this machine.

`$EMSEG_DATA/<name>/` when `EMSEG_DATA` is set: it wins, nothing is downloaded, and a set that is not there is an error,
so that a run never uses other files than the user named. Else the cache, `<cache>/data/<name>/`, where `<cache>` is
`$EMSEG_CACHE` or the user's cache folder of the operating system.
"""

import hashlib
import os
from pathlib import Path

from emseg.data.registry import Dataset, dataset
from emseg.errors import InputError

ABSENT = "absent"


def data_root() -> Path | None:
    """Return the folder `EMSEG_DATA` names, or None when it is not set (or empty)."""
    value = os.environ.get("EMSEG_DATA", "")
    return Path(value).expanduser() if value else None


def cache_root() -> Path:
    """Return the folder that downloaded data sets are kept in; it need not exist."""
    value = os.environ.get("EMSEG_CACHE", "")
    if value:
        return Path(value).expanduser() / "data"
    import platformdirs

    return platformdirs.user_cache_path("emseg", appauthor=False) / "data"


def folder_of(name: str | Dataset) -> Path:
    """Return the folder that the data set has or would have on this machine; it need not exist."""
    root = data_root()
    return (cache_root() if root is None else root) / dataset(name).name


def require_folder(name: str | Dataset) -> Path:
    """Return `folder_of(name)`; raise `InputError`, with what to do instead, if no file of the set is there."""
    wanted, root = dataset(name), data_root()
    if root is not None and not root.is_dir():
        raise InputError(
            f"EMSEG_DATA must name a folder that holds data sets, but {root} is no folder: correct EMSEG_DATA, or "
            f"unset it and run `emseg data fetch {wanted.name}`; {wanted.stand_in_note}."
        )
    folder = folder_of(wanted)
    if state(wanted) != ABSENT:
        return folder
    if root is not None:
        raise InputError(
            f"EMSEG_DATA is {root}, which holds no {wanted.name}: put its files in {folder} ({wanted.files[0].path} "
            f"and so on), or unset EMSEG_DATA and run `emseg data fetch {wanted.name}`; {wanted.stand_in_note}."
        )
    raise InputError(
        f"{wanted.name} is not on this machine: run `emseg data fetch {wanted.name}`, or set EMSEG_DATA to a folder "
        f"that holds {wanted.name}/; {wanted.stand_in_note}."
    )


def state(name: str | Dataset) -> str:
    """Return a cheap detector of change: a digest of (path, size, time of change) of the set's files on this machine.

    "absent" if none of them is there. Reads no file, so it costs one look at the folder a file; equal states mean that
    the files were not written to in between, different states do not prove different content (see `fingerprint`).
    """
    found = dataset(name)
    folder = folder_of(found)
    lines = []
    for file in found.files:
        try:
            status = (folder / file.path).stat()
        except OSError:
            continue
        lines.append(f"{file.path}\0{status.st_size}\0{status.st_mtime_ns}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest() if lines else ABSENT
