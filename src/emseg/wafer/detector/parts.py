"""Importing this module makes our parts known to mmdet: operators first, then mmdet, then what we add to it.

A configuration that is run by mmdet's own tools names it: custom_imports = {"imports": ["emseg.wafer.detector.parts"]}.
What mmdet and mmcv have to say while they are imported (moved classes, escape sequences in old docstrings) is of no use
to a reader of ours and is not shown.
"""

import warnings

from emseg.errors import UsageError
from emseg.wafer.detector.operators import provide_operators

provide_operators()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    try:
        import mmdet.models
        import mmdet.structures  # noqa: F401
    except ModuleNotFoundError as error:
        raise UsageError(
            f"detectors need mmdet, mmcv and mmengine; {error.name} is not installed. "
            'Install them with: pip install "emseg[networks]"'
        ) from None

from emseg.wafer.detector.backbone import AttentionResNet  # noqa: E402  # only now can mmdet be imported
from emseg.wafer.detector.models import WaferMaskRCNN, WaferMaskScoringRCNN  # noqa: E402

__all__ = ["AttentionResNet", "WaferMaskRCNN", "WaferMaskScoringRCNN"]
