"""Dividing a series of sections, and choosing a few of a part.

    block        test = the last third, one stretch of tissue that nobody has seen
    interleaved  test = every third section; its neighbours on both sides are trained on

Of the rest every fifth is for validation. Of 30 consecutive sections that is 20 to train and validate on and 10 to
test on, the numbers of the paper, which does not say which were which.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from emseg.errors import InputError, UsageError, suggest

BLOCK, INTERLEAVED = "block", "interleaved"
SPLITS = (BLOCK, INTERLEAVED)
TEST_SHARE = 3  # one in three
VALIDATION_SHARE = 5  # one in five of the rest
SMALLEST_SERIES = 8
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Division:
    """The places of the images of each part within their series."""

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]


def divide(n: int, split: str = BLOCK) -> Division:
    """Return how a series of `n` images is divided; raise `InputError` for fewer than eight."""
    require_split(split)
    if n < SMALLEST_SERIES:
        raise InputError(f"a series to divide must have at least {SMALLEST_SERIES} labelled images; got {n}.")
    n_test = round(n / TEST_SHARE)
    places = range(n)
    if split == BLOCK:
        test = tuple(places[n - n_test :])
    else:
        test = tuple(places[TEST_SHARE - 1 :: TEST_SHARE])
    rest = [place for place in places if place not in test]
    validation = tuple(rest[VALIDATION_SHARE - 1 :: VALIDATION_SHARE])
    return Division(tuple(place for place in rest if place not in validation), validation, test)


def require_split(split: str) -> str:
    """Return `split`, or raise `UsageError` that lists those there are."""
    if split not in SPLITS:
        raise UsageError(f"`split` must be one of {', '.join(SPLITS)}; got {split!r}.{suggest(split, SPLITS)}")
    return split


def choose(items: Sequence[_Item], n: int, part: str) -> tuple[_Item, ...]:
    """Return `n` items spread evenly over a part, in its order; all for n = 0."""
    if n > len(items):
        raise UsageError(f"`n_{part}` must not exceed the {len(items)} images there are; got {n}. 0 takes all.")
    if n == 0:
        return tuple(items)
    return tuple(items[(2 * i + 1) * len(items) // (2 * n)] for i in range(n))
