"""Small trained networks that the book keeps, so that its figures can show a network without training one.

    book/weights/urisc/DATA_TRACK_ARCHITECTURE.safetensors   the weights, with their design in the header
    book/weights/urisc/DATA_TRACK_ARCHITECTURE.json          where they come from, and the threshold to use them at

The JSON holds the name and the parameters of the matrix cell that trained the network, the data it learned from, the
threshold that was best on the validation images, the membrane F1 that the run's record gives for the test images, and
the SHA-256 of the weights, which is checked before they are used. Only networks trained on synthetic tissue are kept:
weights may hold traces of the images they were learned from.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emseg.errors import InputError, UsageError
from emseg.files import find_root, write_atomically

FOLDER = Path("book") / "weights" / "urisc"
LARGEST_BYTES = 5_000_000
_NEEDED = ("cell", "parameters", "data", "threshold", "sha256")


@dataclass(frozen=True)
class KeptNetwork:
    """A kept network: its file, the cell that trained it, and the threshold that its validation images chose."""

    weights: Path
    cell: str
    threshold: float
    about: Mapping[str, Any]


def find_network(data: str, track: str, *, architecture: str = "unet", root: Path | None = None) -> KeptNetwork | None:
    """Return the network that is kept for a data set, None where there is none.

    `root` is the project's. Raises `InputError` where the weights are not those that the JSON beside them is about.
    """
    weights = _place(root or find_root(), data, track, architecture)
    beside = weights.with_suffix(".json")
    if not weights.is_file() and not beside.is_file():
        return None
    try:
        about = json.loads(beside.read_text(encoding="utf-8"))
        threshold = float(about["threshold"])
        missing = [name for name in _NEEDED if name not in about]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{beside.name} must be a JSON file that says where {weights.name} comes from, with a threshold; "
            f"got {error}. Restore both files."
        ) from None
    if missing or not 0 <= threshold <= 1:
        raise InputError(
            f"{beside.name} must hold {', '.join(_NEEDED)}, the threshold from 0 to 1; it lacks "
            f"{', '.join(missing) or 'nothing'} and has a threshold of {threshold:g}. Restore both files."
        )
    if not weights.is_file() or sha256_of(weights) != about["sha256"]:
        raise InputError(
            f"{weights.name} must be the file that {beside.name} is about, by its SHA-256; it is "
            f"{'another' if weights.is_file() else 'missing'}. Restore both files, or keep the network anew."
        )
    return KeptNetwork(weights, str(about["cell"]), threshold, about)


def keep_network(record: Mapping[str, Any], weights: Path, cell: str, *, root: Path | None = None) -> KeptNetwork:
    """Copy a trained network to the book, with what the `record` of its run in the baseline chapter says of it.

    `cell` is the name of the matrix cell. Raises `UsageError` for a network of images that are not synthetic, and for
    one of more than 5 MB.
    """
    kinds = {use["kind"] for use in record["data"]}
    if kinds != {"synthetic"}:
        raise UsageError(
            f"a kept network must have learned from synthetic images alone; got {', '.join(sorted(kinds))}."
        )
    content = weights.read_bytes()
    if len(content) > LARGEST_BYTES:
        raise UsageError(
            f"a kept network must have at most {LARGEST_BYTES:,} bytes; {weights.name} has {len(content):,}."
        )
    of = record["parameters"]
    place = _place(root or find_root(), of["data"], of["track"], of["network"])
    about = {
        "cell": cell,
        "chapter": record["chapter"],
        "profile": record["profile"],
        "threshold": record["metrics"]["threshold"]["value"],
        "test_membrane_f1": record["metrics"]["test_membrane_f1"]["value"],
        "n_parameters": record["metrics"]["n_parameters"]["value"],
        "data": list(record["data"]),
        "sha256": hashlib.sha256(content).hexdigest(),
        "parameters": dict(of),
    }
    place.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(place, content)
    write_atomically(place.with_suffix(".json"), json.dumps(about, indent=1) + "\n")
    found = find_network(of["data"], of["track"], architecture=of["network"], root=root)
    assert found is not None
    return found


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _place(root: Path, data: str, track: str, architecture: str) -> Path:
    name = "_".join(part for part in (data, track, architecture) if part)
    return root / FOLDER / f"{name}.safetensors"
