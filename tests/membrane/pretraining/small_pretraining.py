"""A pretraining of a few steps, and a set of small images with a grid of membranes to pretrain and train on."""

from dataclasses import replace

import numpy as np

from emseg.membrane.dataset import ArrayImage, MembraneSet
from emseg.membrane.networks import NetworkDesign
from emseg.membrane.pretraining import SHORT

SMALL_DESIGN = NetworkDesign(encoder="resnet18", base_channels=4, encoder_depth=3)
SMALL_PRETRAINING = replace(
    SHORT,
    n_steps=3,
    batch_size=4,
    crop_size=16,
    warm_up_steps=1,
    queue=8,
    hidden=8,
    embedding=8,
    precision="fp32",
    device="cpu",
)


def small_image(name, seed, kind=ArrayImage):
    """Return noise with a dark grid, which is the membrane, as an image of this `kind`."""
    rng = np.random.default_rng(seed)
    membrane = np.zeros((48, 48), bool)
    membrane[:, ::12] = membrane[::12] = True
    return kind(name, np.where(membrane, 40, rng.integers(120, 256, (48, 48))).astype(np.uint8), membrane)


def small_set(kind=ArrayImage, held_out=None):
    """Return two images to train on, and others to choose by and to report on: one each, or those `held_out`."""
    train = (small_image("a", 1, kind), small_image("b", 2, kind))
    validation = (small_image("c", 3),) if held_out is None else held_out
    test = (small_image("d", 4),) if held_out is None else held_out
    return MembraneSet("small", "synthetic", 4.0, train, validation, test, "small:0")
