"""Numbers are written for people, the same way on every page."""

import pytest

from emseg.wording import as_html, format_number, typeset


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3.0, "3"),
        (12345.0, "12,345"),
        (-12345.0, "−12,345"),
        (0.123456, "0.1235"),
        (-0.5, "−0.5"),
        (1.5e-13, "1.5 × 10^−13"),
        (1e-12, "10^−12"),
        (3e9, "3 × 10^9"),
        (0.0, "0"),
    ],
)
def test_a_number_has_four_digits_and_powers_of_ten(value, text):
    assert format_number(value) == text


@pytest.mark.parametrize(("value", "text"), [(1.2, "1.20"), (120.4, "120"), (2.0, "2"), (1.25e-9, "1.25 × 10^−9")])
def test_trailing_zeros_are_kept_when_asked(value, text):
    assert format_number(value, 3, trailing_zeros=True) == text


def test_html_is_escaped_and_powers_are_raised():
    assert as_html(typeset("a < 2.5e-07")) == "a &lt; 2.5 × 10<sup>−7</sup>"
