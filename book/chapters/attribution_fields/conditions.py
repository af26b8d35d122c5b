"""The same tissue at two pixel sizes, and another tissue at the same one: what separates resolution from content.

    urisc          U-RISC-like tissue at 2.18 nm/px
    urisc_coarse   the very same tissue at 4 nm/px
    isbi           ISBI-like tissue at 4 nm/px, or ISBI 2012 itself
    isbi_coarse    ISBI 2012 averaged to 8 nm/px, as the authors' code halves its inputs

    area(urisc) / area(isbi)  =  area(urisc) / area(urisc_coarse)  x  area(urisc_coarse) / area(isbi)
                                 resolution: same tissue              content: same pixel size

Each condition has a network of its own, of the same design and the same number of steps.

Deviation: the coarse synthetic set is imaged anew at the larger pixel, with its own shot noise; averaging pixels of the
fine one would give the same mean and as much noise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from emseg.errors import UsageError
from emseg.membrane.dataset import ArrayImage, MembraneImage, MembraneSet

DataSource = Literal["synthetic", "isbi2012"]
ConditionName = Literal["urisc", "urisc_coarse", "isbi", "isbi_coarse"]
COARSE_NM = 4.0
FINE_NM = 2.18


@dataclass(frozen=True, eq=False)
class Condition:
    """One tissue at one pixel size: images to train on and to explain, and what to call it in figures."""

    name: ConditionName
    label: str
    images: MembraneSet

    @property
    def pixel_size_nm(self) -> float:
        """Side of a pixel on the specimen."""
        assert self.images.pixel_size_nm is not None
        return self.images.pixel_size_nm


@dataclass(frozen=True, eq=False)
class Study:
    """Conditions by name, and which pairs answer which question.

    `pairs` [question] = (first, second), the area of the first over that of the second: "field_area" compares the two
    data sets, "resolution" the same tissue, "content" the same pixel size, "isbi_resolution" real tissue at two pixel
    sizes (only where there is real tissue).
    """

    conditions: tuple[Condition, ...]
    pairs: Mapping[str, tuple[ConditionName, ConditionName]]

    def __getitem__(self, name: ConditionName) -> Condition:
        return next(condition for condition in self.conditions if condition.name == name)


def open_study(data: DataSource, *, n_train: int, n_test: int, size_px: int, seed: int) -> Study:
    """Return the conditions; with "isbi2012" the real sections take the place of ISBI-like tissue.

    `size_px` is the side of a synthetic image at 2.18 nm/px; coarse ones show the same area in fewer pixels. Test
    images of ISBI 2012 are those of its block split.
    """
    if n_train < 1 or n_test < 1:
        raise UsageError(f"a study needs images to train on and to explain; got n_train={n_train}, n_test={n_test}.")
    if data not in get_args(DataSource):
        raise UsageError(f"data must be one of {', '.join(get_args(DataSource))}; got {data!r}.")
    pairs: dict[str, tuple[ConditionName, ConditionName]] = {
        "field_area": ("urisc", "isbi"),
        "resolution": ("urisc", "urisc_coarse"),
        "content": ("urisc_coarse", "isbi"),
    }
    coarse_px = round(size_px * FINE_NM / COARSE_NM)
    urisc = (
        Condition("urisc", "U-RISC-like, 2.18 nm", _synthetic("urisc", FINE_NM, size_px, n_train, n_test, seed)),
        Condition(
            "urisc_coarse", "U-RISC-like, 4 nm", _synthetic("urisc", COARSE_NM, coarse_px, n_train, n_test, seed)
        ),
    )
    if data == "synthetic":
        isbi_like = _synthetic("isbi", COARSE_NM, coarse_px, n_train, n_test, seed)
        return Study((*urisc, Condition("isbi", "ISBI-like, 4 nm", isbi_like)), pairs)
    pairs["isbi_resolution"] = ("isbi", "isbi_coarse")
    return Study((*urisc, *_isbi(n_train, n_test)), pairs)


def _synthetic(tissue: str, pixel_size_nm: float, size_px: int, n_train: int, n_test: int, seed: int) -> MembraneSet:
    from emseg.synthetic.tissue import (
        ISBI_IMAGING,
        ISBI_LIKE,
        URISC_IMAGING,
        URISC_LIKE,
        synthesize_tissue,
    )

    kind, imaging = (URISC_LIKE, URISC_IMAGING) if tissue == "urisc" else (ISBI_LIKE, ISBI_IMAGING)
    first = 1000 * (seed + 1)
    pictures = [
        synthesize_tissue((size_px, size_px), pixel_size_nm=pixel_size_nm, seed=first + i, tissue=kind, imaging=imaging)
        for i in range(n_train + n_test)
    ]
    images = tuple(
        ArrayImage(f"tissue {first + i}", picture.image, picture.membrane) for i, picture in enumerate(pictures)
    )
    return MembraneSet(
        name=f"synthetic {'U-RISC' if tissue == 'urisc' else 'ISBI'}-like tissue at {pixel_size_nm:g} nm/px",
        kind="synthetic",
        pixel_size_nm=pixel_size_nm,
        train=images[:n_train],
        validation=(),
        test=images[n_train:],
        fingerprint=" ".join(picture.fingerprint() for picture in pictures),
    )


def _isbi(n_train: int, n_test: int) -> tuple[Condition, Condition]:
    from emseg.membrane.dataset import open_membrane_set

    native = open_membrane_set("isbi2012", n_train=n_train, n_test=n_test)
    assert native.pixel_size_nm is not None
    coarse = MembraneSet(
        name=f"{native.name}, averaged to {2 * native.pixel_size_nm:g} nm/px",
        kind=native.kind,
        pixel_size_nm=2 * native.pixel_size_nm,
        train=_halved_images(native.train),
        validation=_halved_images(native.validation),
        test=_halved_images(native.test),
        fingerprint=f"{native.fingerprint} halved",
    )
    return Condition("isbi", "ISBI 2012, 4 nm", native), Condition("isbi_coarse", "ISBI 2012, 8 nm", coarse)


def _halved_images(images: Sequence[MembraneImage]) -> tuple[ArrayImage, ...]:
    halves = []
    for image in images:
        membrane = halve(image.read_membrane().astype(np.uint8) * 255)
        halves.append(ArrayImage(image.name, halve(image.read()), membrane >= 128))
    return tuple(halves)


def halve(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the image at half its size, each pixel the mean of four; an odd last row or column is left out."""
    height, width = image.shape[0] // 2, image.shape[1] // 2
    even = np.ascontiguousarray(image[: 2 * height, : 2 * width])
    return np.asarray(cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
