"""Small networks that distinguish good from incomplete, folded and damaged sections, equal in all but their attention.

Two networks of one seed start from the same weights (those of the attention too, where the shapes agree), see the same
crops in the same order, rotated the same way, and take the same number of steps. A difference between their scores is
due to the attention, or to chance, which a second seed shows. Training ends after a number of steps, never after a
time: a score must not depend on how busy the machine is. On a CPU each network is trained on one core, since sums that
are split over cores in another way end in other bits.

Two experiments share their runs, since the single frequency (0, 0) is SE: a network for each (h, w) of a grid and seed,
and one for each attention and seed. Each score is written, as soon as it is known, to a file named after all that it
depends on: the run (design, seed, plan, device), the code that trains, and torch's version. An interrupted experiment
resumes, a larger one reuses the scores of a smaller one, and a change of the code makes all scores old.

Deviation from the papers' networks, for two cores and minutes: one block a stage, few channels, and FcaNet's attention
pools each map to 7 x 7, because its own sizes belong to images of 224 pixels.
"""

import contextlib
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property, partial
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float, Float64
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from emseg.checks import Count, changed, plain, require_count, validated
from emseg.errors import UsageError
from emseg.files import digest_of, find_root, write_json
from emseg.frequency.attention import FanetAttention, FcaAttention, build_attention
from emseg.frequency.dct import PARTS, TOP16, Normalization
from emseg.frequency.resnet import ResNet, ResNetDesign
from emseg.runs.digest import library_digest
from emseg.synthetic.wafer.section_crops import SECTION_CLASSES, CropSet, section_crops

Frequency = tuple[int, int]
Crops = tuple[CropSet, CropSet]  # to learn from, and held out
Accuracy = Float64[np.ndarray, "frequency seed"]

POOLED_SIZE = 7  # of FcaNet's attention here
FIRST_HELD_OUT = 2**30  # number of the first held-out crop; training crops count from 0
GREY_MEAN, GREY_SPREAD = 98.0, 42.0  # of the crops, roughly
WARM_UP = 0.2  # fraction of the steps in which the learning rate rises
TEST_BATCH = 250
OWN_FREQUENCIES = ((0, 0), (0, 1), (1, 0), (1, 1))

LABELS = {
    "none": "none (ResNet)",
    "se": "SE: the mean",
    "eca": "ECA: the mean, k weights",
    "fca": "FcaNet: 16, pooled first",
    "fanet": "FANet: 16, full map",
    "fanet_ortho": "FANet, orthonormal",
    "own": "your own choice",
}


@validated
class QualityDesign:
    """A residual network by its attention; `frequencies` are those of "fanet" and "fca", Table 1's by default.

    `normalization` is that of "fanet"; FcaNet's is always "ortho".
    """

    attention: Literal["none", "se", "eca", "fca", "fanet"] = "none"
    frequencies: tuple[Frequency, ...] = TOP16
    normalization: Normalization = "mean"
    base_channels: Count = 16
    depths: tuple[int, ...] = (1, 1)
    reduction: Count = 4


@validated
class QualityPlan:
    """How long and on which crops a network is trained."""

    n_steps: Annotated[int, Field(ge=2)] = 200
    batch: Count = 32
    learning_rate: float = 0.01
    weight_decay: float = 0.01
    n_train: Annotated[int, Field(ge=1, lt=FIRST_HELD_OUT)] = 4096
    n_held_out: Count = 1000
    crop_size: Count = 56
    data_seed: int = 0

    def __post_init__(self) -> None:
        if self.batch > self.n_train:
            raise UsageError(f"`batch` must be at most n_train; got {self.batch} with n_train={self.n_train}.")

    def crops(self) -> Crops:
        """Return the crops that every network learns from, and those that it is scored on; they have none in common."""
        train = section_crops(self.n_train, size=self.crop_size, seed=self.data_seed)
        held_out = section_crops(self.n_held_out, size=self.crop_size, seed=self.data_seed, first=FIRST_HELD_OUT)
        return train, held_out


