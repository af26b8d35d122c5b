"""Real images: a registry of pinned files, where they are on this machine, and how to get and verify them.

The loaders, which need numpy, are modules of their own: `emseg.data.isbi2012`.
"""

from emseg.data.download import fetch
from emseg.data.places import cache_root, data_root, folder_of, state
from emseg.data.registry import DataFile, Dataset, dataset, datasets, fingerprint
from emseg.data.transfer import Patience
from emseg.data.verification import Problem, check, dataset_path

__all__ = [
    "DataFile",
    "Dataset",
    "Patience",
    "Problem",
    "cache_root",
    "check",
    "data_root",
    "dataset",
    "dataset_path",
    "datasets",
    "fetch",
    "fingerprint",
    "folder_of",
    "state",
]
