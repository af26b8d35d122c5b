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
from emseg.files import find_root
from emseg.intervals import SeedDifference, difference_over_seeds
from emseg.reported import DisplayTable, text_table
from emseg.runs.digest import code_digests
from emseg.runs.project import find_chapter
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
GROUPS = dict(zip(product(DETECTORS, DEPTHS), ("blue", "sky", "vermilion", "orange"), strict=True))
_MASK_SCORING = ({"detector": "ms_rcnn"}, {"detector": "mask_rcnn"})
PAPER_COLOUR = "#909090"


def trained_networks(records: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each trained network and seed from the frame of `records_frame`, the newest of each.

    Columns: `HELD_FIXED`, `NETWORK`, seed, `SCORES` (NaN where undefined), the whole record, and "older": whether the
    library has changed since.
    """
    columns = [*HELD_FIXED, *NETWORK, "seed"]
    if records.empty:
        return pd.DataFrame(columns=[*columns, *SCORES, "record", "older"])
    records = records[records["run", "chapter"] == CHAPTER].sort_values(("run", "finished"))
    frame = records["parameters"].reindex(columns=columns).join(records["metrics"].reindex(columns=SCORES))
    frame["record"] = records["run", "record"]
    today = code_digests(find_chapter(find_root(), CHAPTER))["library"]
    frame["older"] = [record["digests"].get("library") != today for record in frame["record"]]
    for name, default in OPEN_CHOICES.items():
        frame[name] = frame[name].where(frame["attention"] == "fanet", default)
    return frame.drop_duplicates(columns, keep="last")


def experiments(trained: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the networks of each experiment, those with most runs first."""
    groups = [group for _, group in trained.groupby(HELD_FIXED, dropna=False)]
    return sorted(groups, key=lambda group: (-len(group), experiment_title(group)))


def experiment_title(trained: pd.DataFrame) -> str:
    """Return the description of an experiment in a table's caption."""
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
    """Return Table 2: a row a network, means over seeds, and the gain over no attention, ours and the paper's.

    Levels depend on the data, so none of the paper's is shown. A dagger marks networks with runs of older code.
    """
    scores = {metric: network_scores(trained, metric) for metric in ("ap", "ap50", "ap75")}
    rows = {}
    for detector, depth, attention in product(DETECTORS, DEPTHS, ATTENTIONS):
        key = (detector, depth, attention, *OPEN_CHOICES.values())
        texts = []
        for one in scores.values():
            mean, spread, n = one.loc[key] if key in one.index else (None, None, 0)
            texts.append(NOT_RUN if mean is None else f"{mean:.1f}" + (f" ± {spread:.1f}" if n > 1 else ""))
        runs = _of_group(trained[trained["attention"] == attention], (detector, depth))
        mark = " †" if runs["older"].any() else ""
        gains = ("reference", "reference")
        if attention != "none":
            gain = _of_group(attention_pairs(trained, attention, "none"), (detector, depth))
            paper = _paper_difference((detector, depth), attention, "none", "ap")
            gains = (difference_text(mean_difference(gain)), "not in it" if paper is None else signed(paper))
        n_seeds = int(scores["ap"]["count"].get(key, 0))
        name = DETECTORS[detector].replace("Mask Scoring", "MS").translate({ord(" "): "\u00a0", ord("-"): "\u2011"})
        row = (name, f"R{depth}", ATTENTIONS[attention], f"{n_seeds}{mark}", *texts, *gains)
        rows[f"table2-{detector}-{depth}-{attention}"] = row
    return text_table(
        f"Mask AP in %, mean ± standard deviation over seeds: {experiment_title(trained)}. “Minus none”: points over "
        "the same network without attention, with the 95 % interval over seeds; the paper's are differences of two "
        "single runs on its own data. †: trained by an earlier version of this library.",
        ("Detector", "ResNet", "Attention", "Seeds", "AP", "AP50", "AP75", "Minus none", "Paper: minus none"),
        rows,
    )


def differences_table(trained: pd.DataFrame, metric: str = "ap") -> DisplayTable:
    """Return the differences between attentions over all detectors and depths: a row a pair, with what it decides."""
    rows = {}
    for first, second in CONTRASTS:
        gap = mean_difference(attention_pairs(trained, first, second, metric))
        paper = [_paper_difference(group, first, second, metric) for group in GROUPS]
        values = ", ".join(signed(one) for one in paper if one is not None) or "not in it"
        names = ATTENTIONS[first], ATTENTIONS[second]
        row = (" − ".join(names), difference_text(gap), reading(gap, *names), values)
        rows[f"difference-{first}-{second}"] = row
    n = len(attention_pairs(trained, *CONTRASTS[0], metric))
    return text_table(
        f"Differences of {METRIC_LABELS[metric]} in points with 95 % intervals over {n} pairs of networks that share "
        "detector, depth and seed. The paper's four differences are of single runs, in the order of its Table 2.",
        ("Pair", "Mean difference", "Reading", "The paper's four"),
        rows,
    )


def reading(difference: SeedDifference | None, first: str, second: str) -> str:
    """Return what a difference decides between two attentions, by its interval."""
    if difference is None or difference.interval is None:
        return "too few pairs"
    low, high = difference.interval
    return f"{first} is higher" if low > 0 else f"{second} is higher" if high < 0 else "cannot be distinguished"


def choices_table(trained: pd.DataFrame) -> DisplayTable:
    """Return what FANet's open choices change: a row a choice, in points against the default."""
    rows = {}
    for name, value in CHOICES:
        texts = [difference_text(mean_difference(choice_pairs(trained, name, value, one))) for one in ("ap", "ap50")]
        rows[f"choice-{name}-{value}".replace("_", "-")] = (name.removeprefix("fanet_"), value, *texts)
    return text_table(
        "FANet with one choice changed, minus FANet with raw indices and mean normalisation, in points over pairs of "
        "networks that share detector, depth and seed; the 95 % interval needs three pairs.",
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
    for depth in DEPTHS:
        plain = trained[(trained["depth"] == depth) & (trained["attention"] == "none")]["record"]
        numbers = {one["metrics"]["n_parameters"]["value"] for one in plain if "n_parameters" in one["metrics"]}
        if numbers:
            label = f"Parameters of the smallest detector on ResNet-{depth}, in millions"
            run.metric(f"parameters_r{depth}", min(numbers) / 1e6, n=len(plain), label=label)
    if len(trained):
        run.metric("n_older", int(trained["older"].sum()), n=len(trained), label="Runs by an earlier library version")
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


def plot_gains(trained: pd.DataFrame, metric: str = "ap") -> Figure:
    """Draw AP minus that without attention: a panel each detector and depth, with 95 % intervals, and the paper's."""
    require_one_of("metric", metric, METRIC_LABELS)
    names = [name for name in ATTENTIONS if name != "none"]
    figure, axes = plt.subplots(2, 2, figsize=(PAGE_WIDTH_IN, 4.0), sharex=True, sharey=True)
    for ax, (group, colour) in zip(axes.flat, GROUPS.items(), strict=True):
        ax.axvline(0, color="black", lw=0.8)
        for row, name in enumerate(names):
            gap = mean_difference(_of_group(attention_pairs(trained, name, "none", metric), group))
            if gap is None:
                ax.text(0, row, NOT_RUN, va="center", fontsize=7, style="italic", color=COLOURS["grey"])
            else:
                ax.hlines(row, *(gap.interval or (gap.value, gap.value)), color=COLOURS[colour], lw=2)
                ax.plot([gap.value], [row], "D", ms=5, color=COLOURS[colour])
            paper = _paper_difference(group, name, "none", metric)
            if paper is not None:
                ax.plot([paper], [row - 0.28], "v", ms=5, mew=0, color=PAPER_COLOUR)
        ax.set_title(f"{DETECTORS[group[0]]}, ResNet-{group[1]}", loc="left")
        ax.set_yticks(range(len(names)), [ATTENTIONS[name] for name in names])
        ax.set_ylim(len(names) - 0.5, -0.6)
        ax.grid(axis="x", color="#DDDDDD", lw=0.6)
        ax.set_axisbelow(True)
    plt.setp(axes[1], xlabel=f"mask {METRIC_LABELS[metric]} minus none (points)")
    ours = Line2D([], [], marker="D", color=COLOURS["grey"], label="ours: mean over seeds, 95 % interval")
    published = Line2D([], [], marker="v", ls="", mew=0, color=PAPER_COLOUR, label="the paper: two single runs")
    figure.legend(handles=[ours, published], loc="outside lower center", ncols=2)
    return figure


def plot_differences(trained: pd.DataFrame, metric: str = "ap") -> Figure:
    """Draw one row for each pair of attentions: dots by detector and depth, mean and interval of all, the paper's.

    A pair without two runs to compare is marked "not run".
    """
    require_one_of("metric", metric, METRIC_LABELS)
    figure, ax = plt.subplots(figsize=(PAGE_WIDTH_IN, 0.55 * len(CONTRASTS) + 1.2))
    ax.axvline(0, color="black", lw=0.8)
    for row, (first, second) in enumerate(CONTRASTS):
        paired = attention_pairs(trained, first, second, metric)
        for place, (group, colour) in enumerate(GROUPS.items()):
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
        for (name, depth), colour in GROUPS.items()
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
    if difference.interval is None:
        return f"{signed(difference.value)} (n = {difference.n})"
    return f"{signed(difference.value)} ({' to '.join(map(signed, difference.interval))})"


def signed(value: float) -> str:
    """Return a number with its sign and one decimal."""
    return f"{value:+.1f}".replace("-", "−")


def _of_group(paired: pd.DataFrame, group: tuple[str, int]) -> pd.DataFrame:
    return paired[(paired["detector"] == group[0]) & (paired["depth"] == group[1])]


def _paper_difference(group: tuple[str, int], first: str, second: str, metric: str) -> float | None:
    a, b = (paper_scores(*group, name).get(metric) for name in (first, second))
    return None if a is None or b is None or a.value is None or b.value is None else a.value - b.value