@dataclass(frozen=True)
class QualityRun:
    """The training of one network."""

    design: QualityDesign
    seed: int
    plan: QualityPlan
    device: str = "cpu"


@dataclass(frozen=True)
class Score:
    """Accuracy (0 to 1) and mean cross-entropy (nats) on the held-out crops, and the time of the training."""

    accuracy: float
    loss: float
    seconds: float


def attention_layer(design: QualityDesign, channels: int) -> nn.Module:
    """Return the attention of `design` for maps of `channels` channels."""
    own = {"reduction": design.reduction, "frequencies": design.frequencies}
    if design.attention == "fca":
        return FcaAttention(channels, POOLED_SIZE, **own)  # type: ignore[arg-type]
    if design.attention == "fanet":
        return FanetAttention(channels, normalization=design.normalization, **own)  # type: ignore[arg-type]
    return build_attention(design.attention, channels, reduction=design.reduction)


def build_network(design: QualityDesign, seed: int) -> ResNet:
    """Return the untrained network; its weights depend on the seed, and on the attention only where shapes must."""
    shape = ResNetDesign(
        depths=design.depths, base_channels=design.base_channels, in_channels=1, n_classes=len(SECTION_CLASSES)
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):  # layers draw from the global state before the generator sets them
        return ResNet(shape, lambda channels, stage: attention_layer(design, channels), generator=generator)


def parameter_counts(network: nn.Module) -> tuple[int, int]:
    """Return how many parameters the network has, and how many of them belong to the attention."""
    counts = {name: parameter.numel() for name, parameter in network.named_parameters()}
    return sum(counts.values()), sum(n for name, n in counts.items() if ".attention." in name)


def as_input(images: Tensor) -> Float[Tensor, "crop 1 size size"]:
    """Return 8-bit crops as a network reads them."""
    scaled = (images[:, None].to(torch.float32) - GREY_MEAN) / GREY_SPREAD
    return scaled.contiguous(memory_format=torch.channels_last)


def train_network(run: QualityRun, crops: CropSet) -> ResNet:
    """Return the network of a run, trained with AdamW under a warm-up and a cosine, in eval mode."""
    plan, device = run.plan, run.device
    network = build_network(run.design, run.seed).to(device).to(memory_format=torch.channels_last).train()
    images, labels = torch.from_numpy(crops.images).to(device), torch.from_numpy(crops.labels).to(device)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay, fused=True
    )
    draws = torch.Generator().manual_seed(run.seed)
    with _one_core(device):
        for step, chosen in enumerate(_batches(len(images), plan, draws)):
            for group in optimizer.param_groups:
                group["lr"] = plan.learning_rate * _rate(step, plan.n_steps)
            which = int(torch.randint(8, (), generator=draws))  # of the square's eight rotations and reflections
            shown = torch.rot90(images[chosen.to(device)], which % 4, (1, 2))
            shown = shown.flip(2) if which >= 4 else shown
            loss = functional.cross_entropy(network(as_input(shown)), labels[chosen.to(device)])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return network.eval()


def score_network(network: ResNet, crops: CropSet, *, device: str = "cpu", seconds: float = 0.0) -> Score:
    """Return the score of a trained network on `crops`."""
    labels = torch.from_numpy(crops.labels)
    with torch.no_grad(), _one_core(device):
        parts = torch.split(torch.from_numpy(crops.images), TEST_BATCH)
        logits = torch.cat([network(as_input(part.to(device))).float().cpu() for part in parts])
    right = (logits.argmax(dim=1) == labels).to(torch.float64)
    return Score(float(right.mean()), float(functional.cross_entropy(logits, labels)), seconds)


