"""What the notebook `urisc_dataset` needs besides the library."""

from chapters.urisc_dataset.set_statistics import line_width_px

__all__ = ["line_width_px"]
