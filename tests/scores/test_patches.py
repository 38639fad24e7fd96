"""Masks in connected parts of at least a number of pixels, checked by code that follows neighbours."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from skimage.morphology import area_closing

import conformask as cm
from conformask.errors import ImageError, InvalidArgumentError
from conformask.images.read import read_image
from conformask.losses import loss
from conformask.masker import whole
from conformask.masker.write import write_masks
from conformask.masks.families import family
from conformask.records.reading import Geometry
from conformask.scores.scorer import Patches, _closed, remove_specks
from conformask.scores.scoring import selection_record
from promised import simulated
from synthetic_triplets import arrays as arrays_of, scale_of, triplets as independent

AREA = 5
SCORER = cm.Heuristic(scale_of, channels=1)
THRESHOLD = 0.02
FAMILIES = [
    {"name": "binary", "bounds": "total"},
    {"name": "binary", "bounds": "largest", "kappa": 0.0},
    {"name": "binary", "bounds": "mean"},
]


def parts(mask):
    """Whether each connected part of a mask is shown, and its number of pixels; neighbours share a side."""
    left, found = set(np.ndindex(mask.shape)), []
    while left:
        border, size = [left.pop()], 1
        shown = bool(mask[border[0]])
        while border:
            pixel = border.pop()
            for axis, step in ((axis, step) for axis in range(mask.ndim) for step in (-1, 1)):
                beside = tuple(place + step * (axis == other) for other, place in enumerate(pixel))
                if beside in left and bool(mask[beside]) == shown:
                    left.remove(beside)
                    border.append(beside)
                    size += 1
        found.append((shown, size))
    return found


def smallest_part(mask):
    return min(size for _, size in parts(mask))


def filtered(score, area):
    found = score.copy()
    remove_specks(Patches(SCORER, area), found)
    return found


coarse_or_fine = st.one_of(
    st.integers(0, 3).map(float), st.floats(0, 1e6, width=32), st.sampled_from([0.0, 1e-30, 1e30])
)
scores = array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=7).flatmap(
    lambda shape: arrays(np.float32, (2, 2, *shape), elements=coarse_or_fine)
)


@pytest.mark.thorough
@given(scores, st.integers(2, 12))
@settings(deadline=None, max_examples=80)
def test_at_every_level_both_kinds_of_parts_are_large_enough(score, area):
    found = filtered(score, area)
    least = min(area, math.prod(score.shape[2:]))
    for image in found.reshape(-1, *score.shape[2:]):
        for boundary in [*np.unique(image), math.inf]:
            assert smallest_part(image < boundary) >= least
    np.testing.assert_array_equal(filtered(found, area), found)
    assert score.min() <= found.min()
    assert found.max() <= score.max()


@pytest.mark.thorough
@given(scores, st.sampled_from(FAMILIES))
@settings(deadline=None, max_examples=60)
def test_masks_of_every_binary_family_are_nested_and_have_no_specks(score, settings_of):
    chosen, maps = family(settings_of), torch.from_numpy(filtered(score, AREA))
    least, before = min(AREA, math.prod(score.shape[2:])), torch.zeros(maps.shape)
    for lam in (0.0, 1e-6, 0.1, 0.5, 1.0, 2.0, 1e3, math.inf):
        lambdas = torch.full((len(maps),), lam, dtype=torch.float64)
        mask = chosen.apply(maps, chosen.level(maps, lambdas))
        assert (mask >= before).all()
        assert all(smallest_part(one) >= least for one in mask.numpy().reshape(-1, *score.shape[2:]))
        before = mask


@pytest.mark.parametrize("shape", [(40, 37), (9, 8, 7), (3, 50), (64, 3)])
@pytest.mark.parametrize("values", [3, 10**6])
def test_the_closing_is_that_of_scikit_image(shape, values):
    image = np.random.default_rng(0).integers(0, values, shape).astype(np.float32)
    found = _closed(image.ravel(), np.argsort(image.ravel()), np.array(shape), AREA)
    np.testing.assert_array_equal(found.reshape(shape), area_closing(image, AREA, 1))


def coarse(count, seed):
    """Images whose x has six values, so that scores and critical lambdas have ties, and bounds the error."""
    x, _, y = arrays_of(count, seed, (10, 9))
    x = np.ceil(x * 60) / 60
    signed = np.random.default_rng(seed).uniform(0.4, 1, y.shape) * np.where(y > 0.5, -1, 1)
    return [image.astype(np.float32) for image in (x, y + x * signed, y)]


def keeps(loss, mask, error):
    """Whether the sentence is true of this mask: its mean error, or the largest error shown."""
    if loss == "l1":
        return float((mask * error).mean()) <= THRESHOLD * (1 + 1e-6)
    return float((mask * error).max()) <= 0.07 * (1 + 1e-6)


def coverage(loss, draws, n, cheat=1.0):
    """How often the sentence is true of deployed masks, on average over draws; and sigma."""
    met, threshold = [], THRESHOLD if loss == "l1" else 0.07
    for draw in simulated(draws):
        x, y_hat, y = coarse(n + 4, draw)
        images = cm.Triplets.from_arrays(x[:n], y_hat[:n], y[:n])
        promise = cm.Promise(confidence=0.8)
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            masker = cm.calibrate(
                SCORER, images, threshold=threshold, loss=loss, promise=promise, patches=AREA
            )
        masker = replace(masker, rule=replace(masker.rule, lam=cheat * masker.rule.lam))
        new = (torch.from_numpy(image[n:, None, ..., 0]) for image in (x, y_hat))
        for mask, error in zip(masker.masks(*new)[:, 0].numpy(), abs(y - y_hat)[n:, ..., 0], strict=True):
            assert smallest_part(mask) >= AREA
            met.append(keeps(loss, mask, error))
    by_draw = np.reshape(met, (draws, 4)).mean(axis=1)
    return float(by_draw.mean()), float(by_draw.std() / math.sqrt(draws))


LOSSES = pytest.mark.parametrize("loss", ["l1", cm.Local("l1", 1)], ids=["l1", "local"])


@pytest.mark.thorough
@LOSSES
@pytest.mark.parametrize("n", [4, 19])
def test_deployed_masks_keep_the_promise(loss, n):
    mean, sigma = coverage(loss, 100, n)
    assert mean >= 0.8 - 3.5 * sigma


@pytest.mark.thorough
@LOSSES
def test_the_simulation_tells_a_lambda_that_is_too_large(loss):
    mean, sigma = coverage(loss, 60, 19, cheat=2.0)
    assert mean < 0.8 - 4 * sigma


@pytest.fixture(scope="module")
def masker():
    return cm.calibrate(
        SCORER, cm.Triplets.from_arrays(*coarse(30, 1)), threshold=THRESHOLD, loss="l1", patches=AREA
    )


def test_a_run_keeps_the_size_of_parts(masker, tmp_path):
    masker.save(tmp_path)
    again = cm.load(tmp_path, scorer=SCORER)
    assert again.card.patches == AREA
    assert again.card.masks == "binary in connected parts of at least 5 pixels"
    assert again.fingerprint == masker.fingerprint
    x, y_hat, _ = coarse(1, 7)
    np.testing.assert_array_equal(again(x[0], y_hat[0]), masker(x[0], y_hat[0]))
    assert "The masks consist of connected parts of at least 5 pixels" in (tmp_path / "CARD.md").read_text()
    free = cm.calibrate(SCORER, cm.Triplets.from_arrays(*coarse(30, 1)), threshold=THRESHOLD, loss="l1")
    assert free.card.patches is None
    assert free.fingerprint != masker.fingerprint
    assert not masker.card.exploratory
    assert free.save(tmp_path).card.exploratory  # the same images after another choice


def test_parts_are_counted_as_by_hand_and_hidden_shares_stand_beside_those_of_any_size():
    test = cm.Triplets.from_arrays(*coarse(12, 2))
    images = cm.Triplets.from_arrays(*coarse(30, 1))
    for area in (None, AREA):
        masker = cm.calibrate(cm.packaged_scorer(), images, threshold=THRESHOLD, loss="l1", patches=area)
        found = cm.evaluate(masker, test)
        by_hand = [parts(masker(triplet)) for triplet in test]
        shown = [sum(shown for shown, _ in each) for each in by_hand]
        masks = [masker(triplet) for triplet in test]
        boundary = [sum(int((np.diff(mask, axis=axis) != 0).sum()) for axis in (0, 1)) for mask in masks]
        assert found.images.shown_parts.tolist() == shown
        assert found.images.hidden_parts.tolist() == [
            len(each) - count for each, count in zip(by_hand, shown, strict=True)
        ]
        assert found.images.boundary.tolist() == boundary
        assert ("any size" in found.comparison.others) is (area is not None)
    alone = cm.calibrate(cm.packaged_scorer(), images, threshold=THRESHOLD, loss="l1")
    hidden = cm.evaluate(alone, test).comparison.hidden
    assert found.comparison.others["any size"] == pytest.approx(hidden)
    assert found.comparison.hidden != pytest.approx(hidden, abs=1e-4)


def test_sizes_of_masks_with_specks_say_nothing_about_those_without():
    """A threshold is not chosen, nor a grid made, on what selection images were under masks with specks."""
    record = selection_record(SCORER, cm.Triplets.from_arrays(*coarse(20, 3)), loss("l1"), [family("binary")])
    scorer = replace(SCORER, selection=record)
    assert cm.threshold_choices(scorer, loss="l1")
    with pytest.raises(InvalidArgumentError, match="no selection images are kept for the family binary"):
        cm.threshold_choices(Patches(scorer, AREA), loss="l1")


def test_areas_and_volumes_become_pixels():
    plane, volume = Geometry((0.5, 0.25), "mm"), Geometry((2.0, 0.5, 0.5), "mm")
    assert plane.pixels("25mm2") == 200
    assert plane.pixels("1 mm²") == plane.pixels("1mm^2") == plane.pixels("1000000 um2") == 8
    assert plane.pixels("0.9mm2") == 8  # at least this area
    assert volume.pixels("8mm3") == 16
    for wrong in ("25mm3", "25mm", "mm2", "-3mm2", "many"):
        with pytest.raises(InvalidArgumentError, match="such as 25mm2"):
            plane.pixels(wrong)
    with pytest.raises(InvalidArgumentError, match="a volume, such as 25mm3"):
        volume.pixels("25mm2")


@pytest.mark.parametrize(
    ("patches", "message"),
    [
        (1, "at least 2"),
        ("0", "at least 2"),
        ("25mm2", "states no spacing"),
        (-4, "at least 2"),
        (10**20, "no image has that many"),
        ("1" + 20 * "0", "no image has that many"),
    ],
)
def test_what_is_no_area_is_refused(patches, message):
    images = cm.Triplets.from_arrays(*coarse(30, 1))
    with pytest.raises(InvalidArgumentError, match=message):
        cm.calibrate(SCORER, images, threshold=THRESHOLD, loss="l1", patches=patches)


def whole_images(folder, size=(300, 200)):
    """A masker of whole images by tiles of 128, and a new image in a folder."""
    images = independent(30, 0, (150, 140))
    masker = cm.calibrate(
        cm.Tiled(SCORER, 128, 32), images, threshold=0.03, loss="l1", promise=cm.Promise(confidence=0.8),
        patches=40,
    )  # fmt: skip
    for role, image in zip(("x", "y_hat"), arrays_of(1, 5, size), strict=False):
        (folder / role).mkdir(parents=True)
        np.save(folder / role / "a.npy", image[0, ..., 0])
    return masker, cm.Triplets.from_folder(folder)


@pytest.mark.leaf("view")
def test_whole_images_have_no_specks_at_the_borders_of_tiles(tmp_path, monkeypatch):
    from conformask.extras.view import viewed_image

    masker, new = whole_images(tmp_path / "new")
    assert masker.card.tiles == (128, 32)
    assert masker.card.patches == 40
    assert masker.by_tiles.tiles == (128, 32)
    write_masks(masker, new, tmp_path / "masks")
    (path,) = (tmp_path / "masks" / "masks").iterdir()
    written = np.load(path) if path.suffix == ".npy" else read_image(path)[0]
    in_memory = masker(new[0])
    np.testing.assert_array_equal(written > 0, in_memory > 0)
    assert 0 < in_memory.mean() < 1
    assert smallest_part(in_memory) >= 40
    for most in (viewed_image.MOST_DECODED, 0):
        monkeypatch.setattr(viewed_image, "MOST_DECODED", most)
        shown = viewed_image.open_image(
            masker, viewed_image.CollectionImage(new, 0), lambda done, total: None
        )
        np.testing.assert_array_equal(masker.open(shown.item)[0, 0].numpy(), in_memory)


def test_layers_have_no_specks_at_the_borders_of_tiles(tmp_path):
    pytest.importorskip("napari")
    from conformask.extras.napari.layers import score_images

    masker, new = whole_images(tmp_path / "new")
    work = score_images(masker, [new.opened(0)])
    try:
        while True:
            next(work)
    except StopIteration as stop:
        (layer,) = stop.value
    np.testing.assert_array_equal(masker.open(layer.item)[0, 0].numpy(), masker(new[0]))


@pytest.mark.leaf("export")
def test_what_cannot_be_computed_is_refused(tmp_path, monkeypatch):
    masker, new = whole_images(tmp_path / "new")
    monkeypatch.setattr(whole, "IN_MEMORY", 1000)
    with pytest.raises(InvalidArgumentError, match="connected parts of at least 40 pixels are computed in"):
        write_masks(masker, new, tmp_path / "masks")
    import dask.array

    x, y_hat = (dask.array.from_array(image[0]) for image in (new[0].x, new[0].y_hat))
    with pytest.raises(InvalidArgumentError, match="need the whole score at once"):
        cm.masked(masker, x, y_hat)


@pytest.mark.leaf("export")
def test_a_graph_is_refused(masker, tmp_path):
    from conformask.extras.export.onnx import export

    with pytest.raises(InvalidArgumentError, match="graph cannot find the connected parts"):
        export(masker, tmp_path / "a.onnx")


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -1.0])
def test_a_wrong_score_is_still_refused_by_name(wrong):
    def broken(x, y_hat):
        score = x.clone()
        score[..., 4, 4] = wrong
        return score

    images = cm.Triplets.from_arrays(*coarse(30, 1))
    with pytest.raises(ImageError, match="negative, NaN or infinite"):
        cm.calibrate(cm.Heuristic(broken, 1), images, threshold=THRESHOLD, loss="l1", patches=AREA)
