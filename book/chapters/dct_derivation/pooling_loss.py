"""How much of each of the 16 coefficients pooling costs, stage by stage of a backbone.

A ResNet reads an image at four stages. FANet projects each full map on its cosine; FcaNet first pools the map to 56,
28, 14 or 7 pixels a side. Two questions, which must not be mixed:

    "raw"     pool, then take Table 1's index as it stands: what would pooling cost FANet's own frequencies?
    "scaled"  pool, then take the index times size // 7, as FcaNet does: how well does it measure what it asks for?

Each compares pooled coefficient k with coefficient k of the full map: the same number of half periods. What is lost is
1 - r_squared, the share of the pooled coefficient's variance that says nothing about the full one, after the best
scale, which a learned layer finds. A third comparison, `same_entry`, sets FcaNet's coefficient of an entry of Table 1
beside FANet's of the same entry.

    loss   [alpha, stage, frequency]   expected loss for maps whose amplitude falls as 1 / frequency^alpha
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from chapters.dct_derivation.feature_maps import (
    power_law_spectrum,
    random_maps,
    rectified_maps,
    stage_sizes,
)
from emseg.errors import InputError
from emseg.frequency.aliasing import Agreement, expected_agreement, measured_agreement
from emseg.frequency.attention import FCANET_SIZES
from emseg.frequency.dct import TOP16, Indexing, dct_coefficients, resolve_frequencies

BATCH = 64


@dataclass(frozen=True)
class Stage:
    """One stage of a backbone: the size of its maps, and the side that FcaNet pools them to."""

    height: int
    width: int
    pooled: int

    @property
    def name(self) -> str:
        """The sizes in words, such as "256 × 256 to 56"."""
        return f"{self.height} × {self.width} to {self.pooled}"


@runtime_checkable
class Reports(Protocol):
    """What a run offers: `emseg.runs.session.Run`."""

    def metric(self, name: str, value: float, *, n: int, label: str) -> None:
        """Note one number."""


def backbone_stages(image_height: int, image_width: int) -> tuple[Stage, ...]:
    """Return the four stages of a ResNet on an image of this size."""
    heights, widths = stage_sizes(image_height), stage_sizes(image_width)
    return tuple(Stage(h, w, pooled) for h, w, pooled in zip(heights, widths, FCANET_SIZES, strict=True))


def full_and_pooled(
    maps: Float[Tensor, "map height width"], pooled_size: int, indexing: Indexing
) -> tuple[Float[Tensor, "map frequency"], Float[Tensor, "map frequency"]]:
    """Return the 16 coefficients of the full maps and, at the same frequencies, of the pooled maps, under "mean"."""
    index = resolve_frequencies(TOP16, pooled_size, pooled_size, indexing)
    full, pooled = [], []
    for batch in torch.split(maps, BATCH):
        full.append(dct_coefficients(batch, index))
        pooled.append(dct_coefficients(functional.adaptive_avg_pool2d(batch, pooled_size), index))
    return torch.cat(full), torch.cat(pooled)


def measured_pooling(maps: Float[Tensor, "map height width"], pooled_size: int, indexing: Indexing) -> Agreement:
    """Return how well pooled coefficients stand for full ones on these maps."""
    return measured_agreement(*full_and_pooled(maps, pooled_size, indexing))


def expected_pooling(stage: Stage, alpha: float, indexing: Indexing) -> Agreement:
    """Return the same for all Gaussian maps of this stage with amplitude 1 / frequency^alpha."""
    index = resolve_frequencies(TOP16, stage.pooled, stage.pooled, indexing)
    return expected_agreement(power_law_spectrum(stage.height, stage.width, alpha), (stage.pooled,) * 2, index)


def same_entry(stage: Stage, alpha: float) -> Agreement:
    """Return how well FcaNet's coefficient of each entry of Table 1 stands for FANet's of the same entry."""
    index = resolve_frequencies(TOP16, stage.pooled, stage.pooled, "scaled")
    spectrum = power_law_spectrum(stage.height, stage.width, alpha)
    return expected_agreement(spectrum, (stage.pooled,) * 2, index, TOP16)


def n_same_entries(stages: Sequence[Stage], alpha: float) -> list[int]:
    """Return, for each stage, how many entries of Table 1 share more than half of their variance between the two."""
    return [int((same_entry(stage, alpha).r_squared > 0.5).sum()) for stage in stages]


def expected_loss(
    stages: Sequence[Stage], alphas: Sequence[float], indexing: Indexing
) -> Float[Tensor, "alpha stage frequency"]:
    """Return 1 - r_squared of `expected_pooling` for every exponent, stage and entry of Table 1."""
    rows = [[1 - expected_pooling(stage, alpha, indexing).r_squared for stage in stages] for alpha in alphas]
    return torch.stack([torch.stack(row) for row in rows])


def measured_loss(
    maps_by_stage: Sequence[Float[Tensor, "_ _ _"]], indexing: Indexing
) -> Float[Tensor, "stage frequency"]:
    """Return 1 - r_squared measured on the maps of the four stages."""
    if len(maps_by_stage) != len(FCANET_SIZES):
        raise InputError(f"one set of maps for each of {len(FCANET_SIZES)} stages is needed; got {len(maps_by_stage)}.")
    pairs = zip(maps_by_stage, FCANET_SIZES, strict=True)
    return torch.stack([1 - measured_pooling(maps, pooled, indexing).r_squared for maps, pooled in pairs])


def rectified_loss(
    stages: Sequence[Stage], alpha: float, n_maps: int, generator: torch.Generator, indexing: Indexing
) -> Float[Tensor, "stage frequency"]:
    """Return 1 - r_squared measured on sparse maps: Gaussian ones behind a ReLU that lets one pixel in four through."""
    maps = [
        rectified_maps(random_maps(power_law_spectrum(stage.height, stage.width, alpha), n_maps, generator))
        for stage in stages
    ]
    return measured_loss(maps, indexing)


def monte_carlo_deviations(
    stages: Sequence[Stage], alphas: Sequence[float], n_maps: int, generator: torch.Generator
) -> Float[Tensor, " check"]:
    """Return how far measured correlations lie from the expected ones, in standard errors, for every stage, alpha and
    entry.

    Fisher's z: (artanh r - artanh rho) sqrt(n - 3) is standard normal for Gaussian maps, whatever rho.
    """
    found = []
    for stage in stages:
        for alpha in alphas:
            maps = random_maps(power_law_spectrum(stage.height, stage.width, alpha), n_maps, generator)
            measured = measured_pooling(maps, stage.pooled, "scaled").r_squared
            expected = expected_pooling(stage, alpha, "scaled").r_squared
            below_one = 1 - 1e-12
            difference = measured.clamp(max=below_one).sqrt().atanh() - expected.clamp(max=below_one).sqrt().atanh()
            found.append(difference * math.sqrt(n_maps - 3))
    return torch.cat(found)


def report_by_stage(run: Reports, name: str, values: Float[Tensor, "stage frequency"], *, n: int, label: str) -> None:
    """Note the mean over the frequencies at each stage as `<name>_stage_1`, ..., and the mean over all as `<name>`."""
    for number, value in enumerate(values.mean(dim=-1).tolist(), start=1):
        run.metric(f"{name}_stage_{number}", value, n=n, label=f"{label}, stage {number}")
    run.metric(name, float(values.mean()), n=n, label=f"{label}, all stages")
