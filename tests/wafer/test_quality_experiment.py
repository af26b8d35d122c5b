"""The reader's own frequencies are checked before anything is trained."""

import pytest

from chapters.wafer_dataset.quality_experiment import frequency_pairs
from emseg.errors import UsageError


@pytest.mark.parametrize("n", [1, 2, 4, 8, 16])
def test_as_many_frequencies_as_divide_16_are_taken_in_order(n):
    assert frequency_pairs([6] * n, list(range(7))[:n] + [0] * (n - 7)) == tuple(
        (6, w) for w in (list(range(7))[:n] + [0] * (n - 7))
    )


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        ([0, 1], [0], "one row index h and one column index w; got 2 and 1. Give both lists the same length"),
        ([], [], "the number of frequencies must divide 16.*got 0. Give 1, 2, 4, 8 or 16"),
        ([0, 1, 2], [0, 1, 2], "the number of frequencies must divide 16.*got 3"),
        ([0] * 32, [0] * 32, "must divide 16.*got 32"),
        ([0, 7], [0, 1], "must be from 0 to 6; got 7"),
        ([0, 1], [0, -1], "must be from 0 to 6; got -1"),
    ],
)
def test_other_frequencies_are_refused_in_one_sentence(rows, columns, message):
    with pytest.raises(UsageError, match=message):
        frequency_pairs(rows, columns)
