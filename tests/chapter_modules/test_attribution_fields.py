"""The same tissue at two pixel sizes is the same tissue; factors move areas as arithmetic says; pages pick pixels."""

import re
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn

from chapters import attribution_fields as figures
from chapters.attribution_factors import Comparing, report_factors
from chapters.attribution_fields import (
    Condition,
    ConditionFields,
    ImageFields,
    Integral,
    bootstrap_median,
    fields_table,
    halfway,
    halve,
    open_study,
    path_frames,
    pixel_frames,
    report_comparisons,
    report_fields,
)
from emseg.attribution.inputs import sample_pixels
from emseg.errors import InputError, UsageError
from emseg.runs.session import Run
from emseg.tiling.receptive_field import theoretical_receptive_field

OPTIONS = Integral(n_steps=4, quadrature="riemann_middle")


class Blur(nn.Module):
    """A network whose field is known: the mean of darkness within `reach` pixels."""

    stride = 1

    def __init__(self, reach=3):
        super().__init__()
        side = 2 * reach + 1
        self.conv = nn.Conv2d(1, 1, side, padding=reach, bias=False)
        nn.init.constant_(self.conv.weight, -1.0 / side**2)

    def forward(self, x):
        return self.conv(x) + 0.1


@pytest.fixture(scope="module")
def study():
    return open_study("synthetic", n_train=1, n_test=2, size_px=128, seed=3)


@pytest.fixture(scope="module")
def surveys(study):
    """Fields of the known network in the first and the last condition."""
    return [_survey(condition) for condition in (study.conditions[0], study.conditions[2])]


def _survey(condition: Condition) -> ConditionFields:
    network = Blur().eval()
    images = []
    for number, source in enumerate(condition.images.test):
        image, membrane = source.read(), source.read_membrane()
        probability = np.where(image < 120, 0.9, 0.1).astype(np.float32)
        sample = sample_pixels(probability, membrane, 2, np.random.default_rng(number), margin=8, spacing=4)
        scaled = (image.astype(np.float32) / 255 - 0.5) / 0.5
        images.append(
            ImageFields(image, membrane, probability, sample, OPTIONS.attribute(network, scaled, sample.targets))
        )
    field = theoretical_receptive_field(network, stride=1)
    return ConditionFields(condition, network, field, tuple(images))


def test_the_coarse_condition_shows_the_same_tissue(study):
    """Resampled to the coarse grid, the fine truth agrees with the coarse one wherever rounding allows."""
    fine, coarse, isbi = (condition.images.test[0] for condition in study.conditions)
    assert fine.height * 2.18 == pytest.approx(coarse.height * 4.0, abs=4.0)
    rows = ((np.arange(coarse.height) + 0.5) * 4.0 / 2.18).astype(int).clip(0, fine.height - 1)
    resampled = fine.read_membrane()[rows][:, rows]
    agreeing = (resampled == coarse.read_membrane()).mean()
    other = (resampled == isbi.read_membrane()).mean()
    assert agreeing > 0.97 > other


def test_training_and_test_images_are_different_tissue(study):
    for condition in study.conditions:
        names = [image.name for image in (*condition.images.train, *condition.images.test)]
        assert len(set(names)) == len(names) == 3


def test_halving_takes_the_mean_of_four_and_drops_an_odd_edge():
    image = np.array([[0, 4, 9], [8, 12, 9], [7, 7, 7]], dtype=np.uint8)
    assert halve(image).tolist() == [[6]]


def test_the_field_of_a_box_is_the_box_in_nanometres(surveys):
    """All pixels within 3 px count that are darker than grey, and none beyond: at most 7 x 7 pixels."""
    for fields in surveys:
        most = 49 * fields.pixel_size_nm**2
        absolute = fields.areas(sign="absolute").values
        assert (absolute <= most).all()
        assert (absolute > 0.8 * most).all()
        assert fields.field.area_nm2(fields.pixel_size_nm, 64, 64) == pytest.approx(most)


def test_definitions_move_the_area_as_arithmetic_says(surveys):
    comparing = Comparing(*surveys, OPTIONS, n_resamples=100, seed=0)
    rows = {one.key: one for one in comparing.definition_factors((0.01, 0.5))}
    assert rows["paper"].effect.value == 1.0
    assert rows["paper"].effect.low == rows["paper"].effect.high == 1.0
    assert rows["threshold_0p5"].effect.value < 1.0
    assert rows["absolute"].first.value == pytest.approx(rows["paper"].first.value + rows["negative"].first.value)
    ratio = rows["paper"].first.value / rows["paper"].second.value
    assert rows["paper"].ratio.value == pytest.approx(ratio)


