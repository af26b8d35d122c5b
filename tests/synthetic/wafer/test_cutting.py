"""What is cut: classes in the shares asked for, knife changes in runs, and defects that take what they should."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial import ConvexHull

from emseg.synthetic.wafer import WaferDesign
from emseg.synthetic.wafer import wafer_kernels as kernels
from emseg.synthetic.wafer.layout import RIBBON, cut_sections
from emseg.synthetic.wafer.section_shape import draw_knife, draw_shape
from emseg.wafer import SECTION_CLASSES

LENGTH, WIDTH = 120.0, 86.0
SMOOTH = np.zeros((64, 64), dtype=np.float32)  # a texture that displaces no border


def covers(quality: str, n: int = 60, whole: bool = False) -> list[np.ndarray]:
    """Return the cover of `n` sections of a class, upright in the middle of 180 x 180 pixels, 0 to 1.

    `whole`: the same sections before they were damaged.
    """
    frame, box = np.array([90.0, 90.0, 1.0, 0.0, 0.0, 0.0]), np.array([0, 0, 180, 180])
    out = []
    for k in range(n):
        rng = np.random.default_rng((11, k))
        shape = draw_shape(quality, LENGTH, WIDTH, None, rng.uniform(0.25, 0.6), rng)
        disc, tear = (shape.disc[:0], shape.tear[:0]) if whole else (shape.disc, shape.tear)
        cover = kernels.cover_section(frame, box, shape.side, shape.fold, disc, tear, SMOOTH, np.zeros(2))
        out.append(cover / 255.0)
    return out


def hull_area(cover: np.ndarray) -> float:
    corners = np.vstack([np.argwhere(cover > 0.5) + corner for corner in ((0, 0), (0, 1), (1, 0), (1, 1))])
    return float(ConvexHull(corners).volume)  # in the plane, the area


def test_a_good_section_is_as_large_as_its_block_and_fills_its_hull():
    for cover in covers("good", 20):
        assert cover.sum() == pytest.approx(LENGTH * WIDTH, rel=0.08)
        assert cover.sum() > 0.96 * hull_area(cover)


def test_an_incomplete_section_lacks_a_good_part_of_its_block():
    shares = [cover.sum() / (LENGTH * WIDTH) for cover in covers("incomplete")]
    assert max(shares) < 0.9
    assert np.median(shares) < 0.7
    assert min(shares) > 0.2


def test_a_fold_hides_twice_its_strip():
    """Area lost = 2 x strip width x the length of the strip across the section, within a tenth of the block."""
    rng = np.random.default_rng(0)
    shape = draw_shape("fold", LENGTH, WIDTH, None, 0.0, rng)
    fold = np.array([[1.0, 0.0, 5.0, 8.0, 0.0, 0.0, 0.0]])
    frame, box = np.array([90.0, 90.0, 1.0, 0.0, 0.0, 0.0]), np.array([0, 0, 180, 180])
    flat, folded = (
        kernels.cover_section(frame, box, shape.side, one, shape.disc, shape.tear, SMOOTH, np.zeros(2)) / 255.0
        for one in (fold[:0], fold)
    )
    assert flat.sum() - folded.sum() == pytest.approx(2 * 8.0 * WIDTH, rel=0.06)


def test_a_damaged_section_has_lost_a_fiftieth_or_more_within_its_outline():
    pairs = zip(covers("damaged"), covers("damaged", whole=True), strict=True)
    lost = np.array([1 - cover.sum() / whole.sum() for cover, whole in pairs])
    assert lost.min() > 0.015
    assert 0.05 < np.median(lost) < 0.15


def test_classes_come_out_in_the_shares_asked_for():
    design = WaferDesign(n_sections=200, good=0.4, incomplete=0.3, fold=0.2, damaged=0.1)
    groups = cut_sections(design, np.random.default_rng(3))
    drawn = [shape.quality for group in groups for shape in group.shapes]
    assert [drawn.count(name) for name in SECTION_CLASSES] == [80, 60, 40, 20]
    assert [group.first_serial for group in groups] == np.cumsum([0, *(len(g.shapes) for g in groups)])[:-1].tolist()


def test_a_new_knife_leaves_a_run_of_incomplete_sections_that_miss_less_and_less():
    design = WaferDesign(n_sections=600, section_length_px=40, stuck_share=0.7, piled_share=0.0, overlapping_share=0.0)
    runs = []
    for group in cut_sections(design, np.random.default_rng(5)):
        qualities = [shape.quality for shape in group.shapes]
        run = next((k for k, name in enumerate(qualities) if name != "incomplete"), len(qualities))
        if group.kind == RIBBON and run > 1:
            runs.append([shape.side[4] for shape in group.shapes[:run]])
    assert len(runs) >= 10
    same = [np.allclose(a[:2], b[:2]) for run in runs for a, b in pairwise(run)]
    assert np.mean(same) > 0.8  # the knife's tilt; the last of a run may be a chance neighbour
    grows = [b[2] > a[2] for run in runs for a, b in pairwise(run) if np.allclose(a[:2], b[:2])]
    assert np.mean(grows) > 0.9


def test_knives_differ():
    rng = np.random.default_rng(0)
    assert len({draw_knife(rng) for _ in range(20)}) == 20


@pytest.mark.parametrize("stuck", [0.0, 0.3, 0.7])
def test_as_many_sections_are_stuck_as_asked_for(stuck):
    design = WaferDesign(n_sections=400, section_length_px=40, stuck_share=stuck, overlapping_share=0, piled_share=0)
    groups = cut_sections(design, np.random.default_rng(1))
    joints = sum(len(group.shapes) - 1 for group in groups)
    assert joints == pytest.approx(stuck * 400, abs=10)
