"""Networks that the book keeps: found with the threshold chosen for them, refused where anything is changed."""

import pytest

from chapters.competition_gap import (
    FOLDER,
    find_network,
    plot_errors,
    predict_examples,
    report_examples,
)
from emseg.errors import InputError
from emseg.files import digest_of_file, find_root, write_atomically, write_json
from emseg.membrane.dataset.known_sets import synthetic_track, tissue_seed
from emseg.membrane.networks import NetworkDesign, build_network, load_network, save_network
from emseg.runs.gathering import RESULTS_FOLDER, read_record
from emseg.runs.session import Run

KEPT = [("synthetic", "track1"), ("synthetic", "isbi_like")]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    design = NetworkDesign(encoder="plain", base_channels=4, encoder_depth=2)
    path = tmp_path_factory.mktemp("trained") / "weights.safetensors"
    save_network(build_network(design, seed=0), path)
    return path


def test_a_data_set_without_a_network_has_none(tmp_path):
    assert find_network("synthetic", "track1", root=tmp_path) is None
    assert find_network("isbi2012", "") is None


def test_weights_that_are_not_those_described_are_refused(weights, tmp_path):
    place = tmp_path / FOLDER / "synthetic_track1_unet.safetensors"
    write_json(place.with_suffix(".json"), {"cell": "a", "threshold": 0.5, "sha256": digest_of_file(weights)})
    write_atomically(place, weights.read_bytes())
    assert find_network("synthetic", "track1", root=tmp_path).threshold == 0.5
    place.write_bytes(b"other weights")
    with pytest.raises(InputError, match="by its SHA-256; it is another"):
        find_network("synthetic", "track1", root=tmp_path)


@pytest.mark.parametrize(("data", "track"), KEPT)
def test_the_books_networks_are_small_synthetic_and_say_where_they_come_from(data, track):
    kept = find_network(data, track)
    network = load_network(kept.weights)
    assert sum(one.numel() for one in network.parameters()) == kept.about["n_parameters"] < 200_000
    assert kept.weights.stat().st_size < 1_000_000
    assert kept.about["parameters"]["track"] == track
    assert {use["kind"] for use in kept.about["data"]} == {"synthetic"}
    cell = find_root() / RESULTS_FOLDER / kept.about["chapter"] / kept.about["profile"] / f"{kept.cell}.json"
    if cell.is_file():  # the record of the same cell, which another machine may have made
        metrics = read_record(cell)["metrics"]
        assert read_record(cell)["data"][0]["fingerprint"] == kept.about["data"][0]["fingerprint"]
        assert metrics["test_membrane_f1"]["value"] == pytest.approx(kept.about["test_membrane_f1"], abs=0.02)


@pytest.mark.parametrize(("data", "track"), KEPT)
def test_no_image_of_the_gallery_shows_tissue_that_its_network_learned_from(data, track):
    of = find_network(data, track).about["parameters"]
    n = synthetic_track(track).counts
    learned = {
        tissue_seed(of["data_seed"], part, place)
        for part, k in zip(("train", "validation"), n, strict=False)
        for place in range(of[f"n_{part}"] or k)
    }
    assert not learned & {tissue_seed(seed, "test", 0) for seed in range(1000)}


def test_both_synthetic_sets_are_predicted_by_their_networks_far_above_the_ridges():
    examples = predict_examples("synthetic", size_px=384, seed=2)
    assert [one.key for one in examples] == ["track1", "isbi_like"]
    sides = [one.image.shape[0] * one.pixel_size_nm for one in examples]
    assert sides[0] == pytest.approx(sides[1], rel=0.01)
    for one, (data, track) in zip(examples, KEPT, strict=True):
        assert one.predictor == f"the kept network {find_network(data, track).cell}"
        assert one.scores.membrane.f1 > 0.8
    run = Run("urisc/urisc_competition", seed=2)
    report_examples(run, examples)
    for one in examples:
        assert run.metrics[f"example_{one.key}_membrane_f1"].value == one.scores.membrane.f1
        assert one.predictor in run.metrics[f"example_{one.key}_broken"].label
    titles = [ax.get_title(loc="left") for ax in plot_errors(examples).axes]
    kinds = [f"{one.title}: {kind}" for one in examples for kind in ("false", "missed")]
    assert [title for title in titles if title] == kinds


def test_given_weights_and_their_threshold_win_over_the_kept_ones(weights):
    low, high = (
        predict_examples("synthetic", weights=str(weights), threshold=threshold, size_px=128)
        for threshold in (0.0, 1.0)
    )
    for all_membrane, none in zip(low, high, strict=True):
        assert all_membrane.predictor == none.predictor == "weights"
        assert all_membrane.scores.membrane.recall == 1
        assert none.scores.membrane.recall == 0


def test_where_no_network_is_kept_ridges_predict_and_say_so(monkeypatch):
    monkeypatch.setattr("chapters.competition_gap.find_network", lambda *_: None)
    example, _ = predict_examples("synthetic", size_px=256, seed=3)
    assert example.predictor == "dark ridges, for no network is kept for this data set"
    assert 0.3 < example.scores.membrane.f1 < 1
    assert example.codes.shape == (256, 256)
