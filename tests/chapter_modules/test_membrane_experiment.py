"""One cell: the threshold is the validation images' own, predictions are kept, scores are those of `emseg score`."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from membrane.training.toy_membranes import TINY_DESIGN, TINY_PLAN, toy_set

from chapters.urisc_baselines import (
    make_design,
    make_plan,
    starting_point,
    train_and_score,
    with_label_fraction,
    work_name,
)
from emseg.errors import UsageError
from emseg.images import read_gray
from emseg.membrane.dataset import ArrayImage
from emseg.membrane.networks import NetworkDesign
from emseg.membrane.scoring import ScoreSettings, score_image
from emseg.membrane.training import predict_membrane

PLAN = TINY_PLAN.changed(n_steps=40, warm_up_steps=8, validate_every=0, checkpoint_seconds=60.0)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    return train_and_score(TINY_DESIGN, PLAN, toy_set(), tmp_path_factory.mktemp("cells"), progress=False)


def test_the_threshold_is_the_best_on_validation_and_knows_nothing_of_the_test_images(outcome, tmp_path):
    assert outcome.threshold == outcome.parts["validation"].curve.best_threshold
    other = replace(toy_set(), test=tuple(ArrayImage(one.name, one.image, ~one.membrane) for one in toy_set().test))
    again = train_and_score(TINY_DESIGN, PLAN, other, tmp_path, progress=False)
    assert again.threshold == outcome.threshold
    assert again.v_rand_threshold == outcome.v_rand_threshold


def test_scores_are_those_of_the_kept_predictions_at_the_threshold(outcome):
    part = outcome.parts["test"]
    settings = ScoreSettings(threshold=outcome.threshold, pixel_size_nm=4.0)
    for image, path, scores in zip(part.images, part.predictions, part.scores, strict=True):
        assert scores == score_image(read_gray(path), image.read_membrane(), settings)
        probability = predict_membrane(outcome.trained.network, image.read())
        assert np.abs(read_gray(path) / 255 - probability).max() <= 0.5 / 255 + 1e-6


def test_truths_lie_beside_the_predictions_under_the_same_names(outcome):
    for name, part in outcome.parts.items():
        for image, prediction, truth in zip(part.images, part.predictions, part.truths, strict=True):
            assert truth == outcome.work_dir / "truth" / name / prediction.name
            np.testing.assert_array_equal(read_gray(truth) == 255, image.read_membrane())


def test_images_above_a_tile_are_scored_alike_whether_a_kill_came_between_or_not(outcome, tmp_path, monkeypatch):
    """The predictions of a killed experiment are gone on with: same bits, same scores, and no step is trained again."""
    from emseg.membrane.training import membrane_prediction

    plan = PLAN.changed(n_steps=4, warm_up_steps=1)
    whole = train_and_score(TINY_DESIGN, plan, toy_set(), tmp_path / "whole", tile=48, progress=False)
    written = []

    def killed_at_the_third(levels, path, write=membrane_prediction.write_png):
        written.append(path)
        if len(written) == 3:
            raise KeyboardInterrupt
        write(levels, path)

    with monkeypatch.context() as patch:
        patch.setattr(membrane_prediction, "write_png", killed_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            train_and_score(TINY_DESIGN, plan, toy_set(), tmp_path / "killed", tile=48, progress=False)
    again = train_and_score(TINY_DESIGN, plan, toy_set(), tmp_path / "killed", tile=48, progress=False)
    for part, scores in whole.parts.items():
        assert again.parts[part].scores == scores.scores
        for one, other in zip(again.parts[part].predictions, scores.predictions, strict=True):
            assert one.read_bytes() == other.read_bytes()
    assert again.seconds_per_megapixel > 0


def test_what_is_there_is_not_repeated(outcome):
    stamps = {path: path.stat().st_mtime_ns for path in outcome.work_dir.rglob("*") if path.is_file()}
    again = train_and_score(TINY_DESIGN, PLAN, toy_set(), outcome.work_dir.parent, progress=False)
    written = [path.name for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp]
    assert set(written) <= {"settings.json"}
    assert again.seconds_per_megapixel == outcome.seconds_per_megapixel
    assert again.parts["test"].scores == outcome.parts["test"].scores


def test_averaged_predictions_are_kept_apart(outcome):
    averaged = train_and_score(TINY_DESIGN, PLAN, toy_set(), outcome.work_dir.parent, tta=True, progress=False)
    assert averaged.work_dir == outcome.work_dir
    assert not set(averaged.parts["test"].predictions) & set(outcome.parts["test"].predictions)
    assert averaged.parts["test"].scores != outcome.parts["test"].scores


def test_work_folders_differ_where_the_weights_would():
    name = work_name(TINY_DESIGN, PLAN, toy_set())
    assert name == work_name(TINY_DESIGN, PLAN.changed(n_workers=3), toy_set())
    assert name.startswith("unet-plain-toy_membranes-seed0-")
    others = [
        work_name(replace(TINY_DESIGN, base_channels=5), PLAN, toy_set()),
        work_name(TINY_DESIGN, PLAN.changed(dice_weight=0.5), toy_set()),
        work_name(TINY_DESIGN, PLAN, toy_set(n_train=2)),
        work_name(TINY_DESIGN, PLAN, replace(toy_set(), fingerprint="toy-2")),
    ]
    assert len({name, *others}) == 5


def test_a_share_of_the_labels_is_drawn_by_seed_and_leaves_the_rest_alone():
    whole = toy_set(n_train=8)
    quarters = [with_label_fraction(whole, 0.25, seed=seed) for seed in range(12)]
    assert {len(one.train) for one in quarters} == {2}
    assert len({tuple(image.name for image in one.train) for one in quarters}) > 3
    assert all(one.test == whole.test and one.validation == whole.validation for one in quarters)
    assert len(with_label_fraction(whole, 0.01).train) == 1
    assert with_label_fraction(whole, 1.0).train == whole.train


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01, float("nan")])
def test_a_share_that_is_none_is_refused(fraction):
    with pytest.raises(UsageError, match="`label_fraction` must be above 0 and at most 1"):
        with_label_fraction(toy_set(), fraction)


@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_part_without_labels_is_named_before_the_training(tmp_path, part):
    with pytest.raises(UsageError, match=f"toy membranes has no labelled images for {part}"):
        train_and_score(TINY_DESIGN, PLAN, replace(toy_set(), **{part: ()}), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_plan_keeps_its_share_of_warm_up():
    plan = make_plan("small", n_steps=1200, batch=8, bend_px=2.0, zoom=1.0)
    assert (plan.n_steps, plan.warm_up_steps, plan.batch_size) == (1200, 300, 8)
    assert (plan.augmentation.bend_px, plan.augmentation.zoom) == (2.0, 1.0)
    assert make_plan("small").n_steps == 600


def test_only_attentions_that_have_a_reduction_get_it():
    given = {"encoder_depth": 2, "base_channels": 16, "reduction": 4}
    assert make_design("unet", "plain", attention="eca", **given).attention_options == {}
    assert make_design("unet", "plain", attention="se", **given).attention_options == {"reduction": 4}


def test_no_pretraining_is_no_start(tmp_path):
    assert starting_point("none", TINY_DESIGN, toy_set(), tmp_path) is None


def test_a_pretrained_encoder_is_loaded_and_named_in_the_settings(tmp_path):
    """The encoder of the first step's network is the pretrained one: its weights are in the start's digest."""
    design = NetworkDesign(encoder="resnet18", encoder_depth=2, base_channels=4)
    start = starting_point("moco", design, toy_set(), tmp_path, n_steps=2)
    tiny = PLAN.changed(n_steps=1, warm_up_steps=0, learning_rate=1e-12)
    outcome = train_and_score(design, tiny, toy_set(), tmp_path, start=start, progress=False)
    kept = json.loads((outcome.work_dir / "settings.json").read_text())["start"]
    assert kept == {"name": "moco", "digest": start.digest}
    from emseg.membrane.networks import build_network

    fresh = build_network(design, seed=tiny.seed).encoder.state_dict()
    trained = outcome.trained.network.encoder.state_dict()
    assert not torch.allclose(trained["conv1.weight"], fresh["conv1.weight"], atol=1e-6)
