"""Finding and measuring the images of folders."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from emseg.images import find_images, natural_key
from emseg.sharpness import sharpness, survey


def image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (12, 15), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in (1, 2, 10):
        Image.fromarray(image(number)).save(tmp_path / f"section_{number}.png")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.png").write_bytes(b"no image")
    (tmp_path / "below").mkdir()
    tifffile.imwrite(tmp_path / "below" / "stack.TIF", np.stack([image(20), image(21)]), photometric="minisblack")
    return tmp_path


def test_numbers_in_names_sort_as_numbers():
    names = ["s10", "s9", "S8", "s010b", "s2/x3", "s2/x20", "10", "9", "s\u00b2"]  # a superscript is no number
    ordered = [str(path) for path in sorted(map(Path, names), key=natural_key)]
    assert ordered == ["9", "10", "s2/x3", "s2/x20", "S8", "s9", "s10", "s010b", "s\u00b2"]


def test_a_folder_stands_for_its_images_in_natural_order(folder):
    paths, problems = find_images([str(folder)])
    assert [path.name for path in paths] == ["section_1.png", "section_2.png", "section_10.png"]
    assert problems == []


def test_recursion_reaches_folders_below_and_extensions_ignore_case(folder):
    paths, _ = find_images([str(folder)], recursive=True)
    assert [path.name for path in paths] == ["stack.TIF", "section_1.png", "section_2.png", "section_10.png"]


def test_patterns_and_repeated_names_give_each_file_once(folder):
    paths, problems = find_images([f"{folder}/section_1*.png", str(folder / "section_1.png")])
    assert [path.name for path in paths] == ["section_1.png", "section_10.png"]
    assert problems == []


def test_a_folder_without_images_and_a_pattern_without_match_are_problems(tmp_path):
    paths, problems = find_images([str(tmp_path), f"{tmp_path}/*.png"])
    assert paths == []
    assert "it contains none" in problems[0]
    assert "matches no file" in problems[1]


@pytest.mark.parametrize("n_workers", [1, 3])
def test_a_survey_measures_every_page_in_order_and_passes_over_a_bad_file(folder, n_workers):
    (folder / "section_2.png").write_bytes((folder / "section_1.png").read_bytes()[:60])
    Image.fromarray(image(0)[:1]).save(folder / "section_3.png")
    paths, _ = find_images([str(folder)], recursive=True)
    done = []
    found = list(survey(paths, pixel_size_nm=4.0, n_workers=n_workers, on_file=lambda: done.append(1)))
    names = [Path(measurement.name).name for measurement in found]
    assert names == ["stack.TIF#0", "stack.TIF#1", "section_1.png", "section_2.png", "section_3.png", "section_10.png"]
    assert [measurement.sharpness for measurement in found] == [
        sharpness(image(20), 4.0),
        sharpness(image(21), 4.0),
        sharpness(image(1), 4.0),
        None,
        None,
        sharpness(image(10), 4.0),
    ]
    assert "truncated or damaged PNG" in found[3].problem
    assert found[4].problem.startswith(f"{folder / 'section_3.png'}: the sharpness indices need at least")
    assert len(done) == 5
