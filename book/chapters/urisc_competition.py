"""The competition's tables and the records of this book's networks, gathered into one data frame.

    experiment   what is equal in a comparison: data, track, split, numbers of images, budget, loss. Scores of two
                 experiments are never mixed, so no two kinds of data either
    network      what is compared: architecture, encoder, width, attention, pretraining
    seed         of a seed that was run twice the newer record counts

A parameter that is off (0, False, empty, "none") is not part of an experiment: a record older than the parameter
belongs to the same one. Tracks are compared where their images show the same tissue: sides equal within one percent,
as many images, all else of the two experiments alike, and only seeds that both have. The crop cannot be equal as well:
of as many pixels it is wider in um, as a pixel is, and that belongs to what is compared.

What the paper prints is shown as printed, with a note on misprints; what was not found or not run is marked as such.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, product
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from emseg.figures import COLOURS, PAGE_WIDTH_IN
from emseg.reported import DisplayTable, Reported, load_reported, select_reported, text_table
from emseg.reported.competition import load_survey
from emseg.runs.session import Run
from emseg.wording import typeset

CHAPTER = "urisc/urisc_baselines"
ARCHITECTURES = {"unet": "U-Net", "linknet": "LinkNet", "casenet": "CASENet"}
DATA_SETS = {  # data and track, and what a table calls them; ISBI 2012 has no tracks
    ("synthetic", "track1"): "synthetic, Track 1",
    ("synthetic", "track2"): "synthetic, Track 2",
    ("synthetic", "isbi_like"): "synthetic, ISBI-like",
    ("isbi2012", ""): "ISBI 2012",
    ("urisc", "track1"): "U-RISC, Track 1",
    ("urisc", "track2"): "U-RISC, Track 2",
}
OF_DATA = {  # the data sets whose records a run on each kind of data gathers, so that no run mixes kinds
    "synthetic": (("synthetic", "isbi_like"), ("synthetic", "track1"), ("synthetic", "track2")),
    "isbi2012": (("isbi2012", ""),),
    "urisc": (("urisc", "track1"), ("urisc", "track2")),
}
KINDS = {"synthetic": "synthetic", "isbi2012": "real", "urisc": "licensed"}
ISBI, SPLITS = ("isbi2012", ""), ("block", "interleaved")
TRACKS, NOT_RUN, NOT_FOUND = ("track1", "track2"), "not run", "not found"
OF_NETWORK = ("network", "encoder", "encoder_depth", "base_channels", "attention", "reduction", "pretraining")
LEFT_OUT = {  # parameters of the baseline chapter that are not part of an experiment
    *(*OF_NETWORK, "pretraining_steps", "pretraining_file", "pretraining_sha256", "data", "track", "learning_rate"),
    *("seed", "device", "n_devices", "n_workers", "n_resamples", "validate_every", "work_folder", "weights"),
}
_OFF = ("", "0", "0.0", "False", "none", "None")
_SHOWN = {"test_membrane_f1": "Membrane F1", "test_background_f1": "Background F1", "test_tolerant_f1": "Tolerant F1"}
_SHOWN |= {"test_v_rand": "V-Rand", "test_v_info": "V-Info", "test_assd_nm": "ASSD, nm"}
_OF_TISSUE = (  # field of `Tissue`, unit, label of the metric, label in the table
    ("side_um", "µm", "Side of an image", "images, side, µm"),
    ("labelled_um2", "µm^2", "Labelled tissue to train on", "labelled tissue to train on, µm²"),
    ("crop_um", "µm", "Side of a training crop", "a training crop, side, µm"),
)
_SIDE_TOLERANCE = 0.01

DataSet = tuple[str, str]
Record = Mapping[str, Any]


@dataclass(frozen=True, order=True)
class Network:
    """One network of the comparison."""

    architecture: str
    encoder: str
    encoder_depth: int
    base_channels: int
    attention: str
    pretraining: str

    @property
    def title(self) -> str:
        """What a table calls it, as "U-Net, resnet18, 16 channels"; U-Net-transfer is the paper's word."""
        name = ARCHITECTURES.get(self.architecture, self.architecture)
        name += "" if self.pretraining == "none" else f"-transfer ({self.pretraining})"
        parts = [name, self.encoder, f"{self.base_channels} channels" if self.base_channels else ""]
        return ", ".join([*filter(None, parts), *([] if self.attention == "none" else [self.attention])])

    @property
    def is_plain(self) -> bool:
        """Whether it is one of the paper's three, without attention and trained from scratch."""
        return self.attention == "none" and self.pretraining == "none"


