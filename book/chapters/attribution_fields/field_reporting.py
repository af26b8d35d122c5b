"""The numbers of the chapter on attribution fields as metrics of a run, and the factors as a table.

Metrics carry a condition's name: `field_area_urisc`, `field_area_isbi`. Ratios carry the question that they answer:
`field_area_ratio` (both differ), `resolution_ratio` (same tissue), `content_ratio` (same pixel size).
"""

import re
from collections.abc import Sequence

import numpy as np

from chapters.attribution_fields.conditions import Study
from chapters.attribution_fields.factors import PAPER_RATIO, Factor, share_of_paper_ratio
from chapters.attribution_fields.field_survey import ConditionFields
from chapters.attribution_fields.path_profile import halfway_positions
from emseg.attribution.field_statistics import Difference, Estimate, bootstrap_mean, bootstrap_ratio, compare_sets
from emseg.attribution.sanity import Cascade, Curve
from emseg.reported.display import DisplayTable, Shown
from emseg.runs.session import Run
from emseg.wording import format_number

N_FOLLOWED = 8
"""Targets of each condition whose score is followed along the path."""


def report_fields(run: Run, surveys: Sequence[ConditionFields], *, n_resamples: int, seed: int) -> None:
    """Note, for each condition, area, share of the image, radii, receptive field, completeness and F1."""
    rng = np.random.default_rng([seed, 4])
    for fields in surveys:
        name, label = fields.condition.name, fields.condition.label
        areas = fields.areas()
        _estimate(
            run,
            f"field_area_{name}",
            bootstrap_mean(areas, n_resamples=n_resamples, generator=rng),
            "nm^2",
            f"S at k = 0.01, correct membrane, {label}",
        )
        half = bootstrap_mean(fields.half_areas(), n_resamples=n_resamples, generator=rng)
        _estimate(run, f"half_area_{name}", half, "nm^2", f"Area that holds half of |w|, {label}")
        for share in (0.5, 0.9):
            radius = bootstrap_mean(fields.radii(share), n_resamples=n_resamples, generator=rng)
            _estimate(
                run, f"radius_{100 * share:.0f}_{name}", radius, "nm", f"Radius that holds {share:.0%} of |w|, {label}"
            )
        image_nm2 = fields.images[0].image.size * fields.pixel_size_nm**2
        run.metric(
            f"field_share_{name}",
            100 * float(areas.values.mean()) / image_nm2,
            n=len(areas.values),
            unit="%",
            label=f"S at k = 0.01 as a share of the image, {label}",
        )
        height, width = fields.images[0].image.shape
        reach = fields.receptive_field
        run.metric(
            f"receptive_field_{name}",
            reach.area_nm2(fields.pixel_size_nm, height, width),
            n=1,
            unit="nm^2",
            label=f"Theoretical receptive field, within the image, {label}",
        )
        gaps = np.concatenate([one.attribution.relative_gap for one in fields.images])
        gaps = gaps[np.isfinite(gaps)]
        run.metric(
            f"completeness_gap_{name}",
            float(np.median(gaps)),
            n=len(gaps),
            label=f"|Completeness gap| over |f(x) - f(baseline)|, median, {label}",
        )
        _report_gap_and_path(run, fields)
        scores = [one.f1 for one in fields.images]
        run.metric(f"f1_{name}", float(np.mean(scores)), n=len(scores), label=f"F1 of membrane at 0.5, {label}")
        run.metric(
            f"n_targets_{name}",
            float(sum(len(one.sample) for one in fields.images)),
            n=len(fields.images),
            label=f"Attributed pixels, {label}",
        )


def _report_gap_and_path(run: Run, fields: ConditionFields) -> None:
    """Note the gap on scales that do not vanish where two scores are nearly equal, and where the score changes."""
    name, label = fields.condition.name, fields.condition.label
    gaps = np.concatenate([np.abs(one.attribution.completeness_gap) for one in fields.images])
    sums = np.concatenate(
        [np.abs(one.attribution.maps).sum(axis=(1, 2), dtype=np.float64) for one in fields.images if len(one.sample)]
    )
    run.metric(
        f"completeness_gap_logits_{name}",
        float(np.median(gaps)),
        n=len(gaps),
        label=f"|Completeness gap| in logits, median, {label}",
    )
    run.metric(
        f"completeness_gap_share_{name}",
        float(np.median(gaps[sums > 0] / sums[sums > 0])) if (sums > 0).any() else 0.0,
        n=len(gaps),
        label=f"|Completeness gap| over sum of |w|, median, {label}",
    )
    positions = halfway_positions(fields, N_FOLLOWED)
    if len(positions):
        run.metric(
            f"path_halfway_{name}",
            float(np.median(positions)),
            n=len(positions),
            label=f"Position on the path by which half of the score's change has happened, median, {label}",
        )


