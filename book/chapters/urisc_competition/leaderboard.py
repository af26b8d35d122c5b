"""The competition's tables: the published leader board, the paper's three networks, the survey; ours beside them.

What the paper prints stands as printed, misprints named; what could not be found says so; what no run of this book has
measured says "not run". Ours and the paper's numbers stand in columns of their own, and each of ours says on which kind
of data it rests.
"""

from collections.abc import Sequence

from chapters.urisc_competition.competition_records import (
    ARCHITECTURES,
    DATA_SETS,
    DataSet,
    Network,
    Trained,
    best_of_architecture,
    main_experiment,
    networks,
    seed_score,
)
from emseg.reported import Reported, load_reported, select_reported
from emseg.reported.competition import load_survey
from emseg.reported.display import DisplayTable, Shown

NOT_RUN = "not run"
NOT_FOUND = "not found"
TRACKS = ("Track 1", "Track 2")
_KINDS = {"synthetic": "synthetic", "isbi2012": "real", "urisc": "licensed"}


def published_scores(track: str) -> tuple[Reported, ...]:
    """Return Table 2's rows of a track, in the paper's order: two rounds of annotation, then six teams."""
    return tuple(row for row in select_reported(load_reported("urisc"), "f1", track=track) if row.place == "Table 2")


def leaderboard_table() -> DisplayTable:
    """Return the paper's Table 2, both tracks side by side, with what is wrong with it."""
    rows = []
    for place, (first, second) in enumerate(zip(*(published_scores(track) for track in TRACKS), strict=True)):
        cells = [text for row in (first, second) for text in (row.about("entrant"), _printed(row))]
        rows.append(tuple(Shown(text) for text in ("human" if place < 2 else str(place - 1), *cells)))
    return DisplayTable(
        caption="The paper's Table 2: F1 of membrane on the test images of U-RISC, mean ± standard deviation over "
        "images. No precision or recall was published. All numbers are the paper's.",
        header=("Place", "Track 1", "F1", "Track 2", "F1"),
        rows=tuple(rows),
        css_class="emseg-metrics",
        row_ids=tuple(f"leaderboard-{place}" for place in range(len(rows))),
    )


def our_board(trained: Sequence[Trained]) -> DisplayTable:
    """Return our networks on every data set: a row each, F1 of both classes and scores of cells; never mixed."""
    rows: list[tuple[Shown, ...]] = []
    for data_set, title in DATA_SETS.items():
        runs = main_experiment(trained, data_set)
        of_set = [
            (network.title, str(len({one.seed for one in runs if one.network == network})), network)
            for network in networks(runs)
        ]
        for name, seeds, network in of_set:
            scores = [_score(runs, network, metric) for metric in _SHOWN]
            rows.append(tuple(Shown(text) for text in (title, _KINDS[data_set[0]], name, seeds, *scores)))
        if not of_set:
            nothing = [NOT_RUN] * len(_SHOWN)
            rows.append(tuple(Shown(text) for text in (title, _KINDS[data_set[0]], "", "0", *nothing)))
    return DisplayTable(
        caption="Our networks on test images, a data set after the other: mean over seeds, ± standard deviation over "
        "images. Of each data set the experiment that holds most of the three networks is shown.",
        header=("Data", "Kind", "Network", "Seeds", *_SHOWN.values()),
        rows=tuple(rows),
        css_class="emseg-metrics",
        row_ids=tuple(f"ours-{number}" for number in range(len(rows))),
    )


def networks_table(trained: Sequence[Trained]) -> DisplayTable:
    """Return the paper's Table 3, of which only bounds could be found, and what we have in its place."""
    sets: tuple[DataSet, ...] = (
        ("isbi2012", ""),
        ("synthetic", "isbi_like"),
        ("synthetic", "track1"),
        ("urisc", "track1"),
    )
    rows = []
    for architecture, name in ARCHITECTURES.items():
        paper = [_paper_table3(name, data_set) for data_set in ("ISBI 2012", "U-RISC")]
        ours = []
        for data_set in sets:
            runs = main_experiment(trained, data_set)
            pair = [best_of_architecture(runs, architecture, f"test_{of}_f1") for of in ("membrane", "background")]
            ours.append(
                " / ".join(NOT_RUN if one is None else f"{one.mean:.3f}" for one in pair) if any(pair) else NOT_RUN
            )
        rows.append(tuple(Shown(text) for text in (name, *paper, *ours)))
    return DisplayTable(
        caption="The paper's Table 3 and ours: F1. The paper's table could not be found; of its text only bounds are "
        "known (over 0.97 on ISBI 2012, 0.57 to 0.61 on U-RISC), without saying of which class. Ours: membrane / "
        "background.",
        header=(
            "Network",
            "Paper, ISBI 2012",
            "Paper, U-RISC",
            *(f"Ours, {DATA_SETS[data_set]} ({_KINDS[data_set[0]]})" for data_set in sets),
        ),
        rows=tuple(rows),
        css_class="emseg-metrics",
        row_ids=tuple(f"networks-{name}" for name in ARCHITECTURES),
    )


def survey_table() -> DisplayTable:
    """Return what the paper's text says of the methods of the leading teams; Figure 5's bars could not be read."""
    rows = []
    for row in select_reported(load_survey(), "surveyed_method"):
        aspect, _, method = row.about("item").partition(": ")
        said = f"“{row.printed}”" if row.printed else NOT_FOUND
        rows.append(tuple(Shown(text) for text in (aspect, method, said, row.place, row.note)))
    return DisplayTable(
        caption="Methods of the six leading teams, as the text names them. Figure 5 shows shares of teams and mean F1 "
        "for each; its bars could not be read, and only one share stands in the text.",
        header=("Aspect", "Method", "The paper says", "Place", "Note"),
        rows=tuple(rows),
        css_class="emseg-metrics",
        row_ids=tuple(f"survey-{number}" for number in range(len(rows))),
    )


_SHOWN = {
    "test_membrane_f1": "Membrane F1",
    "test_background_f1": "Background F1",
    "test_tolerant_f1": "Tolerant F1",
    "test_v_rand": "V-Rand",
    "test_v_info": "V-Info",
    "test_assd_nm": "ASSD, nm",
}


def _score(runs: Sequence[Trained], network: Network, metric: str) -> str:
    found = seed_score(runs, network, metric)
    if found is None:
        return "none such"
    digits = 1 if metric.endswith("_nm") else 3
    spread = "" if found.over_images is None else f" ± {found.over_images:.{digits}f}"
    return f"{found.mean:.{digits}f}{spread}"


def _printed(row: Reported) -> str:
    return f"{row.printed} (printed twice; the text says 0.99)" if row.status == "inconsistent" else row.printed


def _paper_table3(network: str, data_set: str) -> str:
    rows = select_reported(load_reported("urisc"), "f1", dataset=data_set, entrant=network)
    printed = next((row.printed for row in rows if row.place == "Table 3" and row.value is not None), None)
    in_text = next((row for row in rows if row.place == "Introduction" and row.value is not None), None)
    if printed:
        return printed
    return NOT_FOUND if in_text is None else f"{NOT_FOUND}; {in_text.value:g} in the text"
