"""The costs as metrics of a run, so that the record holds what the tables show.

Of each contender in each setting (`contest_name`):

    NAME_ratio, NAME_ms          over all four stages: the ratio, or the baseline's time
    NAME_PLACE_ratio, ..._ms     at one place: stage_1 to stage_4, or classifier and mask_rcnn of training steps
    NAME_memory, NAME_of_copy    of poolings, as in the table
"""

import re

from chapters.channel_attention.cost.rows import CostRow
from chapters.channel_attention.cost.tables import LABELS, Contest, contest_name, contests, setting_text
from emseg.runs.session import Run


def report_costs(run: Run, rows: list[CostRow]) -> None:
    """Note all ratios, the times of the baselines and the shares of memory; of what was not run, nothing."""
    for contest in contests(rows):
        name, rounds = contest_name(contest), min(row.rounds for row in contest.rows)
        title = f"{LABELS.get(contest.variant, contest.variant)}, {setting_text(contest.setting)}"
        if contest.setting.section != "training":
            _note(run, contest, name, f"{title}, all stages", contest.ms, contest.ratio, rounds)
        for row in contest.rows:
            place = re.sub(r"[^a-z0-9]+", "_", row.place.lower())
            _note(run, contest, f"{name}_{place}", f"{title}, {row.place}", row.ms, row.ratio, row.rounds)
        if contest.memory_share is not None:
            label = f"Memory held beside the map, over its size: {title}"
            run.metric(f"{name}_memory", contest.memory_share, n=len(contest.rows), label=label)
        if contest.of_copy is not None:
            label = f"Bandwidth over that of a copy: {title}"
            run.metric(f"{name}_of_copy", contest.of_copy, n=rounds, label=label)


def _note(
    run: Run, contest: Contest, name: str, title: str, ms: float | None, ratio: float | None, rounds: int
) -> None:
    if ms is None or ratio is None:
        return
    if contest.is_baseline:
        run.metric(f"{name}_ms", ms, unit="ms", n=rounds, label=f"Time: {title}")
        return
    beside = contest.rows[0].baseline
    run.metric(f"{name}_ratio", ratio, n=rounds, label=f"Time over that of {LABELS.get(beside, beside)}: {title}")
