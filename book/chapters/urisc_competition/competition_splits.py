"""ISBI 2012 by which ten sections are held out: the paper says how many, not which.

    block         the last ten sections, a stretch of tissue that nothing was trained on
    interleaved   every third section; both its neighbours, 50 nm away, are trained on or chosen by

Compared are runs that are alike in all else, network and seed included. The difference says how much of a score is the
choice of the sections: how near they lie to those that were trained on, and how well these sections can be read at all.
"""

import statistics
from collections.abc import Iterable

from chapters.urisc_competition.competition_records import DataSet, Trained
from emseg.runs.session import Run

ISBI: DataSet = ("isbi2012", "")
SPLITS = ("block", "interleaved")
METRIC = "test_membrane_f1"


def compared_splits(trained: Iterable[Trained]) -> list[tuple[Trained, Trained]]:
    """Return pairs of runs on ISBI 2012 that differ in the split alone: the block's, and the interleaved one's."""
    found: dict[tuple[object, ...], dict[str, Trained]] = {}
    for one in trained:
        settings = dict(one.experiment)
        split = settings.pop("split", None)
        if one.data_set == ISBI and split in SPLITS and one.score(METRIC) is not None:
            key = (tuple(sorted(settings.items())), one.network, one.seed)
            found.setdefault(key, {})[split] = one
    block, interleaved = SPLITS
    return [(of[block], of[interleaved]) for of in found.values() if len(of) == len(SPLITS)]


def report_splits(run: Run, trained: Iterable[Trained]) -> None:
    """Note membrane F1 under either split, the mean over the pairs; nothing where there is no pair."""
    pairs = compared_splits(trained)
    for place, split in enumerate(SPLITS):
        scores = [score for pair in pairs if (score := pair[place].score(METRIC)) is not None]
        if scores:
            label = f"Membrane F1 on ISBI 2012, split {split}, runs with both splits"
            run.metric(f"isbi_{split}_membrane_f1", statistics.fmean(scores), n=len(scores), label=label)
