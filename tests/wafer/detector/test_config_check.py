"""Misspelt configurations of a model: mmdet's refusal becomes one sentence."""

from typing import Any

import pytest

from emseg.errors import UsageError
from emseg.wafer.detector import DetectorDesign, build_config, model_config


@pytest.mark.parametrize(
    ("part", "entry", "reason"),
    [
        ("backbone", {"norm_evel": True}, "norm_evel"),
        ("neck", {"type": "FPNN"}, "FPNN"),
        ("rpn_head", {"stride": 3}, "stride"),
        ("roi_head", {"bbox_haed": {}}, "bbox_haed"),
    ],
)
def test_a_misspelt_entry_is_refused_by_its_name(part: str, entry: dict[str, Any], reason: str) -> None:
    config = model_config(DetectorDesign("ms_rcnn", 18, size="small"))
    config[part] |= entry
    with pytest.raises(UsageError, match=f"mmdet cannot build this model: .*{reason}"):
        build_config(config)


@pytest.mark.parametrize("config", [{}, {"backbone": {}}])
def test_what_is_no_models_configuration_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"mmdet cannot build this model: .*type"):
        build_config(config)
