"""Hatched outputs, heat maps, ticks, and the slices of a volume that pictures show."""

import nibabel
import numpy as np
import pytest

from conformask.images import pictures as pixels
from conformask.images import svg
from conformask.images.pictures import planes_of, select_slices
from conformask.records.geometry import Geometry, affine_of


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


SIDES = {"R": 5, "A": 6, "S": 7}
"""Voxels from left to right, from posterior to anterior, from inferior to superior."""


def volume_in(orientation: str) -> tuple[np.ndarray, np.ndarray, Geometry]:
    """One body stored another way, (1, D, H, W): how far superior each voxel lies, and which it is."""
    body = np.arange(np.prod(list(SIDES.values())), dtype=np.float32).reshape(tuple(SIDES.values()))
    superior = np.broadcast_to(np.arange(SIDES["S"], dtype=np.float32), body.shape)
    images = []
    for values in (superior, body):
        there = nibabel.orientations.axcodes2ornt(orientation)
        moved = nibabel.orientations.ornt_transform(nibabel.orientations.axcodes2ornt("RAS"), there)
        image = nibabel.Nifti1Image(values, np.eye(4)).as_reoriented(moved)
        images.append(image.get_fdata(dtype=np.float32).T[None])
    return images[0], images[1], Geometry((1.0, 1.0, 1.0), "mm", affine_of(image.affine))


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PSR", "ILA"])
def test_slices_are_axial_and_upright_however_they_are_stored(orientation: str) -> None:
    superior, body, geometry = volume_in(orientation)
    mask = np.where(superior == 5, 0.25, 1.0).astype(np.float32)
    error = (superior == 2).astype(np.float32)
    shown = {what: planes for planes, what in planes_of(mask, body, geometry=geometry, error=error)}
    straight = np.arange(5 * 6 * 7).reshape(5, 6, 7)
    for level, what in ((5, "most hidden"), (2, "largest error"), (3, "middle")):
        (planes,) = (planes for text, planes in shown.items() if text.endswith(what))
        np.testing.assert_array_equal(planes[1][0], straight[::-1, ::-1, level].T)


def test_without_a_place_they_are_as_stored() -> None:
    mask = np.ones((1, 4, 3, 2), np.float32)
    mask[:, 1] = 0
    image = np.random.default_rng(0).random((2, 4, 3, 2))
    shown = list(planes_of(mask, image, geometry=Geometry((2.0, 1.0, 1.0), "µm")))
    assert [what for _, what in shown] == ["slice 2 of 4, most hidden", "slice 3 of 4, middle"]
    np.testing.assert_array_equal(shown[0][0][1], image[:, 1])


def test_of_an_image_with_fewer_slices_the_nearest() -> None:
    mask = np.ones((1, 8, 3, 2), np.float32)
    mask[:, 6] = 0
    thick = np.arange(4.0).reshape(1, 4, 1, 1) * np.ones((1, 4, 3, 2))
    (hidden, _), _ = planes_of(mask, thick, geometry=None)
    assert (hidden[1] == 3).all()


def test_planes_are_shown_as_they_are() -> None:
    mask = np.ones((1, 3, 2), np.float32)
    assert list(planes_of(mask, None, geometry=None)) == [([mask, None], None)]


def test_one_slice_may_be_telling_in_several_ways() -> None:
    mask = np.ones((1, 3, 2, 2), np.float32)
    mask[:, 1] = 0.5
    assert select_slices(mask, 1 - mask) == {1: "most hidden, largest error, middle"}
