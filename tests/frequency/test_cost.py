"""Costs: who is compared computes the same thing, every ratio names its baseline, and what was not run says so."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from chapters.channel_attention.cost import (
    DEVICES,
    SECTIONS,
    CostPlan,
    CostRow,
    cost_table,
    measure_costs,
    report_costs,
)
from chapters.channel_attention.cost.contenders import contenders, forward_and_backward, random_map
from chapters.channel_attention.cost.measurement import COPY
from chapters.channel_attention.cost.rows import BASELINES, Setting, settings
from chapters.channel_attention.cost.tables import contests
from chapters.channel_attention.cost.training_steps import classifier_step, detector_step
from emseg.errors import UsageError
from emseg.frequency import ATTENTIONS, dct_pool
from emseg.frequency.attention import FanetAttention
from emseg.runs.session import Run

ROOT = Path(__file__).resolve().parents[2]
SMALL = CostPlan(image_size=224, batch=1, rounds=1, training_size=224, detector=False, n_threads=1)


@pytest.fixture(scope="module")
def rows() -> list[CostRow]:
    """All rows of the smallest plan, measured as on a machine without a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.cuda.is_available", lambda: False)
        return measure_costs(SMALL)


def test_every_row_that_was_run_has_a_ratio_to_a_contender_measured_beside_it(rows):
    times = {(row.setting, row.place, row.variant): row.ms for row in rows}
    ran = [row for row in rows if row.ms is not None]
    for row in ran:
        assert row.baseline == BASELINES[row.setting.section]
        assert row.ratio == pytest.approx(row.ms / times[row.setting, row.place, row.baseline])
    assert {row.setting.section for row in ran} == set(SECTIONS)
    assert {(row.setting.dtype, row.setting.layout) for row in ran if row.setting.section == "pooling"} == {
        ("float32", "contiguous"),
        ("float32", "channels last"),
        ("bfloat16", "contiguous"),
    }
    assert {row.variant for row in ran if row.setting.section == "training"} == set(ATTENTIONS)


def test_rows_of_a_gpu_that_is_not_here_and_of_a_detector_left_out_are_not_run(rows):
    idle = [row for row in rows if row.ms is None]
    assert {row.setting.device for row in rows} == set(DEVICES)
    assert idle == [row for row in rows if row.setting.device == "cuda" or row.place == "Mask R-CNN"]
    assert all(row.ratio is row.memory_share is row.of_copy is None for row in idle)
    for section in SECTIONS:
        table = cost_table(rows, section)
        gpu = [[cell.text for cell in line] for line in table.rows if line[0].text.startswith("CUDA")]
        (line,) = gpu  # one for all settings and contenders
        assert line[:2] == ["CUDA", "all"]
        assert set(line[2:]) <= {"not run", ""}
    assert len({row.setting for row in idle if row.setting.device == "cuda"}) == sum(
        len(list(settings(section, "cuda"))) for section in SECTIONS
    )


def test_the_product_with_stored_cosines_holds_a_map_and_dct_pool_does_not(rows):
    held = {
        contest.variant: contest.memory_share
        for contest in contests(rows)
        if contest.setting == Setting("pooling", "cpu")
    }
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
    x = torch.randn(1, 32, 14, 14)
    functions = contenders(Setting("attention", "cpu"), 3, x)
    assert isinstance(functions["fanet"], FanetAttention)
    assert set(functions) == set(ATTENTIONS[1:])


def test_forward_and_backward_gives_the_gradient_of_the_map():
    x = torch.randn(1, 2, 3, 3)
    (gradient,) = forward_and_backward(lambda t: (t**2).sum(dim=(2, 3)), x)()
    torch.testing.assert_close(gradient, 2 * x)


@pytest.mark.parametrize("make", [classifier_step, detector_step])
def test_a_training_step_changes_the_network_with_any_attention_and_leaves_the_random_state(make, monkeypatch):
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
    step = make("fanet", torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0)))
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


def _row(variant: str, place: str, ms: float | None, beside: float | None, **more: float) -> CostRow:
    ratio = None if ms is None or beside is None else ms / beside
    return CostRow(Setting("pooling", "cuda"), place, (8, 256, 64, 64), variant, "mean", 45, ms, ratio, **more)


