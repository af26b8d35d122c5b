"""A wafer of nearly square sections with known corners, in uneven light: for the tests of quads, templates and fits."""

from dataclasses import dataclass

import cv2
import numpy as np

from emseg.sections import Section, WaferSections
from emseg.wafer.formats.magc import side_angle_deg
from emseg.wafer.navigation.found import Detected

SIDES = (62.0, 67.0)  # as on a real wafer: an outline's long side does not give the angle


def tissue(shape: tuple[int, int] = (124, 134)) -> np.ndarray:
    """Return a section's look: a pale rim above, two dark lobes of unequal size, a pale line, a dark band below."""
    rows, columns = shape
    look = np.full(shape, 110.0, dtype=np.float32)
    cv2.ellipse(look, (columns // 3, rows // 3), (26, 20), 0, 0, 360, 70.0, -1)
    cv2.ellipse(look, (2 * columns // 3 + 4, rows // 3 + 6), (16, 22), 0, 0, 360, 85.0, -1)
    cv2.circle(look, (columns // 2, rows // 3), 5, 160.0, -1)
    look[: rows // 12] += 15
    look[rows * 11 // 20 : rows * 12 // 20] = 150.0
    look[rows * 7 // 10 :] = 50.0
    return cv2.GaussianBlur(look, (0, 0), 1.5)


@dataclass(frozen=True)
class DrawnWafer:
    image: np.ndarray
    truth: WaferSections

    def detected(self, seed: int = 0, *, noise: float = 0.8) -> list[Detected]:
        """Return outlines as a network gives them: rounded corners, wavy, from any corner on."""
        rng = np.random.default_rng(seed)
        return [Detected(wavy(one.polygon, rng, noise), 0.95, {"good": 1.0}) for one in self.truth.sections]


def wavy(quad: np.ndarray, rng: np.random.Generator, noise: float) -> np.ndarray:
    """Return an outline of a quad with rounded corners and smooth deviations of `noise` pixels."""
    side = np.linspace(0, 1, 30, endpoint=False)[:, None]
    ring = np.concatenate([a + side * (b - a) for a, b in zip(quad, np.roll(quad, -1, 0), strict=True)])
    n, wave = len(ring), np.zeros((len(ring), 2))
    for k in range(2, 8):
        phase = 2 * np.pi * k * np.arange(n)[:, None] / n + rng.uniform(0, 2 * np.pi, 2)
        wave += rng.normal(0, noise / 2, 2) * np.cos(phase)
    kernel = np.exp(-0.5 * (np.arange(-6, 7) / 2.0) ** 2)
    kernel /= kernel.sum()
    padded = np.concatenate([ring[-6:], ring, ring[:6]])
    rounded = np.column_stack([np.convolve(column, kernel, "valid") for column in padded.T])
    return np.roll(rounded + wave, rng.integers(n), axis=0)


def draw_wafer(
    n: int = 16, seed: int = 0, *, scale: float = 1.0, look: np.ndarray | None = None, across: int = 4
) -> DrawnWafer:
    """Return `n` sections turned at random, of greys that differ, on a bright ground with a gradient and a seam."""
    rng, look = np.random.default_rng(seed), tissue() if look is None else look
    pitch = 110 * scale
    height, width = int(pitch * -(-n // across)), int(pitch * across)
    image = np.full((height, width), 215.0, dtype=np.float32)
    sections = []
    for k in range(n):
        center = np.array([(k // across + 0.5) * pitch, (k % across + 0.5) * pitch]) + rng.uniform(-4, 4, 2) * scale
        angle = rng.uniform(-np.pi, np.pi)
        along = np.array([np.cos(angle), np.sin(angle)])  # corner 0 to 1, (row, column)
        down = np.array([along[1], -along[0]])  # corner 0 to 3: clockwise in the image
        a, b = along * SIDES[1] * scale / 2, down * SIDES[0] * scale / 2
        quad = np.array([center - a - b, center + a - b, center + a + b, center - a + b])
        source = np.array([(0, 0), (look.shape[1], 0), look.shape[::-1]], dtype=np.float32) - 0.5
        matrix = cv2.getAffineTransform(source.astype(np.float32), (quad[:3, ::-1] - 0.5).astype(np.float32))
        drawn = cv2.warpAffine(look, matrix, (width, height), flags=cv2.INTER_LINEAR)
        cover = cv2.warpAffine(np.ones_like(look), matrix, (width, height), flags=cv2.INTER_LINEAR)
        gain, offset = rng.uniform(0.7, 1.2), rng.uniform(-20, 20)
        image = image * (1 - cover) + gain * drawn + offset * cover
        sections.append(Section(quad, "good", side_angle_deg(quad), k))
    image *= np.linspace(0.75, 1.0, width, dtype=np.float32)
    image[:, : width // 3] *= 0.9
    image += rng.normal(0, 2, image.shape)
    truth = WaferSections("drawn", height, width, tuple(sections), ("good", "incomplete", "fold", "damaged"))
    return DrawnWafer(np.clip(image, 0, 255).astype(np.uint8), truth)


def angle_errors(found: list, truth: WaferSections) -> np.ndarray:
    """Return the deviation of found angles in degrees, in [-180, 180); NaN where unknown."""
    pairs = zip(found, truth.sections, strict=True)
    off = [np.nan if one.angle_deg is None else one.angle_deg - true.angle_deg for one, true in pairs]
    return (np.array(off) + 180) % 360 - 180


def corner_errors(found: list, truth: WaferSections) -> np.ndarray:
    """Return the distance of each found corner from the true one of the same number, in pixels."""
    pairs = zip(found, truth.sections, strict=True)
    return np.concatenate([np.linalg.norm(one.corners - true.polygon, axis=1) for one, true in pairs])
