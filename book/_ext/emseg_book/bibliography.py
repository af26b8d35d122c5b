"""Roles in the bibliography that screen readers understand.

Docutils marks a bibliography as a list whose entries have the role `doc-biblioentry`. ARIA has deprecated that role and
no longer counts it as an entry of a list, so the list is announced as empty. `listitem` says the same and is valid.
"""

from typing import Any

from sphinx.application import Sphinx

DEPRECATED_ROLE = 'role="doc-biblioentry"'
VALID_ROLE = 'role="listitem"'


def name_roles(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Replace the deprecated role in a page's body; connected to Sphinx's `html-page-context`."""
    if "body" in context:
        context["body"] = context["body"].replace(DEPRECATED_ROLE, VALID_ROLE)
