"""Make the file lists of `registry.json` from folders that hold the data sets: sizes and SHA-256 are never typed.

    python tools/registry.py DIR

reads `DIR/<name>/` for every data set, takes the files in the folders of its `layout`, and writes the registry anew.
Everything else in the registry is kept. To add a data set: write its entry with `"files": []`, then run this.
"""

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emseg.data.registry import parse_entry, read_registry
from emseg.errors import InputError

REGISTRY_PATH = Path(__file__).resolve().parents[1] / "src" / "emseg" / "data" / "registry.json"


def registry_from(root: Path, entries: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return `entries` with the lists of files taken from `root/<name>/`; raise `InputError` where one is missing."""
    made = {}
    for name, entry in entries.items():
        made[name] = {**entry, "files": [line for folder in entry["layout"] for line in _lines(root / name, folder)]}
        parse_entry(name, made[name])
    return made


def _lines(root: Path, folder: str) -> list[str]:
    """Return "sha256 bytes path" for each file directly in `root/folder`, in natural order (2 before 10)."""
    if not (root / folder).is_dir():
        raise InputError(f"the registry's layout names the folder {root / folder}, which does not exist")
    paths = sorted((path for path in (root / folder).iterdir() if path.is_file()), key=_natural_order)
    return [
        f"{hashlib.sha256(content).hexdigest()} {len(content)} {path.relative_to(root).as_posix()}"
        for path, content in ((path, path.read_bytes()) for path in paths)
    ]


def _natural_order(path: Path) -> list[tuple[int, str]]:
    return [(int(part) if part.isdigit() else -1, part) for part in re.split(r"(\d+)", path.name)]


def main(argv: Sequence[str] | None = None) -> int:
    """Write `registry.json` from the folder that is named."""
    parser = argparse.ArgumentParser(prog="python tools/registry.py", description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path, metavar="DIR", help="folder that holds one folder a data set")
    entries = registry_from(parser.parse_args(argv).root, read_registry())
    REGISTRY_PATH.write_text(json.dumps(entries, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for name, entry in entries.items():
        print(f"{name}: {len(entry['files'])} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
