"""Scale bars tell the truth: a round length, drawn as long as it says."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emseg.errors import UsageError
from emseg.figures import add_scale_bar, round_length_nm, show_image


@given(st.floats(1e-3, 1e9))
def test_a_round_length_is_one_two_or_five_and_no_longer_than_asked(longest):
    length = round_length_nm(longest)
    assert longest / 2.5 * (1 - 1e-9) <= length <= longest * (1 + 1e-8)
    assert round(length / 10 ** np.floor(np.log10(length * (1 + 1e-9))), 6) in (1.0, 2.0, 5.0)


@pytest.mark.parametrize("pixel_size_nm", [0.7, 2.18, 4.0, 50.0])
def test_the_bar_is_as_long_as_its_label_says(pixel_size_nm):
    figure, ax = plt.subplots()
    show_image(ax, np.zeros((300, 400)), pixel_size_nm)
    bar, label = ax.patches[0], ax.texts[0].get_text()
    number, unit = label.split()
    length_nm = float(number) * {"nm": 1, "µm": 1000}[unit]
    assert bar.get_width() * pixel_size_nm == pytest.approx(length_nm)
    assert 0.1 * 400 <= bar.get_width() <= 0.255 * 400 * (1 + 1e-9)
    plt.close(figure)


def test_the_bar_and_its_label_are_inside_the_panel():
    """Also in a small panel, whose label is wider than its bar."""
    figure, ax = plt.subplots(figsize=(1.2, 1.2))
    show_image(ax, np.zeros((100, 100)), 2.1)
    figure.canvas.draw()
    panel = ax.get_window_extent()
    for drawn in (ax.patches[0], ax.texts[0]):
        box = drawn.get_window_extent()
        assert panel.contains(box.x0, box.y0)
        assert panel.contains(box.x1, box.y1)
    plt.close(figure)


def test_panels_of_one_field_have_one_bar():
    """2000 nm are 917 pixels of 2.18 nm, 94 of 21.2 nm, 500 of 4 nm; rounding must not change the bar."""
    figure, axes = plt.subplots(1, 3)
    fields = ((917, 2.18), (94, 21.2), (500, 4.0))
    lengths = [add_scale_bar(ax, width, nm) for ax, (width, nm) in zip(axes, fields, strict=True)]
    assert lengths == [500.0, 500.0, 500.0]
    plt.close(figure)


def test_two_images_share_a_grey_range_when_asked():
    figure, axes = plt.subplots(1, 2)
    for ax, peak in zip(axes, (10.0, 200.0), strict=True):
        show_image(ax, np.array([[0.0, peak]]), grey_range=(0, 255))
        assert ax.images[0].get_clim() == (0, 255)
    plt.close(figure)


@pytest.mark.parametrize("pixel_size_nm", [0.0, -1.0, float("nan")])
def test_a_pixel_size_that_is_none_is_refused(pixel_size_nm):
    figure, ax = plt.subplots()
    with pytest.raises(UsageError, match="`pixel_size_nm` must be positive"):
        add_scale_bar(ax, 100, pixel_size_nm)
    plt.close(figure)
