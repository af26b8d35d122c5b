"""Write golden_tissue.json: a small window's truth, packed to bits, and the means of its image.

    python tests/synthetic/tissue/make_golden.py

Run it again only when GENERATOR_VERSION has been raised on purpose.
"""

import base64
import json
from pathlib import Path

import numpy as np

from emseg.synthetic.tissue import ISBI_IMAGING, ISBI_LIKE, Micrograph, synthesize_tissue
from emseg.synthetic.tissue.micrograph import GENERATOR_VERSION

GOLDEN = Path(__file__).parent / "golden_tissue.json"
SIDE = 128
BLOCK = 16


def golden_picture() -> Micrograph:
    """Return the window the golden file holds."""
    return synthesize_tissue(
        (SIDE, SIDE), pixel_size_nm=4.0, seed=2022, tissue=ISBI_LIKE, imaging=ISBI_IMAGING, origin_nm=(-300.0, 700.0)
    )


def block_means(image: np.ndarray) -> np.ndarray:
    """Return the means of blocks of 16 x 16 pixels."""
    n = SIDE // BLOCK
    return image.reshape(n, BLOCK, n, BLOCK).mean(axis=(1, 3))


def main() -> None:
    picture = golden_picture()
    record = {
        "generator_version": GENERATOR_VERSION,
        "fingerprint": picture.fingerprint(),
        "membrane": base64.b64encode(np.packbits(picture.membrane).tobytes()).decode(),
        "n_cells": picture.n_cells,
        "organelle_pixels": np.bincount(picture.organelles.ravel(), minlength=4).tolist(),
        "block_means": np.round(block_means(picture.image), 3).tolist(),
    }
    GOLDEN.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
