"""FANet's Table 2 from run records of trained detectors: one data frame, its tables, figures and metrics.

    experiment   the columns `HELD_FIXED`: data, split, size of the networks, budget, precision. Scores of two
                 experiments are never mixed.
    network      the columns `NETWORK`, which are compared: detector, depth, attention and, for FANet, the choices that
                 the paper leaves open (their defaults for every other attention)
    sample       the seeds of a network; of a seed that was run twice the newer record counts

A score is mask AP in percent on images that the training did not see, a difference is in percentage points. Differences
are taken between networks that agree in all but what is compared, seed included: they saw the same images in the same
order. Their interval is Student's t over those pairs.

Source: Sun et al. 2021 (FANet), Table 2 and section 4.4.
"""

from collections.abc import Mapping
from itertools import product
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from chapters.fanet_training import DEPTHS, DETECTORS, paper_scores
from emseg.checks import require_one_of
from emseg.figures import COLOURS, PAGE_WIDTH_IN
from emseg.intervals import SeedDifference, difference_over_seeds
from emseg.reported import DisplayTable, text_table
from emseg.runs.session import Run
from emseg.wafer.scores import METRIC_LABELS, METRICS

CHAPTER = "fanet/fanet_training"
NOT_RUN = "not run"
ATTENTIONS = {"none": "none", "se": "SE", "eca": "ECA", "fca": "FcaNet", "fanet": "FANet"}
PAPER_ATTENTIONS = ("none", "se", "fca", "fanet")
# The pairs that the page compares, the one held to be better first.
CONTRASTS = (("fanet", "fca"), ("fanet", "se"), ("fanet", "eca"), ("fanet", "none"), ("se", "none"), ("fca", "se"))
OPEN_CHOICES = {"fanet_indexing": "raw", "fanet_normalization": "mean"}
CHOICES = (("fanet_indexing", "scaled"), ("fanet_normalization", "ortho"), ("fanet_normalization", "none"))
NETWORK = ["detector", "depth", "attention", *OPEN_CHOICES]
HELD_FIXED = ["data", "preset", "split", "size", "reduction", "schedule", "n_steps", "batch", "learning_rate"]
HELD_FIXED += ["precision", "data_seed"]
SCORES = [*METRICS, *(f"fresh_{metric}" for metric in METRICS)]
_GROUPS = dict(zip(product(DETECTORS, DEPTHS), ("blue", "sky", "vermilion", "orange"), strict=True))
_MASK_SCORING = ({"detector": "ms_rcnn"}, {"detector": "mask_rcnn"})
PAPER_COLOUR = "#909090"


