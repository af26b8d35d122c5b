"""The role `{reported}`: a number as one of the papers prints it, looked up in our transcription and never typed.

    {reported}`fanet#mask_ap; detector=Mask R-CNN; backbone=ResNet-34; attention=FANet`

The columns after the first semicolon must single out one row of `emseg.reported`, with the place (`place=Introduction`)
where the paper gives a number twice; anything else is a warning, and fails the build where warnings are errors. The
chip reads "paper", so that no reported number can be taken for one of ours.
"""

from html import escape

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxRole

from emseg.errors import InputError, UsageError
from emseg.reported import load_reported, select_reported

logger = logging.getLogger(__name__)


class ReportedRole(SphinxRole):
    """Looks a reported number up."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Return the number as printed, or nothing but a warning when the key fits no row or several."""
        try:
            html = reported_html(self.text)
        except (InputError, UsageError) as error:
            logger.warning("{reported}`%s`: %s", self.text, error, location=self.get_location(), type="emseg")
            return [nodes.inline("", f"[not reported: {self.text}]")], []
        return [nodes.raw("", html, format="html")], []


def reported_html(text: str) -> str:
    """Return the HTML for the text of a role; raises `UsageError` unless it fits exactly one row with a number."""
    source, *conditions = [part.strip() for part in text.split(";")]
    paper, separator, quantity = source.partition("#")
    pairs = [condition.partition("=") for condition in conditions]
    if not separator or not all(equals for _, equals, _ in pairs):
        raise UsageError(f"a reported number reads paper#quantity; column=value; ...; got {text!r}.")
    subject = {column.strip(): value.strip() for column, _, value in pairs}
    place = subject.pop("place", None)
    rows = [row for row in load_reported(paper) if place in (None, row.place)]
    if not rows:
        known = ", ".join(sorted({row.place for row in load_reported(paper)}))
        raise UsageError(f"nothing is reported from the place {place!r} of {paper}. Places: {known}.")
    rows = list(select_reported(rows, quantity, **subject))
    if len(rows) > 1:
        subjects = "; or ".join(", ".join(f"{column}={value}" for column, value in row.subject) for row in rows[:4])
        raise UsageError(f"{len(rows)} rows fit. Add columns that single out one: {subjects}.")
    row = rows[0]
    if not row.printed:
        raise UsageError(f"the paper's {quantity} is {row.status.replace('_', ' ')}; there is no number to show.")
    title = f"{row.place}, {row.status}" + (f"; {row.note}" if row.note else "")
    return (
        f'<span class="emseg-reported" title="{escape(title)}"><span class="emseg-number">{escape(row.printed)}</span> '
        '<span class="emseg-kind emseg-kind-paper">paper</span></span>'
    )
