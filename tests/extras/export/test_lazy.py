"""Masks of dask arrays against those of the same tiles in memory, by threads and by processes."""

import numpy as np
import pytest
import torch

import conformask as cm
from conformask.errors import ImageError, MismatchError
from conformask.extras.export.dask import masked
from conformask.scores.scorer import Tiled

da = pytest.importorskip("dask.array", reason="the extra dask is not installed")
distributed = pytest.importorskip("distributed", reason="the extra dask is not installed")

GENERATOR = np.random.default_rng(0)
SIZE = (150, 210)
ROLES = ("x", "y_hat", "y")


def rough(x, y_hat):
    """Sees its neighbours, so that the seams of tiles show."""
    blurred = torch.nn.functional.avg_pool2d(y_hat, 5, 1, 2)
    return (y_hat - blurred).abs() + 0.1 * (x - y_hat).square()


def known(channels=1, count=20):
    y_hat = GENERATOR.random((count, 160, 220, channels)).astype(np.float32)
    return cm.Triplets.from_arrays(y_hat, y_hat, y_hat**1.5)


def masker_of(family="power", channels=1, score=rough, count=20, **promise):
    scorer = Tiled(cm.Heuristic(score, channels=channels, per_channel=channels > 1), 128, 32)
    return cm.calibrate(scorer, known(channels, count), threshold=0.05, loss="l1", family=family, **promise)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr("conformask.extras.export.dask.SIDES", {2: 64, 3: 32})


def images(*shape):
    x, y_hat = GENERATOR.random((2, *shape), dtype=np.float32)
    return x, y_hat


@pytest.mark.quick(2)
@pytest.mark.parametrize(
    "family",
    [
        "binary",
        {"name": "binary", "bounds": "largest"},
        {"name": "binary", "bounds": "mean"},
        "power",
        "reciprocal",
        "water_filling",
        {"name": "water_filling", "exponent": 2.0},
        "trusted_mean",
    ],
    ids=str,
)
@pytest.mark.parametrize("channels", [1, 3])
def test_threads_give_the_mask_of_the_same_tiles(family, channels):
    masker = masker_of(family, channels)
    x, y_hat = images(*SIZE, channels)
    mask = masked(masker, da.from_array(x, (70, 70, 1)), da.from_array(y_hat, 64))
    assert mask.shape[:2] == SIZE
    assert max(mask.chunks[0]) == 64
    expected = masker(x, y_hat)
    assert 0.05 < expected.mean() < 0.95
    # torch's powers of float32 differ in the last bit between the vectorised part of an array and its end
    tolerance = 2e-7 if family == "power" else 0
    np.testing.assert_allclose(mask.compute(scheduler="threads"), expected, rtol=tolerance, atol=0)


@pytest.mark.quick(1)
@pytest.mark.parametrize("guarantee", ["adaptive", "expected", "categories"])
def test_promises_that_ask_for_more_of_an_image(guarantee):
    asked = {"promise": guarantee, "selection": known()} if guarantee != "categories" else {}
    facts = {}
    if guarantee == "categories":
        x, y_hat, y = (np.stack([np.moveaxis(getattr(t, role), 0, -1) for t in known()]) for role in ROLES)
        labelled = cm.Triplets.from_arrays(x, y_hat, y, categories=["a", "b"] * 10)
        facts = {"category": "b"}
        scorer = Tiled(cm.Heuristic(rough, channels=1), 128, 32)
        masker = cm.calibrate(scorer, labelled, threshold=0.05, loss="l1", promise=guarantee)
    else:
        masker = masker_of(count=48, **asked)  # the regression of adaptive holds a new image with 40
    x, y_hat = images(*SIZE, 1)
    x = y_hat if guarantee == "adaptive" else x  # as in calibration: it hides what looks unlike that
    mask = masked(masker, da.from_array(x, (70, 70, 1)), da.from_array(y_hat, 64), **facts)
    expected = masker(x, y_hat, **{name: [fact] for name, fact in facts.items()})
    assert 0.05 < expected.mean() < 0.95
    np.testing.assert_array_equal(mask.compute(scheduler="threads"), expected)


def test_more_blocks_than_one_task_adds_up():
    """150 x 210 pixels in blocks of 32 are 35: their sums are added up twice."""
    masker, (x, y_hat) = masker_of(), images(*SIZE, 1)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("conformask.extras.export.dask.SIDES", {2: 32, 3: 32})
        mask = masked(masker, da.from_array(x, (70, 70, 1)), da.from_array(y_hat, 64))
    assert mask.npartitions == 35
    np.testing.assert_array_equal(mask.compute(scheduler="threads"), masker(x, y_hat))


