"""The 30 labelled sections of ISBI 2012, divided into 16 to train on, 4 to validate on and 10 to test on.

The challenge's own 30 test sections have hidden labels, so the paper divided the labelled ones: "20 images were used
for training, 10 for testing". It does not say which. We take the last ten sections, one stretch of tissue, before
anything is trained (split "block"); "interleaved" tests on every third section instead, whose neighbours are 50 nm away
and trained on.
"""

from emseg.data.isbi2012 import BACKGROUND, load_isbi2012
from emseg.data.registry import dataset, fingerprint
from emseg.membrane.dataset.images import ArrayImage, MembraneImage, central_crop
from emseg.membrane.dataset.membrane_set import MembraneSet
from emseg.membrane.dataset.splits import choose, divide, require_split


def isbi_set(
    split: str = "block", *, n_train: int = 0, n_validation: int = 0, n_test: int = 0, size_px: int = 0
) -> MembraneSet:
    """Return ISBI 2012; a number other than 0 takes that many of a part, a size the centre of every section."""
    require_split(split)
    images, labels = load_isbi2012("train")
    sections: list[MembraneImage] = [
        central_crop(ArrayImage(f"section_{number:02d}", image, label != BACKGROUND), size_px)
        for number, (image, label) in enumerate(zip(images, labels, strict=True))
    ]
    division = divide(len(sections), split)
    train, validation, test = (
        choose([sections[place] for place in places], n, part)
        for places, n, part in (
            (division.train, n_train, "train"),
            (division.validation, n_validation, "validation"),
            (division.test, n_test, "test"),
        )
    )
    chosen = f"{split}:{len(train)}:{len(validation)}:{len(test)}:{size_px}"
    whole = chosen == f"{split}:{len(division.train)}:{len(division.validation)}:{len(division.test)}:0"
    return MembraneSet(
        name="isbi2012",
        kind="real",
        pixel_size_nm=dataset("isbi2012").pixel_size_nm,
        train=train,
        validation=validation,
        test=test,
        fingerprint=f"{fingerprint('isbi2012')[:16]}:{split if whole else chosen}",
        notes=f"30 labelled sections, split {split}",
    )
