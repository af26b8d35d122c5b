"""A trained finder of sections: network, class names, section size, template and calibration, in one file.

    network.NAME    weights; matrices are stored in half precision, 2 bytes a number
    template.NAME   arrays of the template section, where there is one
    metadata        "emseg_finder": all else, as JSON

The **section size** is the side of a square of a usual section's area, the median of what the network was trained on.
An image with sections of s pixels is scaled by `section_size_px` / s before the network sees it.

The **calibration** maps a detection's score to the probability that it is a section, by logistic regression on the
detections in validation tiles:

    p = 1 / (1 + exp(-(slope * logit(score) + intercept)))

Source: Platt, Probabilistic outputs for support vector machines (1999), applied to the logit of the score.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn

from emseg.checks import plain, require_number
from emseg.errors import InputError, UsageError
from emseg.files import atomic_path, decoding, digest_of
from emseg.training.devices import require_device
from emseg.wafer.detector.detector_build import SAFETENSORS, build_design, put_weights
from emseg.wafer.detector.detector_design import DetectorDesign
from emseg.wafer.navigation.template import SectionTemplate

CONTENT = "emseg_finder"  # the key of the file's metadata
VERSION = 1
NETWORK, TEMPLATE = "network.", "template."
NEAREST_SCORE = 1e-6  # scores of 0 and 1 have no logit
SHIPPED = "sections.safetensors"
SHIPPED_FINDER = Path(__file__).with_name(SHIPPED)


@dataclass(frozen=True)
class Calibration:
    """Logistic calibration of scores from `n` detections, `n_true` of which are sections; one kind alone has no fit."""

    slope: float
    intercept: float
    n: int
    n_true: int

    def __call__(self, scores: Float64[np.ndarray, "..."] | float) -> Float64[np.ndarray, "..."]:
        """Return the probability that each detection is a section."""
        return np.asarray(1 / (1 + np.exp(-(self.slope * logit(scores) + self.intercept))))


@dataclass(frozen=True, eq=False)
class SectionFinder:
    """A detector and what must be known to use it on a wafer image of any scale.

    section_size_px   side of a square of a usual section's area, in pixels of the network's input
    section_size_um   the same on the wafer, where the pixel size of the training images was known
    template          of the wafer that it was trained on, where that distinguishes the tissue's corners
    calibration       None where the validation tiles could not give one
    record            how it was trained and scored, as JSON
    """

    model: nn.Module
    design: DetectorDesign
    class_names: tuple[str, ...]
    section_size_px: float
    section_size_um: float | None = None
    template: SectionTemplate | None = None
    calibration: Calibration | None = None
    record: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_number("section_size_px", self.section_size_px, above=0)
        if len(self.class_names) != self.design.num_classes:
            raise UsageError(
                f"a finder must name each class of its network; got {len(self.class_names)} names "
                f"({', '.join(self.class_names)}) for {self.design.num_classes} classes."
            )

    def confidence(self, scores: Float64[np.ndarray, "..."] | float) -> Float64[np.ndarray, "..."]:
        """Return the calibrated probability that each detection is a section; the score itself if not calibrated."""
        return np.asarray(scores, dtype=np.float64) if self.calibration is None else self.calibration(scores)

    def digest(self) -> str:
        """Return a short digest of all that determines what is found: weights, design, classes, section size."""
        weights = [
            part
            for name, value in sorted(self.model.state_dict().items())
            for part in (name, value.cpu().numpy().tobytes())
        ]
        return digest_of(json.dumps(_content(self), sort_keys=True), *weights)


def logit(scores: Float64[np.ndarray, "..."] | float) -> Float64[np.ndarray, "..."]:
    """Return log(s / (1 - s)) with s kept away from 0 and 1 by `NEAREST_SCORE`."""
    clipped = np.clip(np.asarray(scores, dtype=np.float64), NEAREST_SCORE, 1 - NEAREST_SCORE)
    return np.asarray(np.log(clipped / (1 - clipped)))


def save_finder(finder: SectionFinder, path: str | Path) -> Path:
    """Write a finder as one .safetensors file, replacing what is there, and return the path."""
    from safetensors.torch import save_file

    path = Path(path)
    if path.suffix != SAFETENSORS:
        raise UsageError(f"a finder's file must end with {SAFETENSORS}; got {path.name!r}.")
    tensors = {NETWORK + name: _stored(value) for name, value in finder.model.state_dict().items()}
    if finder.template is not None:
        tensors |= {TEMPLATE + name: torch.tensor(value) for name, value in finder.template.arrays().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as unfinished:
        save_file(tensors, unfinished, metadata={CONTENT: json.dumps(_content(finder))})
    return path


def load_finder(path: str | Path | None = None, *, device: str = "auto") -> SectionFinder:
    """Return the finder in a file, in evaluation mode on `device`; None gives the one that ships with the library.

    The file is read without executing anything. Raises `InputError` for a file that is not a finder, such as the bare
    weights of a detector.
    """
    import safetensors

    chosen = require_device(device)
    path = SHIPPED_FINDER if path is None else Path(path)
    with decoding(path, "weights"), safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    if CONTENT not in metadata:
        raise InputError(
            f"{path} must be a finder, as `emseg wafer train` writes it; it has weights without the sizes and classes "
            "that they belong to. Train one, or leave out the weights to use those that ship with emseg."
        )
    with decoding(path, "finder", repair="Train it again, or use a newer emseg."):
        content = json.loads(metadata[CONTENT])
        if content["version"] != VERSION:
            raise InputError(f"{path} has version {content['version']} of the format; this emseg reads {VERSION}.")
        design, calibration = DetectorDesign(**content["design"]), content["calibration"]
    model = build_design(design)
    own = model.state_dict()
    network, arrays = (
        {name.removeprefix(part): value for name, value in tensors.items() if name.startswith(part)}
        for part in (NETWORK, TEMPLATE)
    )
    cast = {name: value.to(own[name].dtype) if name in own else value for name, value in network.items()}
    put_weights(model, cast, str(path))
    template = {name: value.numpy() for name, value in arrays.items()}
    return SectionFinder(
        model=model.to(chosen).eval(),
        design=design,
        class_names=tuple(content["class_names"]),
        section_size_px=content["section_size_px"],
        section_size_um=content["section_size_um"],
        template=SectionTemplate.from_arrays(template) if template else None,
        calibration=None if calibration is None else Calibration(**calibration),
        record=content["record"],
    )


def _content(finder: SectionFinder) -> dict[str, Any]:
    return {
        "version": VERSION,
        "design": finder.design.to_dict(),
        "class_names": list(finder.class_names),
        "section_size_px": finder.section_size_px,
        "section_size_um": finder.section_size_um,
        "calibration": None if finder.calibration is None else plain(finder.calibration),
        "record": dict(finder.record),
    }


def _stored(value: Tensor) -> Tensor:
    """Matrices and filters in half precision; means, variances and biases as they are."""
    value = value.detach().cpu().contiguous()
    return value.half() if value.is_floating_point() and value.ndim > 1 else value
