"""What the notebook `urisc_transfer` needs besides the library."""
