"""Pretraining against none at an equal budget: the same trainings from random and from pretrained encoders.

    cell     a pretraining ("none", "moco", ...), a share of the labels, a seed
    pair     two cells of one share and seed that differ in the pretraining alone: same labelled images, same crops in
             the same order, same decoder at the start, same number of steps

The pretraining of seed s sees all training images without labels, is itself seeded by s, and is shared by all shares of
labels. Its own steps come on top of the budget; what they take is told. A cell is trained by this module
(`run_transfer`) or was run as a cell of a matrix of the training chapter (`transfer_of_records`).
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from chapters.urisc_baselines.membrane_experiment import train_and_score, with_label_fraction
from emseg.errors import UsageError
from emseg.files import find_root
from emseg.intervals import SeedDifference, difference_over_seeds
from emseg.membrane.dataset import MembraneSet
from emseg.membrane.networks import NetworkDesign
from emseg.membrane.pretraining import PretrainedEncoder, PretrainingPlan, pretrain_on_set, start_from_file
from emseg.membrane.pretraining.pretrain_encoder import MOCO, NONE
from emseg.membrane.training import TrainingPlan

CHAPTER = "urisc/urisc_baselines"
METRICS = ("membrane_f1", "v_rand", "v_info")
# Parameters of the training chapter that may differ within one comparison; all others are held fixed.
FREE = (
    *("pretraining", "pretraining_file", "pretraining_sha256", "label_fraction", "seed"),
    *("device", "n_devices", "n_workers", "work_folder", "n_resamples", "validate_every"),
)
_PART = "test"

Record = Mapping[str, Any]


@dataclass(frozen=True)
class TransferCell:
    """The scores on test images, by metric, of one trained network; `seconds` is what its training took."""

    pretraining: str
    label_fraction: float
    seed: int
    n_labelled: int
    scores: Mapping[str, float]
    seconds: float


@dataclass(frozen=True, eq=False)
class Transfer:
    """All cells of one comparison: with `pretrained` by seed where they were trained here, or from `records`."""

    cells: tuple[TransferCell, ...]
    pretrained: Mapping[int, PretrainedEncoder] = field(default_factory=dict)
    records: tuple[Record, ...] = ()

    @property
    def fractions(self) -> list[float]:
        """The shares of labels, fewest first."""
        return sorted({cell.label_fraction for cell in self.cells})

    @property
    def pretrainings(self) -> list[str]:
        """What encoders started from, "none" first."""
        return sorted({cell.pretraining for cell in self.cells}, key=lambda name: (name != NONE, name))

    def scores(self, pretraining: str, fraction: float, metric: str = "membrane_f1") -> dict[int, float]:
        """Return the scores of a pretraining and a share of labels by seed; undefined ones are left out."""
        return {
            cell.seed: cell.scores[metric]
            for cell in self.cells
            if (cell.pretraining, cell.label_fraction) == (pretraining, fraction) and metric in cell.scores
        }

    def pairs(self, pretraining: str, fraction: float, metric: str = "membrane_f1") -> list[tuple[float, float]]:
        """Return (pretrained, none) of every seed that has both."""
        ours, none = self.scores(pretraining, fraction, metric), self.scores(NONE, fraction, metric)
        return [(ours[seed], none[seed]) for seed in sorted(ours.keys() & none.keys())]

    def gain(self, pretraining: str, fraction: float, metric: str = "membrane_f1") -> SeedDifference | None:
        """Return the score with a pretraining minus that without, over seeds; None where no pair was run."""
        pairs = self.pairs(pretraining, fraction, metric)
        return difference_over_seeds(pairs) if pairs else None

    def mean_gain(self, pretraining: str, metric: str = "membrane_f1") -> SeedDifference | None:
        """Return the gain over seeds, of each seed the mean over the shares of labels that it has both scores of."""
        by_seed: dict[int, list[tuple[float, float]]] = {}
        for fraction in self.fractions:
            ours, none = self.scores(pretraining, fraction, metric), self.scores(NONE, fraction, metric)
            for seed in ours.keys() & none.keys():
                by_seed.setdefault(seed, []).append((ours[seed], none[seed]))
        means = [(fmean(a for a, _ in pairs), fmean(b for _, b in pairs)) for _, pairs in sorted(by_seed.items())]
        return difference_over_seeds(means) if means else None

    def n_labelled(self, fraction: float) -> int:
        """Return how many labelled images a share is."""
        return next(cell.n_labelled for cell in self.cells if cell.label_fraction == fraction)


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
    done: Callable[[TransferCell], object] = lambda cell: None,
) -> Transfer:
    """Pretrain once a seed, train both ways for every share of labels and seed, and score.

    What is in `folder` already is not repeated. `done` is told of each cell. All cells of a seed come before the next
    seed, so that a run cut short compares like with like.
    """
    if not fractions or n_seeds < 1:
        raise UsageError(f"a comparison needs a share of labels and a seed; got {list(fractions)} and {n_seeds} seeds.")
    for fraction in fractions:
        with_label_fraction(membrane_set, fraction)  # a share that cannot be is refused before anything is trained
    place = Path(folder) if Path(folder).is_absolute() else find_root() / folder
    cells, pretrained = [], {}
    for seed in range(first_seed, first_seed + n_seeds):
        made = pretrain_on_set(design, replace(pretraining, seed=seed), membrane_set, place, progress=False)
        pretrained[seed] = made
        starts = {NONE: None, MOCO: start_from_file(made.weights, name=MOCO)}
        for fraction in fractions:
            labelled = with_label_fraction(membrane_set, fraction, seed=seed)
            for name, start in starts.items():
                cell = _trained_cell(design, plan.changed(seed=seed), labelled, place, name, start, fraction)
                cells.append(cell)
                done(cell)
    return Transfer(tuple(cells), pretrained=pretrained)


def _trained_cell(
    design: NetworkDesign,
    plan: TrainingPlan,
    labelled: MembraneSet,
    folder: Path,
    name: str,
    start: Any,
    fraction: float,
) -> TransferCell:
    outcome = train_and_score(design, plan, labelled, folder, start=start, progress=False)
    rows = [image.row() for image in outcome.parts[_PART].scores]
    means = {metric: fmean(known) for metric in METRICS if (known := _known(row[metric] for row in rows))}
    return TransferCell(name, fraction, plan.seed, len(labelled.train), means, outcome.trained.seconds)


def transfer_of_records(records: Iterable[Record], *, data: str) -> Transfer:
    """Return the comparison among the training chapter's records of one data set that has the most pairs.

    It is empty where there is no such record. Records are compared where all parameters agree but those of `FREE`. Of a
    cell that was run twice the newest counts.
    """
    groups: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda one: str(one["finished"])):
        if record["chapter"] == CHAPTER and record["parameters"]["data"] == data:
            fixed = {name: value for name, value in record["parameters"].items() if name not in FREE}
            groups.setdefault(repr(sorted(fixed.items())), []).append(record)
    compared = [_transfer(group) for group in groups.values()]
    return max(compared, key=_n_pairs, default=Transfer(()))


def _transfer(records: Sequence[Record]) -> Transfer:
    cells: dict[tuple[str, float, int], TransferCell] = {}
    for record in records:
        of, metrics = record["parameters"], record["metrics"]
        key = str(of["pretraining"]), float(of["label_fraction"]), int(of["seed"])
        found = {
            metric: float(metrics[f"{_PART}_{metric}"]["value"]) for metric in METRICS if f"{_PART}_{metric}" in metrics
        }
        n_labelled = int(metrics["n_training_images"]["value"]) if "n_training_images" in metrics else 0
        seconds = float(metrics["training_seconds"]["value"]) if "training_seconds" in metrics else math.nan
        cells[key] = TransferCell(*key, n_labelled, found, seconds)
    return Transfer(tuple(cells.values()), records=tuple(records))


def _n_pairs(transfer: Transfer) -> int:
    return sum(
        len(transfer.pairs(name, fraction))
        for name in transfer.pretrainings
        for fraction in transfer.fractions
        if name != NONE
    )


def _known(values: Iterable[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]
