"""Eqs. 4 and 5 of FANet as a textbook writes them: for each channel, one double sum with its part's cosine."""

from collections.abc import Sequence

from reference.dct import Rows, textbook_coefficient


def textbook_description(maps: Sequence[Rows], frequencies: Sequence[tuple[int, int]]) -> list[float]:
    """F of Eq. 5, not normalised, for the channels of one image: the first C / n have frequency 0, and so on."""
    part_size = len(maps) // len(frequencies)
    description = []
    for number, (h, w) in enumerate(frequencies):
        for channel in range(number * part_size, (number + 1) * part_size):
            description.append(textbook_coefficient(maps[channel], h, w))
    return description
