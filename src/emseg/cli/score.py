"""`emseg score PRED TRUTH`: every score of predicted membranes, for two files or two folders.

The table goes to standard output, notes and problems to standard error. A file that cannot be scored is reported and
the others are scored; the exit code is then 1. With --per-image each image's line is written as soon as it is scored.
An interrupted run still reports the images it has.
"""

import argparse
import json
import math
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emseg.membrane.scoring import ImageScores, ScoreSettings
    from emseg.membrane.scoring.image_scores import BestThreshold, Spread
    from emseg.membrane.scoring.score_files import Result

_NAME_WIDTH, _WIDTH = 20, 11
_CELLS = {
    "v_rand": "V-Rand",
    "v_rand_split": "  split score",
    "v_rand_merge": "  merge score",
    "v_info": "V-Info",
    "v_info_split": "  split score",
    "v_info_merge": "  merge score",
    "adapted_rand_error": "adapted Rand error (0 is best)",
    "voi_split": "VOI split, bits (0 is best)",
    "voi_merge": "VOI merge, bits (0 is best)",
}
_CLASSES = ("membrane", "background")
_COUNTS = ("missed_stretches", "broken_membranes", "false_stretches", "spurious_membranes")
_IMAGE_COLUMNS = {
    "membrane_f1": "membrane",
    "background_f1": "background",
    "membrane_tolerant_f1": "tolerant",
    "v_rand": "V-Rand",
    "v_info": "V-Info",
    "assd_px": "ASSD px",
    "broken_membranes": "broken",
    "spurious_membranes": "spurious",
}


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `score` command."""
    parser = subparsers.add_parser(
        "score",
        help="score predicted membranes against the truth",
        description="Score predicted membranes: precision, recall and F1 of both classes, strict and within a "
        "tolerance; V-Rand and V-Info with thinning, as ISBI 2012; adapted Rand error; variation of information; "
        "average symmetric surface distance; broken and spurious membranes. All scores are computed for each image "
        "and then averaged. PRED and TRUTH are two files, or two folders whose files have the same names (extensions "
        "may differ).",
        epilog="Example: emseg score predictions/ labels/ --tolerance 3px --pixel-size-nm 4 --per-image",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("prediction", metavar="PRED", type=Path, help="labels, or probability maps: 8-bit grey, or float in 0 to 1")
    add("truth", metavar="TRUTH", type=Path, help="labels of two values")
    looks: dict[str, Any] = {"choices": ("dark", "bright"), "default": "dark"}
    how = "how membranes look in PRED (default: %(default)s, 0 = membrane); inverted files are reported, not inverted"
    add("--membrane", **looks, help=how)
    add("--truth-membrane", **looks, help="how membranes look in TRUTH (default: %(default)s)")
    how = "pixels of at least this probability are membrane (default: %(default)s)"
    add("--threshold", type=float, default=0.5, metavar="P", help=how)
    how = "radius of the tolerant scores, as 3px or 12nm (default: 3px)"
    add("--tolerance", default="3px", metavar="R", help=how)
    add("--pixel-size-nm", type=float, metavar="X", help="side of a pixel in nanometres")
    how = "do not search eleven thresholds for the best V-Rand and V-Info of probability maps"
    add("--no-best-threshold", action="store_true", help=how)
    how = (
        "also give the F1 of the U-RISC competition's program, which counts the greys of a lossy truth as weights, and "
        "refuse what it refuses: predictions that are not binary or are membrane for more than a sixth"
    )
    add("--as-competition", action="store_true", help=how)
    add("--per-image", action="store_true", help="also write a line for each image")
    add("--json", action="store_true", help="write everything as JSON, single images too")
    how = "write a picture of the errors of each image: false positives red, false negatives blue"
    add("--maps", type=Path, metavar="FOLDER", help=how)
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Score all pairs; return 0 when every file could be scored, otherwise 1."""
    import numpy as np
    from tqdm import tqdm

    from emseg.errors import InputError
    from emseg.membrane.scoring.pixels import write_error_picture
    from emseg.membrane.scoring.score_files import find_pairs, score_pairs, why_no_pair

    settings = _settings(arguments)
    pairs, problems = find_pairs(arguments.prediction, arguments.truth)
    maps = _maps_folder(arguments)
    for problem in problems:
        _report(problem)
    if not pairs:
        raise InputError(f"nothing to score: {why_no_pair(arguments.prediction, arguments.truth)}")
    lines = arguments.per_image and not arguments.json
    width = max(_NAME_WIDTH, *(len(pair.name) + 2 for pair in pairs))
    if lines:
        print(f"{'image':<{width}}" + "".join(f"{title:>{_WIDTH}}" for title in _IMAGE_COLUMNS.values()))
    scored: list[Result] = []
    looks = {"polarity": arguments.membrane, "truth_polarity": arguments.truth_membrane}
    results = score_pairs(pairs, settings, as_competition=arguments.as_competition, **looks)
    try:
        for result in tqdm(results, total=len(pairs), unit="image", file=sys.stderr, disable=None, leave=False):
            with tqdm.external_write_mode():
                if result.comparison is None:
                    problems.append(result.problem or "")
                    _report(problems[-1])
                    continue
                if maps:
                    write_error_picture(result.comparison.codes, maps / f"{result.pair.name}_errors.png")
                if lines:
                    print(_image_line(result.pair.name, width, result.comparison.scores), flush=True)
                without_map = replace(result.comparison, codes=np.zeros((0, 0), np.uint8))  # as large as the image
                scored.append(replace(result, comparison=without_map))
    finally:
        _finish(arguments, settings, scored, problems)
    return 1 if problems else 0


