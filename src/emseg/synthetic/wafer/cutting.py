"""What is cut, in the order of cutting: groups of sections that come to lie together, and the class of each.

    ribbon    sections that follow each other, most of them stuck edge to edge, a few one upon the next
    single    a section by itself
    upon      a section that came to lie partly on others
    pile      a heap

A new knife does not meet the whole block at once. So incomplete sections come in runs of one to four at the beginning
of a group, share the direction of what is missing, and miss less from one to the next.

Source: Sun et al. 2021 (FANet), section 4.1 and Fig. 2 (a, e).
"""

from dataclasses import dataclass

import numpy as np

from emseg.synthetic.wafer.design import WaferDesign
from emseg.synthetic.wafer.section_crops import SECTION_CLASSES
from emseg.synthetic.wafer.severity import USUAL_MISSING
from emseg.synthetic.wafer.shape import Shape, draw_knife, draw_shape

RIBBON, SINGLE, UPON, PILE = "ribbon", "single", "upon", "pile"
LONGEST_KNIFE_CHANGE = 4


@dataclass(frozen=True)
class Group:
    """Sections that lie together; `gaps[k]` (pixels, negative: overlap) is between section k - 1 and k."""

    kind: str
    first_serial: int
    shapes: tuple[Shape, ...]
    gaps: tuple[float, ...]


def cut_sections(design: WaferDesign, rng: np.random.Generator) -> list[Group]:
    """Return all groups in the order of cutting."""
    sizes = _group_sizes(design, rng)
    qualities, runs = _classes(design, [count for _, count in sizes], rng)
    groups = []
    serial = 0
    for (kind, count), run in zip(sizes, runs, strict=True):
        knife = draw_knife(rng)
        least, most = USUAL_MISSING[0], rng.uniform(0.42, USUAL_MISSING[1])
        shapes = []
        for k in range(count):
            missing = most - (most - least) * k / max(run, 1) if k < run else rng.uniform(0.25, 0.6)
            factor = rng.uniform(0.68, 0.85) if rng.random() < 0.07 else rng.normal(1.0, 0.03)
            length = design.section_length_px * float(np.clip(factor, 0.65, 1.1))
            width = design.section_width_px * float(np.clip(factor * rng.normal(1.0, 0.025), 0.65, 1.12))
            shared = knife if k < run else None
            shapes.append(
                draw_shape(qualities[serial + k], length, width, shared, float(missing), rng, design.severity)
            )
        groups.append(Group(kind, serial, tuple(shapes), _gaps(design, kind, count, rng)))
        serial += count
    return groups


def _group_sizes(design: WaferDesign, rng: np.random.Generator) -> list[tuple[str, int]]:
    """Return kind and number of sections of each group, so that the design's shares come out."""
    n = design.planned_sections
    left, sizes = n, []

    def take(kind: str, count: int) -> int:
        nonlocal left
        count = min(count, left)
        if count > 0:
            sizes.append((kind, count))
            left -= count
        return count

    piled = round(design.piled_share * n)
    while piled >= 3:
        piled -= take(PILE, min(int(rng.integers(3, 6)), piled))
    for _ in range(round(0.6 * design.overlapping_share * n)):
        take(UPON, 1)
    joined = (design.stuck_share + 0.4 * design.overlapping_share) * n
    while joined > 0.5 and left > 1:
        joined -= take(RIBBON, int(rng.integers(2, 10))) - 1
    while left:
        take(SINGLE, 1)
    return [sizes[k] for k in rng.permutation(len(sizes))]


def _classes(design: WaferDesign, sizes: list[int], rng: np.random.Generator) -> tuple[list[str], list[int]]:
    """Return each section's class and, for each group, how many incomplete sections it begins with."""
    n = sum(sizes)
    counts = _whole_numbers(np.array(design.fractions) * n)
    good, incomplete, fold, damaged = SECTION_CLASSES
    runs = [0] * len(sizes)
    left = counts[1]
    for group in rng.permutation(len(sizes)):
        if left == 0:
            break
        longest = min(sizes[group], LONGEST_KNIFE_CHANGE, left)
        runs[group] = int(rng.integers(1, longest + 1)) if rng.random() < min(1.0, 3.0 * design.incomplete) else 0
        left -= runs[group]
    classes = []
    for size, run in zip(sizes, runs, strict=True):
        classes += [incomplete] * run + [""] * (size - run)
    free = np.array([place for place, name in enumerate(classes) if not name], dtype=np.int64)
    rest = np.array([good] * counts[0] + [incomplete] * left + [fold] * counts[2] + [damaged] * counts[3])
    for place, name in zip(free, rng.permutation(rest), strict=True):
        classes[place] = str(name)
    return classes, runs


def _whole_numbers(wanted: np.ndarray) -> list[int]:
    """Round to whole numbers that keep the sum (largest remainders)."""
    down = np.floor(wanted).astype(int)
    missing = round(float(wanted.sum())) - int(down.sum())
    down[np.argsort(down - wanted, kind="stable")[:missing]] += 1
    return [int(count) for count in down]


def _gaps(design: WaferDesign, kind: str, count: int, rng: np.random.Generator) -> tuple[float, ...]:
    width = design.section_width_px
    gaps = [0.0]
    upon = 0.4 * design.overlapping_share / max(design.stuck_share + 0.4 * design.overlapping_share, 1e-9)
    for _ in range(count - 1):
        draw = rng.random()
        if kind == RIBBON and draw < upon:
            gaps.append(-rng.uniform(0.08, 0.45) * width)
        elif kind == RIBBON:
            gaps.append(rng.uniform(-0.03, 0.006) * width)
        else:
            gaps.append(0.0)
    return tuple(gaps)
