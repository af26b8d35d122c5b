"""The book as one ZIP file for an archive such as Zenodo: pages, executed notebooks, records, lock, and a description.

    python tools/book_archive.py laptop _build/archive/wafer-to-membrane-laptop.zip

`ro-crate-metadata.json` describes the content as RO-Crate 1.1 asks (https://w3id.org/ro/crate/1.1): the root data set,
its licence, authors and the parts. The pages open from the unzipped folder, without a server and without a network.
"""

import argparse
import json
import mimetypes
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
CONTEXT, SPECIFICATION = "https://w3id.org/ro/crate/1.1/context", "https://w3id.org/ro/crate/1.1"
METADATA = "ro-crate-metadata.json"
ALONE = ("README.md", "LICENSE", "CITATION.cff", "CHANGELOG.md", "requirements.lock", "pyproject.toml")
LICENSES = {"MIT": "https://spdx.org/licenses/MIT"}
FOLDERS = {
    "html/": "The pages of the book; open html/index.html.",
    "notebooks/": "The executed notebooks with their outputs, and the record of each run.",
    "records/": "The committed run records, from which verdicts follow.",
}


def archived_files(root: Path, profile: str) -> Iterator[tuple[str, Path]]:
    """Yield each file of the archive: its name there, and its path."""
    for name in ALONE:
        yield name, root / name
    build = root / "_build"
    for prefix, folder in (
        ("html", build / "html" / profile),
        ("notebooks", build / "runs" / profile),
        ("records", root / "book" / "results"),
    ):
        for path in sorted(folder.rglob("*")):
            inside = path.relative_to(folder)
            hidden = any(part.startswith(".") for part in inside.parts)
            if path.is_file() and not hidden and (prefix != "notebooks" or path.suffix in (".ipynb", ".json")):
                yield f"{prefix}/{inside.as_posix()}", path


def crate(citation: dict[str, Any], build: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Return the RO-Crate description of the archive."""
    authors = [
        {"@id": f"#author-{n}", "@type": "Person" if "family-names" in one else "Organization", "name": _name(one)}
        for n, one in enumerate(citation["authors"], 1)
    ]
    license_url = LICENSES[citation["license"]]
    alone = [name for name in names if "/" not in name]
    notebooks = [name for name in names if name.endswith(".ipynb") and name.startswith("notebooks/")]
    papers = [
        {
            "@id": f"https://doi.org/{one['doi']}" if "doi" in one else f"#paper-{n}",
            "@type": "ScholarlyArticle",
            "name": one["title"],
        }
        for n, one in enumerate(citation["references"], 1)
    ]
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": citation["title"],
        "description": citation["abstract"].strip(),
        "version": str(citation["version"]),
        "datePublished": build["built"][:10],
        "license": {"@id": license_url},
        "author": _ids(authors),
        "keywords": ", ".join(citation["keywords"]),
        "citation": _ids(papers),
        "hasPart": [{"@id": name} for name in [*FOLDERS, *alone, *notebooks]],
    }
    return {
        "@context": CONTEXT,
        "@graph": [
            {"@id": METADATA, "@type": "CreativeWork", "conformsTo": {"@id": SPECIFICATION}, "about": {"@id": "./"}},
            root,
            {"@id": license_url, "@type": "CreativeWork", "name": f"{citation['license']} license"},
            *authors,
            *papers,
            *({"@id": name, "@type": "Dataset", "name": name, "description": text} for name, text in FOLDERS.items()),
            *({"@id": name, "@type": "File", "name": name, "encodingFormat": _format(name)} for name in alone),
            *(
                {"@id": name, "@type": ["File", "SoftwareSourceCode"], "name": name, "encodingFormat": _format(name)}
                for name in notebooks
            ),
        ],
    }


def write_archive(root: Path, profile: str, target: Path) -> list[str]:
    """Write the archive of the book built at `profile` and return the names that it holds."""
    files = dict(archived_files(root, profile))
    build_file = root / "_build" / "staged" / profile / "build.json"
    build = json.loads(build_file.read_text(encoding="utf-8"))
    citation = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_suffix(".part")
    with zipfile.ZipFile(fresh, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(METADATA, json.dumps(crate(citation, build, list(files)), indent=1))
        for name, path in files.items():
            archive.write(path, name)
    fresh.replace(target)
    return [METADATA, *files]


def _ids(entities: list[dict[str, Any]]) -> list[dict[str, str]]:
    return [{"@id": entity["@id"]} for entity in entities]


def _name(author: dict[str, str]) -> str:
    return author.get("name") or f"{author['given-names']} {author['family-names']}"


def _format(name: str) -> str:
    known = {".ipynb": "application/x-ipynb+json", ".md": "text/markdown", ".cff": "application/yaml"}
    return known.get(Path(name).suffix) or mimetypes.guess_type(name)[0] or "text/plain"


def main() -> int:
    """Write the archive; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("profile", help="profile at which the book was built")
    parser.add_argument("zip", type=Path, help="file to write")
    arguments = parser.parse_args()
    if not (ROOT / "_build" / "html" / arguments.profile / "index.html").exists():
        print(f"No book was built at profile {arguments.profile}. Run `make book` first.", file=sys.stderr)
        return 1
    names = write_archive(ROOT, arguments.profile, arguments.zip)
    print(f"{arguments.zip}: {len(names)} files, {arguments.zip.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
