from emseg.membrane.pretraining.loading import LoadReport, load_cem500k, load_encoder, load_pretrained
from emseg.membrane.pretraining.normalization import CEM500K, IMAGENET, OURS, Normalization
from emseg.membrane.pretraining.plan import PAPER, SHORT, PretrainingPlan
from emseg.membrane.pretraining.source import FileStart, pretrain_on_set, pretrained_start, start_from_file
from emseg.membrane.pretraining.training import PretrainedEncoder, pretrain

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
    "load_pretrained",
    "pretrain",
    "pretrain_on_set",
    "pretrained_start",
    "start_from_file",
]
