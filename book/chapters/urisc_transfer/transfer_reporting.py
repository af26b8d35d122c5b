"""The comparison of pretraining with none as metrics of a run and as a table, the paper's numbers beside it.

A gain is a difference of F1 (or V-Rand, V-Info) from 0 to 1, over networks of one share of labels and one seed.
"""

import math
from statistics import fmean, stdev

from chapters.urisc_transfer.transfer_experiment import Transfer
from emseg.intervals import SeedDifference
from emseg.membrane.pretraining.pretrain_encoder import NONE
from emseg.reported import Reported, load_reported, select_reported
from emseg.reported.display import DisplayTable, Shown
from emseg.runs.gathering import report_gathered
from emseg.runs.session import Run
from emseg.wording import typeset

METRIC_LABELS = {"membrane_f1": "membrane F1", "v_rand": "V-Rand", "v_info": "V-Info"}
NOT_RUN = "not run"
_SHORT = {"membrane_f1": "f1", "v_rand": "v_rand", "v_info": "v_info"}
_PRETRAINING_NAMES = {NONE: "random weights", "moco": "MoCo v2 on the set's own images", "cem500k": "CEM500K"}


def pretraining_label(pretraining: str) -> str:
    """Return what a reader is told that an encoder starts from."""
    return _PRETRAINING_NAMES.get(pretraining, pretraining)


def report_transfer(run: Run, transfer: Transfer) -> None:
    """Note scores and gains at the fewest and at the most labels and over all shares; what was not run is left out."""
    if transfer.records:
        report_gathered(run, transfer.records)
    run.metric("n_networks", len(transfer.cells), n=max(1, len(transfer.cells)), label="Networks compared")
    for name in transfer.pretrainings:
        if name != NONE:
            _report_gains(run, transfer, name)
    for word, fraction in _ends(transfer).items():
        n = transfer.n_labelled(fraction)
        run.metric(f"n_labelled_{word}", n, n=max(1, n), label=f"Labelled images, {word}")
        for name in transfer.pretrainings:
            for metric, short in _SHORT.items():
                values = list(transfer.scores(name, fraction, metric).values())
                if values:
                    run.metric(
                        f"{name}_{short}_{word}",
                        fmean(values),
                        n=len(values),
                        spread=stdev(values) if len(values) > 1 else None,
                        label=f"{METRIC_LABELS[metric]}, {pretraining_label(name)}, labels: {word}",
                    )


def _report_gains(run: Run, transfer: Transfer, name: str) -> None:
    for metric, short in _SHORT.items():
        label = f"{METRIC_LABELS[metric]}: {pretraining_label(name)} minus random weights"
        _note(run, f"{name}_gain_{short}", transfer.mean_gain(name, metric), f"{label}, mean over shares of labels")
        for word, fraction in _ends(transfer).items():
            _note(run, f"{name}_gain_{short}_{word}", transfer.gain(name, fraction, metric), f"{label}, labels: {word}")


def _note(run: Run, name: str, gain: SeedDifference | None, label: str) -> None:
    if gain is None:
        return
    run.metric(name, gain.value, n=gain.n, interval=gain.interval, label=label)
    for end, word in zip(gain.interval or (), ("low", "high"), strict=False):
        run.metric(f"{name}_{word}", end, n=gain.n, label=f"{label}, {word}er end of the 95 % interval")


def _ends(transfer: Transfer) -> dict[str, float]:
    """Return the smallest and the largest share of labels by the words that metrics have for them."""
    fractions = transfer.fractions
    return {"fewest": fractions[0], "most": fractions[-1]} if fractions else {}


