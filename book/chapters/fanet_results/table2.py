"""FANet's Table 2 again: run records of trained detectors, sorted into experiments, cells and seeds.

    experiment   what a comparison holds fixed: data, split, size of the networks, budget, precision. Scores of two
                 experiments are never mixed.
    cell         what is compared: detector, depth, attention and, for FANet, the choices that the paper leaves open
    sample       the seeds of a cell; of a seed that was run twice the newer record counts

A score is mask AP in percent on images that the training did not see, as `report_scores` notes it. A difference
between two attentions is taken between networks of the same detector, depth and seed, which saw the same images in the
same order; its interval is Student's t over those pairs.

Source: Sun et al. 2021 (FANet), Table 2 and section 4.4.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emseg.errors import UsageError
from emseg.intervals import difference_over_seeds
from emseg.wafer.scores import METRICS, ScoreDifference

CHAPTER = "fanet/fanet_training"
DETECTORS = ("mask_rcnn", "ms_rcnn")
DEPTHS = (34, 50)
PAPER_ATTENTIONS = ("none", "se", "fca", "fanet")
ATTENTIONS = ("none", "se", "eca", "fca", "fanet")
OPEN_CHOICES = {"fanet_indexing": "raw", "fanet_normalization": "mean"}
# Parameters of the training chapter that make two runs one experiment where they agree.
HELD_FIXED = (
    "data",
    "preset",
    "split",
    "size",
    "reduction",
    "schedule",
    "n_steps",
    "batch",
    "learning_rate",
    "precision",
    "data_seed",
)

Record = Mapping[str, Any]


@dataclass(frozen=True, order=True)
class Experiment:
    """What is the same for all networks that are compared; `values` go with `HELD_FIXED`."""

    values: tuple[Any, ...]

    def value(self, name: str) -> Any:
        """Return the value of one of `HELD_FIXED`."""
        return self.values[HELD_FIXED.index(name)]

    @property
    def title(self) -> str:
        """What a table's caption says of the experiment."""
        data = {"magc_wafer": "the MagC wafer", "folder": "a folder of the user's"}.get(str(self.value("data")))
        data = data or f"synthetic wafers, preset {self.value('preset')}"
        steps, batch = self.value("n_steps"), self.value("batch")
        budget = (f"{steps} steps" if steps else "the schedule's steps") + (f" of {batch} tiles" if batch else "")
        networks = f"{self.value('size')} networks"
        return f"{data}, split by {self.value('split')}, {networks}, {budget}, {self.value('precision')}"


@dataclass(frozen=True, order=True)
class Cell:
    """One network of Table 2; the open choices are FANet's, and the defaults for every other attention."""

    detector: str
    depth: int
    attention: str
    fanet_indexing: str = OPEN_CHOICES["fanet_indexing"]
    fanet_normalization: str = OPEN_CHOICES["fanet_normalization"]


@dataclass(frozen=True, eq=False)
class Trained:
    """One run of the training chapter."""

    experiment: Experiment
    cell: Cell
    seed: int
    record: Record

    def score(self, metric: str) -> float | None:
        """Return a metric of the run, None where it was not defined."""
        found = self.record["metrics"].get(metric)
        return None if found is None else float(found["value"])


@dataclass(frozen=True)
class CellScore:
    """One metric of a cell: mean and standard deviation over `n` seeds; the spread of a single seed is None."""

    mean: float
    spread: float | None
    n: int


def trained_detectors(records: Iterable[Record]) -> list[Trained]:
    """Return the runs of the training chapter among the `records`, of each seed of a cell the newest."""
    newest: dict[tuple[Experiment, Cell, int], Trained] = {}
    for record in sorted(records, key=lambda one: str(one["finished"])):
        if record["chapter"] != CHAPTER:
            continue
        of = record["parameters"]
        choices = {name: of[name] for name in OPEN_CHOICES} if of["attention"] == "fanet" else {}
        cell = Cell(of["detector"], of["depth"], of["attention"], **choices)
        trained = Trained(Experiment(tuple(of[name] for name in HELD_FIXED)), cell, int(of["seed"]), record)
        newest[trained.experiment, cell, trained.seed] = trained
    return list(newest.values())


def experiments(trained: Iterable[Trained]) -> dict[Experiment, list[Trained]]:
    """Return the runs by experiment, those with most runs first."""
    found: dict[Experiment, list[Trained]] = {}
    for one in trained:
        found.setdefault(one.experiment, []).append(one)
    return dict(sorted(found.items(), key=lambda item: (-len(item[1]), item[0].title)))


def main_experiment(trained: Iterable[Trained], *, split: str = "wafer") -> list[Trained]:
    """Return the runs of the experiment on this split that covers most of Table 2; empty where there is none."""
    of_split = [runs for experiment, runs in experiments(trained).items() if experiment.value("split") == split]
    return max(of_split, key=lambda runs: (len({run.cell for run in runs}), len(runs)), default=[])


def cell_score(trained: Iterable[Trained], cell: Cell, metric: str) -> CellScore | None:
    """Return a metric of a cell over its seeds, None where no seed has it."""
    scores = [score for one in trained if one.cell == cell if (score := one.score(metric)) is not None]
    if not scores:
        return None
    mean = sum(scores) / len(scores)
    spread = (sum((score - mean) ** 2 for score in scores) / (len(scores) - 1)) ** 0.5 if len(scores) > 1 else None
    return CellScore(mean, spread, len(scores))


