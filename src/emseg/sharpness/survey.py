"""The sharpness of whole folders: an electron microscopy lab's quality check after an acquisition.

Files are decoded and measured a few at a time and handed out in natural order (section_2 before section_10), each as
soon as it and those before it are done. A file that cannot be measured is reported in its place with the reason, and
the others go on. A TIFF with several pages gives one measurement a page.
"""

import glob
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from emseg.errors import InputError
from emseg.images import IMAGE_SUFFIXES, count_pages, read_gray
from emseg.sharpness.indices import Axis, Sharpness, sharpness


@dataclass(frozen=True)
class Measurement:
    """One image of a survey: its indices, or the sentence that says why it has none."""

    path: Path
    page: int | None
    sharpness: Sharpness | None
    problem: str | None

    @property
    def name(self) -> str:
        """The path, and the page for a file that holds several."""
        return str(self.path) if self.page is None else f"{self.path}#{self.page}"


def find_images(names: Iterable[str], *, recursive: bool = False) -> tuple[list[Path], list[str]]:
    """Return the image files that names of files, folders and patterns stand for, sorted, and a sentence per problem.

    A folder stands for the files in it with an image's extension, with `recursive` also in the folders below; hidden
    files are left out. A named file is taken whatever its extension.
    """
    found: set[Path] = set()
    problems: list[str] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            inside = _images_in(path, recursive)
            if not inside:
                advice = "Name its files." if recursive else "Name its files, or look below it with --recursive."
                problems.append(f"{name} must hold images ({' '.join(IMAGE_SUFFIXES)}); it holds none. {advice}")
            found.update(inside)
        elif glob.has_magic(name) and not path.exists():
            matches = [Path(match) for match in glob.glob(name, recursive=recursive)]  # noqa: PTH207 - absolute patterns
            if not matches:
                problems.append(f"{name} must match an image; it matches no file. Check the pattern.")
            found.update(match for match in matches if not match.is_dir())
        else:
            found.add(path)
    return sorted(found, key=natural_key), problems


def natural_key(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    """Return a sorting key that compares the numbers in a name as numbers."""
    parts = re.split(r"([0-9]+)", str(path))
    return [(1, int(part), "") if part.isdigit() else (0, 0, part.casefold()) for part in parts], str(path)


def survey(
    paths: Sequence[Path],
    *,
    pixel_size_nm: float | None = None,
    axis: Axis = "x",
    n_workers: int = 1,
    on_file: Callable[[], object] = lambda: None,
) -> Iterator[Measurement]:
    """Yield a measurement for each image of the files, in their order; `on_file` is called as each file is done.

    At most `n_workers` files are in memory at a time.
    """
    if n_workers == 1:
        for path in paths:
            yield from _measure_file(path, pixel_size_nm, axis, None)
            on_file()
        return
    waiting: deque[Future[list[Measurement]]] = deque()
    remaining = iter(paths)
    pool = ThreadPoolExecutor(n_workers)
    try:
        while True:
            while len(waiting) < n_workers and (following := next(remaining, None)) is not None:
                waiting.append(pool.submit(lambda p: list(_measure_file(p, pixel_size_nm, axis, 1)), following))
            if not waiting:
                return
            yield from waiting.popleft().result()
            on_file()
    finally:
        pool.shutdown(cancel_futures=True)


def _images_in(folder: Path, recursive: bool) -> list[Path]:
    candidates = folder.rglob("*") if recursive else folder.iterdir()
    return [
        path
        for path in candidates
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and not path.is_dir()
    ]


def _measure_file(path: Path, pixel_size_nm: float | None, axis: Axis, n_threads: int | None) -> Iterator[Measurement]:
    try:
        n_pages = count_pages(path)
    except InputError as error:
        yield Measurement(path, None, None, str(error))
        return
    for page in range(n_pages):
        shown = page if n_pages > 1 else None
        try:
            image = read_gray(path, page=page, memory_map=True)
        except InputError as error:
            yield Measurement(path, shown, None, str(error))
            continue
        try:
            measured = sharpness(image, pixel_size_nm, axis=axis, n_threads=n_threads)
        except InputError as error:
            yield Measurement(path, shown, None, f"{path}: {error}")
            continue
        yield Measurement(path, shown, measured, None)
