"""Runs of the baseline chapter as the competition's tables need them: sorted into experiments, networks and seeds.

    experiment   what a comparison holds fixed: data, track, split, numbers of images, budget, loss. Scores of two
                 experiments are never mixed, so no two kinds of data either
    network      what is compared: architecture, encoder, width, attention, pretraining
    sample       the seeds of a network; of a seed that was run twice the newer record counts

A parameter that is off (0, False, empty, "none") is none of an experiment: a record that is older than the parameter
belongs to the same one.

A score is the mean over test images, as the baseline chapter notes it.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CHAPTER = "urisc/urisc_baselines"
ARCHITECTURES = {"unet": "U-Net", "linknet": "LinkNet", "casenet": "CASENet"}
DATA_SETS = {
    ("synthetic", "track1"): "synthetic, Track 1",
    ("synthetic", "track2"): "synthetic, Track 2",
    ("synthetic", "isbi_like"): "synthetic, ISBI-like",
    ("isbi2012", ""): "ISBI 2012",
    ("urisc", "track1"): "U-RISC, Track 1",
    ("urisc", "track2"): "U-RISC, Track 2",
}
"""Data and track, and what a table calls them. ISBI 2012 has no tracks."""
# Parameters of the baseline chapter that tell networks apart, and those that decide nothing about a score's meaning.
OF_NETWORK = (
    *("network", "encoder", "encoder_depth", "base_channels", "attention", "reduction"),
    *("pretraining", "pretraining_steps", "pretraining_file", "pretraining_sha256"),  # older records lack the last
)
WITHOUT_MEANING = (
    "seed",
    "device",
    "n_devices",
    "n_workers",
    "n_resamples",
    "validate_every",
    "work_folder",
    "weights",
)
LEFT_OUT = frozenset({*OF_NETWORK, *WITHOUT_MEANING, "data", "track", "learning_rate"})
_OFF = ("", "0", "0.0", "False", "none", "None")

Record = Mapping[str, Any]
DataSet = tuple[str, str]


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


@dataclass(frozen=True, eq=False)
class Trained:
    """One run of the baseline chapter; `experiment`: the parameters that it shares with those it is compared with."""

    data_set: DataSet
    experiment: tuple[tuple[str, str], ...]
    network: Network
    seed: int
    record: Record

    def score(self, metric: str) -> float | None:
        """Return a metric of the run, None where it was not defined."""
        found = self.record["metrics"].get(metric)
        return None if found is None else float(found["value"])


@dataclass(frozen=True)
class SeedScore:
    """A metric of a network: mean over `n` seeds, their standard deviation, and that over images, where known."""

    mean: float
    over_seeds: float | None
    over_images: float | None
    n: int


def trained_networks(records: Iterable[Record]) -> list[Trained]:
    """Return the runs of the baseline chapter among the `records`, of each seed of a network the newest."""
    newest: dict[tuple[object, ...], Trained] = {}
    for record in sorted(records, key=lambda one: str(one["finished"])):
        if record["chapter"] != CHAPTER:
            continue
        of = record["parameters"]
        track = "" if of["data"] in ("isbi2012", "folder") else str(of["track"])
        network = Network(
            str(of["network"]),
            str(of["encoder"]),
            int(of.get("encoder_depth") or 0),
            int(of.get("base_channels") or 0),
            _with(of, "attention", "reduction", "reduction"),
            _with(of, "pretraining", "pretraining_steps", "steps"),
        )
        experiment = tuple(
            sorted((name, str(value)) for name, value in of.items() if name not in LEFT_OUT and str(value) not in _OFF)
        )
        one = Trained((str(of["data"]), track), experiment, network, int(of["seed"]), record)
        newest[one.data_set, one.experiment, network, one.seed] = one
    return list(newest.values())


def _with(of: Mapping[str, Any], name: str, option: str, word: str) -> str:
    value = str(of.get(name) or "none")
    return f"{value}, {word} {of[option]}" if value != "none" and of.get(option) else value


def main_experiment(trained: Iterable[Trained], data_set: DataSet) -> list[Trained]:
    """Return the runs of the experiment on a data set that has most of the paper's three networks; see `coverage`."""
    return max(experiments(trained, data_set), key=coverage, default=[])


def experiments(trained: Iterable[Trained], data_set: DataSet) -> list[list[Trained]]:
    """Return the runs on a data set, a list an experiment."""
    found: dict[tuple[tuple[str, str], ...], list[Trained]] = {}
    for one in trained:
        if one.data_set == data_set:
            found.setdefault(one.experiment, []).append(one)
    return list(found.values())


def coverage(runs: Sequence[Trained]) -> tuple[int, int, str]:
    """Return what makes an experiment the main one: how many of the three networks, how many runs, and how new."""
    architectures = {run.network.architecture for run in runs if run.network.is_plain}
    return len(architectures), len(runs), max((str(run.record["finished"]) for run in runs), default="")


def networks(trained: Iterable[Trained]) -> list[Network]:
    """Return the networks that have runs, in the paper's order of architectures."""
    order = list(ARCHITECTURES)
    return sorted(
        {one.network for one in trained},
        key=lambda one: (order.index(one.architecture) if one.architecture in order else len(order), one),
    )


def seed_score(trained: Iterable[Trained], network: Network, metric: str) -> SeedScore | None:
    """Return a metric of a network over its seeds, None where no seed has it."""
    runs = [one for one in trained if one.network == network]
    scores = [score for one in runs if (score := one.score(metric)) is not None]
    if not scores:
        return None
    spreads = [one.record["metrics"].get(metric, {}).get("spread") for one in runs]
    known = [float(value) for value in spreads if value is not None and math.isfinite(value)]
    deviation = statistics.stdev(scores) if len(scores) > 1 else None
    return SeedScore(statistics.fmean(scores), deviation, statistics.fmean(known) if known else None, len(scores))


def best_run(trained: Sequence[Trained], data_set: DataSet, metric: str) -> tuple[Trained, SeedScore] | None:
    """Return a run of the network with the highest mean of a metric over its seeds, and that mean.

    All experiments on the data set count, whatever their budget, and pretrained networks too.
    """
    scores = [
        (next(one for one in runs if one.network == network), score)
        for runs in experiments(trained, data_set)
        for network in networks(runs)
        if (score := seed_score(runs, network, metric)) is not None
    ]
    return max(scores, key=lambda one: one[1].mean, default=None)


def best_of_architecture(trained: Sequence[Trained], architecture: str, metric: str) -> SeedScore | None:
    """Return the highest mean among the plain networks of an architecture, for a comparison with the paper's one."""
    wanted = [one for one in networks(trained) if one.architecture == architecture and one.is_plain]
    scores = [score for one in wanted if (score := seed_score(trained, one, metric)) is not None]
    return max(scores, key=lambda score: score.mean, default=None)
