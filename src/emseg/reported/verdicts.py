"""What the committed run records show for each claim: an estimate, a 95 % interval, a verdict where the test bears.

Records of one experiment (one chapter, profile, kind of data, and parameters but for the seed) are combined; records of
different kinds of data or units never are. With k records of different seeds, values v and half-widths h inside them,

    estimate  mean(v)        half-width  sqrt( (t(0.975, k - 1) sd(v))^2 / k  +  mean(h)^2 ),        k >= 3,

so that the interval covers seeds and images; fewer records give the hull of their intervals. A number that is
computed, not sampled (`replicates` is `nothing`), is its own interval. A number without an interval decides nothing.

Of several experiments the one at the largest profile decides, then the newest. A reader's own number is compared with
the committed ones (`compare`) and never replaces them.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any, Literal

from emseg.errors import InputError
from emseg.intervals import MIN_REPLICATES, metric_interval, student_half_width
from emseg.reported.claims import Bearing, Claim, Verdict, judge

Outcome = Verdict | Literal["no verdict", "not run"]
OUTCOMES: tuple[Outcome, ...] = ("match", "close", "differs", "undecided", "no verdict", "not run")
PROFILES = ("smoke", "laptop", "lab", "gpu", "paper")
_SEED = "seed"
_ROUNDING = 1e-9

Interval = tuple[float, float]
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Estimate:
    """The estimate of a number from the records of one experiment; `gap` explains why there is no interval."""

    value: float
    unit: str
    n: int
    interval: Interval | None
    data_kinds: tuple[str, ...]
    profile: str
    run_ids: tuple[str, ...]
    n_seeds: int
    gap: str = ""


@dataclass(frozen=True)
class Judged:
    """One reading of a claim, the estimate on one kind of data (None when not run), its bearing, and the outcome."""

    claim: Claim
    estimate: Estimate | None
    bearing: Bearing
    outcome: Outcome

    @property
    def decides(self) -> bool:
        """Whether the row counts: its test bears on the claim."""
        return self.bearing != "stand-in" and self.estimate is not None


def kinds_of(record: Record, metric: str) -> tuple[str, ...]:
    """Return the kinds of data that a metric of a record rests on, sorted: its own where noted, else the run's."""
    own = record["metrics"][metric].get("data")
    return tuple(sorted(own if own is not None else {use["kind"] for use in record["data"]}))


def judge_records(claims: Iterable[Claim], records: Iterable[Record]) -> tuple[Judged, ...]:
    """Return what the committed `records` show for each claim.

    The rows of a claim: one that decides, where its test bears; else one for each kind of stand-in, or one "not run".
    Raises `InputError` for a metric in another unit than its claim's.
    """
    records = tuple(records)
    judged: list[Judged] = []
    for claim in claims:
        found = _estimates(claim, records)
        bearing = {one: _bearing(claim, one) for one in found}
        if deciding := [one for one in found if bearing[one] != "stand-in"]:
            best = max(deciding, key=lambda one: _weight(one.profile))
            outcome: Outcome = "undecided" if best.interval is None else _read(claim, best.interval)
            judged.append(Judged(claim, best, bearing[best], outcome))
        elif found:
            judged += [Judged(claim, one, "stand-in", "no verdict") for one in found]
        else:
            judged.append(Judged(claim, None, claim.bearing, "not run"))
    return tuple(judged)


def sentence_outcomes(judged: Iterable[Judged]) -> dict[tuple[str, str], Outcome]:
    """Return the outcome of each sentence of the papers: that of its readings which bear, if they agree.

    Readings that disagree leave the sentence `undecided`; one with stand-ins alone, or with a vague word on which its
    verdict would depend, has `no verdict`.
    """
    rows: dict[tuple[str, str], list[Judged]] = {}
    for row in judged:
        rows.setdefault(row.claim.sentence, []).append(row)
    outcomes: dict[tuple[str, str], Outcome] = {}
    for sentence, readings in rows.items():
        decided = {row.outcome for row in readings if row.decides}
        if "no verdict" in decided:
            outcomes[sentence] = "no verdict"
        elif decided:
            outcomes[sentence] = decided.pop() if len(decided) == 1 else "undecided"
        else:
            outcomes[sentence] = "no verdict" if any(row.estimate for row in readings) else "not run"
    return outcomes


def count_outcomes(outcomes: Iterable[Outcome]) -> dict[Outcome, int]:
    """Return how often each outcome occurs, in the order of `OUTCOMES`, the absent ones as 0."""
    found = list(outcomes)
    return {outcome: found.count(outcome) for outcome in OUTCOMES}


def compare(claim: Claim, own: Record, committed: Iterable[Record]) -> str:
    """Return how the number of a reader's own run compares with the committed ones of the same experiment.

    One of "agrees", "disagrees", or why it cannot be compared; "" where the run has no such number.
    """
    if not (mine := _estimates(claim, [own])):
        return ""
    same = [one for one in _estimates(claim, committed, newest=False) if _experiment(one) == _experiment(mine[0])]
    if not same:
        return "no committed run at this profile and on this data"
    theirs = same[-1]
    if theirs.interval is None:
        return f"cannot be compared: {theirs.gap}"
    slack = max(claim.match_tolerance, _ROUNDING * abs(theirs.value)) if claim.replicates == "nothing" else 0.0
    low, high = mine[0].interval or (mine[0].value, mine[0].value)
    return "agrees" if low - slack <= theirs.interval[1] and theirs.interval[0] <= high + slack else "disagrees"


