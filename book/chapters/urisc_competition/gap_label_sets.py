"""The labels that the chapter on the competition moves and downsamples: synthetic tissue at two resolutions, or real.

Two tissues, like U-RISC's and like ISBI 2012's, are each drawn at both pixel sizes, 2.18 and 4 nm. So one thing changes
at a time: at one resolution the tissue (and with it the membrane fraction), in one tissue the resolution.
"""

from chapters.urisc_competition.gap_shifts import Labels
from emseg.errors import UsageError

SOURCES = ("synthetic", "isbi2012", "urisc")


def label_sets(data: str, *, folder: str = "", n_images: int, size_um: float, seed: int) -> tuple[Labels, ...]:
    """Return the sets of labels of a kind of data.

    `size_um`: side of a synthetic image. Raises `UsageError` for an unknown name, `InputError` where data are missing.
    """
    if data == "synthetic":
        return _synthetic(n_images, size_um, seed)
    if data not in SOURCES:
        raise UsageError(f"`data` must be one of {', '.join(SOURCES)}; got {data!r}.")
    from emseg.membrane.dataset import open_membrane_set

    opened = open_membrane_set(data, folder=folder)
    images = (*opened.train, *opened.validation, *opened.labelled_test)[: n_images or None]
    key, name = ("isbi", "ISBI 2012") if data == "isbi2012" else ("urisc", "U-RISC")
    assert opened.pixel_size_nm is not None
    masks = tuple(image.read_membrane() for image in images)
    return (Labels(key, name, opened.kind, opened.pixel_size_nm, masks, opened.fingerprint),)


def finest_urisc(sets: tuple[Labels, ...]) -> Labels:
    """Return the labels to downsample: those most like U-RISC's at full size."""
    return next((one for one in sets if one.key in ("urisc", "urisc_fine")), sets[0])


def _synthetic(n_images: int, size_um: float, seed: int) -> tuple[Labels, ...]:
    from emseg.synthetic.tissue import (
        ISBI_LIKE,
        ISBI_PIXEL_SIZE_NM,
        URISC_LIKE,
        URISC_PIXEL_SIZE_NM,
        fingerprint,
        synthesize_tissue,
    )

    found = []
    tissues = {"urisc": ("U-RISC-like", URISC_LIKE), "isbi": ("ISBI-like", ISBI_LIKE)}
    for tissue_key, (title, tissue) in tissues.items():
        for grain, nm in (("fine", URISC_PIXEL_SIZE_NM), ("coarse", ISBI_PIXEL_SIZE_NM)):
            side = round(1000 * size_um / nm)
            seeds = range(seed, seed + n_images)
            masks = tuple(
                synthesize_tissue((side, side), pixel_size_nm=nm, seed=one, tissue=tissue).membrane for one in seeds
            )
            names = (fingerprint((side, side), pixel_size_nm=nm, seed=one, tissue=tissue) for one in seeds)
            name = f"{title} tissue, {nm:g} nm/px"
            found.append(Labels(f"{tissue_key}_{grain}", name, "synthetic", nm, masks, " ".join(names)))
    return tuple(found)
