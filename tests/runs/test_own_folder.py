"""A user's own folder or file: named before anything runs, found from where the user stands; a folder is watched."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emseg.errors import InputError, UsageError
from emseg.runs.execute import OWN_FILES, require_data, run_chapter
from emseg.runs.gathering import read_record, result_state
from emseg.runs.project import find_chapter

PARAMETERS = 'data: str = "synthetic"  # Data set, one of: synthetic, folder\nfolder: str = ""  # Your own data\n'
BODY = """\
from pathlib import Path
from emseg.runs.session import Run
run = Run("part/first", seed=0)
run.metric("length", len(Path(folder, "one.txt").read_text()), n=1, label="Length")
"""


@pytest.mark.parametrize("folder", ["", "nowhere", "_toc.yml"])
def test_a_folder_that_is_not_there_is_named_at_once(project: Path, folder: str):
    """Empty, missing, or a file; licensed data with its source."""
    with pytest.raises(InputError, match=rf"folder of U-RISC \(https://.* got '{folder}'.*data='synthetic'"):
        require_data({"data": "urisc", "folder": folder})
    with pytest.raises(InputError, match=rf"`folder` must name a folder of your own data .* got '{folder}'"):
        require_data({"data": "folder", "folder": folder})


def test_a_relative_folder_is_found_from_where_the_user_stands(project: Path, rewrite: Callable[..., None]):
    """Not from the notebook's folder, in which the kernel starts; the record keeps the path as it was given."""
    rewrite(project / "book" / "part" / "first.ipynb", "part/first", parameters=PARAMETERS, body=BODY)
    (project / "mine").mkdir()
    (project / "mine" / "one.txt").write_text("twelve chars")
    parameters = {"data": "folder", "folder": "mine"}
    require_data(parameters)
    chapter = find_chapter(project, "part/first")
    files = run_chapter(chapter, parameters, root=project, profile="smoke", out=project / "out", progress=False)
    record = read_record(files.record)
    assert record["metrics"]["length"]["value"] == 12
    assert record["parameters"]["folder"] == "mine"


def test_a_changed_file_makes_the_result_old(project: Path, rewrite: Callable[..., None]):
    """As with every other data set."""
    rewrite(project / "book" / "part" / "first.ipynb", "part/first", parameters=PARAMETERS, body=BODY)
    (project / "mine").mkdir()
    file = project / "mine" / "one.txt"
    file.write_text("one")
    chapter, parameters = find_chapter(project, "part/first"), {"data": "folder", "folder": "mine"}
    before = result_state(project, chapter, parameters)
    assert result_state(project, chapter, parameters) == before
    file.write_text("three")
    assert result_state(project, chapter, parameters)["data"] != before["data"]


@pytest.mark.parametrize("name", OWN_FILES)
def test_a_file_that_is_not_there_is_named_at_once(project: Path, name: str):
    with pytest.raises(InputError, match=rf"`{name}` must name a file.*got 'nowhere.pth'.*leave the parameter empty"):
        require_data({"data": "synthetic", name: "nowhere.pth"})
    require_data({"data": "synthetic", name: ""})
    with pytest.raises(InputError, match=rf"`{name}` must name a checkpoint; '_toc.yml' begins like none"):
        require_data({"data": "synthetic", name: "_toc.yml"})
    (project / "whole.pth").write_bytes(b"PK\x03\x04")
    require_data({"data": "synthetic", name: "whole.pth"})


def test_the_layout_and_the_labels_of_a_folder_are_looked_at_before_anything_runs(project: Path):
    """Membranes: folders, then coding and polarity of the first label of each part."""
    parameters = {"data": "folder", "folder": "mine", "track": "track1", "split": "block"}
    (project / "mine").mkdir()
    with pytest.raises(InputError, match=r"mine must have image/ and label/, or train/.*train/ is missing"):
        require_data(parameters)
    membrane = np.zeros((40, 40), np.uint8)
    membrane[::8] = 255
    for part in ("train", "validation", "test"):
        for kind in ("image", "label"):
            (project / "mine" / part / kind).mkdir(parents=True)
            image = 255 - membrane if kind == "label" else membrane
            Image.fromarray(image).save(project / "mine" / part / kind / "a.png")
    require_data(parameters | {"size_px": 40, "n_train": 1})
    require_data(parameters | {"size_px": 48})  # of the synthetic images of a chapter that takes a folder whole
    with pytest.raises(UsageError, match=r"got 48, and a has 40 x 40\. Set it to 40, or to 0 for"):
        require_data(parameters | {"size_px": 48, "n_train": 1})
    Image.fromarray(membrane).save(project / "mine" / "test" / "label" / "a.png")
    with pytest.raises(InputError, match=r"test/label/a\.png"):
        require_data(parameters)


@pytest.mark.parametrize("name", OWN_FILES)
def test_a_relative_file_is_found_from_where_the_user_stands(project: Path, rewrite: Callable[..., None], name: str):
    """As a relative folder is; the record keeps the path as it was given."""
    body = BODY.replace('Path(folder, "one.txt")', f"Path({name})")
    rewrite(
        project / "book" / "part" / "first.ipynb", "part/first", parameters=f'{name}: str = ""  # A file\n', body=body
    )
    (project / "mine.pth").write_text("twelve chars")
    chapter = find_chapter(project, "part/first")
    files = run_chapter(chapter, {name: "mine.pth"}, root=project, profile="smoke", out=project / "out", progress=False)
    record = read_record(files.record)
    assert record["metrics"]["length"]["value"] == 12
    assert record["parameters"][name] == "mine.pth"
