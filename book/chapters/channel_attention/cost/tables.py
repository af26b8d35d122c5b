"""The rows of a section as one table: a row for each setting and contender, a column for each place.

The baseline shows its time, every other contender its ratio. For poolings and attentions the column "all" holds the
ratio of the sums over the four stages, so that the large maps count as much as they do in a network. `memory` is the
most that a call holds beside the map, over the size of the map, at the stage where that is largest; `of copy` the
bandwidth at which the map is read, over that of a copy, all stages together.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from chapters.channel_attention.cost.rows import CostRow, Setting
from emseg.errors import UsageError
from emseg.reported.display import DisplayTable, Shown

NOT_RUN = "not run"
LABELS = {"none": "none", "se": "SE", "eca": "ECA", "fca": "FcaNet", "fanet": "FANet"}
TITLES = {
    "pooling": "Pooling a map, beside the mean",
    "attention": "Attending to a map (pool, layers, sigmoid, scale), beside SE",
    "training": "A training step (forward, backward, SGD) with an attention in every block, beside SE",
}


@dataclass(frozen=True)
class Contest:
    """The rows of one contender in one setting, place by place, and those of the baseline at the same places."""

    setting: Setting
    variant: str
    rows: tuple[CostRow, ...]
    baseline_rows: tuple[CostRow, ...]

    @property
    def is_baseline(self) -> bool:
        """Whether it is compared with itself."""
        return self.variant == self.rows[0].baseline

    @property
    def ms(self) -> float | None:
        """Time over all places together; None where it was not run."""
        return _total(self.rows)

    @property
    def ratio(self) -> float | None:
        """Time over the baseline's, all places together."""
        ms, beside = self.ms, _total(self.baseline_rows)
        return None if ms is None or beside is None else ms / beside

    @property
    def memory_share(self) -> float | None:
        """The largest share of memory at any place."""
        return max((row.memory_share for row in self.rows if row.memory_share is not None), default=None)

    @property
    def of_copy(self) -> float | None:
        """The share of a copy's bandwidth, all places together."""
        if self.ms is None or any(row.of_copy is None for row in self.rows):
            return None
        return sum((row.of_copy or 0) * (row.ms or 0) for row in self.rows) / self.ms


def contests(rows: Iterable[CostRow]) -> list[Contest]:
    """Return the rows gathered by setting and contender, in the order in which they were measured."""
    found: dict[tuple[Setting, str], list[CostRow]] = {}
    for row in rows:
        found.setdefault((row.setting, row.variant), []).append(row)
    return [
        Contest(setting, variant, tuple(group), tuple(found[setting, group[0].baseline]))
        for (setting, variant), group in found.items()
    ]


def cost_table(rows: Sequence[CostRow], section: str) -> DisplayTable:
    """Return the table of one section; what was not run says so."""
    chosen = [contest for contest in contests(rows) if contest.setting.section == section]
    if not chosen:
        raise UsageError(f"the rows hold nothing of the section {section!r}; measure a plan that holds it.")
    ran = {contest.setting.device for contest in chosen if any(row.ms is not None for row in contest.rows)}
    idle: list[str] = []
    summed = section != "training"
    copied = any(contest.of_copy is not None for contest in chosen)
    extra = [
        *(["all"] if summed else []),
        *(["memory"] if section == "pooling" else []),
        *(["of copy"] if copied else []),
    ]
    lines, row_ids = [], []
    for contest in chosen:
        device = contest.setting.device
        if device in idle:
            continue  # one line for all settings of a device that was not run
        if device in ran:
            cells = [setting_text(contest.setting), LABELS.get(contest.variant, contest.variant)]
            row_ids.append("cost-" + contest_name(contest).replace("_", "-"))
        else:
            cells = [device.upper(), "all"]
            row_ids.append(f"cost-{device}-{section}")
            idle.append(device)
        cells += [_time_text(contest, row.ms, row.ratio) for row in contest.rows]
        if summed:
            cells.append(_time_text(contest, contest.ms, contest.ratio))
        if section == "pooling":
            cells.append("" if contest.memory_share is None else f"{contest.memory_share:.2f}")
        if copied:
            cells.append("" if contest.of_copy is None else f"{contest.of_copy:.2f}")
        lines.append(tuple(Shown(cell) for cell in cells))
    return DisplayTable(
        caption=_caption(chosen, section),
        header=("Setting", "Contender", *chosen[0].setting.places, *extra),
        rows=tuple(lines),
        css_class="emseg-metrics",
        row_ids=tuple(row_ids),
    )


def setting_text(setting: Setting) -> str:
    """Return a setting in words; what is usual (forward, float32, contiguous, eager) is left out."""
    parts = [setting.device.upper()]
    parts += [setting.dtype] if setting.dtype != "float32" else []
    parts += [setting.layout] if setting.layout != "contiguous" else []
    parts += [setting.mode] if setting.mode != "eager" else []
    parts += ["+ backward"] if setting.direction == "forward + backward" else []
    return " ".join(parts)


def contest_name(contest: Contest) -> str:
    """Return a name for the contender in its setting, such as "cpu_pooling_backward", "cpu_fanet" or "cpu_se_step"."""
    short = {"mean": "mean", "dct_pool": "pooling", "stored cosines": "stored"}
    setting = contest.setting
    parts = [setting.device, short.get(contest.variant, contest.variant)]
    parts += [setting.dtype] if setting.dtype != "float32" else []
    parts += ["channels_last"] if setting.layout != "contiguous" else []
    parts += [setting.mode] if setting.mode != "eager" else []
    parts += {"forward": [], "forward + backward": ["backward"], "step": ["step"]}[setting.direction]
    return "_".join(parts)


def _caption(chosen: Sequence[Contest], section: str) -> str:
    measured = [row for contest in chosen for row in contest.rows if row.ms is not None]
    rows = measured or [row for contest in chosen for row in contest.rows]
    rounds, batches = {}, {}
    for device in dict.fromkeys(row.setting.device for row in rows):
        of_device = [row for row in rows if row.setting.device == device]
        rounds[device.upper()] = str(min(row.rounds for row in of_device))
        batches[device.upper()] = str(of_device[0].shape[0])
    shapes = dict.fromkeys(" × ".join(map(str, row.shape[1:])) for row in rows)
    usual = "Float32" if section == "training" else "Forward, float32, contiguous and eager where nothing else is said"
    what = "Images" if section == "training" else "Maps"
    extra = (
        " Memory: the most that a call holds beside the map, over the size of the map." if section == "pooling" else ""
    )
    return (
        f"{TITLES[section]}. {usual}; × is the time over that of the contender whose time is given. {what} of "
        f"{', '.join(shapes)}, batch {_by_device(batches)}; medians over rounds in turns, at least "
        f"{_by_device(rounds)}.{extra} Not run: no such device here, or left out."
    )


def _by_device(values: dict[str, str]) -> str:
    same = set(values.values())
    return same.pop() if len(same) == 1 else ", ".join(f"{value} on {device}" for device, value in values.items())


def _time_text(contest: Contest, ms: float | None, ratio: float | None) -> str:
    if ms is None or ratio is None:
        return NOT_RUN
    if contest.is_baseline:
        return f"{ms:,.0f} ms" if ms >= 100 else f"{ms:.2g} ms"
    return f"{ratio:.2f} ×"


def _total(rows: Iterable[CostRow]) -> float | None:
    times = [row.ms for row in rows]
    return None if any(ms is None for ms in times) else sum(ms for ms in times if ms is not None)