def score_runs(
    runs: Sequence[QualityRun], folder: Path | None, *, n_workers: int, crops: Crops | None = None
) -> tuple[dict[QualityRun, Score], int]:
    """Return the scores of all `runs`, and how many of them `folder` already held.

    The others are trained, `n_workers` at a time. All runs must share one plan, since they share the `crops`; without a
    folder no score is kept.
    """
    wanted = list(dict.fromkeys(runs))
    plans = {run.plan for run in wanted}
    if len(plans) != 1:
        raise UsageError(f"the runs must share one plan; got {len(plans)}. Score the runs of each plan by themselves.")
    require_count("n_workers", n_workers)
    scores = {run: score for run in wanted if (score := _kept(run, folder)) is not None}
    waiting, n_kept = [run for run in wanted if run not in scores], len(scores)
    if waiting:
        crops = crops or plans.pop().crops()
        if n_workers == 1:
            scores |= {run: _train_and_score(run, crops, folder) for run in waiting}
        else:  # a forked process must not touch CUDA
            with ProcessPoolExecutor(min(n_workers, len(waiting)), get_context("spawn")) as pool:
                train = partial(_train_and_score, crops=crops, folder=folder)
                scores |= zip(waiting, pool.map(train, waiting), strict=True)
    return {run: scores[run] for run in wanted}, n_kept


@dataclass(frozen=True)
class Experiment:
    """What is trained; `own_frequencies` is the reader's choice, on the full map as in FANet."""

    plan: QualityPlan
    design: QualityDesign
    frequencies: tuple[Frequency, ...]
    n_seeds: int
    n_comparison_seeds: int
    own_frequencies: tuple[Frequency, ...] = OWN_FREQUENCIES
    first_seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        if (0, 0) not in self.frequencies:
            raise UsageError("the frequencies must contain (0, 0), the mean, with which all others are compared.")
        if min(self.n_seeds, self.n_comparison_seeds) < 2:
            raise UsageError(
                "at least 2 seeds are needed, or chance cannot be distinguished from an effect; "
                f"got {self.n_seeds} and {self.n_comparison_seeds}."
            )

    @cached_property
    def designs(self) -> dict[str, QualityDesign]:
        """The networks that are compared, by the keys of `LABELS`."""
        designs = {name: changed(self.design, attention=name) for name in ("none", "se", "eca", "fca", "fanet")}
        designs["fanet_ortho"] = replace(designs["fanet"], normalization="ortho")
        designs["own"] = replace(designs["fanet"], frequencies=self.own_frequencies)
        return designs

    def single_runs(self) -> list[list[QualityRun]]:
        """Return the runs of each frequency, by seed; (0, 0), the mean, is squeeze-and-excitation."""
        designs = [replace(self.designs["fanet"], frequencies=(pair,)) for pair in self.frequencies]
        designs[self.frequencies.index((0, 0))] = self.designs["se"]
        return [self._runs(design, self.n_seeds) for design in designs]

    def comparison_runs(self) -> dict[str, list[QualityRun]]:
        """Return the runs of each attention, by seed."""
        return {name: self._runs(design, self.n_comparison_seeds) for name, design in self.designs.items()}

    def parameter_counts(self) -> dict[str, tuple[int, int]]:
        """Return for each attention how many parameters the network has, and how many of them are the attention's."""
        networks = {name: build_network(design, self.first_seed) for name, design in self.designs.items()}
        return {name: parameter_counts(network) for name, network in networks.items()}

    def _runs(self, design: QualityDesign, n: int) -> list[QualityRun]:
        # Frequencies that an attention does not use must not make two runs of one network.
        used = design if design.attention in ("fca", "fanet") else replace(design, frequencies=())
        return [QualityRun(used, self.first_seed + number, self.plan, self.device) for number in range(n)]


@dataclass(frozen=True)
class Accuracies:
    """Held-out accuracies; of the `n_networks`, `n_kept` were trained earlier; median time of a training."""

    single: Accuracy
    compared: dict[str, list[float]]  # by attention and seed
    n_networks: int
    n_kept: int
    seconds_each: float


