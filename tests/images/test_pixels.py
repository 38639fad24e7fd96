"""Hatched outputs, heat maps and ticks."""

import numpy as np
import pytest

from conformask.images import pictures as pixels
from conformask.images import svg


def test_hidden_pixels_are_hatched_the_stronger_the_less_trusted() -> None:
    gray = np.full((200, 180), 100, np.uint8)
    assert (pixels.overlay(gray, np.full_like(gray, 255)) == 100).all()
    hidden = pixels.overlay(gray, np.zeros((200, 180, 3), np.uint8)).astype(int)
    assert np.abs(hidden[0, 0] - 0.9 * np.array(pixels.HATCH) - 0.1 * 100).max() <= 0.5
    assert hidden[0, 3].max() < 100, "a dark edge"
    assert (hidden[0, 5:8] == 100).all(), "what is between stripes is seen"
    np.testing.assert_array_equal(hidden[0, 7:], hidden[7, :-7])
    np.testing.assert_array_equal(hidden[:, :-12], hidden[:, 12:])
    half = pixels.overlay(gray, np.full_like(gray, 127)).astype(int)
    np.testing.assert_allclose(half - 100, (hidden - 100) / 2, atol=1.5)


@pytest.mark.parametrize(("side", "drawn", "period"), [(64, 320, 12), (900, 640, 24)])
def test_stripes_are_drawn_at_the_size_of_the_page(side: int, drawn: int, period: int) -> None:
    gray = np.zeros((side, side), np.uint8)
    row = pixels.shrunk_overlay(gray, gray, 640)[0, :, 0]
    assert len(row) == drawn
    np.testing.assert_array_equal(row[:-period], row[period:])
    assert row[0] > row[period // 2] == 0, "no more stripes than that"


def test_heat() -> None:
    assert pixels.heat(np.zeros((4, 5, 3), np.uint8)).max() <= 4
    assert (pixels.heat(np.full((4, 5), 255, np.uint8))[0, 0] == [252, 255, 164]).all()


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.013, 0.0171), (-5, 7), (0, 12345), (0.3, 0.3)])
def test_ticks_are_few_and_inside(low: float, high: float) -> None:
    found = svg.ticks(low, high)
    assert 1 <= len(found) <= 7
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in found)
