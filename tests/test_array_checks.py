"""The checks of array annotations see a wrong shape or dtype, and leave the library's own errors alone."""

import importlib
import sys
from pathlib import Path

import array_checks
import numpy as np
import pytest
import torch

from emseg.errors import UsageError

MODULE = """
from dataclasses import dataclass
import numpy as np
from jaxtyping import Float, Float32
from torch import Tensor
from emseg.errors import UsageError

def scaled(image: Float32[np.ndarray, "row column"], by: int = 1) -> Float32[np.ndarray, "row column"]:
    if by < 0:
        raise UsageError("`by` must not be negative")
    return image * np.float32(by) if by else image[:1]

@dataclass(frozen=True)
class Pair:
    first: Float[Tensor, " n"]
    second: Float[Tensor, " n"] | None = None
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "checked_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    found = importlib.import_module("checked_module")
    array_checks.check_module(found)
    yield found
    del sys.modules["checked_module"]


def test_true_annotations_pass(module):
    image = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(module.scaled(image, by=2), 2 * image)
    assert module.Pair(torch.ones(2)).second is None


@pytest.mark.parametrize(
    ("image", "by", "part"),
    [(np.ones((2, 3)), 1, "image"), (np.ones(3, np.float32), 1, "image"), (np.ones((2, 3), np.float32), 0, "return")],
    ids=["dtype", "axes", "shape of the result"],
)
def test_an_annotation_that_is_not_true_fails(module, image, by, part):
    with pytest.raises(array_checks.ArrayAnnotationError, match=rf"checked_module\.scaled: `{part}` is annotated"):
        module.scaled(image, by)


def test_fields_of_a_data_class_share_their_axes(module):
    with pytest.raises(array_checks.ArrayAnnotationError, match=r"checked_module\.Pair: `second`"):
        module.Pair(torch.ones(2), torch.ones(3))


def test_the_functions_own_error_comes_first(module):
    """An array that the function refuses itself must not be reported by the checks."""
    with pytest.raises(UsageError, match="must not be negative"):
        module.scaled(np.ones(3), by=-1)


def test_the_whole_library_is_checked():
    from emseg.tiling import predict_tiled

    assert any(isinstance(finder, array_checks._Finder) for finder in sys.meta_path)
    assert predict_tiled.__wrapped__
