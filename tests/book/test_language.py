"""The language of pages, docstrings and command-line help: no words that a reader has to translate back.

The list is the house style's: all-purpose verbs, archaic pronouns, and plain words used instead of a term of the field.
`ALLOWED` names the phrases in which a listed word is the idiomatic one.
"""

import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

BANNED = {
    "all-purpose verb": "stands?|standing|stood|tells?|told|says?|saying|said|holds?|holding|goes on|gone on",
    "archaic": "whoever|nobody|somebody|upon|beside|wherever|of (?:its|their) own|so many|(?:is|are) no|in place of",
    "not the term of art": "way back|images to choose by|asked for|an? share|the share|shares? of|gives? way",
    "not idiomatic": "(?:papers?|book|it|they) (?:has|have) not(?! been)|no matter which|to be had",
    "an aphorism seen before": "feels that|teach more than a score|need not help",
}
ALLOWED = (
    "h[eo]lds?[ -](?:out|up|for|if|when|with equality|exactly)|stand-ins?|stands? for|stand(?:s|ing)? out|"
    "standing wave|there (?:is|are) no|(?:is|are) no (?:longer|more|larger|smaller|better|worse)"
)
_BANNED = re.compile("|".join(rf"(?P<p{i}>\b(?:{words})\b)" for i, words in enumerate(BANNED.values())), re.IGNORECASE)
_ALLOWED = re.compile(rf"\b(?:{ALLOWED})\b", re.IGNORECASE)
_CODE = re.compile(  # code, formulas, HTML, addresses, quotations
    r"```(?:(?!\{)|\{(?:math|code))[^\n]*\n.*?```|(?<!`)`{1,2}(?!`)[^`]+`{1,2}|\$\$.*?\$\$|\$[^$]+\$|"
    r"<[^>]+>|\]\([^)]*\)|"
    r"\"[^\"]{25,}\"|“[^”]+”",
    re.DOTALL,
)


def pages() -> Iterator[tuple[Path, str]]:
    """Yield each page's prose: Markdown files, and the Markdown cells and captions of notebooks."""
    for path in (ROOT / "README.md", *sorted((ROOT / "book").glob("*.md"))):
        yield path, path.read_text()
    for path in sorted((ROOT / "book").glob("*/*.ipynb")):
        for cell in json.loads(path.read_text())["cells"]:
            figure = cell["metadata"].get("mystnb", {})
            prose = "".join(cell["source"]) if cell["cell_type"] == "markdown" else ""
            texts = [prose, figure.get("figure", {}).get("caption", ""), figure.get("image", {}).get("alt", "")]
            yield path, "\n\n".join(filter(None, texts))


def code() -> Iterator[tuple[Path, str]]:
    """Yield docstrings, help texts and messages: every string of the library and of the chapters' modules."""
    for path in sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "book").rglob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
                yield path, node.value


def findings(text: str) -> list[str]:
    """Return the banned words of `text`, each with its surroundings."""
    text = _CODE.sub(lambda code: " " * len(code.group()), text)
    text = _ALLOWED.sub(lambda phrase: " " * len(phrase.group()), text)
    found = []
    for match in _BANNED.finditer(text):
        around = text[max(0, match.start() - 40) : match.end() + 40].replace("\n", " ")
        found.append(f"{list(BANNED)[int(match.lastgroup[1:])]}: {match.group()!r} in ...{' '.join(around.split())}...")
    return found


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("an image on which there is nothing to tell", "tell"),
        ("which the paper has not", "paper has not"),
        ("nobody drew it upon the wafer", "nobody"),
        ("The way back must make up for it.", "way back"),
        ("```{note}\nNobody knows.\n```", "Nobody"),
    ],
)
def test_a_listed_word_is_found(text: str, word: str) -> None:
    """Each kind of listed word is found where it occurs in a sentence."""
    assert any(repr(word) in finding for finding in findings(text))


@pytest.mark.parametrize(
    "text", ["a held-out test set", "`say` is a name", "it stands for the sum", "$x$ is no longer $y$"]
)
def test_idiomatic_phrases_pass(text: str) -> None:
    """Phrases in which a listed word is idiomatic, and code, are not reported."""
    assert not findings(text)


@pytest.mark.parametrize("source", [pages, code])
def test_prose_uses_the_terms_of_the_field(source) -> None:
    """No page, caption, docstring or help text contains a listed word outside the allowed phrases."""
    found = [f"{path.relative_to(ROOT)}: {finding}" for path, text in source() for finding in findings(text)]
    assert not found, f"{len(found)} places:\n" + "\n".join(found)


if __name__ == "__main__":  # python tests/book/test_language.py [PART OF A PATH]: list the findings
    for path, text in (*pages(), *code()):
        for finding in findings(text) if (sys.argv[1:] or [""])[0] in str(path) else ():
            print(f"{path.relative_to(ROOT)}: {finding}")
