"""A run's numbers: the interface's names, means and intervals over images, and nothing that is undefined."""

import json
import math
import shlex
from dataclasses import replace

import numpy as np
import pytest
from membrane.pretraining.checkpoints import write_cem500k
from membrane.training.toy_membranes import TINY_DESIGN, TINY_PLAN, toy_set

from chapters.urisc_baselines import (
    Example,
    bootstrap_interval,
    examples,
    map_shapes,
    plot_training,
    report_cost,
    report_scores,
    report_start,
    report_training,
    score_command,
    scores_table,
    starting_point,
    train_and_score,
    worst_places,
)
from emseg.cli import main
from emseg.membrane.networks import NetworkDesign, build_network
from emseg.membrane.scoring.pixels import FALSE_NEGATIVE, FALSE_POSITIVE, TRUE_POSITIVE, membrane_at
from emseg.runs.session import Run
from emseg.wording import format_measured


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    plan = TINY_PLAN.changed(n_steps=40, warm_up_steps=8, validate_every=20, checkpoint_seconds=60.0)
    return train_and_score(TINY_DESIGN, plan, toy_set(n_other=3), tmp_path_factory.mktemp("cells"), progress=False)


@pytest.fixture
def run(outcome):
    run = Run("urisc/urisc_baselines", seed=0)
    report_training(run, outcome.trained)
    report_scores(run, outcome, n_resamples=200, seed=0)
    report_cost(run, outcome)
    return run


def test_a_record_has_the_names_that_other_chapters_gather(run):
    for part in ("test", "validation"):
        for name in ("membrane_f1", "background_f1", "membrane_precision", "membrane_recall", "tolerant_f1"):
            assert 0 <= run.metrics[f"{part}_{name}"].value <= 1
        for name in ("v_rand", "v_info", "adapted_rand", "assd_nm"):
            assert f"{part}_{name}" in run.metrics
    assert {"threshold", "n_parameters", "n_steps", "training_seconds", "seconds_per_megapixel"} <= set(run.metrics)


def test_a_score_is_the_mean_over_images_with_its_deviation(run, outcome):
    values = [image.membrane.f1 for image in outcome.parts["test"].scores]
    metric = run.metrics["test_membrane_f1"]
    assert metric.value == pytest.approx(np.mean(values))
    assert metric.spread == pytest.approx(np.std(values, ddof=1))
    assert metric.n == 3
    assert min(values) <= metric.interval[0] <= metric.value <= metric.interval[1] <= max(values)