def test_the_ratio_over_all_stages_is_that_of_the_sums():
    """A large map counts as much as it takes: (12 + 1) / (8 + 2), not the mean of 1.5 and 0.5."""
    made = [
        _row("mean", "stage 1", 8.0, 8.0),
        _row("dct_pool", "stage 1", 12.0, 8.0, memory_share=0.1, of_copy=0.5),
        _row("mean", "stage 2", 2.0, 2.0),
        _row("dct_pool", "stage 2", 1.0, 2.0, memory_share=0.3, of_copy=1.0),
    ]
    pooled = contests(made)[1]
    assert pooled.ratio == pytest.approx(13 / 10)
    assert pooled.memory_share == pytest.approx(0.3)
    assert pooled.of_copy == pytest.approx((0.5 * 12 + 1.0 * 1) / 13)
    run = Run("fanet/channel_attention", seed=0)
    report_costs(run, made)
    found = {name: metric.value for name, metric in run.metrics.items()}
    assert found == {
        "cuda_mean_ms": 10,
        "cuda_mean_stage_1_ms": 8,
        "cuda_mean_stage_2_ms": 2,
        "cuda_pooling_ratio": pytest.approx(1.3),
        "cuda_pooling_stage_1_ratio": pytest.approx(1.5),
        "cuda_pooling_stage_2_ratio": pytest.approx(0.5),
        "cuda_pooling_memory": pytest.approx(0.3),
        "cuda_pooling_of_copy": pytest.approx(7 / 13),
    }
    assert [cell.text for cell in cost_table(made, "pooling").rows[1]][-3:] == ["1.30 ×", "0.30", "0.54"]


def test_the_record_holds_every_ratio_that_a_table_shows(rows):
    """Each contender of each setting and place that was run is a metric; nothing of what was not run is."""
    run = Run("fanet/channel_attention", seed=0)
    report_costs(run, rows)
    ran = [row for row in rows if row.ms is not None]
    n_all = sum(contest.ms is not None and contest.setting.section != "training" for contest in contests(rows))
    n_memory = sum(contest.memory_share is not None for contest in contests(rows))
    assert len(run.metrics) == len(ran) + n_all + n_memory
    assert not any(name.startswith("cuda") or "mask" in name for name in run.metrics)
    assert {"cpu_pooling_ratio", "cpu_stored_ratio", "cpu_fanet_ratio", "cpu_fanet_step_classifier_ratio"} <= set(
        run.metrics
    )


def test_the_benchmark_prints_the_table_that_the_chapter_shows(rows, monkeypatch, capsys):
    """The script measures by the library's function and prints its table, cell for cell."""
    path = ROOT / "benchmarks" / "channel_attention.py"
    monkeypatch.syspath_prepend(path.parent)  # as where the script is started: its neighbours can be imported
    spec = importlib.util.spec_from_file_location("benchmark_channel_attention", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    asked = []

    def measured(plan):
        asked.append(plan)
        return [row for row in rows if row.setting.section in plan.sections]

    monkeypatch.setattr(script, "measure_costs", measured)
    script.main(["--only", "pooling", "training", "--rounds", "3", "--no-detector", "--threads", "1"])
    printed = capsys.readouterr().out
    assert [plan.sections for plan in asked] == [("pooling",), ("training",)]
    assert {(plan.rounds, plan.detector, plan.n_threads) for plan in asked} == {(3, False, 1)}
    for section in ("pooling", "training"):
        table = cost_table(rows, section)
        assert table.caption in printed
        for line in table.rows:
            assert " ".join(cell.text for cell in line).split() in [one.split() for one in printed.splitlines()]
    chapter = (ROOT / "book/fanet/channel_attention.ipynb").read_text(encoding="utf-8")
    for section in SECTIONS:
        assert f'cost_table(costs, \\"{section}\\")' in chapter


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CostPlan(rounds=0), "`rounds` and `batch` must be at least 1; got rounds=0, batch=2"),
        (lambda: CostPlan(batch=0), "got rounds=9, batch=0"),
        (lambda: CostPlan(image_size=192), "`image_size` must be at least 224 pixels.*got 192"),
        (lambda: CostPlan(training_size=64), "`training_size` must be at least 224 pixels.*got 64"),
        (lambda: CostPlan(n_threads=0), "`n_threads` must be at least 1, or None for all cores; got 0"),
        (lambda: CostPlan(sections=("poolings",)), "Did you mean 'pooling'"),
        (lambda: CostPlan(devices=("gpu",)), "`devices` must be among cpu, cuda; got 'gpu'"),
        (lambda: cost_table([], "pooling"), "the rows hold nothing of the section 'pooling'"),
    ],
)
def test_plans_that_cannot_be_measured_are_refused_beforehand(make, message):
    with pytest.raises(UsageError, match=message):
        make()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpus_pooling_is_set_beside_a_copy_of_the_map():
    found = measure_costs(replace(SMALL, sections=("pooling",), devices=("cuda",)))
    assert all(row.ms is not None for row in found)
    assert COPY not in {row.variant for row in found}
    assert all((row.of_copy is not None) == (row.setting.direction == "forward") for row in found)
