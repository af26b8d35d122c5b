"""English search that keeps hyphenated words, such as V-Rand and U-RISC, in addition to their parts.

A query for such a word finds the pages that write it so; where none does, its parts are searched for.
"""

import re

from sphinx.search.en import SearchEnglish

_HYPHENATED = re.compile(r"\w+(?:-\w+)+")


class HyphenatedEnglish(SearchEnglish):
    """Sphinx's English with hyphenated words in the index, and a splitter of queries that looks for them."""

    js_splitter_code = r"""
function splitQuery(query) {
  const known = word => typeof Search !== "undefined" && Search._index
    && (word in Search._index.terms || word in Search._index.titleterms);
  return query.split(/[^\p{Letter}\p{Number}_\p{Emoji_Presentation}-]+/gu).flatMap(word =>
    known(word.toLowerCase()) ? [word] : word.split("-")).filter(Boolean);
}
"""

    def split(self, input: str) -> list[str]:
        """Return the words of a text, hyphenated ones as a whole and in parts."""
        return [*super().split(input), *_HYPHENATED.findall(input)]

    def stem(self, word: str) -> str:
        """Return the stem of a word; a hyphenated one stays as it is."""
        return word.lower() if "-" in word else super().stem(word)
