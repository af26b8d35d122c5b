"""Maps that a run has finished, kept in a folder so that a killed run does not make them again.

One file for the targets of one image, one network and one baseline, named by a digest of all that the maps depend on:

    boxes            [target, 4] top, bottom, left, right of each map in the image; outside of it a map is zero
    values           the maps inside their boxes, end to end, float32
    scores           [target] f(x);  baseline_scores  [target] f(baseline)

The code that computes maps counts among what they depend on. A file is put in its place in one step; one that cannot
be read is made again. `emseg.attribution.map_store` keeps the open sums of one long attribution, too; here the pieces
are short, and many.
"""

import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Int64

from emseg.files import digest_of, write_atomically
from emseg.source_code import PACKAGE_ROOT, code_tree


@dataclass(frozen=True, eq=False)
class WindowMaps:
    """Maps [target] of windows, each inside its box of an image, and the scores that they explain."""

    boxes: Int64[np.ndarray, "target 4"]
    maps: tuple[Float32[np.ndarray, "row column"], ...]
    scores: Float64[np.ndarray, " target"]
    baseline_scores: Float64[np.ndarray, " target"]

    def in_image(self, shape: tuple[int, int]) -> Float32[np.ndarray, "target row column"]:
        """Return each map in an image of this shape."""
        whole = np.zeros((len(self.maps), *shape), dtype=np.float32)
        for image, one, (top, bottom, left, right) in zip(whole, self.maps, self.boxes, strict=True):
            image[top:bottom, left:right] = one
        return whole


@cache
def code_digest(*patterns: str) -> str:
    """Return the digest of the package's modules that the patterns name, comments and docstrings left out."""
    files = sorted({path for pattern in patterns for path in PACKAGE_ROOT.glob(pattern)})
    return digest_of(*(code_tree(path.read_text(encoding="utf-8")) for path in files))


def load_maps(path: Path) -> WindowMaps | None:
    """Return the maps of a file; None where there is none, or none that can be read."""
    try:
        with path.open("rb") as opened, np.load(opened) as file:
            boxes, values = file["boxes"], file["values"]
            scores, baseline_scores = file["scores"], file["baseline_scores"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    sides = [(bottom - top, right - left) for top, bottom, left, right in boxes.tolist()]
    ends = np.cumsum([rows * columns for rows, columns in sides])
    parts = np.split(values, ends[:-1])
    maps = tuple(part.reshape(side) for part, side in zip(parts, sides, strict=True))
    return WindowMaps(boxes, maps, scores, baseline_scores)


def save_maps(path: Path, found: WindowMaps) -> None:
    """Write the maps to a file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.concatenate([one.ravel() for one in found.maps])
    write_atomically(
        path,
        lambda file: np.savez(
            file, boxes=found.boxes, values=values, scores=found.scores, baseline_scores=found.baseline_scores
        ),
    )
