"""Measure a plan: the rows of all its sections and devices, the contenders of a place in turns."""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from chapters.channel_attention.cost.contenders import (
    contenders,
    forward,
    forward_and_backward,
    random_map,
    stage_shape,
)
from chapters.channel_attention.cost.rows import BASELINES, CLASSIFIER, DETECTOR, CostPlan, CostRow, Setting, settings
from chapters.channel_attention.cost.timing import (
    LEAST_SECONDS,
    STOPWATCHES,
    WARM_UP,
    Call,
    median_times,
    memory_share,
    on_threads,
)
from chapters.channel_attention.cost.training_steps import classifier_step, detector_step

COPY = "copy"


def measure_costs(plan: CostPlan, *, seed: int = 0) -> list[CostRow]:
    """Return all rows of the plan, section by section, device by device; those that are not run have no times."""
    with on_threads(plan.n_threads):
        return [
            row
            for section in plan.sections
            for device in plan.devices
            for setting in settings(section, device)
            for row in _rows(setting, plan.for_device(device), torch.Generator().manual_seed(seed))
        ]


def _rows(setting: Setting, plan: CostPlan, generator: torch.Generator) -> Iterator[CostRow]:
    training = setting.section == "training"
    here = setting.device == "cpu" or torch.cuda.is_available()
    for number, place in enumerate(setting.places, start=1):
        if training:
            shape: tuple[int, ...] = (plan.batch, 3, plan.training_size, plan.training_size)
            rounds = plan.training_rounds
        else:
            shape, rounds = stage_shape(number, plan.image_size, plan.batch), plan.rounds
        baseline = BASELINES[setting.section]
        row = partial(CostRow, setting, place, shape, baseline=baseline)
        if not here or (place == DETECTOR and not plan.detector):
            yield from (row(variant=variant, rounds=rounds) for variant in setting.contenders)
            continue
        x = random_map(shape, setting, generator)
        calls = _training_calls(setting, place, x) if training else _map_calls(setting, number, x)
        times = median_times(
            calls,
            rounds,
            STOPWATCHES[setting.device],
            warm_up=WARM_UP[setting.device],
            least_seconds=LEAST_SECONDS,
        )
        ms = times.ms
        for variant in setting.contenders:
            share, of_copy = None, None
            if setting.section == "pooling" and setting.direction == "forward":
                share = memory_share(calls[variant], x)
                # A copy reads the map and writes it; a pooling only reads it.
                of_copy = ms[COPY] / 2 / ms[variant] if COPY in ms else None
            yield row(
                variant=variant,
                rounds=times.rounds,
                ms=ms[variant],
                ratio=ms[variant] / ms[baseline],
                memory_share=share,
                of_copy=of_copy,
            )


def _map_calls(setting: Setting, stage: int, x: Tensor) -> dict[str, Call]:
    prepare = forward if setting.direction == "forward" else forward_and_backward
    calls: dict[str, Call] = {name: prepare(function, x) for name, function in contenders(setting, stage, x).items()}
    if setting.device == "cuda" and setting.section == "pooling" and setting.direction == "forward":
        calls[COPY] = x.clone
    return calls


def _training_calls(setting: Setting, place: str, images: Tensor) -> dict[str, Call]:
    make = classifier_step if place == CLASSIFIER else detector_step
    return {attention: make(attention, images) for attention in setting.contenders}
