"""Interactive figures work by keyboard and by pointer, ask nothing of a network, and print as still pictures."""

import base64
import io
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from chapters.drawing.interactive import slider, swipe
from emseg.errors import UsageError

GREYS = [np.full((40, 60), grey, np.uint8) for grey in (0, 60, 120, 180, 240)]
LABELS = [f"grey {image[0, 0]}" for image in GREYS]
SHOWN = "() => [...document.querySelectorAll('img')].filter(one => one.checkVisibility()).map(one => one.alt)"


def grey_slider():
    return slider(GREYS, LABELS, name="brightness", alts=[f"A plain picture, {label}" for label in LABELS], start=1)


def black_and_white():
    return swipe(GREYS[0], GREYS[-1], labels=("dark", "light"), alts=("A dark picture", "A light picture"))


def images(html):
    return [Image.open(io.BytesIO(base64.b64decode(one))) for one in re.findall(r'base64,([^"]+)"', html)]


def test_pictures_are_embedded_in_order_with_their_own_text():
    """Nothing is fetched: each picture stands in the output, in the order given."""
    found = grey_slider()._repr_mimebundle_()
    greys = [image.convert("L").getpixel((5, 5)) for image in images(found["text/html"])]
    assert greys == pytest.approx([0, 60, 120, 180, 240], abs=3)
    assert re.findall(r'alt="([^"]+)"', found["text/html"]) == [f"A plain picture, {label}" for label in LABELS]
    assert not re.search(r"https?:|<script", found["text/html"])
    assert found["text/plain"] == "brightness: grey 0, grey 60, grey 120, grey 180, grey 240"


def test_a_small_patch_of_colour_on_grey_keeps_its_colour():
    """A palette made for the many greys would lose the few red pixels of an attribution map."""
    picture = np.random.default_rng(0).integers(0, 256, (200, 200, 1), np.uint8).repeat(3, axis=2)
    picture[90:102, 90:102] = (213, 94, 0)
    (found,) = images(swipe(picture, picture, labels=("a", "b"), alts=("c", "d")).html)[:1]
    assert found.getpixel((96, 96)) == pytest.approx((213, 94, 0), abs=25)


def test_a_figure_is_drawn_sharply_and_closed():
    """A notebook would show an open figure a second time below the slider."""
    drawn = [plt.figure(figsize=(2, 1)) for _ in range(2)]
    html = slider(drawn, ("a", "b"), name="figure", alts=("first", "second")).html
    assert {image.size for image in images(html)} == {(320, 160)}
    assert "width:220px" in html
    assert not set(map(id, drawn)) & {id(plt.figure(number)) for number in plt.get_fignums()}


def test_markup_in_words_is_escaped():
    html = slider(GREYS[:2], ("<b>", '"'), name="x & y", alts=("a < b", "c")).html
    assert "<b>" not in html
    assert "x &amp; y" in html
    assert "a &lt; b" in html
    assert 'data-label="&quot;"' in html


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: slider(GREYS[:1], LABELS[:1], name="n", alts=["one"]), "needs two frames or more"),
        (lambda: slider(GREYS, LABELS[:2], name="n", alts=LABELS), "got 5 frames, 2 labels"),
        (lambda: slider(GREYS, LABELS, name="n", alts=LABELS, start=5), "start=5"),
        (lambda: swipe(GREYS[0], GREYS[1][:-1], labels=("a", "b"), alts=("a", "b")), "got 40 x 60 and 39 x 60"),
        (lambda: swipe(*GREYS[:2], labels=("a", "b"), alts=("a", "b"), start=101), "start=101"),
    ],
)
def test_what_cannot_be_shown_is_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()


@pytest.fixture
def page(browser):
    """A page with both figures, as wide as a phone's."""
    page = browser.new_context(viewport={"width": 390, "height": 600}).new_page()
    page.set_content(grey_slider().html + black_and_white().html)
    yield page
    page.close()


def test_the_slider_works_by_keyboard_and_announces_its_position(page):
    page.keyboard.press("Tab")
    assert page.evaluate(SHOWN)[:1] == ["A plain picture, grey 60"]
    page.keyboard.press("ArrowRight")
    assert page.evaluate(SHOWN)[:1] == ["A plain picture, grey 120"]
    page.keyboard.press("End")
    assert page.evaluate(SHOWN) == ["A plain picture, grey 240", "A dark picture", "A light picture"]
    control = page.get_by_role("slider", name="brightness")
    assert control.get_attribute("aria-valuetext") == "grey 240"
    assert page.locator(".now").inner_text() == "grey 240"


def test_the_swipe_moves_by_keyboard_and_by_pointer(page):
    """The line's place decides where the second picture begins."""
    edge = "getComputedStyle(document.querySelector('.pair>div+div')).clipPath"
    control = page.get_by_role("slider", name="Line between dark or light")
    control.focus()
    page.keyboard.press("Home")
    assert page.evaluate(edge) == "inset(0px 0px 0px 0%)"
    page.keyboard.press("End")
    assert page.evaluate(edge) == "inset(0px 0px 0px 100%)"
    box = page.locator(".pair").bounding_box()
    page.mouse.click(box["x"] + 0.25 * box["width"], box["y"] + 5)
    assert control.input_value() == "25"


@pytest.mark.parametrize("where", ["in print", "without scripts"])
def test_the_static_version_shows_the_pictures_without_controls(browser, where):
    """First, middle and last picture of a slider; both of a swipe, side by side."""
    page = browser.new_context(java_script_enabled=where == "in print").new_page()
    page.set_content(grey_slider().html + black_and_white().html)
    page.emulate_media(media="print" if where == "in print" else "screen")
    seen = [one.get_attribute("alt") for one in page.locator("img").all() if one.is_visible()]
    assert seen == [*(f"A plain picture, grey {n}" for n in (0, 120, 240)), "A dark picture", "A light picture"]
    assert not page.locator("input").first.is_visible()
    dark, light = (page.get_by_alt_text(text).bounding_box() for text in ("A dark picture", "A light picture"))
    assert dark["y"] == light["y"]
    assert dark["x"] + dark["width"] <= light["x"]
    page.close()
