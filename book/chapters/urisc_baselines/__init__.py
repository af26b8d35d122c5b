"""What the notebook `urisc_baselines` needs besides the library."""
