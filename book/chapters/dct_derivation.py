"""The chapter "The discrete cosine transform in FANet": maps to measure on, and what pooling first costs.

**Maps.** A random field is made in the cosine domain, where its coefficients are independent, so that what pooling
costs has an exact expectation; its rectified form (a ReLU behind a threshold) is sparse and not Gaussian; and the maps
of an untrained ResNet-34 have the shapes and the smoothness that strides and filters give, not what training gives.

    x = idct2(sqrt(S) * noise),     S_hw = 1 / max(rho, rho_1)^(2 alpha),    rho = sqrt((h / H)^2 + (w / W)^2)

    alpha = 0   white: every frequency alike, the hardest case for pooling
    alpha = 1   amplitude falls as 1 / frequency, as in photographs (Field 1987)
    alpha = 2   smooth: nearly all energy in the lowest frequencies

    S, x   [height, width], [map, height, width];  rho_1 = 1 / max(H, W), so S_00 is finite

**The loss.** FANet projects each full map on its cosines; FcaNet first pools the map to 56, 28, 14 or 7 pixels a side.
With "raw" indices the question is what pooling would cost FANet's own frequencies, with "scaled" ones (times size //
7) how well FcaNet measures what it asks for. The loss is 1 - r_squared, the fraction of the pooled coefficient's
variance that is unrelated to the full one, after the best scale, which a learned layer finds. Pooled coefficient k
stands for coefficient q of the full map. With G the leakage spectrum (`emseg.frequency.aliasing`), S the spectrum of
the maps and P_k = sum_k' G_kk'^2 S_k' the variance of the pooled coefficient,

    r_squared = G_kq^2 S_q / P_k,    gain = G_kq,    relative_error = (P_k - 2 G_kq S_q + S_q) / S_q.

Source for alpha = 1: D. J. Field, "Relations between the statistics of natural images and the response properties of
cortical cells", J. Opt. Soc. Am. A 4 (1987) 2379-2394.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor, nn
from torch.nn import functional

from emseg.checks import require_count, require_number
from emseg.errors import InputError
from emseg.figures import COLOURS, PAGE_WIDTH_IN
from emseg.frequency.aliasing import leakage_spectrum, staircase_basis
from emseg.frequency.attention import FCANET_SIZES
from emseg.frequency.dct import PARTS, TOP16, Indexing, dct_basis, dct_coefficients, idct2, resolve_frequencies
from emseg.runs.session import Run

STAGE_STRIDES = (4, 8, 16, 32)  # of the four stages of a ResNet, which set the sizes of its maps
BATCH = 64  # maps transformed at a time


class Stage(NamedTuple):
    """One stage of a backbone: the size of its maps, and the side that FcaNet pools them to."""

    height: int
    width: int
    pooled: int

    @property
    def name(self) -> str:
        """The sizes in words, such as "256 × 256 to 56"."""
        return f"{self.height} × {self.width} to {self.pooled}"


class Agreement(NamedTuple):
    """How well pooled coefficients stand for full ones, one entry a frequency: see the top of this module."""

    r_squared: Float[Tensor, " frequency"]
    gain: Float[Tensor, " frequency"]
    relative_error: Float[Tensor, " frequency"]


def stage_sizes(image_size: int) -> tuple[int, ...]:
    """Return the sides of the maps of the four stages of a ResNet for an image side of `image_size` pixels."""
    return tuple(-(-require_count("image_size", image_size) // stride) for stride in STAGE_STRIDES)


def backbone_stages(image_height: int, image_width: int) -> tuple[Stage, ...]:
    """Return the four stages of a ResNet on an image of this size."""
    return tuple(map(Stage, stage_sizes(image_height), stage_sizes(image_width), FCANET_SIZES))


def power_law_spectrum(height: int, width: int, alpha: float) -> Float[Tensor, "height width"]:
    """Return the variances S of the orthonormal coefficients, scaled so that the map's mean variance is 1; float64."""
    require_number("alpha", alpha, least=0, most=4)
    down = torch.arange(height, dtype=torch.float64)[:, None] / height
    across = torch.arange(width, dtype=torch.float64) / width
    power = torch.hypot(down, across).clamp(min=1.0 / max(height, width)) ** (-2.0 * alpha)
    return power / power.mean()


def random_maps(
    spectrum: Float[Tensor, "height width"], n_maps: int, generator: torch.Generator
) -> Float[Tensor, "map height width"]:
    """Return Gaussian maps, orthonormal coefficients independent with variances `spectrum`; float32, on the CPU."""
    noise = torch.randn((require_count("n_maps", n_maps), *spectrum.shape), generator=generator)
    return idct2(noise * spectrum.sqrt().to(torch.float32), normalization="ortho")


def rectified_maps(maps: Float[Tensor, "map height width"], active: float = 0.25) -> Float[Tensor, "map height width"]:
    """Return max(x - t, 0) with one threshold t for all maps, so that the fraction `active` of pixels stays above 0."""
    require_number("active", active, above=0, below=1)
    rank = max(1, round(maps.numel() * (1.0 - active)))
    return (maps - maps.flatten().kthvalue(rank).values).clamp(min=0)