def _finish(
    arguments: argparse.Namespace, settings: "ScoreSettings", scored: "list[Result]", problems: list[str]
) -> None:
    from emseg.checks import plain
    from emseg.membrane.scoring import best_thresholds, spread, summarize

    scores = [result.comparison.scores for result in scored if result.comparison]
    summary, best = summarize(scores), best_thresholds(scores)
    if arguments.as_competition:
        rows = [asdict(one.competition) for one in scored if one.competition]
        summary |= {
            f"competition_{name}": spread([row[name] for row in rows]) for name in ("f1", "precision", "recall")
        }
    notes = _notes(arguments, scored)
    if arguments.json:
        document = {
            "settings": plain(settings) | {"membrane": arguments.membrane, "truth_membrane": arguments.truth_membrane},
            "summary": {name: asdict(one) for name, one in summary.items()},
            "best_threshold": {name: {"threshold": one.threshold, **asdict(one.spread)} for name, one in best.items()},
            "images": [_image(result) for result in scored],
            "problems": problems,
            "notes": notes,
        }
        print(json.dumps(_without_nan(document), indent=1))
        return
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    if scores:
        if arguments.per_image:
            print()
        size = settings.pixel_size_nm
        tolerance = f"{settings.tolerance_px:g} px" + (f" ({settings.tolerance_px * size:g} nm)" if size else "")
        print("\n".join(_summary_lines(summary, best, tolerance=tolerance, threshold=settings.threshold)))


def _notes(arguments: argparse.Namespace, scored: "list[Result]") -> list[str]:
    """Return a sentence for all that might mislead: what was made of files, and what is probably not what was meant."""
    from emseg.membrane.scoring.score_files import inversion_note, some

    n, scores = len(scored), [result.comparison.scores for result in scored if result.comparison]
    note = inversion_note([result.pair.name for result in scored], scores, arguments.membrane)
    threshold = f"thresholded at {arguments.threshold:g}"
    made = {
        "probability map": f"are probability maps (%s), {threshold}.",
        "lossy label": "are lossy labels (%s), made binary.",
        "constant image": f"are constant (%s), {threshold}: one class only.",
    }
    found: list[tuple[str, list[bool]]] = [
        (f"predictions {text}", [result.kind == kind for result in scored]) for kind, text in made.items()
    ]
    text = "predictions may be the image itself instead of a probability of membrane (%s): most of it is middle grey."
    found.append((text, [result.looks_raw for result in scored]))
    text = "truths have no membrane (%s): their recall is 1, whatever the prediction."
    found.append((text, [not one.true_fraction for one in scores]))
    text = "predictions are the truth's own file (%s): PRED and TRUTH are the same."
    found.append((text, [result.pair.prediction.samefile(result.pair.truth) for result in scored]))
    if not arguments.as_competition:
        text = "predictions would be refused by the U-RISC competition's program (%s): fewer than five pixels of "
        text += "background per pixel of membrane. The scores do not depend on it."
        found.append((text, [not one.competition_accepts for one in scores]))
    notes = [note] if note else []
    for text, which in found:
        if names := [result.pair.name for result, yes in zip(scored, which, strict=True) if yes]:
            notes.append(f"{len(names)} of {n} {text % some(names)}")
    if len({result.kind == "probability map" for result in scored}) == 2:
        notes.append("labels and probability maps are mixed, so that no best threshold is given.")
    return notes


def _settings(arguments: argparse.Namespace) -> "ScoreSettings":
    from emseg.errors import UsageError
    from emseg.membrane.scoring import ISBI_THRESHOLDS, ScoreSettings

    size = arguments.pixel_size_nm
    text = arguments.tolerance.strip().lower()
    number, unit = (text[:-2], text[-2:]) if text[-2:] in ("px", "nm") else (text, "px")
    try:
        tolerance = float(number)
    except ValueError:
        raise UsageError(f"--tolerance must be a radius such as 3px or 12nm; got {arguments.tolerance!r}.") from None
    if unit == "nm":
        if size is None:
            raise UsageError("--tolerance in nm needs the pixel size. Add --pixel-size-nm X.")
        tolerance /= size or 1.0  # a pixel size of 0 is refused below
    thresholds = () if arguments.no_best_threshold else ISBI_THRESHOLDS
    return ScoreSettings(arguments.threshold, tolerance, size, thresholds)


