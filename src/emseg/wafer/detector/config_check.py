"""Misspelt entries of a model's configuration, found before anything is built.

mmdet passes unknown arguments on until a constructor far inside refuses them, and ignores unknown training and test
settings until the first image. Here, every dictionary with a `type` may only hold what that class's constructor takes,
and the settings in `train_cfg` and `test_cfg` only what our own configuration has in the same place.

The types of operators, layers and initialisers (`roi_layer`, `nms`, `norm_cfg`, ...) live in other registries than a
model's parts, and are left to mmdet.
"""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from emseg.errors import UsageError, suggest
from emseg.wafer.detector.design import DetectorDesign
from emseg.wafer.detector.model_config import model_config

ELSEWHERE = ("roi_layer", "nms", "norm_cfg", "conv_cfg", "act_cfg", "upsample_cfg", "init_cfg", "attention_options")
SETTINGS = ("train_cfg", "test_cfg")


def check_config(config: Mapping[str, Any], classes: Mapping[str, type]) -> None:
    """Raise `UsageError` that names the first entry nobody would read, and the nearest one that is known.

    `classes` holds the parts that a model can be made of, by name.
    """
    if not isinstance(config, Mapping) or "type" not in config:
        raise UsageError('a model\'s configuration must be a mapping with a "type"; see `model_config` for one.')
    known_settings = model_config(DetectorDesign("ms_rcnn"))
    _check_typed(config, "model", classes)
    for name in SETTINGS:
        if isinstance(config.get(name), Mapping):
            _check_settings(config[name], known_settings[name], f"model.{name}", classes)


def accepted_arguments(part: type) -> set[str] | None:
    """Return the names of what the constructor takes, from its base classes too as far as it hands on the rest.

    None where nobody can say.
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
                f"`{place}` may only hold what {owner} knows; got {key!r}.{suggest(str(key), names)} "
                f"Known are {', '.join(names)}."
            )
