"""Which detector: one row of FANet's Table 2, and what the paper leaves open about it.

    detector    mask_rcnn   He et al. 2017                          ms_rcnn   Mask Scoring R-CNN, Huang et al. 2019
    backbone    ResNet-18, -34 or -50 with a channel attention in every block, a pyramid on top
    attention   none, se (reduction, bias), eca (kernel_size), fca (reduction, frequencies),
                fanet (reduction, frequencies, normalization, indexing, layers): classes of `emseg.frequency.attention`
    size        paper   mmdet's `mask-rcnn_r50_fpn` and `ms-rcnn_r50_fpn`, number by number: colour, four stages
                small   the same parts for grey tiles of 256 px with sections of about 40 to 90 px, on two CPU cores

The small size keeps the kind of block and the number of blocks of the first three stages (3, 4, 6), so that as many
attentions sit in a stage as in the full network. It trains from random weights, so its normalisation learns.

A design is plain data without mmdet: `DetectorDesign(**values)` reads back what `to_dict` gives, and no more is needed
to interpret the weights in a checkpoint.

Source: Sun et al. 2021 (FANet), section 4.2 and Table 2; mmdet's configuration files. The small size is ours.
Deviation: mmdet keeps 100 detections an image at most; tiles of 1024 px have up to 162 sections, so here it is 1000.
"""

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, Literal, get_args

import torch
from pydantic import Field

from emseg.checks import Count, CountOrZero, Fraction, Items, NotNegative, Positive, changed, plain, validated
from emseg.errors import UsageError
from emseg.frequency.attention import block_attention
from emseg.frequency.resnet import RESNET18, RESNET34, RESNET50, ResNetDesign

Detector = Literal["mask_rcnn", "ms_rcnn"]
Attention = Literal["none", "se", "eca", "fca", "fanet"]
SizeName = Literal["paper", "small"]
DETECTORS, SIZES = get_args(Detector), get_args(SizeName)
BACKBONES = {18: RESNET18, 34: RESNET34, 50: RESNET50}
TORCHVISION = "torchvision"
N_STAGES, FIRST_STRIDE = 4, 4
AtLeast2 = Annotated[int, Field(ge=2)]