@pytest.mark.slow
def test_processes_of_a_cluster_give_the_same_bits():
    generator = np.random.default_rng(1)
    y_hat = generator.random((20, 160, 220), dtype=np.float32)
    packaged = cm.packaged_scorer().of(cm.Triplets.from_arrays(y_hat, y_hat, y_hat**1.5))
    triplets = cm.Triplets.from_arrays(y_hat, y_hat, y_hat**1.5)
    masker = cm.calibrate(Tiled(packaged, 128, 32), triplets, threshold=0.05, loss="l1")
    x, y_hat = images(*SIZE)
    mask = masked(masker, da.from_array(x, 80), da.from_array(y_hat, 80))
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with cluster, distributed.Client(cluster):
        by_processes = mask.compute()
    np.testing.assert_array_equal(by_processes, mask.compute(scheduler="threads"))
    np.testing.assert_array_equal(by_processes, masker(x, y_hat))


def test_volumes_of_bytes():
    volumes = GENERATOR.integers(0, 256, (10, 40, 70, 70), dtype=np.uint8)
    triplets = cm.Triplets.from_arrays(volumes, volumes, volumes // 2, reading=cm.Reading(axes="ZYX"))
    scorer = Tiled(cm.Heuristic(lambda x, y_hat: (x - y_hat).abs() + y_hat, channels=1), 128, 32)
    masker = cm.calibrate(scorer, triplets, threshold=0.05, loss="l1")
    x, y_hat = GENERATOR.integers(0, 256, (2, 20, 150, 40), dtype=np.uint8)
    with pytest.warns(UserWarning, match="the promise covers"):
        mask = masked(masker, da.from_array(x, 33), da.from_array(y_hat, 50))
    np.testing.assert_array_equal(mask.compute(), masker(x, y_hat))


def test_maps_beside_y_hat():
    """Of any range and type, in their own chunks."""
    generator = np.random.default_rng(2)
    y = generator.random((40, 64, 64), dtype=np.float32)
    spread = generator.integers(0, 4096, y.shape).astype(np.uint16)
    y_hat = (y + spread / 8192 * generator.choice([-1, 1], y.shape)).clip(0, 1).astype(np.float32)
    known = cm.Triplets.from_arrays(1 - y, y_hat, y, cues=spread)
    masker = cm.calibrate(Tiled(cm.Given().of(known), 128, 32), known, threshold=0.05, loss="l1")
    (x, y_hat), cues = images(*SIZE), generator.integers(0, 4096, SIZE).astype(np.uint16)
    arrays = da.from_array(x, 70), da.from_array(y_hat, 64)
    with pytest.warns(UserWarning, match="the promise covers"):
        mask = masked(masker, *arrays, cues=da.from_array(cues, 50))
    expected = masker(x, y_hat, cues=cues)
    assert 0.05 < expected.mean() < 0.95
    np.testing.assert_array_equal(mask.compute(scheduler="threads"), expected)
    with pytest.raises(MismatchError, match=r"read from maps beside y_hat: give them, cues="):
        masked(masker, *arrays)
    with pytest.raises(ImageError, match="cues has 150 x 200 pixels, but y_hat has 150 x 210"):
        masked(masker, *arrays, cues=da.from_array(cues[:, :200], 50))


def test_nothing_is_read_before_it_is_computed():
    read = []

    def noted(block):
        read.append(block.shape)
        return block

    x, y_hat = (da.from_array(image, 64).map_blocks(noted, meta=image[:0]) for image in images(*SIZE))
    mask = masked(masker_of(), x, y_hat)
    assert not read
    mask.compute(scheduler="synchronous")
    assert read


def test_an_x_that_is_smaller():
    def enlarged(x, y_hat):
        return (torch.nn.functional.interpolate(x, scale_factor=2) - y_hat).abs()

    small, y_hat = GENERATOR.random((20, 80, 110), dtype=np.float32), GENERATOR.random((20, 160, 220))
    y_hat = y_hat.astype(np.float32)
    triplets = cm.Triplets.from_arrays(small, y_hat, y_hat**1.5)
    masker = cm.calibrate(
        Tiled(cm.Heuristic(enlarged, channels=1), 128, 32), triplets, threshold=0.05, loss="l1"
    )
    x, y_hat = GENERATOR.random((75, 105), dtype=np.float32), GENERATOR.random(SIZE, dtype=np.float32)
    mask = masked(masker, da.from_array(x, 30), da.from_array(y_hat, 60))
    np.testing.assert_array_equal(mask.compute(), masker(x, y_hat))


def test_what_is_refused_before_any_work():
    x, y_hat = (da.from_array(image) for image in images(*SIZE))
    with pytest.raises(MismatchError, match="channel"):
        masked(masker_of(), x, da.stack([y_hat] * 3, axis=-1))
    with pytest.raises(MismatchError, match="3 times smaller"):
        masked(masker_of(), x[:50, :70], y_hat)


def scores():
    heavy = np.exp(6 * GENERATOR.standard_normal(500)).astype(np.float32)
    ties = (GENERATOR.integers(0, 4, 400) / 8).astype(np.float32)
    holes = np.where(GENERATOR.random(300) < 0.5, 0, GENERATOR.random(300)).astype(np.float32)
    return [heavy, ties, holes, np.zeros(9, np.float32), np.full(8, 0.25, np.float32), np.float32([0.3])]
