"""Rounds of annotation as a table and as metrics of a run."""

import math
from collections.abc import Sequence

from chapters.urisc_competition.rounds import ScoredRound
from emseg.membrane.scoring.image_scores import summarize
from emseg.reported import load_reported, select_reported
from emseg.reported.display import DisplayTable, Shown
from emseg.runs.session import Run

SHOWN_SCORES = {
    "membrane_f1": "F1",
    "membrane_precision": "precision",
    "membrane_recall": "recall",
    "membrane_tolerant_f1": "tolerant F1",
    "v_rand": "V-Rand",
    "v_info": "V-Info",
}
_DISTANCE = "assd_nm"
_OBJECTS = {"broken_membranes": "Broken membranes", "spurious_membranes": "Spurious membranes"}


def rounds_table(rounds: Sequence[ScoredRound]) -> DisplayTable:
    """Return the scores of rounds, a row each, and below them what the paper gives for human annotators."""
    summaries = [(one.name, summarize(one.scores)) for one in rounds]
    rows = [
        (
            name,
            *(_cell(summary[score].mean, summary[score].sd) for score in SHOWN_SCORES),
            f"{summary[_DISTANCE].mean:.1f}" if math.isfinite(summary[_DISTANCE].mean) else "",
            *(f"{summary[score].mean:.1f}" for score in _OBJECTS),
        )
        for name, summary in summaries
    ]
    empty = (len(SHOWN_SCORES) + len(_OBJECTS)) * ("",)
    for row in select_reported(load_reported("urisc"), "f1", dataset="U-RISC"):
        if row.about("entrant").startswith("Human") and row.about("track"):
            note = ", repeated from the first round" if row.status == "inconsistent" else ""
            rows.append((f"paper: {row.about('entrant')}, {row.about('track')}{note}", row.printed, *empty))
    return DisplayTable(
        caption="Rounds of annotation against the last, means ± standard deviations over images; objects per image.",
        header=("", *SHOWN_SCORES.values(), "ASSD, nm", *_OBJECTS.values()),
        rows=tuple(tuple(Shown(text) for text in row) for row in rows),
        css_class="emseg-metrics",
        row_ids=tuple(f"round-{number}" for number in range(len(rows))),
    )


def report_round(run: Run, prefix: str, one: ScoredRound) -> None:
    """Note the scores of a round in a run; metric names begin with `prefix`."""
    summary = summarize(one.scores)
    for name, label in {**SHOWN_SCORES, _DISTANCE: "ASSD", **_OBJECTS}.items():
        score = summary[name]
        if score.n:
            run.metric(
                f"{prefix}_{name}",
                score.mean,
                n=score.n,
                unit="nm" if name == _DISTANCE else "1",
                spread=None if math.isnan(score.sd) else score.sd,
                label=f"{label}, {one.name}",
            )


def _cell(mean: float, sd: float) -> str:
    return f"{mean:.3f}" + ("" if math.isnan(sd) else f" ± {sd:.3f}")
