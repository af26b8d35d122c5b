"""What the three tests found, as metrics of a run and as tables; of what was not run nothing is noted."""

import math
import statistics
from collections.abc import Mapping, Sequence

from chapters.urisc_competition.competition_errors import Example
from chapters.urisc_competition.competition_records import (
    ARCHITECTURES,
    DataSet,
    SeedScore,
    Trained,
    best_of_architecture,
    best_run,
    main_experiment,
    networks,
    seed_score,
)
from chapters.urisc_competition.competition_splits import ISBI, compared_splits, report_splits
from chapters.urisc_competition.competition_tracks import compared_tracks, report_tracks
from chapters.urisc_competition.gap_downsampling import Downsampled, best_coverage
from chapters.urisc_competition.gap_imbalance import ErrorRates, f1_at_pixel_error, pixel_error, rates_of_scores
from chapters.urisc_competition.gap_shifts import Labels, Shifted
from chapters.urisc_competition.leaderboard import published_scores
from emseg.reported import load_reported, select_reported
from emseg.reported.display import DisplayTable, Shown
from emseg.runs.session import Run

OF_DATA: Mapping[str, tuple[DataSet, ...]] = {
    "synthetic": (("synthetic", "isbi_like"), ("synthetic", "track1"), ("synthetic", "track2")),
    "isbi2012": (("isbi2012", ""),),
    "urisc": (("urisc", "track1"), ("urisc", "track2")),
}
"""The data sets whose records a run on each kind of data gathers, so that no run mixes kinds."""
_KEYS = {"isbi_like": "isbi_like", "track1": "track1", "track2": "track2", "": "isbi"}


def gathered(trained: Sequence[Trained], data: str) -> list[Trained]:
    """Return the runs that a run on this kind of data rests on, each once.

    These are the main experiments, the runs on the tracks and on ISBI's splits that are compared, and those of the best
    networks.
    """
    found = [one for data_set in OF_DATA[data] for one in main_experiment(trained, data_set)]
    found += [one for runs in compared_tracks(trained, data).runs for one in runs]
    if ISBI in OF_DATA[data]:
        found += [one for pair in compared_splits(trained) for one in pair]
    for data_set in OF_DATA[data]:
        for metric in ("test_membrane_f1", "test_background_f1"):
            best = best_run(trained, data_set, metric)
            if best is not None:
                found += [one for one in trained if _cell(one) == _cell(best[0])]
    return list({one.record["run_id"]: one for one in found}.values())


def _cell(one: Trained) -> tuple[object, ...]:
    return one.data_set, one.experiment, one.network


def paper_fraction(data_set: str) -> float:
    """Return the paper's membrane fraction of "U-RISC" or "ISBI 2012", as a share."""
    row = select_reported(load_reported("urisc"), "membrane_fraction", dataset=data_set)[0]
    assert row.value is not None
    return row.value / 100


def paper_f1(data_set: str) -> float:
    """Return the F1 that the paper's Introduction gives for the U-Net."""
    rows = select_reported(load_reported("urisc"), "f1", dataset=data_set, entrant="U-Net")
    return next(row.value for row in rows if row.place == "Introduction" and row.value is not None)


def network_f1(trained: Sequence[Trained], data_set: DataSet) -> dict[str, tuple[float, float]]:
    """Return (membrane F1, background F1) of the best plain network of each architecture on a data set."""
    runs = main_experiment(trained, data_set)
    found = {}
    for architecture, name in ARCHITECTURES.items():
        pair = [best_of_architecture(runs, architecture, f"test_{of}_f1") for of in ("membrane", "background")]
        if pair[0] is not None and pair[1] is not None:
            found[name] = (pair[0].mean, pair[1].mean)
    return found


def error_rates(trained: Sequence[Trained], data_set: DataSet, fraction: float) -> dict[str, ErrorRates]:
    """Return the rates of the paper's 0.97, with precision equal to recall, and of our best network."""
    stated = paper_f1("ISBI 2012")
    found = {f"the paper's {stated:g}": rates_of_scores(stated, stated, fraction)}
    runs = main_experiment(trained, data_set)
    scores = []
    for network in networks(runs):
        row = [seed_score(runs, network, f"test_membrane_{of}") for of in ("f1", "precision", "recall")]
        if all(row):
            scores.append((network.title, [one.mean for one in row if one is not None]))
    if scores:
        title, (_, precision, recall) = max(scores, key=lambda one: one[1][0])
        found[f"ours: {title}"] = rates_of_scores(precision, recall, fraction)
    return found


