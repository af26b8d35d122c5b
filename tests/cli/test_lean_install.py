"""Installed without extras, the tools work or name the extra to install; shells can complete the commands."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

LEAN = """
import importlib.abc, json, sys

class WithoutExtras(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {extras!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, WithoutExtras())
from emseg.cli import main
for words in {commands!r}:
    print("==", main(words), file=sys.stderr)
import torch
from emseg.attribution import attribute_pixels
found = attribute_pixels(torch.nn.Conv2d(1, 1, 3, padding=1).eval(), torch.rand(32, 32), [(9, 9)], n_steps=4)
print("attributed", tuple(found.maps.shape))
"""
EXTRAS = {
    *(
        "captum",
        "lightly",
        "lightning",
        "mmcv",
        "mmdet",
        "mmengine",
        "pycocotools",
        "safetensors",
        "shapely",
        "skimage",
    ),
    *("pytorch_lightning", "segmentation_models_pytorch", "timm", "zarr"),
    *("IPython", "ipykernel", "jupyter_book", "sphinx", "snakemake", "docutils"),
}


def test_without_extras_score_and_sharpness_work_and_the_others_name_the_extra(tmp_path: Path):
    """As after `pip install emseg`: the modules of the extras cannot be imported."""
    image = np.random.default_rng(0).integers(0, 2, (64, 64), dtype=np.uint8) * 255
    for folder in ("truth", "prediction"):
        (tmp_path / folder).mkdir()
        Image.fromarray(image if folder == "truth" else image | (image.T // 2)).save(tmp_path / folder / "a.png")
    commands = [
        ["score", "prediction", "truth"],
        ["sharpness", "truth/a.png"],
        ["wafer", "synthesize", "made", "--height", "400", "--width", "400"],
        ["wafer", "config"],
    ]
    program = LEAN.format(extras=EXTRAS, commands=commands)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    pipe = {"capture_output": True, "text": True, "cwd": tmp_path, "env": environment}
    done = subprocess.run([sys.executable, "-c", program], **pipe)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    codes = [line for line in done.stderr.splitlines() if line.startswith("==")]
    assert codes == ["== 0", "== 0", "== 1", "== 1"], done.stderr
    sentence = 'emseg: this command needs the package shapely, which is not installed. pip install "emseg[networks]"'
    assert done.stderr.count(sentence) == 2
    assert "attributed (1, 32, 32)" in done.stdout


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("emseg s", {"sharpness", "score"}),
        ("emseg data ", {"list", "path", "fetch", "check"}),
        ("emseg run part/", {"part/first", "part/second"}),
        ("emseg run part/first --profile s", {"smoke"}),
    ],
)
def test_a_shell_completes_commands_chapters_and_profiles(project: Path, tmp_path: Path, line: str, words: set[str]):
    """As `register-python-argcomplete emseg` asks for it."""
    answer = tmp_path / "answer"
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_STDOUT_FILENAME": str(answer)}
    asked |= {"COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9"}
    asked |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, "-m", "emseg"], env=os.environ | asked, cwd=project, check=True)
    assert words <= {word.strip() for word in answer.read_text().split("\n")}
