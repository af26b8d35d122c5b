"""Table 2 and what follows from it, as tables for the page and as metrics of a run.

All scores are mask AP in percent, all differences in points. What no run has measured says "not run".
"""

import statistics
from collections.abc import Sequence
from itertools import product

from chapters.fanet_results.table2 import (
    ATTENTIONS,
    DEPTHS,
    DETECTORS,
    Cell,
    Trained,
    attention_difference,
    best_attentions,
    cell_score,
    choice_difference,
    depth_difference,
    detector_difference,
    experiments,
    leak_gain,
    paired_scores,
    seed_spread,
)
from chapters.fanet_training.detection_score_figures import PAPER, ScoreBar
from chapters.fanet_training.reporting import paper_scores
from emseg.reported.display import DisplayTable, Shown
from emseg.runs.session import Run
from emseg.wafer.scores import METRIC_LABELS, METRICS, ScoreDifference

NOT_RUN = "not run"
DETECTOR_NAMES = {"mask_rcnn": "Mask R-CNN", "ms_rcnn": "Mask Scoring R-CNN"}
ATTENTION_NAMES = {"none": "none", "se": "SE", "eca": "ECA", "fca": "FcaNet", "fanet": "FANet"}
# The pairs that the page compares, the one held to be better first.
CONTRASTS = (("fanet", "fca"), ("fanet", "se"), ("fanet", "eca"), ("fanet", "none"), ("se", "none"), ("fca", "se"))
CHOICES = (("fanet_indexing", "scaled"), ("fanet_normalization", "ortho"), ("fanet_normalization", "none"))


def experiments_table(trained: Sequence[Trained]) -> DisplayTable:
    """Return the experiments that have runs, a row each: what they hold fixed, how much of Table 2 they cover."""
    rows = []
    for experiment, runs in experiments(trained).items():
        kinds = " and ".join(sorted({use["kind"] for one in runs for use in one.record["data"]}))
        seeds = len({one.seed for one in runs})
        cells = {one.cell for one in runs}
        rows.append(
            tuple(Shown(text) for text in (experiment.title, kinds, str(len(cells)), str(seeds), str(len(runs))))
        )
    return DisplayTable(
        caption="What has been run: experiments with the kind of their data, and the networks, seeds and runs of each.",
        header=("Experiment", "Data", "Networks", "Seeds", "Runs"),
        rows=tuple(rows),
        css_class="emseg-metrics",
        row_ids=tuple(f"experiment-{number}" for number in range(len(rows))),
    )


def table2(trained: Sequence[Trained]) -> DisplayTable:
    """Return Table 2: a row a network, ours over seeds beside the paper's single run.

    Of COCO's six scores those are left out that no run has, such as that of large sections where there are none.
    """
    shown = [metric for metric in METRICS if not trained or any(one.score(metric) is not None for one in trained)]
    rows, ids = [], []
    for detector, depth, attention in product(DETECTORS, DEPTHS, ATTENTIONS):
        cell = Cell(detector, depth, attention)
        paper = paper_scores(detector, depth, attention)
        texts = [f"{DETECTOR_NAMES[detector]}, {depth}", ATTENTION_NAMES[attention]]
        seeds = cell_score(trained, cell, "ap")
        texts.append("0" if seeds is None else str(seeds.n))
        texts += [_cell_text(trained, cell, metric) for metric in shown]
        texts.append(paper["ap"].printed if paper else "not in it")
        rows.append(tuple(Shown(text) for text in texts))
        ids.append(f"table2-{detector}-{depth}-{attention}")
    title = trained[0].experiment.title if trained else "no runs"
    return DisplayTable(
        caption=f"Mask AP in %, mean ± standard deviation over seeds: {title}. Last column: the paper's AP, one run on "
        "its own data; levels are not to be compared across data, orders and differences are.",
        header=("Network", "Attention", "Seeds", *(METRIC_LABELS[metric] for metric in shown), "Paper's AP"),
        rows=tuple(rows),
        css_class="emseg-metrics",
        row_ids=tuple(ids),
    )


def differences_table(trained: Sequence[Trained], metric: str = "ap") -> DisplayTable:
    """Return the differences between attentions: a row a pair, over all networks and for each detector and depth."""
    rows = []
    for first, second in CONTRASTS:
        cells = [f"{ATTENTION_NAMES[first]} − {ATTENTION_NAMES[second]}"]
        cells.append(_difference_text(attention_difference(trained, first, second, metric)))
        for detector, depth in product(DETECTORS, DEPTHS):
            pairs = paired_scores(trained, first, second, metric).get((detector, depth), [])
            own = attention_difference(trained, first, second, metric, row=(detector, depth))
            text = f"{pairs[0]:+.1f}, one seed".replace("-", "−") if len(pairs) == 1 else _difference_text(own)
            cells.append(f"{text}; paper {_paper_difference(detector, depth, first, second, metric)}")
        rows.append(tuple(Shown(cell) for cell in cells))
    return DisplayTable(
        caption=f"Differences of {METRIC_LABELS[metric]} in points, with 95 % intervals over pairs of networks that "
        "share detector, depth and seed. After the semicolon: the paper's difference of two single runs.",
        header=("Pair", "All", *(f"{DETECTOR_NAMES[name]}, {depth}" for name, depth in product(DETECTORS, DEPTHS))),
        rows=tuple(rows),
        css_class="emseg-metrics",
        row_ids=tuple(f"difference-{first}-{second}" for first, second in CONTRASTS),
    )


