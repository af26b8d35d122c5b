"""How the facts of a run read: times, memory, device, commit."""

from datetime import UTC, datetime
from html import escape
from typing import Any

from emseg.wording import format_number
from emseg_book.evidence import Evidence, Record
from emseg_book.markup import link_html

MIB_PER_GIB = 1024
NM_PER_UM = 1000
SHORT_HASH = 7


def run_anchor(run_id: str) -> str:
    """Return the anchor of a run in the ledger."""
    return f"run-{run_id}"


def when(stamp: str) -> str:
    """Return "2026-11-21 20:30 UTC" for an ISO time."""
    return datetime.fromisoformat(stamp).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def duration(seconds: float) -> str:
    """Return a duration in the two largest units that matter: "0.4 s", "12 s", "3 min 20 s", "1 h 05 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def memory(mebibytes: float | None) -> str:
    """Return a size such as "512 MiB" or "1.5 GiB", or a dash when it was not measured."""
    if mebibytes is None:
        return "–"
    return f"{mebibytes:.0f} MiB" if mebibytes < MIB_PER_GIB else f"{mebibytes / MIB_PER_GIB:.1f} GiB"


def peak_memory(record: Record) -> str:
    """Return the largest memory of the host, and of the GPU where one was used."""
    peak = record["peak_memory"]
    gpu = "" if peak.get("gpu") is None else f" + {memory(peak['gpu'])} GPU"
    return memory(peak.get("host")) + gpu


def pixel_size(nanometres: float) -> str:
    """Return a pixel size such as "2.18 nm", or "35.71 µm" for the pictures of whole wafers."""
    if nanometres < NM_PER_UM:
        return f"{format_number(nanometres)} nm"
    return f"{format_number(nanometres / NM_PER_UM)} µm"


def device(environment: dict[str, Any]) -> str:
    """Return the device's name, with the number of cores for a CPU."""
    name = str(environment["device"]).replace("(R)", "").replace("(TM)", "")
    cores = environment.get("cores")
    if environment["device_kind"] != "cpu" or not cores:
        return name
    return f"{name}, {cores} core{'' if cores == 1 else 's'}"


def commit_html(code: dict[str, Any], repository_url: str) -> str:
    """Return the short commit, linked to the repository when there is one, and whether the tree had other changes."""
    commit = code.get("commit")
    if not commit:
        return "no commit known"
    short = f"<code>{escape(commit[:SHORT_HASH])}</code>"
    text = link_html(f"{repository_url}/commit/{commit}", short) if repository_url else short
    return text + (" with uncommitted changes" if code.get("tree_clean") is False else "")


def code_age(evidence: Evidence, record: Record) -> str:
    """Return whether the code of a run, and of the runs that it gathers, is the present code."""
    older = evidence.is_older_code(record)
    own = {None: "chapter is gone", True: "older code", False: "present code"}[older]
    if not (gathered := evidence.gathered(record)):
        return own
    n_older = evidence.n_older(record) - (older is not False)
    return f"{own}; {n_older or 'none'} of {len(gathered)} gathered runs of older code"
