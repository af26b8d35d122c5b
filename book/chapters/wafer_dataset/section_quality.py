"""Small networks that tell good sections from incomplete, folded and damaged ones, equal in all but their attention.

Two networks of one seed begin with the same weights (those of the attention too, where the shapes agree), see the same
crops in the same order, turned the same way, and take the same number of steps. So a difference between their scores
is due to the attention, or to chance, which a second seed shows. Training ends after a number of steps, never after a
time: a score must not depend on how busy the machine is. On a CPU each network is trained on one core, since sums that
are split over cores in another way would end in other bits.

    crops   [crop, size, size]   see `emseg.synthetic.wafer.section_crops`; held-out crops begin at number `FIRST_HELD_OUT`

Deviation from the papers' networks, for two cores and minutes: one block a stage, few channels, and FcaNet's attention
pools each map to 7 x 7, for its own sizes belong to images of 224 pixels.
"""

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from emseg.errors import UsageError, suggest
from emseg.frequency import TOP16
from emseg.frequency.attention import (
    ATTENTIONS,
    EfficientChannelAttention,
    FanetAttention,
    FcaAttention,
    SqueezeExcite,
)
from emseg.frequency.dct import Normalization
from emseg.frequency.resnet import ResNet, ResNetDesign
from emseg.synthetic.wafer.section_crops import SECTION_CLASSES, CropSet, section_crops

POOLED_SIZE = 7  # of FcaNet's attention here
FIRST_HELD_OUT = 2**30
GREY_MEAN, GREY_SPREAD = 98.0, 42.0  # of the crops, roughly
WARM_UP = 0.2  # share of the steps in which the learning rate rises
TEST_BATCH = 250

Frequency = tuple[int, int]


@dataclass(frozen=True)
class NetworkDesign:
    """A residual network by its attention; `frequencies` are those of "fanet" and "fca", Table 1's by default.

    `normalization` is that of "fanet"; FcaNet's is always "ortho".
    """

    attention: str = "none"
    frequencies: tuple[Frequency, ...] = TOP16
    normalization: Normalization = "mean"
    base_channels: int = 16
    depths: tuple[int, ...] = (1, 1)
    reduction: int = 4

    def __post_init__(self) -> None:
        if self.attention not in ATTENTIONS:
            raise UsageError(
                f"`attention` must be one of {', '.join(ATTENTIONS)}; got {self.attention!r}."
                + suggest(self.attention, ATTENTIONS)
            )


@dataclass(frozen=True)
class Training:
    """How long and on what a network learns."""

    n_steps: int = 200
    batch: int = 32
    learning_rate: float = 0.01
    weight_decay: float = 0.01
    n_train: int = 4096
    n_held_out: int = 1000
    crop_size: int = 56
    data_seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.batch <= self.n_train:
            raise UsageError(f"`batch` must be from 1 to n_train; got {self.batch} with n_train={self.n_train}.")
        if self.n_steps < 2:
            raise UsageError(f"`n_steps` must be at least 2; got {self.n_steps}.")
        if self.n_train >= FIRST_HELD_OUT:
            raise UsageError(f"`n_train` must be below {FIRST_HELD_OUT}, where held-out crops begin.")


@dataclass(frozen=True)
class Score:
    """How a network does on held-out crops: shares of 1, the mean cross-entropy in nats, and its training time."""

    accuracy: float
    loss: float
    recall: tuple[float, ...]
    seconds: float


def training_crops(training: Training) -> CropSet:
    """Return the crops that every network learns from."""
    return section_crops(training.n_train, size=training.crop_size, seed=training.data_seed)


def held_out_crops(training: Training) -> CropSet:
    """Return the crops that every network is scored on; none of them is a training crop."""
    size, seed = training.crop_size, training.data_seed
    return section_crops(training.n_held_out, size=size, seed=seed, first=FIRST_HELD_OUT)


def single_frequency(pair: Frequency, design: NetworkDesign) -> NetworkDesign:
    """Return `design` with one frequency for all channels; (0, 0), the mean, is the squeeze-and-excitation."""
    return (
        replace(design, attention="se") if pair == (0, 0) else replace(design, attention="fanet", frequencies=(pair,))
    )


def attention_layer(design: NetworkDesign, channels: int) -> nn.Module:
    """Return the attention of `design` for maps of `channels` channels."""
    match design.attention:
        case "se":
            return SqueezeExcite(channels, reduction=design.reduction)
        case "eca":
            return EfficientChannelAttention(channels)
        case "fca":
            return FcaAttention(channels, POOLED_SIZE, reduction=design.reduction, frequencies=design.frequencies)
        case "fanet":
            return FanetAttention(
                channels,
                reduction=design.reduction,
                frequencies=design.frequencies,
                normalization=design.normalization,
            )
        case _:
            return nn.Identity()


