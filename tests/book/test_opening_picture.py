"""The panels of the first page are what the generators draw today, and light enough for a first page."""

import sys

import numpy as np
import pytest
from book.staged import ROOT
from PIL import Image

sys.path.insert(0, str(ROOT / "tools"))
from opening_picture import FOLDER, PANELS, draw

MOST_BYTES = 150_000
COMPRESSION = 12.0  # grey levels, mean over a panel: WebP's loss is 4 at most, another seed makes 40


@pytest.mark.parametrize("name", PANELS)
def test_a_panel_is_drawn_by_the_present_generators(name: str) -> None:
    """The committed panel is the generator's picture up to compression."""
    committed = np.asarray(Image.open(FOLDER / f"{name}.webp").convert("RGB"), dtype=float)
    drawn = np.asarray(draw(name), dtype=float)
    assert np.abs(drawn - committed).mean() < COMPRESSION
    assert np.abs(drawn[::-1] - committed).mean() > COMPRESSION  # another picture would fail


def test_the_panels_are_light() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.webp")) == sorted(PANELS)
    assert sum(path.stat().st_size for path in FOLDER.glob("*.webp")) < MOST_BYTES