def test_counting_halved_pixels_with_the_native_area_gives_a_quarter(surveys):
    right, native = Comparing(*surveys, OPTIONS, n_resamples=100, seed=0).halved_factors()
    assert right.first.value == pytest.approx(4 * native.first.value)
    assert right.ratio.value == pytest.approx(native.ratio.value)


def test_the_ratio_of_the_data_sets_is_resolution_times_content(study):
    surveys = [_survey(condition) for condition in study.conditions]
    run = Run("urisc/attribution_fields", seed=0)
    report_fields(run, surveys, n_resamples=100, seed=0)
    report_comparisons(run, study, surveys, n_resamples=100, seed=0)
    value = {name: metric.value for name, metric in run.metrics.items()}
    assert value["field_area_ratio"] == pytest.approx(value["resolution_ratio"] * value["content_ratio"])
    assert value["resolution_pixel_ratio"] == pytest.approx(value["resolution_ratio"] * (4.0 / 2.18) ** 2)
    assert run.metrics["field_area_urisc"].unit == "nm^2"
    assert value["completeness_gap_urisc"] < 1e-4, "the network is linear"


def test_the_window_about_a_target_gives_it_the_score_of_the_whole_image(surveys):
    fields = surveys[0]
    one = fields.images[0]
    target = one.sample.targets[0]
    image, place = fields.window(one, target)
    assert image.shape == (7, 7)
    row, column = place[0]
    with torch.no_grad():
        whole = fields.network(torch.from_numpy(one.scaled)[None, None])[0, 0, target[0], target[1]]
        part = fields.network(torch.from_numpy(image)[None, None])[0, 0, row, column]
    assert float(whole) == pytest.approx(float(part), abs=1e-6)


def test_the_attribution_within_a_radius_grows_to_all_of_it():
    """A map with two equal pixels, 3 px apart; the first is the target."""
    one = np.zeros((9, 9))
    one[4, 4], one[4, 7] = 2.0, -2.0
    within = figures.within_radii(one, np.array([4, 4]))
    np.testing.assert_allclose(within[:5], [0.5, 0.5, 0.5, 1.0, 1.0])


def test_figures_carry_units_and_both_conditions(surveys):
    drawn = {
        "areas": figures.plot_areas(surveys, (0.01, 0.1), n_resamples=100, seed=0),
        "examples": figures.plot_examples(surveys),
    }
    labels = {
        name: " ".join(text for ax in figure.axes for text in (ax.get_xlabel(), ax.get_ylabel()))
        for name, figure in drawn.items()
    }
    assert "nm²" in labels["areas"]
    assert len(drawn["areas"].legends[0].get_texts()) == 2
    shown = [text.get_text() for ax in drawn["examples"].axes for text in ax.texts]
    assert sum("nm" in text for text in shown) >= 6, "each picture has a scale bar"
    plt.close("all")


def test_factors_become_metrics(surveys):
    factors = Comparing(*surveys, OPTIONS, n_resamples=100, seed=0).definition_factors((0.01, 0.05))
    run = Run("urisc/attribution_fields", seed=0)
    report_factors(run, factors)
    assert run.metrics["effect_range"].value >= run.metrics["effect_absolute"].value


def test_the_median_and_its_interval_cover_images():
    """Two images that disagree: resampling images reaches both, though most values are of one."""
    found = bootstrap_median([np.zeros(9), np.ones(3)], n_resamples=200, generator=np.random.default_rng(0))
    assert (found.value, found.low, found.high, found.n, found.n_images) == (0.0, 0.0, 1.0, 12, 2)


def test_every_number_that_a_training_moves_has_an_interval_or_a_spread(surveys):
    """`emseg records keep` compares a repeated run with them."""
    run = Run("urisc/attribution_fields", seed=0)
    report_fields(run, surveys, n_resamples=100, seed=0)
    exact = re.compile(r"receptive_field_|n_targets_")
    assert [
        name
        for name, one in run.metrics.items()
        if not exact.match(name) and one.interval is None and one.spread is None
    ] == []
    low, high = run.metrics["completeness_gap_urisc"].interval
    assert 0 <= low <= run.metrics["completeness_gap_urisc"].value <= high


def test_the_table_gives_how_good_a_network_is_and_the_bound_of_its_field(surveys):
    run = Run("urisc/attribution_fields", seed=0)
    report_fields(run, surveys, n_resamples=100, seed=0)
    rows = fields_table(run, surveys).rows
    assert [row[0].text for row in rows] == [fields.condition.label for fields in surveys]
    for row, fields in zip(rows, surveys, strict=True):
        assert float(row[1].text) == pytest.approx(np.mean([one.f1 for one in fields.images]), abs=0.005)
        low, high = (float(end.replace(",", "")) for end in row[2].text.split(" to "))
        assert low <= high <= float(row[-1].text.replace(",", "")), "no area exceeds the receptive field"


