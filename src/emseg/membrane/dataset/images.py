"""One micrograph and its membrane label, read window by window.

    image.read((slice(0, 1024), slice(512, 1536)))           uint8 [1024, 1024], grey
    image.read_membrane((slice(0, 1024), slice(512, 1536)))  bool  [1024, 1024], True on membrane

An image may lie in memory, in a file, or in a store that is larger than memory: whoever trains or scores asks for
windows and need not know. Every reading is a fresh array, which the caller may change.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from emseg.errors import InputError, UsageError

Window = tuple[slice, slice]
"""(rows, columns) of an image: slices within its borders that step by 1."""


class UnlabelledImage(Protocol):
    """A grey image; there is no way to ask for labels."""

    @property
    def name(self) -> str:
        """The image's name, unique within its part of a set; a file's name without its ending."""
        ...

    @property
    def height(self) -> int:
        """Number of rows."""
        ...

    @property
    def width(self) -> int:
        """Number of columns."""
        ...

    def read(self, window: Window | None = None) -> NDArray[np.uint8]:
        """Return the grey values [row, column] of a window, by default of the whole image."""
        ...


class MembraneImage(UnlabelledImage, Protocol):
    """A grey image and, where `labelled`, where its membranes are."""

    @property
    def labelled(self) -> bool:
        """Whether `read_membrane` can answer."""
        ...

    def read_membrane(self, window: Window | None = None) -> NDArray[np.bool_]:
        """Return the membrane mask [row, column] of a window; raise `InputError` if the image has no label."""
        ...


@dataclass(frozen=True, eq=False)
class ArrayImage:
    """An image in memory: `image` uint8 [height, width], `membrane` bool of the same shape, or None without a label."""

    name: str
    image: NDArray[np.uint8]
    membrane: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if self.image.ndim != 2 or self.image.dtype != np.uint8 or self.image.size == 0:
            raise InputError(
                f"{self.name} must be a grey image, uint8 (row, column); got {self.image.dtype} {self.image.shape}."
            )
        if self.membrane is None:
            return
        if self.membrane.dtype != np.bool_:
            raise InputError(
                f"the label of {self.name} must be boolean, True on membrane; got {self.membrane.dtype}. "
                "Make one of dark-membrane grey by label <= 122."
            )
        if self.membrane.shape != self.image.shape:
            raise InputError(
                f"the label of {self.name} must have the image's size, {self.image.shape}; got {self.membrane.shape}."
            )

    @property
    def height(self) -> int:
        """Number of rows."""
        return int(self.image.shape[0])

    @property
    def width(self) -> int:
        """Number of columns."""
        return int(self.image.shape[1])

    @property
    def labelled(self) -> bool:
        """Whether there is a label."""
        return self.membrane is not None

    def read(self, window: Window | None = None) -> NDArray[np.uint8]:
        """Return the grey values [row, column] of a window, by default of the whole image."""
        return self.image[require_window(self, window)].copy()

    def read_membrane(self, window: Window | None = None) -> NDArray[np.bool_]:
        """Return the membrane mask [row, column] of a window; raise `InputError` if the image has no label."""
        if self.membrane is None:
            raise no_label(self.name)
        return self.membrane[require_window(self, window)].copy()


@dataclass(frozen=True, eq=False)
class CroppedImage:
    """The window of another image, as an image of its own."""

    whole: MembraneImage
    window: Window

    def __post_init__(self) -> None:
        require_window(self.whole, self.window)

    @property
    def name(self) -> str:
        """The name of the whole image."""
        return self.whole.name

    @property
    def height(self) -> int:
        """Number of rows."""
        return int(self.window[0].stop - self.window[0].start)

    @property
    def width(self) -> int:
        """Number of columns."""
        return int(self.window[1].stop - self.window[1].start)

    @property
    def labelled(self) -> bool:
        """Whether the whole image has a label."""
        return self.whole.labelled

    def read(self, window: Window | None = None) -> NDArray[np.uint8]:
        """Return the grey values [row, column] of a window, by default of the whole crop."""
        return self.whole.read(self._in_whole(window))

    def read_membrane(self, window: Window | None = None) -> NDArray[np.bool_]:
        """Return the membrane mask [row, column] of a window; raise `InputError` if the image has no label."""
        return self.whole.read_membrane(self._in_whole(window))

    def _in_whole(self, window: Window | None) -> Window:
        inner = require_window(self, window)
        rows, columns = (
            slice(outer.start + one.start, outer.start + one.stop)
            for outer, one in zip(self.window, inner, strict=True)
        )
        return rows, columns


def central_crop(image: MembraneImage, size_px: int) -> MembraneImage:
    """Return the central `size_px` x `size_px` of an image; the image itself if it has that size or `size_px` is 0."""
    if size_px == 0 or (image.height, image.width) == (size_px, size_px):
        return image
    if size_px > min(image.height, image.width):
        raise UsageError(
            f"`size_px` must not exceed the images; got {size_px}, and {image.name} has {image.height} x {image.width}."
        )
    top, left = (image.height - size_px) // 2, (image.width - size_px) // 2
    return CroppedImage(image, (slice(top, top + size_px), slice(left, left + size_px)))


def require_window(image: MembraneImage, window: Window | None) -> Window:
    """Return the window with plain bounds, the whole image for None; raise `UsageError` if it leaves the image."""
    if window is None:
        return slice(0, image.height), slice(0, image.width)
    if not (isinstance(window, tuple) and len(window) == 2 and all(isinstance(one, slice) for one in window)):
        raise UsageError(f"`window` must be (slice of rows, slice of columns); got {window!r}.")
    bounds = []
    for one, length in zip(window, (image.height, image.width), strict=True):
        start, stop = (0 if one.start is None else int(one.start)), (length if one.stop is None else int(one.stop))
        if one.step not in (None, 1) or not 0 <= start < stop <= length:
            raise UsageError(
                f"`window` must lie within {image.name} ({image.height} x {image.width}) and step by 1; got {window!r}."
            )
        bounds.append(slice(start, stop))
    return bounds[0], bounds[1]


def no_label(name: str) -> InputError:
    """Return the error for an image whose label was asked for and that has none."""
    return InputError(f"{name} has no label, so nothing can be learnt from it or scored on it. Use labelled images.")