def choices_table(trained: Sequence[Trained]) -> DisplayTable:
    """Return what FANet's open choices change: a row a choice, in points against the default."""
    rows = [
        (
            Shown(name.removeprefix("fanet_")),
            Shown(value),
            Shown(_difference_text(choice_difference(trained, name, value, "ap"))),
            Shown(_difference_text(choice_difference(trained, name, value, "ap50"))),
        )
        for name, value in CHOICES
    ]
    return DisplayTable(
        caption="FANet with one choice made otherwise, minus FANet with raw indices and mean normalisation, in points "
        "with 95 % intervals over pairs of networks that share detector, depth and seed.",
        header=("Choice", "In place of the default", "AP", "AP50"),
        rows=tuple(rows),
        css_class="emseg-metrics",
        row_ids=tuple(f"choice-{name}-{value}".replace("_", "-") for name, value in CHOICES),
    )


def score_bars(trained: Sequence[Trained], metric: str = "ap") -> list[ScoreBar]:
    """Return Table 2 as bars: for each network the paper's score and the mean of ours; whiskers are one sd."""
    bars = []
    for detector, depth, attention in product(DETECTORS, DEPTHS, ATTENTIONS):
        method = f"{DETECTOR_NAMES[detector]} {depth} {ATTENTION_NAMES[attention]}"
        paper = paper_scores(detector, depth, attention)
        if paper:
            bars.append(ScoreBar(method, PAPER, paper[metric].value, None))
        ours = cell_score(trained, Cell(detector, depth, attention), metric)
        spread = None if ours is None or ours.spread is None else (ours.mean - ours.spread, ours.mean + ours.spread)
        bars.append(ScoreBar(method, "ours", None if ours is None else ours.mean, spread))
    return bars


def report_table2(run: Run, trained: Sequence[Trained]) -> None:
    """Note the means of all cells and the differences that claims are about; of what was not run nothing is noted."""
    for detector, depth, attention in product(DETECTORS, DEPTHS, ATTENTIONS):
        score = cell_score(trained, Cell(detector, depth, attention), "ap")
        if score is not None:
            name = f"{DETECTOR_NAMES[detector]}, ResNet-{depth}, {ATTENTION_NAMES[attention]}"
            run.metric(
                f"ap_{detector}_{depth}_{attention}",
                score.mean,
                unit="%",
                n=score.n,
                spread=score.spread,
                label=f"AP: {name}",
            )
    for first, second in CONTRASTS:
        label = f"AP: {ATTENTION_NAMES[first]} minus {ATTENTION_NAMES[second]}"
        _report_difference(run, f"{first}_minus_{second}", attention_difference(trained, first, second), label)
    _report_difference(run, "ms_minus_mask", detector_difference(trained), "AP: Mask Scoring minus Mask R-CNN")
    _report_difference(run, "r50_minus_r34", depth_difference(trained), "AP: ResNet-50 minus ResNet-34")
    for name, value in CHOICES:
        short = name.removeprefix("fanet_")
        label = f"AP: FANet with {short} {value} minus the default"
        _report_difference(run, f"fanet_{short}_{value}", choice_difference(trained, name, value), label)
    run.metric("n_cells", len({one.cell for one in trained}), n=max(1, len(trained)), label="Networks that have runs")
    spread = seed_spread(trained, "ap")
    if spread is not None:
        run.metric(
            "seed_spread", spread, unit="%", n=len(trained), label="AP: standard deviation over seeds, within cells"
        )
    gaps = [gap for row in paired_scores(trained, "fanet", "fca").values() for gap in row]
    if len(gaps) > 1:
        label = "AP: standard deviation of FANet minus FcaNet over pairs of networks"
        run.metric("pair_spread", statistics.stdev(gaps), unit="%", n=len(gaps), label=label)
    best = best_attentions(trained)
    if best:
        fanet = sum(name == "fanet" for name in best.values())
        run.metric("fanet_best_of", fanet, n=len(best), label="Detectors and depths of which FANet has the highest AP")


def report_leak(run: Run, trained: Sequence[Trained], split: str, metric: str = "ap") -> None:
    """Note the score on a split's own validation tiles minus that on fresh wafers, as `{split}_gain_{metric}`."""
    label = f"{METRIC_LABELS[metric]} on validation tiles minus on fresh wafers, split by {split}"
    _report_difference(run, f"{split}_gain_{metric}", leak_gain(trained, split=split, metric=metric), label)


def _report_difference(run: Run, name: str, difference: ScoreDifference | None, label: str) -> None:
    if difference is not None and difference.value is not None:
        run.metric(name, difference.value, unit="%", n=difference.n, interval=difference.interval, label=label)


def _cell_text(trained: Sequence[Trained], cell: Cell, metric: str) -> str:
    score = cell_score(trained, cell, metric)
    if score is None:
        return NOT_RUN if cell_score(trained, cell, "ap") is None else "none such"
    return f"{score.mean:.1f}" + ("" if score.spread is None else f" ± {score.spread:.1f}")


def _difference_text(difference: ScoreDifference | None) -> str:
    if difference is None or difference.value is None:
        return NOT_RUN
    interval = difference.interval
    within = "" if interval is None else f" ({interval[0]:+.1f} to {interval[1]:+.1f})"
    return f"{difference.value:+.1f}{within}".replace("-", "−")


def _paper_difference(detector: str, depth: int, first: str, second: str, metric: str) -> str:
    a, b = paper_scores(detector, depth, first), paper_scores(detector, depth, second)
    if not a or not b or a[metric].value is None or b[metric].value is None:
        return "none"
    return f"{float(a[metric].value or 0) - float(b[metric].value or 0):+.1f}".replace("-", "−")
