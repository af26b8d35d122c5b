"""Reading a file that holds a pretrained encoder: its tensors by the encoder's own names, and how it was fed.

    format       what tells it                                     its encoder     grey was normalised by
    cem500k      `norms` beside `state_dict`: Conrad and Narayan   encoder_q       the file's norms, 0.573 and 0.127
    moco         encoder_q among the names: MoCo's own code        encoder_q       ImageNet's, in colour
    network      encoder. among the names: `pretrain`'s, or any    encoder         ours, 0.5 and 0.5
                 network of this book
    torchvision  conv1, layer1, ... as torchvision has them        all but fc      ImageNet's, in colour

In the CEM500K checkpoint `cem500k_mocov2_resnet50_200ep.pth.tar` (Zenodo 6453140) the keys are `epoch, arch,
state_dict, optimizer, norms`, the names of the tensors begin with `module.encoder_q.` (the network that was trained),
`module.encoder_k.` (its momentum average) or `module.queue`, and conv1 has one channel. The projection head `fc` is of
no use afterwards. norms is [mean, std].

Files are read with `weights_only=True`: a pickle may hold any program, and none is run.
"""

import hashlib
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emseg.errors import InputError, UsageError
from emseg.membrane.networks.network_files import SAFETENSORS, read_tensors
from emseg.membrane.pretraining.normalization import IMAGENET, OURS, Normalization

STEM = "conv1.weight"
_QUERY = re.compile(r"(?:module\.)?encoder_q\.")
_HEAD = re.compile(r"fc(\.|$)")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True, eq=False)
class EncoderFile:
    """What a file holds: `tensors` by the encoder's names; `epoch` is None where the file does not say.

    `normalization` is None where neither the file nor its format says how grey was normalised.
    """

    path: Path
    format: str
    tensors: Mapping[str, Tensor]
    normalization: Normalization | None
    epoch: int | None
    sha256: str


def read_encoder_file(path: Path | str, *, sha256: str | None = None) -> EncoderFile:
    """Return the encoder that a file holds, on the CPU; which format it has is told by its keys.

    With `sha256` the file's bytes must have that digest, which is checked before anything of it is read. Raises
    `InputError` for a file that is missing, cut short, of another digest, or that holds no encoder in a known format.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"the pretrained encoder must be a file; there is no {path}. Check the path.")
    digest = file_digest(path)
    if sha256 is not None:
        require_digest(path, digest, sha256)
    content = read_tensors(path)[0] if path.suffix == SAFETENSORS else _read_torch(path)
    kind, state, norms = _recognized(path, content)
    tensors = {name: tensor for name, tensor in state.items() if not _HEAD.match(name)}
    epoch = content.get("epoch")
    return EncoderFile(path, kind, tensors, norms, epoch if isinstance(epoch, int) else None, digest)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_digest(path: Path, digest: str, wanted: str) -> None:
    """Raise `InputError` where a file's digest is not the `wanted` one, `UsageError` where that is no SHA-256."""
    if not _SHA256.fullmatch(wanted):
        raise UsageError(
            f"a SHA-256 has 64 digits 0-9, a-f; got {wanted!r}. Take it whole from `sha256sum FILE`, or leave it empty."
        )
    if digest != wanted.lower():
        raise InputError(
            f"{path} must have the SHA-256 {wanted}; it has {digest}. Get the file again, or correct the digest."
        )


def _read_torch(path: Path) -> Mapping[str, Any]:
    unreadable = (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError)
    try:
        with warnings.catch_warnings(action="ignore"):  # of pickle protocols that may not be read in full
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (*unreadable, TypeError) as error:
        raise InputError(
            f"{path} must be a file that torch can load with weights_only=True, which runs no program; it cannot be "
            f"read ({type(error).__name__}). It may be cut short, or hold more than tensors and plain values: save its "
            f"state dict alone, or use {SAFETENSORS}."
        ) from None
    if not isinstance(content, Mapping):
        raise InputError(f"{path} must hold tensors by name; it holds a {type(content).__name__}. Save a state dict.")
    return content


def _recognized(path: Path, content: Mapping[str, Any]) -> tuple[str, dict[str, Tensor], Normalization | None]:
    """Return format, encoder's tensors and normalisation of a file's content."""
    inner = content.get("state_dict", content)
    values = inner if isinstance(inner, Mapping) else {}
    state = {str(name): value for name, value in values.items() if isinstance(value, Tensor)}
    if query := {_QUERY.sub("", name): value for name, value in state.items() if _QUERY.match(name)}:
        if "norms" in content:
            return "cem500k", query, _norms(path, content["norms"])
        return "moco", query, _of_colour(query)
    if own := {name.removeprefix("encoder."): value for name, value in state.items() if name.startswith("encoder.")}:
        return "network", own, OURS
    bare = {name.removeprefix("module."): value for name, value in state.items()}
    if STEM in bare and any(name.startswith("layer1.") for name in bare):
        return "torchvision", bare, _of_colour(bare)
    shown = ", ".join(list(state)[:3]) or "no tensors at all"
    raise InputError(
        f"{path} must hold a pretrained encoder in the format of CEM500K or MoCo (encoder_q.*), of torchvision (conv1, "
        f"layer1, ...) or of this book's networks (encoder.*); its first tensors are {shown}."
    )


def _norms(path: Path, norms: Any) -> Normalization:
    """Return the file's norms, [mean, std] or {"mean": ..., "std": ...}."""
    pair = [norms.get("mean"), norms.get("std")] if isinstance(norms, Mapping) else norms
    try:
        mean, std = (map(float, value if isinstance(value, list | tuple) else [value]) for value in pair)
        return Normalization(tuple(mean), tuple(std))
    except (TypeError, ValueError) as error:
        raise InputError(f"{path} must hold `norms` as [mean, std] of grey from 0 to 1; it holds {norms!r}.") from error


def _of_colour(state: Mapping[str, Tensor]) -> Normalization | None:
    stem = state.get(STEM)
    return IMAGENET if stem is not None and stem.ndim == 4 and stem.shape[1] == 3 else None
