"""What is cut, in the order of cutting, and where it comes to lie on the wafer.

    `ribbon`  sections that follow each other, most of them stuck edge to edge, a few each on the next
    `single`  a section by itself
    `upon`    a section partly on top of others
    `pile`    a heap

A new knife does not reach the whole block at once. So incomplete sections come in runs of one to four at the beginning
of a group, share the direction of what is missing, and miss less from one to the next. On tape, groups follow each
other along strips, wandering a little. On bare silicon, where they were collected from the water surface, groups lie at
any angle, ribbons bend, and each takes a place where there is room (random sequential packing, with separating axes as
the test of overlap).

Source: Sun et al. 2021 (FANet), section 4.1 and Fig. 2 (a, e).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from emseg.synthetic.shared_kernels import Floats
from emseg.synthetic.wafer import wafer_kernels as kernels
from emseg.synthetic.wafer.section_shape import USUAL_MISSING, Shape, draw_knife, draw_shape
from emseg.synthetic.wafer.wafer_design import SECTION_CLASSES, WaferDesign

MARGIN = 0.25  # of a section's length, free of sections around the wafer
TRIES = 150
Box = Floats  # y, x, cos, sin, half u, half v
RIBBON, SINGLE, UPON, PILE = "ribbon", "single", "upon", "pile"
LONGEST_KNIFE_CHANGE = 4


@dataclass(frozen=True)
class Group:
    """Sections that lie together; `gaps[k]` (pixels, negative: overlap) is between section k - 1 and k."""

    kind: str
    first_serial: int
    shapes: tuple[Shape, ...]
    gaps: tuple[float, ...]


def cut_sections(design: WaferDesign, rng: Generator) -> list[Group]:
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
            shared, quality = knife if k < run else None, qualities[serial + k]
            shapes.append(draw_shape(quality, length, width, shared, float(missing), rng, design.severity))
        groups.append(Group(kind, serial, tuple(shapes), _gaps(design, kind, count, rng)))
        serial += count
    return groups


def _group_sizes(design: WaferDesign, rng: Generator) -> list[tuple[str, int]]:
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


def _classes(design: WaferDesign, sizes: list[int], rng: Generator) -> tuple[list[str], list[int]]:
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


def _gaps(design: WaferDesign, kind: str, count: int, rng: Generator) -> tuple[float, ...]:
    width = design.section_width_px
    gaps = [0.0] * count
    upon = 0.4 * design.overlapping_share / max(design.stuck_share + 0.4 * design.overlapping_share, 1e-9)
    for k in range(1, count):
        draw = rng.random()
        if kind == RIBBON:
            gaps[k] = -rng.uniform(0.08, 0.45) * width if draw < upon else rng.uniform(-0.03, 0.006) * width
    return tuple(gaps)


@dataclass(frozen=True)
class Strip:
    """A tape strip: a point p is on it where |direction . p - middle| <= half."""

    direction: tuple[float, float]
    middle: float
    half: float


@dataclass(frozen=True)
class Placed:
    """A section on the wafer; those later in the list lie on top."""

    shape: Shape
    serial: int
    box: Box

    @property
    def frame(self) -> Floats:
        """(y, x, cos, sin) and the place (u, v) of the box's middle in the whole block."""
        return np.array([*self.box[:4], *self.shape.middle])


def lay_strips(design: WaferDesign, rng: Generator) -> list[Strip]:
    """Return the tape strips, side by side over the whole wafer; none on bare silicon."""
    if design.background != "tape":
        return []
    length = design.section_length_px
    upright = rng.random() < 0.5
    extent = design.width if upright else design.height
    between, border = rng.uniform(0.10, 0.22) * length, 0.25 * length
    count = max(1, int((extent - 2 * border) / (1.32 * length + between)))
    pitch = (extent - 2 * border) / count
    half = 0.5 * (pitch - between)
    strips = []
    for k in range(count):
        tilt = rng.normal(0.0, 0.03 * length) / max(design.height, design.width)
        c, s = (math.sin(tilt), math.cos(tilt)) if upright else (math.cos(tilt), math.sin(tilt))
        center = border + (k + 0.5) * pitch + rng.normal(0.0, 0.02) * length
        at = (0.5 * design.height, center) if upright else (center, 0.5 * design.width)
        strips.append(Strip((c, s), c * at[0] + s * at[1], half))
    return strips


def lay_sections(design: WaferDesign, groups: list[Group], strips: list[Strip], rng: Generator) -> list[Placed]:
    """Return the sections that found room, the lowest first."""
    return _along_strips(design, groups, strips, rng) if strips else _on_silicon(design, groups, rng)


