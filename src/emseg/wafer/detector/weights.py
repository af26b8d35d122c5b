"""The weights of a detector in a file, and back into a detector of the same design.

    .safetensors   tensors only, read without executing anything          what we write
    .pth, .pt      torch's own; also a checkpoint of mmengine's Runner    read with weights_only=True

A file that does not fit is refused as a whole, with what differs.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from emseg.errors import InputError, UsageError

SAFETENSORS = ".safetensors"
N_SHOWN = 3


def read_weights(path: Path | str) -> dict[str, Tensor]:
    """Return the tensors of a file by name, on the CPU.

    A checkpoint's "state_dict" is taken where there is one. Raises `InputError` for a file that is missing, cut short,
    or holds anything but tensors by name.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"the weights must be a file; there is no {path}. Check the path.")
    if path.suffix == SAFETENSORS:
        return _read_safetensors(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise InputError(
            f"{path} must be a file of weights that torch can load with weights_only=True, which executes nothing; it "
            f"cannot be read ({type(error).__name__}). Save the state dict alone, or use {SAFETENSORS}."
        ) from None
    weights = content.get("state_dict", content) if isinstance(content, Mapping) else content
    if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise InputError(f"{path} must hold tensors by name; it does not. Save the state dict of the model.")
    return dict(weights)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    import safetensors.torch

    try:
        weights: dict[str, Tensor] = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise InputError(f"{path} must be a whole safetensors file; it cannot be read ({error}).") from None
    return weights


def save_weights(
    model: nn.Module,
    path: Path | str,
    *,
    dtype: torch.dtype | None = None,
    notes: Mapping[str, str] | None = None,
) -> None:
    """Write the state dict of `model` to a .safetensors file; `notes` are kept in its header.

    `dtype` rounds floating-point weights: torch.float16 halves the file and keeps 11 significant bits.
    """
    import safetensors.torch

    path = Path(path)
    if path.suffix != SAFETENSORS:
        raise UsageError(f"weights are written as {SAFETENSORS}; got {path.name!r}. Change the name.")
    tensors = {}
    for name, tensor in model.state_dict().items():
        kept = tensor.detach().cpu()
        if dtype is not None and kept.is_floating_point():
            kept = kept.to(dtype)
        tensors[name] = kept.contiguous()
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file(tensors, path, metadata=dict(notes or {}))


def load_weights(model: nn.Module, path: Path | str) -> None:
    """Load a file that holds exactly the weights of `model`.

    Raises `InputError` that says what differs where the file is of another architecture; the model is then untouched.
    """
    given, own = read_weights(path), model.state_dict()
    differences = []
    for problem, names in (
        ("lacks", [name for name in own if name not in given]),
        ("has besides", [name for name in given if name not in own]),
        (
            "has other shapes for",
            [name for name in own if name in given and own[name].shape != given[name].shape],
        ),
    ):
        if names:
            shown = ", ".join(_described(name, own, given) for name in names[:N_SHOWN])
            more = f" and {len(names) - N_SHOWN} more" if len(names) > N_SHOWN else ""
            differences.append(f"{problem} {shown}{more}")
    if differences:
        raise InputError(
            f"{path} must hold the weights of this detector; it {'; it '.join(differences)}. "
            "Build the detector with the depth, attention, size and number of classes that the weights were made with."
        )
    model.load_state_dict(given)


def _described(name: str, own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """Return the name, with both shapes where there are two."""
    if name in own and name in given:
        return f"{name} ({tuple(given[name].shape)} in place of {tuple(own[name].shape)})"
    return name
