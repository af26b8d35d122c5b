"""What the two papers report and claim, as data, and what the book's runs say about it."""

from emseg.reported.claims import (
    VERDICTS,
    Claim,
    Judged,
    Measured,
    Verdict,
    count_verdicts,
    judge,
    load_claims,
    read_claims,
    verdicts_from_records,
    verdicts_of_run,
)
from emseg.reported.display import DisplayTable, claims_table, judged_table, text_table, verdict_markup, verdict_table
from emseg.reported.tables import Reported, load_reported, read_reported, select_reported

__all__ = [
    "VERDICTS",
    "Claim",
    "DisplayTable",
    "Judged",
    "Measured",
    "Reported",
    "Verdict",
    "claims_table",
    "count_verdicts",
    "judge",
    "judged_table",
    "load_claims",
    "load_reported",
    "read_claims",
    "read_reported",
    "select_reported",
    "text_table",
    "verdict_markup",
    "verdict_table",
    "verdicts_from_records",
    "verdicts_of_run",
]
