from emseg.synthetic.tissue import (
    ISBI_IMAGING,
    ISBI_LIKE,
    ISBI_PIXEL_SIZE_NM,
    URISC_IMAGING,
    URISC_LIKE,
    URISC_PIXEL_SIZE_NM,
    Imaging,
    Micrograph,
    Tissue,
    fingerprint,
    synthesize_tissue,
    tissue_with_membrane_fraction,
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
