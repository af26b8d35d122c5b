"""A lab's wafer becomes a finder: at the network's scale, from the columns given, scored on all validation tiles."""

import dataclasses

import numpy as np
import pytest
import torch
from wafer.detector.toy_sections import TINY, TINY_PLAN, toy_folder
from wafer.navigation.drawn_wafers import KNOWN_PX, DrawnNetwork, draw, drawn_finder, ribbons

from emseg.errors import InputError, UsageError
from emseg.sections import Section, WaferSections
from emseg.wafer.detector import DetectorDesign, build_design
from emseg.wafer.navigation import detect, find
from emseg.wafer.navigation.finder import load_finder
from emseg.wafer.navigation.training import SECTION_SIZE_PX, to_network_scale, train_finder
from emseg.wafer.navigation.validation import fit_calibration, validate_on_wafers

DESIGN = DetectorDesign(depth=18, size="small", num_classes=1, changes={**TINY, "max_per_image": 1000})
# torch 2.14 crashes in the backward pass of 8 channels stored channels last, at tiles of 256 px
PLAN = TINY_PLAN.changed(steps=3, warm_up_steps=1, norm_batches=1, channels_last=False)
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.*the most that this detector outputs"),  # as little as it is trained
]


def wafer(side=64.0, height=300, width=1200, columns=(100, 300, 500, 700, 1000), name="mine", um=None):
    """Return bright squares on grey, at one row."""
    image = np.full((height, width), 90, dtype=np.uint8)
    sections = []
    for left in columns:
        top = 100
        image[top : top + round(side), left : left + round(side)] = 180
        corners = [(top, left), (top, left + side), (top + side, left + side), (top + side, left)]
        sections.append(Section(np.array(corners, dtype=np.float64), "good", angle_deg=90.0))
    return image, WaferSections(name, height, width, tuple(sections), ("good",), um)


def train(source, out, **options):
    return train_finder(source, out, design=DESIGN, plan=PLAN, progress=False, **options)


@pytest.fixture(scope="module")
def trained(one_thread, tmp_path_factory):
    return train([wafer(um=2.0)], tmp_path_factory.mktemp("trained"))


def test_a_finder_knows_what_it_was_trained_on(trained):
    back = load_finder(trained.path, device="cpu")
    assert (back.class_names, back.section_size_px, back.section_size_um) == (("good",), 64.0, 128.0)
    assert back.record["plan"]["steps"] == 3
    assert back.record["validation"] == trained.scores
    assert back.template is not None
    assert back.template.oriented
    assert back.template.side_px == pytest.approx(64, abs=2)


def test_the_scores_are_those_of_the_validation_columns(trained):
    """300 columns of 300 rows, four tiles of 256 px: the one section there counts once."""
    scores = trained.scores
    assert (scores["n_tiles"], scores["n_sections"]) == (4, 1)
    assert scores["found"] + scores["missed"] == scores["n_sections"]


def test_a_finished_training_is_not_repeated(trained):
    weights = trained.path.parent / "work" / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    again = train([wafer(um=2.0)], trained.path.parent)
    assert weights.stat().st_mtime_ns == before
    assert again.scores == trained.scores


@pytest.mark.parametrize("side", [20.0, 200.0])
def test_sections_of_any_size_are_scaled_to_what_the_network_knows(side):
    image, truth = wafer(side, 600, 1500, (100, 500, 900))
    scaled, sections = to_network_scale((image, truth), side)
    assert scaled.shape == (sections.height, sections.width)
    assert np.sqrt(sections.sections[1].area_px) == pytest.approx(SECTION_SIZE_PX, rel=0.01)
    row, column = sections.sections[1].center
    assert scaled[round(row), round(column)] == 180
    middle = round(truth.sections[1].center[1] + side) * sections.width // truth.width
    assert scaled[round(row), middle] == 90


def test_sections_that_nearly_fit_are_not_resampled():
    image, truth = wafer(58.0)
    assert to_network_scale((image, truth), 58.0)[0] is image


def test_nothing_outside_the_given_columns_is_looked_at(tmp_path):
    """What a held-out part shows does not change the training."""
    image, truth = wafer(width=2000, columns=(100, 300, 500, 900, 1500))
    other = np.where(np.arange(2000) < 1200, image, 0).astype(np.uint8)
    fewer = dataclasses.replace(truth, sections=truth.sections[:-1])
    weights = []
    for number, one in enumerate([(image, truth), (other, fewer)]):
        made = train([one], tmp_path / str(number), columns=(0.0, 0.6))
        weights.append(made.finder.model.state_dict()["backbone.conv1.weight"])
        assert made.scores["n_sections"] == 1
    assert torch.equal(*weights)


def test_a_coco_folder_trains_at_a_scale_that_fits_its_sections(tmp_path):
    """Tiles of 64 px whose sections have about 22 px are enlarged."""
    folder = toy_folder(tmp_path / "toy")
    made = train(folder, tmp_path / "out")
    assert made.finder.section_size_px == pytest.approx(SECTION_SIZE_PX, rel=0.02)
    assert made.finder.class_names == ("good", "incomplete", "fold", "damaged")
    assert made.finder.design.num_classes == 4
    assert made.scores["n_tiles"] == 4


