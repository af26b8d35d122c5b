"""Augmentation: crops turned, mirrored, zoomed, shifted, bent, and changed in brightness and contrast.

A crop is cut from a larger window about the same centre. In one of two ways it becomes what the network sees:

    exact    a quarter turn and a mirror image; no pixel is changed. A share 1 - `warp_probability` of the crops.
    warped   any turn, a zoom and a bending at once, so that the image is interpolated once (bilinear; the truth takes
             the nearest pixel):  input place = A output place + bend,  A = R(angle) / zoom, mirrored in half the cases

Grey values g in 0 to 1 become (1 + c) (g - m) + m + b, cut to 0 to 1, with m the crop's mean: contrast and brightness,
the colour jitter of a grey image. The network sees (g - 0.5) / 0.5.

Every number comes from the crop's draw (`emseg.membrane.training.draws`), so a crop is a function of seed and place.

Source: Shi et al. 2022: flips, rotation, zoom, crop, translation, contrast, colour jitter; no amounts are given.
Translation is the crop's random place. Bending is beyond the paper (Ronneberger et al. 2015), off by default.
Deviation: torch's `affine_grid` and `grid_sample` on the whole batch, on the training's device, in place of
torchvision's transforms one crop after the other: one call a batch, and one interpolation for all.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float32, Int64, UInt8
from torch import Tensor
from torch.nn import functional

from emseg.errors import UsageError

MIDDLE_GREY = 127.5  # (g / 255 - 0.5) / 0.5 = (g - 127.5) / 127.5
BEND_POINTS = 5  # control points a side; between them the bending is smooth


@dataclass(frozen=True)
class Augmentation:
    """How far crops are changed.

    `rotation_degrees`, `zoom`: a warped crop turns by up to this angle to either side and is magnified by a factor from
    1 / zoom to zoom. `bend_px`: standard deviation of the places' shift. `brightness`: largest change as a share of the
    whole range, `contrast`: of itself.
    """

    flips: bool = True
    quarter_turns: bool = True
    warp_probability: float = 0.5
    rotation_degrees: float = 180.0
    zoom: float = 1.25
    bend_px: float = 0.0
    brightness: float = 0.1
    contrast: float = 0.25

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        for name in ("flips", "quarter_turns"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"`{name}` must be true or false; got {getattr(self, name)!r}.")
        for name, low, high in (
            ("warp_probability", 0, 1),
            ("rotation_degrees", 0, 180),
            ("zoom", 1, 4),
            ("bend_px", 0, 50),
            ("brightness", 0, 1),
            ("contrast", 0, 1),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise UsageError(f"`{name}` must be a number from {low} to {high}; got {value!r}.")

    def window_size(self, crop_size: int) -> int:
        """Return the side of the window about a crop that holds all that a warp may bring into it."""
        if not self.warp_probability:
            return crop_size
        angle = math.radians(min(self.rotation_degrees, 45.0))
        side = crop_size * self.zoom * (math.cos(angle) + math.sin(angle)) + 6 * self.bend_px
        return crop_size + 2 * math.ceil((side - crop_size) / 2)


NO_AUGMENTATION = Augmentation(
    flips=False, quarter_turns=False, warp_probability=0.0, rotation_degrees=0.0, zoom=1.0, brightness=0.0, contrast=0.0
)


@dataclass(frozen=True, eq=False)
class Changes:
    """What is done to the crops of a batch.

    `turns`: quarter turns counter-clockwise; `mirrored`: left for right, before the turn; `warped`: whether `angle`
    (radians, counter-clockwise), `zoom` and `bend` (row and column, in pixels, at the control points) hold instead of
    `turns`.
    """

    turns: Int64[Tensor, " crop"]
    mirrored: Bool[Tensor, " crop"]
    warped: Bool[Tensor, " crop"]
    angle: Float32[Tensor, " crop"]
    zoom: Float32[Tensor, " crop"]
    bend: Float32[Tensor, "crop 2 point point"]
    brightness: Float32[Tensor, " crop"]
    contrast: Float32[Tensor, " crop"]

    def to(self, device: torch.device) -> "Changes":
        """Return the same changes on another device; `turns`, `mirrored` and `warped` stay where they are looked at."""
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in _ON_DEVICE}
        return Changes(self.turns, self.mirrored, self.warped, **moved)


_ON_DEVICE = ("angle", "zoom", "bend", "brightness", "contrast")


def augmented(
    windows: UInt8[Tensor, "crop 2 side side"], changes: Changes, crop_size: int
) -> tuple[Float[Tensor, "crop 1 size size"], Float[Tensor, "crop 1 size size"]]:
    """Return what the network sees, and the membrane (1.0) of it; channel 0 of a window is grey, 1 its membrane."""
    side = windows.shape[-1]
    pairs = windows.new_empty((len(windows), 2, crop_size, crop_size), dtype=torch.float32)
    margin = (side - crop_size) // 2
    for place in torch.nonzero(~changes.warped).flatten().tolist():
        exact = windows[place, :, margin : margin + crop_size, margin : margin + crop_size]
        if changes.mirrored[place]:
            exact = exact.flip(-1)
        pairs[place] = torch.rot90(exact, int(changes.turns[place]), (-2, -1))
    chosen = torch.nonzero(changes.warped).flatten()
    if len(chosen):
        places = chosen.to(windows.device)
        pairs[places] = _warped(windows[places], changes, chosen, crop_size)
    return changed_grey(pairs[:, :1] / 255, changes), pairs[:, 1:]


def changed_grey(grey: Float[Tensor, "crop 1 row column"], changes: Changes) -> Float[Tensor, "crop 1 row column"]:
    """Return the grey values with another contrast and brightness, on the scale that networks see."""
    contrast, brightness = (value[:, None, None, None] for value in (changes.contrast, changes.brightness))
    mean = grey.mean(dim=(1, 2, 3), keepdim=True)
    changed = torch.addcmul(mean + brightness, grey - mean, 1 + contrast)
    return (changed.clamp_(0, 1) - 0.5) / 0.5


def _warped(
    windows: UInt8[Tensor, "crop 2 side side"], changes: Changes, chosen: Int64[Tensor, " crop"], crop_size: int
) -> Float[Tensor, "crop 2 size size"]:
    device, side = windows.device, windows.shape[-1]
    at = chosen.to(device)
    angle, zoom = changes.angle[at], changes.zoom[at]
    cosine, sine = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    # torch's places are (x, y) in half sides of the window; y points down, so this turns counter-clockwise
    mirror = 1.0 - 2.0 * changes.mirrored[chosen].to(device, torch.float32)
    zero = torch.zeros_like(angle)
    rows = (torch.stack([mirror * cosine, -mirror * sine, zero], 1), torch.stack([sine, cosine, zero], 1))
    matrix = torch.stack(rows, 1) * (crop_size / side)
    places = functional.affine_grid(matrix, [len(at), 2, crop_size, crop_size], align_corners=False)
    bend = changes.bend[at]
    if bend.any():
        shift = functional.interpolate(bend, size=(crop_size, crop_size), mode="bicubic", align_corners=True)
        places = places + shift.flip(1).permute(0, 2, 3, 1) * (2 / side)
    grey, membrane = windows[:, :1].float(), windows[:, 1:].float()
    return torch.cat(
        [
            functional.grid_sample(grey, places, mode="bilinear", padding_mode="reflection", align_corners=False),
            functional.grid_sample(membrane, places, mode="nearest", padding_mode="reflection", align_corners=False),
        ],
        dim=1,
    )