def _chain(group: Group, bend: float, rng: Generator) -> Box:
    """Return the group's boxes on a path that starts at the origin along v and turns by `bend` a section."""
    boxes = np.zeros((len(group.shapes), 6))
    at, heading, before = np.zeros(2), 0.0, 0.0
    for k, (shape, gap) in enumerate(zip(group.shapes, group.gaps, strict=True)):
        half_v = float(shape.half[1])
        if k:
            heading += 0.5 * bend
            at = at + (before + gap + half_v) * np.array([math.cos(heading), math.sin(heading)])
            heading += 0.5 * bend
        before = half_v
        angle = heading - 0.5 * math.pi + rng.normal(0.0, 0.02)
        aside = float(shape.middle[0]) + rng.normal(0.0, 0.035) * shape.block[0]
        center = at + aside * np.array([math.cos(angle), math.sin(angle)])
        boxes[k] = *center, math.cos(angle), math.sin(angle), shape.half[0], half_v
    return boxes


def _heap(group: Group, rng: Generator) -> Box:
    """Return the boxes of a pile around the origin."""
    boxes = np.zeros((len(group.shapes), 6))
    start, tilt = rng.uniform(0, 2 * math.pi, 2)
    for k, shape in enumerate(group.shapes):
        away = rng.uniform(0.55, 0.95) * shape.block[1] * (1.0 + 0.12 * len(group.shapes))
        place = start + 2 * math.pi * k / len(group.shapes) + rng.normal(0.0, 0.25)
        angle = tilt + rng.normal(0.0, 0.6)
        boxes[k, :2] = away * math.cos(place), away * math.sin(place)
        boxes[k, 2:] = math.cos(angle), math.sin(angle), *shape.half
    return boxes


def _broken(group: Group, count: int) -> list[Group]:
    """Return the first `count` sections of a group and the rest of it."""
    kind = RIBBON if group.kind == RIBBON else SINGLE
    return [
        Group(kind, group.first_serial, group.shapes[:count], group.gaps[:count]),
        Group(kind, group.first_serial + count, group.shapes[count:], (0.0, *group.gaps[count + 1 :])),
    ]


def _moved(boxes: Box, y: float, x: float, turn: float) -> Box:
    c, s = math.cos(turn), math.sin(turn)
    out = boxes.copy()
    out[:, 0] = y + c * boxes[:, 0] - s * boxes[:, 1]
    out[:, 1] = x + s * boxes[:, 0] + c * boxes[:, 1]
    out[:, 2] = c * boxes[:, 2] - s * boxes[:, 3]
    out[:, 3] = s * boxes[:, 2] + c * boxes[:, 3]
    return out


def box_reach(boxes: Box) -> Floats:
    """Return how far boxes reach from their middle along rows and columns, [..., 2]."""
    along = np.abs(boxes[..., [2, 3]]) * boxes[..., 4, None]
    return along + np.abs(boxes[..., [3, 2]]) * boxes[..., 5, None]


def _inside(boxes: Box, design: WaferDesign) -> bool:
    """Return whether all boxes lie within the wafer's margin."""
    reach, at = box_reach(boxes) + MARGIN * design.section_length_px, boxes[:, :2]
    return bool(((at >= reach) & (at <= np.array([design.height, design.width]) - reach)).all())


