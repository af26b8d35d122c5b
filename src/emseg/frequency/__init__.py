from emseg.frequency.dct import TOP16, dct2, dct_basis, dct_coefficients, idct2, scaled_index

__all__ = ["TOP16", "dct2", "dct_basis", "dct_coefficients", "idct2", "scaled_index"]