@dataclass(frozen=True)
class SeedScore:
    """A metric of a network: mean over `n` seeds, their standard deviation, and that over images, where known."""

    mean: float
    over_seeds: float | None
    over_images: float | None
    n: int


@dataclass(frozen=True)
class Tissue:
    """What the images of a run show: side of an image, labelled tissue to train on, side of a training crop."""

    side_um: float
    labelled_um2: float
    crop_um: float


@dataclass(frozen=True, eq=False)
class ComparedTracks:
    """The runs on Track 1 and on Track 2 that are compared, and what their images show, where it is known.

    `unequal`: why a difference of their scores would mean nothing, empty where it means something.
    """

    runs: tuple[pd.DataFrame, ...]
    tissues: tuple[Tissue | None, ...]
    unequal: str

    def scores(self, architecture: str) -> list[SeedScore | None]:
        """Return the membrane F1 of the best plain network of an architecture on either track."""
        return [best_of_architecture(runs, architecture, "test_membrane_f1") for runs in self.runs]

    def drop(self) -> float | None:
        """Return membrane F1 on Track 1 minus Track 2, mean of the three networks; None where it has no meaning."""
        drops = [first.mean - second.mean for first, second in map(self.scores, ARCHITECTURES) if first and second]
        return None if self.unequal or len(drops) < len(ARCHITECTURES) else statistics.fmean(drops)


def trained_networks(records: Iterable[Record]) -> pd.DataFrame:
    """Return the runs of the baseline chapter as one data frame, a row a run: of each seed of a network the newest.

    Columns: data_set (data, track), experiment (its shared parameters), network, seed, finished, record.
    """
    columns = ["data_set", "experiment", "network", "seed", "finished", "record"]
    rows = [_row(record) for record in records if record["chapter"] == CHAPTER]
    frame = pd.DataFrame(rows, columns=columns).sort_values("finished", kind="stable")
    return frame.drop_duplicates(columns[:4], keep="last")


def _row(record: Record) -> tuple[Any, ...]:
    of = record["parameters"]

    def with_option(name: str, option: str, word: str) -> str:
        value = str(of.get(name) or "none")
        return f"{value}, {word} {of[option]}" if value != "none" and of.get(option) else value

    architecture, encoder = str(of["network"]), str(of["encoder"])
    depth, channels = (int(of.get(name) or 0) for name in ("encoder_depth", "base_channels"))
    attention = with_option("attention", "reduction", "reduction")
    pretraining = with_option("pretraining", "pretraining_steps", "steps")
    network = Network(architecture, encoder, depth, channels, attention, pretraining)
    shared = {name: str(value) for name, value in of.items() if name not in LEFT_OUT and str(value) not in _OFF}
    track = "" if of["data"] in ("isbi2012", "folder") else str(of["track"])
    experiment = tuple(sorted(shared.items()))
    return (str(of["data"]), track), experiment, network, int(of["seed"]), str(record["finished"]), record


def metric_of(runs: pd.DataFrame, metric: str, part: str = "value") -> list[float]:
    """Return a metric, or its spread, of the runs that have it."""
    found = [record["metrics"].get(metric, {}).get(part) for record in runs.record]
    return [float(value) for value in found if value is not None and math.isfinite(value)]


def experiments(runs: pd.DataFrame, data_set: DataSet) -> list[pd.DataFrame]:
    """Return the runs on a data set, a data frame an experiment."""
    on_set = runs[runs.data_set.map(lambda one: one == data_set).astype(bool)]
    return [group for _, group in on_set.groupby("experiment", sort=False)]


def coverage(runs: pd.DataFrame) -> tuple[int, int, str]:
    """Return what makes an experiment the main one: how many of the three networks, how many runs, and how new."""
    return len({one.architecture for one in runs.network if one.is_plain}), len(runs), max(runs.finished, default="")


def main_experiment(runs: pd.DataFrame, data_set: DataSet) -> pd.DataFrame:
    """Return the runs of the experiment on a data set that has most of the paper's three networks; see `coverage`."""
    return max(experiments(runs, data_set), key=coverage, default=runs.iloc[:0])