def attention_inputs(images: Float[Tensor, "image 1 height width"], seed: int) -> list[Float[Tensor, "_ _ _"]]:
    """Return the maps that channel attention would read in the last block of each ResNet-34 stage, random weights.

    One tensor a stage, image and channel flattened into `map`, normalized over the batch as in training. The global
    random state is left as it was.
    """
    if images.ndim != 4 or images.shape[1] != 1 or min(images.shape[-2:]) < 32:
        raise InputError(
            "`images` must have the shape (images, 1, height, width), at least 32 pixels a side; "
            f"got {tuple(images.shape)}. Use images[:, None] for grey images."
        )
    from torchvision.models import resnet34  # 1.5 s to import: only who asks for network maps pays

    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(seed)
        network = resnet34(weights=None).train()
    found: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        found.append(output.flatten(0, 1).clone())  # the residual sum is written over the output

    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        stage[-1].bn2.register_forward_hook(keep)
    standard = (images - images.mean()) / images.std().clamp(min=1e-6)
    with torch.no_grad():
        network(standard.to(torch.float32).expand(-1, 3, -1, -1))
    return found


def section_drawing(size: int) -> Float[Tensor, "size size"]:
    """Return a drawing of one bright, tilted section on a dark wafer, values 0 and 1, float64: a map to look at."""
    position = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    row, column = position[:, None] - 0.42, position[None, :] - 0.56
    along, across = 0.94 * column + 0.34 * row, 0.94 * row - 0.34 * column
    return ((along.abs() < 0.2) & (across.abs() < 0.12 + 0.2 * along)).to(torch.float64)


def expected_pooling(
    stage: Stage, alpha: float, indexing: Indexing, full_frequencies: Sequence[tuple[int, int]] | None = None
) -> Agreement:
    """Return the agreement over all Gaussian maps of this stage with amplitude 1 / frequency^alpha.

    By default pooled coefficient k is compared with coefficient k of the full map: the same number of half periods.
    """
    pooled = resolve_frequencies(TOP16, stage.pooled, stage.pooled, indexing)
    variance = power_law_spectrum(stage.height, stage.width, alpha)
    rows = leakage_spectrum(stage.height, stage.pooled, [h for h, _ in pooled])
    columns = leakage_spectrum(stage.width, stage.pooled, [w for _, w in pooled])
    h, w = (torch.tensor(axis) for axis in zip(*(full_frequencies or pooled), strict=True))
    index = torch.arange(len(TOP16))
    gain, wanted = rows[index, h] * columns[index, w], variance[h, w]
    total = torch.einsum("fh,hw,fw->f", rows.square(), variance, columns.square())
    return Agreement(gain.square() * wanted / total, gain, (total - 2 * gain * wanted + wanted) / wanted)


def measured_pooling(maps: Float[Tensor, "map height width"], pooled_size: int, indexing: Indexing) -> Agreement:
    """Return the agreement on these maps, the means taken off for r_squared and gain."""
    index = resolve_frequencies(TOP16, pooled_size, pooled_size, indexing)
    batches = torch.split(maps, BATCH)
    wanted = torch.cat([dct_coefficients(batch, index) for batch in batches]).double()
    small = (functional.adaptive_avg_pool2d(batch, pooled_size) for batch in batches)
    got = torch.cat([dct_coefficients(batch, index) for batch in small]).double()
    x, y = wanted - wanted.mean(dim=0), got - got.mean(dim=0)
    covariance, x_energy, y_energy = (x * y).sum(dim=0), x.square().sum(dim=0), y.square().sum(dim=0)
    return Agreement(
        covariance.square() / (x_energy * y_energy),
        covariance / x_energy,
        (got - wanted).square().sum(dim=0) / wanted.square().sum(dim=0),
    )


def n_same_entries(stages: Sequence[Stage], alpha: float) -> list[int]:
    """Return, for each stage, how many entries of Table 1 share over half of their variance in FcaNet and FANet."""
    return [int((expected_pooling(stage, alpha, "scaled", TOP16).r_squared > 0.5).sum()) for stage in stages]


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
    pairs = zip(maps_by_stage, FCANET_SIZES, strict=True)
    return torch.stack([1 - measured_pooling(maps, pooled, indexing).r_squared for maps, pooled in pairs])


def rectified_loss(
    stages: Sequence[Stage], alpha: float, n_maps: int, generator: torch.Generator, indexing: Indexing
) -> Float[Tensor, "stage frequency"]:
    """Return 1 - r_squared measured on sparse maps: Gaussian ones behind a ReLU that one pixel in four passes."""
    spectra = [power_law_spectrum(stage.height, stage.width, alpha) for stage in stages]
    return measured_loss([rectified_maps(random_maps(one, n_maps, generator)) for one in spectra], indexing)