def report_records(run: Run, trained: Sequence[Trained], data: str) -> None:
    """Note the F1 of the three networks on each set of this kind of data, their mean, and drops between sets."""
    means = {}
    for data_set in OF_DATA[data]:
        key, runs = _KEYS[data_set[1]], main_experiment(trained, data_set)
        for of in ("membrane", "background"):
            scores: dict[str, SeedScore] = {}
            for architecture, name in ARCHITECTURES.items():
                score = best_of_architecture(runs, architecture, f"test_{of}_f1")
                if score is not None:
                    scores[architecture] = score
                    label = f"{of.capitalize()} F1 of {name} on {key}"
                    run.metric(
                        f"{key}_{architecture}_{of}_f1", score.mean, n=score.n, spread=score.over_seeds, label=label
                    )
            best = best_run(trained, data_set, f"test_{of}_f1")
            if best is not None:
                label = f"Highest {of} F1 of all runs on {key}, whatever their budget: {best[0].network.title}"
                run.metric(f"{key}_best_{of}_f1", best[1].mean, n=best[1].n, label=label)
                n_parameters = best[0].score("n_parameters")
                if n_parameters is not None:
                    label = f"Parameters of the network with the highest {of} F1 on {key}"
                    run.metric(f"{key}_best_{of}_parameters", n_parameters, n=1, label=label)
            if len(scores) == len(ARCHITECTURES) and of == "membrane":
                means[key] = statistics.fmean(one.mean for one in scores.values())
                label = f"Membrane F1 on {key}, mean of the three networks"
                run.metric(f"{key}_mean_f1", means[key], n=sum(one.n for one in scores.values()), label=label)
    if "isbi_like" in means and "track1" in means:
        label = "Membrane F1 on ISBI-like minus Track 1, mean of the three networks"
        run.metric("resolution_drop", means["isbi_like"] - means["track1"], n=len(ARCHITECTURES), label=label)
    if ISBI in OF_DATA[data]:
        report_splits(run, trained)
    else:
        report_tracks(run, trained, data)


def report_classes(run: Run) -> None:
    """Note what share of wrong pixels 0.97 means for each class, by the paper's own membrane fraction."""
    fraction, stated = paper_fraction("ISBI 2012"), paper_f1("ISBI 2012")
    error = pixel_error(stated, 1 - fraction)
    values = {
        "error_if_membrane": (pixel_error(stated, fraction), "Share of wrong pixels if 0.97 is the membrane's F1"),
        "error_if_background": (error, "Share of wrong pixels if 0.97 is the background's F1"),
        "membrane_f1_if_background": (
            f1_at_pixel_error(error, fraction),
            "The membrane's F1 if 0.97 is the background's",
        ),
    }
    for name, (value, label) in values.items():
        run.metric(name, value, n=1, label=label)


def report_imbalance(run: Run, rates: Mapping[str, ErrorRates]) -> None:
    """Note what F1 unchanged error rates give at U-RISC's fraction, and their share of the paper's drop."""
    fraction = paper_fraction("U-RISC")
    stated, low = paper_f1("ISBI 2012"), paper_f1("U-RISC")
    for key, (name, one) in zip(("paper", "ours"), rates.items(), strict=False):
        before, after = one.f1(paper_fraction("ISBI 2012")), one.f1(fraction)
        run.metric(f"f1_before_imbalance_{key}", before, n=1, label=f"F1 at ISBI's membrane fraction, {name}")
        run.metric(f"f1_after_imbalance_{key}", after, n=1, label=f"F1 of the same error rates at U-RISC's, {name}")
        if key == "paper":
            label = "Share of the paper's drop, 0.97 to 0.57, that imbalance alone makes"
            run.metric("imbalance_share", (before - after) / (stated - low), n=1, label=label)


