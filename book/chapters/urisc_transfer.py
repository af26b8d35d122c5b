"""The chapter `urisc_transfer`: networks from random and from pretrained encoders, trained at an equal budget.

Two networks of one fraction of the labels and one seed form a pair: they have the same labelled images, the same crops
in the same order, the same initial decoder and the same number of steps, and differ only in the pretraining. The
pretraining of seed s sees all training images without labels, is itself seeded by s, and is shared by all fractions.
Its own steps come on top of the budget; their time is reported. A gain is a difference of F1 (or V-Rand, V-Info), from
0 to 1. Networks are trained here (`run_transfer`) or taken from records of the training chapter
(`transfer_of_records`).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from chapters.drawing.diagrams import SMALL, arrow, block, canvas, note, stack
from chapters.urisc_baselines import train_and_score, with_label_fraction
from emseg.errors import UsageError
from emseg.figures import COLOURS, PAGE_WIDTH_IN
from emseg.files import find_root
from emseg.intervals import SeedDifference, difference_over_seeds
from emseg.membrane.dataset import MembraneSet
from emseg.membrane.networks import NetworkDesign
from emseg.membrane.pretraining import PretrainedEncoder, PretrainingPlan, pretrain_on_set, start_from_file
from emseg.membrane.pretraining.pretrain_encoder import MOCO, NONE
from emseg.membrane.training import TrainingPlan
from emseg.reported import DisplayTable, text_table
from emseg.runs.gathering import report_gathered
from emseg.runs.session import Run
from emseg.wording import typeset

CHAPTER = "urisc/urisc_baselines"
# name of a score: (name in metrics of the run, label)
METRICS = {"membrane_f1": ("f1", "membrane F1"), "v_rand": ("v_rand", "V-Rand"), "v_info": ("v_info", "V-Info")}
# Parameters of the training chapter that may differ within one comparison; all others are held fixed.
FREE = (
    *("pretraining", "pretraining_file", "pretraining_sha256", "label_fraction", "seed"),
    *("device", "n_devices", "n_workers", "work_folder", "n_resamples", "validate_every"),
)
NOT_RUN = "not run"
_NAMES = {NONE: "random weights", MOCO: "MoCo v2 on the set's own images", "cem500k": "CEM500K"}
_SETTING = ["pretraining", "label_fraction", "seed"]
_COLUMNS = [*_SETTING, "n_labelled", "seconds", *METRICS]
_COLOURS = ("grey", "blue", "orange", "green")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")

Record = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Transfer:
    """One comparison: `networks` has a row per trained network, its setting, training time and mean test scores.

    `pretrained` are the encoders by seed where they were made here; `records` the records that it comes from.
    """

    networks: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=_COLUMNS))
    pretrained: Mapping[int, PretrainedEncoder] = field(default_factory=dict)
    records: tuple[Record, ...] = ()

    @property
    def fractions(self) -> list[float]:
        """The fractions of labels, fewest first."""
        return sorted(self.networks["label_fraction"].unique().tolist())

    @property
    def pretrainings(self) -> list[str]:
        """The starts of the encoders, "none" first."""
        return sorted(self.networks["pretraining"].unique().tolist(), key=lambda name: (name != NONE, name))

    def n_labelled(self, fraction: float) -> int:
        """Return the number of labelled images of a fraction."""
        return int(self.networks.loc[self.networks["label_fraction"] == fraction, "n_labelled"].iloc[0])

    def scores(self, pretraining: str, fraction: float, metric: str = "membrane_f1") -> dict[int, float]:
        """Return the defined scores of a pretraining and a fraction of labels by seed."""
        rows = self.networks
        rows = rows[(rows["pretraining"] == pretraining) & (rows["label_fraction"] == fraction)]
        return {int(seed): float(score) for seed, score in rows.set_index("seed")[metric].dropna().items()}

    def pairs(self, pretraining: str, fraction: float | None, metric: str = "membrane_f1") -> list[tuple[float, float]]:
        """Return (pretrained, none) for every seed with both; None for the mean over the fractions with both."""
        table = self.networks.pivot(index=["seed", "label_fraction"], columns="pretraining", values=metric)
        both = table.reindex(columns=[pretraining, NONE]).astype(float).dropna().reset_index("label_fraction")
        if fraction is not None:
            both = both[both["label_fraction"] == fraction]
        means = both.groupby("seed")[[pretraining, NONE]].mean()
        return [(float(ours), float(none)) for ours, none in means.itertuples(index=False)]

    def gain(self, pretraining: str, fraction: float | None, metric: str = "membrane_f1") -> SeedDifference | None:
        """Return the score with a pretraining minus that without, over seeds; None where no pair was run."""
        pairs = self.pairs(pretraining, fraction, metric)
        return difference_over_seeds(pairs) if pairs else None


def run_transfer(
    design: NetworkDesign,
    plan: TrainingPlan,
    pretraining: PretrainingPlan,
    membrane_set: MembraneSet,
    folder: str | Path,
    *,
    fractions: Sequence[float],
    n_seeds: int,
    first_seed: int = 0,
) -> Transfer:
    """Pretrain once per seed, train both networks of every pair, and score them.

    Finished trainings in `folder` are not repeated. A seed is completed before the next one begins.
    """
    if not fractions or n_seeds < 1:
        given = f"got {list(fractions)} and {n_seeds} seeds."
        raise UsageError(f"a comparison needs a fraction of labels and a seed; {given}")
    for fraction in fractions:
        with_label_fraction(membrane_set, fraction)  # refuses an impossible fraction before anything is trained
    place = find_root() / folder  # an absolute folder stays as it is
    rows, pretrained = [], {}
    for seed in range(first_seed, first_seed + n_seeds):
        pretrained[seed] = pretrain_on_set(design, pretraining.changed(seed=seed), membrane_set, place, progress=False)
        moco = start_from_file(pretrained[seed].weights, name=MOCO)
        for fraction in fractions:
            labelled = with_label_fraction(membrane_set, fraction, seed=seed)
            for name, start in {NONE: None, MOCO: moco}.items():
                scored = train_and_score(design, plan.changed(seed=seed), labelled, place, start=start, progress=False)
                images = pd.DataFrame([image.row() for image in scored.parts["test"].scores])
                cost = (len(labelled.train), scored.trained.seconds)
                rows.append([name, fraction, seed, *cost, *images[list(METRICS)].mean()])
    return Transfer(pd.DataFrame(rows, columns=_COLUMNS), pretrained)


def transfer_of_records(records: Iterable[Record], *, data: str) -> Transfer:
    """Return the comparison with the most pairs among the training chapter's records of one data set; it may be empty.

    Records are compared if all parameters but those of `FREE` agree; of equal settings the newest counts.
    """
    groups: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda one: str(one["finished"])):
        if record["chapter"] == CHAPTER and record["parameters"]["data"] == data:
            fixed = {name: value for name, value in record["parameters"].items() if name not in FREE}
            groups.setdefault(repr(sorted(fixed.items())), []).append(record)

    def n_pairs(transfer: Transfer) -> int:
        others = [name for name in transfer.pretrainings if name != NONE]
        return sum(len(transfer.pairs(name, fraction)) for name in others for fraction in transfer.fractions)

    tables = {key: pd.DataFrame(map(_row, group), columns=_COLUMNS) for key, group in groups.items()}
    newest = {key: table.drop_duplicates(_SETTING, keep="last") for key, table in tables.items()}
    compared = [Transfer(table, records=tuple(groups[key])) for key, table in newest.items()]
    return max(compared, key=n_pairs, default=Transfer())


def _row(record: Record) -> dict[str, Any]:
    values = {name: metric["value"] for name, metric in record["metrics"].items()}
    scores = {metric: values.get(f"test_{metric}", math.nan) for metric in METRICS}
    cost = {"n_labelled": values.get("n_training_images", 0), "seconds": values.get("training_seconds", math.nan)}
    return {**{name: record["parameters"][name] for name in _SETTING}, **cost, **scores}


def report_transfer(run: Run, transfer: Transfer) -> None:
    """Record scores and gains with the fewest and with all labels, and over all fractions, as far as they were run."""
    if transfer.records:
        report_gathered(run, transfer.records)
    n = len(transfer.networks)
    run.metric("n_networks", n, n=max(1, n), label="Networks compared")
    fractions = transfer.fractions
    ends = {"fewest": fractions[0], "most": fractions[-1]} if fractions else {}
    for word, fraction in ends.items():
        n = transfer.n_labelled(fraction)
        run.metric(f"n_labelled_{word}", n, n=max(1, n), label=f"Labelled images, {word}")
    for name, (metric, (short, words)) in product(transfer.pretrainings, METRICS.items()):
        label = _NAMES.get(name, name)
        for word, fraction in ends.items():
            if values := list(transfer.scores(name, fraction, metric).values()):
                sd, text = stdev(values) if len(values) > 1 else None, f"{words}, {label}, labels: {word}"
                run.metric(f"{name}_{short}_{word}", fmean(values), n=len(values), spread=sd, label=text)
        gains: dict[str, tuple[float | None, str]] = {"": (None, "mean over fractions of labels")}
        gains |= {f"_{word}": (fraction, f"labels: {word}") for word, fraction in ends.items()}
        for ending, (one, which) in gains.items() if name != NONE else ():
            if gain := transfer.gain(name, one, metric):
                key, text = f"{name}_gain_{short}{ending}", f"{words}: {label} minus random weights, {which}"
                run.metric(key, gain.value, n=gain.n, interval=gain.interval, label=text)
                for end, word in zip(gain.interval or (), ("low", "high"), strict=False):
                    run.metric(f"{key}_{word}", end, n=gain.n, label=f"{text}, {word}er end of the 95 % interval")


def report_pretraining(run: Run, transfer: Transfer) -> None:
    """Record results and cost of the pretrainings that were run here, means over seeds."""
    if not transfer.pretrained:
        return
    made = list(transfer.pretrained.values())
    n, plan = len(made), made[0].plan
    last = max(1, plan.n_steps // 10)
    late = {name: fmean(fmean(one.curves[name][-last:]) for one in made) for name in ("loss", "accuracy", "spread")}
    seconds, of_training = fmean(one.seconds for one in made), transfer.networks["seconds"].dropna()
    ratio, chance = seconds / of_training.mean(), 1 / (1 + plan.queue)
    for name, value, unit, n_values, label in (
        ("contrast_loss", late["loss"], "1", n, "Contrastive loss, mean over the last tenth of the steps"),
        ("collapsed_loss", math.log(1 + plan.queue), "1", 1, "Contrastive loss of collapsed embeddings"),
        ("contrast_accuracy", late["accuracy"], "1", n, "Fraction of own keys found, last tenth of the steps"),
        ("chance_accuracy", chance, "1", 1, "Fraction of own keys found by guessing"),
        ("embedding_spread", late["spread"], "1", n, "Spread of embeddings, 0 collapsed, last tenth"),
        ("n_pretraining_steps", plan.n_steps, "1", 1, "Steps of a pretraining"),
        ("pretraining_seconds", seconds, "s", n, "Time of a pretraining"),
        ("training_seconds", of_training.mean(), "s", len(of_training), "Time of a training"),
        ("pretraining_over_training", ratio, "1", n, "Time of a pretraining over that of a training"),
    ):
        run.metric(name, value, unit=unit, n=n_values, label=label)


def transfer_table(transfer: Transfer) -> DisplayTable:
    """Return a row for each fraction of labels with the gain and its interval."""
    rows: dict[str, tuple[str, ...]] = {}
    for name in [one for one in transfer.pretrainings if one != NONE] or [MOCO]:
        label = _NAMES.get(name, name)
        for fraction in transfer.fractions:
            images = transfer.n_labelled(fraction)
            rows[f"transfer-{name}-{round(1000 * fraction)}"] = (
                f"{images} labelled image{'s' if images != 1 else ''}, {label}",
                *(_mean_text(transfer.scores(one, fraction)) for one in (NONE, name)),
                *(gain_text(transfer.gain(name, fraction, metric)) for metric in ("membrane_f1", "v_rand")),
                str(len(transfer.pairs(name, fraction))),
            )
        if not transfer.fractions:
            rows["transfer-none-yet"] = (label, *(NOT_RUN for _ in range(5)))
    caption = (
        "Membrane F1 on test images with and without pretraining, mean ± standard deviation over seeds. "
        "Differences are paired by seed, with their 95 % interval (Student's t)."
    )
    header = ("Comparison", "F1, random", "F1, pretrained", "Difference of F1", "Difference of V-Rand", "Seeds")
    return text_table(caption, header, rows)


def gain_text(gain: SeedDifference | None) -> str:
    """Return a gain and its interval as text."""
    if gain is None:
        return NOT_RUN
    within = "" if gain.interval is None else f" ({gain.interval[0]:+.3f} to {gain.interval[1]:+.3f})"
    return typeset(f"{gain.value:+.3f}{within}")


def _mean_text(scores: Mapping[int, float]) -> str:
    values = list(scores.values())
    if not values:
        return NOT_RUN
    return f"{fmean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def plot_transfer(transfer: Transfer, metric: str = "membrane_f1") -> Figure:
    """Draw the score by the number of labelled images, every seed and the means, and the paired differences."""
    label = METRICS[metric][1]
    figure, (left, right) = plt.subplots(1, 2, figsize=(PAGE_WIDTH_IN, 3.2))
    left.set_ylabel(f"{label}, test images")
    right.set_ylabel(f"difference of {label}")
    right.axhline(0, color="black", lw=0.8)
    places = {fraction: place for place, fraction in enumerate(transfer.fractions)}
    for axis in (left, right):
        axis.set_xlabel("labelled images")
        axis.set_xticks(list(places.values()), [str(transfer.n_labelled(fraction)) for fraction in places])
        axis.set_xlim(-0.5, max(1, len(places)) - 0.5)
        if not places:
            _state(axis, NOT_RUN)
    names = transfer.pretrainings
    for number, name in enumerate(names):
        shift, colour = 0.14 * (number - (len(names) - 1) / 2), COLOURS[_COLOURS[number % len(_COLOURS)]]
        means = []
        for fraction, place in places.items():
            scores = transfer.scores(name, fraction, metric)
            _dots(left, place + shift, scores, colour)
            means.append(fmean(scores.values()) if scores else math.nan)
            if name != NONE:
                none = transfer.scores(NONE, fraction, metric)
                gains = {seed: scores[seed] - none[seed] for seed in scores.keys() & none.keys()}
                _dots(right, place + shift - 0.06, gains, colour)
                _gain(right, place, shift + 0.06, transfer.gain(name, fraction, metric))
        left.plot(np.array(list(places.values())) + shift, means, "-", color=colour, label=_NAMES.get(name, name))
    if places:
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def plot_pretraining(transfer: Transfer, plan: PretrainingPlan) -> Figure:
    """Draw loss, fraction of own keys found and spread of the embeddings by step, one line per seed."""
    made, tenth, grey = transfer.pretrained, max(1, plan.n_steps // 10), COLOURS["grey"]
    full = min(plan.queue // plan.batch_size, plan.n_steps - 2)  # before, keys are easily distinguished
    panels = {
        "loss": ("contrastive loss", math.log(1 + plan.queue), "collapsed", 2),
        "accuracy": ("fraction of own keys found", 1 / (1 + plan.queue), "guessing", -9),
        "spread": ("spread of embeddings", 0.0, "collapsed", 2),
    }
    figure, axes = plt.subplots(1, 3, figsize=(PAGE_WIDTH_IN, 2.6))
    for axis, (name, (title, level, text, shift)) in zip(axes, panels.items(), strict=True):
        axis.set(title=title if made else f"{title}: not run here", xlabel="step")
        for colour, (number, one) in zip([*COLOURS.values()] * len(made), made.items(), strict=False):
            curve = pd.Series(one.curves[name][full:]).rolling(tenth, min_periods=1).mean()
            axis.plot(one.curves["step"][full:], curve, color=colour, lw=1.2, label=f"seed {number}")
        axis.axhline(level, color=grey, lw=1, ls="--")
        look: dict[str, Any] = {"textcoords": "offset points", "ha": "right", "va": "bottom"}
        axis.annotate(text, (1, level), (0, shift), ("axes fraction", "data"), fontsize=7, color=grey, **look)
        low, high = min(axis.get_ylim()[0], level), max(axis.get_ylim()[1], level)
        axis.set_ylim(low - 0.02 * (high - low), high + 0.12 * (high - low))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return figure


def plot_queue(pair: NDArray[Any], others: Sequence[NDArray[Any]]) -> Figure:
    """Draw one step of momentum contrast: two views [2, row, column], their encoders, and a queue of older views."""
    axis, high, low = canvas(PAGE_WIDTH_IN, 2.55), 2.02, 0.72
    for y, view, name in ((high, pair[0], "one view"), (low, pair[1], "another view")):
        note(axis, 0.55, stack(axis, 0.55, y, [view], side=0.75).bottom[1] - 0.04, name, size=SMALL, va="top")
    encoder = block(axis, 2.0, high, "encoder", width=1.25, height=0.5)
    follower = block(axis, 2.0, low, "momentum\nencoder", colour="grey", width=1.25, height=0.5)
    query = block(axis, 3.5, high, "query q", width=0.75)
    key = block(axis, 3.5, low, "key k", colour="green", width=0.75)
    loss = block(axis, 5.2, high, "loss: q should match k,\nand no key in the queue", colour="orange")
    for y, coder, code in ((high, encoder, query), (low, follower, key)):
        arrow(axis, (0.95, y), coder.left)
        arrow(axis, coder.right, code.left)
    arrow(axis, encoder.bottom, follower.top, dashed=True)
    note(axis, 2.08, (high + low) / 2, "moving average\nof the weights", size=SMALL, ha="left")
    arrow(axis, query.right, loss.left)
    arrow(axis, key.top, (key.x, 1.39), (4.6, 1.39), (4.6, loss.bottom[1]), colour=COLOURS["green"])
    left = 4.55
    for place, view in enumerate(others):
        picture = stack(axis, left + 0.28 + 0.6 * place, low, [view], side=0.52, colours=["grey"])
    arrow(axis, key.right, (left, low), text="enters")
    arrow(axis, picture.right, (PAGE_WIDTH_IN - 0.02, low))
    note(axis, left + 1.15, low - 0.32, "queue of keys, newest first; the oldest leaves", size=SMALL, va="top")
    arrow(axis, (left + 1.15, low + 0.27), (left + 1.15, loss.bottom[1]))
    return plt.gcf()


def _gain(axis: Axes, place: float, shift: float, gain: SeedDifference | None) -> None:
    if gain is None:
        axis.text(place, 0, NOT_RUN, ha="center", va="bottom", fontsize=7, style="italic", color=COLOURS["grey"])
        return
    if gain.interval is not None:
        axis.vlines(place + shift, *gain.interval, color="black", lw=2)
    axis.plot([place + shift], [gain.value], "D", ms=5, color="black")


def _dots(axis: Axes, place: float, values: Mapping[int, float], colour: str) -> None:
    for seed, value in values.items():
        axis.plot([place], [value], _MARKERS[seed % len(_MARKERS)], ms=4.5, mew=0, color=colour, alpha=0.8)


def _state(axis: Axes, text: str) -> None:
    axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", style="italic", color=COLOURS["grey"])
    axis.set_yticks([])
