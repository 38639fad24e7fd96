"""Scores by tiles: those of one pass, where the network does not look too far."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from conformask.arrays import Score
from conformask.errors import InvalidArgumentError, MismatchError
from conformask.scores.network_scorer import network_input
from conformask.scores.networks import SliceWise, UNet, channels_of
from conformask.scores.scorer import Heuristic, Scorer
from conformask.scores.steps import Tiled, spans
from conformask.scores.steps import tiled as tiled_for

TILE, OVERLAP = 128, 32


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def convolution(reach: int, channels: int = 2) -> nn.Module:
    """A random kernel that looks `reach` pixels far, edges repeated."""
    side = 2 * reach + 1
    weight = noise(0, 1, channels, side, side) / side**2

    def network(images: torch.Tensor) -> torch.Tensor:
        return F.conv2d(F.pad(images, (reach,) * 4, mode="replicate"), weight).abs()

    return network


def near(reach: int, channels: int = 2) -> Tiled:
    network = convolution(reach, channels)
    scorer = Heuristic(lambda x, y_hat: network(network_input(x, y_hat)), channels=channels - 1)
    return Tiled(scorer, TILE, OVERLAP)


@pytest.mark.parametrize("length", [1, 128, 129, 160, 224, 225, 1000, 1021, 4096])
@pytest.mark.parametrize("factor", [1, 2, 4, 3])
def test_weights_sum_to_one_and_tiles_overlap(length: int, factor: int) -> None:
    tiled = Tiled(near(1).scorer) if factor == 3 else near(1)
    length *= factor
    along, sums = spans(length, tiled.tile, tiled.overlap, factor=factor), np.zeros(length)
    for span in along:
        assert 0 < span.stop - span.start <= tiled.tile
        assert span.start % factor == span.stop % factor == 0
        sums[span.start : span.stop] += span.weight
        assert (span.weight >= 0).all()
    np.testing.assert_allclose(sums, 1, atol=1e-6)
    assert (along[0].start, along[-1].stop) == (0, length)
    assert all(left.stop - right.start >= tiled.overlap for left, right in pairwise(along))


def test_the_fewest_tiles_share_the_work() -> None:
    """1500 pixels in two tiles of 800, of which a whole one and three quarters would be seen otherwise."""
    assert [(span.start, span.stop) for span in spans(1500, 1024, 64)] == [(0, 800), (736, 1500)]
    assert [(span.start, span.stop) for span in spans(72, 64, 4, grain=1)] == [(0, 38), (34, 72)]


@pytest.mark.parametrize("size", [(129, 128), (300, 261), (224, 417)])
def test_as_one_pass_where_the_network_looks_a_quarter_of_the_overlap(size: tuple[int, int]) -> None:
    tiled = near(OVERLAP // 4)
    x, y_hat = noise(1, 2, 1, *size), noise(2, 2, 1, *size)
    torch.testing.assert_close(tiled(x, y_hat).map, tiled.scorer(x, y_hat).map, rtol=0, atol=1e-5)


def test_not_as_one_pass_where_it_looks_further() -> None:
    """So that the test above could fail."""
    tiled = near(OVERLAP)
    x, y_hat = noise(1, 1, 1, 300, 261), noise(2, 1, 1, 300, 261)
    assert (tiled(x, y_hat).map - tiled.scorer(x, y_hat).map).abs().max() > 1e-4


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_a_smaller_x_is_cut_where_y_hat_is(factor: int) -> None:
    tiled = Tiled(near(3).scorer, 512, OVERLAP)
    x, y_hat = noise(1, 1, 1, 290, 170), noise(2, 1, 1, 290 * factor, 170 * factor)
    torch.testing.assert_close(tiled(x, y_hat).map, tiled.scorer(x, y_hat).map, rtol=0, atol=1e-5)


def test_a_strided_network_sees_the_same_grid() -> None:
    """Pooling over 8 pixels would differ in tiles that start elsewhere."""

    def pooled(x: torch.Tensor, y_hat: torch.Tensor) -> torch.Tensor:
        return F.interpolate(F.avg_pool2d(y_hat, 8, ceil_mode=True), scale_factor=8)[
            ..., : y_hat.shape[-2], : y_hat.shape[-1]
        ]

    tiled = Tiled(Heuristic(pooled, channels=1), TILE, OVERLAP)
    y_hat = noise(1, 1, 1, 301, 262)
    torch.testing.assert_close(tiled(y_hat, y_hat).map, pooled(y_hat, y_hat), rtol=0, atol=1e-5)


def test_blending_has_no_seam() -> None:
    """Tiles that disagree by 1 all over: no step between neighbours is above that of the raised cosine."""
    calls = iter(range(100))
    tiled = Tiled(
        Heuristic(lambda x, y_hat: torch.full_like(y_hat, next(calls) % 2), channels=1), TILE, OVERLAP
    )
    y_hat = noise(1, 1, 1, 128, 500)
    steps = tiled(y_hat, y_hat).map.diff(dim=-1).abs()
    assert 0 < steps.max() <= np.pi / 2 / (OVERLAP // 2) * 1.01


def test_one_tile_is_one_pass_of_any_shape() -> None:
    tiled = near(3)
    x, y_hat = noise(1, 1, 1, 50, 45), noise(2, 1, 1, 128, 100)
    assert torch.equal(tiled(x, y_hat).map, tiled.scorer(x, y_hat).map)


def test_it_is_a_scorer_and_keeps_what_its_scorer_says() -> None:
    tiled = near(3)
    assert isinstance(tiled, Scorer)
    assert (tiled.channels, tiled.per_channel, tiled.sizes) == (1, False, None)
    others = (tiled.scorer, Tiled(tiled.scorer, 256, OVERLAP), Tiled(tiled.scorer, 256, 64))
    assert len({tiled.fingerprint, *(other.fingerprint for other in others)}) == 4


@pytest.mark.parametrize(("tile", "overlap"), [(100, 32), (128, 0), (128, 64), (128, 20), (0, 0)])
def test_tiles_that_cannot_be(tile: int, overlap: int) -> None:
    with pytest.raises(InvalidArgumentError, match=f"tile {tile} and overlap {overlap}"):
        Tiled(near(1).scorer, tile, overlap)


@pytest.mark.parametrize("x_size", [(150, 150), (600, 600), (150, 300), (300, 100), (10, 10)])
def test_an_x_that_tiles_cannot_follow(x_size: tuple[int, int]) -> None:
    with pytest.raises(MismatchError, match=f"{x_size[0]} x {x_size[1]}|10 times|30 times"):
        near(1)(noise(1, 1, 1, *x_size), noise(2, 1, 1, 300, 290))


def test_features_are_refused() -> None:
    class Looking(Heuristic):
        def __call__(self, x, y_hat):
            return Score(y_hat, y_hat.mean(dim=(2, 3)))

    with pytest.raises(MismatchError, match="features"):
        Tiled(Looking(lambda x, y_hat: y_hat, channels=1), TILE, OVERLAP)(
            noise(1, 1, 1, 200, 200), noise(2, 1, 1, 200, 200)
        )


def by_slices_of(planes: UNet) -> Heuristic:
    """A scorer that sees volumes slice by slice."""
    network = SliceWise(planes).eval()
    scorer = Heuristic(lambda x, y_hat: network(y_hat).abs(), channels=1)
    object.__setattr__(scorer, "network", network)
    return scorer


def test_tiles_of_volumes_by_slices_overlap_by_what_a_slice_sees() -> None:
    scorer, other = by_slices_of(UNet(channels_of(1), 1, width=4, levels=2)), near(1).scorer
    sizes = [(200, 40, 44)]
    by_slices = tiled_for(scorer, 3)
    assert by_slices.tiles == ((64, 1024, 1024), (4, 64, 64))
    assert [len(along) for along in by_slices.spans((130, 1100, 30))] == [3, 2, 1]
    assert by_slices.holding(sizes).tile == (200, 1024, 1024)
    assert tiled_for(other, 3).tiles == (128, 32)
    assert tiled_for(scorer, 2).tiles == (1024, 64)
    with pytest.raises(InvalidArgumentError, match="multiples of 32"):
        Tiled(scorer, (64, 1000, 1024), (4, 64, 64))
    with pytest.raises(InvalidArgumentError, match="a quarter"):
        Tiled(scorer, (64, 1024, 1024), (20, 64, 64))
    with pytest.raises(MismatchError, match="do not fit images with 2 axes"):
        by_slices.holds((30, 30))


def test_by_slices_tiles_are_one_pass_along_the_first_axis() -> None:
    scorer = by_slices_of(UNet(channels_of(1), 1, width=4, levels=1))
    y_hat = noise(5, 1, 1, 33, 20, 24)
    with torch.no_grad():
        whole = Tiled(scorer, (64, 128, 128), (4, 32, 32))(y_hat, y_hat).map
        parts = Tiled(scorer, (16, 128, 128), (4, 32, 32))(y_hat, y_hat).map
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-5)
