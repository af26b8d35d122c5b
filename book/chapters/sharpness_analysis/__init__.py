"""What the notebook `sharpness_analysis` needs besides the library."""
