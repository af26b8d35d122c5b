"""From a design to a network of mmdet with weights, and its weights to a file and back.

The initial weights depend on the seed and the design alone. Everything that two designs have in common starts from the
same weights, whatever the attention between.

A misspelt entry of a configuration is found before anything is built; mmdet passes unknown arguments on until a
constructor far inside refuses them, and ignores unknown training and test settings until the first image. Here, every
dictionary with a `type` may only have what that class's constructor takes, and `train_cfg` and `test_cfg` only what our
own configuration has in the same place. Operators, layers and initialisers (`roi_layer`, `nms`, `norm_cfg`, ...) belong
to other registries than a model's parts, and are left to mmdet.

Weights are written as .safetensors: tensors only, read without executing anything. torch's own files (.pth, .pt), also
checkpoints of mmengine's Runner, are read with weights_only=True. A file that does not fit is refused as a whole.
"""

import inspect
import logging
import pickle
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from emseg.checks import require_count
from emseg.errors import InputError, UsageError, suggest
from emseg.files import atomic_path
from emseg.wafer.detector.detector_design import DetectorDesign
from emseg.wafer.detector.mmdet_config import Config, model_config

SAFETENSORS = ".safetensors"
N_SHOWN = 3  # names in an error
ELSEWHERE = ("roi_layer", "nms", "norm_cfg", "conv_cfg", "act_cfg", "upsample_cfg", "init_cfg", "attention_options")
SETTINGS = ("train_cfg", "test_cfg")


def build_design(design: DetectorDesign, *, seed: int = 0) -> nn.Module:
    """Return the detector of `design` with the initial weights of `seed`, in training mode.

    torch's random state stays as it was.
    """
    return build_config(model_config(design), seed=seed)


def build_config(config: Config, *, seed: int = 0) -> nn.Module:
    """Return the detector of a model's configuration, such as `model_config` returns or a file contains.

    Raises `UsageError` for an entry that no part of the model would read.
    """
    require_count("seed", seed, 0, 2**63 - 1)
    # Imported here, since mmdet takes seconds that a plain design should not cost; our parts first, they prepare it.
    import_module("emseg.wafer.detector.mmdet_parts")
    from mmdet.registry import MODELS, TASK_UTILS
    from mmengine.config import ConfigDict
    from mmengine.logging import MMLogger
    from mmengine.registry import DefaultScope

    if not isinstance(config, Mapping) or "type" not in config:
        raise UsageError('a model\'s configuration must be a mapping with a "type"; see `model_config` for one.')
    ours = model_config(DetectorDesign("ms_rcnn"))
    settings = {name: ours[name] for name in SETTINGS}
    _check(config, "model", {**TASK_UTILS.module_dict, **MODELS.module_dict}, settings)
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)  # or it prints a line for every parameter
    try:
        # Detectors are made on the CPU; other devices' generators are not touched, so they need not be restored.
        with torch.random.fork_rng(devices=[]), DefaultScope.overwrite_default_scope("mmdet"):
            torch.default_generator.manual_seed(seed)
            model = MODELS.build(ConfigDict(config))
            # What the parts drew when they were made depends on the design; what they draw now starts anew.
            torch.default_generator.manual_seed(seed)
            model.init_weights()
    finally:
        logger.setLevel(level)
    return cast(nn.Module, model)


def accepted_arguments(part: type) -> set[str] | None:
    """Return the names of the constructor's arguments, with its base classes' as far as it passes on the rest.

    None where that cannot be known.
    """
    names: set[str] = set()
    for base in inspect.getmro(part):
        if "__init__" in vars(base):
            kinds = {one.name: one.kind for one in inspect.signature(base).parameters.values()}
            names |= {name for name, kind in kinds.items() if kind is not inspect.Parameter.VAR_KEYWORD}
            if inspect.Parameter.VAR_KEYWORD not in kinds.values():
                return names
    return None


def _check(config: Mapping[str, Any], place: str, classes: Mapping[str, type], settings: Mapping[str, Any]) -> None:
    """Check a dictionary and those within it: against its type's constructor, or without a type against `settings`."""
    known, owner = set(settings) or None, "mmdet"
    if "type" in config:
        kind = config["type"]
        if not isinstance(kind, type) and kind not in classes:
            raise UsageError(
                f"`{place}.type` must name a part that mmdet knows; got {kind!r}.{suggest(str(kind), classes)}"
            )
        part = kind if isinstance(kind, type) else classes[kind]
        accepted, owner = accepted_arguments(part), part.__name__
        known = None if accepted is None else accepted | {"type"}
    for key in config:
        if known is not None and key not in known:
            raise UsageError(
                f"`{place}` may only have what {owner} knows; got {key!r}.{suggest(str(key), sorted(known))} "
                f"Known are {', '.join(sorted(known))}."
            )
    for key, value in config.items():
        inner = settings.get(key)
        inner = inner if isinstance(inner, Mapping) else {}
        for one in value if isinstance(value, list | tuple) else [value]:
            if key not in ELSEWHERE and isinstance(one, Mapping) and ("type" in one or inner):
                _check(one, f"{place}.{key}", classes, inner)


def read_weights(path: Path | str) -> dict[str, Tensor]:
    """Return the tensors of a file by name, on the CPU.

    A checkpoint's "state_dict" is taken where there is one. Raises `InputError` for a file that is missing, truncated,
    or contains anything but tensors by name.
    """
    import safetensors.torch

    path = Path(path)
    if not path.is_file():
        raise InputError(f"the weights must be a file; there is no {path}. Check the path.")
    try:
        if path.suffix == SAFETENSORS:
            return dict(safetensors.torch.load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (safetensors.SafetensorError, OSError) as error:
        raise InputError(f"{path} must be a whole safetensors file; it cannot be read ({error}).") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise InputError(
            f"{path} must be a file of weights that torch can load with weights_only=True, which executes nothing; it "
            f"cannot be read ({type(error).__name__}). Save the state dict alone, or use {SAFETENSORS}."
        ) from None
    weights = content.get("state_dict", content) if isinstance(content, Mapping) else content
    if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise InputError(f"{path} must have tensors by name; it does not. Save the state dict of the model.")
    return dict(weights)


def save_weights(
    model: nn.Module, path: Path | str, *, dtype: torch.dtype | None = None, notes: Mapping[str, str] | None = None
) -> None:
    """Write the state dict of `model` to a .safetensors file, with `notes` in its header.

    `dtype` rounds floating-point weights: torch.float16 halves the file and keeps 11 significant bits.
    """
    import safetensors.torch

    path = Path(path)
    if path.suffix != SAFETENSORS:
        raise UsageError(f"weights are written as {SAFETENSORS}; got {path.name!r}. Change the name.")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if dtype is not None:
        tensors = {name: one.to(dtype) if one.is_floating_point() else one for name, one in tensors.items()}
    with atomic_path(path) as new:
        safetensors.torch.save_file(tensors, new, metadata=dict(notes or {}))


def load_weights(model: nn.Module, path: Path | str) -> None:
    """Load a file that has exactly the weights of `model`.

    Raises `InputError` that states the differences where the file is of another architecture; the model then stays as
    it was.
    """
    given, own = read_weights(path), model.state_dict()
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
            f"{path} must have the weights of this detector; it {'; it '.join(differences)}. "
            "Build the detector with the depth, attention, size and number of classes that the weights were made with."
        )
    model.load_state_dict(given)