def networks(runs: pd.DataFrame) -> list[Network]:
    """Return the networks that have runs, in the paper's order of architectures."""
    order = {name: place for place, name in enumerate(ARCHITECTURES)}
    return sorted(set(runs.network), key=lambda one: (order.get(one.architecture, len(order)), one))


def seed_score(runs: pd.DataFrame, network: Network, metric: str) -> SeedScore | None:
    """Return a metric of a network over its seeds, None where no seed has it."""
    own = runs[runs.network == network]
    scores, spreads = metric_of(own, metric), metric_of(own, metric, "spread")
    if not scores:
        return None
    deviation = statistics.stdev(scores) if len(scores) > 1 else None
    return SeedScore(statistics.fmean(scores), deviation, statistics.fmean(spreads) if spreads else None, len(scores))


def best_of_architecture(runs: pd.DataFrame, architecture: str, metric: str) -> SeedScore | None:
    """Return the highest mean among the plain networks of an architecture, for a comparison with the paper's one."""
    wanted = [one for one in networks(runs) if one.architecture == architecture and one.is_plain]
    scores = [score for one in wanted if (score := seed_score(runs, one, metric)) is not None]
    return max(scores, key=lambda score: score.mean, default=None)


def best_run(runs: pd.DataFrame, data_set: DataSet, metric: str) -> tuple[pd.DataFrame, SeedScore] | None:
    """Return the runs of the network with the highest mean of a metric, whatever its budget, and that mean."""
    scores = [
        (group[group.network == network], score)
        for group in experiments(runs, data_set)
        for network in networks(group)
        if (score := seed_score(group, network, metric)) is not None
    ]
    return max(scores, key=lambda one: one[1].mean, default=None)


def gathered(runs: pd.DataFrame, data: str) -> list[Record]:
    """Return the records, each once, of main experiments, of compared tracks and splits, and of the best networks."""
    found = [main_experiment(runs, data_set) for data_set in OF_DATA[data]]
    found += compared_tracks(runs, data).runs
    if ISBI in OF_DATA[data]:
        found += compared_splits(runs).values()
    for data_set, of in product(OF_DATA[data], ("membrane", "background")):
        best = best_run(runs, data_set, f"test_{of}_f1")
        found += [] if best is None else [best[0]]
    return list({record["run_id"]: record for part in found for record in part.record}.values())