def report_shifts(run: Run, shifted: Mapping[str, tuple[Labels, Sequence[Shifted]]]) -> None:
    """Note fractions, line widths and the F1 of shifted labels; and the loss by three pixels over the leader's."""
    leader = next(row.value for row in published_scores("Track 1") if row.about("entrant") == "SCP173")
    assert leader is not None
    for key, (labels, scores) in shifted.items():
        n = len(labels.masks)
        run.metric(f"{key}_fraction", labels.fraction, n=n, label=f"Membrane fraction, {labels.name}")
        run.metric(f"{key}_line_width", labels.line_width_px, unit="px", n=n, label=f"Line width, {labels.name}")
        for one in scores:
            for name, values in (
                ("f1", one.f1),
                ("background_f1", one.background_f1),
                ("tolerant_f1", one.tolerant_f1),
            ):
                spread = statistics.stdev(values) if len(values) > 1 else None
                label = f"{name.replace('_', ' ')} of the truth moved by {one.shift_px} px, {labels.name}"
                run.metric(
                    f"{key}_shift{one.shift_px}_{name}", statistics.fmean(values), n=n, spread=spread, label=label
                )
        if key in ("urisc", "urisc_fine"):
            loss = (1 - scores[-1].mean_f1) / (1 - leader)
            label = f"Loss of the truth moved by {scores[-1].shift_px} px over what the leader lacks of 1"
            run.metric("shift_loss_share", loss, n=n, label=label)


def report_downsampling(run: Run, found: Sequence[Downsampled], shifts_px: Sequence[int]) -> None:
    """Note what a perfect predictor of the full size loses on Track 2's labels, and what these labels lose."""
    n = len(found)
    half = [one.half_covered_f1 for one in found]
    share, best = best_coverage(found)
    widths = [one.widths_px for one in found]
    middle = round(found[0].factor / 2)
    rows: dict[str, tuple[float, str, str]] = {
        "track2_half_f1": (
            statistics.fmean(half),
            "1",
            "F1 on Track 2 labels of the full-size truth, half-covered pixels",
        ),
        "track2_best_f1": (best, "1", "F1 on Track 2 labels of the full-size truth, best share of area"),
        "track2_best_share": (share, "1", "The share of area with the best F1"),
        "track2_nearest_f1": (statistics.fmean(one.nearest_f1 for one in found), "1", "The same, by the nearest pixel"),
        "track2_ceiling_loss": (1 - best, "1", "Loss of a perfect full-size predictor on Track 2 labels, at best"),
        "track1_width": (statistics.fmean(one[0] for one in widths), "px", "Line width at full size"),
        "track2_width": (statistics.fmean(one[1] for one in widths), "px", "Line width on Track 2"),
        "track2_broken": (statistics.fmean(one.broken for one in found), "1", "Broken membranes in a Track 2 label"),
        "cells_before": (statistics.fmean(one.cells_before for one in found), "1", "Cells in a label at full size"),
        "cells_after": (statistics.fmean(one.cells_after for one in found), "1", "Cells in the same label on Track 2"),
    }
    if middle in shifts_px:
        place = list(shifts_px).index(middle)
        text = f"F1 of the truth {middle} source pixels off along both axes"
        rows["track2_moved_f1"] = (statistics.fmean(one.moved_f1[place] for one in found), "1", f"{text}, on Track 2")
        full = statistics.fmean(one.moved_f1_full[place] for one in found)
        rows["track1_moved_f1"] = (full, "1", f"{text}, at full size")
    for name, (value, unit, label) in rows.items():
        run.metric(name, value, unit=unit, n=n, label=label)
    drops = {track: next(row.value for row in published_scores(track)[2:]) for track in ("Track 1", "Track 2")}
    assert drops["Track 1"] is not None
    assert drops["Track 2"] is not None
    run.metric(
        "leaders_drop", drops["Track 1"] - drops["Track 2"], n=2, label="The paper's leaders: F1, Track 1 minus 2"
    )


