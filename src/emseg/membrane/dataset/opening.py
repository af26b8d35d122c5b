"""Opening a set of micrographs by name.

synthetic  drawn here, at any number and size; stands in for all others
isbi2012   30 labelled sections of a fruit fly's nerve cord, 4 nm/px
urisc      U-RISC as it is distributed, for whoever has it, below `folder`
folder     images and labels of the user's own
"""

import numbers
from pathlib import Path

from emseg.errors import UsageError, suggest
from emseg.membrane.dataset.membrane_set import MembraneSet
from emseg.membrane.dataset.splits import BLOCK, require_split

SOURCES = ("synthetic", "isbi2012", "urisc", "folder")
TRACKS = ("track1", "track2", "track2_original", "isbi_like")


def open_membrane_set(
    data: str,
    *,
    track: str = "track1",
    folder: str | Path = "",
    split: str = BLOCK,
    n_train: int = 0,
    n_validation: int = 0,
    n_test: int = 0,
    size_px: int = 0,
    seed: int = 0,
) -> MembraneSet:
    """Return a set of micrographs in its three parts.

    `track`: which of U-RISC's tracks, or which synthetic stand-in ("isbi_like" is synthetic only). `folder`: where
    "urisc" or "folder" lies. `split`: "block" or "interleaved", for series that come undivided (see `splits`).
    `n_train`, `n_validation`, `n_test`: how many images of each part, 0 for all, or for a track's default. `size_px`:
    side of a synthetic image, or of the central crop of a real one; 0 for the usual size. `seed`: of synthetic tissue.

    Raises `UsageError` for arguments out of range, `InputError` for data that is missing or cannot be used.
    """
    _require_request(data, track, folder, split)
    counts = {"n_train": n_train, "n_validation": n_validation, "n_test": n_test}
    for name, value in {**counts, "size_px": size_px, "seed": seed}.items():
        _require_whole(name, value)
    if data == "synthetic":
        from emseg.membrane.dataset.synthetic_sets import synthetic_set  # compiles the generator

        return synthetic_set(track, **counts, size_px=size_px, seed=seed)
    if data == "isbi2012":
        from emseg.membrane.dataset.isbi_set import isbi_set

        return isbi_set(split, **counts, size_px=size_px)
    if data == "urisc":
        from emseg.membrane.dataset.urisc_set import urisc_set

        return urisc_set(Path(folder).expanduser(), track, **counts, size_px=size_px)
    from emseg.membrane.dataset.folder_set import folder_set

    return folder_set(Path(folder).expanduser(), split, **counts, size_px=size_px)


def _require_whole(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or int(value) < 0:
        raise UsageError(f"`{name}` must be a whole number from 0; got {value!r}.")


def _require_request(data: str, track: str, folder: str | Path, split: str) -> None:
    if data not in SOURCES:
        raise UsageError(f"`data` must be one of {', '.join(SOURCES)}; got {data!r}.{suggest(data, SOURCES)}")
    if track not in TRACKS:
        raise UsageError(f"`track` must be one of {', '.join(TRACKS)}; got {track!r}.{suggest(track, TRACKS)}")
    require_split(split)
    if split != BLOCK and data in ("synthetic", "urisc"):
        raise UsageError(f"`split` must be {BLOCK!r} for {data!r}, which comes divided; got {split!r}.")
    if track == "isbi_like" and data != "synthetic":
        raise UsageError(f"`track` 'isbi_like' is synthetic; got it for {data!r}. Use track1, or data='synthetic'.")
    if folder and data in ("synthetic", "isbi2012"):
        raise UsageError(
            f"`folder` is for data='urisc' and data='folder'; got {str(folder)!r} for {data!r}. Leave it empty."
        )
    if not folder and data in ("urisc", "folder"):
        raise UsageError(f"`folder` must name the folder that holds the images for data={data!r}; it is empty.")
