"""How much of a validation tile was seen in training: under each split, by the tiles' overlap, and what it does to AP.

The pixel leak of `emseg.wafer.splits` is measured here for the splits of a benchmark, and for wafers that are only
planned: tiles are rectangles, so no image is needed. A tile in the middle of a large wafer has eight neighbours, each
in training with the share p that goes to training. With tiles that overlap by the share o of their side, up to 0.5,
four edges of o (1 - 2 o) are held by one neighbour each and four corners of o^2 by three, so that on average

    leak = 4 o (1 - 2 o) p + 4 o^2 (1 - (1 - p)^3)

of its pixels were trained on. On a real wafer the last tile ends at the wafer's border and overlaps more; the tiles on
the border have fewer neighbours.

The **section leak** is the share of the sections shown on validation tiles that training tiles show as well, in whole
or in part: a section on the border of two tiles is on both.

Source for tile, overlap and split: Sun et al. 2021 (FANet), section 4.1. The measures are ours.
"""

from collections.abc import Sequence
from pathlib import Path

from chapters.fanet_results.table2 import Trained, leak_gain
from chapters.fanet_results.table2_reporting import NOT_RUN
from emseg.errors import InputError, UsageError
from emseg.files import read_json
from emseg.reported.display import DisplayTable, Shown
from emseg.runs.session import Run
from emseg.sections import WaferSections
from emseg.wafer.formats.benchmark_folder import Benchmark
from emseg.wafer.splits import SPLITS, TRAIN, VALIDATION, PixelLeak, pixel_leak, split_crops
from emseg.wafer.tiles import Tiling, plan_tiles


def split_leak(benchmark: Benchmark, split: str) -> PixelLeak:
    """Return the pixel leak of a benchmark's split; raise `InputError` if its files do not say where tiles were cut."""
    return pixel_leak(benchmark.read(split, TRAIN).places, benchmark.read(split, VALIDATION).places)


def section_leak(benchmark: Benchmark, split: str) -> float:
    """Return the share of the sections on validation tiles that training tiles show as well; crowds do not count."""
    files = benchmark.split(split)
    trained_on, shown = set(_sections(files.train)), _sections(files.validation)
    return sum(section in trained_on for section in shown) / len(shown)


def random_split_leak(wafer_px: int, tiling: Tiling, *, train_share: float, n_wafers: int, seed: int) -> PixelLeak:
    """Return the pixel leak of all tiles of `n_wafers` square wafers, divided at random; empty tiles are kept."""
    if n_wafers < 1:
        raise UsageError(f"`n_wafers` must be at least 1; got {n_wafers}.")
    wafers = [WaferSections(f"planned-{number}", wafer_px, wafer_px, ()) for number in range(n_wafers)]
    split = split_crops(
        [tile for wafer in wafers for tile in plan_tiles(wafer, tiling)], train_share=train_share, seed=seed
    )
    return pixel_leak(split.train, split.validation)


def expected_leak(overlap: float, train_share: float) -> float:
    """Return the mean leak of a tile that has all eight neighbours, from the equation above."""
    if not 0 <= overlap <= 0.5 or not 0 <= train_share <= 1:
        raise UsageError(
            f"`overlap` must be from 0 to 0.5 and `train_share` from 0 to 1; got {overlap}, {train_share}."
        )
    edges = 4 * overlap * (1 - 2 * overlap) * train_share
    return edges + 4 * overlap**2 * (1 - (1 - train_share) ** 3)


def report_split_leak(run: Run, split: str, leak: PixelLeak, *, sections: float, n_sections: int) -> None:
    """Note the leak of a split in a run: mean over tiles, share of tiles touched, and the section leak."""
    report_leak_mean(run, split, leak, f"split by {split}")
    n = len(leak.shares)
    label = f"Validation tiles of which a pixel was trained on, split by {split}"
    run.metric(f"{split}_leak_touched", leak.share_touched, n=n, label=label)
    label = f"Sections on validation tiles that were trained on, split by {split}"
    run.metric(f"{split}_sections_seen", sections, n=n_sections, label=label)


def report_leak_mean(run: Run, name: str, leak: PixelLeak, of: str) -> None:
    """Note the mean leak as `{name}_leak_mean`, with its standard deviation over tiles."""
    n = len(leak.shares)
    run.metric(
        f"{name}_leak_mean",
        leak.mean,
        n=n,
        spread=float(leak.shares.std(ddof=1)) if n > 1 else None,
        label=f"Share of a validation tile's pixels that was trained on, {of}",
    )


def same_networks(trained: Sequence[Trained], others: Sequence[Trained]) -> list[Trained]:
    """Return the runs of the networks that `others` has as well, so that levels compare; all if it has none."""
    cells = {one.cell for one in others}
    return [one for one in trained if not cells or one.cell in cells]


def leak_table(runs: Sequence[tuple[str, Sequence[Trained]]], metric: str = "ap") -> DisplayTable:
    """Return what a split does to AP: a row for each (split, its runs), the runs of one experiment each."""
    rows = []
    for split, trained in runs:
        if split not in SPLITS:
            raise UsageError(f"a split must be one of {', '.join(SPLITS)}; got {split!r}.")
        scores = [_mean_score(trained, name) for name in (metric, f"fresh_{metric}")]
        gain = leak_gain(trained, split=split, metric=metric)
        if gain is None or gain.value is None:
            difference = NOT_RUN
        else:
            within = "" if gain.interval is None else f" ({gain.interval[0]:+.1f} to {gain.interval[1]:+.1f})"
            difference = f"{gain.value:+.1f}{within}".replace("-", "−")
        texts = (split, *scores, difference, str(len(trained)))
        rows.append(tuple(Shown(text) for text in texts))
    return DisplayTable(
        caption="Mask AP in % on a split's own validation tiles and on fresh wafers, means over runs; the difference "
        "in points with its 95 % interval over runs.",
        header=("Split by", "AP on validation tiles", "AP on fresh wafers", "Difference", "Runs"),
        rows=tuple(rows),
        css_class="emseg-metrics",
        row_ids=tuple(f"leak-{split}" for split, _ in runs),
    )


def _mean_score(trained: Sequence[Trained], metric: str) -> str:
    scores = [score for one in trained if (score := one.score(metric)) is not None]
    return f"{sum(scores) / len(scores):.1f}" if scores else NOT_RUN


def _sections(path: Path) -> list[tuple[str, int]]:
    """Return (wafer, section) of each annotation of a COCO file that we wrote."""
    document = read_json(path)
    try:
        wafer = {image["id"]: image["wafer"] for image in document["images"]}
        return [(wafer[one["image_id"]], one["section"]) for one in document["annotations"] if not one["iscrowd"]]
    except KeyError as error:
        raise InputError(f"{path} lacks {error}: only annotations that `emseg wafer tiles` wrote say it.") from error
