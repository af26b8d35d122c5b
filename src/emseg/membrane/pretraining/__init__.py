from emseg.membrane.pretraining.moco import PAPER, SHORT, PretrainingPlan
from emseg.membrane.pretraining.pretrain_encoder import (
    FileStart,
    PretrainedEncoder,
    pretrain,
    pretrain_on_set,
    pretrained_start,
    start_from_file,
)
from emseg.membrane.pretraining.pretrained_encoder import (
    CEM500K,
    IMAGENET,
    OURS,
    LoadReport,
    Normalization,
    load_cem500k,
    load_encoder,
)

__all__ = [
    "CEM500K",
    "IMAGENET",
    "OURS",
    "PAPER",
    "SHORT",
    "FileStart",
    "LoadReport",
    "Normalization",
    "PretrainedEncoder",
    "PretrainingPlan",
    "load_cem500k",
    "load_encoder",
    "pretrain",
    "pretrain_on_set",
    "pretrained_start",
    "start_from_file",
]
