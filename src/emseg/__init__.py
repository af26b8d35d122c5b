"""From Wafer to Membrane: the library behind the executable paper.

The package is thin on purpose: import what you need from its subpackages
(`emseg.frequency`, `emseg.sharpness`, `emseg.membrane`, `emseg.runs`, ...).
"""

__version__ = "0.1.0"
