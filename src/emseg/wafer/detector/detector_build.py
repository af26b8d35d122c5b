"""From a design to a network of mmdet with weights, and its weights to a file and back.

The initial weights depend on the seed and the design alone. Everything that two designs have in common starts from the
same weights, whatever the attention between.

A misspelt entry of a configuration is found before anything is built. mmdet passes unknown arguments on until a
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
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from emseg.checks import require_count
from emseg.errors import InputError, UsageError, suggest
from emseg.files import atomic_path
from emseg.wafer.detector.detector_design import Attention, Detector, DetectorDesign, SizeName
from emseg.wafer.detector.mmdet_config import Config, model_config

SAFETENSORS = ".safetensors"
N_SHOWN = 3  # names in an error
ELSEWHERE = ("roi_layer", "nms", "norm_cfg", "conv_cfg", "act_cfg", "upsample_cfg", "init_cfg", "attention_options")
SETTINGS = ("train_cfg", "test_cfg")


def build_detector(
    detector: Detector = "mask_rcnn",
    depth: int = 50,
    attention: Attention = "none",
    *,
    num_classes: int = 4,
    size: SizeName = "paper",
    attention_options: Mapping[str, object] | None = None,
    changes: Mapping[str, object] | None = None,
    backbone_weights: str | None = None,
    seed: int = 0,
) -> nn.Module:
    """Return a detector with initial weights, in training mode; the arguments are those of `DetectorDesign`.

    torch's random state stays as it was. Raises `UsageError` for an invalid design.
    """
    design = DetectorDesign(
        detector=detector,
        depth=depth,  # type: ignore[arg-type]  # checked there
        attention=attention,
        attention_options=attention_options or {},
        num_classes=num_classes,
        size=size,
        changes=changes or {},
        backbone_weights=backbone_weights,
    )
    return build_design(design, seed=seed)


def build_design(design: DetectorDesign, *, seed: int = 0) -> nn.Module:
    """Return the detector of `design` with the initial weights of `seed`, in training mode."""
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

    check_config(config, {**TASK_UTILS.module_dict, **MODELS.module_dict})
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


def check_config(config: Mapping[str, Any], classes: Mapping[str, type]) -> None:
    """Raise `UsageError` that names the first entry that no part would read, and the nearest known one.

    `classes` has the parts that a model can be made of, by name.
    """
    if not isinstance(config, Mapping) or "type" not in config:
        raise UsageError('a model\'s configuration must be a mapping with a "type"; see `model_config` for one.')
    known_settings = model_config(DetectorDesign("ms_rcnn"))
    _check_typed(config, "model", classes)
    for name in SETTINGS:
        if isinstance(config.get(name), Mapping):
            _check_settings(config[name], known_settings[name], f"model.{name}", classes)


def accepted_arguments(part: type) -> set[str] | None:
    """Return the names of the constructor's arguments, with its base classes' as far as it passes on the rest.

    None where that cannot be known.
    """
    names: set[str] = set()
    for base in inspect.getmro(part):
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(base).parameters.values()
        names |= {parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD}
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return names
    return None


def _check_typed(config: Mapping[str, Any], place: str, classes: Mapping[str, type]) -> None:
    """Check a dictionary with a type, and those within it."""
    kind = config["type"]
    if not isinstance(kind, type) and kind not in classes:
        raise UsageError(
            f"`{place}.type` must name a part that mmdet knows; got {kind!r}.{suggest(str(kind), classes)}"
        )
    part = kind if isinstance(kind, type) else classes[kind]
    accepted = accepted_arguments(part)
    if accepted is not None:
        _require_known(config, accepted | {"type"}, place, part.__name__)
    for key, value in config.items():
        if key not in ELSEWHERE + SETTINGS:
            for inner in value if isinstance(value, Sequence) and not isinstance(value, str) else [value]:
                if isinstance(inner, Mapping) and "type" in inner:
                    _check_typed(inner, f"{place}.{key}", classes)


def _check_settings(
    settings: Mapping[str, Any], known: Mapping[str, Any], place: str, classes: Mapping[str, type]
) -> None:
    """Check training or test settings against those of our own configuration in the same place."""
    _require_known(settings, known, place, "mmdet")
    for key, value in settings.items():
        if isinstance(value, Mapping) and key not in ELSEWHERE:
            if "type" in value:
                _check_typed(value, f"{place}.{key}", classes)
            elif isinstance(known[key], Mapping):
                _check_settings(value, known[key], f"{place}.{key}", classes)


def _require_known(config: Mapping[str, Any], known: Iterable[str], place: str, owner: str) -> None:
    names = sorted(known)
    for key in config:
        if key not in names:
            raise UsageError(
                f"`{place}` may only have what {owner} knows; got {key!r}.{suggest(str(key), names)} "
                f"Known are {', '.join(names)}."
            )


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
    model: nn.Module,
    path: Path | str,
    *,
    dtype: torch.dtype | None = None,
    notes: Mapping[str, str] | None = None,
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
    problems = {
        "lacks": [name for name in own if name not in given],
        "has besides": [name for name in given if name not in own],
        "has other shapes for": [
            f"{name} ({tuple(given[name].shape)} instead of {tuple(own[name].shape)})"
            for name in own
            if name in given and own[name].shape != given[name].shape
        ],
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
