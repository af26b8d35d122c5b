"""Divisions put every image into one part, and test on what they say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emseg.errors import InputError, UsageError
from emseg.membrane.dataset.folder_set import SPLITS, choose, divide


def test_isbi_is_divided_as_was_fixed_before_anything_was_trained():
    block = divide(30, "block")
    assert block["test"] == tuple(range(20, 30))
    assert block["validation"] == (4, 9, 14, 19)
    assert block["train"] == tuple(place for place in range(20) if place not in (4, 9, 14, 19))
    assert divide(30, "interleaved")["test"] == tuple(range(2, 30, 3))


@given(n=st.integers(8, 300), split=st.sampled_from(SPLITS))
def test_every_image_is_in_one_part(n: int, split: str):
    parts = divide(n, split)
    together = [*parts["train"], *parts["validation"], *parts["test"]]
    assert sorted(together) == list(range(n))
    assert min(len(parts["train"]), len(parts["validation"]), len(parts["test"])) >= 1
    assert abs(len(parts["test"]) - n / 3) <= 1


def test_every_tested_section_of_the_interleaved_split_has_a_neighbour_that_was_not():
    tested = set(divide(30, "interleaved")["test"])
    assert all(place - 1 not in tested and place + 1 not in tested for place in tested)


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))))
def test_a_choice_is_spread_over_the_part_in_its_order(sizes: tuple[int, int]):
    n, wanted = sizes
    chosen = choose(range(n), wanted, "train")
    assert len(chosen) == len(set(chosen)) == (wanted or n)
    assert list(chosen) == sorted(chosen)
    if wanted:
        assert chosen[0] <= n / wanted
        assert n - 1 - chosen[-1] <= n / wanted


def test_wrong_requests_are_named():
    with pytest.raises(UsageError, match="`n_train` must not exceed the 3 images there are; got 4"):
        choose(range(3), 4, "train")
    with pytest.raises(UsageError, match="Did you mean 'interleaved'"):
        divide(30, "interleave")
    with pytest.raises(InputError, match="at least 8 labelled images; got 7"):
        divide(7)