def _on_silicon(design: WaferDesign, groups: list[Group], rng: Generator) -> list[Placed]:
    """Place the largest groups first, at any angle where there is room; sections on top of others last."""
    boxes = np.zeros((sum(len(group.shapes) for group in groups), 6))
    placed: list[Placed] = []
    rank = {RIBBON: 0, PILE: 0, UPON: 2}
    waiting = sorted(groups, key=lambda group: (rank.get(group.kind, 1), -len(group.shapes), rng.random()))
    while waiting:
        group = waiting.pop(0)
        found = _find_room(design, group, boxes, len(placed), rng)
        if found is None:
            if len(group.shapes) > 1:  # a ribbon that finds no room has broken in two
                waiting[:0] = _broken(group, len(group.shapes) // 2)
            continue
        members = list(range(len(found)))
        if rng.random() < 0.5:
            members.reverse()
        for k in members:
            boxes[len(placed)] = found[k]
            placed.append(Placed(group.shapes[k], group.first_serial + k, found[k]))
    return placed


def _find_room(design: WaferDesign, group: Group, boxes: Box, n_placed: int, rng: Generator) -> Box | None:
    """Return where the group can lie, or None."""
    width = design.section_width_px
    for _ in range(TRIES):
        if group.kind == PILE:
            local = _heap(group, rng)
        else:
            local = _chain(group, float(np.clip(rng.normal(0.0, 0.07), -0.2, 0.2)), rng)
        y, x, turn = rng.uniform(0, design.height), rng.uniform(0, design.width), rng.uniform(0, 2 * math.pi)
        if group.kind == UPON and n_placed:
            under = boxes[int(rng.integers(n_placed))]
            away = rng.uniform(0.5, 1.0) * (under[4] + under[5])
            y, x = under[0] + away * math.cos(turn), under[1] + away * math.sin(turn)
            turn = rng.uniform(0, 2 * math.pi)
        found = _moved(local, y, x, turn)
        if not _inside(found, design):
            continue
        gap = kernels.nearest_gap(found, boxes, n_placed)
        if group.kind == UPON and n_placed:
            if -0.40 * width < gap < -0.08 * width:
                return found
        elif gap > (-0.012 if rng.random() < 0.12 else 0.03) * width:
            return found
    return None


def _along_strips(design: WaferDesign, groups: list[Group], strips: list[Strip], rng: Generator) -> list[Placed]:
    """Lay the groups one after the other along the strips, so that they fill the strips evenly."""
    width = design.section_width_px
    ends = [_ends(strip, design) for strip in strips]
    room = sum(max(0.0, last - first) for first, last in ends)
    longest = max(last - first for first, last in ends)
    chains = [_heap(group, rng) if group.kind == PILE else _chain(group, 0.0, rng) for group in groups]
    spans = [_span(chain) for chain in chains]
    used = sum(high - low for group, (low, high) in zip(groups, spans, strict=True) if group.kind != UPON)
    # A strip's end is too short for the next group, on average by half a group and half a gap.
    usual = used / max(1, len(groups))
    slack = max(0.04 * width, (room - used - 0.6 * usual * len(strips)) / (len(groups) + len(strips)))
    placed: list[Placed] = []
    strip_at, position = 0, ends[0][0] + rng.uniform(0.0, 0.5) * slack
    phase, swing, wave = _wander(design, rng)
    waiting = list(zip(groups, chains, spans, strict=True))
    while waiting:
        group, chain, (low, high) = waiting.pop(0)
        upon = group.kind == UPON and bool(placed)
        if upon:
            position -= slack + rng.uniform(0.15, 0.40) * width
        if position + high - low > ends[strip_at][1]:
            fitting = int((ends[strip_at][1] - position) / width)
            if len(group.shapes) > 1 and high - low > longest:
                fitting, split = min(max(1, fitting), len(group.shapes) - 1), True  # no strip can hold it whole
            else:
                split = group.kind == RIBBON and 1 < fitting < len(group.shapes)  # the tape was cut through a ribbon
            if split:
                parts = [(part, _chain(part, 0.0, rng)) for part in _broken(group, fitting)]
                waiting[:0] = [(part, boxes, _span(boxes)) for part, boxes in parts]
                continue
            if strip_at + 1 == len(strips):
                break
            strip_at += 1
            position = ends[strip_at][0] + rng.uniform(0.0, 0.5) * slack
            phase, swing, wave = _wander(design, rng)
        strip = strips[strip_at]
        c, s = strip.direction
        loose = 0.25 if upon else (0.09 if rng.random() < 0.2 else 0.025)
        start, tilt = position - low, rng.normal(0.0, loose) * (group.kind != RIBBON)
        found = []
        for one in chain:
            # The chain runs along its own (1, 0); lay it along (-s, c), bent with the ribbon's wander.
            along = start + one[0]
            middle = strip.middle + swing * math.sin(wave * along + phase) - one[1]
            turn = math.atan2(c, -s) - math.atan(swing * wave * math.cos(wave * along + phase))
            moved = _moved(_moved(one[None], 0.0, 0.0, turn), 0.0, 0.0, tilt)[0]
            moved[:2] = c * middle - s * along, s * middle + c * along
            found.append(moved)
        members = range(len(found)) if rng.random() < 0.5 else reversed(range(len(found)))
        placed += [
            Placed(group.shapes[k], group.first_serial + k, found[k])
            for k in members
            if _inside(found[k][None], design)
        ]
        position += high - low + slack * rng.uniform(0.45, 1.55)
    return placed


def _wander(design: WaferDesign, rng: Generator) -> tuple[float, float, float]:
    """Return phase, height and wave number of a ribbon's way along its strip."""
    length = design.section_length_px
    return rng.uniform(0, 2 * math.pi), rng.uniform(0.01, 0.06) * length, 2 * math.pi / (rng.uniform(5, 12) * length)


def _ends(strip: Strip, design: WaferDesign) -> tuple[float, float]:
    """Return the first and last place along a strip, -s y + c x, within the wafer's margin."""
    c, s = strip.direction
    margin = (MARGIN + 0.05) * design.section_length_px
    if abs(s) > abs(c):
        places = sorted(-s * edge + c * strip.middle for edge in (0.0, float(design.height)))
    else:
        places = sorted(c * edge - s * strip.middle for edge in (0.0, float(design.width)))
    return places[0] + margin, places[1] - margin


def _span(chain: Box) -> tuple[float, float]:
    """Return from where to where a chain reaches along its way."""
    reach = box_reach(chain)[:, 0]
    return float((chain[:, 0] - reach).min()), float((chain[:, 0] + reach).max())
