"""A person's corrections are applied as they were made, and everything else stays as it was."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import roifile
from wafer.navigation.found_wafers import found_wafer

from emseg.errors import InputError, UsageError
from emseg.wafer.formats.magc import MagcItem, read_magc, side_angle_deg, write_magc
from emseg.wafer.navigation.corrections import Edited, Edits, corrected, import_corrections, minutes_saved, read_edits
from emseg.wafer.navigation.exports import found_digest, read_found, write_wafer
from emseg.wafer.navigation.found import FoundWafer

SHIFT = (4.0, 3.0)  # rows, columns: 5 px


def plain(found: FoundWafer) -> str:
    return json.dumps(asdict(found), default=np.ndarray.tolist)


def edit_json(path: Path, change) -> Path:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    return path


def shifted(points: list) -> list:
    return [[x + SHIFT[1], y + SHIFT[0]] for x, y in points]


ADDED = [[350.0, 350.0], [380.0, 350.0], [380.0, 390.0], [350.0, 390.0]]  # over nothing: the last row has gaps


def in_labelme(document: dict) -> None:
    shapes = document["shapes"]
    shapes[2]["points"], shapes[3]["label"] = shifted(shapes[2]["points"]), "good"
    added = {"label": "fold", "points": ADDED, "shape_type": "polygon", "description": ""}
    document["shapes"] = [*shapes[:5], *shapes[6:], added]


def in_qupath(document: dict) -> None:
    features = document["features"]
    features[2]["geometry"]["coordinates"] = [shifted(features[2]["geometry"]["coordinates"][0])]
    features[3]["properties"]["classification"] = {"name": "good"}
    geometry = {"type": "Polygon", "coordinates": [[*ADDED, ADDED[0]]]}
    features.append({"type": "Feature", "geometry": geometry, "properties": {"classification": {"name": "fold"}}})
    del features[5]


def in_coco(document: dict) -> None:
    entries = document["annotations"]
    points = np.reshape(entries[2]["segmentation"][0], (-1, 2)).tolist()
    entries[2]["segmentation"] = [np.ravel(shifted(points)).tolist()]
    entries[3]["category_id"] = 1
    entries.append(entries[0] | {"id": 99, "category_id": 3, "segmentation": [np.ravel(ADDED).tolist()]})
    del entries[5]


def in_fiji(path: Path) -> None:
    regions = roifile.roiread(path)
    moved = regions[2].coordinates() + SHIFT[::-1]
    regions[2] = roifile.ImagejRoi.frompoints(moved.astype(np.float32), name=regions[2].name)
    regions[3].name = "good section 3"
    added = roifile.ImagejRoi.frompoints(np.array(ADDED, np.float32), name="fold")
    path.unlink()
    roifile.roiwrite(path, [*regions[:5], *regions[6:], added])


def in_magfinder(path: Path) -> None:
    """MagFinder knows no classes; it numbers the sections after a removed one anew."""
    magc = read_magc(path)
    items = list(magc.sections)
    polygon = tuple((x + SHIFT[1], y + SHIFT[0]) for x, y in items[2].polygon)
    items[2] = replace(items[2], polygon=polygon)
    groups = {}
    for group in ("sections", "rois", "focus", "magnets"):
        listed = items if group == "sections" else getattr(magc, group)
        kept = [one for one in listed if one.number != 5]
        groups[group] = tuple(replace(one, number=one.number - (one.number > 5)) for one in kept)
    groups["sections"] += (MagcItem(12, polygon=tuple(map(tuple, ADDED))),)
    order = tuple(one - (one > 5) for one in magc.stage_order if one != 5)
    write_magc(replace(magc, **groups, stage_order=(*order, 12), layout=(), other=()), path)


def in_napari_mass(document: dict) -> None:
    sections = document["sections"]
    sections["2"]["sample"]["polygon"] = shifted(sections["2"]["sample"]["polygon"])
    del sections["5"]
    sections["40"] = {"sample": {"polygon": ADDED}}


def edited(path: Path) -> Path:
    if path.name.endswith(".magc"):
        in_magfinder(path)
    elif path.suffix == ".zip":
        in_fiji(path)
    else:
        kinds = {".labelme.json": in_labelme, ".coco.json": in_coco, ".geojson": in_qupath}
        kinds |= {".mass.json": in_napari_mass}
        edit_json(path, next(change for suffix, change in kinds.items() if path.name.endswith(suffix)))
    return path


@pytest.mark.parametrize(
    "suffix", [".labelme.json", ".geojson", ".coco.json", ".rois.zip", ".magc", ".magfinder.magc", ".mass.json"]
)
def test_a_file_edited_elsewhere_is_applied(suffix: str, tmp_path: Path) -> None:
    """One section moved, one relabelled, one removed, one added: that is what is said, and what is written."""
    has_classes = "ma" not in suffix.split(".")[-1] and "mass" not in suffix
    found = found_wafer(13)
    write_wafer(found, tmp_path)
    after, changes, _ = import_corrections(tmp_path, edited(tmp_path / f"made{suffix}"))
    assert (changes.added, changes.removed, changes.others) == ((12,), (5,), ())
    assert changes.moved == ((2, pytest.approx(5, abs=0.01)),)
    assert changes.relabelled == (((3, "damaged", "good"),) if has_classes else ())
    assert changes.sentences()[:3] == ["1 added (12)", "1 removed (5)", "1 moved (2 by 5.0 px)"]
    assert plain(read_found(tmp_path)) == plain(after)
    assert len(after.sections) == 13
    old = [one for number, one in enumerate(found.sections) if number != 5]
    for number in (*range(2), *range(4, 12)):  # to the last bit
        assert plain(replace(found, sections=(after.sections[number],))) == plain(
            replace(found, sections=(old[number],))
        )
    moved, before = after.sections[2], found.sections[2]
    assert np.allclose(moved.corners, before.corners + SHIFT, atol=0.01)
    assert (moved.confidence, moved.reasons, moved.residual) == (1.0, (), None)
    assert moved.angle_deg == pytest.approx(before.angle_deg, abs=0.05)
    belongs = 0 if suffix.endswith(".magc") or "mass" in suffix else 1  # these files hold the regions themselves
    assert np.allclose(moved.regions[0].points, before.regions[0].points + np.multiply(SHIFT, belongs), atol=0.01)
    assert np.allclose(moved.magnet, np.array(before.magnet) + np.multiply(SHIFT, belongs), atol=0.01)
    assert after.sections[3].label == ("good" if has_classes else "damaged")
    assert (after.sections[12].label, after.sections[12].angle_deg) == ("fold" if has_classes else "good", None)
    assert sorted(after.stage_order) == list(range(13))
    others = [one for one in after.stage_order if one != 12]
    assert others == [one - (one > 5) for one in found.stage_order if one != 5]
    assert after.serial_order == tuple(one - (one > 5) for one in found.serial_order if one != 5)


def test_a_file_that_was_not_edited_changes_nothing(tmp_path: Path) -> None:
    found = found_wafer()
    for path in write_wafer(found, tmp_path)[2:]:
        after, changes, _ = import_corrections(tmp_path, path, out=tmp_path / path.name.replace(".", "_"))
        assert changes.sentences() == ["no changes"]
        assert plain(after) == plain(found)


def test_nothing_is_lost(tmp_path: Path) -> None:
    """What an import replaces, the edited file included, is copied first, to a folder of its own each time."""
    found = found_wafer()
    write_wafer(found, tmp_path)
    text = edited(tmp_path / "made.labelme.json").read_text()
    import_corrections(tmp_path, tmp_path / "made.labelme.json")
    assert plain(read_found(tmp_path / "earlier" / "1")) == plain(found)
    assert (tmp_path / "earlier" / "1" / "made.labelme.json").read_text() == text
    import_corrections(tmp_path, tmp_path / "made.geojson")
    assert (tmp_path / "earlier" / "2" / "made.geojson").exists()


def test_another_folder_leaves_the_first_as_it_was(tmp_path: Path) -> None:
    write_wafer(found_wafer(), tmp_path / "a")
    before = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    file = tmp_path / "edited.json"
    file.write_bytes(before["made.labelme.json"])
    edit_json(file, in_labelme)
    import_corrections(tmp_path / "a", file, out=tmp_path / "b")
    assert {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()} == before
    assert len(list((tmp_path / "b").iterdir())) == len(before)


def test_sections_that_were_not_in_the_file_are_not_removed(tmp_path: Path) -> None:
    """`find --class good` writes files of good sections only; importing one keeps the others."""
    found = found_wafer()
    write_wafer(found, tmp_path, classes=("good",))
    after, changes, _ = import_corrections(tmp_path, tmp_path / "made.magc")
    assert changes.sentences() == ["no changes"]
    assert len(after.sections) == len(found.sections)


@pytest.mark.parametrize("name", ["made.coco.json", "made.decisions.json"])
def test_files_with_all_classes_change_all_sections_whichever_were_exported(tmp_path: Path, name: str) -> None:
    """A decision about a folded section is applied, and no section is there twice, after `--class good`."""
    found = found_wafer()
    write_wafer(found, tmp_path, classes=("good",))
    other = next(k for k, one in enumerate(found.sections) if one.label != "good")
    if name == "made.decisions.json":
        document = decisions_of(found, decision(found, other, verdict="reject"), decision(found, other + 1))
        (tmp_path / name).write_text(json.dumps(document))
    else:
        edit_json(tmp_path / name, lambda document: document["annotations"].pop(other))
    after, changes, _ = import_corrections(tmp_path, tmp_path / name)
    assert (changes.added, changes.removed, changes.moved) == ((), (other,), ())
    assert len(after.sections) == len(found.sections) - 1


def test_a_section_moved_beyond_itself_keeps_its_number(tmp_path: Path) -> None:
    """Where the program keeps it, as labelme does in the description."""
    found = found_wafer()
    write_wafer(found, tmp_path)

    def far(document: dict) -> None:
        document["shapes"][11]["points"] = (np.array(ADDED) - 5).tolist()

    _, changes, _ = import_corrections(tmp_path, edit_json(tmp_path / "made.labelme.json", far))
    assert (changes.added, changes.removed) == ((), ())
    assert [number for number, _ in changes.moved] == [11]


def test_the_corners_of_a_redrawn_section_agree_with_the_others(tmp_path: Path) -> None:
    """Whatever corner and direction a person began with, corner 0 stays that of the tissue."""
    found = found_wafer()
    write_wafer(found, tmp_path)

    def redraw(document: dict) -> None:
        points = document["shapes"][4]["points"]
        document["shapes"][4]["points"] = shifted([points[k] for k in (2, 1, 0, 3)])

    after, _, _ = import_corrections(tmp_path, edit_json(tmp_path / "made.labelme.json", redraw))
    assert np.allclose(after.sections[4].corners, found.sections[4].corners + SHIFT, atol=0.01)
    assert after.sections[4].angle_deg == pytest.approx(found.sections[4].angle_deg, abs=0.05)


def test_an_outline_of_many_points_becomes_its_smallest_rectangle() -> None:
    found = found_wafer()
    corners = found.sections[0].corners
    many = np.concatenate([corners + SHIFT, corners[3:] * 0.5 + corners[:1] * 0.5 + SHIFT])
    others = (Edited(one.corners, None, k) for k, one in enumerate(found.sections) if k)
    edits = Edits((*others, Edited(many)))
    after, changes = corrected(found, edits)
    assert changes.moved == ((0, pytest.approx(5, abs=0.01)),)
    assert np.allclose(after.sections[0].corners, corners + SHIFT, atol=1e-6)
    assert np.array_equal(after.sections[0].outline, many)


def test_regions_landmarks_and_orders_drawn_in_magfinder_are_taken_over(tmp_path: Path) -> None:
    found = found_wafer()
    path = write_wafer(found, tmp_path)[3]
    magc = read_magc(path)
    roi = replace(magc.rois[7], polygon=((1.0, 2.0), (9.0, 2.0), (9.0, 8.0), (1.0, 8.0)))
    rois = (*magc.rois[:7], roi, *magc.rois[8:])
    order = tuple(reversed(magc.stage_order))
    write_magc(replace(magc, rois=rois, stage_order=order, landmarks=magc.landmarks[:2], layout=()), path)
    after, changes, _ = import_corrections(tmp_path, path)
    assert (changes.regions, changes.others) == ((7,), ("stage order", "landmarks"))
    assert np.array_equal(after.sections[7].regions[0].points, [(2, 1), (2, 9), (8, 9), (8, 1)])
    assert after.stage_order == order
    assert len(after.landmarks) == 2
    assert changes.sentences() == ["1 with other regions (7)", "other stage order", "other landmarks"]


def decisions_of(found: FoundWafer, *decisions: dict, **more: object) -> dict:
    head = {"emseg_decisions": 1, "wafer": found.name, "digest": found_digest(found)}
    return head | {"decisions": list(decisions)} | more


def decision(found: FoundWafer, number: int, **change: object) -> dict:
    one = found.sections[number]
    corners = one.corners[:, ::-1].round(2).tolist()
    return {"section": number, "verdict": "accept", "label": one.label, "corners_xy": corners} | change


def test_decisions_of_the_review_sheet_are_applied(tmp_path: Path) -> None:
    """Accepted, rejected, moved, relabelled, added, and a miss that was found after all; the rest stays."""
    found = found_wafer(13)
    extra = replace(found.sections[12], confidence=0.2, reasons=("a low score",))
    found = replace(found, sections=found.sections[:12], stage_order=None, candidates=(extra, extra))
    write_wafer(found, tmp_path)
    corners = shifted(decision(found, 2)["corners_xy"])
    miss = {"verdict": "accept", "label": "good", "corners_xy": extra.corners[:, ::-1].round(2).tolist()}
    made = [
        decision(found, 0),
        decision(found, 1, verdict="reject"),
        decision(found, 2, corners_xy=corners),
        decision(found, 3, label="good"),
        miss | {"candidate": 0},
        miss | {"candidate": 1, "verdict": "reject"},
        {"verdict": "accept", "label": "fold", "corners_xy": ADDED},
    ]
    file = tmp_path / "made.decisions.json"
    file.write_text(json.dumps(decisions_of(found, *made)))
    after, changes, _ = import_corrections(tmp_path, file)
    assert (changes.added, changes.removed, changes.n_reviewed) == ((11, 12), (1,), 7)
    assert changes.moved == ((2, pytest.approx(5, abs=0.02)),)
    assert changes.relabelled == ((3, "damaged", "good"),)
    assert (after.sections[0].confidence, after.sections[0].reasons) == (1.0, ())
    assert after.sections[3].confidence == found.sections[4].confidence
    assert (after.sections[11].label, after.sections[11].reasons, after.candidates) == ("good", (), ())
    assert after.sections[12].angle_deg == pytest.approx(side_angle_deg(after.sections[12].corners))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"digest": "0"}, "made before its sections were changed"),
        ({"wafer": "other"}, "must be of this result; it is of other"),
        ({"decisions": [{"section": 0}]}, "damaged"),
        ({"decisions": 3}, "damaged"),
        ({"emseg_decisions": 2}, "damaged"),
    ],
)
def test_decisions_of_another_result_are_refused(change: dict, message: str, tmp_path: Path) -> None:
    found = found_wafer()
    write_wafer(found, tmp_path)
    (tmp_path / "d.json").write_text(json.dumps(decisions_of(found, decision(found, 0), **change)))
    with pytest.raises(InputError, match=message):
        import_corrections(tmp_path, tmp_path / "d.json")
    assert not (tmp_path / "earlier").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"section": 40}, "`section` must be below 12; decision 0 .* has 40"),
        ({"label": "goood"}, "must be one of good, .* has 'goood'"),
        ({"corners_xy": [[0, 0], [9, 9], [0, 9], [9, 0]]}, "must not cross itself"),
        ({"corners_xy": [[0, 0], [9, 9], [0, 9]]}, "damaged"),
        ({"corners_xy": [[1e9, 0], [9, 9], [0, 9], [0, 9]]}, "reaches beyond"),
        ({"verdict": "maybe"}, "`decisions.0.verdict` must be one of 'accept', 'reject'"),
    ],
)
def test_a_damaged_decision_is_refused(change: dict, message: str, tmp_path: Path) -> None:
    found = found_wafer()
    write_wafer(found, tmp_path)
    (tmp_path / "d.json").write_text(json.dumps(decisions_of(found, decision(found, 0, **change))))
    with pytest.raises(InputError, match=message):
        read_edits(tmp_path / "d.json", found, "made.png")


def test_a_file_of_another_wafer_is_refused(tmp_path: Path) -> None:
    write_wafer(found_wafer(), tmp_path / "a")
    write_wafer(replace(found_wafer(), height=300), tmp_path / "b")
    with pytest.raises(InputError, match="it is of an image of 300 x 400 px"):
        import_corrections(tmp_path / "a", tmp_path / "b" / "made.labelme.json")

    def elsewhere(document: dict) -> None:
        for number, feature in enumerate(document["features"]):
            feature["properties"]["name"] = ""
            corner = np.array([[390, number * 9], [396, number * 9], [396, number * 9 + 4], [390, number * 9]])
            feature["geometry"]["coordinates"] = [(corner + 1).tolist()]

    file = edit_json(tmp_path / "a" / "made.geojson", elsewhere)
    with pytest.raises(InputError, match="not one of 12 overlaps one of the result"):
        import_corrections(tmp_path / "a", file)


def test_an_unknown_class_is_refused_unless_it_is_named(tmp_path: Path) -> None:
    write_wafer(found_wafer(), tmp_path)

    def rename(document: dict) -> None:
        document["shapes"][0]["label"] = "goood"

    file = edit_json(tmp_path / "made.labelme.json", rename)
    with pytest.raises(InputError, match=r"is 'goood'\. Did you mean 'good'.*--classes"):
        import_corrections(tmp_path, file)
    classes = ("good", "incomplete", "fold", "damaged", "goood")
    after, changes, _ = import_corrections(tmp_path, file, class_names=classes)
    assert changes.relabelled == ((0, "good", "goood"),)
    assert after.class_names == classes
    with pytest.raises(UsageError, match="`classes` must be one of 'good'"):
        import_corrections(tmp_path, file, class_names=("good",))


def test_minutes_saved_is_drawing_less_reviewing() -> None:
    assert minutes_saved(433, 20) == pytest.approx((433 * 10 - 20 * 3) / 60)
    assert minutes_saved(10, 10, review_s=20) < 0
    assert minutes_saved(0, 0, other_min=2) == -2
    with pytest.raises(UsageError, match="`by_hand_s` must be a finite number at least 0"):
        minutes_saved(1, 1, by_hand_s=-1)
