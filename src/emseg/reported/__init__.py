"""What the two papers report and claim, as data, and what the book's committed records show."""

from emseg.reported.claims import Claim, judge, load_claims, read_claims
from emseg.reported.display import DisplayTable, claims_table, text_table, verdict_markup, verdict_table
from emseg.reported.tables import Reported, load_reported, read_reported, select_reported
from emseg.reported.verdicts import (
    OUTCOMES,
    Estimate,
    Judged,
    compare,
    count_outcomes,
    judge_records,
    refusals,
    sentence_outcomes,
)

__all__ = [
    "OUTCOMES",
    "Claim",
    "DisplayTable",
    "Estimate",
    "Judged",
    "Reported",
    "claims_table",
    "compare",
    "count_outcomes",
    "judge",
    "judge_records",
    "load_claims",
    "load_reported",
    "read_claims",
    "read_reported",
    "refusals",
    "select_reported",
    "sentence_outcomes",
    "text_table",
    "verdict_markup",
    "verdict_table",
]
