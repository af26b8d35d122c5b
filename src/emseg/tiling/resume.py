"""Resuming a prediction: a small file that records which rows of tiles are finished.

After each row of tiles its rows of the mosaic are on disk; then the rows that are still open are written to a file of
their own, and then the checkpoint is replaced in one step. So whenever a process is killed, at most the current row of
tiles is lost, and the resumed result has the same bits. A checksum of the rows that were finished last detects an
output that was recreated.
"""

import hashlib
import zlib
from collections.abc import Mapping
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from emseg.checks import changes_between, plain
from emseg.errors import InputError, UsageError
from emseg.files import DIGEST_LENGTH, digest_of, read_json, write_atomically, write_json
from emseg.tiling.arrays import ImageArray, OutputArray, Rows, read_band, read_rows
from emseg.tiling.grid import TileGrid

Setting = str | int | float | bool | None
_REPAIR = "Free some space or choose another folder; the same call resumes from what was finished before."


def describe_prediction(
    network: Any, image: ImageArray, grid: TileGrid, out: OutputArray, depends_on: Mapping[str, Setting], **calling: Any
) -> dict[str, Setting]:
    """Return what the mosaic depends on; batch size and device change no more than rounding and are left out.

    Of the image, the pixels of the middle row of tiles count; of a module, all its weights; of a function, nothing.
    """
    middle = read_band(image, grid, len(grid.rows) // 2)
    return {
        **plain(grid),
        **calling,
        "image shape": str(tuple(image.shape)),
        "image pixels": digest_of(middle.tobytes()),
        "network": digest_of_weights(network) if isinstance(network, nn.Module) else "a function",
        "output": f"{np.dtype(out.dtype)} of shape {tuple(out.shape)}",
        **{f"depends_on[{name!r}]": value for name, value in depends_on.items()},
    }


def digest_of_weights(network: nn.Module) -> str:
    """Return a short digest of a module's parameters and buffers, with their names, types and shapes."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:DIGEST_LENGTH]


class Checkpoint:
    """The checkpoint in the file `path` of a prediction with these `settings`, whose mosaic goes to `out` on disk."""

    def __init__(self, path: str | Path, settings: Mapping[str, Setting]) -> None:
        self.path = Path(path)
        if not self.path.parent.is_dir():
            raise UsageError(f"`checkpoint` must lie in a folder that exists; got {self.path}. Make the folder first.")
        self.settings = dict(settings)

    def load(self, out: OutputArray) -> tuple[int, Rows | None]:
        """Return how many rows of tiles are finished, and the open rows of the mosaic that the next one continues.

        (0, None) without a checkpoint yet; raises InputError where it belongs to another prediction.
        """
        if not self.path.exists():
            return 0, None
        try:
            state = read_json(self.path)
            n_rows, settings, checksum = state["finished"], dict(state["settings"]), state["crc32"]
            top, bottom = state["last_rows"]
            carried: Rows = np.load(self._carried_file(n_rows))
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise InputError(
                f"{self.path} must be a checkpoint of a tiled prediction, next to its file of open rows; "
                f"{type(error).__name__}: {error}. Remove it to begin anew."
            ) from error
        if changes := changes_between(settings, self.settings):
            raise InputError(
                f"{self.path} belongs to a prediction with other settings: {'; '.join(changes)}. "
                "Resume with the original settings, or choose another checkpoint and another output."
            )
        if _checksum(read_rows(out, top, bottom)) != checksum:
            raise InputError(
                f"{self.path} records {n_rows} finished rows of tiles, but rows {top} to {bottom - 1} of the output "
                "are not those that were written. Open the output that was begun, or remove the checkpoint."
            )
        return n_rows, carried

    def save(self, n_rows: int, top: int, rows: Rows, carried: Rows) -> None:
        """Record that `n_rows` rows of tiles are finished; `rows`, from row `top` on, were written last."""
        write_atomically(self._carried_file(n_rows), lambda file: np.save(file, carried), repair=_REPAIR)
        last = {"last_rows": [top, top + rows.shape[1]], "crc32": _checksum(rows)}
        write_json(self.path, {"settings": self.settings, "finished": n_rows, **last}, repair=_REPAIR)
        for older in self.path.parent.glob(f"{escape(self.path.name)}.open*.npy"):
            if older != self._carried_file(n_rows):
                older.unlink(missing_ok=True)

    def _carried_file(self, n_rows: int) -> Path:
        return self.path.with_name(f"{self.path.name}.open{n_rows}.npy")


def _checksum(rows: Rows) -> int:
    return zlib.crc32(np.ascontiguousarray(rows).view(np.uint8).data)
