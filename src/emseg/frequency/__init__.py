from emseg.frequency.aliasing import adaptive_pool_matrix, leakage_closed_form, leakage_spectrum, staircase_basis
from emseg.frequency.dct import TOP16, dct2, dct_basis, dct_coefficients, idct2, scaled_index

__all__ = [
    "TOP16",
    "adaptive_pool_matrix",
    "dct2",
    "dct_basis",
    "dct_coefficients",
    "idct2",
    "leakage_closed_form",
    "leakage_spectrum",
    "scaled_index",
    "staircase_basis",
]
