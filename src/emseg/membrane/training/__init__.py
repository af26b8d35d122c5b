"""Training of membrane networks, and what they make of whole images."""

from emseg.membrane.training.augmentation import NO_AUGMENTATION, Augmentation
from emseg.membrane.training.plan import PLANS, TrainingPlan
from emseg.membrane.training.prediction import predict_membrane
from emseg.membrane.training.training import Start, TrainedNetwork, train_network

__all__ = [
    "NO_AUGMENTATION",
    "PLANS",
    "Augmentation",
    "Start",
    "TrainedNetwork",
    "TrainingPlan",
    "predict_membrane",
    "train_network",
]