def _maps_folder(arguments: argparse.Namespace) -> Path | None:
    from emseg.errors import InputError, UsageError

    folder: Path | None = arguments.maps
    if folder is not None:
        if folder.resolve() in (arguments.prediction.resolve(), arguments.truth.resolve()):
            raise UsageError(f"--maps must not be the folder of PRED or TRUTH; got {folder}. Name another folder.")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--maps {folder} cannot be made: {error.strerror}. Name another folder.") from error
    return folder


def _image(result: "Result") -> dict[str, object]:
    from emseg.membrane.scoring.score_files import may_be_inverted

    assert result.comparison is not None
    scores = result.comparison.scores
    same = ("height", "width", "true_fraction", "predicted_fraction", "competition_accepts")
    return {
        "name": result.pair.name,
        "prediction": str(result.pair.prediction),
        "truth": str(result.pair.truth),
        "page": result.pair.page,
        "kind": result.kind,
        **{name: getattr(scores, name) for name in same},
        "may_be_inverted": may_be_inverted(scores),
        **scores.row(),
        **(
            {} if result.competition is None else {f"competition_{k}": v for k, v in asdict(result.competition).items()}
        ),
        "at_thresholds": [{"threshold": one[0], "v_rand": one[1], "v_info": one[2]} for one in scores.at_thresholds],
    }


def _without_nan(value: Any) -> Any:
    """The same structure with null for NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {name: _without_nan(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _report(problem: str) -> None:
    print(f"emseg: {problem}", file=sys.stderr)


def _summary_lines(
    summary: "dict[str, Spread]", best: "dict[str, BestThreshold]", *, tolerance: str, threshold: float
) -> list[str]:
    """Return the table of a set: a line per score with mean, standard deviation, range and number of images."""
    scores = {"f1": "F1", "precision": "precision", "recall": "recall"}
    pixels = [(f"{name} {label}", f"{name}%s_{score}") for name in _CLASSES for score, label in scores.items()]
    chosen = [(f"{_CELLS[name]} at threshold {one.threshold:g}", one.spread) for name, one in best.items()]
    surfaces = [("ASSD px", summary["assd_px"]), ("ASSD nm", summary["assd_nm"])]
    competition = [(f"membrane {label}", summary.get(f"competition_{name}")) for name, label in scores.items()]
    tables = {
        "Pixels, strict": [(label, summary[name % ""]) for label, name in pixels],
        "Pixels, by the competition's program": [(label, one) for label, one in competition if one],
        f"Pixels, within {tolerance}": [(label, summary[name % "_tolerant"]) for label, name in pixels],
        f"Cells at threshold {threshold:g}" if best else "Cells": [(_CELLS[name], summary[name]) for name in _CELLS],
        "Cells at the best threshold, chosen on these images": chosen,
        "Surfaces (0 is best)": surfaces if summary["assd_nm"].n else surfaces[:1],
        "Errors as objects, an image (0 is best)": [(name.replace("_", " "), summary[name]) for name in _COUNTS],
    }
    lines = [f"{'':<32}{'mean':>{_WIDTH}}  {'sd':<{_WIDTH}}{'lowest':>{_WIDTH}}{'highest':>{_WIDTH}}{'images':>8}"]
    for title, rows in tables.items():
        lines += [title, *(_spread_line(label, one) for label, one in rows)] if rows else []
    return lines


def _image_line(name: str, name_width: int, scores: "ImageScores") -> str:
    """Return the main scores of one image; F1 for pixels."""
    row = scores.row()
    return f"{name:<{name_width}}" + "".join(f"{_number(name, row[name]):>{_WIDTH}}" for name in _IMAGE_COLUMNS)


def _spread_line(label: str, one: "Spread") -> str:
    name = label.replace(" ", "_")
    mean, sd, lowest, highest = (_number(name, value) for value in (one.mean, one.sd, one.lowest, one.highest))
    deviation = "" if math.isnan(one.sd) else f"± {sd}"
    return f"  {label:<30}{mean:>{_WIDTH}}  {deviation:<{_WIDTH}}{lowest:>{_WIDTH}}{highest:>{_WIDTH}}{one.n:>8}"


def _number(name: str, value: float) -> str:
    if math.isnan(value):
        return "undefined"
    if name in _COUNTS:
        return f"{value:.0f}" if value == int(value) else f"{value:.1f}"
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.1f}"
