"""A set of micrographs in three parts: to train on, to choose by (validation), and to report on (test)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from emseg.errors import InputError, UsageError, suggest
from emseg.membrane.dataset.images import MembraneImage
from emseg.runs.session import DATA_KINDS, Run

PARTS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class MembraneSet:
    """Named parts of a data set and where they come from.

    `kind`: "synthetic", "real" or "licensed". `pixel_size_nm`: None where the set does not say. `fingerprint`: names
    the content of all parts, and how they were divided. `notes`: what a reader of a result has to know of the set.
    Images to train on and to choose by are labelled; those to report on need not be.
    """

    name: str
    kind: str
    pixel_size_nm: float | None
    train: tuple[MembraneImage, ...]
    validation: tuple[MembraneImage, ...]
    test: tuple[MembraneImage, ...]
    fingerprint: str
    notes: str = ""

    def __post_init__(self) -> None:
        if self.kind not in DATA_KINDS:
            raise UsageError(
                f"`kind` must be one of {', '.join(DATA_KINDS)}; got {self.kind!r}.{suggest(self.kind, DATA_KINDS)}"
            )
        if self.pixel_size_nm is not None and not 0 < self.pixel_size_nm < math.inf:
            raise UsageError(f"`pixel_size_nm` must be a positive length in nm, or None; got {self.pixel_size_nm}.")
        for part, images in self.parts.items():
            names = [image.name for image in images]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise InputError(f"each image of a part must have its own name; {twice[0]} is in {part} twice.")
            unlabelled = [image.name for image in images if not image.labelled]
            if part != "test" and unlabelled:
                raise InputError(
                    f"every image of {part} must have a label; {unlabelled[0]} of {self.name} has none "
                    f"({len(unlabelled)} such images). Move it to the test images, or add its label."
                )

    @property
    def parts(self) -> Mapping[str, tuple[MembraneImage, ...]]:
        """The images by the name of their part, in the order of `PARTS`."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def labelled_test(self) -> tuple[MembraneImage, ...]:
        """The test images that can be scored on."""
        return tuple(image for image in self.test if image.labelled)

    @property
    def n_images(self) -> int:
        """How many images all parts have together."""
        return sum(len(images) for images in self.parts.values())

    def note(self, run: Run) -> None:
        """Note in a run that it used this set."""
        run.uses(
            self.name,
            kind=self.kind,
            fingerprint=self.fingerprint,
            n_images=self.n_images,
            pixel_size_nm=self.pixel_size_nm,
        )
