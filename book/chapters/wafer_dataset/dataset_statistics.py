"""What the tiles of a benchmark hold: how many sections of which class, how large, how crowded, how often cut off.

    crowd      a section of which a tile shows too little to tell what it is; it counts nowhere here
    touching   the section's outline is no farther than 2 % of a usual section's side from another outline on its tile;
               a section that lies partly on another one touches it, for outlines show what can be seen
    clipped    the section's outline reaches the border of its tile, so the tile may show only a part of it
    size       COCO's: small below 32^2 px, large above 96^2 px, medium between, by the area that the tile shows

A usual section's side is the square root of the median area.

Source for the sizes: https://cocodataset.org/#detection-eval. For the paper's own counts: Sun et al. 2021 (FANet),
section 4.1, which says how many tiles there are and nothing of what is on them.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from jaxtyping import Bool, Float64, Int64

from emseg.errors import InputError
from emseg.reported import load_reported, select_reported
from emseg.reported.display import DisplayTable, Shown
from emseg.runs.session import Run
from emseg.sections import WaferSections
from emseg.wafer.formats.benchmark_folder import Benchmark
from emseg.wafer.formats.coco import CocoImage, CocoSet
from emseg.wafer.splits import TRAIN, VALIDATION

SMALL_SIDE_PX, LARGE_SIDE_PX = 32, 96
TOUCHING_SHARE = 0.02  # of a usual section's side; the generator's stuck sections are nearer, the others farther
TRAINING = "training"
_NOT_STATED = "not stated"
_ON_BORDER_PX = 0.01  # annotations are rounded to hundredths of a pixel


@dataclass(frozen=True, eq=False)
class TileStatistics:
    """The sections of a set of tiles, crowds left out; arrays have a place for each section, `per_tile` for a tile."""

    class_names: tuple[str, ...]
    labels: tuple[str, ...]
    areas_px: Float64[np.ndarray, " section"]
    touching: Bool[np.ndarray, " section"]
    clipped: Bool[np.ndarray, " section"]
    per_tile: Int64[np.ndarray, " tile"]

    @property
    def n_tiles(self) -> int:
        """How many tiles there are."""
        return len(self.per_tile)

    @property
    def n_sections(self) -> int:
        """How many sections count; one that two tiles show counts twice."""
        return len(self.labels)

    def share_of_class(self, name: str) -> float:
        """Return the share of the sections that are of a class."""
        return self.labels.count(name) / self.n_sections

    @property
    def sides_px(self) -> Float64[np.ndarray, " section"]:
        """The side of a square of each section's area."""
        return np.asarray(np.sqrt(self.areas_px))

    @property
    def size_shares(self) -> dict[str, float]:
        """The shares of small, medium and large sections."""
        small = float((self.sides_px < SMALL_SIDE_PX).mean())
        large = float((self.sides_px > LARGE_SIDE_PX).mean())
        return {"small": small, "medium": 1.0 - small - large, "large": large}


def tile_statistics(coco: CocoSet) -> TileStatistics:
    """Return what the tiles of a COCO file hold; raise `InputError` if no section counts."""
    by_image: dict[int, list[int]] = {image.id: [] for image in coco.images}
    for place, annotation in enumerate(coco.annotations):
        by_image[annotation.image_id].append(place)
    counted = [place for place, one in enumerate(coco.annotations) if not one.crowd]
    if not counted:
        raise InputError(f"{coco.path} has crowds alone; no section counts. Lower the least visible share.")
    areas = np.array([one.area_px for one in coco.annotations], dtype=np.float64)
    shapes = [shapely.unary_union([shapely.Polygon(part) for part in one.parts]) for one in coco.annotations]
    gap = touching_gap_px(areas[counted])
    touching, clipped = np.zeros(len(shapes), dtype=bool), np.zeros(len(shapes), dtype=bool)
    for image in coco.images:
        places = by_image[image.id]
        for first, second in near_pairs([shapes[place] for place in places], gap):
            touching[[places[first], places[second]]] = True
        for place in places:
            clipped[place] = _on_border(coco.annotations[place].parts, image)
    crowds = {place for place, one in enumerate(coco.annotations) if one.crowd}
    return TileStatistics(
        coco.class_names,
        tuple(coco.annotations[place].label for place in counted),
        areas[counted],
        touching[counted],
        clipped[counted],
        np.array([len(set(by_image[image.id]) - crowds) for image in coco.images], dtype=np.int64),
    )


def benchmark_statistics(benchmark: Benchmark, split: str, *, of: str = "") -> dict[str, TileStatistics]:
    """Return the statistics of the two parts of a split, named "training" and "validation", after what `of` says."""
    parts = {TRAINING: TRAIN, VALIDATION: VALIDATION}
    return {
        f"{of}: {name}" if of else name: tile_statistics(benchmark.read(split, part)) for name, part in parts.items()
    }


def touching_gap_px(areas_px: Float64[np.ndarray, " section"]) -> float:
    """Return up to which distance sections of these areas count as touching."""
    return TOUCHING_SHARE * float(np.sqrt(np.median(areas_px)))


