"""Which detector: one cell of FANet's Table 2, and what the paper leaves open about it.

    detector    mask_rcnn   He et al. 2017                          ms_rcnn   Mask Scoring R-CNN, Huang et al. 2019
    backbone    ResNet-18, -34 or -50 with a channel attention in every block, a pyramid on top
    attention   none, se, eca, fca, fanet                           `emseg.frequency.attention`

A design is plain data: it imports no part of mmdet, goes to JSON and back, and is all that a checkpoint's weights need
to be understood.

Source: Sun et al. 2021 (FANet), section 4.2 and Table 2.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal, get_args

from emseg.errors import UsageError, suggest
from emseg.frequency.attention import ATTENTIONS
from emseg.frequency.resnet import RESNET18, RESNET34, RESNET50, ResNetDesign
from emseg.wafer.detector.block_attention import require_attention
from emseg.wafer.detector.sizes import DetectorSize, detector_size

Detector = Literal["mask_rcnn", "ms_rcnn"]
DETECTORS: tuple[str, ...] = get_args(Detector)
BACKBONES = {18: RESNET18, 34: RESNET34, 50: RESNET50}

TORCHVISION = "torchvision"


@dataclass(frozen=True)
class DetectorDesign:
    """A detector; the defaults are those of the paper's largest Mask R-CNN, with the classifier for its four classes.

    `attention_options` are keyword arguments of the attention's class, for example {"indexing": "scaled"} for "fanet".
    `size` names a preset, and `changes` replaces single fields of it (`emseg.wafer.detector.sizes.DetectorSize`).
    `backbone_weights` is a file with torchvision's weights of the backbone, or "torchvision" to fetch them; None starts
    from random weights. Unless `changes` says otherwise, the first stage and all normalisation are then frozen, as in
    mmdet, and learn where weights are random.
    """

    detector: Detector = "mask_rcnn"
    depth: int = 50
    attention: str = "none"
    attention_options: Mapping[str, object] = field(default_factory=dict, hash=False)
    num_classes: int = 4
    size: str = "paper"
    changes: Mapping[str, object] = field(default_factory=dict, hash=False)
    backbone_weights: str | None = None

    def __post_init__(self) -> None:
        _require_choice("detector", self.detector, DETECTORS)
        if isinstance(self.depth, bool) or self.depth not in tuple(BACKBONES):
            raise UsageError(f"`depth` must be one of {', '.join(map(str, BACKBONES))}; got {self.depth!r}.")
        _require_choice("attention", self.attention, ATTENTIONS)
        for name in ("attention_options", "changes"):
            if not isinstance(getattr(self, name), Mapping):
                raise UsageError(f"`{name}` must be a mapping of names to values; got {getattr(self, name)!r}.")
            object.__setattr__(self, name, dict(getattr(self, name)))
        if isinstance(self.num_classes, bool) or not isinstance(self.num_classes, int) or self.num_classes < 1:
            raise UsageError(f"`num_classes` must be a whole number of at least 1; got {self.num_classes!r}.")
        if self.backbone_weights is not None and not isinstance(self.backbone_weights, str):
            raise UsageError(
                f"`backbone_weights` must be the name of a file, {TORCHVISION!r} or null; "
                f"got {self.backbone_weights!r}."
            )
        require_attention(self.attention, self.attention_options, self.backbone.out_channels)

    @property
    def numbers(self) -> DetectorSize:
        """The preset `size` with the `changes`."""
        return detector_size(self.size, self.depth, self.changes)

    @property
    def backbone(self) -> ResNetDesign:
        """The residual network; its classifier is not used."""
        full, numbers = BACKBONES[self.depth], self.numbers
        return ResNetDesign(
            block=full.block,
            depths=full.depths[: numbers.n_stages],
            base_channels=numbers.base_channels,
            in_channels=numbers.in_channels,
            n_classes=1,
        )

    @property
    def frozen_stages(self) -> int:
        """How many stages of the backbone do not learn; -1 where not even the first convolution is frozen."""
        given = self.numbers.frozen_stages
        return given if given is not None else (-1 if self.backbone_weights is None else 1)

    @property
    def norm_eval(self) -> bool:
        """Whether the backbone's normalisation uses stored means and variances while training."""
        given = self.numbers.norm_eval
        return given if given is not None else self.backbone_weights is not None

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON knows them; `design_from_dict` reads them back."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


def design_from_dict(values: Mapping[str, object]) -> DetectorDesign:
    """Return the design that `to_dict` described; raises `UsageError` for a name that no design has."""
    known = [item.name for item in fields(DetectorDesign)]
    for name in values:
        if name not in known:
            raise UsageError(f"a detector's design has no {name!r}.{suggest(str(name), known)}")
    return DetectorDesign(**values)  # type: ignore[arg-type]  # every value is checked in __post_init__


def _require_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(
            f"`{name}` must be one of {', '.join(map(repr, allowed))}; got {value!r}.{suggest(str(value), allowed)}"
        )