def refusals(claims: Iterable[Claim], record: Record) -> list[str]:
    """Return why a record must not be committed as evidence on `claims`, one sentence for each reason."""
    found = []
    for claim in claims:
        metric = record["metrics"].get(claim.metric) if record["chapter"] == claim.chapter else None
        if metric is None:
            continue
        if metric["unit"] != claim.unit:
            found.append(f"`{claim.metric}` is in {metric['unit']!r}, its claim {claim.id} in {claim.unit!r}")
        sampled = claim.replicates in ("images", "seeds")
        if claim.bearing != "stand-in" and sampled and metric_interval(metric) is None:
            found.append(f"`{claim.metric}` needs an interval over {claim.replicates}, or a spread and n of 3 or more")
        if claim.bearing == "same data" and len(kinds_of(record, claim.metric)) > 1:
            found.append(
                f"`{claim.metric}` rests on several kinds of data; `run.metric(..., data=[...])` gives its own"
            )
    return found


def _read(claim: Claim, interval: Interval) -> Outcome:
    """Return the verdict on a claim; none where it would depend on how a vague word is read."""
    strict = judge(claim, interval)
    if claim.loosest is None or strict == "undecided":
        return strict
    loose = judge(replace(claim, value=claim.loosest, match_tolerance=0.0, close_tolerance=0.0, loosest=None), interval)
    return strict if loose == ("differs" if strict == "differs" else "match") else "no verdict"


def _estimates(claim: Claim, records: Iterable[Record], newest: bool = True) -> list[Estimate]:
    """Return an estimate for each experiment, or (`newest`) only the weightiest for each kind of data."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        if record["chapter"] == claim.chapter and claim.metric in record["metrics"]:
            fixed = {name: value for name, value in record["parameters"].items() if name != _SEED}
            key = repr((record["profile"], _kinds(claim, record), sorted(fixed.items())))
            groups.setdefault(key, []).append(record)
    ordered = sorted(groups.values(), key=lambda group: (_weight(group[0]["profile"]), max(map(_age, group))))
    found = [_combined(claim, group) for group in ordered]
    return list({one.data_kinds: one for one in found}.values()) if newest else found


def _combined(claim: Claim, group: Sequence[Record]) -> Estimate:
    """Return the estimate from records of one experiment; of records with the same seeds the newest counts."""
    by_seeds = {tuple(record["seeds"]): record for record in sorted(group, key=_age)}
    chosen = list(by_seeds.values())
    metrics = [record["metrics"][claim.metric] for record in chosen]
    if wrong := [metric["unit"] for metric in metrics if metric["unit"] != claim.unit]:
        raise InputError(
            f"claim {claim.id} is declared in {claim.unit!r}, but `{claim.metric}` of {claim.chapter} was measured in "
            f"{wrong[0]!r}. Record the metric in the claim's unit."
        )
    values = [metric["value"] for metric in metrics]
    interval, gap = _interval(claim, values, [metric_interval(metric) for metric in metrics])
    return Estimate(
        fmean(values),
        claim.unit,
        sum(metric["n"] for metric in metrics),
        interval,
        _kinds(claim, chosen[0]),
        chosen[0]["profile"],
        tuple(record["run_id"] for record in chosen),
        len({seed for record in chosen for seed in record["seeds"]}),
        gap,
    )


def _interval(claim: Claim, values: Sequence[float], own: Sequence[Interval | None]) -> tuple[Interval | None, str]:
    """Return the interval over what the claim's number varies over, or None and why there is none."""
    if claim.replicates == "nothing":
        return (min(values), max(values)), ""
    inside = [one for one in own if one is not None]
    if claim.replicates == "runs":
        if len(values) < MIN_REPLICATES:
            return None, f"no interval: {len(values)} of the {MIN_REPLICATES} runs with different seeds that it needs"
    elif len(inside) < len(values):
        return None, f"no interval over {claim.replicates} recorded"
    elif len(values) < MIN_REPLICATES:
        return (min(low for low, _ in inside), max(high for _, high in inside)), ""
    between = student_half_width(stdev(values), len(values))
    half = math.hypot(between, fmean([(high - low) / 2 for low, high in inside] or [0.0]))
    return (fmean(values) - half, fmean(values) + half), ""


def _kinds(claim: Claim, record: Record) -> tuple[str, ...]:
    """Return the kinds of data of a claim's number: none where it is computed from mathematics alone."""
    return () if claim.bearing == "exact" and claim.replicates == "nothing" else kinds_of(record, claim.metric)


def _bearing(claim: Claim, estimate: Estimate) -> Bearing:
    """Return what an estimate rests on; a network of the paper's size on the paper's kind of data is not a stand-in."""
    if claim.bearing == "exact":
        return "exact"
    own_data = estimate.data_kinds == (claim.data,)
    return "same data" if own_data and (claim.bearing == "same data" or estimate.profile == "paper") else "stand-in"


def _experiment(estimate: Estimate) -> tuple[str, tuple[str, ...]]:
    return estimate.profile, estimate.data_kinds


def _weight(profile: str) -> int:
    return PROFILES.index(profile) if profile in PROFILES else 0


def _age(record: Record) -> tuple[str, str]:
    return record["finished"], record["run_id"]
