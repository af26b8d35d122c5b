"""Track 1 against Track 2: the same networks and seeds, trained and scored on the same area of tissue.

    side of an image   size_px * pixel size, in um
    labelled tissue    number of training images * side^2, in um^2
    crop               crop_size * pixel size, in um: what a network sees at once of the tissue

Track 2 is Track 1 downsampled, so an image of as many pixels shows about ninety times the tissue. Scores of the tracks
are compared where their images show the same: sides equal within one percent, as many images, all else of the two
experiments alike, and only seeds that both have. The crop cannot be equal as well: of as many pixels it is as much
wider in um as a pixel is, and that belongs to what is compared.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

from chapters.urisc_competition.competition_records import (
    ARCHITECTURES,
    SeedScore,
    Trained,
    best_of_architecture,
    coverage,
    experiments,
)
from chapters.urisc_competition.leaderboard import NOT_RUN, published_scores
from emseg.reported.display import DisplayTable, Shown
from emseg.runs.session import Run
from emseg.wording import typeset

TRACKS = ("track1", "track2")
SIDE_TOLERANCE = 0.01
UNEQUAL_TISSUE, OTHER_SETTINGS, UNKNOWN_TISSUE = "unequal tissue", "other settings", "unknown tissue"


@dataclass(frozen=True)
class Tissue:
    """What the images of a run show: side of an image, labelled tissue to train on, side of a training crop."""

    side_um: float
    labelled_um2: float
    crop_um: float


@dataclass(frozen=True, eq=False)
class ComparedTracks:
    """The runs on Track 1 and on Track 2 that are compared, and what their images show, where it is known.

    `unequal`: why a difference of their scores would mean nothing, empty where it does not.
    """

    runs: tuple[list[Trained], list[Trained]]
    tissues: tuple[Tissue | None, Tissue | None]
    unequal: str

    def scores(self, architecture: str, metric: str = "test_membrane_f1") -> tuple[SeedScore | None, SeedScore | None]:
        """Return a metric of the best plain network of an architecture on either track."""
        first, second = (best_of_architecture(runs, architecture, metric) for runs in self.runs)
        return first, second

    def drop(self) -> float | None:
        """Return membrane F1 on Track 1 minus that on Track 2, mean of the three networks.

        None where one has no run on one of the tracks, or where the tracks cannot be compared.
        """
        pairs = [self.scores(architecture) for architecture in ARCHITECTURES]
        if self.unequal or any(score is None for pair in pairs for score in pair):
            return None
        return statistics.fmean(first.mean - second.mean for first, second in pairs if first and second)


def tissue_of(one: Trained) -> Tissue | None:
    """Return what the images of a run show, None where its record does not tell."""
    of = one.record["parameters"]
    pixel_size_nm = next((use.get("pixel_size_nm") for use in one.record["data"]), None)
    side_px = int(of.get("size_px") or 0) or _usual_side_px(one)
    n_images = one.score("n_training_images")
    if pixel_size_nm is None or side_px is None or n_images is None:
        return None
    side_um = side_px * pixel_size_nm / 1000
    return Tissue(side_um, n_images * side_um**2, _crop_px(one) * pixel_size_nm / 1000)


def compared_tracks(trained: Iterable[Trained], data: str) -> ComparedTracks:
    """Return the runs on the two tracks of a kind of data: comparable ones if there are any, else the main ones."""
    trained = list(trained)
    first, second = (experiments(trained, (data, track)) or [[]] for track in TRACKS)
    pairs = [_paired(*pair) for pair in product(first, second)]

    def weight(one: ComparedTracks) -> tuple[bool, int, int, str]:
        networks, n_runs, finished = zip(*(coverage(runs) for runs in one.runs), strict=True)
        return all(one.runs) and not one.unequal, sum(networks), sum(n_runs), max(finished)

    return max(pairs, key=weight)


def report_tracks(run: Run, trained: Sequence[Trained], data: str) -> None:
    """Note what the images of the two tracks show, and the drop of F1 from one to the other if it means anything."""
    compared = compared_tracks(trained, data)
    for track, tissue in zip(TRACKS, compared.tissues, strict=True):
        if tissue is not None:
            for name, value, unit, label in (
                ("side_um", tissue.side_um, "µm", "Side of an image"),
                ("labelled_um2", tissue.labelled_um2, "µm^2", "Labelled tissue to train on"),
                ("crop_um", tissue.crop_um, "µm", "Side of a training crop"),
            ):
                run.metric(f"{track}_{name}", value, unit=unit, n=1, label=f"{label}, {track}")
    drop = compared.drop()
    if drop is not None:
        label = "Membrane F1 on Track 1 minus Track 2, mean of the three networks, same seeds, same area of tissue"
        run.metric("track_drop", drop, n=len(ARCHITECTURES), label=label)


def tracks_table(trained: Sequence[Trained]) -> DisplayTable:
    """Return membrane F1 of the same networks on the two tracks with the tissue they saw, and the paper's leaders."""
    leaders = [next(row.value for row in published_scores(track)[2:]) for track in ("Track 1", "Track 2")]
    rows = [_row("the paper's leaders, U-RISC", *leaders)]
    for data, kind in (("synthetic", "synthetic"), ("urisc", "U-RISC")):
        compared = compared_tracks(trained, data)
        for architecture, name in ARCHITECTURES.items():
            scores = (None if one is None else one.mean for one in compared.scores(architecture))
            rows.append(_row(f"ours: {name}, {kind}", *scores, unequal=compared.unequal))
        rows += _tissue_rows(compared.tissues, kind)
    return DisplayTable(
        caption="F1 of membrane on the two tracks, mean over test images and seeds. Leaders are two different teams. "
        "Ours are compared over the same seeds and only where the images of both tracks show the same area of tissue; "
        "how much that is stands below each kind of data, with the side of a crop that a network is trained on.",
        header=("", "Track 1", "Track 2", "Difference"),
        rows=tuple(tuple(Shown(text) for text in row) for row in rows),
        css_class="emseg-metrics",
        row_ids=tuple(f"tracks-{number}" for number in range(len(rows))),
    )


