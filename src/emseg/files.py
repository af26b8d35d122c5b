"""Files written whole, digests, and the checkout's root: what every part of the library needs of the file system.

A file is written next to its place and moved there, so that a reader finds the old file or the new one and never half
of one, whenever the process is killed.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from emseg.errors import InputError, UsageError

ROOT_VARIABLE = "EMSEG_PROJECT"
_ROOT_MARKS = ("_toc.yml", "book")
DIGEST_LENGTH = 16
_TEXTS = ("JSON", "INI", "YAML", "UTF-8")
_LONGEST_REASON = 200  # characters of a decoder's own words
_REPAIR = "Free some space or choose another folder."


@contextmanager
def atomic_path(path: str | Path, *, repair: str = _REPAIR) -> Iterator[Path]:
    """Yield a temporary path next to `path`; what the block wrote there replaces `path` in one step.

    The folder is made if needed. On any exception `path` stays as it was and the temporary file is removed. An OSError
    becomes an InputError that gives the cause and the `repair`.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"{path} could not be written: {error.strerror or error}. {repair}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_atomically(
    path: str | Path, content: str | bytes | Callable[[IO[bytes]], object], *, repair: str = _REPAIR
) -> None:
    """Write `content` (text, bytes, or a function that writes to a binary file) to `path` in one step."""
    with atomic_path(path, repair=repair) as temporary, temporary.open("wb") as file:
        if callable(content):
            content(file)
        else:
            file.write(content.encode() if isinstance(content, str) else content)


def write_json(path: str | Path, value: Any, *, repair: str = _REPAIR) -> None:
    """Write `value` as indented JSON with a final newline, in one step."""
    write_atomically(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n", repair=repair)


@contextmanager
def decoding(path: str | Path, kind: str, *, repair: str = "Copy it again from its source.") -> Iterator[None]:
    """Turn whatever opening and decoding the file `path` raises into one InputError that names it.

    `kind`: "JSON", "TIFF", "checkpoint" ... Decoders raise almost any exception on damaged files, so none is listed.
    Errors of this library pass as they are.
    """
    try:
        yield
    except (InputError, UsageError):
        raise
    except FileNotFoundError:
        raise InputError(f"{path} does not exist. Check the name and the folder.") from None
    except PermissionError:
        raise InputError(f"{path} must be readable; permission was denied. Change its access rights.") from None
    except ImportError as error:
        raise InputError(f"reading {path} needs the package {error.name}. pip install {error.name}") from error
    except MemoryError as error:
        raise InputError(f"{path} asks for more memory than is free, or is a damaged {kind} file. {repair}") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
        reason = " ".join(str(error).split()).rstrip(".")[:_LONGEST_REASON] or type(error).__name__
        fault = f"is not valid {kind}" if kind in _TEXTS else f"is a truncated or damaged {kind} file"
        raise InputError(f"{path} {fault} ({reason}). {repair}") from error


def read_json(path: str | Path) -> Any:
    """Return the content of a JSON file; raises InputError if it is missing, unreadable or not JSON."""
    with decoding(path, "JSON", repair="Restore it or make it again."):
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))


def digest_of(*parts: str | bytes) -> str:
    """Return a short hexadecimal SHA-256 of the `parts`, in order."""
    encoded = (part.encode() if isinstance(part, str) else part for part in parts)
    return hashlib.sha256(b"\0".join(encoded)).hexdigest()[:DIGEST_LENGTH]


def digest_of_array(array: NDArray[Any]) -> str:
    """Return a short digest of an array's type, shape and values."""
    return digest_of(f"{array.dtype.str}{array.shape}", np.ascontiguousarray(array).tobytes())


def digest_of_file(path: str | Path) -> str:
    """Return the full hexadecimal SHA-256 of a file, as `sha256sum` prints it."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_root(start: Path | None = None) -> Path:
    """Return the book's checkout: $EMSEG_PROJECT, else the nearest folder above `start`, else the installed source's.

    `start` is the working directory by default. Raises InputError where there is none.
    """
    named = os.environ.get(ROOT_VARIABLE)
    if named:
        root = Path(named).resolve()
        if not _is_root(root):
            raise InputError(f"{ROOT_VARIABLE} must name the folder that contains _toc.yml and book/; got {named!r}.")
        return root
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents, *Path(__file__).resolve().parents):
        if _is_root(folder):
            return folder
    raise InputError(
        f"no book here: neither {here.name!r} nor a folder above it contains _toc.yml and book/. "
        f"Change into the checkout, or set {ROOT_VARIABLE}."
    )


def _is_root(folder: Path) -> bool:
    return all((folder / mark).exists() for mark in _ROOT_MARKS)
