"""The timer: medians of calls in turns, by a stopwatch that a test can replace; and the memory that a call holds."""

import pytest
import torch

from chapters.channel_attention.cost.timing import MOST_FACTOR, cpu_seconds, median_times, memory_share, on_threads
from emseg.errors import UsageError


class FakeClock:
    """A stopwatch on which every call takes the next of the times that are given for it."""

    def __init__(self, seconds: dict[str, list[float]]) -> None:
        self.seconds, self.made, self.timed = seconds, [], []

    def call(self, name: str):
        return lambda: self.made.append(name) or name

    def stopwatch(self, call) -> float:
        name = call()
        self.timed.append(name)
        return self.seconds[name].pop(0)


def test_the_calls_take_turns_and_warm_up_rounds_are_not_timed():
    """Two warm-up rounds and three that count: a b a b, then a b a b a b."""
    clock = FakeClock({"a": [1.0, 1.0, 1.0], "b": [1.0, 1.0, 1.0]})
    median_times({"a": clock.call("a"), "b": clock.call("b")}, 3, clock.stopwatch, warm_up=2)
    assert clock.made == ["a", "b"] * 5
    assert clock.timed == ["a", "b"] * 3


def test_a_time_is_the_median_in_ms_so_that_one_disturbed_round_does_not_count():
    clock = FakeClock({"a": [0.002, 9.0, 0.001], "b": [0.004, 0.006, 0.005]})
    times = median_times({"a": clock.call("a"), "b": clock.call("b")}, 3, clock.stopwatch, warm_up=0)
    assert times.ms == {"a": pytest.approx(2), "b": pytest.approx(5)}


def test_short_calls_get_more_rounds_until_they_were_timed_for_long_enough_but_not_without_end():
    clock = FakeClock({"a": [0.25] * 100, "b": [0.25] * 100})
    calls = {"a": clock.call("a"), "b": clock.call("b")}
    assert median_times(calls, 2, clock.stopwatch, warm_up=0, least_seconds=2.9).rounds == 6
    assert median_times(calls, 2, clock.stopwatch, warm_up=0, least_seconds=0.1).rounds == 2
    assert median_times(calls, 1, clock.stopwatch, warm_up=0, least_seconds=1e9).rounds == MOST_FACTOR


def test_the_cpus_stopwatch_reads_the_clock_before_and_after_the_call(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("chapters.channel_attention.cost.timing.time.perf_counter", lambda: now[0])
    assert cpu_seconds(lambda: now.__setitem__(0, now[0] + 0.25)) == pytest.approx(0.25)


def test_no_round_is_no_measurement():
    with pytest.raises(UsageError, match="`rounds` must be at least 1, or nothing is measured; got 0"):
        median_times({"a": lambda: None}, 0, cpu_seconds, warm_up=0)


def test_memory_is_what_a_call_holds_at_a_time_beside_its_map():
    """Two products one after the other hold one map, both together two; writing in place holds none."""
    x = torch.ones(1, 8, 64, 64)

    def both_together() -> torch.Tensor:
        first, second = x * 2, x * 3
        return first.sum() + second.sum()

    assert memory_share(lambda: (x * 2).sum() + (x * 3).sum(), x) == pytest.approx(1, abs=0.01)
    assert memory_share(both_together, x) == pytest.approx(2, abs=0.01)
    assert memory_share(lambda: x.mul_(2), x) == pytest.approx(0, abs=0.01)


def test_the_number_of_cores_is_as_before_afterwards_also_behind_an_error():
    before = torch.get_num_threads()
    seen = []
    with pytest.raises(ZeroDivisionError), on_threads(before + 1):
        _ = [seen.append(torch.get_num_threads()), 1 / 0]
    assert seen == [before + 1]
    with on_threads(None):
        assert torch.get_num_threads() == before
    assert torch.get_num_threads() == before
