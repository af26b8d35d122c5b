"""Which pixels an output can depend on, as sets of pixel numbers carried through a network along one axis.

A set is a whole number: bit n is set where pixel n belongs to it, and the union of two sets is their `|`.
"""

from functools import reduce
from operator import or_

Sets = list[int]


def convolve(x: Sets, size: int, stride: int = 1) -> Sets:
    """Sets of a convolution or pooling of odd `size`, padded by half of it."""
    out = []
    for centre in range(0, len(x), stride):
        taps = range(centre - size // 2, centre + size // 2 + 1)
        out.append(reduce(or_, (x[tap] for tap in taps if 0 <= tap < len(x))))
    return out


def halve(x: Sets) -> Sets:
    """Sets of a pooling of two neighbours."""
    return [x[2 * n] | x[2 * n + 1] for n in range(len(x) // 2)]


def double(x: Sets) -> Sets:
    """Sets of an enlargement to nearest neighbours."""
    return [x[n // 2] for n in range(2 * len(x))]


def transpose_4(x: Sets) -> Sets:
    """Sets of a transposed convolution of size 4, stride 2 and padding 1."""
    out: Sets = [0] * (2 * len(x))
    for source, pixels in enumerate(x):
        for tap in range(4):
            target = 2 * source - 1 + tap
            if 0 <= target < len(out):
                out[target] |= pixels
    return out


def join(x: Sets, y: Sets) -> Sets:
    """Sets of a concatenation or a sum."""
    return [a | b for a, b in zip(x, y, strict=True)]


def reach(outputs: Sets, stride: int) -> tuple[int, int]:
    """How far before and after an output its pixels lie, over the positions of one stride in the middle."""
    middle = len(outputs) // 2
    positions = range(middle, middle + stride)
    first = {p: (outputs[p] & -outputs[p]).bit_length() - 1 for p in positions}
    last = {p: outputs[p].bit_length() - 1 for p in positions}
    return max(p - first[p] for p in positions), max(last[p] - p for p in positions)


def image(width: int) -> Sets:
    """Every pixel depends on itself."""
    return [1 << n for n in range(width)]


def plain_levels(x: Sets, depth: int) -> list[Sets]:
    """The levels of the plain encoder."""
    levels = [convolve(convolve(x, 3), 3)]
    for _ in range(depth):
        levels.append(convolve(convolve(halve(levels[-1]), 3), 3))
    return levels


def resnet_levels(x: Sets, depths: tuple[int, ...], *, bottleneck: bool) -> list[Sets]:
    """The first convolution and the stages of a ResNet; shortcuts lie within the block's own reach."""
    levels = [convolve(x, 7, 2)]
    x = convolve(levels[-1], 3, 2)
    for stage, depth in enumerate(depths):
        for block in range(depth):
            stride = 2 if stage and not block else 1
            x = convolve(x, 3, stride) if bottleneck else convolve(convolve(x, 3, stride), 3)
        levels.append(x)
    return levels


def unet(levels: list[Sets], *, first_is_full_size: bool) -> Sets:
    """The U-Net's decoder and its 3 x 3 head."""
    x = levels[-1]
    for skip in levels[-2::-1]:
        x = convolve(convolve(join(double(x), skip), 3), 3)
    if not first_is_full_size:
        x = convolve(convolve(double(x), 3), 3)
    return convolve(x, 3)


def linknet(levels: list[Sets], *, first_is_full_size: bool) -> Sets:
    """LinkNet's decoder."""
    x = levels[-1]
    for skip in levels[-2::-1]:
        x = join(transpose_4(x), skip)
    return x if first_is_full_size else transpose_4(x)


def bilinear(x: Sets, factor: int) -> Sets:
    """Sets of a bilinear enlargement, pixel centres at halves: the two nearest cells where both have a weight."""
    out = []
    for target in range(factor * len(x)):
        doubled = 2 * target + 1 - factor  # the position among the cells, in halves of an output pixel
        cell, rest = divmod(doubled, 2 * factor)
        cells = [cell, cell + 1] if rest else [cell]
        out.append(reduce(or_, (x[min(max(c, 0), len(x) - 1)] for c in cells)))
    return out


def casenet(levels: list[Sets], strides: tuple[int, ...]) -> Sets:
    """All sides, enlarged and fused."""
    return reduce(join, (bilinear(level, stride) for level, stride in zip(levels, strides, strict=True)))
