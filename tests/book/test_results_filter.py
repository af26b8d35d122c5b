"""The table of all claims is filtered by keyboard, and whole without a script."""

import pytest
from playwright.sync_api import Browser

pytestmark = pytest.mark.browser
VISIBLE = "[...document.querySelectorAll('table.emseg-results tbody tr')].filter(row => row.checkVisibility())"


def test_the_table_shows_the_chosen_rows_alone_and_all_again(site: str, browser: Browser) -> None:
    """Choose a verdict by its first letters, then a paper, then "Show all", without a mouse."""
    page = browser.new_page()
    page.goto(site + "book/results.html")
    n_all = page.evaluate(f"{VISIBLE}.length")
    page.locator("select[name=verdict]").focus()
    page.keyboard.type("no v")
    verdicts = page.evaluate(f"{VISIBLE}.map(row => row.dataset.verdict)")
    assert set(verdicts) == {"no verdict"}  # of both papers
    assert 0 < len(verdicts) < n_all
    assert page.locator("form.emseg-filter output").inner_text() == f"{len(verdicts)} of {n_all} rows"
    page.keyboard.press("Tab")
    page.keyboard.type("U")
    papers = page.evaluate(f"{VISIBLE}.map(row => row.dataset.paper)")
    assert set(papers) == {"urisc"}
    assert len(papers) < len(verdicts)
    page.get_by_role("button", name="Show all").focus()
    page.keyboard.press("Enter")
    page.wait_for_function(f"{VISIBLE}.length === {n_all}")
    page.close()


def test_the_whole_table_shows_without_a_script(site: str, browser: Browser) -> None:
    """The filter is hidden, since it would do nothing."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(site + "book/results.html")
    assert page.locator("form.emseg-filter").is_hidden()
    rows = page.locator("table.emseg-results tbody tr")
    assert rows.count() > 60
    assert rows.last.is_visible()
    context.close()
