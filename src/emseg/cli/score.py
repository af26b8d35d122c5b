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
    from emseg.membrane.scoring import ScoreSettings
    from emseg.membrane.scoring.score_files import Result

_NAME_WIDTH = 20


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
    add("truth", metavar="TRUTH", type=Path, help="labels, 8-bit or 1-bit")
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
        "refuse predictions that the U-RISC competition's script refuses: not binary, or more than a pixel of membrane "
    )
    add("--as-competition", action="store_true", help=f"{how}per five of background")
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
    from emseg.membrane.scoring.score_table import image_heading, image_line

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
        print(image_heading(width))
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
                    print(image_line(result.pair.name, width, result.comparison.scores), flush=True)
                without_map = replace(result.comparison, codes=np.zeros((0, 0), np.uint8))  # as large as the image
                scored.append(replace(result, comparison=without_map))
    finally:
        _finish(arguments, settings, scored, problems)
    return 1 if problems else 0


def _finish(
    arguments: argparse.Namespace, settings: "ScoreSettings", scored: "list[Result]", problems: list[str]
) -> None:
    from emseg.checks import plain
    from emseg.membrane.scoring import best_thresholds, summarize
    from emseg.membrane.scoring.score_table import summary_lines

    scores = [result.comparison.scores for result in scored if result.comparison]
    summary, best = summarize(scores), best_thresholds(scores)
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
        print("\n".join(summary_lines(summary, best, tolerance=tolerance, threshold=settings.threshold)))


def _notes(arguments: argparse.Namespace, scored: "list[Result]") -> list[str]:
    from emseg.membrane.scoring.score_files import inversion_note, some

    n, scores = len(scored), [result.comparison.scores for result in scored if result.comparison]
    note = inversion_note([result.pair.name for result in scored], scores, arguments.membrane)
    notes = [note] if note else []
    for kind in ("probability map", "lossy label"):
        names = [result.pair.name for result in scored if result.kind == kind]
        if names:
            made = f"thresholded at {arguments.threshold:g}" if kind == "probability map" else "made binary"
            notes.append(f"{len(names)} of {n} predictions are {kind}s ({some(names)}), {made}.")
    if len({result.kind == "probability map" for result in scored}) == 2:
        notes.append("labels and probability maps are mixed, so that no best threshold is given.")
    n_refused = sum(not one.competition_accepts for one in scores)
    if n_refused and not arguments.as_competition:
        notes.append(
            f"the U-RISC competition's script would refuse {n_refused} of {n} predictions: fewer than five pixels of "
            "background per pixel of membrane. The scores do not depend on it."
        )
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
    from emseg.errors import UsageError

    folder: Path | None = arguments.maps
    if folder is not None:
        if folder.resolve() in (arguments.prediction.resolve(), arguments.truth.resolve()):
            raise UsageError(f"--maps must not be the folder of PRED or TRUTH; got {folder}. Name another folder.")
        folder.mkdir(parents=True, exist_ok=True)
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
