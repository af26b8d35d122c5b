"""Section crops: every class shows its defect and nothing else gives it away; any crop can be drawn by itself."""

import numpy as np
import pytest
from scipy import ndimage

from emseg.errors import UsageError
from emseg.synthetic.wafer import SECTION_CLASSES, draw_section_crop, section_crops

SIZE = 64


def sections(quality: str, n: int = 60, size: int = SIZE) -> list[np.ndarray]:
    """Return the section masks of `n` crops of one class."""
    return [draw_section_crop(quality, size, np.random.default_rng((5, k))).section for k in range(n)]


def test_a_crop_depends_on_its_seed_and_number_alone():
    """A crop drawn as part of a set, of another set or by itself is the same, bit for bit."""
    whole = section_crops(12, size=SIZE, seed=3)
    part = section_crops(5, size=SIZE, seed=3, first=6)
    np.testing.assert_array_equal(part.images, whole.images[6:11])
    np.testing.assert_array_equal(part.labels, whole.labels[6:11])
    alone = draw_section_crop(SECTION_CLASSES[whole.labels[7]], SIZE, np.random.default_rng((3, 7)))
    np.testing.assert_array_equal(alone.image, whole.images[7])


def test_other_seeds_and_numbers_give_other_crops_and_fingerprints():
    one, other = section_crops(8, size=SIZE, seed=0), section_crops(8, size=SIZE, seed=1)
    assert one.fingerprint() != other.fingerprint()
    assert one.fingerprint() == section_crops(8, size=SIZE, seed=0).fingerprint()
    assert len(np.unique(np.concatenate([one.images, other.images]).reshape(16, -1), axis=0)) == 16


def test_every_four_crops_hold_each_class_once():
    labels = section_crops(10, size=24, seed=0, first=3).labels
    assert labels.tolist() == [3, 0, 1, 2, 3, 0, 1, 2, 3, 0]


@pytest.mark.parametrize("quality", SECTION_CLASSES)
def test_the_section_lies_within_the_crop(quality):
    """No class may be told by a section that runs out of the picture, as a cut one seems to."""
    for section in sections(quality):
        border = np.concatenate([section[0], section[-1], section[:, 0], section[:, -1]])
        assert border.max() == 0
        assert section.sum() > 0.03 * SIZE * SIZE


def test_a_good_section_is_one_piece_without_holes_that_fills_its_hull():
    for section in sections("good", size=200):
        inside = section > 0.5
        assert ndimage.label(inside)[1] == 1
        assert (ndimage.binary_fill_holes(inside) == inside).all()
        assert _solidity(inside) > 0.93


def test_an_incomplete_section_is_smaller_and_convex_but_for_its_ragged_side():
    good, incomplete = ([one.sum() for one in sections(quality)] for quality in ("good", "incomplete"))
    assert 0.4 < np.median(incomplete) / np.median(good) < 0.8
    assert np.median([_solidity(section > 0.5) for section in sections("incomplete", size=200)]) > 0.92


def test_what_is_left_of_a_cut_section_lies_in_the_middle_of_the_crop():
    offset = [np.array(ndimage.center_of_mass(section)) / SIZE - 0.5 for section in sections("incomplete")]
    assert np.abs(offset).max() < 0.14


def test_a_damaged_section_has_holes_bites_or_cracks():
    """Each lacks part of its convex hull, or has a hole, that a good section does not."""
    faults = [1 - _solidity(section > 0.5) for section in sections("damaged", size=200)]
    assert np.median(faults) > 0.03
    assert np.mean(np.array(faults) > 0.01) > 0.9


def best_threshold(good, bad) -> float:
    """Return the share that the best single threshold sorts right, of as many good as bad."""
    good, bad = np.array(good), np.array(bad)
    right = [(np.mean(good > t) + np.mean(bad <= t)) / 2 for t in np.concatenate([good, bad])]
    return max(max(right), 1 - min(right))


def mean_greys(quality: str) -> list[float]:
    return [draw_section_crop(quality, SIZE, np.random.default_rng((7, k))).image.mean() for k in range(150)]


@pytest.mark.parametrize("quality", ["fold", "damaged"])
def test_neither_mean_grey_nor_area_alone_tells_good_sections_from_bad_ones(quality):
    """Half is guessing. The area helps, for a fold shortens the section, but leaves more than one in seven wrong."""
    assert best_threshold(mean_greys("good"), mean_greys(quality)) < 0.65
    areas = [[section.sum() for section in sections(one, 150)] for one in ("good", quality)]
    assert best_threshold(*areas) < 0.86


def test_pixel_size_follows_the_size_of_the_crop():
    """A crop of 50 px shows 2 mm: 40 µm a pixel."""
    assert section_crops(1, size=50, seed=0).pixel_size_nm == pytest.approx(40_000)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: section_crops(0, size=56, seed=0), "`n` must be at least 1 and `first` at least 0; got n=0"),
        (lambda: section_crops(4, size=56, seed=0, first=-1), "got n=4, first=-1"),
        (lambda: section_crops(4, size=23, seed=0), "`size` must be a whole number from 24 to 1024; got 23"),
        (
            lambda: draw_section_crop("torn", 56, np.random.default_rng(0)),
            "one of 'good', 'incomplete', .*'torn'",
        ),
        (lambda: draw_section_crop("god", 56, np.random.default_rng(0)), "Did you mean 'good'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, message):
    with pytest.raises(UsageError, match=message):
        call()


def _solidity(inside: np.ndarray) -> float:
    """Return the share of the convex hull of the pixel centres that the pixels fill."""
    import cv2

    points = np.argwhere(inside).astype(np.int32)
    hull = np.zeros(inside.shape, np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(points[:, ::-1]), 1)
    return float(inside.sum() / hull.sum())
