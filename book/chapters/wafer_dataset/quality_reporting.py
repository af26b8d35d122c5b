"""The experiments on section quality as metrics of a run and as a table.

Accuracies and their differences are shares of 1; a difference of 0.01 is one point.
"""

from collections.abc import Mapping

import numpy as np

from chapters.channel_attention.single_frequency import (
    Frequency,
    frequencies_differ,
    listed_advantage,
    mirror_ceiling,
    mirror_gap,
    order_correlation,
    significant_correlation,
    table1_ranks,
)
from chapters.wafer_dataset.quality_experiment import LABELS, Outcome
from emseg.reported.display import DisplayTable, Shown
from emseg.runs.session import Run
from emseg.synthetic.wafer.section_crops import SECTION_CLASSES


def report_single_frequencies(run: Run, frequencies: tuple[Frequency, ...], outcome: Outcome, *, seed: int) -> None:
    """Note how single frequencies compare with (0, 0) and with Table 1, and how far noise lets one tell."""
    accuracy = outcome.single
    means, n_seeds = accuracy.mean(axis=1), accuracy.shape[1]
    baseline = frequencies.index((0, 0))
    others = np.delete(means, baseline)
    n = len(frequencies)
    run.metric("n_frequencies", n, n=n, label="Single frequencies tried")
    run.metric("n_seeds", n_seeds, n=n_seeds, label="Seeds of each single frequency")
    run.metric(
        "accuracy_mean_frequency",
        means[baseline],
        n=n_seeds,
        spread=accuracy[baseline].std(ddof=1),
        label="Accuracy with (0,0) alone",
    )
    run.metric("worst_frequency_drop", means[baseline] - means.min(), n=n, label="Accuracy of (0,0) minus the worst")
    run.metric(
        "mean_frequency_drop",
        means[baseline] - others.mean(),
        n=n - 1,
        label="Accuracy of (0,0) minus the mean of the others",
    )
    run.metric("frequency_spread", means.std(ddof=1), n=n, label="Spread of accuracy over frequencies")
    run.metric(
        "seed_spread",
        np.sqrt(accuracy.var(axis=1, ddof=1).mean()),
        n=accuracy.size,
        label="Spread of accuracy over seeds, one frequency",
    )
    differ = frequencies_differ(accuracy, seed=seed)
    run.metric("reliability", differ.value, n=differ.n, label="Share of the spread over frequencies that is no noise")
    run.metric("reliability_p", differ.p, n=differ.n, label="Chance of so high a share without any difference")
    run.metric("noise_ceiling", np.sqrt(differ.value), n=differ.n, label="Largest correlation that the noise allows")
    run.metric("mirror_noise", mirror_gap(frequencies, accuracy), n=n, label="Noise of a mean from (h,w) against (w,h)")
    advantage = listed_advantage(frequencies, accuracy, seed=seed)
    run.metric("listed_advantage", advantage.value, n=n, label="Accuracy of Table 1's frequencies minus the others'")
    run.metric("listed_advantage_p", advantage.p, n=n, label="Chance of so large an advantage without any difference")
    order = order_correlation(frequencies, accuracy, seed=seed)
    run.metric("n_listed", order.n, n=n, label="Frequencies tried that Table 1 lists")
    run.metric(
        "order_correlation", order.value, n=order.n, label="Spearman's correlation, Table 1's order and accuracy"
    )
    run.metric("order_correlation_p", order.p, n=order.n, label="Chance of so high a correlation without any relation")
    run.metric(
        "order_significant", significant_correlation(order.n), n=order.n, label="Correlation that would be significant"
    )
    run.metric("mirror_ceiling", mirror_ceiling(frequencies), n=order.n, label="Largest correlation on turned crops")


