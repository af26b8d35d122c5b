"""What the notebook `dct_derivation` needs besides the library."""