def report_comparisons(
    run: Run, study: Study, surveys: Sequence[ConditionFields], *, n_resamples: int, seed: int
) -> dict[str, Difference]:
    """Note the ratios of areas between conditions with p values, and what each explains of the paper's ratio."""
    rng = np.random.default_rng([seed, 5])
    by_name = {fields.condition.name: fields for fields in surveys}
    found = {}
    for question, pair in study.pairs.items():
        first, second = by_name[pair[0]], by_name[pair[1]]
        difference = compare_sets(first.areas(), second.areas(), n_resamples=n_resamples, generator=rng)
        text = f"{first.condition.label} over {second.condition.label}"
        _estimate(run, f"{question}_ratio", difference.ratio, "1", f"Ratio of S at k = 0.01: {text}")
        run.metric(
            f"{question}_ratio_low",
            difference.ratio.low,
            n=difference.ratio.n,
            label=f"Lower end of the 95 % interval of that ratio: {text}",
        )
        run.metric(
            f"{question}_p_value",
            difference.p_value,
            n=sum(difference.n_images),
            label=f"p of the difference, images dealt anew: {text}",
        )
        run.metric(
            f"{question}_smallest_p",
            difference.smallest_p,
            n=sum(difference.n_images),
            label=f"Smallest p that so many images allow: {text}",
        )
        if difference.ratio.value > 0:
            run.metric(
                f"{question}_log_share",
                share_of_paper_ratio(difference.ratio.value),
                n=difference.ratio.n,
                label=f"Share of the paper's logarithmic ratio: {text}",
            )
        in_pixels = bootstrap_ratio(first.areas(), second.areas(), n_resamples=n_resamples, generator=rng)
        scale = (second.pixel_size_nm / first.pixel_size_nm) ** 2
        _estimate(
            run,
            f"{question}_pixel_ratio",
            Estimate(
                in_pixels.value * scale, in_pixels.low * scale, in_pixels.high * scale, in_pixels.n, in_pixels.n_images
            ),
            "1",
            f"Ratio of pixel counts: {text}",
        )
        found[question] = difference
    return found


def report_factors(run: Run, factors: Sequence[Factor]) -> None:
    """Note each factor's effect on the first area, the ratio it leads to, and how many reach the paper's."""
    for one in factors:
        _estimate(run, f"effect_{_snake(one.key)}", one.effect, "1", f"Effect on S: {one.label}")
        _estimate(run, f"ratio_{_snake(one.key)}", one.ratio, "1", f"Ratio of S: {one.label}")
    ratios = [one.ratio.value for one in factors if one.group not in ("training",)]
    run.metric("ratio_smallest", min(ratios), n=len(ratios), label="Smallest ratio of S over all definitions")
    run.metric("ratio_largest", max(ratios), n=len(ratios), label="Largest ratio of S over all definitions")
    effects = [one.effect.value for one in factors if one.effect.value > 0 and one.group not in ("training",)]
    run.metric(
        "effect_range",
        max(effects) / min(effects),
        n=len(effects),
        label="Largest over smallest S of one network by definition alone",
    )
    run.metric(
        "factors_reaching_paper",
        float(sum(one.reaches_paper for one in factors)),
        n=len(factors),
        label="Factors with which the ratio's interval reaches the paper's",
    )


def report_sanity(run: Run, cascade: Cascade, curves: dict[str, tuple[Curve, Curve]]) -> None:
    """Note how far random weights change the maps, and how the score falls when the chosen pixels are deleted."""
    last = cascade.correlation[-1]
    run.metric(
        "randomised_correlation",
        float(last.mean()),
        n=len(last),
        spread=float(last.std(ddof=1)) if len(last) > 1 else None,
        label="Rank correlation of maps before and after all layers are randomised",
    )
    run.metric(
        "randomised_correlation_signed",
        float(cascade.signed[-1].mean()),
        n=len(last),
        label="The same with signs",
    )
    for name, (deleted, inserted) in curves.items():
        for what, curve in (("deletion", deleted), ("insertion", inserted)):
            run.metric(
                f"{what}_{_snake(name)}",
                float(curve.scores[:, 1:-1].mean()),
                n=len(curve.scores),
                label=f"Mean score (logit) along the {what} curve, {name}",
            )


def factor_table(factors: Sequence[Factor], names: tuple[str, str]) -> DisplayTable:
    """Return the factors as a table: areas, effect, ratio, and whether it reaches the paper's ratio."""
    rows = []
    for one in factors:
        verdict = "yes" if one.ratio.low >= PAPER_RATIO else "within its interval" if one.reaches_paper else "no"
        cells = (
            one.label,
            one.group,
            _areas(one.first),
            _areas(one.second),
            _interval(one.effect),
            _interval(one.ratio),
            verdict,
        )
        rows.append(tuple(Shown(cell) for cell in cells))
    return DisplayTable(
        caption="One choice changed at a time, correct membrane pixels; in brackets 95 % intervals. "
        f"The paper's ratio is {format_number(PAPER_RATIO, 2)}.",
        header=(
            "Choice",
            "Kind",
            f"S, {names[0]} (nm²)",
            f"S, {names[1]} (nm²)",
            "Effect on the first",
            "Ratio",
            "Reaches the paper's",
        ),
        rows=tuple(rows),
        css_class="emseg-metrics",
        row_ids=tuple(f"factor-{one.key.replace('_', '-')}" for one in factors),
    )


def _areas(one: Estimate) -> str:
    """Return areas of some hundred or thousand nm^2, rounded to nm^2, which no power of ten makes easier to compare."""
    mean, low, high = (format_number(round(area)) for area in (one.value, one.low, one.high))
    return f"{mean} ({low} to {high})"


def _interval(one: Estimate) -> str:
    return f"{format_number(one.value, 3)} ({format_number(one.low, 2)} to {format_number(one.high, 2)})"


def _estimate(run: Run, name: str, one: Estimate, unit: str, label: str) -> None:
    run.metric(name, one.value, n=one.n, unit=unit, interval=(one.low, one.high), label=label)


def _snake(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