def near_pairs(shapes: Sequence[shapely.Geometry], gap_px: float) -> list[tuple[int, int]]:
    """Return the pairs (i, j), i < j, of shapes that are no farther than `gap_px` from each other, in order."""
    if not shapes:
        return []
    pairs = shapely.STRtree(shapes).query(shapes, predicate="dwithin", distance=gap_px)
    return sorted((int(i), int(j)) for i, j in pairs.T if i < j)


def touching_pairs(sections: WaferSections) -> list[tuple[int, int]]:
    """Return the pairs of sections of a whole wafer that touch, as places in its list."""
    areas = np.array([section.area_px for section in sections.sections], dtype=np.float64)
    return near_pairs([shapely.Polygon(section.polygon) for section in sections.sections], touching_gap_px(areas))


_MEASURES: tuple[tuple[str, Callable[[TileStatistics], str]], ...] = (
    ("Sections on a tile, mean", lambda one: f"{one.per_tile.mean():.1f}"),
    ("Sections on a tile, most", lambda one: f"{one.per_tile.max()}"),
    ("Touching another section", lambda one: f"{one.touching.mean():.1%}"),
    ("Reaching the tile's border", lambda one: f"{one.clipped.mean():.1%}"),
    (f"Small (below {SMALL_SIDE_PX}² px)", lambda one: f"{one.size_shares['small']:.1%}"),
    ("Medium", lambda one: f"{one.size_shares['medium']:.1%}"),
    (f"Large (above {LARGE_SIDE_PX}² px)", lambda one: f"{one.size_shares['large']:.1%}"),
)


def statistics_table(sets: Mapping[str, TileStatistics]) -> DisplayTable:
    """Return the statistics of named sets of tiles, a column each, beside what the paper says of its own."""
    paper = _paper_tiles()
    rows = [("Tiles", *(f"{one.n_tiles:,}" for one in sets.values()), *paper)]
    names = dict.fromkeys(name for one in sets.values() for name in one.class_names)
    rows.append(("Sections", *(f"{one.n_sections:,}" for one in sets.values()), _NOT_STATED, _NOT_STATED))
    for name in names:
        counts = (Counter(one.labels)[name] if name in one.class_names else None for one in sets.values())
        rows.append(
            (f"of class {name}", *("none such" if n is None else f"{n:,}" for n in counts), *2 * (_NOT_STATED,))
        )
    rows += [(what, *(text(one) for one in sets.values()), _NOT_STATED, _NOT_STATED) for what, text in _MEASURES]
    return DisplayTable(
        caption="What the tiles hold; sections of which a tile shows too little are left out. Last two columns: what "
        "the paper says of its own tiles.",
        header=("", *sets, "paper: training", "paper: validation"),
        rows=tuple(tuple(Shown(text) for text in row) for row in rows),
        css_class="emseg-metrics",
        row_ids=tuple(f"statistics-{number}" for number in range(len(rows))),
    )


def report_statistics(run: Run, train: TileStatistics, validation: TileStatistics) -> None:
    """Note the statistics of a benchmark in a run: counts of both parts, shares over the two together."""
    for part, name, one in ((TRAIN, TRAINING, train), (VALIDATION, VALIDATION, validation)):
        run.metric(f"n_tiles_{part}", one.n_tiles, n=one.n_tiles, label=f"Tiles for {name}")
        run.metric(f"n_sections_{part}", one.n_sections, n=one.n_tiles, label=f"Sections on the tiles for {name}")
    n = train.n_sections + validation.n_sections
    per_tile = np.concatenate([train.per_tile, validation.per_tile])
    run.metric(
        "sections_per_tile",
        per_tile.mean(),
        n=len(per_tile),
        spread=per_tile.std(ddof=1) if len(per_tile) > 1 else None,
        label="Sections on a tile",
    )
    for name in train.class_names:
        share = (train.labels.count(name) + validation.labels.count(name)) / n
        run.metric(f"share_{name}", share, n=n, label=f"Share of class {name}")
    for name, label, first, second in (
        ("share_touching", "Sections that touch another", train.touching, validation.touching),
        ("share_clipped", "Sections that reach the tile's border", train.clipped, validation.clipped),
    ):
        run.metric(name, np.concatenate([first, second]).mean(), n=n, label=label)
    for size, share in train.size_shares.items():
        both = (share * train.n_sections + validation.size_shares[size] * validation.n_sections) / n
        run.metric(f"share_{size}", both, n=n, label=f"Sections that are {size} by COCO's borders")


def _on_border(parts: Sequence[Float64[np.ndarray, "vertex 2"]], image: CocoImage) -> bool:
    points = np.concatenate(parts)
    end = np.array([image.height, image.width]) - _ON_BORDER_PX
    return bool((points <= _ON_BORDER_PX).any() or (points >= end).any())


def _paper_tiles() -> tuple[str, str]:
    """Return how many tiles the paper had to train on and to validate on."""
    rows = load_reported("fanet")
    values = [
        next(row.value for row in select_reported(rows, quantity) if row.place == "Section 4.1")
        for quantity in ("training_images", "validation_images")
    ]
    return f"{values[0]:,.0f}", f"{values[1]:,.0f}"