def trained_networks(records: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each trained network and seed from the frame of `records_frame`, the newest of each.

    Columns: `HELD_FIXED`, `NETWORK`, seed, `SCORES` (NaN where undefined), and the whole record.
    """
    columns = [*HELD_FIXED, *NETWORK, "seed"]
    if records.empty:
        return pd.DataFrame(columns=[*columns, *SCORES, "record"])
    records = records[records["run", "chapter"] == CHAPTER].sort_values(("run", "finished"))
    frame = records["parameters"].reindex(columns=columns).join(records["metrics"].reindex(columns=SCORES))
    frame["record"] = records["run", "record"]
    for name, default in OPEN_CHOICES.items():
        frame[name] = frame[name].where(frame["attention"] == "fanet", default)
    return frame.drop_duplicates(columns, keep="last")


def experiments(trained: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the networks of each experiment, those with most runs first."""
    groups = [group for _, group in trained.groupby(HELD_FIXED, dropna=False)]
    return sorted(groups, key=lambda group: (-len(group), experiment_title(group)))


def experiment_title(trained: pd.DataFrame) -> str:
    """Return what a table's caption says of an experiment."""
    if trained.empty:
        return "no runs"
    of = trained.iloc[0]
    names = {"magc_wafer": "the MagC wafer", "folder": "a folder of the user's"}
    data = names.get(of["data"], f"synthetic wafers, preset {of['preset']}")
    budget = f"{of['n_steps']} steps" if of["n_steps"] else "the schedule's steps"
    budget += f" of {of['batch']} tiles" if of["batch"] else ""
    return f"{data}, split by {of['split']}, {of['size']} networks, {budget}, {of['precision']}"


def main_experiment(trained: pd.DataFrame, *, split: str = "wafer") -> pd.DataFrame:
    """Return the experiment on this split that covers most of Table 2; empty where there is none."""
    of_split = [group for group in experiments(trained) if group["split"].iloc[0] == split]
    return max(of_split, key=lambda group: (n_networks(group), len(group)), default=trained.iloc[:0])


def n_networks(trained: pd.DataFrame) -> int:
    """Return how many networks have runs."""
    return len(trained.drop_duplicates(NETWORK))


def network_scores(trained: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return mean, standard deviation and number of seeds ("mean", "std", "count") of each network with this score."""
    scored = trained.dropna(subset=[metric]).astype({metric: float})
    return scored.groupby(NETWORK)[metric].agg(["mean", "std", "count"])


def pairs(
    trained: pd.DataFrame, first: Mapping[str, Any], second: Mapping[str, Any], metric: str = "ap"
) -> pd.DataFrame:
    """Return all pairs of a network that has the values `first` and one that has `second`, and agrees in all else.

    Open choices have their defaults unless given. The column "difference" is the score of the first minus the other's.
    """
    require_one_of("metric", metric, SCORES)
    sides = []
    for values in (first, second):
        chosen = {**OPEN_CHOICES, **values}
        sides.append(trained[np.logical_and.reduce([trained[name] == value for name, value in chosen.items()])])
    keys = [name for name in (*HELD_FIXED, *NETWORK, "seed") if first.get(name) == second.get(name)]
    joined = sides[0].merge(sides[1][[*keys, metric]], on=keys, suffixes=("", "_b"))
    return joined.assign(difference=joined[metric] - joined[f"{metric}_b"]).dropna(subset=["difference"])


def mean_difference(paired: pd.DataFrame) -> SeedDifference | None:
    """Return the mean difference of pairs with its 95 % interval; None with fewer than two."""
    return difference_over_seeds([(gap, 0.0) for gap in paired["difference"]]) if len(paired) > 1 else None


def attention_pairs(trained: pd.DataFrame, first: str, second: str, metric: str = "ap") -> pd.DataFrame:
    """Return the pairs of two attentions; FANet stands for its default choices."""
    return pairs(trained, {"attention": first}, {"attention": second}, metric)


def choice_pairs(trained: pd.DataFrame, choice: str, value: str, metric: str = "ap") -> pd.DataFrame:
    """Return the pairs of FANet with one open choice changed, and FANet with the defaults."""
    require_one_of("choice", choice, OPEN_CHOICES)
    changed, default = ({"attention": "fanet", choice: one} for one in (value, OPEN_CHOICES[choice]))
    return pairs(trained, changed, default, metric)


def leak_gain(trained: pd.DataFrame, *, split: str, metric: str = "ap") -> SeedDifference | None:
    """Return the score on the split's own validation tiles minus that on fresh wafers, over all runs of the split.

    Where validation shares no pixel with training, and wafers are alike, any difference is chance.
    """
    runs = trained[trained["split"] == split].dropna(subset=[metric, f"fresh_{metric}"])
    scores = [(float(own), float(fresh)) for own, fresh in zip(runs[metric], runs[f"fresh_{metric}"], strict=True)]
    return difference_over_seeds(scores) if len(scores) > 1 else None


def seed_spread(trained: pd.DataFrame, metric: str = "ap") -> float | None:
    """Return the standard deviation over seeds within networks, pooled; None where no network has two seeds."""
    scores = network_scores(trained, metric)
    freedom = (scores["count"] - 1).sum()
    return float(np.sqrt(((scores["count"] - 1) * scores["std"] ** 2).sum() / freedom)) if freedom else None


def best_attentions(trained: pd.DataFrame, metric: str = "ap") -> dict[tuple[str, int], str]:
    """Return which of the paper's four attentions has the highest mean, for each detector and depth that has all."""
    means = network_scores(trained, metric)["mean"]
    best = {}
    for row in product(DETECTORS, DEPTHS):
        found = {name: means.get((*row, name, *OPEN_CHOICES.values())) for name in PAPER_ATTENTIONS}
        if None not in found.values():
            best[row] = max(found, key=lambda name: found[name])
    return best


def table2(trained: pd.DataFrame) -> DisplayTable:
    """Return Table 2: a row a network, ours over seeds beside the paper's single run.

    Of COCO's six scores those are omitted that no run has, such as that of large sections where there are none.
    """
    scores = {metric: network_scores(trained, metric) for metric in METRICS}
    shown = [metric for metric in METRICS if trained.empty or len(scores[metric])]
    rows = {}
    for detector, depth, attention in product(DETECTORS, DEPTHS, ATTENTIONS):
        network = (detector, depth, attention, *OPEN_CHOICES.values())
        missing = "none such" if network in scores["ap"].index else NOT_RUN
        texts = []
        for metric in shown:
            one = scores[metric].loc[network] if network in scores[metric].index else None
            spread = "" if one is None or one["count"] < 2 else f" ± {one['std']:.1f}"
            texts.append(missing if one is None else f"{one['mean']:.1f}{spread}")
        n = int(scores["ap"].loc[network]["count"]) if network in scores["ap"].index else 0
        paper = paper_scores(detector, depth, attention)
        name = f"{DETECTORS[detector]}, {depth}"
        row = (name, ATTENTIONS[attention], str(n), *texts, paper["ap"].printed if paper else "not in it")
        rows[f"table2-{detector}-{depth}-{attention}"] = row
    return text_table(
        f"Mask AP in %, mean ± standard deviation over seeds: {experiment_title(trained)}. Last column: the paper's "
        "AP, one run on its own data; levels are not to be compared across data, orders and differences are.",
        ("Network", "Attention", "Seeds", *(METRIC_LABELS[metric] for metric in shown), "Paper's AP"),
        rows,
    )


def differences_table(trained: pd.DataFrame, metric: str = "ap") -> DisplayTable:
    """Return the differences between attentions: a row a pair, over all networks and for each detector and depth."""
    rows = {}
    for first, second in CONTRASTS:
        paired = attention_pairs(trained, first, second, metric)
        texts = [difference_text(mean_difference(paired))]
        for group in _GROUPS:
            own, paper = _of_group(paired, group), _paper_difference(group, first, second, metric)
            single = signed(own["difference"].iloc[0]) + ", one seed" if len(own) == 1 else None
            text = single or difference_text(mean_difference(own))
            texts.append(f"{text}; paper {'none' if paper is None else signed(paper)}")
        rows[f"difference-{first}-{second}"] = (f"{ATTENTIONS[first]} − {ATTENTIONS[second]}", *texts)
    return text_table(
        f"Differences of {METRIC_LABELS[metric]} in points, with 95 % intervals over pairs of networks that "
        "share detector, depth and seed. After the semicolon: the paper's difference of two single runs.",
        ("Pair", "All", *(f"{DETECTORS[name]}, {depth}" for name, depth in _GROUPS)),
        rows,
    )


def choices_table(trained: pd.DataFrame) -> DisplayTable:
    """Return what FANet's open choices change: a row a choice, in points against the default."""
    rows = {}
    for name, value in CHOICES:
        texts = [difference_text(mean_difference(choice_pairs(trained, name, value, one))) for one in ("ap", "ap50")]
        rows[f"choice-{name}-{value}".replace("_", "-")] = (name.removeprefix("fanet_"), value, *texts)
    return text_table(
        "FANet with one choice changed, minus FANet with raw indices and mean normalisation, in points "
        "with 95 % intervals over pairs of networks that share detector, depth and seed.",
        ("Choice", "Instead of the default", "AP", "AP50"),
        rows,
    )


def report_table2(run: Run, trained: pd.DataFrame) -> None:
    """Note the means of all networks and the differences that claims are about; nothing of what was not run."""
    scores = network_scores(trained, "ap")
    for detector, depth, attention in product(DETECTORS, DEPTHS, ATTENTIONS):
        network = (detector, depth, attention, *OPEN_CHOICES.values())
        if network in scores.index:
            mean, spread, n = scores.loc[network]
            name, label = f"ap_{detector}_{depth}_{attention}", f"AP: {DETECTORS[detector]}, ResNet-{depth}, "
            spread = float(spread) if n > 1 else None
            run.metric(name, float(mean), unit="%", n=int(n), spread=spread, label=label + ATTENTIONS[attention])
    compared = [
        ("ms_minus_mask", pairs(trained, *_MASK_SCORING), "Mask Scoring minus Mask R-CNN"),
        ("r50_minus_r34", pairs(trained, {"depth": 50}, {"depth": 34}), "ResNet-50 minus ResNet-34"),
    ]
    for first, second in CONTRASTS:
        label = f"{ATTENTIONS[first]} minus {ATTENTIONS[second]}"
        compared.append((f"{first}_minus_{second}", attention_pairs(trained, first, second), label))
    for name, value in CHOICES:
        short = name.removeprefix("fanet_")
        label = f"FANet with {short} {value} minus the default"
        compared.append((f"fanet_{short}_{value}", choice_pairs(trained, name, value), label))
    for name, paired, label in compared:
        report_difference(run, name, mean_difference(paired), f"AP: {label}")
    run.metric("n_cells", n_networks(trained), n=max(1, len(trained)), label="Networks that have runs")
    spread, n = seed_spread(trained), len(trained)
    if spread is not None:
        run.metric("seed_spread", spread, unit="%", n=n, label="AP: standard deviation over seeds, within networks")
    gaps = attention_pairs(trained, "fanet", "fca")["difference"]
    if len(gaps) > 1:
        label = "AP: standard deviation of FANet minus FcaNet over pairs of networks"
        run.metric("pair_spread", float(gaps.std()), unit="%", n=len(gaps), label=label)
    best = best_attentions(trained)
    if best:
        fanet = sum(name == "fanet" for name in best.values())
        run.metric("fanet_best_of", fanet, n=len(best), label="Detectors and depths of which FANet has the highest AP")


def report_difference(run: Run, name: str, difference: SeedDifference | None, label: str) -> None:
    """Note a difference in percentage points where it is defined."""
    if difference is not None:
        run.metric(name, difference.value, unit="%", n=difference.n, interval=difference.interval, label=label)


def plot_differences(trained: pd.DataFrame, metric: str = "ap") -> Figure:
    """Draw one row for each pair of attentions: dots by detector and depth, mean and interval of all, the paper's.

    A pair without two runs to compare says "not run".
    """
    require_one_of("metric", metric, METRIC_LABELS)
    figure, ax = plt.subplots(figsize=(PAGE_WIDTH_IN, 0.55 * len(CONTRASTS) + 1.2))
    ax.axvline(0, color="black", lw=0.8)
    for row, (first, second) in enumerate(CONTRASTS):
        paired = attention_pairs(trained, first, second, metric)
        for place, (group, colour) in enumerate(_GROUPS.items()):
            values, height = _of_group(paired, group)["difference"].tolist(), row - 0.24 + 0.12 * place
            ax.plot(values, [height] * len(values), "o", ms=4, mew=0, color=COLOURS[colour], alpha=0.8)
            paper = _paper_difference(group, first, second, metric)
            if paper is not None:
                ax.plot([paper], [height], "|", ms=8, mew=1.6, color=PAPER_COLOUR)
        whole = mean_difference(paired)
        if whole is None:
            ax.text(0, row + 0.34, NOT_RUN, fontsize=7, style="italic", color=COLOURS["grey"])
            continue
        if whole.interval is not None:
            ax.hlines(row + 0.34, *whole.interval, color="black", lw=2)
        ax.plot([whole.value], [row + 0.34], "D", ms=5, color="black")
    ax.set_yticks(range(len(CONTRASTS)), [f"{ATTENTIONS[a]} − {ATTENTIONS[b]}" for a, b in CONTRASTS])
    ax.set_ylim(len(CONTRASTS) - 0.4, -0.6)
    ax.set_xlabel(f"difference of mask {METRIC_LABELS[metric]} (points)")
    ax.grid(axis="x", color="#DDDDDD", lw=0.6)
    handles = [
        Line2D([], [], marker="o", ls="", mew=0, color=COLOURS[colour], label=f"{DETECTORS[name]}, {depth}")
        for (name, depth), colour in _GROUPS.items()
    ]
    handles.append(Line2D([], [], marker="D", color="black", label="mean, 95 % interval"))
    tick = Line2D([], [], marker="|", ls="", mew=1.6, ms=8, color=PAPER_COLOUR, label="the paper, one run each")
    handles.append(tick)
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def difference_text(difference: SeedDifference | None) -> str:
    """Return a difference with its interval as a table shows it."""
    if difference is None:
        return NOT_RUN
    within = "" if difference.interval is None else f" ({' to '.join(map(signed, difference.interval))})"
    return f"{signed(difference.value)}{within}"


def signed(value: float) -> str:
    """Return a number with its sign and one decimal."""
    return f"{value:+.1f}".replace("-", "−")


def _of_group(paired: pd.DataFrame, group: tuple[str, int]) -> pd.DataFrame:
    return paired[(paired["detector"] == group[0]) & (paired["depth"] == group[1])]


def _paper_difference(group: tuple[str, int], first: str, second: str, metric: str) -> float | None:
    a, b = (paper_scores(*group, name).get(metric) for name in (first, second))
    return None if a is None or b is None or a.value is None or b.value is None else a.value - b.value
