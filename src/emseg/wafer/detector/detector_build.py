"""From a design to a network of mmdet with weights, and its weights to a file and back.

The initial weights depend on the seed and the design alone. Everything that two designs have in common starts from the
same weights, whatever the attention between.

Weights are written as .safetensors: tensors only, read without executing anything. torch's own files (.pth, .pt), also
checkpoints of mmengine's Runner, are read with weights_only=True. A file that does not fit is refused as a whole.
"""

import logging
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from emseg.checks import require_count
from emseg.errors import InputError, UsageError
from emseg.files import decoding
from emseg.wafer.detector.detector_design import DetectorDesign
from emseg.wafer.detector.mmdet_config import Config, model_config

SAFETENSORS = ".safetensors"
N_SHOWN = 3  # names in an error


def build_design(design: DetectorDesign, *, seed: int = 0) -> nn.Module:
    """Return the detector of `design` with the initial weights of `seed`, in training mode.

    torch's random state stays as it was.
    """
    return build_config(model_config(design), seed=seed)


def build_config(config: Config, *, seed: int = 0) -> nn.Module:
    """Return the detector of a model's configuration, such as `model_config` returns or a file contains.

    Raises `UsageError`, with mmdet's reason, for an unknown type or argument.
    """
    require_count("seed", seed, 0, 2**63 - 1)
    # Imported here, since mmdet takes seconds that a plain design should not cost; our parts first, they prepare it.
    import_module("emseg.wafer.detector.mmdet_parts")
    from mmdet.registry import MODELS
    from mmengine.config import ConfigDict
    from mmengine.logging import MMLogger
    from mmengine.registry import DefaultScope

    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)  # or it prints a line for every parameter
    try:
        # Detectors are made on the CPU; other devices' generators are not touched, so they need not be restored.
        with torch.random.fork_rng(devices=[]), DefaultScope.overwrite_default_scope("mmdet"):
            torch.default_generator.manual_seed(seed)
            try:
                model = MODELS.build(ConfigDict(config))
            except (TypeError, KeyError, AttributeError) as error:
                raise UsageError(f"mmdet cannot build this model: {error}. Compare it with `model_config`.") from error
            # What the parts drew when they were made depends on the design; what they draw now starts anew.
            torch.default_generator.manual_seed(seed)
            model.init_weights()
    finally:
        logger.setLevel(level)
    return cast(nn.Module, model)


def read_weights(path: Path | str) -> dict[str, Tensor]:
    """Return the tensors of a file by name, on the CPU.

    A checkpoint's "state_dict" is taken where there is one. Raises `InputError` for a file that is missing, truncated,
    or contains anything but tensors by name.
    """
    import safetensors.torch

    path = Path(path)
    with decoding(path, "weights", repair=f"Save the state dict alone, or use {SAFETENSORS}."):  # executes nothing
        if path.suffix == SAFETENSORS:
            return dict(safetensors.torch.load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    weights = content.get("state_dict", content) if isinstance(content, Mapping) else content
    if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise InputError(f"{path} must have tensors by name; it does not. Save the state dict of the model.")
    return dict(weights)


def load_weights(model: nn.Module, path: Path | str) -> None:
    """Load a file that has exactly the weights of `model`.

    Raises `InputError` that states the differences where the file is of another architecture; the model then stays as
    it was.
    """
    put_weights(model, read_weights(path), str(path))


def put_weights(model: nn.Module, given: Mapping[str, Tensor], source: str) -> None:
    """Set the weights of `model`; raises `InputError` that names their `source` unless exactly they are `given`."""
    own = model.state_dict()
    shapes = {name: (tuple(given[name].shape), tuple(own[name].shape)) for name in own if name in given}
    problems = {
        "lacks": [name for name in own if name not in given],
        "has besides": [name for name in given if name not in own],
        "has other shapes for": [f"{name} ({a} instead of {b})" for name, (a, b) in shapes.items() if a != b],
    }
    differences = [
        f"{problem} {', '.join(names[:N_SHOWN])}" + (f" and {len(names) - N_SHOWN} more" if names[N_SHOWN:] else "")
        for problem, names in problems.items()
        if names
    ]
    if differences:
        raise InputError(
            f"{source} must have the weights of this detector; it {'; it '.join(differences)}. "
            "Build the detector with the depth, attention, size and number of classes that the weights were made with."
        )
    model.load_state_dict(given)
