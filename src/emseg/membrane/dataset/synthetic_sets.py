"""Synthetic stand-ins of the data sets: the same code paths, images of any number and size, no network.

    track1, track2_original   retina-like tissue at 2.18 nm/px, as U-RISC's images before downsampling
    track2                    the same tissue, made the way the competition's second track was made (see `downsampled`)
    isbi_like                 nerve-cord-like tissue at 4 nm/px, as ISBI 2012

Every image shows a tissue of its own, seeded by (seed, part, place in the part): no two images share tissue, and more
images add to a set without changing those it has. The same seed on track 1 and on track 2 shows the same tissue.
"""

import functools
import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emseg.errors import UsageError
from emseg.membrane.dataset.downsampled import TRACK_2_FACTOR, downsampled_pair
from emseg.membrane.dataset.file_images import StoredImage
from emseg.membrane.dataset.images import ArrayImage
from emseg.membrane.dataset.membrane_set import PARTS, MembraneSet
from emseg.membrane.dataset.store import keep_pair
from emseg.synthetic.tissue import (
    ISBI_IMAGING,
    ISBI_LIKE,
    ISBI_PIXEL_SIZE_NM,
    URISC_IMAGING,
    URISC_LIKE,
    URISC_PIXEL_SIZE_NM,
    Imaging,
    Tissue,
    fingerprint,
    synthesize_tissue,
)

SMALLEST_PX = 16
LARGEST_DRAWN_AGAIN_PX = 2048 * 2048
"""Source pixels up to which an image is drawn by every process; larger ones are drawn once and kept (see `store`)."""
BAND_ROWS = 2048
VERSION = 1  # raised whenever the same arguments give other images; part of every fingerprint


@dataclass(frozen=True)
class SyntheticTrack:
    """What a synthetic set imitates; `reduction`: source pixels for each pixel of an image, along one axis."""

    tissue: Tissue
    imaging: Imaging
    source_pixel_size_nm: float
    reduction: float
    size_px: int
    counts: tuple[int, int, int]
    """How many images to train on, to validate on and to test on by default."""

    @property
    def pixel_size_nm(self) -> float:
        """The size of a pixel of the finished image."""
        return self.source_pixel_size_nm * self.reduction


_TRACK_1 = SyntheticTrack(URISC_LIKE, URISC_IMAGING, URISC_PIXEL_SIZE_NM, 1.0, 1024, (8, 3, 5))
TRACKS = {
    "track1": _TRACK_1,
    "track2": SyntheticTrack(URISC_LIKE, URISC_IMAGING, URISC_PIXEL_SIZE_NM, TRACK_2_FACTOR, 256, (8, 3, 5)),
    "track2_original": _TRACK_1,
    "isbi_like": SyntheticTrack(ISBI_LIKE, ISBI_IMAGING, ISBI_PIXEL_SIZE_NM, 1.0, 512, (16, 4, 10)),
}


def synthetic_set(
    track: str, *, n_train: int = 0, n_validation: int = 0, n_test: int = 0, size_px: int = 0, seed: int = 0
) -> MembraneSet:
    """Return a synthetic set, drawn once a process or kept in the cache; 0 takes the track's default number or size.

    `size_px` is the side of the finished image: one of 1,024 px on track 2 is drawn as 9,958 px first.
    """
    wanted = TRACKS[track]
    size = size_px or wanted.size_px
    if size < SMALLEST_PX:
        raise UsageError(f"`size_px` must be at least {SMALLEST_PX}, or 0 for the default; got {size_px}.")
    counts = tuple(n or usual for n, usual in zip((n_train, n_validation, n_test), wanted.counts, strict=True))
    return _drawn(track, counts, size, seed)


def tissue_seed(seed: int, part: str, place: int) -> int:
    """Return the seed of the tissue that an image of a synthetic set shows."""
    words = np.random.SeedSequence([seed, PARTS.index(part), place]).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))  # the generator takes 63 bits


@functools.lru_cache(maxsize=8)
def _drawn(track: str, counts: tuple[int, ...], size_px: int, seed: int) -> MembraneSet:
    wanted = TRACKS[track]
    source_px = round(size_px * wanted.reduction)
    parts, names = [], [f"{VERSION}:{track}:{size_px}"]
    for part, n in zip(PARTS, counts, strict=True):
        images = []
        for place in range(n):
            own_seed = tissue_seed(seed, part, place)
            recipe = fingerprint(
                (source_px, source_px),
                pixel_size_nm=wanted.source_pixel_size_nm,
                seed=own_seed,
                tissue=wanted.tissue,
                imaging=wanted.imaging,
            )
            images.append(_draw(f"{part}_{place:03d}", wanted, source_px, size_px, own_seed, recipe))
            names.append(recipe)
        parts.append(tuple(images))
    train, validation, test = parts
    return MembraneSet(
        name=f"synthetic {track}",
        kind="synthetic",
        pixel_size_nm=wanted.pixel_size_nm,
        train=train,
        validation=validation,
        test=test,
        fingerprint="synthetic-set:" + hashlib.sha256("\n".join(names).encode()).hexdigest()[:16],
        notes=_notes(wanted),
    )


def _draw(
    name: str, track: SyntheticTrack, source_px: int, size_px: int, seed: int, recipe: str
) -> ArrayImage | StoredImage:
    shape = (size_px, size_px)

    def drawn() -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        image, membrane = _draw_bands(track, source_px, seed)
        return (image, membrane) if track.reduction == 1.0 else downsampled_pair(image, membrane, shape)

    if source_px * source_px <= LARGEST_DRAWN_AGAIN_PX:
        return ArrayImage(name, *drawn())
    return StoredImage(name, *keep_pair(f"{VERSION}:{recipe}:{size_px}", drawn, shape))


def _draw_bands(track: SyntheticTrack, side_px: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return image and membrane mask, drawn band by band: the generator needs seven bytes for each pixel it draws."""
    image, membrane = np.empty((side_px, side_px), np.uint8), np.empty((side_px, side_px), np.bool_)
    for start in range(0, side_px, BAND_ROWS):
        band = slice(start, min(start + BAND_ROWS, side_px))
        picture = synthesize_tissue(
            (band.stop - band.start, side_px),
            pixel_size_nm=track.source_pixel_size_nm,
            seed=seed,
            tissue=track.tissue,
            imaging=track.imaging,
            origin_nm=(start * track.source_pixel_size_nm, 0.0),
        )
        image[band], membrane[band] = picture.image, picture.membrane
    return image, membrane


def _notes(track: SyntheticTrack) -> str:
    drawn = f"drawn at {track.source_pixel_size_nm:g} nm/px"
    return drawn if track.reduction == 1.0 else f"{drawn}, downsampled {track.reduction:.2f} times bilinearly"