def compared_splits(runs: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return, by split, the runs on ISBI 2012 that have a partner: alike in all but the ten held-out sections.

    The paper gives their number only. "block" holds out the last ten, tissue that nothing was trained on; "interleaved"
    every third section, whose neighbours, 50 nm away, are in the training or validation set.
    """
    scored = runs[["test_membrane_f1" in record["metrics"] for record in runs.record]]
    on_isbi = scored[[one == ISBI for one in scored.data_set]]
    split = on_isbi.experiment.map(lambda one: dict(one).get("split"))
    rest = on_isbi.experiment.map(lambda one: tuple(pair for pair in one if pair[0] != "split"))
    keys = pd.Series(list(zip(rest, on_isbi.network, on_isbi.seed, strict=True)), on_isbi.index, dtype=object)
    both = set(keys[split == SPLITS[0]]) & set(keys[split == SPLITS[1]])
    return {name: on_isbi[(split == name) & keys.map(both.__contains__).astype(bool)] for name in SPLITS}


def tissue_of(record: Record) -> Tissue | None:
    """Return what the images of a run show, None where its record lacks it."""
    from emseg.membrane.dataset.known_sets import synthetic_track
    from emseg.membrane.dataset.labels import TRACK_1_SIDE, TRACK_2_SIDE
    from emseg.membrane.training.membrane_plan import PLANS

    of = record["parameters"]
    nm = next((use.get("pixel_size_nm") for use in record["data"]), None)
    data, track = of["data"], of["track"]
    usual = {"track1": TRACK_1_SIDE, "track2": TRACK_2_SIDE}.get(track) if data == "urisc" else None
    own = synthetic_track(track).size_px if data == "synthetic" else usual
    side_px = int(of.get("size_px") or 0) or own
    n_images = record["metrics"].get("n_training_images", {}).get("value")
    if nm is None or side_px is None or n_images is None:
        return None
    crop_px = int(of.get("crop_size") or 0) or PLANS[str(of.get("plan") or "small")].crop_size
    side_um = side_px * nm / 1000
    return Tissue(side_um, n_images * side_um**2, crop_px * nm / 1000)


def compared_tracks(runs: pd.DataFrame, data: str) -> ComparedTracks:
    """Return the runs on the two tracks of a kind of data: comparable ones if there are any, else the main ones."""
    first, second = (experiments(runs, (data, track)) or [runs.iloc[:0]] for track in TRACKS)

    def weight(one: ComparedTracks) -> tuple[bool, int, int, str]:
        covered, n_runs, finished = zip(*map(coverage, one.runs), strict=True)
        return all(n_runs) and not one.unequal, sum(covered), sum(n_runs), max(finished)

    return max((_paired(*pair) for pair in product(first, second)), key=weight)


def _paired(first: pd.DataFrame, second: pd.DataFrame) -> ComparedTracks:
    """Return two experiments side by side; where they can be compared, only networks and seeds that both have."""
    one, other = tissues = tuple(tissue_of(runs.record.iloc[0]) if len(runs) else None for runs in (first, second))
    if first.empty or second.empty:
        return ComparedTracks((first, second), tissues, "")
    settings = [[pair for pair in runs.experiment.iloc[0] if pair[0] != "size_px"] for runs in (first, second)]
    unequal = "" if settings[0] == settings[1] else "other settings"
    if one is None or other is None:
        unequal = "unknown tissue"
    elif not (
        math.isclose(one.side_um, other.side_um, rel_tol=_SIDE_TOLERANCE)
        and math.isclose(one.labelled_um2, other.labelled_um2, rel_tol=3 * _SIDE_TOLERANCE)
    ):
        unequal = "unequal tissue"
    if not unequal:
        keys = [list(zip(runs.network, runs.seed, strict=True)) for runs in (first, second)]
        first, second = first[[key in keys[1] for key in keys[0]]], second[[key in keys[0] for key in keys[1]]]
    return ComparedTracks((first, second), tissues, unequal)


def report_records(run: Run, runs: pd.DataFrame, data: str) -> None:
    """Note the F1 of the three networks on each set of this kind of data, their mean, and drops between sets."""
    means: dict[str, float] = {}
    three = len(ARCHITECTURES)
    for data_set, of in product(OF_DATA[data], ("membrane", "background")):
        key, main, metric = data_set[1] or "isbi", main_experiment(runs, data_set), f"test_{of}_f1"
        scores = {one: score for one in ARCHITECTURES if (score := best_of_architecture(main, one, metric))}
        for one, score in scores.items():
            label = f"{of.capitalize()} F1 of {ARCHITECTURES[one]} on {key}"
            run.metric(f"{key}_{one}_{of}_f1", score.mean, n=score.n, spread=score.over_seeds, label=label)
        if best := best_run(runs, data_set, metric):
            label = f"Highest {of} F1 of all runs on {key}, whatever their budget: {best[0].network.iloc[0].title}"
            run.metric(f"{key}_best_{of}_f1", best[1].mean, n=best[1].n, label=label)
            for n_parameters in metric_of(best[0].iloc[:1], "n_parameters"):
                label = f"Parameters of the network with the highest {of} F1 on {key}"
                run.metric(f"{key}_best_{of}_parameters", n_parameters, n=1, label=label)
        if len(scores) == three and of == "membrane":
            means[key] = statistics.fmean(one.mean for one in scores.values())
            label, n = f"Membrane F1 on {key}, mean of the three networks", sum(one.n for one in scores.values())
            run.metric(f"{key}_mean_f1", means[key], n=n, label=label)
    if "isbi_like" in means and "track1" in means:
        label = "Membrane F1 on ISBI-like minus Track 1, mean of the three networks"
        run.metric("resolution_drop", means["isbi_like"] - means["track1"], n=three, label=label)
    if ISBI in OF_DATA[data]:
        for split, alike in compared_splits(runs).items():
            if values := metric_of(alike, "test_membrane_f1"):
                label = f"Membrane F1 on ISBI 2012, split {split}, runs with both splits"
                run.metric(f"isbi_{split}_membrane_f1", statistics.fmean(values), n=len(values), label=label)
        return
    compared = compared_tracks(runs, data)
    for (track, tissue), (name, unit, label, _) in product(zip(TRACKS, compared.tissues, strict=True), _OF_TISSUE):
        if tissue is not None:
            run.metric(f"{track}_{name}", getattr(tissue, name), unit=unit, n=1, label=f"{label}, {track}")
    if (drop := compared.drop()) is not None:
        label = "Membrane F1 on Track 1 minus Track 2, mean of the three networks, same seeds, same area of tissue"
        run.metric("track_drop", drop, n=three, label=label)


def published_scores(track: str) -> tuple[Reported, ...]:
    """Return Table 2's rows of a track, in the paper's order: two rounds of annotation, then six teams."""
    return tuple(row for row in select_reported(load_reported("urisc"), "f1", track=track) if row.place == "Table 2")


def text_f1(**about: str) -> float:
    """Return the F1 that the paper's Introduction gives for a network, a data set or both."""
    rows = select_reported(load_reported("urisc"), "f1", **about)
    return next(row.value for row in rows if row.place == "Introduction" and row.value is not None)


def make_table(caption: str, header: Iterable[str], rows: Iterable[Iterable[str]], ids: str) -> DisplayTable:
    """Return rows of text as a table whose rows are numbered after `ids`."""
    return text_table(caption, header, {f"{ids}-{place}": row for place, row in enumerate(rows)})


def leaderboard_table() -> DisplayTable:
    """Return the paper's Table 2, both tracks side by side, with a note on its misprint."""
    rows = []
    for place, pair in enumerate(zip(*map(published_scores, ("Track 1", "Track 2")), strict=True)):
        misprint = " (printed twice; the text gives 0.99)"
        cells = ((row.about("entrant"), row.printed + misprint * (row.status == "inconsistent")) for row in pair)
        rows.append(("human" if place < 2 else str(place - 1), *chain.from_iterable(cells)))
    caption = (
        "The paper's Table 2: F1 of membrane on the test images of U-RISC, mean ± standard deviation over images. No "
        "precision or recall was published. All numbers are the paper's."
    )
    return make_table(caption, ("Place", "Track 1", "F1", "Track 2", "F1"), rows, "leaderboard")


def our_board(runs: pd.DataFrame) -> DisplayTable:
    """Return our networks on every data set: a row each, F1 of both classes and scores of cells; never mixed."""

    def shown(score: SeedScore | None, metric: str) -> str:
        digits = 1 if metric.endswith("_nm") else 3
        if score is None:
            return "none such"
        return f"{score.mean:.{digits}f}" + ("" if score.over_images is None else f" ± {score.over_images:.{digits}f}")

    rows: list[tuple[str, ...]] = []
    for data_set, title in DATA_SETS.items():
        main, kind = main_experiment(runs, data_set), KINDS[data_set[0]]
        for network in networks(main):
            scores = [shown(seed_score(main, network, metric), metric) for metric in _SHOWN]
            rows.append((title, kind, network.title, str(main[main.network == network].seed.nunique()), *scores))
        if main.empty:
            rows.append((title, kind, "", "0", *[NOT_RUN] * len(_SHOWN)))
    caption = (
        "Our networks on test images, by data set: mean over seeds, ± standard deviation over images. Of each data set "
        "the experiment with most of the three networks is shown."
    )
    return make_table(caption, ("Data", "Kind", "Network", "Seeds", *_SHOWN.values()), rows, "ours")


def networks_table(runs: pd.DataFrame) -> DisplayTable:
    """Return the paper's Table 3, of which only bounds could be found, and our networks next to it."""
    sets = (("isbi2012", ""), ("synthetic", "isbi_like"), ("synthetic", "track1"), ("urisc", "track1"))
    rows = {}
    for architecture, name in ARCHITECTURES.items():
        cells = [name]
        for data_set in ("ISBI 2012", "U-RISC"):
            about = select_reported(load_reported("urisc"), "f1", dataset=data_set, entrant=name)
            found = {row.place: row for row in reversed(about) if row.value}
            stated = f"; {found['Introduction'].value:g} in the text" if "Introduction" in found else ""
            cells.append((found["Table 3"].printed if "Table 3" in found else "") or NOT_FOUND + stated)
        for one in sets:
            main = main_experiment(runs, one)
            pair = [best_of_architecture(main, architecture, f"test_{of}_f1") for of in ("membrane", "background")]
            texts = [NOT_RUN if score is None else f"{score.mean:.3f}" for score in pair]
            cells.append(" / ".join(texts) if any(pair) else NOT_RUN)
        rows[f"networks-{architecture}"] = cells
    caption = (
        "The paper's Table 3 and ours: F1. The paper's table could not be found; of its text only bounds are known "
        "(over 0.97 on ISBI 2012, 0.57 to 0.61 on U-RISC), without the class. Ours: membrane / background."
    )
    ours = (f"Ours, {DATA_SETS[one]} ({KINDS[one[0]]})" for one in sets)
    return text_table(caption, ("Network", "Paper, ISBI 2012", "Paper, U-RISC", *ours), rows)


def survey_table() -> DisplayTable:
    """Return what the paper's text reports of the methods of the leading teams; Figure 5's bars could not be read."""
    rows = []
    for row in select_reported(load_survey(), "surveyed_method"):
        aspect, _, method = row.about("item").partition(": ")
        rows.append((aspect, method, f"“{row.printed}”" if row.printed else NOT_FOUND, row.place, row.note))
    caption = (
        "Methods of the six leading teams, as the text names them. Figure 5 shows fractions of teams and mean F1 for "
        "each; its bars could not be read, and the text gives only one fraction."
    )
    return make_table(caption, ("Aspect", "Method", "The paper reports", "Place", "Note"), rows, "survey")


def tracks_table(runs: pd.DataFrame) -> DisplayTable:
    """Return membrane F1 of the same networks on the two tracks with the tissue that they saw."""
    rows = []
    for data, kind in (("synthetic", "synthetic"), ("urisc", "U-RISC")):
        compared = compared_tracks(runs, data)
        for architecture, name in ARCHITECTURES.items():
            scores = [None if score is None else score.mean for score in compared.scores(architecture)]
            rows.append(_tracks_row(f"ours: {name}, {kind}", scores, compared.unequal))
        for attribute, _, _, label in _OF_TISSUE:
            values = [getattr(one, attribute, None) for one in compared.tissues]  # None where the tissue is unknown
            known = [value for value in values if value is not None]
            ratio = known[1] / known[0] if len(known) == 2 else math.nan
            equal = "equal" if math.isclose(ratio, 1, rel_tol=3 * _SIDE_TOLERANCE) else f"Track 2: {ratio:.2g} times"
            if known:
                shown = ("" if one is None else f"{one:.3g}" for one in values)
                rows.append((f"{kind}: {label}", *shown, equal if len(known) == 2 else ""))
    caption = (
        "F1 of membrane on the two tracks, mean over test images and seeds, over the same seeds and only where the "
        "images of both tracks show the same area of tissue, given below each kind of data with the crop's side."
    )
    return make_table(caption, ("", "Track 1", "Track 2", "Difference"), rows, "tracks")


def _tracks_row(name: str, scores: Sequence[float | None], unequal: str = "") -> tuple[str, ...]:
    shown = [NOT_RUN if one is None else f"{one:.3f}" for one in scores]
    known = [one for one in scores if one is not None]
    difference = typeset(f"{known[0] - known[1]:+.3f}") if len(known) == 2 else ""
    return name, *shown, f"not compared: {unequal}" if difference and unequal else difference


def plot_board() -> Figure:
    """Draw the paper's scores on both tracks with their standard deviations over images."""
    figure, axes = plt.subplots(1, 2, figsize=(PAGE_WIDTH_IN, 2.6), sharex=True)
    for ax, track in zip(axes, ("Track 1", "Track 2"), strict=True):
        rows = published_scores(track)
        for place, row in enumerate(rows):
            colour = COLOURS["vermilion" if row.about("entrant").startswith("Human") else "blue"]
            ax.errorbar(row.value, place, xerr=row.sd, fmt="o", ms=4, color=colour, elinewidth=1.0, capsize=2)
        names = [row.about("entrant") + " (misprint)" * (row.status == "inconsistent") for row in rows]
        ax.set_yticks(range(len(rows)), names)
        ax.set(xlim=(0.45, 1.01), ylim=(len(rows) - 0.4, -0.6), title=track, xlabel="F1 of membrane")
        ax.grid(axis="x", color="#DDDDDD", lw=0.6)
        ax.set_axisbelow(True)
    return figure