def run_experiment(
    experiment: Experiment, folder: Path | None, *, n_workers: int, crops: Crops | None = None
) -> Accuracies:
    """Train, or take from `folder`, all networks of both experiments, and return their accuracies."""
    single, compared = experiment.single_runs(), experiment.comparison_runs()
    runs = [run for group in (*compared.values(), *single) for run in group]
    scores, n_kept = score_runs(runs, folder, n_workers=n_workers, crops=crops)
    return Accuracies(
        single=np.array([[scores[run].accuracy for run in group] for group in single]),
        compared={name: [scores[run].accuracy for run in group] for name, group in compared.items()},
        n_networks=len(scores),
        n_kept=n_kept,
        seconds_each=float(np.median([score.seconds for score in scores.values()])),
    )


def frequency_pairs(rows: Sequence[int], columns: Sequence[int]) -> tuple[Frequency, ...]:
    """Return the pairs (h, w) from a list of h and a list of w of the same length, one for each channel group.

    Their number must divide 16, so that it divides the channels of every stage; each index is one of Table 1's, 0 to 6.
    """
    if len(rows) != len(columns):
        counts = f"{len(rows)} and {len(columns)}. Give both lists the same length"
        raise UsageError(f"each frequency needs one row index h and one column index w; got {counts}.")
    if not rows or len(TOP16) % len(rows):
        raise UsageError(
            f"the number of frequencies must divide {len(TOP16)}, or the channels cannot be divided evenly; "
            f"got {len(rows)}. Give 1, 2, 4, 8 or 16."
        )
    for name, indices in (("own_rows", rows), ("own_columns", columns)):
        for index in indices:
            require_count(name, index, 0, PARTS - 1)
    return tuple(zip(rows, columns, strict=True))


def scores_folder(name: str) -> Path | None:
    """Return the folder that keeps scores, relative to the project's root; None for "none"."""
    return None if name == "none" else find_root() / name


def available_workers(asked: int) -> int:
    """Return `asked`, or as many as there are cores where that is fewer."""
    return max(1, min(asked, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1))


def _train_and_score(run: QualityRun, crops: Crops, folder: Path | None) -> Score:
    started = time.perf_counter()
    network = train_network(run, crops[0])
    score = score_network(network, crops[1], device=run.device, seconds=time.perf_counter() - started)
    if folder is not None:
        entry = {"run": plain(run), "score": asdict(score), "torch": torch.__version__, "code": _code_digest()}
        write_json(_file(run, folder), entry)
    return score


def _kept(run: QualityRun, folder: Path | None) -> Score | None:
    """Return the score that was kept; a file that cannot be read counts as none, and is written again."""
    try:
        return None if folder is None else Score(**json.loads(_file(run, folder).read_text(encoding="utf-8"))["score"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _file(run: QualityRun, folder: Path) -> Path:
    key = digest_of(json.dumps(plain(run), sort_keys=True), torch.__version__, _code_digest())
    return folder / f"section-quality-{key}.json"


@cache
def _code_digest() -> str:
    """Return the digest of all code that a score depends on."""
    cell = SimpleNamespace(cell_type="code", source=f"import {__name__}")
    return library_digest(SimpleNamespace(cells=[cell]), "fanet/channel_attention")


@contextlib.contextmanager
def _one_core(device: str) -> Iterator[None]:
    """Restrict torch to one core, for the sake of equal bits; on an accelerator nothing changes."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if device == "cpu" else before)
        yield
    finally:
        torch.set_num_threads(before)


def _batches(n: int, plan: QualityPlan, draws: torch.Generator) -> Iterator[Tensor]:
    """Yield the crops of each step: all in random order, then all again."""
    for step in range(plan.n_steps):
        place = step % (n // plan.batch) * plan.batch
        if place == 0:
            order = torch.randperm(n, generator=draws)
        yield order[place : place + plan.batch]


def _rate(step: int, n_steps: int) -> float:
    """Return the fraction of the learning rate at a step: up in a line, down as half a cosine."""
    warm = max(1, round(WARM_UP * n_steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, n_steps - warm)))
