"""ISBI 2012: 30 labelled and 30 unlabelled consecutive sections of the ventral nerve cord of a Drosophila larva.

Serial-section transmission electron microscopy, 4 nm a pixel, sections 50 nm apart. In a label **0 is membrane, 255 is
everything else**, as in U-RISC; the labels of the unlabelled half are hidden by the challenge.

Source: Arganda-Carreras et al., Crowdsourcing the creation of image segmentation algorithms for connectomics, Frontiers
in Neuroanatomy 9:142 (2015).
"""

from collections.abc import Iterable
from typing import Literal, overload

import numpy as np
from jaxtyping import UInt8

from emseg.data.registry import dataset_path
from emseg.errors import InputError, UsageError

N_SLICES = 30
SHAPE = (512, 512)
MEMBRANE, BACKGROUND = 0, 255

Stack = UInt8[np.ndarray, "slice height width"]


@overload
def load_isbi2012(split: Literal["train"] = ..., slices: Iterable[int] | None = ...) -> tuple[Stack, Stack]: ...
@overload
def load_isbi2012(split: Literal["test"], slices: Iterable[int] | None = ...) -> tuple[Stack, None]: ...
def load_isbi2012(
    split: Literal["train", "test"] = "train", slices: Iterable[int] | None = None
) -> tuple[Stack, Stack | None]:
    """Return (images, labels) as two stacks of 512 x 512 px; labels is None for "test".

    `slices` chooses sections by their number, 0 to 29 from the top of the stack, in the order given; all by default.
    Raises `InputError` if the data set is not here or damaged (see `dataset_path`).
    """
    if split not in ("train", "test"):
        raise UsageError(f"`split` must be 'train' (with labels) or 'test' (without); got {split!r}")
    numbers = list(range(N_SLICES) if slices is None else slices)
    wrong = [number for number in numbers if number not in range(N_SLICES)]
    if wrong or not numbers:
        raise UsageError(f"`slices` must name sections from 0 to {N_SLICES - 1}; got {wrong or 'none'}")
    from emseg.images import read_gray  # decodes PNG; not needed to ask where the data are

    folder = dataset_path("isbi2012") / split
    stacks = []
    for kind in ("image", "label")[: 1 if split == "test" else 2]:
        stacks.append(np.empty((len(numbers), *SHAPE), np.uint8))
        for section, number in zip(stacks[-1], numbers, strict=True):
            image = read_gray(folder / kind / f"{number}.png")
            if image.shape != SHAPE or image.dtype != np.uint8:
                came = f"{image.shape} {image.dtype}"
                raise InputError(f"a section of ISBI 2012 is {SHAPE} uint8; {folder / kind}/{number}.png is {came}")
            section[:] = image
    if split == "test":
        return stacks[0], None
    if not np.isin(stacks[1], (MEMBRANE, BACKGROUND)).all():
        raise InputError(
            f"a label of ISBI 2012 contains {MEMBRANE} and {BACKGROUND} alone; {folder}/label contains others"
        )
    return stacks[0], stacks[1]
