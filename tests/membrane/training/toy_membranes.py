"""A set of small images that a tiny network learns in seconds: dark lines on grey."""

import numpy as np
import torch
from torch import nn

from emseg.membrane.dataset import ArrayImage, MembraneSet
from emseg.membrane.networks import NetworkDesign
from emseg.membrane.training import Augmentation, TrainingPlan

TINY_DESIGN = NetworkDesign(encoder="plain", base_channels=4, encoder_depth=2)
TINY_PLAN = TrainingPlan(
    n_steps=6,
    batch_size=2,
    crop_size=32,
    learning_rate=1e-2,
    schedule="onecycle",
    warm_up_steps=2,
    augmentation=Augmentation(bend_px=1.0),
    device="cpu",
    validate_every=3,
    checkpoint_seconds=0.0,
)


def toy_image(name: str, seed: int, side: int = 72) -> ArrayImage:
    """Return grey noise with three dark lines, which are the membrane."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side]
    membrane = np.zeros((side, side), dtype=bool)
    for _ in range(3):
        angle, place = generator.uniform(0, np.pi), generator.uniform(-side / 3, side / 3)
        distance = (rows - side / 2) * np.cos(angle) + (columns - side / 2) * np.sin(angle) - place
        membrane |= np.abs(distance) < 2.5
    grey = np.where(membrane, 70, 170) + generator.normal(0, 15, (side, side))
    return ArrayImage(name, np.clip(grey, 0, 255).astype(np.uint8), membrane)


def toy_set(n_train: int = 3, n_other: int = 2) -> MembraneSet:
    """Return a set of toy images."""
    return MembraneSet(
        name="toy membranes",
        kind="synthetic",
        pixel_size_nm=4.0,
        train=tuple(toy_image(f"train_{k}", k) for k in range(n_train)),
        validation=tuple(toy_image(f"validation_{k}", 100 + k) for k in range(n_other)),
        test=tuple(toy_image(f"test_{k}", 200 + k) for k in range(n_other)),
        fingerprint="toy-1",
    )


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    """Return whether two networks have the same bits."""
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in one.state_dict().items())
