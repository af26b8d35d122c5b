from emseg.synthetic.tissue.micrograph import (
    Micrograph,
    fingerprint,
    synthesize_tissue,
    tissue_with_membrane_fraction,
)
from emseg.synthetic.tissue.tissue_design import (
    ISBI_IMAGING,
    ISBI_LIKE,
    ISBI_PIXEL_SIZE_NM,
    URISC_IMAGING,
    URISC_LIKE,
    URISC_PIXEL_SIZE_NM,
    Imaging,
    Tissue,
)

__all__ = [
    "ISBI_IMAGING",
    "ISBI_LIKE",
    "ISBI_PIXEL_SIZE_NM",
    "URISC_IMAGING",
    "URISC_LIKE",
    "URISC_PIXEL_SIZE_NM",
    "Imaging",
    "Micrograph",
    "Tissue",
    "fingerprint",
    "synthesize_tissue",
    "tissue_with_membrane_fraction",
]
