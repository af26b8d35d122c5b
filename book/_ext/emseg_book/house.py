"""The directive `{house-picture}`: the rooms of the code and what imports what, drawn from the imports themselves.

    ```{house-picture} rooms        the packages of the library, with notebooks and chapters on top
    ```{house-picture} emseg.runs   the modules of one package

Each box states how many modules and lines a room has (or what a module is for); a line leads down to what it imports.
Lines that follow from others are left out. Colours are the page's own, so the picture suits light and dark.
"""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.util import find_spec
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

WIDTH, BOX, HEIGHT, GAP, ROW = 900, 120, 44, 8, 84
GROUND = "ground floor"


@dataclass(frozen=True)
class Room:
    """One box: its name, a line of text below it, and the names of the rooms that it imports."""

    name: str
    text: str
    imports: frozenset[str]


class HousePicture(SphinxDirective):
    """Draws the rooms, or the modules of the package that the argument names."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the picture as HTML, with its content in words for who does not see it."""
        of = self.arguments[0]
        notebooks = [name for name in self.env.found_docs if Path(self.env.doc2path(name)).suffix == ".ipynb"]
        rooms = library_rooms(len(notebooks)) if of == "rooms" else package_rooms(of)
        return [nodes.raw("", draw(rooms), format="html")]


def library_rooms(n_notebooks: int) -> list[Room]:
    """Return the rooms of the library, the modules directly in `emseg` as the ground floor."""
    found: dict[str, list[Path]] = {}
    for package in ("emseg", "chapters"):
        root = folder_of(package)
        for path in sorted(path for path in root.rglob("*.py") if path.stem != "__main__"):
            found.setdefault(_room(package, path.relative_to(root).with_suffix("").parts), []).append(path)
    imports = {
        room: {_room(*_split(name)) for path in paths for name in imported(path)} for room, paths in found.items()
    }
    rooms = [Room("notebooks", f"{n_notebooks} chapters", frozenset({"chapters", "runs", "reported"}))]
    for room, paths in found.items():
        n_lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)
        text = f"{len(paths)} modules, {n_lines:,} lines"
        rooms.append(Room(room, text, frozenset(imports[room] & set(found) - {room})))
    return rooms


def package_rooms(package: str) -> list[Room]:
    """Return the modules of a package, each with the first words of its docstring."""
    modules = {path.stem: path for path in sorted(folder_of(package).glob("*.py")) if path.stem != "__init__"}
    rooms = []
    for name, path in modules.items():
        purpose = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split(":")[0].split(",")[0]
        of = {one.removeprefix(f"{package}.").split(".")[0] for one in imported(path) if one.startswith(f"{package}.")}
        rooms.append(Room(name, purpose.split("\n")[0], frozenset(of & set(modules) - {name})))
    return rooms


def draw(rooms: list[Room]) -> str:
    """Return the picture as HTML: a row for each level, a room above all that it imports."""
    below = {room.name: room.imports for room in rooms}
    reached = {name: _reached(below, name) for name in below}
    level = dict.fromkeys(below, 0)
    for _ in rooms:  # the longest path down, between rooms that do not import each other
        for name, others in below.items():
            level[name] = max([level[name], *(level[other] + 1 for other in others if name not in reached[other])])
    heights = sorted(set(level.values()), reverse=True)
    place: dict[str, tuple[float, float]] = {}
    for row, height in enumerate(heights):
        names = [room.name for room in rooms if level[room.name] == height]
        step = min(BOX + GAP, (WIDTH - BOX) / max(1, len(names) - 1))
        left = (WIDTH - step * (len(names) - 1) - BOX) / 2
        place |= {name: (left + step * n, 8 + row * ROW) for n, name in enumerate(names)}
    lines = [
        f'<line x1="{place[one][0] + BOX / 2:.0f}" y1="{place[one][1] + HEIGHT}" '
        f'x2="{place[other][0] + BOX / 2:.0f}" y2="{place[other][1]}"/>'
        for one, others in below.items()
        for other in sorted(others - {deep for near in others for deep in reached[near]})
    ]
    boxes = [
        f'<g transform="translate({x:.0f} {y})"><title>{escape(room.text)}</title>'
        f'<rect width="{BOX}" height="{HEIGHT}" rx="5"/>'
        f'<text x="{BOX / 2}" y="18" class="name">{escape(room.name)}</text>'
        f'<text x="{BOX / 2}" y="34">{escape(_short(room.text))}</text></g>'
        for room in rooms
        for x, y in [place[room.name]]
    ]
    words = "; ".join(
        f"{room.name} ({room.text}) imports {', '.join(sorted(room.imports)) or 'none of the others'}" for room in rooms
    )
    size = f'viewBox="0 0 {WIDTH} {8 + len(heights) * ROW - ROW + HEIGHT + 8}"'
    return (
        '<div class="emseg-house" role="region" aria-label="Picture of what imports what" tabindex="0">'
        f'<svg {size} role="img" aria-label="{escape(words)}">{"".join(lines)}{"".join(boxes)}</svg></div>'
    )


@cache
def imported(path: Path) -> frozenset[str]:
    """Return the dotted names that a module imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def folder_of(package: str) -> Path:
    """Return the folder of an importable package."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations)))


def _split(name: str) -> tuple[str, tuple[str, ...]]:
    package, *parts = name.split(".")
    return package, tuple(parts)


def _room(package: str, parts: tuple[str, ...]) -> str:
    """Return the room of a module: its package in emseg, or the ground floor; "chapters"; "" for what is not ours."""
    if package != "emseg":
        return package if package == "chapters" else ""
    return parts[0] if parts and (folder_of("emseg") / parts[0]).is_dir() else GROUND


def _reached(below: Mapping[str, frozenset[str]], start: str) -> set[str]:
    """Return all rooms that `start` imports, directly or through others."""
    found: set[str] = set()
    waiting = list(below[start])
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += below[name]
    return found


def _short(text: str, n: int = 24) -> str:
    return text if len(text) <= n else text[: n - 1].rsplit(" ", 1)[0] + " …"