@validated
class DetectorSize:
    """The numbers of a detector; the defaults are mmdet's for images of about 1000 px.

    `strides` are those of the pyramid's levels, finest first: 4, 8, 16, 32 are the backbone's stages; further levels
    are pooled from the last. `anchor_sizes` has one side in pixels per level; None gives mmdet's, 8 strides.
    `frozen_stages` and `norm_eval` may be None: what suits the backbone's weights (`DetectorDesign.backbone_weights`).
    `mean` and `std` are in grey values of the image, one or three as `in_channels`.
    """

    in_channels: Literal[1, 3] = 3
    mean: Items[NotNegative] = (123.675, 116.28, 103.53)
    std: Items[Positive] = (58.395, 57.12, 57.375)
    pad_to: Count = 32
    # backbone
    base_channels: Count = 64
    n_stages: Annotated[int, Field(ge=1, le=N_STAGES)] = 4
    frozen_stages: int | None = None
    norm_eval: bool | None = None
    # pyramid and anchors
    pyramid_channels: Count = 256
    strides: Annotated[Items[int], Field(min_length=1)] = (4, 8, 16, 32, 64)
    anchor_sizes: Items[Positive] | None = None
    anchor_ratios: Annotated[Items[Positive], Field(min_length=1)] = (0.5, 1.0, 2.0)
    # region proposals
    rpn_samples: AtLeast2 = 256
    train_candidates: Count = 2000
    train_proposals: Count = 1000
    test_candidates: Count = 1000
    test_proposals: Count = 1000
    proposal_overlap: Fraction = 0.7
    # heads
    region_samples: Annotated[int, Field(ge=4)] = 512
    region_positives: Fraction = 0.25  # largest fraction of these that are sections
    box_grid: Count = 7
    mask_grid: AtLeast2 = 14
    sampling_ratio: CountOrZero = 0
    fc_channels: Count = 1024
    mask_channels: Count = 256
    mask_layers: Count = 4
    mask_iou_channels: Count = 256
    mask_iou_fc_channels: Count = 1024
    # which predictions remain
    score_threshold: Fraction = 0.05
    detection_overlap: Fraction = 0.5
    max_per_image: Count = 1000
    mask_threshold: Fraction = 0.5

    def __post_init__(self) -> None:
        strides, stages = self.strides, [FIRST_STRIDE * 2**stage for stage in range(self.n_stages)]
        for name in ("mean", "std"):
            if len(getattr(self, name)) != self.in_channels:
                raise UsageError(
                    f"`{name}` must have one number for each of the {self.in_channels} input channels; "
                    f"got {getattr(self, name)!r}."
                )
        if strides[0] not in stages or strides != tuple(strides[0] * 2**level for level in range(len(strides))):
            raise UsageError(
                f"`strides` must double from level to level and start at the stride of a stage, "
                f"{FIRST_STRIDE} to {stages[-1]} for {self.n_stages} stages; got {strides!r}."
            )
        if stages[-1] not in strides:
            raise UsageError(
                f"`strides` must reach the last stage, which would otherwise be computed and not used; got "
                f"{strides!r} with {self.n_stages} stages. Add {stages[-1]}, or lower `n_stages`."
            )
        if self.frozen_stages is not None and not -1 <= self.frozen_stages <= self.n_stages:
            raise UsageError(
                f"`frozen_stages` must be -1 (none), 0 (the first convolution) or up to {self.n_stages}; "
                f"got {self.frozen_stages!r}."
            )
        if self.anchor_sizes is not None and len(self.anchor_sizes) != len(strides):
            raise UsageError(
                f"`anchor_sizes` must have one size for each level of `strides`; got {self.anchor_sizes!r} for "
                f"{strides!r}."
            )

    @property
    def stages_read(self) -> tuple[int, ...]:
        """The stages, from 0, whose maps the pyramid is built on."""
        return tuple(stage for stage in range(self.n_stages) if FIRST_STRIDE * 2**stage in self.strides)


PAPER_SIZE = DetectorSize()
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
    test_candidates=1000,
    test_proposals=400,
    region_samples=64,
    region_positives=0.5,
    sampling_ratio=2,
    max_per_image=400,
    fc_channels=256,
    mask_channels=64,
    mask_iou_channels=64,
    mask_iou_fc_channels=256,
)


@validated
class DetectorDesign:
    """A detector; the defaults are those of the paper's largest Mask R-CNN, with the classifier for its four classes.

    `attention_options` are keyword arguments of the attention's class, for example {"indexing": "scaled"} for "fanet".
    `changes` replaces single fields of the `size` (`DetectorSize`). `backbone_weights` is a file with torchvision's
    weights of the backbone, or "torchvision" to download them; None starts from random weights. Unless `changes` sets
    them, the first stage and all normalisation are then frozen, as in mmdet, and learn where weights are random.
    """

    detector: Detector = "mask_rcnn"
    depth: Literal[18, 34, 50] = 50
    attention: Attention = "none"
    attention_options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    num_classes: Count = 4
    size: SizeName = "paper"
    changes: Mapping[str, Any] = field(default_factory=dict, hash=False)
    backbone_weights: str | None = None

    def __post_init__(self) -> None:
        make = block_attention(self.attention, self.attention_options)
        with torch.device("meta"):  # no memory, and no random number is drawn
            for stage, channels in enumerate(self.backbone.out_channels):
                make(channels, FIRST_STRIDE * 2**stage)

    @property
    def numbers(self) -> DetectorSize:
        """The `size` with the `changes`."""
        return changed(PAPER_SIZE if self.size == "paper" else SMALL_SIZE, **self.changes)

    @property
    def backbone(self) -> ResNetDesign:
        """The residual network; its classifier is not used."""
        full, size = BACKBONES[self.depth], self.numbers
        return ResNetDesign(full.block, full.depths[: size.n_stages], size.base_channels, size.in_channels, n_classes=1)

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

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON knows them; `DetectorDesign(**values)` reads them back."""
        return plain(self)
