"""Costs: who is compared computes the same thing, every ratio names its baseline, and what was not run says so."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

# Not by the path: modules of benchmarks/ have the names of packages of the tests.
_SPEC = importlib.util.spec_from_file_location(
    "_attention_costs", Path(__file__).parents[1] / "benchmarks" / "_attention_costs.py"
)
sys.modules["_attention_costs"] = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(sys.modules["_attention_costs"])
from _attention_costs import (  # noqa: E402
    BASELINES,
    CLASSIFIER,
    DETECTOR,
    DEVICES,
    MOST_FACTOR,
    SECTIONS,
    Cost,
    CostPlan,
    Setting,
    contenders,
    cost_table,
    forward,
    forward_and_backward,
    measure_costs,
    median_times,
    memory_fraction,
    random_map,
    settings,
    training_step,
)

from emseg.errors import UsageError  # noqa: E402
from emseg.frequency import ATTENTIONS, dct_pool  # noqa: E402
from emseg.frequency.attention import FanetAttention  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
SMALL = CostPlan(image_size=224, batch=1, rounds=1, training_size=224, detector=False, n_threads=1)


@pytest.fixture(scope="module")
def costs() -> list[Cost]:
    """All costs of the smallest plan, measured as on a machine without a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.cuda.is_available", lambda: False)
        return measure_costs(SMALL)


def test_every_cost_that_was_measured_has_a_ratio_to_a_contender_measured_with_it(costs):
    times = {(cost.setting, cost.variant): cost.ms for cost in costs}
    ran = [cost for cost in costs if any(cost.ms)]
    for cost in ran:
        baseline = times[cost.setting, BASELINES[cost.setting.section]]
        assert cost.baseline_ms == baseline
        assert cost.ratio(0) == pytest.approx(cost.ms[0] / baseline[0])
    assert {cost.setting.section for cost in ran} == set(SECTIONS)
    assert {(cost.setting.dtype, cost.setting.layout) for cost in ran if cost.setting.section == "pooling"} == {
        ("float32", "contiguous"),
        ("float32", "channels last"),
        ("bfloat16", "contiguous"),
    }
    assert {cost.variant for cost in ran if cost.setting.section == "training"} == set(ATTENTIONS)


def test_a_gpu_that_is_not_here_and_a_detector_left_out_are_not_run(costs):
    idle = [cost for cost in costs if not any(cost.ms)]
    assert {cost.setting.device for cost in costs} == set(DEVICES)
    assert idle == [cost for cost in costs if cost.setting.device == "cuda"]
    assert all(cost.total_ms() is cost.ratio() is cost.memory is cost.of_copy is None for cost in idle)
    steps = [cost for cost in costs if cost.setting == Setting("training", "cpu", direction="step")]
    assert all(cost.ms[0] and cost.ms[1] is None and cost.ratio(1) is None for cost in steps)
    for section in SECTIONS:
        table = cost_table(costs, section)
        gpu = [[cell.text for cell in line] for line in table.rows if line[0].text.startswith("CUDA")]
        (line,) = gpu  # one for all settings and contenders
        assert line[:2] == ["CUDA", "all"]
        assert set(line[2:]) <= {"not run", ""}
    assert len({cost.setting for cost in idle}) == sum(len(list(settings(section, "cuda"))) for section in SECTIONS)


def test_the_product_with_stored_cosines_holds_a_map_and_dct_pool_does_not(costs):
    held = {cost.variant: cost.memory for cost in costs if cost.setting == Setting("pooling", "cpu")}
    assert held["stored cosines"] == pytest.approx(1, abs=0.05)
    assert held["dct_pool"] < 0.2
    assert held["mean"] < 0.1


