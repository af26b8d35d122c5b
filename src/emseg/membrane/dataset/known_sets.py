"""Opening a set of micrographs by name.

    synthetic  drawn on request, in any number and size; a stand-in for all others. Tracks:
                 track1, track2_original   retina-like tissue at 2.18 nm/px, as U-RISC's images before downsampling
                 track2                    the same tissue, downsampled as the competition did (see `labels`)
                 isbi_like                 nerve-cord-like tissue at 4 nm/px, as ISBI 2012
    isbi2012   30 labelled sections of a fruit fly's nerve cord, 4 nm/px
    urisc      U-RISC as distributed, in a folder of the user's:
                 FOLDER/imgs/Track1/{train,val,test}     9,958 x 9,959 px, 2.18 nm/px   FOLDER/label/Track1/{...}
                 FOLDER/imgs/Track2/...                  1,024 x 1,024 px, downsampled
                 FOLDER/imgs/Track2_original_size/...    the same before downsampling
                 FOLDER/Human_Annotation_Process/{1st,2nd,final}    three rounds of annotation
    folder     images and labels of the user's own (see `folder_set`)

Every synthetic image shows its own tissue, seeded by (seed, part, place in the part): no two images share tissue, and
more images leave the first ones unchanged. The same seed on track 1 and on track 2 shows the same tissue.

The 30 test sections of ISBI 2012 have hidden labels, so the paper divided the labelled ones, "20 images were used for
training, 10 for testing", without specifying which. Here the last ten are held out (split "block") or every third one
("interleaved"), so that neighbours of test sections are trained on.

The labels of U-RISC's test images were private: without label/.../test they are opened unlabelled. Without val, ten
training images (a quarter, if there are fewer than forty), spread evenly, are used for validation: the paper states
that ten were, not which.

Source: Shi et al., Front. Comput. Neurosci. 16:842760 (2022), and the file names in its code.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from emseg.checks import require_count, require_one_of
from emseg.data.isbi2012 import BACKGROUND, load_isbi2012
from emseg.data.registry import dataset, fingerprint
from emseg.errors import InputError, UsageError
from emseg.files import digest_of
from emseg.membrane.dataset.folder_set import BLOCK, SPLITS, choose, divide, folder_set, pair_files, set_of_files
from emseg.membrane.dataset.image_store import store_drawn
from emseg.membrane.dataset.labels import TRACK_2_FACTOR, downsampled_pair
from emseg.membrane.dataset.membrane_set import PARTS, ArrayImage, MembraneSet

if TYPE_CHECKING:
    from emseg.synthetic.tissue import Imaging, Tissue

SOURCES = ("synthetic", "isbi2012", "urisc", "folder")
TRACKS = ("track1", "track2", "track2_original", "isbi_like")
URISC_PIXEL_SIZE_NM = 2.18
URISC_SOURCE = "https://github.com/EmmaSRH/U-RISC-Data-Code"
URISC_TRACKS = {
    "track1": ("Track1", URISC_PIXEL_SIZE_NM),
    "track2": ("Track2", URISC_PIXEL_SIZE_NM * TRACK_2_FACTOR),
    "track2_original": ("Track2_original_size", URISC_PIXEL_SIZE_NM),
}
_URISC_PARTS = {"train": "train", "validation": "val", "test": "test"}
_URISC_VALIDATION_IMAGES = 10
SMALLEST_PX = 16
LARGEST_DRAWN_AGAIN_PX = 2048 * 2048
"""Source pixels up to which every process draws a synthetic image; larger ones are drawn once and stored."""
BAND_ROWS = 2048
VERSION = 1  # raised whenever the same arguments give other synthetic images; part of every fingerprint


def open_membrane_set(
    data: str,
    *,
    track: str = "track1",
    folder: str | Path = "",
    split: str = BLOCK,
    n_train: int = 0,
    n_validation: int = 0,
    n_test: int = 0,
    size_px: int = 0,
    seed: int = 0,
) -> MembraneSet:
    """Return a set of micrographs in its three parts.

    `split`: "block" or "interleaved", for undivided series (see `folder_set`). `n_train`, `n_validation`, `n_test`:
    how many images of each part, 0 for all, or for a track's default. `size_px`: side of a synthetic image, or of the
    central crop of a real one; 0 for the usual size. `seed`: of synthetic tissue. Raises `UsageError` for arguments out
    of range, `InputError` for data that is missing or cannot be used.
    """
    require_one_of("data", data, SOURCES)
    require_one_of("track", track, TRACKS)
    require_one_of("split", split, SPLITS)
    if split != BLOCK and data in ("synthetic", "urisc"):
        raise UsageError(f"`split` must be {BLOCK!r} for {data!r}, which comes divided; got {split!r}.")
    if track == "isbi_like" and data != "synthetic":
        raise UsageError(f"`track` 'isbi_like' is synthetic; got it for {data!r}. Use track1, or data='synthetic'.")
    if folder and data in ("synthetic", "isbi2012"):
        raise UsageError(f"`folder` is for data='urisc' and 'folder'; got {folder!s} for {data!r}. Leave it empty.")
    if not folder and data in ("urisc", "folder"):
        raise UsageError(f"`folder` must name the folder with the images for data={data!r}; it is empty.")
    wanted = {"n_train": n_train, "n_validation": n_validation, "n_test": n_test, "size_px": size_px}
    for name, value in {**wanted, "seed": seed}.items():
        require_count(name, value, 0)
    counts = dict(zip(PARTS, (n_train, n_validation, n_test), strict=True))
    if data == "synthetic":
        if 0 < size_px < SMALLEST_PX:
            raise UsageError(f"`size_px` must be at least {SMALLEST_PX}, or 0 for the default; got {size_px}.")
        usual = synthetic_track(track)
        numbers = tuple(n or own for n, own in zip(counts.values(), usual.counts, strict=True))
        return _drawn(track, numbers, size_px or usual.size_px, seed)
    if data == "isbi2012":
        return _isbi_set(split, counts, size_px)
    place = Path(folder).expanduser()
    return _urisc_set(place, track, counts, size_px) if data == "urisc" else folder_set(place, split, counts, size_px)


def _isbi_set(split: str, counts: Mapping[str, int], size_px: int) -> MembraneSet:
    sections = [
        ArrayImage(f"section_{number:02d}", image, label != BACKGROUND).central_crop(size_px)
        for number, (image, label) in enumerate(zip(*load_isbi2012("train"), strict=True))
    ]
    division = divide(len(sections), split)
    parts = {part: choose([sections[place] for place in division[part]], counts[part], part) for part in PARTS}
    whole, chosen = (":".join(str(len(one[part])) for part in PARTS) for one in (division, parts))
    taken = split if (whole, 0) == (chosen, size_px) else f"{split}:{chosen}:{size_px}"
    return MembraneSet(
        name="isbi2012",
        kind="real",
        pixel_size_nm=dataset("isbi2012").pixel_size_nm,
        **parts,
        fingerprint=f"{fingerprint('isbi2012')[:16]}:{taken}",
        notes=f"30 labelled sections, split {split}",
    )


def _urisc_set(folder: Path, track: str, counts: Mapping[str, int], size_px: int) -> MembraneSet:
    below, nm = URISC_TRACKS[track]
    images, labels = folder / "imgs" / below, folder / "label" / below
    notes = f"{below} as distributed"
    for place in (images, labels, images / "train", images / "test"):
        if not place.is_dir():
            raise missing_urisc(place)
    pairs = {}
    for part, name in _URISC_PARTS.items():
        if part != "validation" or (images / name).is_dir():
            without = part == "test" and not (labels / name).is_dir()
            pairs[part] = pair_files(images / name, None if without else labels / name)
            notes += "; its test images have no labels" if without else ""
    if "validation" not in pairs:
        labelled = pairs["train"]
        taken = choose(labelled, min(_URISC_VALIDATION_IMAGES, max(len(labelled) // 4, 1)), "validation")
        pairs |= {"train": tuple(pair for pair in labelled if pair not in taken), "validation": taken}
        notes += f"; without val, {len(taken)} training images are for validation"
    described: dict[str, Any] = {"name": f"urisc {track}", "kind": "licensed", "pixel_size_nm": nm, "notes": notes}
    return set_of_files(pairs, counts, size_px, f"urisc:{track}", **described)


def missing_urisc(place: Path) -> InputError:
    """Return the error for a missing folder of U-RISC."""
    return InputError(
        f"{place} must be a folder of U-RISC, and there is none: get the data from its authors ({URISC_SOURCE}) and "
        "give the folder that has imgs/ and label/; data='synthetic' with the same track replaces it."
    )


@dataclass(frozen=True)
class SyntheticTrack:
    """What a synthetic set imitates; `reduction`: source pixels for each pixel of an image, along one axis."""

    tissue: "Tissue"
    imaging: "Imaging"
    source_pixel_size_nm: float
    reduction: float
    size_px: int
    counts: tuple[int, int, int]  # default numbers of training, validation and test images

    @property
    def pixel_size_nm(self) -> float:
        """The size of a pixel of the finished image."""
        return self.source_pixel_size_nm * self.reduction


@functools.cache
def synthetic_track(track: str) -> SyntheticTrack:
    """Return what the synthetic set `track` imitates."""
    from emseg.synthetic import tissue  # compiles the generator

    if track == "isbi_like":
        return SyntheticTrack(tissue.ISBI_LIKE, tissue.ISBI_IMAGING, tissue.ISBI_PIXEL_SIZE_NM, 1.0, 512, (16, 4, 10))
    reduction, size_px = (TRACK_2_FACTOR, 256) if track == "track2" else (1.0, 1024)
    return SyntheticTrack(tissue.URISC_LIKE, tissue.URISC_IMAGING, URISC_PIXEL_SIZE_NM, reduction, size_px, (8, 3, 5))


def tissue_seed(seed: int, part: str, place: int) -> int:
    """Return the seed of the tissue of an image of a synthetic set."""
    words = np.random.SeedSequence([seed, PARTS.index(part), place]).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))  # the generator takes 63 bits


@functools.lru_cache(maxsize=8)
def _drawn(track: str, counts: tuple[int, ...], size_px: int, seed: int) -> MembraneSet:
    from emseg.synthetic.tissue import fingerprint as tissue_fingerprint

    wanted = synthetic_track(track)
    side = round(size_px * wanted.reduction)
    nm, tissue, imaging = wanted.source_pixel_size_nm, wanted.tissue, wanted.imaging
    parts: dict[str, tuple[ArrayImage, ...]] = dict.fromkeys(PARTS, ())
    names = [f"{VERSION}:{track}:{size_px}"]
    for part, place in [(part, place) for part, n in zip(PARTS, counts, strict=True) for place in range(n)]:
        own = tissue_seed(seed, part, place)
        names.append(tissue_fingerprint((side, side), pixel_size_nm=nm, seed=own, tissue=tissue, imaging=imaging))
        draw = functools.partial(_draw, wanted, side, size_px, own)
        stored = side * side > LARGEST_DRAWN_AGAIN_PX
        pixels = store_drawn(f"{VERSION}:{names[-1]}:{size_px}", draw, (size_px, size_px)) if stored else draw()
        parts[part] += (ArrayImage(f"{part}_{place:03d}", *pixels),)
    reduced = "" if wanted.reduction == 1.0 else f", downsampled {wanted.reduction:.2f} times bilinearly"
    return MembraneSet(
        name=f"synthetic {track}",
        kind="synthetic",
        pixel_size_nm=wanted.pixel_size_nm,
        **parts,
        fingerprint="synthetic-set:" + digest_of("\n".join(names)),
        notes=f"drawn at {nm:g} nm/px{reduced}",
    )


def _draw(track: SyntheticTrack, side: int, size_px: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return image and membrane mask, drawn in bands: the generator needs seven bytes for each pixel it draws."""
    from emseg.synthetic.tissue import synthesize_tissue

    image, membrane = np.empty((side, side), np.uint8), np.empty((side, side), np.bool_)
    nm, look = track.source_pixel_size_nm, dict[str, Any](tissue=track.tissue, imaging=track.imaging)
    for start in range(0, side, BAND_ROWS):
        band = slice(start, min(start + BAND_ROWS, side))
        shape, origin_nm = (band.stop - start, side), (start * nm, 0.0)
        picture = synthesize_tissue(shape, pixel_size_nm=nm, seed=seed, origin_nm=origin_nm, **look)
        image[band], membrane[band] = picture.image, picture.membrane
    return (image, membrane) if track.reduction == 1.0 else downsampled_pair(image, membrane, (size_px, size_px))