def _row(name: str, first: float | None, second: float | None, *, unequal: str = "") -> tuple[str, ...]:
    shown = [NOT_RUN if one is None else f"{one:.3f}" for one in (first, second)]
    if first is None or second is None:
        return name, *shown, ""
    return name, *shown, f"not compared: {unequal}" if unequal else typeset(f"{first - second:+.3f}")


def _tissue_rows(tissues: tuple[Tissue | None, Tissue | None], kind: str) -> list[tuple[str, ...]]:
    """Return the rows that say what either track shows; none where neither is known."""
    first, second = tissues
    if first is None and second is None:
        return []
    shown = {
        "images, side, µm": [None if one is None else one.side_um for one in tissues],
        "labelled tissue to train on, µm²": [None if one is None else one.labelled_um2 for one in tissues],
        "a training crop, side, µm": [None if one is None else one.crop_um for one in tissues],
    }
    rows = []
    for name, (one, other) in shown.items():
        texts = ["" if value is None else f"{value:.3g}" for value in (one, other)]
        rows.append((f"{kind}: {name}", *texts, "" if one is None or other is None else _times(other / one)))
    return rows


def _times(ratio: float) -> str:
    """Return how many times as large Track 2's value is, in words."""
    return "equal" if math.isclose(ratio, 1, rel_tol=3 * SIDE_TOLERANCE) else f"Track 2: {ratio:.2g} times"


def _paired(first: list[Trained], second: list[Trained]) -> ComparedTracks:
    """Return two experiments side by side; where they can be compared, only networks and seeds that both have."""
    tissues = _tissue(first), _tissue(second)
    unequal = _unequal(first, second, tissues) if first and second else ""
    if first and second and not unequal:
        common = {(one.network, one.seed) for one in first} & {(one.network, one.seed) for one in second}
        first, second = ([one for one in runs if (one.network, one.seed) in common] for runs in (first, second))
    return ComparedTracks((first, second), tissues, unequal)


def _unequal(first: Sequence[Trained], second: Sequence[Trained], tissues: tuple[Tissue | None, Tissue | None]) -> str:
    one, other = tissues
    if one is None or other is None:
        return UNKNOWN_TISSUE
    sides_equal = math.isclose(one.side_um, other.side_um, rel_tol=SIDE_TOLERANCE)
    if not sides_equal or not math.isclose(one.labelled_um2, other.labelled_um2, rel_tol=3 * SIDE_TOLERANCE):
        return UNEQUAL_TISSUE
    return "" if _settings(first[0]) == _settings(second[0]) else OTHER_SETTINGS


def _settings(one: Trained) -> tuple[tuple[str, str], ...]:
    """Return what the runs of an experiment share, but for the size of the images in pixels."""
    return tuple((name, value) for name, value in one.experiment if name != "size_px")


def _tissue(runs: Sequence[Trained]) -> Tissue | None:
    return tissue_of(runs[0]) if runs else None


def _usual_side_px(one: Trained) -> int | None:
    """Return the side of an image of a data set where a run does not change it."""
    from emseg.membrane.dataset.downsampled import TRACK_1_SIDE, TRACK_2_SIDE
    from emseg.membrane.dataset.synthetic_sets import TRACKS as SYNTHETIC_TRACKS

    data, track = one.data_set
    if data == "synthetic":
        return SYNTHETIC_TRACKS[track].size_px
    return {("urisc", "track1"): TRACK_1_SIDE, ("urisc", "track2"): TRACK_2_SIDE}.get((data, track))


def _crop_px(one: Trained) -> int:
    from emseg.membrane.training import PLANS

    of = one.record["parameters"]
    return int(of.get("crop_size") or 0) or PLANS[str(of.get("plan") or "small")].crop_size