@pytest.mark.parametrize("setting", [Setting("pooling", "cpu"), Setting("pooling", "cpu", layout="channels last")])
def test_the_two_ways_to_the_components_that_are_timed_give_the_same(setting):
    x = random_map((2, 32, 20, 24), setting, torch.Generator().manual_seed(0))
    assert x.is_contiguous(memory_format=torch.channels_last) == (setting.layout == "channels last")
    functions = contenders(setting, 1, x)
    torch.testing.assert_close(functions["stored cosines"](x), dct_pool(x), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(functions["mean"](x).flatten(1), x.mean(dim=(2, 3)))


def test_the_attention_that_is_timed_as_fanet_is_fanets():
    functions = contenders(Setting("attention", "cpu"), 3, torch.randn(1, 32, 14, 14))
    assert isinstance(functions["fanet"], FanetAttention)
    assert set(functions) == set(ATTENTIONS[1:])


def test_forward_takes_no_gradient_and_forward_and_backward_gives_that_of_the_map():
    x = torch.randn(1, 2, 3, 3)
    assert not forward(lambda t: t * t, x.clone().requires_grad_())().requires_grad
    (gradient,) = forward_and_backward(lambda t: (t**2).sum(dim=(2, 3)), x)()
    torch.testing.assert_close(gradient, 2 * x)


@pytest.mark.parametrize("place", [CLASSIFIER, DETECTOR])
def test_a_training_step_changes_the_network_with_any_attention_and_leaves_the_random_state(place, monkeypatch):
    """Weights are watched through the optimizer; FANet stands for all, for the steps differ in the backbone alone."""
    seen = []
    step_of = torch.optim.SGD.step

    def watched(self, *arguments):
        weights = [one for group in self.param_groups for one in group["params"]]
        before = [one.detach().clone() for one in weights]
        step_of(self, *arguments)
        seen.append(sum(bool((one != old).any()) for one, old in zip(weights, before, strict=True)) / len(weights))

    monkeypatch.setattr(torch.optim.SGD, "step", watched)
    state = torch.random.get_rng_state()
    step = training_step(place, "fanet", torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.random.get_rng_state(), state)
    step()
    assert seen
    assert seen[0] > 0.9


def test_a_gpu_gets_more_to_do_and_training_steps_fewer_rounds():
    plan = CostPlan(image_size=1024, batch=2, rounds=9, training_size=256)
    gpu = plan.for_device("cuda")
    assert (gpu.image_size, gpu.batch, gpu.rounds, gpu.training_size) == (1024, 8, 45, 1024)
    assert (plan.for_device("cpu").batch, plan.training_rounds) == (2, 3)
    assert [replace(plan, rounds=rounds).training_rounds for rounds in (1, 2, 5, 30)] == [1, 2, 2, 10]


def _pooling(variant: str, ms: tuple[float, ...], **more: float) -> Cost:
    return Cost(Setting("pooling", "cuda"), variant, 45, ((8, 256, 64, 64),) * 4, ms, (8.0, 2.0, 1.0, 1.0), **more)


def test_the_ratio_over_all_stages_is_that_of_the_sums():
    """A large map counts as much as it takes: (12 + 1 + 2 + 1) / (8 + 2 + 1 + 1), not the mean of the ratios."""
    made = [
        _pooling("mean", (8.0, 2.0, 1.0, 1.0)),
        _pooling("dct_pool", (12.0, 1.0, 2.0, 1.0), memory=0.3, of_copy=0.5),
    ]
    assert made[1].ratio() == pytest.approx(16 / 12)
    assert made[1].ratio(0) == pytest.approx(1.5)
    table = cost_table(made, "pooling")
    assert table.header[-3:] == ("all", "memory", "of copy")
    assert [cell.text for cell in table.rows[1]][-3:] == ["1.33 ×", "0.30", "0.50"]


def test_the_benchmark_prints_the_tables(costs, monkeypatch, capsys):
    """Cell for cell, with the verdicts on the targets."""
    path = ROOT / "benchmarks" / "channel_attention.py"
    monkeypatch.syspath_prepend(path.parent)  # as where the script is started: its neighbours can be imported
    spec = importlib.util.spec_from_file_location("benchmark_channel_attention", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    asked = []

    def measured(plan):
        asked.append(plan)
        return [cost for cost in costs if cost.setting.section in plan.sections]

    monkeypatch.setattr(script, "measure_costs", measured)
    script.main(["--only", "pooling", "training", "--rounds", "3", "--no-detector", "--threads", "1"])
    printed = capsys.readouterr().out
    assert "dct_pool / mean, cpu float32, eager, forward, all stages: " in printed
    assert [plan.sections for plan in asked] == [("pooling",), ("training",)]
    assert {(plan.rounds, plan.detector, plan.n_threads) for plan in asked} == {(3, False, 1)}
    for section in ("pooling", "training"):
        table = cost_table(costs, section)
        assert table.caption in printed
        for line in table.rows:
            assert " ".join(cell.text for cell in line).split() in [one.split() for one in printed.splitlines()]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CostPlan(rounds=0), "`rounds` must be at least 1; got 0"),
        (lambda: CostPlan(batch=0), "`batch` must be at least 1; got 0"),
        (lambda: CostPlan(image_size=192), "`image_size` must be at least 224; got 192"),
        (lambda: CostPlan(training_size=64), "`training_size` must be at least 224; got 64"),
        (lambda: CostPlan(n_threads=0), "`n_threads` must be at least 1; got 0"),
        (lambda: CostPlan(sections=("poolings",)), "Did you mean 'pooling'"),
        (lambda: CostPlan(devices=("gpu",)), "must be one of 'cpu', 'cuda'; got 'gpu'"),
        (lambda: cost_table([], "pooling"), "nothing was measured of the section 'pooling'"),
        (lambda: median_times({"a": lambda: None}, 0), "`rounds` must be a whole number of at least 1; got 0"),
    ],
)
def test_plans_that_cannot_be_measured_are_refused_beforehand(make, message):
    with pytest.raises(UsageError, match=message):
        make()


