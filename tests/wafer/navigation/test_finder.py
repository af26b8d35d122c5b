"""A finder's file: everything that a wafer's search needs, read back as it was, refused where it is something else."""

import numpy as np
import pytest
import shapely
import torch
from wafer.detector.toy_sections import TINY

from emseg.errors import InputError, UsageError
from emseg.files import digest_of_file, read_json
from emseg.synthetic.wafer import SECTION_CLASSES, WaferDesign, synthesize_wafer
from emseg.wafer.detector import DetectorDesign, build_design, predict
from emseg.wafer.navigation.finder import SHIPPED_FINDER, Calibration, SectionFinder, load_finder, save_finder

EAGER = {**TINY, "score_threshold": 0.0, "max_per_image": 10}  # an untrained detector that finds something
DESIGN = DetectorDesign(depth=18, size="small", num_classes=2, changes=EAGER)
NOISE = np.random.default_rng(0).integers(0, 255, (2, 64, 96)).astype(np.uint8)
pytestmark = pytest.mark.filterwarnings("ignore:.*the most that this detector outputs")
CALIBRATION = Calibration(slope=1.5, intercept=-0.5, n=40, n_true=30)


@pytest.fixture(scope="module")
def finder():
    record = {"steps": 6}
    return SectionFinder(build_design(DESIGN).eval(), DESIGN, ("good", "fold"), 21.5, 64.5, None, CALIBRATION, record)


def test_a_finder_read_back_finds_the_same(finder, tmp_path):
    """Up to the half precision of its stored matrices; a second copy is the same to the last bit."""
    back = load_finder(save_finder(finder, tmp_path / "new" / "mine.safetensors"), device="cpu")
    assert back.design.to_dict() == finder.design.to_dict()
    for name in ("class_names", "section_size_px", "section_size_um", "calibration", "record"):
        assert getattr(back, name) == getattr(finder, name)
    for one, other in zip(predict(back.model, NOISE), predict(finder.model, NOISE), strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=5e-3)
        assert len(one) == 10
    again = load_finder(save_finder(back, tmp_path / "again.safetensors"), device="cpu")
    assert again.digest() == back.digest()
    assert not again.model.training


def test_the_digest_follows_all_that_changes_what_is_found(finder):
    other = SectionFinder(build_design(DESIGN, seed=1).eval(), DESIGN, ("good", "fold"), 21.5, 64.5, None, CALIBRATION)
    larger = SectionFinder(finder.model, DESIGN, ("good", "fold"), 30.0, 64.5, None, CALIBRATION, finder.record)
    assert len({finder.digest(), other.digest(), larger.digest()}) == 3


def test_a_calibrated_score_is_the_logistic_curve_of_its_logit(finder):
    score = np.array([0.1, 0.5, 0.9])
    expected = 1 / (1 + np.exp(0.5) * ((1 - score) / score) ** 1.5)
    np.testing.assert_allclose(finder.confidence(score), expected)
    assert np.isfinite(finder.confidence(np.array([0.0, 1.0]))).all()


def test_a_finder_needs_a_name_for_each_class(finder):
    with pytest.raises(UsageError, match=r"got 1 names \(good\) for 2 classes"):
        SectionFinder(finder.model, DESIGN, ("good",), 21.5)


def test_the_finder_that_ships_fits_its_record_and_finds_drawn_sections():
    """Under 5 MB, with no image in it; on a wafer of another seed it finds most sections in one tile."""
    record = read_json(SHIPPED_FINDER.with_suffix(".json"))
    assert digest_of_file(SHIPPED_FINDER) == record["sha256"]
    assert SHIPPED_FINDER.stat().st_size < 5e6
    shipped = load_finder(device="cpu")
    assert shipped.template is None
    assert shipped.class_names == tuple(record["class_names"]) == SECTION_CLASSES
    assert shipped.record["validation"] == record["validation"]
    wafer = synthesize_wafer(WaferDesign(512, 512, 72.0, background="tape"), seed=987)
    (found,) = predict(shipped.model, [wafer.image])
    outlines = [one.shape for one in wafer.truth.sections]
    boxes = [shapely.box(*box) for box, score in zip(found.boxes, found.scores, strict=True) if score >= 0.5]
    hit = [max(one.envelope.intersection(b).area / one.envelope.union(b).area for b in boxes) > 0.5 for one in outlines]
    assert np.mean(hit) > 0.8


def test_other_files_are_refused(finder, tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, tmp_path / "bare.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="must be a finder, as `emseg wafer train` writes it"):
        load_finder(tmp_path / "bare.safetensors")
    with pytest.raises(InputError, match="truncated or damaged"):
        load_finder(tmp_path / "broken.safetensors")
    with pytest.raises(InputError, match="does not exist"):
        load_finder(tmp_path / "absent.safetensors")
    with pytest.raises(UsageError, match=r"must end with \.safetensors"):
        save_finder(finder, tmp_path / "mine.pt")


def test_weights_that_do_not_fit_their_design_are_refused(finder, tmp_path):
    other = DetectorDesign(depth=18, size="small", num_classes=3, changes=EAGER)
    wrong = SectionFinder(finder.model, other, ("a", "b", "c"), 20.0)
    with pytest.raises(InputError, match=r"bad.safetensors must have the weights of this detector; it has other"):
        load_finder(save_finder(wrong, tmp_path / "bad.safetensors"))
