"""A .mass.json file comes back as it was."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wafer.made_wafers import random_wafer

from emseg.errors import InputError
from emseg.wafer.formats.magc import read_magc
from emseg.wafer.formats.mass_json import (
    MassSection,
    MassShape,
    MassWafer,
    mass_from_sections,
    read_mass_json,
    sections_from_mass,
    write_mass_json,
)

SMALL: dict[str, Any] = {
    "created": "today",
    "source": "hand",
    "sections": {
        "4": {
            "sample": {"polygon": [[10, 10], [50.5, 10], [50.5, 30]], "center": [30, 20.5], "angle": 90, "x": [1]},
            "rois": {"0": {"polygon": [[1, 2]]}},
            "focus": {"0": {"location": [1, 2, 3]}},
            "magnet": {"polygon": [[5.0, 6]]},
            "quality": "good",
        }
    },
    "landmarks": {"0": {"source": {"location": [1, 2]}, "target": {"location": [3, 4]}}},
    "serial_order": [4],
    "stage_order": "[]",
    "program": {"version": 2},
}


def write(folder: Path, content: Any) -> Path:
    path = folder / "wafer.mass.json"
    path.write_text(json.dumps(content))
    return path


def test_everything_comes_back_with_unknown_keys_at_every_level(tmp_path: Path) -> None:
    wafer = read_mass_json(write(tmp_path, SMALL))
    assert wafer.sections["4"].model_extra == {"quality": "good"}
    assert wafer.model_extra == {"program": {"version": 2}}
    write_mass_json(wafer, tmp_path / "again.mass.json")
    assert json.loads((tmp_path / "again.mass.json").read_text()) == SMALL


def test_the_real_file_is_written_back_byte_for_byte_and_agrees_with_its_magc_file(
    real_data: Path, tmp_path: Path
) -> None:
    source = real_data / "magc_wafer" / "wafer_example1.mass.json"
    wafer = read_mass_json(source)
    write_mass_json(wafer, tmp_path / "again.mass.json")
    assert (tmp_path / "again.mass.json").read_bytes() == source.read_bytes()
    magc = read_magc(source.with_name("wafer_example1.magc"))
    for section, item, roi in zip(wafer.sections.values(), magc.sections, magc.rois, strict=True):
        assert section.sample == MassShape(polygon=item.polygon, center=item.center, angle=item.angle)
        assert section.rois == {"0": MassShape(polygon=roi.polygon, center=roi.center, angle=roi.angle)}
    assert wafer.stage_order == magc.stage_order


points = st.lists(st.one_of(st.floats(-1e6, 1e6), st.integers(-(10**6), 10**6)), min_size=2, max_size=3)
shapes = st.fixed_dictionaries(
    {},
    optional={
        "polygon": st.lists(points, max_size=3),
        "center": points,
        "angle": st.floats(-180, 180) | st.none(),
        "location": points,
        "a": st.integers() | st.text(max_size=3),
    },
)
by_key = st.dictionaries(st.integers(0, 99).map(str), shapes, max_size=2)
sections = st.fixed_dictionaries({}, optional={"sample": shapes, "rois": by_key, "focus": by_key, "magnet": shapes})


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.fixed_dictionaries(
        {"sections": st.dictionaries(st.integers(0, 99).map(str), sections, max_size=2)},
        optional={
            "landmarks": st.dictionaries(st.sampled_from(["0", "1"]), by_key, max_size=2),
            "serial_order": st.one_of(st.none(), st.just("[]"), st.lists(st.integers(0, 9), max_size=3)),
        },
    )
)
def test_any_file_is_written_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, content: Any) -> None:
    path = write(tmp_path_factory.getbasetemp(), content)
    write_mass_json(read_mass_json(path), path)
    assert json.loads(path.read_text()) == content


def test_samples_become_sections(tmp_path: Path) -> None:
    sections = sections_from_mass(read_mass_json(write(tmp_path, SMALL)), name="small", height=100, width=120)
    (section,) = sections.sections
    np.testing.assert_array_equal(section.polygon, [(10, 10), (10, 50.5), (30, 50.5)])
    assert (section.angle_deg, section.serial_number) == (90, 0)


def test_sections_come_back_through_a_file(tmp_path: Path) -> None:
    made = random_wafer(5)
    write_mass_json(mass_from_sections(made), tmp_path / "made.mass.json")
    back = sections_from_mass(
        read_mass_json(tmp_path / "made.mass.json"), name=made.name, height=made.height, width=made.width
    )
    for before, after in zip(made.sections, back.sections, strict=True):
        assert after.area_px == pytest.approx(before.area_px, abs=0.1)
        assert after.angle_deg == pytest.approx(before.angle_deg, abs=0.0005)
        assert after.serial_number == before.serial_number


def test_an_unknown_order_is_an_empty_list(tmp_path: Path) -> None:
    """As in SBEMimage's example; its reader takes the text "[]" of `.magc` files for an order."""
    write_mass_json(mass_from_sections(random_wafer(5)), tmp_path / "made.mass.json")
    assert json.loads((tmp_path / "made.mass.json").read_text())["stage_order"] == []


def spoilt(*keys: str, to: Any) -> dict[str, Any]:
    content = json.loads(json.dumps(SMALL))
    place = content
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = to
    return dict(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "is not a .mass.json file"),
        ({"sections": []}, "is not a .mass.json file"),
        ({"shapes": []}, "is not a .mass.json file, with an object `sections`; it is a labelme file"),
        (spoilt("sections", "4", to=[]), "sections.4: .*; got"),
        (spoilt("sections", "4", "sample", to=3), "sections.4.sample: .*; got 3"),
        (spoilt("sections", "4", "sample", "polygon", to="x"), "sections.4.sample.polygon: .*; got x"),
        (spoilt("sections", "4", "sample", "polygon", to=[[1]]), r"sections.4.sample.polygon.0: .*at least 2 items"),
        (spoilt("sections", "4", "sample", "center", to=[1, "2"]), r"sections.4.sample.center.1.*; got 2"),
        (spoilt("sections", "4", "sample", "angle", to="90"), "sections.4.sample.angle.*; got 90"),
        (spoilt("sections", "4", "rois", to=[]), "sections.4.rois: .*; got"),
        (spoilt("landmarks", to=[]), "landmarks: .*; got"),
        (spoilt("serial_order", to=[1, "2"]), "serial_order.*; got 2"),
    ],
)
def test_a_spoilt_file_is_named(content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_mass_json(write(tmp_path, content))


def test_sections_that_cannot_be_outlines_are_named() -> None:
    with pytest.raises(InputError, match="w has no section"):
        sections_from_mass(MassWafer(sections={}), name="w", height=10, width=10)
    with pytest.raises(InputError, match="must have numbers as keys; w has 'first'"):
        sections_from_mass(MassWafer(sections={"first": MassSection()}), name="w", height=10, width=10)
    with pytest.raises(InputError, match="section 0 of w has no outline"):
        sections_from_mass(MassWafer(sections={"0": MassSection()}), name="w", height=10, width=10)
