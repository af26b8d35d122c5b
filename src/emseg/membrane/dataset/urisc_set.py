"""U-RISC as it is distributed, for whoever has it.

    FOLDER/imgs/Track1/{train,val,test}     9,958 x 9,959 px, 2.18 nm/px      FOLDER/label/Track1/{train,val,test}
    FOLDER/imgs/Track2/...                  1,024 x 1,024 px, downsampled     FOLDER/label/Track2/...
    FOLDER/imgs/Track2_original_size/...    the same before downsampling      FOLDER/label/Track2_original_size/...
    FOLDER/Human_Annotation_Process/{1st,2nd,final}   three rounds of annotation (see `annotation_rounds`)

Labels are 0 on membrane. The labels of the competition's test images were private: without label/.../test the test
images are opened unlabelled. Where there is no val, ten training images (a quarter, if there are fewer than forty) are
taken for it, spread evenly: the paper says that ten were, not which.

Source: Shi et al., Front. Comput. Neurosci. 16:842760 (2022), and the file names in its code.
"""

from pathlib import Path

from emseg.errors import InputError
from emseg.membrane.dataset.downsampled import TRACK_2_FACTOR
from emseg.membrane.dataset.file_images import FilePair, open_files
from emseg.membrane.dataset.images import central_crop
from emseg.membrane.dataset.membrane_set import PARTS, MembraneSet
from emseg.membrane.dataset.pairing import pair_files
from emseg.membrane.dataset.splits import choose

URISC_PIXEL_SIZE_NM = 2.18
SOURCE = "https://github.com/EmmaSRH/U-RISC-Data-Code"
FOLDERS = {"track1": "Track1", "track2": "Track2", "track2_original": "Track2_original_size"}
PIXEL_SIZES_NM = {
    "track1": URISC_PIXEL_SIZE_NM,
    "track2": URISC_PIXEL_SIZE_NM * TRACK_2_FACTOR,
    "track2_original": URISC_PIXEL_SIZE_NM,
}
_PART_FOLDERS = {"train": "train", "validation": "val", "test": "test"}
_VALIDATION_IMAGES = 10


def urisc_set(
    folder: Path,
    track: str = "track1",
    *,
    n_train: int = 0,
    n_validation: int = 0,
    n_test: int = 0,
    size_px: int = 0,
) -> MembraneSet:
    """Return a track of U-RISC; a number other than 0 takes that many of a part, a size the centre of every image."""
    images, labels = folder / "imgs" / FOLDERS[track], folder / "label" / FOLDERS[track]
    if not images.is_dir():
        raise missing_urisc(images)
    if not labels.is_dir():
        raise missing_urisc(labels)
    pairs: dict[str, tuple[FilePair, ...]] = {}
    notes = f"{FOLDERS[track]} as distributed"
    for part in PARTS:
        name = _PART_FOLDERS[part]
        if part == "validation" and not (images / name).is_dir():
            continue
        if not (images / name).is_dir():
            raise missing_urisc(images / name)
        without = part == "test" and not (labels / name).is_dir()
        pairs[part] = pair_files(images / name, None if without else labels / name)
        notes += "; its test images have no labels" if without else ""
    if "validation" not in pairs:
        labelled = pairs["train"]
        taken = choose(labelled, min(_VALIDATION_IMAGES, max(len(labelled) // 4, 1)), "validation")
        pairs |= {"train": tuple(pair for pair in labelled if pair not in taken), "validation": taken}
        notes += f"; without val, {len(taken)} training images are for validation"
    numbers = {"train": n_train, "validation": n_validation, "test": n_test}
    opened = open_files({part: choose(pairs[part], numbers[part], part) for part in PARTS})
    train, validation, test = (tuple(central_crop(one, size_px) for one in opened.parts[part]) for part in PARTS)
    return MembraneSet(
        name=f"urisc {track}",
        kind="licensed",
        pixel_size_nm=PIXEL_SIZES_NM[track],
        train=train,
        validation=validation,
        test=test,
        fingerprint=f"urisc:{track}:{opened.digest}" + (f":{size_px}" if size_px else ""),
        notes=notes,
    )


def missing_urisc(place: Path) -> InputError:
    """Return the error for a folder of U-RISC that is not there."""
    return InputError(
        f"{place} must be a folder of U-RISC, and there is none: get the data from its authors ({SOURCE}) and give "
        "the folder that holds imgs/ and label/; data='synthetic' with the same track stands in for it."
    )
