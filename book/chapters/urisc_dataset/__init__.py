"""What the notebook `urisc_dataset` needs besides the library."""