def test_a_training_starts_from_a_finder_of_other_classes(trained, tmp_path):
    """All is taken over but the layers with outputs for each class, and that is said."""
    image, truth = wafer()
    renamed = tuple(dataclasses.replace(one, label="whole") for one in truth.sections)
    classes = dataclasses.replace(truth, sections=renamed, class_names=("whole", "torn"))
    made = train([(image, classes)], tmp_path, start_from=trained.path)
    assert made.notes[0] == "classes were good, now whole, torn: their layers start anew"
    from safetensors.torch import load_file

    start, old = load_file(tmp_path / "start.safetensors"), load_finder(trained.path, device="cpu").model.state_dict()
    assert torch.equal(start["backbone.conv1.weight"], old["backbone.conv1.weight"])
    anew = build_design(made.finder.design, seed=PLAN.seed).state_dict()["roi_head.bbox_head.fc_cls.weight"]
    assert torch.equal(start["roi_head.bbox_head.fc_cls.weight"], anew)


def test_validation_counts_merged_detections_of_whole_columns(monkeypatch):
    """A section on several tiles counts once, and one on the border counts where its centre is."""
    monkeypatch.setattr(detect, "predict_soft", DrawnNetwork())
    quads, size = ribbons(2, 12, KNOWN_PX)
    sections = tuple(Section(one, "good") for one in quads)
    wafer = (draw(quads, size), WaferSections("drawn", *size, sections, ("good",)))
    n = int((np.array([one.mean(0)[1] for one in quads]) >= size[1] / 2).sum())
    counts, (scores, is_true) = validate_on_wafers(drawn_finder(), [wafer], 0.5, 1.0)
    assert counts == {"n_sections": n, "found": n, "missed": 0, "false": 0}
    assert scores.shape == is_true.shape == (n,)
    assert is_true.all()
    blank = (wafer[0], dataclasses.replace(wafer[1], sections=()))
    counts, (_, is_true) = validate_on_wafers(drawn_finder(), [wafer, blank], 0.5, 1.0)
    assert (counts["found"], counts["false"], int((~is_true).sum())) == (n, n, n)


def test_the_calibration_recovers_the_curve_that_scores_follow():
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.01, 0.99, 20_000)
    odds = np.log(scores / (1 - scores))
    is_true = rng.random(20_000) < 1 / (1 + np.exp(-(2 * odds - 1)))
    fitted = fit_calibration(scores, is_true)
    assert fitted is not None
    assert (fitted.slope, fitted.intercept) == (pytest.approx(2, abs=0.1), pytest.approx(-1, abs=0.1))
    assert (fitted.n, fitted.n_true) == (20_000, int(is_true.sum()))


@pytest.mark.parametrize("is_true", [[True, True], [False, False]])
def test_detections_of_one_kind_calibrate_nothing(is_true):
    assert fit_calibration(np.array([0.9, 0.4]), np.array(is_true)) is None


def test_perfect_detections_do_not_make_certain():
    """Five right and one wrong detection, separable: the probability of another high score stays below 1."""
    fitted = fit_calibration(np.array([0.9, 0.91, 0.92, 0.93, 0.94, 0.1]), np.array([True] * 5 + [False]))
    assert fitted is not None
    assert 0.7 < float(fitted(0.92)) < 0.97


@pytest.mark.parametrize(
    ("made", "options", "message"),
    [
        (wafer(columns=(100,)), {}, "both parts of a wafer need sections; the columns for validation, 75% to 100%"),
        (wafer(columns=(1000,)), {}, "the columns for train, 0% to 75% of the width, have none of 1"),
        (wafer(columns=()), {}, "have none of 0"),
        (wafer(width=600, columns=(100, 500)), {}, r"both parts of a wafer must be 256 px wide .*; mine has 150 px"),
        (wafer(), {"train_share": 1.0}, "`train_share` must be"),
        (wafer(), {"columns": (0.5, 0.2)}, "have none|`columns` must be"),
    ],
)
def test_what_cannot_be_trained_on_is_named_before_any_work(tmp_path, made, options, message):
    with pytest.raises((InputError, UsageError), match=message):
        train([made], tmp_path, **options)
    assert not any(tmp_path.iterdir())


def test_another_training_in_the_folder_is_refused(trained):
    with pytest.raises(UsageError, match="made from other parameters"):
        train([wafer(name="other")], trained.path.parent)


def test_a_wafer_is_found_with_the_template_of_its_finder_unless_another_is_given(trained, monkeypatch):
    """So the second wafer of a lab has angles to 360 degrees without any annotation of its own."""
    used = []
    monkeypatch.setattr(find, "fit_sections", lambda image, sure, template, **_: used.append(template) or [])
    image = np.random.default_rng(0).integers(0, 255, (300, 300)).astype(np.uint8)
    other = dataclasses.replace(trained.finder.template, oriented=False)
    for template in (None, other):
        find.find_sections(image, trained.finder, template=template, section_size_px=64.0)
    assert used == [trained.finder.template, other]