@pytest.mark.parametrize("part", ["validation", "test"])
def test_the_shown_command_gives_the_scores_of_the_outcome(outcome, part, capsys):
    command = shlex.split(score_command(outcome, part))
    assert command[0] == "emseg"
    assert main([*command[1:], "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["problems"] == []
    expected = {image.name: one for image, one in zip(*_images_and_scores(outcome, part), strict=True)}
    assert [one["name"] for one in found["images"]] == list(expected)
    for one in found["images"]:
        row = expected[one["name"]].row()
        assert {name: one[name] for name in row} == {k: None if math.isnan(v) else v for k, v in row.items()}
        assert one["kind"] == "probability map"
    mean = np.mean([one.membrane.f1 for one in expected.values()])
    assert found["summary"]["membrane_f1"]["mean"] == pytest.approx(mean)
    assert found["best_threshold"]["v_rand"]["n"] == len(expected)


def test_the_command_is_typed_in_the_projects_root_and_its_threshold_is_the_same_at_every_level(outcome, monkeypatch):
    monkeypatch.setattr("chapters.urisc_baselines.find_root", lambda: outcome.work_dir.parents[1])
    within = f"{outcome.work_dir.parent.name}/{outcome.work_dir.name}"
    assert score_command(outcome).startswith(f"emseg score {within}/predictions/test {within}/truth/test --membrane")
    levels = np.arange(256, dtype=np.uint8)[None]
    for level in range(1, 256):
        one = replace(outcome, settings=replace(outcome.settings, threshold=level / 255))
        command = shlex.split(score_command(one))
        typed = float(command[command.index("--threshold") + 1])
        np.testing.assert_array_equal(membrane_at(levels, typed), levels >= level)


def test_a_record_holds_how_much_of_a_pretrained_file_was_loaded_and_which_file_it_was(tmp_path):
    design = NetworkDesign(encoder="resnet18", encoder_depth=2, base_channels=4)
    encoder = build_network(design, seed=1).encoder.state_dict()
    file = write_cem500k(tmp_path / "cem500k.pth.tar", {**encoder, "layer1.0.conv1.extra": encoder["conv1.weight"]})
    run = Run("urisc/urisc_baselines", seed=0)
    start = starting_point("cem500k", design, toy_set(), tmp_path, file=file)
    text = report_start(run, start)
    assert f"{len(encoder)} of the encoder's {len(encoder)} tensors" in text
    assert start.digest in text
    names = ("loaded", "in_file", "in_encoder")
    counts = [run.metrics[f"pretraining_tensors_{name}"].value for name in names]
    assert counts == [len(encoder), len(encoder) + 1, len(encoder)]
    (use,) = run.data
    assert (use.name, use.kind) == ("pretrained encoder cem500k.pth.tar", "real")
    assert use.fingerprint == f"sha256:{start.digest}"


def test_random_weights_and_a_pretraining_of_ones_own_use_no_file_of_others(tmp_path):
    design = NetworkDesign(encoder="resnet18", encoder_depth=2, base_channels=4)
    run = Run("urisc/urisc_baselines", seed=0)
    assert report_start(run, None).startswith("Random weights")
    assert run.metrics == {}
    report_start(run, starting_point("moco", design, toy_set(), tmp_path, n_steps=2))
    assert run.metrics["pretraining_tensors_loaded"].value == run.metrics["pretraining_tensors_in_encoder"].value > 0
    assert run.data == []


def test_a_threshold_tuned_on_validation_never_beats_the_best_of_the_test_images(run):
    assert run.metrics["test_v_rand_tuned"].value <= run.metrics["test_v_rand_isbi"].value


def test_a_bootstrap_interval_covers_the_mean_as_often_as_it_says():
    generator = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        low, high = bootstrap_interval(generator.normal(1.0, 0.3, 30), n_resamples=400, seed=seed)
        covered += low <= 1.0 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_one_image_and_undefined_values_have_no_interval():
    assert bootstrap_interval([0.5], n_resamples=100, seed=0) is None
    assert bootstrap_interval([0.5, float("nan")], n_resamples=100, seed=0) is None


def test_the_table_shows_what_the_run_has(run, outcome):
    table = scores_table(run, outcome)
    first, metric = table.rows[0], run.metrics["test_membrane_f1"]
    assert first[0].text == "Membrane F1"
    assert first[2].text.startswith(format_measured(metric.value, metric.spread))
    assert table.header == ("Score", "Validation images (3)", "Test images (3)")


def made_example(seed):
    """An example with patches of errors of all kinds."""
    codes = np.random.default_rng(seed).choice(8, size=(9, 11)).repeat(6, axis=0).repeat(7, axis=1).astype(np.uint8)
    grey = 30 * codes
    return Example(f"made_{seed}", grey, codes % 2 == 1, grey, codes)


def test_the_worst_places_are_where_most_is_wrong_and_do_not_overlap():
    """A search over all windows is the oracle for the worst one."""
    shown = [made_example(seed) for seed in range(3)]
    places = worst_places(shown, n=6, side=24)
    best = 0.0
    for one in shown:
        wrong = (one.codes == FALSE_POSITIVE) | (one.codes == FALSE_NEGATIVE)
        for top in range(wrong.shape[0] - 23):
            for left in range(wrong.shape[1] - 23):
                best = max(best, wrong[top : top + 24, left : left + 24].mean())
    assert places[0].share == pytest.approx(best)
    taken = {one.name: np.zeros(one.codes.shape, dtype=int) for one in shown}
    for place in places:
        taken[place.example.name][place.rows, place.columns] += 1
        codes = place.example.codes[place.rows, place.columns]
        assert codes.shape == (24, 24)
        assert ((codes == FALSE_POSITIVE) | (codes == FALSE_NEGATIVE)).mean() == pytest.approx(place.share)
    assert max(counts.max() for counts in taken.values()) == 1


def test_a_perfect_prediction_has_no_places():
    perfect = made_example(0)
    perfect = replace(perfect, codes=np.where(perfect.membrane, TRUE_POSITIVE, 0).astype(np.uint8))
    assert worst_places([perfect]) == ()


def test_examples_come_worst_first(outcome):
    scores = {image.name: one.membrane.f1 for image, one in zip(*_images_and_scores(outcome), strict=True)}
    values = [scores[one.name] for one in examples(outcome)]
    assert values == sorted(values)


def _images_and_scores(outcome, part="test"):
    part = outcome.parts[part]
    return part.images, part.scores


def test_the_curve_of_a_training_has_its_validations(outcome):
    right = plot_training(outcome).axes[1]
    np.testing.assert_allclose(right.lines[0].get_xdata(), [20, 40])


def test_the_drawn_shapes_are_those_of_the_networks():
    """U-Net and LinkNet return to full resolution, CASENet reduces each map to one channel."""
    design = NetworkDesign(encoder="plain", encoder_depth=2, base_channels=4)
    encoded, decoded = map_shapes(build_network(design, seed=0), 32)
    assert encoded == [(4, 32, 32), (8, 16, 16), (16, 8, 8)]
    assert [shape[1] for shape in decoded] == [16, 32]
    casenet = build_network(replace(design, architecture="casenet"), seed=0)
    assert map_shapes(casenet, 32)[1] == [(1, 32, 32), (1, 16, 16), (1, 8, 8)]
