"""Real images: a registry of pinned files, where they are on this machine, and how to get and verify them.

The loaders, which need numpy, are separate modules: `emseg.data.isbi2012`.
"""

from emseg.data.download import Patience, fetch
from emseg.data.registry import (
    ABSENT,
    DATA_KINDS,
    DataFile,
    Dataset,
    Problem,
    check,
    dataset,
    dataset_path,
    datasets,
    fingerprint,
    folder_of,
    state,
)

__all__ = [
    "ABSENT",
    "DATA_KINDS",
    "DataFile",
    "Dataset",
    "Patience",
    "Problem",
    "check",
    "dataset",
    "dataset_path",
    "datasets",
    "fetch",
    "fingerprint",
    "folder_of",
    "state",
]
