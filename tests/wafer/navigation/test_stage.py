"""Landmarks give the stage's micrometres and name what is wrong with them; regions of one section reach all."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from wafer.navigation.found_wafers import ribbon, section_at, wafer_of

from emseg.data.registry import dataset_path
from emseg.errors import InputError, UsageError
from emseg.wafer.annotated_wafer import load_magc_wafer
from emseg.wafer.formats.magc import read_magc
from emseg.wafer.navigation.found import FoundSection, Region
from emseg.wafer.navigation.stage import Landmarks, fit_stage, propagate, read_landmarks, read_regions

PIXELS = np.array([(200.0, 300.0), (3800.0, 500.0), (3500.0, 3700.0), (350.0, 3300.0), (1900.0, 2500.0)])
ANYWHERE = np.random.default_rng(5).uniform(0, 4000, (50, 2))


def stage_of(points, *, degrees=12.0, scale=2.5, mirror=False, shear=0.0, shift=(41_000.0, -7_500.0)):
    """An invented stage: (row, column) in pixels to (x, y) in um."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    linear = scale * np.array([[c, -s], [s, c]]) @ np.array([[1.0, shear], [0.0, 1.0 + shear]])
    return np.asarray(points)[:, ::-1] * ((1, -1) if mirror else (1, 1)) @ linear.T + shift


def marks(n=5, *, noise=0.0, seed=0, **stage):
    """The first n landmarks, at places on the stage that are off by `noise` um."""
    target = stage_of(PIXELS[:n], **stage) + np.random.default_rng(seed).normal(0, noise, (n, 2))
    return Landmarks(tuple("ABCDE"[:n]), PIXELS[:n], target)


@settings(max_examples=40, deadline=None)
@given(
    degrees=st.floats(-180, 180),
    scale=st.floats(0.05, 200),
    mirror=st.booleans(),
    n=st.integers(3, 5),
    shift=st.tuples(*[st.floats(-1e5, 1e5)] * 2),
)
def test_any_similarity_is_found(degrees, scale, mirror, n, shift):
    """Of either hand, from three landmarks on; a mirrored one is said to be."""
    stage = {"degrees": degrees, "scale": scale, "mirror": mirror, "shift": shift}
    transform = fit_stage(marks(n, **stage))
    assert transform.kind == "similarity"
    assert transform.um_per_px == pytest.approx(scale)
    np.testing.assert_allclose(transform.to_stage(ANYWHERE), stage_of(ANYWHERE, **stage), atol=1e-4, rtol=1e-6)
    assert transform.residuals_um.max() < 1e-4
    assert [warning[:21] for warning in transform.warnings] == ["the stage is mirrored"] * mirror


@settings(max_examples=25, deadline=None)
@given(degrees=st.floats(-180, 180), shear=st.floats(0.01, 0.06), n=st.integers(4, 5), seed=st.integers(0, 99))
def test_an_affine_stage_is_found_where_it_fits_significantly_better(degrees, shear, n, seed):
    stage = {"degrees": degrees, "shear": shear}
    transform = fit_stage(marks(n, noise=0.01, seed=seed, **stage))
    assert transform.kind == "affine"
    np.testing.assert_allclose(transform.to_stage(ANYWHERE), stage_of(ANYWHERE, **stage), atol=1.0)


def test_noise_alone_seldom_makes_a_stage_affine():
    """One in a hundred by the level of the test; at most 5 of 100 here."""
    kinds = [fit_stage(marks(noise=2.0, seed=seed)).kind for seed in range(100)]
    assert kinds.count("affine") <= 5


def test_the_kind_can_be_chosen():
    sheared = marks(shear=0.05)
    assert fit_stage(sheared, kind="similarity").residuals_um.max() > 50
    assert fit_stage(marks(3, shear=0.05), kind="affine").residuals_um.max() < 1e-6
    with pytest.raises(UsageError, match="`kind` must be one of"):
        fit_stage(sheared, kind="rigid")


def test_the_error_at_new_places_is_near_that_of_the_landmarks():
    """With noise of 2 um a coordinate, over 50 draws: residuals are below the left-out ones, which cover the error."""
    fits = [fit_stage(marks(noise=2.0, seed=seed), kind="similarity") for seed in range(50)]
    error = [np.linalg.norm(fit.to_stage(ANYWHERE) - stage_of(ANYWHERE), axis=1).mean() for fit in fits]
    residual, left_out = (np.mean([getattr(fit, name) for fit in fits]) for name in ("residuals_um", "left_out_um"))
    assert 1.0 < np.mean(error) < 3.0
    assert residual < left_out
    assert np.mean(error) < left_out < 3 * residual


