"""Taking a prediction up again where it stopped: a small file that says which rows of tiles are finished.

After each row of tiles its rows of the mosaic are on disk; then the rows that are still open are put into a file of
their own, and then the checkpoint is replaced in one step. So whenever a process is killed, what the checkpoint says is
true, and at most the row of tiles that was being computed is lost. The result is the same, bit by bit.

The checkpoint holds all settings that the result depends on, and refuses others by name. It also holds a checksum of
the rows that were finished last: an output that was made anew in the meantime is found out, not taken for half done.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from emseg.errors import InputError, UsageError
from emseg.tiling.grid import TileGrid
from emseg.tiling.mosaic import Rows
from emseg.tiling.network import Calling, Network
from emseg.tiling.output import OutputArray, read_rows
from emseg.tiling.reading import ImageArray, read_band

Setting = str | int | float | bool | None


def describe(
    network: Network,
    image: ImageArray,
    grid: TileGrid,
    calling: Calling,
    out: OutputArray,
    depends_on: Mapping[str, Setting],
) -> dict[str, Setting]:
    """Return what the mosaic depends on; batch size and device are left out, for they change no more than rounding.

    Of the image, the pixels of the middle row of tiles count; of a module, all its weights; of a function, nothing.
    """
    middle = read_band(image, grid, len(grid.rows) // 2)
    return {
        **asdict(grid),
        "precision": calling.precision,
        "mean": calling.mean,
        "scale": calling.scale,
        "image shape": str(tuple(image.shape)),
        "image pixels": hashlib.sha256(middle.tobytes()).hexdigest()[:16],
        "network": _digest_of(network),
        "output": f"{np.dtype(out.dtype)} of shape {tuple(out.shape)}",
        **{f"depends_on[{name!r}]": value for name, value in depends_on.items()},
    }


def _digest_of(network: Network) -> str:
    if not isinstance(network, nn.Module):
        return "a function"
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class Finished:
    """The number of rows of tiles that are finished, and the rows of the mosaic that the next one goes on with."""

    n_rows: int
    carried: Rows


class Checkpoint:
    """The checkpoint in the file `path` of a prediction with these `settings`."""

    def __init__(self, path: str | Path, settings: Mapping[str, Setting]) -> None:
        self.path = Path(path)
        if not self.path.parent.is_dir():
            raise UsageError(f"`checkpoint` must lie in a folder that exists; got {self.path}. Make the folder first.")
        self.settings = dict(settings)

    def load(self, out: OutputArray) -> Finished | None:
        """Return what is finished, None where there is no checkpoint yet; raises InputError where it is another's."""
        if not self.path.exists():
            return None
        try:
            state = json.loads(self.path.read_text(encoding="utf-8"))
            n_rows, settings, checksum = state["finished"], dict(state["settings"]), state["crc32"]
            top, bottom = state["last_rows"]
            carried = np.load(self._carried_file(n_rows))
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise InputError(
                f"{self.path} must be a checkpoint of a tiled prediction, with its file of open rows beside it; "
                f"{type(error).__name__}: {error}. Remove it to begin anew."
            ) from error
        self._require_same(settings)
        if _checksum(read_rows(out, top, bottom)) != checksum:
            raise InputError(
                f"{self.path} says that {n_rows} rows of tiles are finished, but rows {top} to {bottom - 1} of the "
                "output are not those that were written. Open the output that was begun, or remove the checkpoint."
            )
        return Finished(n_rows, carried)

    def save(self, n_rows: int, top: int, rows: Rows, carried: Rows) -> None:
        """Record that `n_rows` rows of tiles are finished; `rows`, from row `top` on, were written last."""
        replace_file(self._carried_file(n_rows), lambda file: np.save(file, carried))
        state = {
            "settings": self.settings,
            "finished": n_rows,
            "last_rows": [top, top + rows.shape[1]],
            "crc32": _checksum(rows),
        }
        text = json.dumps(state, indent=1, ensure_ascii=False) + "\n"
        replace_file(self.path, lambda file: file.write(text.encode()))
        for older in self.path.parent.glob(f"{escape(self.path.name)}.open*.npy"):
            if older != self._carried_file(n_rows):
                older.unlink(missing_ok=True)

    def _carried_file(self, n_rows: int) -> Path:
        return self.path.with_name(f"{self.path.name}.open{n_rows}.npy")

    def _require_same(self, then: Mapping[str, Setting]) -> None:
        now = self.settings
        changed = [
            f"{name} was {then.get(name, 'not given')} and is now {now.get(name, 'not given')}"
            for name in dict.fromkeys([*then, *now])
            if then.get(name, "not given") != now.get(name, "not given")
        ]
        if changed:
            raise InputError(
                f"{self.path} belongs to a prediction with other settings: {'; '.join(changed)}. "
                "Go on with the settings it was begun with, or name another checkpoint and another output."
            )


def _checksum(rows: Rows) -> int:
    return zlib.crc32(np.ascontiguousarray(rows).view(np.uint8).data)


def replace_file(path: Path, write: Any) -> None:
    """Write a file beside `path` and put it in its place in one step."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise InputError(
            f"The checkpoint {path} could not be written: {error.strerror or error}. Free some space or choose another "
            "folder; what was finished before is still there, and the same call goes on from it."
        ) from error
