"""Micrographs with membrane labels, read window by window, and sets of them in three parts.

    image.read((slice(0, 1024), slice(512, 1536)))           uint8 [1024, 1024], grey
    image.read_membrane((slice(0, 1024), slice(512, 1536)))  bool  [1024, 1024], True on membrane

An image may be in memory or in a store larger than memory. Every call returns a new array, which the caller may change.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from emseg.checks import require_one_of
from emseg.data import DATA_KINDS
from emseg.errors import InputError, UsageError
from emseg.membrane.dataset.image_store import StoredArray

PARTS = ("train", "validation", "test")

Window = tuple[slice, slice]
"""(rows, columns) of an image: slices within its borders that step by 1."""


class UnlabelledImage(Protocol):
    """A grey image without access to labels; `name` is unique within its part of a set."""

    name: str
    height: int
    width: int

    def read(self, window: Window | None = None) -> NDArray[np.uint8]:
        """Return the grey values [row, column] of a window, by default of the whole image."""


class MembraneImage(UnlabelledImage, Protocol):
    """A grey image and, where `labelled`, its membrane mask."""

    labelled: bool

    def read_membrane(self, window: Window | None = None) -> NDArray[np.bool_]:
        """Return the membrane mask [row, column] of a window; raises `InputError` if the image has no label."""


class ArrayImage:
    """An image in memory or in the store: `image` uint8 [height, width], `membrane` bool of the same shape, or None.

    `window` makes an image of a part of the arrays, which are not copied.
    """

    def __init__(
        self,
        name: str,
        image: NDArray[Any] | StoredArray,
        membrane: NDArray[Any] | StoredArray | None = None,
        *,
        window: Window | None = None,
    ) -> None:
        if image.ndim != 2 or image.dtype != np.uint8 or image.size == 0:
            raise InputError(f"{name} must be a grey image, uint8 (row, column); got {image.dtype} {image.shape}.")
        if membrane is not None and membrane.dtype != np.bool_:
            raise InputError(
                f"the label of {name} must be boolean, True on membrane; got {membrane.dtype}. "
                "Make one of dark-membrane grey by label <= 122."
            )
        if membrane is not None and membrane.shape != image.shape:
            raise InputError(f"the label of {name} must have the image's size, {image.shape}; got {membrane.shape}.")
        self.name, self.image, self.membrane, self.labelled = name, image, membrane, membrane is not None
        self._origin, self.height, self.width = (0, 0), int(image.shape[0]), int(image.shape[1])
        rows, columns = self._in_arrays(window)
        self._origin, self.height, self.width = (
            (rows.start, columns.start),
            *(w.stop - w.start for w in (rows, columns)),
        )

    def read(self, window: Window | None = None) -> NDArray[np.uint8]:
        """Return the grey values [row, column] of a window, by default of the whole image."""
        return np.array(self.image[self._in_arrays(window)])

    def read_membrane(self, window: Window | None = None) -> NDArray[np.bool_]:
        """Return the membrane mask [row, column] of a window; raises `InputError` if the image has no label."""
        if self.membrane is None:
            raise InputError(f"{self.name} has no label, which training and scoring need. Use labelled images.")
        return np.array(self.membrane[self._in_arrays(window)])

    def central_crop(self, size_px: int) -> "ArrayImage":
        """Return the central `size_px` x `size_px`; the image itself if it has that size or `size_px` is 0."""
        if size_px == 0 or (self.height, self.width) == (size_px, size_px):
            return self
        require_crop(self.name, self.height, self.width, size_px)
        top, left = (self.height - size_px) // 2, (self.width - size_px) // 2
        window = self._in_arrays((slice(top, top + size_px), slice(left, left + size_px)))
        return ArrayImage(self.name, self.image, self.membrane, window=window)

    def _in_arrays(self, window: Any) -> Window:
        """Return a window of the image in the arrays' places; raises `UsageError` if it leaves the image."""
        sides = (self.height, self.width)
        if window is None:
            window = tuple(slice(0, side) for side in sides)
        if not (isinstance(window, tuple) and len(window) == 2 and all(isinstance(one, slice) for one in window)):
            raise UsageError(f"`window` must be (slice of rows, slice of columns); got {window!r}.")
        bounds = [
            (one.start or 0, side if one.stop is None else one.stop) for one, side in zip(window, sides, strict=True)
        ]
        inside = all(0 <= start < stop <= side for (start, stop), side in zip(bounds, sides, strict=True))
        if not inside or any(one.step not in (None, 1) for one in window):
            within = f"{self.name} ({self.height} x {self.width})"
            raise UsageError(f"`window` must lie within {within} and step by 1; got {window!r}.")
        (top, bottom), (left, right) = bounds
        row, column = self._origin
        return slice(row + top, row + bottom), slice(column + left, column + right)


def require_crop(name: str, height: int, width: int, size_px: int) -> None:
    """Raise `UsageError` if the image is smaller than `size_px`, with the largest side that would do."""
    if size_px > (most := min(height, width)):
        raise UsageError(
            f"`size_px` must not exceed the images; got {size_px}, and {name} has {height} x {width}. "
            f"Set it to {most}, or to 0 for whole images."
        )


@dataclass(frozen=True, eq=False)
class MembraneSet:
    """A data set in three parts: training, validation and held-out test images, of which the last need no labels.

    `kind`: "synthetic", "real" or "licensed". `pixel_size_nm`: None where unknown. `fingerprint`: identifies the
    content of all parts and their division. `notes`: for readers of a result.
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
        require_one_of("kind", self.kind, DATA_KINDS)
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
        """The test images that can be scored."""
        return tuple(image for image in self.test if image.labelled)

    @property
    def n_images(self) -> int:
        """The number of images in all parts."""
        return sum(len(images) for images in self.parts.values())

    def note(self, run: Any) -> None:
        """Record in a run (`emseg.runs`) that it used this set."""
        described = {"kind": self.kind, "fingerprint": self.fingerprint, "n_images": self.n_images}
        run.uses(self.name, **described, pixel_size_nm=self.pixel_size_nm)
