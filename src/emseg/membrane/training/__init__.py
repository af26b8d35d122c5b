"""Training of membrane networks, and their predictions for whole images."""

from emseg.membrane.training.membrane_plan import NO_AUGMENTATION, PLANS, Augmentation, TrainingPlan
from emseg.membrane.training.membrane_prediction import predict_membrane, predict_to_png
from emseg.membrane.training.membrane_trainer import Start, TrainedNetwork, train_network

__all__ = [
    "NO_AUGMENTATION",
    "PLANS",
    "Augmentation",
    "Start",
    "TrainedNetwork",
    "TrainingPlan",
    "predict_membrane",
    "predict_to_png",
    "train_network",
]
