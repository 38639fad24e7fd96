"""Scorers of one's own, and scores by tiles and streams: those of one pass."""

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from conformask.arrays import Score
from conformask.background import Compute, Processes
from conformask.errors import InvalidArgumentError, MismatchError
from conformask.images.triplets import Triplets
from conformask.masker.calibrate import calibrate
from conformask.masker.load import load
from conformask.scores.network_scorer import network_input
from conformask.scores.networks import SliceWise, UNet, channels_of
from conformask.scores.scorer import (
    Heuristic,
    Scorer,
    Tiled,
    WrappedScorer,
    as_scorer,
    spans,
    tiled as tiled_for,
)
from conformask.scores.scoring import gathered, parts_folder
from synthetic_triplets import triplets
from untyped import UNTYPED

CALIBRATION = triplets(40, 0)
BATCH = next(triplets(3, 1).batches(3))


def masks(masker):
    return masker.masks(BATCH.x, BATCH.y_hat)


class Derived(Scorer):
    """States only what it has to."""

    name = "derived"
    channels = 1

    def __init__(self, factor=1.0):
        self.factor = factor

    def __call__(self, x, y_hat):
        return Score(self.factor * x.abs())


class Members:
    """Has the members of a scorer, and no base class."""

    name, loss, channels, per_channel, family = "members", None, 1, False, "power"
    sizes = perceptual_hashes = about = selection = None
    trained_on = frozenset({"a"})
    fingerprint = "mine"

    def __call__(self, x, y_hat):
        return Score(x.abs())

    def save(self, folder):
        Scorer.save(self, folder)


def test_defaults():
    scorer = Derived()
    assert (scorer.family, scorer.x_channels, scorer.per_channel, scorer.trained_on) == (
        "reciprocal", 1, False, frozenset(),
    )  # fmt: skip
    assert {scorer.loss, scorer.sizes, scorer.tiles, scorer.network, scorer.selection, scorer.about} == {None}
    assert torch.equal(scorer.score_map(BATCH.x, BATCH.y_hat), BATCH.x.abs())
    assert scorer.fingerprint == Derived().fingerprint != Derived(2.0).fingerprint


@pytest.mark.leaf("export")
@pytest.mark.parametrize(
    ("make", "family"), [(Derived, "reciprocal"), pytest.param(Members, "power", marks=UNTYPED)]
)
def test_it_is_calibrated_saved_loaded_and_traced(make, family, tmp_path):
    from conformask.extras.export.onnx_graph import Graph

    heuristic = Heuristic(lambda x, y_hat: x.abs(), channels=1, family=family)
    expected, masker = (
        calibrate(scorer, CALIBRATION, threshold=0.03, loss="l1") for scorer in (heuristic, make())
    )
    assert masker.card.family == expected.card.family
    assert torch.equal(masks(masker), masks(expected))
    masker.save(tmp_path)
    again = load(tmp_path, scorer=make())
    assert torch.equal(masks(again), masks(masker))
    with pytest.raises(MismatchError, match="scorer="):
        load(tmp_path, scorer=Derived(3.0))
    lam = torch.full((3,), 0.1, dtype=torch.float64)
    assert torch.equal(Graph(masker)(BATCH.x, BATCH.y_hat, lam)[1], BATCH.x.abs())


@UNTYPED
def test_an_object_is_wrapped_once_and_keeps_what_it_states():
    wrapped, tiled = as_scorer(Members()), Tiled(Members())
    assert isinstance(wrapped, WrappedScorer)
    assert as_scorer(wrapped) is wrapped
    for scorer in (wrapped, tiled, tiled.scorer):
        assert (scorer.name, scorer.family, scorer.trained_on) == ("members", "power", {"a"})
    assert (wrapped.fingerprint, tiled.fingerprint) == ("mine", "mine-1024-64")
    assert (wrapped.tiles, tiled.tiles) == (None, (1024, 64))