@settings(max_examples=25, deadline=None)
@given(which=st.integers(0, 4), degrees=st.floats(0, 360), away=st.floats(60, 5000), n=st.integers(4, 5))
def test_an_outlier_is_named(which, degrees, away, n):
    assume(which < n)
    landmarks = marks(n, noise=0.3, seed=1)
    target = landmarks.stage_um.copy()
    target[which] += away * np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])
    transform = fit_stage(replace(landmarks, stage_um=target))
    assert transform.warnings[0].startswith(f"landmark {'ABCDE'[which]} is an outlier")
    assert transform.left_out_um[which] == pytest.approx(away, abs=3)


def test_noise_alone_seldom_makes_an_outlier():
    warnings = [fit_stage(marks(noise=2.0, seed=seed)).warnings for seed in range(100)]
    assert sum(map(bool, warnings)) <= 5


@pytest.mark.parametrize("n", [3, 4, 5])
@pytest.mark.parametrize(("one", "other"), [(0, 1), (0, 2), (1, 2)])
def test_a_swapped_pair_is_named(n, one, other):
    landmarks = marks(n, noise=0.5)
    target = landmarks.stage_um.copy()
    target[[one, other]] = target[[other, one]]
    with pytest.raises(InputError, match=f"landmarks {'ABC'[one]} and {'ABC'[other]} seem to be swapped"):
        fit_stage(replace(landmarks, stage_um=target))


@pytest.mark.parametrize("n", [0, 1, 2])
def test_fewer_than_three_landmarks_are_refused(n):
    with pytest.raises(InputError, match=f"at least three landmarks; got {n}"):
        fit_stage(marks(n))


@pytest.mark.parametrize("aside", [0.0, 20.0])
@pytest.mark.parametrize("frame", ["image", "stage"])
def test_collinear_landmarks_are_refused(aside, frame):
    """Also nearly collinear ones: 20 pixels off a line of 3,000."""
    pixels = np.array([(100.0, 100.0), (1500.0, 1500.0 + aside), (3000.0, 3000.0)])
    landmarks = Landmarks(("A", "B", "C"), pixels, stage_of(pixels))
    other = {"stage_um": stage_of(PIXELS[:3])} if frame == "image" else {"pixels": PIXELS[:3]}
    with pytest.raises(InputError, match=f"must not be collinear; A, B, C are in the {frame}"):
        fit_stage(replace(landmarks, **other))


def test_a_wrong_scale_is_said():
    assert fit_stage(marks(), pixel_size_um=2.4).warnings == ()
    (warning,) = fit_stage(marks(), pixel_size_um=2.0).warnings
    assert warning.startswith("a pixel is 2.5 um wide by the landmarks and 2 um by the pixel size")


CSV = "name,x_px,y_px,x_um,y_um\nA,1,2,10,20\nB,3.5,4,30,-40\n"


@pytest.mark.parametrize(
    "text",
    [
        CSV,
        "\ufeff" + CSV.replace(",", " , ").replace("\n", "\r\n\r\n"),
        CSV.replace(",", ";"),
        CSV.replace(",", "\t"),
        "y_um,note,name,x_px,y_px,x_um\n20,far,A,1,2,10\n-40,,B,3.5,4,30\n",
    ],
    ids=["plain", "spaced", "semicolons", "tabs", "other columns"],
)
def test_landmarks_are_read_from_csv(tmp_path, text):
    (tmp_path / "marks.csv").write_text(text, encoding="utf-8", newline="")
    landmarks = read_landmarks(tmp_path / "marks.csv")
    assert landmarks.names == ("A", "B")
    np.testing.assert_array_equal(landmarks.pixels, [(2, 1), (4, 3.5)])
    np.testing.assert_array_equal(landmarks.stage_um, [(10, 20), (30, -40)])


