"""What several tests of detectors need."""

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch

Batch = dict[str, list[Any]]


@pytest.fixture
def without_type_checks() -> Iterator[None]:
    """Call the library as its users do: the tests' checking of annotations would refuse bad arguments first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def tiles() -> Callable[..., Batch]:
    """Makes a batch as mmdet's loader does: one grey tile for each of the numbers of sections, bright on dark."""
    import_module("emseg.wafer.detector.mmdet_parts")  # prepares mmdet
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    def make(*n_sections: int, size: int = 128, channels: int = 1, seed: int = 0) -> Batch:
        rng = np.random.default_rng(seed)
        batch: Batch = {"inputs": [], "data_samples": []}
        for n in n_sections:
            image = rng.integers(40, 80, (channels, size, size))
            boxes, masks = [], []
            for _ in range(n):
                height, width = rng.integers(40, 60, 2)
                top, left = rng.integers(0, size - height), rng.integers(0, size - width)
                image[:, top : top + height, left : left + width] += 90
                boxes.append([left, top, left + width, top + height])
                mask = np.zeros((size, size), dtype=np.uint8)
                mask[top : top + height, left : left + width] = 1
                masks.append(mask)
            truth = InstanceData(
                bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
                labels=torch.arange(n) % 4,
                masks=BitmapMasks(masks, size, size),
            )
            shape = (size, size)
            sample = DetDataSample(
                metainfo={
                    "img_shape": shape,
                    "ori_shape": shape,
                    "pad_shape": shape,
                    "batch_input_shape": shape,
                    "scale_factor": (1.0, 1.0),
                }
            )
            sample.gt_instances = truth
            sample.ignored_instances = InstanceData(
                bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long), masks=BitmapMasks([], size, size)
            )
            batch["inputs"].append(torch.from_numpy(image.clip(0, 255).astype(np.uint8)))
            batch["data_samples"].append(sample)
        return batch

    return make
