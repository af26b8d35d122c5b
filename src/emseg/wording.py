"""How numbers are written for people: significant digits, powers of ten, units; in plain text and in HTML.

Plain text writes a power of ten as 10^n, with the typographic minus sign; `as_html` turns that into a superscript.
"""

import html
import math
import re

MINUS = "\N{MINUS SIGN}"
THIN_SPACE = "\N{NARROW NO-BREAK SPACE}"
_LARGEST_WHOLE = 1e7  # a larger whole number is written as a power of ten
_EXPONENT = re.compile(r"([\d.,]+)e([+-]\d+)", re.IGNORECASE)
_POWER = re.compile(rf"10\^({MINUS}?\d+)")


def format_number(value: float, digits: int = 4, *, trailing_zeros: bool = False) -> str:
    """Return `value` with `digits` significant digits: "0.1235", "12,345", "1.5 × 10^−13", "10^−12".

    Whole numbers stay whole; `trailing_zeros` keeps those of others, so that 1.2 to three digits is "1.20".
    """
    if float(value).is_integer() and abs(value) < _LARGEST_WHOLE:
        return typeset(f"{int(value):,}")
    text = f"{value:#.{digits}g}".rstrip(".") if trailing_zeros else f"{value:.{digits}g}"
    return typeset(text)


def decimals_of(half_width: float) -> int | None:
    """Return the last decimal that an uncertainty supports, two significant digits of it; None without an uncertainty.

    Negative for tens and more: a half-width of 1500 supports hundreds, -2.
    """
    return 1 - math.floor(math.log10(half_width * (1 + 1e-9))) if half_width > 0 else None


def format_measured(value: float, half_width: float = 0.0) -> str:
    """Return `value` no finer than the half-width of its interval (or spread): 0.21963 with 0.0047 is "0.2196".

    Without a half-width it has four significant digits.
    """
    decimals = decimals_of(half_width)
    if decimals is None or not 1e-4 <= half_width < _LARGEST_WHOLE:
        return format_number(value)
    rounded = round(value, decimals)
    return typeset(f"{rounded + 0.0:,.{max(decimals, 0)}f}")


def typeset(text: str) -> str:
    """Return a formatted number with its exponent as a power of ten and a typographic minus sign."""
    text = _EXPONENT.sub(_power_of_ten, text)
    return text.replace("-", MINUS)


def as_html(text: str) -> str:
    """Return plain text as HTML, escaped, its powers of ten as superscripts."""
    return _POWER.sub(r"10<sup>\1</sup>", html.escape(text))


def _power_of_ten(found: re.Match[str]) -> str:
    power = f"10^{int(found[2])}"
    return power if found[1] == "1" else f"{found[1]} × {power}"