def imbalance_table(rates: Mapping[str, ErrorRates]) -> DisplayTable:
    """Return error rates with the F1 that they give at either fraction; our row says "not run" where it must."""
    fractions = [paper_fraction(name) for name in ("ISBI 2012", "U-RISC")]
    rows = [
        (name, f"{one.recall:.1%}", f"{one.false_alarms:.1%}", *(f"{one.f1(fraction):.3f}" for fraction in fractions))
        for name, one in rates.items()
    ]
    if len(rows) == 1:
        rows.append(("ours", *4 * ("not run",)))
    return DisplayTable(
        caption="The same error rates at two membrane fractions: what imbalance alone makes of F1. Of ours the best "
        "network on this run's kind of data is taken.",
        header=("Rates of", "Membrane found", "Background called membrane", *(f"F1 at {one:.1%}" for one in fractions)),
        rows=tuple(tuple(Shown(text) for text in row) for row in rows),
        css_class="emseg-metrics",
        row_ids=tuple(f"imbalance-{number}" for number in range(len(rows))),
    )


def shifts_table(shifted: Mapping[str, tuple[Labels, Sequence[Shifted]]], tolerance_nm: float) -> DisplayTable:
    """Return the labels with their fraction, line width and the F1 of each shift."""
    shifts = [one.shift_px for one in next(iter(shifted.values()))[1]]
    rows = [
        (
            labels.name,
            f"{labels.fraction:.1%}",
            f"{labels.line_width_px:.1f}",
            *(f"{one.mean_f1:.3f}" for one in scores),
            *(f"{statistics.fmean(one.background_f1):.3f}" for one in scores[-1:]),
            *(f"{statistics.fmean(one.tolerant_f1):.3f}" for one in scores[-1:]),
        )
        for labels, scores in shifted.values()
    ]
    return DisplayTable(
        caption="F1 of a truth against itself, moved down and moved right (mean of both). The last two columns are for "
        f"the largest shift: the background's F1, and the membrane's within {tolerance_nm:g} nm.",
        header=(
            "Labels",
            "Membrane",
            "Line width, px",
            *(f"{shift} px" for shift in shifts),
            f"background, {shifts[-1]} px",
            f"tolerant, {shifts[-1]} px",
        ),
        rows=tuple(tuple(Shown(text) for text in row) for row in rows),
        css_class="emseg-metrics",
        row_ids=tuple(f"shift-{key.replace('_', '-')}" for key in shifted),
    )


def downsampling_table(found: Sequence[Downsampled]) -> DisplayTable:
    """Return what perfect predictors of the full size reach on Track 2 labels, a row a predictor, range over images."""
    share, _ = best_coverage(found)
    best = [max(one.covered_f1) for one in found]
    rows = {
        "membrane where half of the pixel is": [one.half_covered_f1 for one in found],
        f"membrane where the best share is (about {share:g})": best,
        "the nearest source pixel": [one.nearest_f1 for one in found],
        "the authors' resizing, repeated to the pixel": [1.0 for _ in found],
    }
    return DisplayTable(
        caption="F1 on Track 2 labels of predictors that know every pixel of the full-size label.",
        header=("Predictor", "F1, mean", "Lowest", "Highest", "Images"),
        rows=tuple(
            tuple(
                Shown(text)
                for text in (name, *(f"{one:.3f}" for one in (statistics.fmean(v), min(v), max(v))), str(len(v)))
            )
            for name, v in rows.items()
            if not any(math.isnan(value) for value in v)
        ),
        css_class="emseg-metrics",
        row_ids=tuple(f"downsampling-{number}" for number in range(len(rows))),
    )


def note_labels(run: Run, sets: Sequence[Labels]) -> None:
    """Note the labels that a run moves and downsamples."""
    for one in sets:
        run.uses(
            f"labels: {one.name}",
            kind=one.kind,
            fingerprint=one.fingerprint,
            n_images=len(one.masks),
            pixel_size_nm=one.pixel_size_nm,
        )


def report_examples(run: Run, examples: Sequence[Example]) -> None:
    """Note the scores of the images whose errors are shown."""
    for example in examples:
        row = example.predicted.scores.row()
        for name, score, label in (
            ("membrane_f1", "membrane_f1", "Membrane F1"),
            ("background_f1", "background_f1", "Background F1"),
            ("broken", "broken_membranes", "Broken membranes"),
            ("spurious", "spurious_membranes", "Spurious membranes"),
        ):
            text = f"{label} of the image of errors, {example.title}; {example.predictor}"
            run.metric(f"example_{example.key}_{name}", row[score], n=1, label=text)
