"""The device that a training runs on, and its precision; bf16 is emulated, and slow, where instructions are lacking."""

import os
from typing import Literal

import torch

from emseg.errors import UsageError

Precision = Literal["fp32", "bf16", "fp16"]
AUTOCAST_DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
TORCH_PRECISION = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}  # as `emseg.tiling` takes them
LIGHTNING_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def require_device(name: str, n_devices: int = 1, precision: str = "fp32") -> torch.device:
    """Return the device called "auto", "cpu", "cuda" or "cuda:N"; "auto" is a GPU where there is one.

    Each process of torchrun gets its own GPU. Raises `UsageError` for a device that is absent or lacks the precision.
    """
    kind, _, number = name.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (number and (kind != "cuda" or not number.isdigit())):
        raise UsageError(f"`device` must be auto, cpu, cuda or cuda:N; got {name!r}.")
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "cuda" and int(number or 0) >= n_gpus:
        raise UsageError(f"`device` {name!r} is not there: torch sees {n_gpus} GPUs. Use device='auto' or 'cpu'.")
    if kind == "cpu" or not n_gpus:
        if precision == "fp16":
            raise UsageError("precision='fp16' needs a GPU; a CPU trains in 'fp32' or, if it is recent, 'bf16'.")
        return torch.device("cpu")
    if number and n_devices > 1:
        raise UsageError(f"`n_devices` takes the first GPUs; got device={name!r}, n_devices={n_devices}. Use 'cuda'.")
    if n_devices > n_gpus:
        raise UsageError(f"`n_devices` must not exceed the GPUs that torch sees, {n_gpus}; got {n_devices}.")
    return torch.device("cuda", int(number or os.environ.get("LOCAL_RANK", "0")))  # set by torchrun


def chosen_precision(precision: str, device: torch.device) -> str:
    """Return "fp32", "bf16" or "fp16"; "auto" is bf16 where the device has instructions for it."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"
    return "bf16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() and _has_bf16_arithmetic() else "fp32"


def device_name(device: torch.device) -> str:
    """Return a GPU's own name, or "cpu"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _has_bf16_arithmetic() -> bool:
    # private in torch, where a name may go; then fp32 it is
    asked = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return any(ask is not None and ask() for ask in asked)
