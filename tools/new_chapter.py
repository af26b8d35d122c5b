"""Make a new chapter that runs: a notebook with the cells that every chapter has, its profiles, its place in the book.

    .venv/bin/python tools/new_chapter.py urisc/my_question "What my question is"

writes book/urisc/my_question.ipynb, adds it to every profile in book/profiles/ and to _toc.yml, and says what to do
next. CONTRIBUTING.md goes through the steps.
"""

import re
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
MINUTES = {"smoke": 0.1, "laptop": 0.1, "lab": 0.1, "gpu": 1, "paper": 1}
PARAMETERS = """\
n_samples: int = 200  # Number of samples, in [2, 100000]
seed: int = 0  # Seed of the random generator, in [0, 1000000]
"""
SETUP = """\
import matplotlib.pyplot as plt
import numpy as np
from emseg.figures import PAGE_WIDTH_IN, style
from emseg.runs.session import Run

style()
run = Run("{name}", seed=seed)
"""
KEY_IDEA = """\
samples = np.random.default_rng(seed).normal(size=n_samples)
mean = sum(samples) / n_samples
spread = (sum((sample - mean) ** 2 for sample in samples) / (n_samples - 1)) ** 0.5
np.testing.assert_allclose([mean, spread], [samples.mean(), samples.std(ddof=1)])
"""
FIGURE = """\
figure, ax = plt.subplots(figsize=(PAGE_WIDTH_IN, 2.4))
ax.hist(samples, bins=30)
ax.set(xlabel="sample", ylabel="number");
"""
METRICS = 'run.metric("mean_sample", mean, n=n_samples, label="Mean of the samples", spread=spread)\n'


def main(name, title):
    """Write the chapter; return the exit code."""
    if not re.fullmatch(r"[a-z]+/[a-z0-9_]+", name):
        sys.exit(f"new_chapter: a chapter is named part/snake_case, such as urisc/my_question; got {name!r}.")
    path = ROOT / "book" / f"{name}.ipynb"
    if path.exists():
        sys.exit(f"new_chapter: {path.relative_to(ROOT)} exists. Choose another name.")
    path.parent.mkdir(exist_ok=True)
    nbformat.write(notebook(name, title), path)
    for profile, minutes in MINUTES.items():
        file = ROOT / "book" / "profiles" / f"{profile}.yaml"
        insert_after(file, "chapters:", f"  {name}:\n    expected_minutes: {minutes}\n")
    part = name.split("/", maxsplit=1)[0]
    insert_after(ROOT / "_toc.yml", f"      - file: book/{part}/", f"      - file: book/{name}\n")
    print(f"{path.relative_to(ROOT)} is there, and in the profiles and _toc.yml. Next:")
    print(f"  emseg run {name} --profile smoke\n  make lab\n  pytest tests/book/test_chapters.py -k {path.stem}")
    return 0


def notebook(name, title):
    """Return the notebook: title, parameters, setup, key idea, figure, numbers."""
    markdown, code = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    figure = f"fig-{name.split('/')[1].replace('_', '-')}"
    drawn = {
        "figure": {"caption": "Say the finding first: the samples scatter evenly around zero.", "name": figure},
        "image": {"alt": "A histogram with one peak in the middle, falling off to both sides alike."},
    }
    cells = [
        markdown(f"# {title}\n\nThe claim, in the first sentence.", id="title"),
        code(PARAMETERS.rstrip(), id="parameters", metadata={"tags": ["parameters"]}),
        code(SETUP.format(name=name).rstrip(), id="setup", metadata={"tags": ["hide-input"]}),
        markdown("## The key idea\n\nIn plain NumPy, and checked against the library.", id="key-idea"),
        code(KEY_IDEA.rstrip(), id="key-idea-code"),
        markdown(f"{{numref}}`{figure}` shows the samples.", id="picture"),
        code(FIGURE.rstrip(), id="picture-figure", metadata={"mystnb": drawn}),
        code(METRICS.rstrip(), id="metrics", metadata={"tags": ["hide-input"]}),
        markdown(f"## Conclusion\n\nThe mean is {{result}}`{name}#mean_sample|.3f`.", id="conclusion"),
        markdown("## All numbers of this run", id="all-numbers"),
        code("run", id="numbers"),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}}
    return nbformat.v4.new_notebook(cells=cells, metadata=kernel | {"language_info": {"name": "python"}})


def insert_after(path, start, text):
    """Insert `text` into a file after its last line that begins with `start`."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    found = [number for number, line in enumerate(lines) if line.startswith(start)]
    if not found:
        sys.exit(f"new_chapter: {path.relative_to(ROOT)} has no line {start!r}; add {text!r} by hand.")
    path.write_text("".join([*lines[: found[-1] + 1], text, *lines[found[-1] + 1 :]]), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
