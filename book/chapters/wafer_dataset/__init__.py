"""What the notebook `wafer_dataset` needs besides the library."""
