"""A wafer that cannot be made is refused in one sentence before anything is drawn."""

import math

import pytest

from emseg.errors import UsageError
from emseg.synthetic.wafer import WaferDesign, synthesize_wafer

REFUSED = [
    ({"height": 64}, r"`height` must be at least 128; got 64"),
    ({"width": 12_001}, r"`width` must be at most 12000; got 12001"),
    ({"width": 512.0}, r"`width` must be a whole number; got 512\.0"),
    ({"section_length_px": 10}, r"`section_length_px` must be at least 24; got 10"),
    ({"section_length_px": math.nan}, r"`section_length_px` must be finite; got nan"),
    ({"height": 256, "section_length_px": 200}, r"at least two section lengths a side; got .*=200 on 256 x 2048 px"),
    ({"tissue": "zebra fish"}, r"`tissue` must be one of 'scn', 'zebrafish'; got 'zebra fish'\. Did you mean 'zebraf"),
    ({"background": "glass"}, r"`background` must be one of 'silicon', 'tape'; got 'glass'\.$"),
    ({"good": 0.5}, r"must sum to 1; got good=0\.5, incomplete=0\.15, .* together 0\.95"),
    ({"good": 1.1, "fold": -0.1, "incomplete": 0, "damaged": 0}, r"`good` must be at most 1; got 1\.1"),
    ({"stuck_share": 0.9, "piled_share": 0.2}, r"must sum to 1 at most; got 1\.2"),
    ({"n_sections": 0}, r"`n_sections` must be at least 1; got 0"),
    ({"n_sections": True}, r"`n_sections` must be a whole number; got True"),
    ({"n_sections": 100_000}, r"got `n_sections`=100000, but at most \d+ of 64 px fit on 2048 x 2048 px"),
    ({"dust": -1}, r"`dust` must be at least 0; got -1"),
    ({"pixel_size_um": 0}, r"`pixel_size_um` must be at least 0\.001; got 0"),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "message"), REFUSED)
def test_a_design_that_cannot_be_made_is_refused(changed, message):
    with pytest.raises(UsageError, match=message):
        WaferDesign(**changed)


@pytest.mark.parametrize("seed", [-1, 1.5, True, 2**63])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(UsageError, match="`seed` must be a whole number"):
        synthesize_wafer(WaferDesign(height=256, width=256), seed=seed)


def test_the_number_of_sections_follows_the_area_where_none_is_given():
    """A wafer of twice the side, or of sections half as long, is planned with four times the sections."""
    small, large = WaferDesign(height=1000, width=1000), WaferDesign(height=2000, width=2000)
    assert large.planned_sections == pytest.approx(4 * small.planned_sections, rel=0.02)
    finer = WaferDesign(height=1000, width=1000, section_length_px=32)
    assert finer.planned_sections == pytest.approx(4 * small.planned_sections, rel=0.02)
    assert WaferDesign(n_sections=7).planned_sections == 7