def seed_spread(trained: Iterable[Trained], metric: str = "ap") -> float | None:
    """Return the standard deviation over seeds within cells, pooled; None where no cell has two seeds."""
    runs = list(trained)
    scores = [cell_score(runs, cell, metric) for cell in {one.cell for one in runs}]
    squares = [(score.n - 1, (score.n - 1) * score.spread**2) for score in scores if score and score.spread is not None]
    freedom = sum(n for n, _ in squares)
    return math.sqrt(sum(square for _, square in squares) / freedom) if freedom else None


def paired_scores(
    trained: Sequence[Trained], first: str, second: str, metric: str = "ap"
) -> dict[tuple[str, int], list[float]]:
    """Return the differences of all pairs of one detector, depth and seed, by detector and depth."""
    found: dict[tuple[str, int], list[float]] = {}
    scores = {(one.cell, one.seed): one.score(metric) for one in trained}
    for (cell, seed), score in scores.items():
        other = scores.get((Cell(cell.detector, cell.depth, second), seed))
        if cell == Cell(cell.detector, cell.depth, first) and score is not None and other is not None:
            found.setdefault((cell.detector, cell.depth), []).append(score - other)
    return found


def attention_difference(
    trained: Sequence[Trained], first: str, second: str, metric: str = "ap", *, row: tuple[str, int] | None = None
) -> ScoreDifference | None:
    """Return one attention minus another over all pairs of one detector, depth and seed; None with fewer than two.

    FANet stands for its default choices. `row` takes the networks of one detector and depth alone.
    """
    return _difference(
        trained,
        lambda cell: (
            cell == Cell(cell.detector, cell.depth, first) and (row is None or (cell.detector, cell.depth) == row)
        ),
        lambda cell: Cell(cell.detector, cell.depth, second),
        metric,
    )


def detector_difference(trained: Sequence[Trained], metric: str = "ap") -> ScoreDifference | None:
    """Return Mask Scoring R-CNN minus Mask R-CNN over all pairs of one depth, attention and seed."""
    return _difference(
        trained,
        lambda cell: cell.detector == "ms_rcnn" and cell == Cell(cell.detector, cell.depth, cell.attention),
        lambda cell: Cell("mask_rcnn", cell.depth, cell.attention),
        metric,
    )


def depth_difference(trained: Sequence[Trained], metric: str = "ap") -> ScoreDifference | None:
    """Return ResNet-50 minus ResNet-34 over all pairs of one detector, attention and seed."""
    return _difference(
        trained,
        lambda cell: cell.depth == 50 and cell == Cell(cell.detector, cell.depth, cell.attention),
        lambda cell: Cell(cell.detector, 34, cell.attention),
        metric,
    )


def choice_difference(
    trained: Sequence[Trained], choice: str, value: str, metric: str = "ap"
) -> ScoreDifference | None:
    """Return FANet with one open choice made otherwise, minus FANet with the defaults."""
    if choice not in OPEN_CHOICES:
        raise UsageError(f"`choice` must be one of {', '.join(OPEN_CHOICES)}; got {choice!r}.")
    changed = {**OPEN_CHOICES, choice: value}
    return _difference(
        trained,
        lambda cell: cell == Cell(cell.detector, cell.depth, "fanet", **changed),
        lambda cell: Cell(cell.detector, cell.depth, "fanet"),
        metric,
    )


def best_attentions(trained: Sequence[Trained], metric: str = "ap") -> dict[tuple[str, int], str]:
    """Return which of the paper's four attentions has the highest mean, for each detector and depth that has all."""
    best = {}
    for detector in DETECTORS:
        for depth in DEPTHS:
            scores = {name: cell_score(trained, Cell(detector, depth, name), metric) for name in PAPER_ATTENTIONS}
            means = {name: score.mean for name, score in scores.items() if score is not None}
            if len(means) == len(PAPER_ATTENTIONS):
                best[detector, depth] = max(means, key=lambda name: means[name])
    return best


def leak_gain(trained: Iterable[Trained], *, split: str, metric: str = "ap") -> ScoreDifference | None:
    """Return the score on the split's own validation tiles minus that on fresh wafers, over all runs of the split.

    Where validation shares no pixel with training, and wafers are alike, nothing but chance can make a difference.
    """
    runs = [one for one in trained if one.experiment.value("split") == split]
    pairs = [(one.score(metric), one.score(f"fresh_{metric}")) for one in runs]
    whole = [(own, fresh) for own, fresh in pairs if own is not None and fresh is not None]
    return difference_over_seeds(whole) if len(whole) > 1 else None


def _difference(
    trained: Sequence[Trained], wanted: Callable[[Cell], bool], partner: Callable[[Cell], Cell], metric: str
) -> ScoreDifference | None:
    if metric.removeprefix("fresh_") not in METRICS:
        raise UsageError(f"`metric` must be one of {', '.join(METRICS)}; got {metric!r}.")
    scores = {(one.experiment, one.cell, one.seed): one.score(metric) for one in trained}
    pairs = []
    for (experiment, cell, seed), score in scores.items():
        other = scores.get((experiment, partner(cell), seed)) if wanted(cell) else None
        if score is not None and other is not None:
            pairs.append((score, other))
    return difference_over_seeds(pairs) if len(pairs) > 1 else None