def test_landmarks_of_the_wafer_need_stage_places_alone(tmp_path):
    path = tmp_path / "marks.csv"
    path.write_text("name,x_um,y_um\nA,10,20\nB,30,-40\n")
    known = np.array([(5.0, 6.0), (7.0, 8.0)])
    np.testing.assert_array_equal(read_landmarks(path, known).pixels, known)
    with pytest.raises(InputError, match="it lacks x_px"):
        read_landmarks(path)
    with pytest.raises(InputError, match=r"it lacks x_px \(the wafer has 3 landmarks, the file 2\)"):
        read_landmarks(path, PIXELS[:3])


def test_landmarks_are_read_from_mass_json(tmp_path):
    path = tmp_path / "wafer.mass.json"
    mark = {"source": {"location": [1.0, 2.0]}, "target": {"location": [10.0, 20.0, 3.0]}}
    path.write_text(json.dumps({"sections": {}, "landmarks": {"0": mark}}))
    landmarks = read_landmarks(path)
    np.testing.assert_array_equal(landmarks.pixels, [(2, 1)])
    np.testing.assert_array_equal(landmarks.stage_um, [(10, 20)])
    path.write_text(json.dumps({"sections": {}, "landmarks": {"0": {"source": mark["source"]}}}))
    with pytest.raises(InputError, match=r"`x_um` of landmark 0 in .* must be a finite number; it is ''"):
        read_landmarks(path)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "must have the columns name, x_px, y_px, x_um, y_um; it lacks name"),
        ("name,x_px,y_px,x_um\nA,1,2,3\n", "it lacks y_um"),
        (CSV.replace("3.5", "3,5"), "as many values as the first, numbers with a decimal point"),
        (CSV.replace("-40", "north"), "`y_um` of landmark B in .* must be a finite number; it is 'north'"),
        (CSV.replace("-40", "nan"), "`y_um` of landmark B in .* must be a finite number; it is 'nan'"),
        (CSV.replace("-40", ""), "`y_um` of landmark B in .* must be a finite number; it is ''"),
        (CSV.replace("B", "A"), "must have different names; .* has 'A' more than once"),
        (CSV.replace("x_px,", "").replace("A,1,", "A,").replace("B,3.5,", "B,"), "it lacks x_px"),
        ("name,x_px,y_px,x_um,y_um\nA,1,2,5,3,4\n", "as many values as the first"),
        ("name,x_px,y_px,x_um,y_um\nA,1\n", "as many values as the first"),
    ],
)
def test_a_faulty_landmark_file_is_refused(tmp_path, text, fault):
    (tmp_path / "marks.csv").write_text(text)
    with pytest.raises(InputError, match=fault):
        read_landmarks(tmp_path / "marks.csv")


ROI = Region("roi", np.array([(-10.0, -20.0), (15.0, -20.0), (15.0, 25.0)]))
FOCUS = Region("focus", np.array([(0.0, 0.0), (20.0, 30.0)]))


def on(section, region):
    """A region given from the middle of an upright section, on a section at any angle."""
    turn = np.radians(section.angle_deg - section_at(0, 0).angle_deg)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return region.points @ rotation + section.corners.mean(0) - section_at(0, 0).corners.mean(0) @ rotation


def test_regions_of_one_section_reach_all():
    sections = [*ribbon(5, 900, 900, 30, bend_deg=10), section_at(2000, 500, -170)]
    found = wafer_of(sections)
    drawn = [Region("roi", on(sections[2], ROI)), Region("focus", on(sections[2], FOCUS))]
    carried = propagate(found, drawn)
    assert carried.notes == ()
    for one in carried.sections:
        assert [region.kind for region in one.regions] == ["roi", "focus"]
        for region, wanted in zip(one.regions, (ROI, FOCUS), strict=True):
            np.testing.assert_allclose(region.points, on(one, wanted), atol=1e-9)


def test_sections_of_unknown_angle_get_no_regions():
    sections = [section_at(500, 500), replace(section_at(900, 900, 40), angle_deg=None)]
    carried = propagate(wafer_of(sections), [Region("roi", on(sections[0], ROI))])
    assert [len(one.regions) for one in carried.sections] == [1, 0]
    assert carried.notes == ("1 sections have no known angle, and so no regions",)


def test_regions_off_all_sections_are_refused():
    with pytest.raises(InputError, match="regions must lie on a section; drawn has none at row, column 3000, 3000"):
        propagate(wafer_of([section_at(500, 500)]), [Region("focus", np.array([(3000.0, 3000.0)]))])
    with pytest.raises(UsageError, match="`section` must be from 0 to 0; got 1"):
        propagate(wafer_of([section_at(500, 500)]), [ROI], 1)