class FakeClock:
    """Time that passes only in calls, each of which takes the next of the times given for it, the last for ever."""

    def __init__(self, **seconds: list[float]) -> None:
        self.now, self.seconds, self.made = 0.0, seconds, []
        self.calls = {name: lambda name=name: self.call(name) for name in seconds}

    def call(self, name: str) -> None:
        self.made.append(name)
        self.now += self.seconds[name].pop(0) if len(self.seconds[name]) > 1 else self.seconds[name][0]

    def __call__(self) -> float:
        return self.now


def test_the_calls_take_turns_after_two_that_do_not_count():
    clock = FakeClock(a=[1.0], b=[1.0])
    assert median_times(clock.calls, 3, clock=clock) == ({"a": pytest.approx(1000), "b": pytest.approx(1000)}, 3)
    assert clock.made == ["a", "a", "a", "b", "b", "b"] * 3


def test_a_time_is_the_median_in_ms_so_that_one_disturbed_round_does_not_count():
    """Every third call counts: 2 s, 9 s and 1 s."""
    clock = FakeClock(a=[0.0, 0.0, 2.0, 0.0, 0.0, 9.0, 0.0, 0.0, 1.0])
    assert median_times(clock.calls, 3, clock=clock)[0] == {"a": pytest.approx(2000)}


def test_short_calls_get_more_rounds_until_they_were_timed_for_long_enough_but_not_without_end():
    def rounds(rounds: int, least_seconds: float) -> int:
        clock = FakeClock(a=[0.25], b=[0.25])
        return median_times(clock.calls, rounds, least_seconds=least_seconds, clock=clock)[1]

    assert [rounds(2, 2.9), rounds(2, 0.1), rounds(1, 1e9)] == [6, 2, MOST_FACTOR]


def test_a_turn_may_hold_several_calls():
    clock = FakeClock(a=[0.5])
    assert median_times(clock.calls, 2, calls_per_turn=10, clock=clock) == ({"a": pytest.approx(500)}, 2)
    assert len(clock.made) == 2 * (2 + 10)


def test_the_calls_run_on_the_cores_asked_for_and_torchs_number_is_as_before_afterwards():
    before = torch.get_num_threads()
    seen = set()
    median_times({"a": lambda: seen.add(torch.get_num_threads())}, 1, n_threads=before + 1)
    assert seen == {before + 1}
    assert torch.get_num_threads() == before


def test_memory_is_what_a_call_holds_at_a_time_besides_its_map():
    """Two products one after the other hold one map, both together two; writing in place holds none."""
    x = torch.ones(1, 8, 64, 64)

    def both_together() -> torch.Tensor:
        first, second = x * 2, x * 3
        return first.sum() + second.sum()

    assert memory_fraction(lambda: (x * 2).sum() + (x * 3).sum(), x) == pytest.approx(1, abs=0.01)
    assert memory_fraction(both_together, x) == pytest.approx(2, abs=0.01)
    assert memory_fraction(lambda: x.mul_(2), x) == pytest.approx(0, abs=0.01)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpus_pooling_is_compared_with_a_copy_of_the_map():
    found = measure_costs(replace(SMALL, sections=("pooling",), devices=("cuda",)))
    assert all(None not in cost.ms for cost in found)
    assert all((cost.of_copy is not None) == (cost.setting.direction == "forward") for cost in found)