def build_network(design: NetworkDesign, seed: int) -> ResNet:
    """Return the untrained network; its weights depend on the seed, and on the attention only where shapes must."""
    shape = ResNetDesign(
        depths=design.depths, base_channels=design.base_channels, in_channels=1, n_classes=len(SECTION_CLASSES)
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):  # layers draw from the global state before the generator sets them
        return ResNet(shape, lambda channels, stage: attention_layer(design, channels), generator=generator)


def n_parameters(network: nn.Module) -> int:
    """Return how many numbers the network learns."""
    return sum(parameter.numel() for parameter in network.parameters())


def n_attention_parameters(network: nn.Module) -> int:
    """Return how many of them belong to the attention."""
    named = network.named_parameters()
    return sum(parameter.numel() for name, parameter in named if ".attention." in name)


def as_input(images: Tensor) -> Float[Tensor, "crop 1 size size"]:
    """Return 8-bit crops as a network reads them."""
    scaled = (images[:, None].to(torch.float32) - GREY_MEAN) / GREY_SPREAD
    return scaled.contiguous(memory_format=torch.channels_last)


def train_network(
    design: NetworkDesign, training: Training, crops: CropSet, *, seed: int, device: str = "cpu"
) -> ResNet:
    """Return the network of `seed`, trained with AdamW under a warm-up and a cosine, in eval mode."""
    network = build_network(design, seed).to(device).to(memory_format=torch.channels_last).train()
    images = torch.from_numpy(crops.images).to(device)
    labels = torch.from_numpy(crops.labels).to(device)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay, fused=True
    )
    draws = torch.Generator().manual_seed(seed)
    with one_core(device):
        for step, chosen in enumerate(_batches(len(images), training, draws)):
            for group in optimizer.param_groups:
                group["lr"] = training.learning_rate * _rate(step, training.n_steps)
            turned = _turned(images[chosen.to(device)], int(torch.randint(8, (), generator=draws)))
            loss = functional.cross_entropy(network(as_input(turned)), labels[chosen.to(device)])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    network.eval()
    return network


def score_network(network: ResNet, crops: CropSet, *, device: str = "cpu", seconds: float = 0.0) -> Score:
    """Return the scores of a trained network on `crops`."""
    labels = torch.from_numpy(crops.labels)
    with torch.no_grad(), one_core(device):
        parts = torch.split(torch.from_numpy(crops.images), TEST_BATCH)
        logits = torch.cat([network(as_input(part.to(device))).float().cpu() for part in parts])
    right = (logits.argmax(dim=1) == labels).to(torch.float64)
    present = [right[labels == label] for label in range(len(SECTION_CLASSES))]
    return Score(
        accuracy=float(right.mean()),
        loss=float(functional.cross_entropy(logits, labels)),
        recall=tuple(float(one.mean()) if len(one) else math.nan for one in present),
        seconds=seconds,
    )


def train_and_score(
    design: NetworkDesign, training: Training, train: CropSet, held_out: CropSet, *, seed: int, device: str = "cpu"
) -> Score:
    """Return the held-out scores of the network of `seed`."""
    started = time.perf_counter()
    network = train_network(design, training, train, seed=seed, device=device)
    return score_network(network, held_out, device=device, seconds=time.perf_counter() - started)


@contextlib.contextmanager
def one_core(device: str) -> Iterator[None]:
    """Let torch use one core within, for the sake of equal bits; on an accelerator nothing changes."""
    before = torch.get_num_threads()
    try:
        if device == "cpu":
            torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(before)


def _batches(n: int, training: Training, draws: torch.Generator) -> Iterator[Tensor]:
    """Yield the crops of each step: all in random order, then all again."""
    order = torch.randperm(n, generator=draws)
    place = 0
    for _ in range(training.n_steps):
        if place + training.batch > n:
            order, place = torch.randperm(n, generator=draws), 0
        yield order[place : place + training.batch]
        place += training.batch


def _rate(step: int, n_steps: int) -> float:
    """Return the share of the learning rate at a step: up in a line, down as half a cosine."""
    warm = max(1, round(WARM_UP * n_steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, n_steps - warm)))


def _turned(images: Tensor, which: int) -> Tensor:
    """Return the crops turned by a multiple of 90 degrees, and mirrored where `which` is 4 or more."""
    turned = torch.rot90(images, which % 4, (1, 2))
    return turned.flip(2) if which >= 4 else turned