def report_comparison(run: Run, outcome: Outcome, counts: Mapping[str, tuple[int, int]]) -> None:
    """Note the accuracy of each attention and the paired differences with their 95 % intervals."""
    for name, accuracies in outcome.compared.items():
        run.metric(
            f"accuracy_{name}",
            float(np.mean(accuracies)),
            n=len(accuracies),
            spread=float(np.std(accuracies, ddof=1)),
            label=f"Accuracy, {LABELS[name]}",
        )
    for metric, name, other in (
        ("se_minus_none", "se", "none"),
        ("eca_minus_se", "eca", "se"),
        ("fca_minus_se", "fca", "se"),
        ("fanet_minus_se", "fanet", "se"),
        ("fanet_minus_fcanet", "fanet", "fca"),
        ("ortho_minus_fanet", "fanet_ortho", "fanet"),
        ("fca_minus_ortho", "fca", "fanet_ortho"),
        ("own_minus_se", "own", "se"),
    ):
        gap = outcome.difference(name, other)
        label = f"Accuracy, {LABELS[name]} minus {LABELS[other]}"
        run.metric(metric, gap.mean, n=gap.n, interval=gap.interval, label=label)
        run.metric(f"{metric}_low", gap.low, n=gap.n, label=f"{label}, lower end of the interval")
        run.metric(f"{metric}_high", gap.high, n=gap.n, label=f"{label}, upper end of the interval")
    run.metric(
        "fanet_parameters_over_se",
        counts["fanet"][1] / counts["se"][1],
        n=1,
        label="Parameters of FANet's attention over those of SE's",
    )
    run.metric(
        "attention_parameter_share", counts["se"][1] / counts["se"][0], n=1, label="SE's share of the parameters"
    )
    n_comparison = len(outcome.compared["se"])
    run.metric("n_comparison", n_comparison, n=n_comparison, label="Seeds of each attention")
    run.metric("n_networks", outcome.n_networks, n=outcome.n_networks, label="Networks trained")
    run.metric("n_networks_kept", outcome.n_kept, n=outcome.n_networks, label="Of these, scores kept by an earlier run")
    run.metric(
        "training_seconds", outcome.seconds_each, unit="s", n=outcome.n_networks, label="Time to train one, median"
    )
    run.metric("chance_accuracy", 1 / len(SECTION_CLASSES), n=1, label="Accuracy of guessing")


def comparison_table(outcome: Outcome, counts: Mapping[str, tuple[int, int]]) -> DisplayTable:
    """Return the attentions, a row each: parameters, accuracy, and the difference from SE with its interval."""
    rows = []
    for name, accuracies in outcome.compared.items():
        gap = outcome.difference(name, "se")
        beside = "" if name == "se" else f"{100 * gap.mean:+.1f} ({100 * gap.low:+.1f} to {100 * gap.high:+.1f})"
        cells = (
            LABELS[name],
            f"{counts[name][0]:,}",
            f"{counts[name][1]:,}",
            f"{100 * np.mean(accuracies):.1f} ± {100 * np.std(accuracies, ddof=1):.1f}",
            beside,
        )
        rows.append(tuple(Shown(cell.replace("-", "\N{MINUS SIGN}")) for cell in cells))
    n_seeds = len(outcome.compared["se"])
    return DisplayTable(
        caption=f"Attentions on section quality, synthetic crops, {n_seeds} seeds: held-out accuracy in % (mean ± "
        "standard deviation) and, paired by seed, the difference from SE in points (95 % interval, Student's t).",
        header=("Attention", "Parameters", "of the attention", "Accuracy (%)", "Minus SE (points)"),
        rows=tuple(rows),
        css_class="emseg-metrics",
        row_ids=tuple(f"attention-{name}" for name in outcome.compared),
    )


def listed_names(frequencies: tuple[Frequency, ...]) -> str:
    """Return the frequencies that Table 1 lists, in its order, as text."""
    ranks = table1_ranks(frequencies)
    listed = sorted((int(rank), pair) for rank, pair in zip(ranks, frequencies, strict=True) if rank)
    return " ".join(f"({h},{w})" for _, (h, w) in listed)
