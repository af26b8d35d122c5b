"""Everything about a detector that is a number and no idea: widths, anchors, samples, thresholds; and two presets.

    paper   mmdet's `mask-rcnn_r50_fpn` and `ms-rcnn_r50_fpn`, number by number: colour, four stages, five levels
    small   the same parts for grey tiles of 256 px with sections of about 40 to 90 px, on two CPU cores

The small preset keeps the kind of block and the number of blocks of the first three stages (3, 4, 6), so that an
attention sits in as many places per stage as in the full network. It trains from random weights, therefore with
normalisation that learns.

Source: mmdet's configuration files; FANet, section 4.2, which follows them. The small preset is ours.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Literal, get_args

from emseg.errors import UsageError, suggest

SizeName = Literal["paper", "small"]
SIZES = get_args(SizeName)

N_STAGES = 4
FIRST_STRIDE = 4


@dataclass(frozen=True)
class DetectorSize:
    """The numbers of a detector; the defaults are mmdet's for images of about 1000 px.

    `strides` are those of the pyramid's levels, finest first: 4, 8, 16, 32 stand for the backbone's stages, and what
    follows the last of them is pooled from it. `anchor_sizes` holds one side in pixels for each level; None gives
    mmdet's, 8 strides. `frozen_stages` and `norm_eval` may be None: what suits the backbone's weights (see
    `DetectorDesign.backbone_weights`). `mean` and `std` are in grey values of the image, one or three as `in_channels`.
    """

    in_channels: int = 3
    mean: tuple[float, ...] = (123.675, 116.28, 103.53)
    std: tuple[float, ...] = (58.395, 57.12, 57.375)
    pad_to: int = 32
    # backbone
    base_channels: int = 64
    n_stages: int = 4
    frozen_stages: int | None = None
    norm_eval: bool | None = None
    # pyramid and anchors
    pyramid_channels: int = 256
    strides: tuple[int, ...] = (4, 8, 16, 32, 64)
    anchor_sizes: tuple[float, ...] | None = None
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    # region proposals
    rpn_samples: int = 256
    train_candidates: int = 2000
    train_proposals: int = 1000
    test_candidates: int = 1000
    test_proposals: int = 1000
    proposal_overlap: float = 0.7
    # what looks at each region
    region_samples: int = 512
    region_positives: float = 0.25  # largest share of these that lie on sections
    box_grid: int = 7
    mask_grid: int = 14
    sampling_ratio: int = 0
    fc_channels: int = 1024
    mask_channels: int = 256
    mask_layers: int = 4
    mask_iou_channels: int = 256
    mask_iou_fc_channels: int = 1024
    # what is kept of the predictions
    score_threshold: float = 0.05
    detection_overlap: float = 0.5
    max_per_image: int = 100
    mask_threshold: float = 0.5

    def __post_init__(self) -> None:
        for name, smallest in _WHOLE_NUMBERS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < smallest:
                raise UsageError(f"`{name}` must be a whole number of at least {smallest}; got {value!r}.")
        for name in ("region_positives", "proposal_overlap", "score_threshold", "detection_overlap", "mask_threshold"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise UsageError(f"`{name}` must be a number from 0 to 1; got {value!r}.")
        self._keep_tuple("mean", lowest=0.0)
        for name in ("std", "strides", "anchor_ratios", "anchor_sizes"):
            self._keep_tuple(name)
        self._check_images()
        self._check_levels()

    def _keep_tuple(self, name: str, lowest: float = math.ulp(0.0)) -> None:
        """Make a tuple of a list, as JSON and YAML have it; no entry may be below `lowest`."""
        values = getattr(self, name)
        if values is None and name == "anchor_sizes":
            return
        numbers = isinstance(values, tuple | list) and len(values) > 0
        if not numbers or not all(isinstance(value, int | float) and value >= lowest for value in values):
            above = "0 or more" if lowest == 0 else "above 0"
            raise UsageError(f"`{name}` must be a list of numbers {above}; got {values!r}.")
        object.__setattr__(self, name, tuple(values))

    def _check_images(self) -> None:
        if self.in_channels not in (1, 3):
            raise UsageError(f"`in_channels` must be 1 (grey) or 3 (colour); got {self.in_channels}.")
        for name in ("mean", "std"):
            if len(getattr(self, name)) != self.in_channels:
                raise UsageError(
                    f"`{name}` must hold one number for each of the {self.in_channels} input channels; "
                    f"got {getattr(self, name)!r}."
                )
        if self.norm_eval not in (None, True, False):
            raise UsageError(f"`norm_eval` must be true, false or null; got {self.norm_eval!r}.")

    def _check_levels(self) -> None:
        if self.n_stages > N_STAGES:
            raise UsageError(f"`n_stages` must be 1 to {N_STAGES}; got {self.n_stages}.")
        first, last = self.strides[0], FIRST_STRIDE * 2 ** (self.n_stages - 1)
        doubling = tuple(first * 2**level for level in range(len(self.strides)))
        if self.strides != doubling or first not in [FIRST_STRIDE * 2**stage for stage in range(self.n_stages)]:
            raise UsageError(
                f"`strides` must double from level to level and start at the stride of a stage, "
                f"{FIRST_STRIDE} to {last} for {self.n_stages} stages; got {self.strides!r}."
            )
        if last not in self.strides:
            raise UsageError(
                f"`strides` must reach the last stage, or it would be worked out and not used; got {self.strides!r} "
                f"with {self.n_stages} stages. Add {last}, or lower `n_stages`."
            )
        if self.frozen_stages is not None and not (
            isinstance(self.frozen_stages, int) and -1 <= self.frozen_stages <= self.n_stages
        ):
            raise UsageError(
                f"`frozen_stages` must be -1 (none), 0 (the first convolution) or up to {self.n_stages}; "
                f"got {self.frozen_stages!r}."
            )
        if self.anchor_sizes is not None and len(self.anchor_sizes) != len(self.strides):
            raise UsageError(
                f"`anchor_sizes` must hold one size for each level of `strides`; got {self.anchor_sizes!r} for "
                f"{self.strides!r}."
            )

    @property
    def stages_read(self) -> tuple[int, ...]:
        """The stages, from 0, whose maps the pyramid is built on."""
        return tuple(stage for stage in range(self.n_stages) if FIRST_STRIDE * 2**stage in self.strides)

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON knows them."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


_WHOLE_NUMBERS = {
    "in_channels": 1,
    "pad_to": 1,
    "base_channels": 1,
    "n_stages": 1,
    "pyramid_channels": 1,
    "rpn_samples": 2,
    "train_candidates": 1,
    "train_proposals": 1,
    "test_candidates": 1,
    "test_proposals": 1,
    "region_samples": 4,
    "box_grid": 1,
    "mask_grid": 2,
    "sampling_ratio": 0,
    "fc_channels": 1,
    "mask_channels": 1,
    "mask_layers": 1,
    "mask_iou_channels": 1,
    "mask_iou_fc_channels": 1,
    "max_per_image": 1,
}

PAPER_SIZE = DetectorSize()

# Widths by depth, so that all depths cost about the same: a bottleneck hands on four times its width.
SMALL_BASE_CHANNELS = {18: 32, 34: 32, 50: 16}

SMALL_SIZE = DetectorSize(
    in_channels=1,
    mean=(128.0,),
    std=(64.0,),
    base_channels=32,
    n_stages=3,
    pyramid_channels=64,
    strides=(4, 8, 16),
    anchor_sizes=(32.0, 56.0, 88.0),
    rpn_samples=128,
    train_candidates=256,
    train_proposals=100,
    test_candidates=256,
    test_proposals=100,
    region_samples=64,
    region_positives=0.5,
    sampling_ratio=2,
    fc_channels=256,
    mask_channels=64,
    mask_iou_channels=64,
    mask_iou_fc_channels=256,
)


def detector_size(name: str, depth: int, changes: Mapping[str, object] | None = None) -> DetectorSize:
    """Return the preset `name` for a backbone of `depth` layers, with `changes` to single fields.

    Raises `UsageError` for an unknown preset, an unknown field (with the nearest known one) or a value out of range.
    """
    if name not in SIZES:
        raise UsageError(
            f"`size` must be one of {', '.join(map(repr, SIZES))}; got {name!r}.{suggest(str(name), SIZES)}"
        )
    preset = PAPER_SIZE if name == "paper" else replace(SMALL_SIZE, base_channels=SMALL_BASE_CHANNELS[depth])
    known = [field.name for field in fields(DetectorSize)]
    for key in changes or {}:
        if key not in known:
            raise UsageError(
                f"`changes` may only name what a detector's size has; got {key!r}.{suggest(str(key), known)} "
                f"Known are {', '.join(known)}."
            )
    return replace(preset, **(changes or {}))  # type: ignore[arg-type]  # every value is checked in __post_init__
