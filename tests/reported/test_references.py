"""Every citation resolves, and the citation file says how to cite this book."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from pybtex.database import BibliographyData, parse_file

from emseg.reported import load_claims, load_reported
from emseg.reported.tables import SUBJECTS

ROOT = Path(__file__).parents[2]
BOOK = ROOT / "book"
REQUIRED = {
    "article": {"author", "title", "journal", "year"},
    "inproceedings": {"author", "title", "booktitle", "year"},
    "misc": {"author", "title"},
}


@pytest.fixture(scope="module")
def bibliography() -> BibliographyData:
    return parse_file(str(BOOK / "references.bib"))


def prose() -> dict[Path, str]:
    """Return the Markdown of every page of the book, notebooks included."""
    pages = {path: path.read_text(encoding="utf-8") for path in sorted(BOOK.rglob("*.md"))}
    for path in sorted(BOOK.rglob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        pages[path] = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return pages


def test_each_entry_has_what_its_kind_needs(bibliography):
    for key, entry in bibliography.entries.items():
        fields = {name.lower() for name in entry.fields} | {role.lower() for role in entry.persons}
        assert fields >= REQUIRED[entry.type], key
        assert not {name for name in entry.fields if not entry.fields[name].strip()}, key


def test_a_doi_is_one_and_stands_at_one_entry(bibliography):
    dois = [entry.fields["doi"] for entry in bibliography.entries.values() if "doi" in entry.fields]
    assert len(set(dois)) == len(dois)
    assert all(re.fullmatch(r"10\.\d{4,}/\S+", doi) for doi in dois)


def test_every_key_cited_in_the_book_is_in_the_bibliography(bibliography):
    cited = {
        (path.name, key.strip())
        for path, text in prose().items()
        for keys in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", text)
        for key in re.sub(r"^.*<(.*)>$", r"\1", keys).split(",")
    }
    assert cited
    assert {(page, key) for page, key in cited if key not in bibliography.entries} == set()


def test_every_paper_with_numbers_or_claims_is_in_the_bibliography(bibliography):
    papers = {claim.paper for claim in load_claims()}
    papers |= {row.paper for paper in SUBJECTS for row in load_reported(paper)}
    assert papers <= set(bibliography.entries)


def test_every_data_set_cites_a_paper_of_the_bibliography(bibliography):
    registry = (ROOT / "src/emseg/data/registry.json").read_text(encoding="utf-8")
    cited = set(re.findall(r'"citation":\s*"([^"]+)"', registry))
    assert cited
    assert cited <= set(bibliography.entries)


def test_the_citation_file_agrees_with_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {"cff-version", "message", "title", "authors", "version", "license"} <= set(citation)
    assert str(citation["version"]) == project["version"]
    assert citation["license"] == project["license"]
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in project["authors"]]
    assert project["authors"][0]["name"] in (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_the_citation_file_cites_both_papers_as_the_bibliography_does(bibliography):
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    titles = {reference["title"] for reference in citation["references"]}
    known = {
        bibliography.entries[key].fields["title"].replace("{", "").replace("}", "")
        for key in ("fanet2021", "urisc2022")
    }
    assert titles == known