TILE, OVERLAP = 128, 32


def noise(seed, *shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def convolution(reach, channels=2):
    """A random kernel that looks `reach` pixels far, edges repeated."""
    side = 2 * reach + 1
    weight = noise(0, 1, channels, side, side) / side**2

    def network(images):
        return F.conv2d(F.pad(images, (reach,) * 4, mode="replicate"), weight).abs()

    return network


def near(reach, channels=2):
    network = convolution(reach, channels)
    scorer = Heuristic(lambda x, y_hat: network(network_input(x, y_hat)), channels=channels - 1)
    return Tiled(scorer, TILE, OVERLAP)


@pytest.mark.parametrize("length", [1, 128, 129, 160, 224, 225, 1000, 1021, 4096])
@pytest.mark.parametrize("factor", [1, 2, 4, 3])
def test_weights_sum_to_one_and_tiles_overlap(length, factor):
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


def test_the_fewest_tiles_share_the_work():
    """1500 pixels in two tiles of 800, of which a whole one and three quarters would be seen otherwise."""
    assert [(span.start, span.stop) for span in spans(1500, 1024, 64)] == [(0, 800), (736, 1500)]
    assert [(span.start, span.stop) for span in spans(72, 64, 4, grain=1)] == [(0, 38), (34, 72)]


@pytest.mark.parametrize("size", [(129, 128), (300, 261), (224, 417)])
def test_as_one_pass_where_the_network_looks_a_quarter_of_the_overlap(size):
    tiled = near(OVERLAP // 4)
    x, y_hat = noise(1, 2, 1, *size), noise(2, 2, 1, *size)
    torch.testing.assert_close(tiled(x, y_hat).map, tiled.scorer(x, y_hat).map, rtol=0, atol=1e-5)


def test_not_as_one_pass_where_it_looks_further():
    """So that the test above could fail."""
    tiled = near(OVERLAP)
    x, y_hat = noise(1, 1, 1, 300, 261), noise(2, 1, 1, 300, 261)
    assert (tiled(x, y_hat).map - tiled.scorer(x, y_hat).map).abs().max() > 1e-4


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_a_smaller_x_is_cut_where_y_hat_is(factor):
    tiled = Tiled(near(3).scorer, 512, OVERLAP)
    x, y_hat = noise(1, 1, 1, 290, 170), noise(2, 1, 1, 290 * factor, 170 * factor)
    torch.testing.assert_close(tiled(x, y_hat).map, tiled.scorer(x, y_hat).map, rtol=0, atol=1e-5)


def test_a_strided_network_sees_the_same_grid():
    """Pooling over 8 pixels would differ in tiles that start elsewhere."""

    def pooled(x, y_hat):
        return F.interpolate(F.avg_pool2d(y_hat, 8, ceil_mode=True), scale_factor=8)[
            ..., : y_hat.shape[-2], : y_hat.shape[-1]
        ]

    tiled = Tiled(Heuristic(pooled, channels=1), TILE, OVERLAP)
    y_hat = noise(1, 1, 1, 301, 262)
    torch.testing.assert_close(tiled(y_hat, y_hat).map, pooled(y_hat, y_hat), rtol=0, atol=1e-5)


def test_blending_has_no_seam():
    """Tiles that disagree by 1 all over: no step between neighbours is above that of the raised cosine."""
    calls = iter(range(100))
    tiled = Tiled(
        Heuristic(lambda x, y_hat: torch.full_like(y_hat, next(calls) % 2), channels=1), TILE, OVERLAP
    )
    y_hat = noise(1, 1, 1, 128, 500)
    steps = tiled(y_hat, y_hat).map.diff(dim=-1).abs()
    assert 0 < steps.max() <= np.pi / 2 / (OVERLAP // 2) * 1.01


def test_one_tile_is_one_pass_of_any_shape():
    tiled = near(3)
    x, y_hat = noise(1, 1, 1, 50, 45), noise(2, 1, 1, 128, 100)
    assert torch.equal(tiled(x, y_hat).map, tiled.scorer(x, y_hat).map)


def test_it_is_a_scorer_and_keeps_what_its_scorer_says():
    tiled = near(3)
    assert isinstance(tiled, Scorer)
    assert (tiled.channels, tiled.per_channel, tiled.sizes) == (1, False, None)
    others = (tiled.scorer, Tiled(tiled.scorer, 256, OVERLAP), Tiled(tiled.scorer, 256, 64))
    assert len({tiled.fingerprint, *(other.fingerprint for other in others)}) == 4


@pytest.mark.parametrize(("tile", "overlap"), [(100, 32), (128, 0), (128, 64), (128, 20), (0, 0)])
def test_tiles_that_cannot_be(tile, overlap):
    with pytest.raises(InvalidArgumentError, match=f"tile {tile} and overlap {overlap}"):
        Tiled(near(1).scorer, tile, overlap)


@pytest.mark.parametrize("x_size", [(150, 150), (600, 600), (150, 300), (300, 100), (10, 10)])
def test_an_x_that_tiles_cannot_follow(x_size):
    with pytest.raises(MismatchError, match=f"{x_size[0]} x {x_size[1]}|10 times|30 times"):
        near(1)(noise(1, 1, 1, *x_size), noise(2, 1, 1, 300, 290))


def test_features_are_refused():
    class Looking(Heuristic):
        def __call__(self, x, y_hat):
            return Score(y_hat, y_hat.mean(dim=(2, 3)))

    with pytest.raises(MismatchError, match="features"):
        Tiled(Looking(lambda x, y_hat: y_hat, channels=1), TILE, OVERLAP)(
            noise(1, 1, 1, 200, 200), noise(2, 1, 1, 200, 200)
        )


def by_slices_of(planes):
    """A scorer that sees volumes slice by slice."""
    network = SliceWise(planes).eval()
    scorer = Heuristic(lambda x, y_hat: network(y_hat).abs(), channels=1)
    object.__setattr__(scorer, "network", network)
    return scorer


def test_tiles_of_volumes_by_slices_overlap_by_what_a_slice_sees():
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


def test_by_slices_tiles_are_one_pass_along_the_first_axis():
    scorer = by_slices_of(UNet(channels_of(1), 1, width=4, levels=1))
    y_hat = noise(5, 1, 1, 33, 20, 24)
    with torch.no_grad():
        whole = Tiled(scorer, (64, 128, 128), (4, 32, 32))(y_hat, y_hat).map
        parts = Tiled(scorer, (16, 128, 128), (4, 32, 32))(y_hat, y_hat).map
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-5)


COUNT = 37
GENERATOR = np.random.default_rng(0)
Y_HAT, Y = GENERATOR.random((2, COUNT, 6, 7), dtype=np.float32)
TRIPLETS = Triplets.from_arrays(Y_HAT, Y_HAT, Y)


def doubt(x, y_hat):
    return y_hat + 0.1


SCORER = Heuristic(doubt, channels=1)


class Measure:
    """Counts the images that it measures, and is killed at one of them."""

    def __init__(self, killed_at=None):
        self.seen: list[str] = []
        self.killed_at = killed_at

    def __call__(self, item):
        if self.killed_at is not None and len(self.seen) >= self.killed_at:
            raise KeyboardInterrupt
        self.seen += item.names
        error = (item.score.map * (item.truth() - item.y_hat)).double()
        rows = torch.stack([error.mean((1, 2, 3)), error.square().mean((1, 2, 3))], dim=1)
        return {"names": np.array(item.names), "rows": rows.numpy()}


def gather(measure, compute, key="key", triplets=TRIPLETS):
    with parts_folder(compute):
        return gathered(SCORER, triplets, measure, "measuring", key, compute)


@pytest.fixture(name="folder")
def folder_of_parts(tmp_path, monkeypatch):
    """Of parts of eight images."""
    monkeypatch.setattr("conformask.scores.scoring.PART", 8)
    return tmp_path / "parts"


def test_parts_are_the_whole(folder):
    expected = ((Y_HAT + 0.1) * (Y - Y_HAT)).astype(np.float64).mean((1, 2))
    in_memory = gather(Measure(), Compute())
    on_disk = gather(Measure(), Compute(parts=folder))
    for found in (in_memory, on_disk):
        assert found["names"].tolist() == list(TRIPLETS.names)
        np.testing.assert_allclose(found["rows"][:, 0], expected, rtol=1e-4, atol=1e-8)
    assert not folder.exists(), "parts are removed at the end"


@pytest.mark.parametrize("batch_size", [1, 3, 8, 50])
def test_the_batch_size_does_not_matter(batch_size, folder, monkeypatch):
    expected = gather(Measure(), Compute())["rows"]
    monkeypatch.setattr("conformask.scores.scoring.BATCH_SIZE", batch_size)
    for where in (None, folder):
        found = gather(Measure(), Compute(parts=where))["rows"]
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def killed(folder, after=20):
    with pytest.raises(KeyboardInterrupt):
        gather(Measure(killed_at=after), Compute(parts=folder))


def test_a_killed_run_goes_on(folder):
    killed(folder)
    assert len(list(folder.glob("*.npz"))) == 3
    again = Measure()
    found = gather(again, Compute(parts=folder))
    assert again.seen == list(TRIPLETS.names[24:]), "three parts of eight were finished"
    np.testing.assert_array_equal(found["rows"], gather(Measure(), Compute())["rows"])


def test_a_damaged_part_is_made_again(folder):
    killed(folder)
    first = min(folder.glob("*.npz"))
    first.write_bytes(first.read_bytes()[:40])
    again = Measure()
    found = gather(again, Compute(parts=folder))
    assert again.seen == [*TRIPLETS.names[:8], *TRIPLETS.names[24:]]
    np.testing.assert_array_equal(found["rows"], gather(Measure(), Compute())["rows"])


def test_parts_of_something_else_are_not_taken(folder):
    for key, images in (("another", TRIPLETS), ("key", TRIPLETS.select(range(30)))):
        killed(folder)
        again = Measure()
        gather(again, Compute(parts=folder), key, images)
        assert len(again.seen) == len(images)


def test_parts_of_another_score_are_not_taken(folder):
    def doubt(x, y_hat):
        return y_hat + 0.2

    killed(folder)
    again = Measure()
    with parts_folder(Compute(parts=folder)):
        gathered(Heuristic(doubt, channels=1), TRIPLETS, again, "measuring", "key", Compute(parts=folder))
    assert len(again.seen) == COUNT


def test_several_devices_need_a_folder():
    for several in (Compute(devices=2), Compute(nodes=2)):
        with pytest.raises(InvalidArgumentError, match="several devices need a folder"):
            gather(Measure(), several)


def by_two(folder, monkeypatch, ranks):
    """What two processes gather, here threads."""
    barrier, here = threading.Barrier(2, timeout=60), threading.local()
    monkeypatch.setattr("conformask.scores.scoring.launch", lambda _: Processes(here.rank, 2, barrier.wait))

    def work(rank):
        here.rank = rank
        return gathered(SCORER, TRIPLETS, Measure(), "measuring", "key", Compute(parts=folder))

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(work, ranks))


def test_two_processes_measure_as_one(folder, monkeypatch):
    alone = gather(Measure(), Compute())
    for found in by_two(folder, monkeypatch, (0, 1)):
        assert found.keys() == alone.keys()
        for name in alone:
            np.testing.assert_array_equal(found[name], alone[name])


def test_a_part_that_nobody_writes_is_missed(folder, monkeypatch):
    with pytest.raises(Exception, match="part-"):
        by_two(folder, monkeypatch, (0, 0))
