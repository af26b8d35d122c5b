"""Where maps are gathered: in memory, or in a folder that a killed run goes on from.

    settings.json   all that the maps depend on; another call's folder is refused by name
    maps.npy        [target, height, width] float32, written where targets are finished
    progress.json   how many targets are finished, in the order of the work
    open.npz        sums of gradients of the targets in work, and the next point of the path

Each file is replaced in one step, maps are written before they are called finished, and sums are kept to the last bit.
So a killed run loses at most `SAVE_EVERY_S` seconds, and its maps are those of a run that was not killed.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from emseg.errors import InputError, UsageError
from emseg.files import write_atomically

SAVE_EVERY_S = 60.0
Setting = str | int | float | bool


@dataclass(frozen=True, eq=False)
class OpenSums:
    """Targets `first` to `stop` of the order of work, whose gradients are summed up to point `n_points`."""

    first: int
    stop: int
    n_points: int
    sums: Float[np.ndarray, "target height width"]


class MapStore:
    """Maps in memory: nothing is kept for another run."""

    def __init__(self, n_targets: int, height: int, width: int) -> None:
        self.maps: Float[np.ndarray, "target height width"] = np.empty((n_targets, height, width), dtype=np.float32)
        self.n_finished = 0

    def open_sums(self) -> OpenSums | None:
        """Return what was in work when a run was stopped."""
        return None

    def save_open(self, state: Callable[[], OpenSums]) -> None:
        """Keep what is in work, if it is time."""

    def finish(self, places: Int[np.ndarray, " target"], maps: Float[np.ndarray, "target height width"]) -> None:
        """Take the finished maps of the targets at `places`."""
        self.maps[places] = maps
        self.n_finished += len(places)


class FolderStore(MapStore):
    """Maps in a folder; `settings` are what they depend on."""

    def __init__(
        self, folder: str | Path, settings: Mapping[str, Setting], n_targets: int, height: int, width: int
    ) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise UsageError(f"`resume_folder` must be a folder; {self.folder} is a file. Name another.")
        shape = (n_targets, height, width)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            begun = self._require_same(settings)
            maps_file = self.folder / "maps.npy"
            if not begun:
                np.lib.format.open_memmap(maps_file, mode="w+", dtype=np.float32, shape=shape).flush()
                write_atomically(self.folder / "settings.json", lambda file: file.write(_to_json(dict(settings))))
            self.maps = np.load(maps_file, mmap_mode="r+")
        except (OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"`resume_folder` {self.folder} cannot be used: {error}. Name another folder.") from error
        if self.maps.shape != shape or self.maps.dtype != np.float32:
            raise InputError(
                f"{maps_file} must hold float32 maps of shape {list(shape)}; it holds {self.maps.dtype} of shape "
                f"{list(self.maps.shape)}. Name another `resume_folder`."
            )
        progress = self.folder / "progress.json"
        self.n_finished = int(json.loads(progress.read_text())["n_finished"]) if begun and progress.exists() else 0
        self._saved = time.monotonic()

    def open_sums(self) -> OpenSums | None:
        """Return what was in work when a run was stopped; what follows finished targets only."""
        path = self.folder / "open.npz"
        if not path.exists():
            return None
        with np.load(path) as file:
            first, stop, n_points = (int(n) for n in file["place"])
            return OpenSums(first, stop, n_points, file["sums"]) if first == self.n_finished else None

    def save_open(self, state: Callable[[], OpenSums]) -> None:
        """Keep what is in work once `SAVE_EVERY_S` have passed since the last time."""
        if time.monotonic() - self._saved < SAVE_EVERY_S:
            return
        kept = state()
        place = np.array([kept.first, kept.stop, kept.n_points])
        write_atomically(self.folder / "open.npz", lambda file: np.savez(file, place=place, sums=kept.sums))
        self._saved = time.monotonic()

    def finish(self, places: Int[np.ndarray, " target"], maps: Float[np.ndarray, "target height width"]) -> None:
        """Write the finished maps, then that they are finished."""
        super().finish(places, maps)
        assert isinstance(self.maps, np.memmap)
        self.maps.flush()
        write_atomically(
            self.folder / "progress.json", lambda file: file.write(_to_json({"n_finished": self.n_finished}))
        )
        (self.folder / "open.npz").unlink(missing_ok=True)
        self._saved = time.monotonic()

    def _require_same(self, settings: Mapping[str, Setting]) -> bool:
        """Return whether a run with these settings was begun here; raise InputError where another one was."""
        path = self.folder / "settings.json"
        if not path.exists():
            return False
        then: dict[str, Setting] = json.loads(path.read_text(encoding="utf-8"))
        changed = [
            f"{name} was {then.get(name, 'not given')} and is now {settings.get(name, 'not given')}"
            for name in dict.fromkeys([*then, *settings])
            if then.get(name) != settings.get(name)
        ]
        if changed:
            raise InputError(
                f"`resume_folder` {self.folder} belongs to an attribution with other settings: {'; '.join(changed)}. "
                "Go on with the settings it was begun with, or name another folder."
            )
        return True


def digest_of_network(network: nn.Module | Callable[[Tensor], Tensor]) -> str:
    """Return a digest of a module's class and weights; a function is known by its name alone."""
    if not isinstance(network, nn.Module):
        return f"function {getattr(network, '__qualname__', type(network).__name__)}"
    digest = hashlib.sha256(repr(network).encode())
    for name, value in network.state_dict().items():
        if isinstance(value, Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def digest_of_array(array: np.ndarray) -> str:
    """Return a digest of an array's values and shape."""
    return hashlib.sha256(repr(array.shape).encode() + np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def _to_json(values: dict[str, Setting]) -> bytes:
    return (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode()