def monte_carlo_deviations(
    stages: Sequence[Stage], alphas: Sequence[float], n_maps: int, generator: torch.Generator
) -> Float[Tensor, " check"]:
    """Return measured minus expected correlations in standard errors, for every stage, alpha and entry.

    Fisher's z: (artanh r - artanh rho) sqrt(n - 3) is standard normal for Gaussian maps, whatever rho.
    """
    found = []
    for stage in stages:
        for alpha in alphas:
            maps = random_maps(power_law_spectrum(stage.height, stage.width, alpha), n_maps, generator)
            measured = measured_pooling(maps, stage.pooled, "scaled").r_squared
            expected = expected_pooling(stage, alpha, "scaled").r_squared
            z, zeta = (one.clamp(max=1 - 1e-12).sqrt().atanh() for one in (measured, expected))
            found.append((z - zeta) * math.sqrt(n_maps - 3))
    return torch.cat(found)


def report_by_stage(
    run: Run,
    name: str,
    values: Float[Tensor, "stage frequency"],
    *,
    n: int,
    label: str,
    data: Sequence[str] | None = None,
) -> None:
    """Record the mean over the frequencies at each stage as `<name>_stage_1` to `_4`, and over all as `<name>`.

    `data` lists the kinds of data behind it, as for `Run.metric`.
    """
    for number, value in enumerate(values.mean(dim=-1).tolist(), start=1):
        run.metric(f"{name}_stage_{number}", value, n=n, label=f"{label}, stage {number}", data=data)
    run.metric(name, float(values.mean()), n=n, label=f"{label}, all stages", data=data)


def cosine(frequency: int, position: Float[Tensor, " point"], size: int) -> Float[Tensor, " point"]:
    """Return cos(pi k (2u + 1) / 2N) at any real position u."""
    return torch.cos(torch.pi * frequency * (2 * position + 1) / (2 * size))


def plot_staircase(stage: Stage, frequency: int, losses: dict[str, float]) -> Figure:
    """Draw what FANet and FcaNet measure for index `frequency` of the columns: weights of the pixels, and gains.

    `losses` are fractions of variance by kind of map, written into the right panel.
    """
    side, pooled = stage.width, stage.pooled
    figure, (left, right) = plt.subplots(1, 2, figsize=(PAGE_WIDTH_IN, 2.9), width_ratios=[1.15, 1])
    fine = torch.linspace(-0.5, side - 0.5, 300, dtype=torch.float64)
    steps = staircase_basis(side, pooled, [frequency])[0] * (side / pooled)
    left.axhline(0, color=COLOURS["grey"], lw=0.6)
    left.plot(fine, cosine(frequency, fine, side), color=COLOURS["blue"], lw=1.1, label="full map (FANet)")
    left.plot(range(side), dct_basis(side, [frequency])[0], "o", color=COLOURS["blue"], ms=2.5)
    left.step(range(side), steps, where="mid", color=COLOURS["vermilion"], label="pooled first (FcaNet)")
    left.set(xlabel="column of the map", ylabel="weight of the pixel", ylim=(-1.75, 1.75))
    left.legend(loc="upper center", ncols=2, bbox_to_anchor=(0.5, 1.15))
    gains = leakage_spectrum(side, pooled, [frequency])[0]
    aliases = [k for k in gains.abs().gt(1e-9).nonzero().flatten().tolist() if k != frequency]
    right.axhline(0, color=COLOURS["grey"], lw=0.6)
    for places, colour, marker in ((aliases, "vermilion", "o"), ([frequency], "blue", "s")):
        right.vlines(places, 0, gains[places], color=COLOURS[colour], lw=1.6)
        right.plot(places, gains[places], marker, color=COLOURS[colour], ms=4)
    text = "variance lost\n" + "\n".join(f"{maps}: {_percent(value)}" for maps, value in losses.items())
    right.text(0.97, 0.98, text, transform=right.transAxes, ha="right", va="top", fontsize=8)
    right.set(xlabel="frequency of the full map", ylabel="gain", xlim=(-1, side), ylim=(-0.75, 1.15))
    right.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    return figure


def staircase_frames(stage: Stage, alpha: float) -> dict[str, tuple[Figure, str]]:
    """Return a picture and its alternative text for each entry (0, w) of Table 1, w = 0 to 6, by the name of the entry.

    Losses are those of maps of smoothness `alpha` and of white noise.
    """
    loss = {name: 1 - expected_pooling(stage, one, "raw").r_squared for name, one in _kinds_of_map(alpha).items()}
    frames = {}
    for w in range(PARTS):
        losses = {maps: float(values[TOP16.index((0, w))]) for maps, values in loss.items()}
        aliases = "no alias" if not losses["white noise"] > 1e-9 else "red aliases at other frequencies"
        alt = (
            f"A cosine of {w} half periods and its staircase of {stage.pooled} steps; at the right {aliases}. "
            + "; ".join(f"variance lost on {maps}: {_percent(value)}" for maps, value in losses.items())
        )
        frames[f"(0, {w})"] = plot_staircase(stage, w, losses), alt
    return frames


def _kinds_of_map(alpha: float) -> dict[str, float]:
    return {f"smooth maps (α = {alpha:g})": alpha, "white noise": 0.0}


def _percent(fraction: float) -> str:
    return "< 0.1 %" if fraction < 5e-4 else f"{100 * fraction:.2g} %"