MAGC = """[sections]
number = 2
[sections.0000]
polygon = 0,0,9,0,9,9,0,9
[sections.0007]
polygon = 20,0,29,0,29,9,20,9
[rois.0007]
polygon = 21,1,25,1,25,5
[focus.0007]
polygon = 22,2,24,4
"""
LABELME = {"shapes": [{"label": "roi", "points": [[21, 1], [25, 1], [25, 5]], "shape_type": "polygon"}]}
LABELME["shapes"] += [{"label": "Focus", "points": [[22, 2], [24, 4]], "shape_type": "linestrip"}]
RING = [[21, 1], [25, 1], [25, 5], [21, 1]]
GEOJSON = {"type": "FeatureCollection", "features": []}
for geometry in ({"type": "Polygon", "coordinates": [RING]}, {"type": "MultiPoint", "coordinates": [[22, 2], [24, 4]]}):
    about = {"name": "focus"} if geometry["type"] == "MultiPoint" else {}
    GEOJSON["features"].append({"type": "Feature", "properties": about, "geometry": geometry})
MASS_SECTION = {"rois": {"0": {"polygon": RING[:3]}}, "focus": {"0": {"location": [22, 2]}, "1": {"location": [24, 4]}}}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.magc", MAGC),
        ("b.magc", MAGC.replace("sections.", "section.").replace("rois.0007", "roi.0007.00")),
        ("a.mass.json", {"sections": {"3": {}, "7": MASS_SECTION}}),
        ("a.geojson", GEOJSON),
        ("a.json", LABELME),
    ],
)
def test_regions_are_read_from_each_format(tmp_path, name, content):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    roi, focus = read_regions(path)
    assert (roi.kind, focus.kind) == ("roi", "focus")
    np.testing.assert_array_equal(roi.points, [(1, 21), (1, 25), (5, 25)])
    np.testing.assert_array_equal(focus.points, [(2, 22), (4, 24)])


@pytest.mark.parametrize("content", ['{"shapes": [{"label": "roi"}]}', '{"features": [{"geometry": null}]}'])
def test_damaged_drawings_are_refused(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match=r"a\.json is a truncated or damaged"):
        read_regions(tmp_path / "a.json")


def test_regions_on_several_sections_need_a_choice(tmp_path):
    path = tmp_path / "a.magc"
    path.write_text(MAGC + "[rois.0000]\npolygon = 1,1,5,1,5,5\n")
    with pytest.raises(UsageError, match=r"regions on 2 sections\. Choose one with `section`"):
        read_regions(path)
    assert len(read_regions(path, 0)) == 1
    with pytest.raises(InputError, match="no regions on section 3"):
        read_regions(path, 3)
    (tmp_path / "a.roi").write_bytes(b"Iout" + bytes(60))
    with pytest.raises(InputError, match=r"regions must be in a \.magc"):
        read_regions(tmp_path / "a.roi")


def test_the_magc_wafer_reaches_an_invented_stage(real_data):
    """Four landmarks measured to 2 um place all 433 centres to 4 um; carried regions match the file's."""
    magc = read_magc(dataset_path("magc_wafer") / "wafer_example1.magc")
    pixels = np.array([mark.location[::-1] for mark in magc.landmarks])
    noise = np.random.default_rng(2).normal(0, 2.0, (4, 2))
    transform = fit_stage(Landmarks(("0", "1", "2", "3"), pixels, stage_of(pixels, mirror=True) + noise))
    sections = load_magc_wafer()[1].sections
    centers = np.array([one.center for one in sections])
    error = np.linalg.norm(transform.to_stage(centers) - stage_of(centers, mirror=True), axis=1)
    assert transform.kind == "similarity"
    assert error.max() < 4
    found = wafer_of([FoundSection(one.polygon, one.polygon, "good", 1.0, angle_deg=one.angle_deg) for one in sections])
    carried = propagate(found, read_regions(dataset_path("magc_wafer") / "wafer_example1.magc", 0), 0)
    own = np.array([np.mean(roi.polygon, axis=0)[::-1] for roi in magc.rois])
    off = np.linalg.norm([one.regions[0].points.mean(0) for one in carried.sections] - own, axis=1)
    assert np.median(off) < 1
    assert off.max() < 3
