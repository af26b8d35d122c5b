"""Two experiments on section quality: one frequency at a time, and one attention against another.

    single frequencies   a network for each (h, w) of a grid and each seed: accuracy [frequency, seed]
    attentions           networks for none, SE, ECA, FcaNet, FANet, FANet with FcaNet's normalisation, and a choice of
                         your own: accuracy {name: by seed}

Both are lists of cells of one training, so they are trained together and share what they have in common: the single
frequency (0, 0) is SE.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from chapters.channel_attention.single_frequency import Accuracy, Difference, Frequency, paired_difference
from chapters.wafer_dataset.quality_cells import Cell, Scores, score_cells
from chapters.wafer_dataset.section_quality import (
    NetworkDesign,
    Training,
    build_network,
    n_attention_parameters,
    n_parameters,
    single_frequency,
)
from emseg.errors import UsageError
from emseg.frequency.dct import PARTS, TOP16
from emseg.synthetic.wafer.section_crops import CropSet

LABELS = {
    "none": "none (ResNet)",
    "se": "SE: the mean",
    "eca": "ECA: the mean, k weights",
    "fca": "FcaNet: 16, pooled first",
    "fanet": "FANet: 16, full map",
    "fanet_ortho": "FANet, orthonormal",
    "own": "your own choice",
}


@dataclass(frozen=True)
class Experiment:
    """What is trained; `own_frequencies` is the reader's choice, on the full map as in FANet."""

    training: Training
    design: NetworkDesign
    frequencies: tuple[Frequency, ...]
    n_seeds: int
    n_comparison_seeds: int
    own_frequencies: tuple[Frequency, ...] = ((0, 0), (0, 1), (1, 0), (1, 1))
    first_seed: int = 0
    device: str = "cpu"
    designs: dict[str, NetworkDesign] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        if (0, 0) not in self.frequencies:
            raise UsageError("the frequencies must hold (0, 0), the mean, with which all others are compared.")
        if min(self.n_seeds, self.n_comparison_seeds) < 2:
            raise UsageError(
                "at least 2 seeds are needed, or chance cannot be told from an effect; "
                f"got {self.n_seeds} and {self.n_comparison_seeds}."
            )
        designs = {name: replace(self.design, attention=name) for name in ("none", "se", "eca", "fca", "fanet")}
        own = replace(self.design, attention="fanet", frequencies=self.own_frequencies)
        ortho = replace(designs["fanet"], normalization="ortho")
        object.__setattr__(self, "designs", designs | {"fanet_ortho": ortho, "own": own})

    def single_cells(self) -> list[list[Cell]]:
        """Return the cells of each frequency, by seed."""
        return [self._cells(single_frequency(pair, self.design), self.n_seeds) for pair in self.frequencies]

    def comparison_cells(self) -> dict[str, list[Cell]]:
        """Return the cells of each attention, by seed."""
        return {name: self._cells(design, self.n_comparison_seeds) for name, design in self.designs.items()}

    def _cells(self, design: NetworkDesign, n: int) -> list[Cell]:
        # Frequencies that an attention does not use must not make two cells of one network.
        used = design if design.attention in ("fca", "fanet") else replace(design, frequencies=())
        return [Cell(used, self.first_seed + number, self.training, self.device) for number in range(n)]


@dataclass(frozen=True)
class Outcome:
    """Held-out accuracies, `single` [frequency, seed] and `compared` by attention and seed.

    Of the `n_networks`, `n_kept` scores came from an earlier run; `seconds_each` is the median time of a training.
    """

    single: Accuracy
    compared: dict[str, list[float]]
    n_networks: int
    n_kept: int
    seconds_each: float

    def difference(self, name: str, other: str) -> Difference:
        """Return the paired difference of two attentions over the seeds."""
        return paired_difference(self.compared[name], self.compared[other])


def run_experiment(
    experiment: Experiment, folder: Path | None, *, n_workers: int, crops: tuple[CropSet, CropSet] | None = None
) -> Outcome:
    """Train, or take from `folder`, all networks of both experiments, and return their accuracies.

    `crops` are those to learn from and those held out, where they are at hand already.
    """
    single, compared = experiment.single_cells(), experiment.comparison_cells()
    cells = [cell for group in (*compared.values(), *single) for cell in group]
    scores: Scores = score_cells(cells, folder, n_workers=n_workers, crops=crops)
    return Outcome(
        single=np.array([scores.accuracy(group) for group in single]),
        compared={name: scores.accuracy(group) for name, group in compared.items()},
        n_networks=len(scores.by_cell),
        n_kept=scores.n_kept,
        seconds_each=float(np.median([score.seconds for score in scores.by_cell.values()])),
    )


def parameter_counts(experiment: Experiment) -> dict[str, tuple[int, int]]:
    """Return for each attention how many parameters the network has, and how many of them are the attention's."""
    counts = {}
    for name, design in experiment.designs.items():
        network = build_network(design, experiment.first_seed)
        counts[name] = n_parameters(network), n_attention_parameters(network)
    return counts


def frequency_pairs(rows: Sequence[int], columns: Sequence[int]) -> tuple[Frequency, ...]:
    """Return the pairs (h, w) from a list of h and a list of w of the same length, one for each channel group.

    Their number must divide 16, so that it divides the channels of every stage; each index is one of Table 1's, 0 to 6.
    """
    if len(rows) != len(columns):
        raise UsageError(
            f"each frequency needs one row index h and one column index w; got {len(rows)} and {len(columns)}. "
            "Give both lists the same length."
        )
    if not rows or len(TOP16) % len(rows):
        raise UsageError(
            f"the number of frequencies must divide {len(TOP16)}, or the channels cannot be shared out evenly; "
            f"got {len(rows)}. Give 1, 2, 4, 8 or 16."
        )
    for index in (*rows, *columns):
        if not 0 <= index < PARTS:
            raise UsageError(f"the indices h and w of a frequency must be from 0 to {PARTS - 1}; got {index}.")
    return tuple(zip(rows, columns, strict=True))