def test_the_path_ends_with_the_score_of_the_image(surveys):
    """The network is linear, so that every step adds the same map and the sum meets the score."""
    fields = surveys[0]
    one, target = fields.images[0], fields.images[0].sample.targets[0]
    frames = path_frames(fields, one, target, 4)
    assert list(frames) == ["baseline, α = 0", "α = 0.12", "α = 0.38", "α = 0.62", "α = 0.88"]
    curve, dots = list(frames.values())[-1].axes[3].lines
    np.testing.assert_allclose(dots.get_ydata(), curve.get_ydata(), atol=1e-5)
    assert len(list(frames.values())[1].axes[3].lines[1].get_ydata()) == 2
    plt.close("all")


def test_each_pixel_has_a_frame_with_its_class_and_place(surveys):
    fields = surveys[0]
    frames = pixel_frames(fields, n_most=3)
    assert len(frames) == 3
    for label, figure in frames.items():
        kind, row, column = re.fullmatch(r"(.+) at row (\d+), column (\d+)", label).groups()
        assert figure.axes[0].get_title() == kind
        assert figure.axes[0].patches[-1].center == (int(column), int(row))
        assert "nm²" in figure.axes[1].get_title()
    plt.close("all")


def test_an_image_without_pixels_is_refused(surveys):
    none = SimpleNamespace(classes=np.zeros(0))
    bare = SimpleNamespace(images=[SimpleNamespace(sample=none)])
    with pytest.raises(UsageError, match="no attributed pixels"):
        pixel_frames(bare)


def test_a_study_without_images_or_of_unknown_data_is_refused():
    with pytest.raises(UsageError, match=r"`n_test` must be .* got 0"):
        open_study("synthetic", n_train=1, n_test=0, size_px=128, seed=0)
    with pytest.raises(UsageError, match="one of 'synthetic', 'isbi2012'"):
        open_study("isbi", n_train=1, n_test=1, size_px=128, seed=0)


def test_a_network_that_finds_no_membrane_is_named(surveys):
    blind = SimpleNamespace(of=lambda name: np.zeros(0, dtype=np.int64), classes=np.zeros(0), targets=np.zeros((0, 2)))
    fields = surveys[0]
    images = tuple(
        ImageFields(one.image, one.membrane, one.probability, blind, one.attribution) for one in fields.images
    )
    empty = ConditionFields(fields.condition, fields.network, fields.field, images)
    with pytest.raises(InputError, match="finds too little membrane"):
        empty.areas()


def test_finished_maps_are_taken_from_the_work_folder(surveys, tmp_path):
    fields, kept = surveys[0], Integral(3, work_folder=tmp_path)
    one = fields.images[0]
    first = kept.attribute(fields.network, one.scaled, one.sample.targets)
    passes = []  # two of them recognise the network; three steps of the path would be more
    hook = fields.network.register_forward_pre_hook(lambda *_: passes.append(1))
    again = kept.attribute(fields.network, one.scaled, one.sample.targets)
    hook.remove()
    assert len(passes) == 2
    assert np.array_equal(first.maps, again.maps)
    assert np.array_equal(first.completeness_gap, again.completeness_gap)
    Integral(4, work_folder=tmp_path).attribute(fields.network, one.scaled, one.sample.targets)
    kept.attribute(fields.network, one.scaled, one.sample.targets[1:])
    kept.attribute(fields.network, one.scaled, one.sample.targets, np.full_like(one.scaled, 0.5))
    assert len(list((tmp_path / "maps").iterdir())) == 4


def test_the_score_of_a_linear_network_changes_evenly_along_the_path(surveys):
    fields, alphas = surveys[0], np.linspace(0, 1, 41)
    scores = fields.path_scores(fields.images[0], fields.images[0].sample.targets[0], alphas)
    assert np.allclose(np.diff(scores), np.diff(scores)[0], atol=1e-5)
    assert halfway(alphas, scores) == pytest.approx(0.5, abs=1e-4)


def test_a_network_that_saturates_is_half_way_early_and_both_directions_count():
    alphas = np.linspace(0, 1, 41)
    assert halfway(alphas, np.tanh(30 * alphas)) < 0.03
    assert halfway(alphas, np.tanh(30 * (alphas - 1))) > 0.97
    assert halfway(np.array([0.0, 0.5, 1.0]), np.array([0.0, 1.0, 0.0])) == pytest.approx(0.5)
    assert np.isnan(halfway(alphas, np.ones_like(alphas)))
