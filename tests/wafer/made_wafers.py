"""Small wafers made by hand, for the tests of everything between wafer images and COCO folders."""

import numpy as np

from emseg.sections import Section, WaferSections

QUALITIES = ("good", "incomplete", "fold", "damaged")


def rectangle(top: float, left: float, bottom: float, right: float) -> np.ndarray:
    return np.array([(top, left), (top, right), (bottom, right), (bottom, left)], dtype=np.float64)


def wafer(*outlines: np.ndarray, name: str = "made", height: int = 100, width: int = 120) -> WaferSections:
    sections = tuple(
        Section(np.asarray(outline, dtype=np.float64), serial_number=k) for k, outline in enumerate(outlines)
    )
    return WaferSections(name, height, width, sections)


def random_wafer(seed: int, *, n: int = 12, name: str = "made", height: int = 150, width: int = 200) -> WaferSections:
    """A wafer of turned rectangles of the four classes, some of them over the border."""
    rng = np.random.default_rng(seed)
    sections = []
    for k in range(n):
        angle = rng.uniform(0, 2 * np.pi)
        turn = np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
        corners = rectangle(-12, -8, 12, 8) @ turn + rng.uniform((0, 0), (height, width))
        sections.append(Section(corners, QUALITIES[k % 4], float(np.degrees(angle) % 180), k))
    return WaferSections(name, height, width, tuple(sections), QUALITIES, pixel_size_um=2.0)


def picture(sections: WaferSections, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (sections.height, sections.width), dtype=np.uint8)
