"""Figures of the competition: the board with our networks beside it, the roadmap of ImageNet, errors in pictures."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from chapters.urisc_competition.competition_errors import ErrorExample, Example, worst_places
from chapters.urisc_competition.competition_records import DATA_SETS, Trained, main_experiment, networks, seed_score
from chapters.urisc_competition.leaderboard import TRACKS, published_scores
from emseg.figures import COLOURS, PAGE_WIDTH_IN, add_scale_bar, show_image
from emseg.reported import load_reported, select_reported
from emseg.reported.competition import load_survey

_PAPER_COLOUR = "#707070"
_DATA_COLOURS = {"synthetic": "blue", "isbi2012": "vermilion", "urisc": "purple"}
_ERROR_COLOURS = {1: (0, 114, 178), 2: (213, 94, 0)}


def plot_board(trained: Sequence[Trained]) -> Figure:
    """Draw the paper's scores with their spread over images, U-Net-transfer's, and below them our networks by data set.

    A data set without runs says "not run".
    """
    rows: list[tuple[str, float | None, float | None, str]] = []
    for track in TRACKS:
        rows += [
            (
                f"{track}: {row.about('entrant')}" + (" (misprint?)" if row.status == "inconsistent" else ""),
                row.value,
                row.sd,
                "",
            )
            for row in published_scores(track)
        ]
    transfer = select_reported(load_reported("urisc"), "f1", entrant="U-Net-transfer")
    rows.append(("U-Net-transfer (text)", next(row.value for row in transfer if row.place == "Introduction"), None, ""))
    n_paper = len(rows)
    for data_set, title in DATA_SETS.items():
        runs = main_experiment(trained, data_set)
        for network in networks(runs):
            score = seed_score(runs, network, "test_membrane_f1")
            if score is not None:
                rows.append((f"{title}: {network.title}", score.mean, score.over_images, data_set[0]))
        if not runs:
            rows.append((title, None, None, data_set[0]))
    figure, ax = plt.subplots(figsize=(PAGE_WIDTH_IN, 0.19 * len(rows) + 0.9))
    for place, (_, value, sd, data) in enumerate(rows):
        colour = COLOURS[_DATA_COLOURS[data]] if data else _PAPER_COLOUR
        if value is None:
            ax.text(0.41, place, "not run", va="center", fontsize=7, style="italic", color=COLOURS["grey"])
        else:
            ax.errorbar(value, place, xerr=sd, fmt="o", ms=4, color=colour, elinewidth=1.0, capsize=2)
    ax.axhline(n_paper - 0.5, color="black", lw=0.6)
    ax.set_yticks(range(len(rows)), [name for name, *_ in rows], fontsize=7)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlim(0.4, 1.01)
    ax.set_xlabel("F1 of membrane, mean ± standard deviation over images")
    ax.grid(axis="x", color="#DDDDDD", lw=0.6)
    ax.set_axisbelow(True)
    handles = [Line2D([], [], marker="o", ls="", color=_PAPER_COLOUR, label="the paper, U-RISC")]
    kinds = {"synthetic": "synthetic", "isbi2012": "real (ISBI 2012)", "urisc": "licensed (U-RISC)"}
    handles += [
        Line2D([], [], marker="o", ls="", color=COLOURS[_DATA_COLOURS[data]], label=f"ours, {kind}")
        for data, kind in kinds.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def plot_roadmap(ours: float | None = None) -> Figure:
    """Draw what the text gives of Figure 1: ImageNet's beginning and end, U-RISC's levels; ours if known."""
    rows = load_reported("urisc")
    human = {row.about("track"): row.value for row in published_scores("Track 1")[:1]}["Track 1"]
    benchmark = next(
        row.value for row in select_reported(rows, "f1", entrant="U-Net-transfer") if row.place == "Introduction"
    )
    leader = next(row.value for row in published_scores("Track 1") if row.about("entrant") == "SCP173")
    assert human is not None
    assert benchmark is not None
    assert leader is not None
    imagenet = {row.about("item"): row.value for row in select_reported(load_survey(), "imagenet_accuracy")}
    first, level = imagenet["2010"], imagenet["human"]
    assert first is not None
    assert level is not None
    figure, ax = plt.subplots(figsize=(PAGE_WIDTH_IN, 3.0))
    ax.axhline(level / 100, color=COLOURS["blue"], ls="-.", lw=1.2)
    ax.axhline(human, color=COLOURS["vermilion"], ls="-.", lw=1.2)
    ax.text(2023.4, level / 100 + 0.008, "human, ImageNet", color=COLOURS["blue"], ha="right", va="bottom", fontsize=8)
    ax.text(
        2023.4, human - 0.012, "human, U-RISC, 1st round", color=COLOURS["vermilion"], ha="right", va="top", fontsize=8
    )
    ax.plot(
        [2010, 2018],
        [first / 100, level / 100],
        "o:",
        color=COLOURS["blue"],
        label="ImageNet: what the text gives of the curve",
    )
    ax.plot([2022], [leader], "s", color=COLOURS["orange"], label="U-RISC: leader of the competition, Track 1")
    ax.plot([2022], [benchmark], "o", color=COLOURS["vermilion"], label="U-RISC: the paper's benchmark")
    if ours is not None:
        ax.plot([2023], [ours], "D", color=COLOURS["green"], label="this book, synthetic Track 1, best network")
    ax.set_xlim(2009.5, 2023.6)
    ax.set_ylim(0.5, 1.0)
    ax.set_xlabel("year")
    ax.set_ylabel("accuracy, or F1")
    ax.legend(loc="lower left")
    return figure


def plot_errors(examples: Sequence[Example], *, side_nm: float = 700, n: int = 2) -> Figure:
    """Draw crops of images with errors, the images side by side: most false membrane above, most missed below.

    Each crop stands as it is and with its errors, false membrane orange and missed membrane blue; `n` crops of either
    kind, `side_nm` wide or a third of the image, whichever is less.
    """
    columns = 2 * len(examples)
    side_in = PAGE_WIDTH_IN / max(columns, 4)
    size = (side_in * columns, 2 * n * side_in + 0.6)
    figure, grid = plt.subplots(2 * n, columns, figsize=size, squeeze=False)
    for ax in grid.ravel():
        ax.set_axis_off()
    for left, example in zip(range(0, columns, 2), examples, strict=True):
        nm, image = example.pixel_size_nm, example.predicted.image
        side_px = min(round(side_nm / nm), min(image.shape) // 3)
        for first, false in ((0, True), (n, False)):
            kind = "false membrane" if false else "missed membrane"
            title = f"{example.title}\n{kind}" if false else kind
            grid[first][left].set_title(title, loc="left", fontsize=9)
            for row, one in zip(
                grid[first : first + n], worst_places(example.predicted, side_px, n, false=false), strict=False
            ):
                show_image(row[left], one.image, nm, grey_range=(0.0, 255.0))
                row[left + 1].imshow(coloured(one))
                add_scale_bar(row[left + 1], one.image.shape[1], nm)
    return figure


def coloured(one: ErrorExample) -> NDArray[np.uint8]:
    """Return a crop in grey, its false membrane orange and its missed membrane blue."""
    picture = np.repeat(one.image[..., None], 3, axis=2).astype(np.float32)
    for code, colour in _ERROR_COLOURS.items():
        picture[one.codes == code] = 0.25 * picture[one.codes == code] + 0.75 * np.array(colour, np.float32)
    return picture.astype(np.uint8)
