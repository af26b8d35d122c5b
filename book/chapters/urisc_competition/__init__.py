"""What the notebook `urisc_competition` needs besides the library."""
