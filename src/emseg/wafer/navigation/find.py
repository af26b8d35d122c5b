"""From a wafer image to all its sections: detected, fitted and ordered, with what a person should know and look at."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emseg.checks import require_count, require_number
from emseg.wafer.annotated_wafer import wafer_name
from emseg.wafer.navigation.detect import LEAST_SCORE, detect_sections
from emseg.wafer.navigation.finder import SectionFinder, load_finder
from emseg.wafer.navigation.fit import fit_sections
from emseg.wafer.navigation.found import Detected, FoundSection, FoundWafer
from emseg.wafer.navigation.order import order_sections
from emseg.wafer.navigation.template import UNORIENTED, SectionTemplate
from emseg.wafer.quads import outline_quad
from emseg.wafer.wafer_source import WaferImage, open_wafer_image

THRESHOLD = 0.5
MIRRORED = (
    "The template fits better mirrored: this image, or the one that the template is from, is flipped, so corners and "
    "angles of the two do not agree."
)
_FEWEST_CANDIDATES = 20
_MISFIT = 0.6  # median residual from which on a template is one of other sections
_MIRRORED = 0.1  # by which the residual of a mirrored template must be smaller
_SAMPLED = 12  # sections to which the mirrored template is fitted


def find_sections(
    image: Any,
    finder: SectionFinder | None = None,
    *,
    template: SectionTemplate | None = None,
    expected: int | None = None,
    threshold: float = THRESHOLD,
    section_size_px: float | None = None,
    pixel_size_um: float | None = None,
    grey_range: tuple[float, float] | None = None,
    batch_size: int | None = None,
    folder: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    name: str | None = None,
) -> FoundWafer:
    """Return the sections of a wafer image, a file or an array (row, column), best first: none is an empty result.

    Without a `finder` the one that ships with the library is used. A section has a score of at least `threshold`; the
    best below are `candidates`, as many as are missing from the `expected` number, at least 20. `name` is by default
    the file's. The `template` is by default that in the finder, where it fits, else the median of the wafer's own
    sections. The other options are those of `detect_sections` and `open_wafer_image`. Raises `InputError` for an image
    that cannot be used, `UsageError` for a wrong option.
    """
    require_number("threshold", threshold, least=LEAST_SCORE, most=1)
    if expected is not None:
        require_count("expected", expected, 0)
    finder = load_finder() if finder is None else finder
    wafer = open_wafer_image(image, grey_range=grey_range)
    detected = detect_sections(
        finder,
        wafer,
        section_size_px=section_size_px,
        pixel_size_um=pixel_size_um,
        batch_size=batch_size,
        folder=folder,
        progress=progress,
    )

    def confidence(score: float) -> float:
        return float(finder.confidence(score))

    sure = [one for one in detected.sections if one.score >= threshold]
    below = detected.sections[len(sure) :][: max(_FEWEST_CANDIDATES, (expected or 0) - len(sure))]
    reason = (f"score below {threshold:g}",)
    candidates = tuple(
        FoundSection(
            outline_quad(one.outline),
            one.outline,
            one.label,
            one.score,
            dict(one.votes),
            confidence=confidence(one.score),
            reasons=reason,
        )
        for one in below
    )
    notes = [*detected.notes, *_counted(len(sure), len(candidates), expected)]
    known = finder.template if template is None else template
    sections = fit_sections(wafer, sure, known, calibrate=confidence) if sure else []  # type: ignore[arg-type]
    misfits = [one.residual for one in sections if one.residual is not None]
    flipped = known is not None and bool(sections) and _is_mirrored(wafer, sure, sections, known)
    if flipped:
        notes.append(MIRRORED)
    if (
        template is None
        and known is not None
        and sections
        and (flipped or not misfits or np.median(misfits) >= _MISFIT)
    ):
        known = None
        sections = fit_sections(wafer, sure, calibrate=confidence)  # type: ignore[arg-type]
        what = "" if flipped else "The template in the weights is of other sections; "
        notes.append(f"{what}{'T' if flipped else 't'}his wafer's own median was used.")
    found = FoundWafer(
        name or (wafer_name(image) if isinstance(image, str | Path) else "wafer"),
        *wafer.shape,
        tuple(sections),
        finder.class_names,
        pixel_size_um,
        notes=(*notes, *_common_turn(sections, known)),
        candidates=candidates,
    )
    return order_sections(found)


def _is_mirrored(
    wafer: WaferImage, sure: Sequence[Detected], sections: Sequence[FoundSection], template: SectionTemplate
) -> bool:
    """Return whether the mirrored template fits a sample of the sections clearly better."""
    sample = range(0, len(sure), max(len(sure) // _SAMPLED, 1))
    others = fit_sections(wafer, [sure[k] for k in sample], template.mirrored())  # type: ignore[arg-type]
    pairs = [(sections[k].residual, other.residual) for k, other in zip(sample, others, strict=True)]
    gains = [(1.0 if one is None else one) - other for one, other in pairs if other is not None]
    return bool(gains) and float(np.median(gains)) > _MIRRORED


def _counted(n_found: int, n_candidates: int, expected: int | None) -> list[str]:
    if expected is None or n_found == expected:
        return []
    if n_found > expected:
        return [f"{n_found} sections were found, {expected} expected: look at the least certain ones first."]
    likely = f"the {n_candidates} likeliest misses are kept for review" if n_candidates else "nothing else was seen"
    return [f"{n_found} sections were found, {expected} expected; {likely}."]


def _common_turn(sections: Sequence[FoundSection], template: SectionTemplate | None) -> list[str]:
    unknown = template is None or not template.oriented
    return [UNORIENTED] if unknown and any(one.angle_deg is not None for one in sections) else []