def report_pretraining(run: Run, transfer: Transfer) -> None:
    """Note what the pretrainings that were run here learnt and took, means over seeds; nothing where none was."""
    if not transfer.pretrained:
        return
    made = list(transfer.pretrained.values())
    n, plan = len(made), made[0].plan
    last = max(1, plan.n_steps // 10)
    late = {name: fmean(fmean(one.curves[name][-last:]) for one in made) for name in ("loss", "accuracy", "spread")}
    run.metric("contrast_loss", late["loss"], n=n, label="Contrastive loss, mean over the last tenth of the steps")
    run.metric("collapsed_loss", math.log(1 + plan.queue), n=1, label="Contrastive loss of collapsed embeddings")
    run.metric("contrast_accuracy", late["accuracy"], n=n, label="Share of own keys found, last tenth of the steps")
    run.metric("chance_accuracy", 1 / (1 + plan.queue), n=1, label="Share of own keys found by guessing")
    run.metric("embedding_spread", late["spread"], n=n, label="Spread of embeddings, 0 collapsed, last tenth")
    run.metric("n_pretraining_steps", plan.n_steps, n=1, label="Steps of a pretraining")
    seconds = fmean(one.seconds for one in made)
    of_training = [cell.seconds for cell in transfer.cells if math.isfinite(cell.seconds)]
    run.metric("pretraining_seconds", seconds, unit="s", n=n, label="Time of a pretraining")
    run.metric("training_seconds", fmean(of_training), unit="s", n=len(of_training), label="Time of a training")
    label = "Time of a pretraining over that of a training"
    run.metric("pretraining_over_training", seconds / fmean(of_training), n=n, label=label)


def paper_f1(entrant: str) -> Reported:
    """Return the F1 on U-RISC that the paper's Introduction gives for a network."""
    rows = select_reported(load_reported("urisc"), "f1", dataset="U-RISC", entrant=entrant)
    (row,) = (one for one in rows if one.place == "Introduction" and one.value is not None)
    return row


def transfer_table(transfer: Transfer) -> DisplayTable:
    """Return the shares of labels, a row each with the gain and its interval, and the paper's numbers below them."""
    rows: list[tuple[Shown, ...]] = []
    row_ids: list[str] = []
    for name in [one for one in transfer.pretrainings if one != NONE] or ["moco"]:
        for fraction in transfer.fractions:
            images = transfer.n_labelled(fraction)
            rows.append(
                (
                    Shown(f"This book: {images} labelled image{'s' if images != 1 else ''}, {pretraining_label(name)}"),
                    Shown(_mean_text(transfer, NONE, fraction)),
                    Shown(_mean_text(transfer, name, fraction)),
                    Shown(gain_text(transfer.gain(name, fraction))),
                    Shown(gain_text(transfer.gain(name, fraction, "v_rand"))),
                    Shown(str(len(transfer.pairs(name, fraction)))),
                )
            )
            row_ids.append(f"transfer-{name}-{round(1000 * fraction)}")
        if not transfer.fractions:
            rows.append((Shown(f"This book: {pretraining_label(name)}"), *(Shown(NOT_RUN) for _ in range(5))))
            row_ids.append("transfer-none-yet")
    pretrained = paper_f1("U-Net-transfer")
    for entrant, label in (("U-Net", "the same network, random weights"), ("SCP173", "the competition's first")):
        other = paper_f1(entrant)
        gap = float(pretrained.value or 0) - float(other.value or 0)
        relative = typeset(f"{gap:+.3f} ({100 * gap / float(other.value or 1):+.0f} %)")
        cells = (f"The paper, U-RISC, CEM500K: beside {label}", f"{other.value}", f"{pretrained.value}", relative)
        rows.append((*(Shown(cell) for cell in cells), Shown("not stated"), Shown("1")))
        row_ids.append(f"transfer-paper-{entrant.lower()}")
    return DisplayTable(
        caption="Membrane F1 on test images with and without pretraining, mean ± standard deviation over seeds. "
        "Differences are paired by seed, with their 95 % interval (Student's t); of the paper, single runs.",
        header=("Comparison", "F1, random", "F1, pretrained", "Difference of F1", "Difference of V-Rand", "Seeds"),
        rows=tuple(rows),
        css_class="emseg-metrics",
        row_ids=tuple(row_ids),
    )


def gain_text(gain: SeedDifference | None) -> str:
    """Return a gain and its interval in words."""
    if gain is None:
        return NOT_RUN
    within = "" if gain.interval is None else f" ({gain.interval[0]:+.3f} to {gain.interval[1]:+.3f})"
    return typeset(f"{gain.value:+.3f}{within}")


def _mean_text(transfer: Transfer, name: str, fraction: float) -> str:
    values = list(transfer.scores(name, fraction).values())
    if not values:
        return NOT_RUN
    return f"{fmean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")
