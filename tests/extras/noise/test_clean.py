"""The squared error of a clean image that nobody has, from two repeats with noise."""

import json
import math
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from noise_around import by_noise_around
from scipy import stats

import conformask as cm
from conformask.cli import main
from conformask.errors import ImageError, InvalidArgumentError, MissingFileError
from conformask.extras.noise.repeats import noise_of
from conformask.masks.critical import batch_curves, lambda_grid, measured_curves
from conformask.masks.families import family
from conformask.records.loss import read_loss
from untyped import UNTYPED

SIDE, SD, THRESHOLD = 64, 0.04, 8e-4
BY_X = cm.Heuristic(lambda x, y_hat: x.square(), channels=1)
"""A score that knows how large the error of each pixel is."""
BINARY = family({"name": "binary", "bounds": "total"})


def images(count, seed, side=SIDE):
    """Clean y, y_hat with errors whose scale x knows, larger to the right and in some images."""
    generator = np.random.default_rng(seed)
    y = np.full((count, side, side), 0.5)
    scale = generator.lognormal(-3.6, 0.5, (count, 1, 1)) * (1 + 3 * np.linspace(0, 1, side)) / 2.5
    y_hat = y + scale * generator.uniform(-math.sqrt(3), math.sqrt(3), y.shape)
    arrays = {"x": np.broadcast_to(scale, y.shape), "y_hat": y_hat, "y": y}
    return {role: array.clip(0, 1).astype(np.float32) for role, array in arrays.items()}


def noisy(y, seed, reach=1):
    """A repeat, whose noise is independent of pixels `reach` apart and has the deviation SD."""
    generator = np.random.default_rng(seed)
    count, height, width = y.shape
    noise = generator.standard_normal((count, height + reach - 1, width + reach - 1))
    for axis, length in ((1, height), (2, width)):
        noise = sum(noise.take(range(at, at + length), axis) for at in range(reach)) / math.sqrt(reach)
    return (y + SD * noise).astype(np.float32)


def repeated(count, seed, side=SIDE, reach=1):
    arrays = images(count, seed, side)
    b, c = (noisy(arrays["y"], 1000 * seed + place, reach) for place in (1, 2))
    return cm.Triplets.from_arrays(arrays["x"], arrays["y_hat"], b, repeats=c)


def clean(count, seed, side=SIDE):
    return cm.Triplets.from_arrays(**images(count, seed, side))


# the loss


@pytest.mark.thorough
def test_products_have_no_noise_floor():
    """Their mean over draws is the clean squared error; that of one repeat is larger by its variance."""
    arrays = images(1, 0, 16)
    errors = np.square(arrays["y_hat"] - arrays["y"])
    draws = np.array([[noisy(arrays["y"], 2 * at + of) for of in (0, 1)] for at in range(4000)])
    products = [
        np.square(triplet.y - triplet.y_hat) - noise_of(triplet)
        for b, c in draws
        for triplet in cm.Triplets.from_arrays(arrays["x"], arrays["y_hat"], b, repeats=c)
    ]
    mean, deviation = np.mean(products, axis=0), np.std(products, axis=0) / math.sqrt(len(products))
    assert np.abs((mean - errors) / deviation).max() < 4.5
    alone = np.square(draws[:, 0] - arrays["y_hat"]).mean()
    assert alone == pytest.approx(errors.mean() + SD**2, rel=0.02)


def by_hand(b, c, y_hat, mask, kind, eta, reach):
    """The formula of the loss, in numpy."""
    products = mask**2 * (b - y_hat) * (c - y_hat)
    if kind == "clt":
        z = stats.t.ppf(1 - eta, products.size / reach**2 - 1)
        variance = max(products.var(ddof=1), (mask**4 * by_noise_around(b, c, y_hat)).mean())
        return products.mean() + z * math.sqrt(variance * reach**2 / products.size)
    allowed = 0.0
    for top in range(reach):
        for left in range(reach):
            grid = products[top::reach, left::reach]
            log, n = math.log(2 * reach**2 / eta), grid.size
            spread = np.ptp([(one - y_hat) * (other - y_hat) for one, other in ((0, 0), (0, 1), (1, 1))])
            t = math.sqrt(2 * grid.var(ddof=1) * log / n) + 7 * spread * log / (3 * (n - 1))
            allowed += t * n / products.size
    return products.mean() + allowed


@pytest.mark.parametrize("kind", ["clt", "exact"])
@pytest.mark.parametrize("reach", [1, 3])
def test_it_is_what_its_formula_says(kind, reach):
    loss = cm.CleanMean("l2", kind, eta=0.01, reach=reach)
    arrays = images(3, 0)
    b, c = (noisy(arrays["y"], seed) for seed in (1, 2))
    batch = next(cm.Triplets.from_arrays(arrays["x"], arrays["y_hat"], b, repeats=c).batches(3))
    mask = torch.rand(3, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    found = loss.on(batch.y, batch.y_hat, None, 1, batch.layers["noise"]).of(mask)
    expected = [
        by_hand(
            *(each[at].astype(float) for each in (b, c, arrays["y_hat"], mask[:, 0].numpy())),
            kind,
            0.01,
            reach,
        )
        for at in range(3)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert (
        loss.on(batch.y, batch.y_hat, None, 1, batch.layers["noise"]).of(torch.zeros_like(mask)).tolist()
        == [0] * 3
    )
    sure = loss.on(batch.y, batch.y_hat, None, 1).of(mask)
    plain = (mask[:, 0].double() ** 2 * (batch.y - batch.y_hat)[:, 0].double() ** 2).mean(dim=(1, 2))
    torch.testing.assert_close(sure, plain)


@pytest.mark.parametrize("kind", ["clt", "exact"])
def test_by_moments_it_is_the_same_as_mask_by_mask(kind):
    batch = next(repeated(4, 0).batches(4))
    item = batch.with_score(cm.Score(batch.x.square()))
    loss = cm.CleanMean("l2", kind, reach=1)
    grid = lambda_grid(BINARY, loss, [item], 32)
    quick, slow = batch_curves(item, BINARY, loss, grid), measured_curves(item, BINARY, loss, grid)
    for one, other in zip(quick, slow, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-9, rtol=1e-5)


DRAWS, ETA = 400, 0.05


def drawn(reach):
    """The clean loss of an image that is too bright everywhere, and batches of DRAWS pairs of its repeats."""
    y = np.full((DRAWS, SIDE, SIDE), 0.5, np.float32)
    arrays = {"x": y, "y_hat": y + np.float32(0.03), "y": y}
    b, c = (noisy(arrays["y"], seed, reach) for seed in (1, 2))
    pairs = cm.Triplets.from_arrays(arrays["x"], arrays["y_hat"], b, repeats=c)
    return np.square(arrays["y_hat"] - arrays["y"]).mean(axis=(1, 2)), list(pairs.batches(50))


def unmasked(loss, batches):
    of_batches = [
        loss.on(batch.y, batch.y_hat, None, 1, batch.layers["noise"]).of(torch.ones_like(batch.y_hat))
        for batch in batches
    ]
    return torch.cat(of_batches).numpy()


def test_products_of_zero_that_are_shown_are_allowed_for_mask_by_mask_or_not():
    batch = next(clean(2, 0).batches(2))
    batch = replace(batch, y=batch.y_hat, layers={"noise": torch.zeros_like(batch.y_hat)})
    item, loss = batch.with_score(cm.Score(batch.x.square())), cm.CleanMean("l2", "exact", reach=1)
    grid = np.array([0.0, np.inf])
    quick, slow = batch_curves(item, BINARY, loss, grid), measured_curves(item, BINARY, loss, grid)
    np.testing.assert_allclose(quick[0], slow[0])
    assert (quick[0][:, 0] == 0).all()
    assert (quick[0][:, 1] > 0).all()


@pytest.mark.parametrize(("kind", "reach"), [("clt", 1), ("clt", 2), ("exact", 1), ("exact", 2)])
@pytest.mark.parametrize("masks", [family("water_filling"), BINARY])
def test_curves_of_a_constant_score_are_those_mask_by_mask(kind, reach, masks):
    """The second image has a region, the third one too small for an allowance."""
    batch, loss = next(repeated(3, 0).batches(3)), cm.CleanMean("l2", kind, reach=reach)
    region = torch.ones_like(batch.y)
    region[1, :, 20:], region[2, :, 1:], region[2, :, :, 1:] = 0, 0, 0
    values = torch.tensor([0.5, 0.1, 2.0])[:, None, None, None]
    item = replace(batch, layers={**batch.layers, "region": region})
    item = item.with_score(cm.Score(values.expand_as(batch.y_hat)))
    grid = np.array([0.0, 0.01, 0.2, 0.5, 1.0, np.inf])
    quick, slow = batch_curves(item, masks, loss, grid), measured_curves(item, masks, loss, grid)
    np.testing.assert_allclose(quick, slow, rtol=1e-5, atol=1e-7)


def test_too_few_pixels_with_noise_have_the_largest_loss_that_there_is():
    """16 pixels cannot be the 20 that the central limit theorem needs, nor can any number without noise."""
    batch, loss = next(repeated(2, 0).batches(2)), cm.CleanMean("l2", reach=1)
    largest = torch.maximum(batch.y_hat, 1 - batch.y_hat).square().amax(dim=(1, 2, 3)).double()
    few, most = torch.zeros_like(batch.y_hat), torch.ones_like(batch.y_hat)
    few[..., :4, :4] = 1
    assert loss.of_batch(batch, 1).of(few).tolist() == largest.tolist()
    assert (
        loss.of_batch(replace(batch, layers={"noise": 0 * batch.y}), 1).of(most).tolist() == largest.tolist()
    )
    assert (loss.of_batch(batch, 1).of(most) < largest).all()


@pytest.mark.quick(1)
@pytest.mark.parametrize(("kind", "reach"), [("clt", 1), ("clt", 2), ("clt", 4), ("exact", 1), ("exact", 2)])
def test_the_clean_loss_is_hardly_ever_above(kind, reach):
    """In at most a share eta of images; without its allowance it is in about half of them."""
    truly, batches = drawn(reach)
    found = unmasked(cm.CleanMean("l2", kind, eta=ETA, reach=reach), batches)
    assert np.mean(truly > found) <= ETA + 3 * math.sqrt(ETA / DRAWS)
    bare = torch.cat([(batch.y - batch.y_hat).square() - batch.layers["noise"] for batch in batches]).double()
    assert np.mean(truly > bare.mean(dim=(1, 2, 3)).numpy()) > 0.35


def test_noise_that_reaches_further_than_said_is_not_allowed_for():
    """Why the reach counts: with 1 for noise of 4 the share is well above eta."""
    truly, batches = drawn(4)
    assert np.mean(truly > unmasked(cm.CleanMean("l2", "clt", ETA, 1), batches)) > 2 * ETA


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("l1",), "give the squared error, l2, and not 'l1'"),
        pytest.param(("l2", "guess"), "allowance 'guess' is unknown", marks=UNTYPED),
        (("l2", "clt", 0.5), "eta = 0.5"),
        (("l2", "clt", 0.01, 0), "reach = 0"),
    ],
)
def test_what_cannot_be_is_refused(arguments, words):
    with pytest.raises(InvalidArgumentError, match=words):
        cm.CleanMean(*arguments)


def test_its_terms_give_it_back():
    loss = cm.CleanMean("l2", "exact", 0.01, 2)
    assert read_loss(loss.to_json(), Path()) == loss
    assert loss.name == "clean(l2, exact)"
    assert "R = max_j max(ŷ_j, 1 − ŷ_j)² + max_j ŷ_j (1 − ŷ_j)" in loss.words.formula
    assert "by an exact bound, for all but 1\N{NO-BREAK SPACE}% of images" in loss.words.caveat
    about = "by the central limit theorem, for about all but 0.2\N{NO-BREAK SPACE}% of images"
    assert about in cm.CleanMean("l2").words.caveat


# promises


def clean_coverage(masker, new):
    """By the sentence alone: the mean of m^2 (y - y_hat)^2 is at most the threshold; and the hidden share."""
    masks = [masker(triplet) for triplet in new]
    losses = [np.mean(mask**2 * np.square(t.y - t.y_hat)) for mask, t in zip(masks, new, strict=True)]
    return float(np.mean(np.array(losses) <= THRESHOLD)), float(np.mean([1 - mask.mean() for mask in masks]))


@pytest.mark.thorough
@pytest.mark.parametrize("reach", [1, 2])
def test_the_promise_holds_for_clean_images_that_calibration_never_saw(reach):
    covered, hidden = [], []
    loss = cm.CleanMean("l2", reach=reach)
    for seed in range(6):
        masker = cm.calibrate(
            BY_X, repeated(60, 3 * seed, reach=reach), threshold=THRESHOLD, loss=loss,
            selection=repeated(20, 3 * seed + 1, reach=reach),
        )  # fmt: skip
        share, size = clean_coverage(masker, clean(100, 3 * seed + 2))
        covered.append(share)
        hidden.append(size)
    assert np.mean(covered) >= 0.9 - loss.eta - 2 * np.std(covered) / math.sqrt(len(covered))
    assert np.mean(hidden) < 0.6


@pytest.mark.thorough
def test_repeats_taken_for_the_truth_would_hide_everything():
    arrays = images(60, 0)
    for_truth = cm.Triplets.from_arrays(arrays["x"], arrays["y_hat"], noisy(arrays["y"], 1))
    masker = cm.calibrate(BY_X, for_truth, threshold=THRESHOLD, loss="l2")
    assert clean_coverage(masker, clean(50, 2))[1] > 0.4
    by_products = cm.calibrate(
        BY_X, repeated(60, 0), threshold=THRESHOLD, loss=cm.CleanMean("l2"), selection=repeated(20, 1)
    )
    of_clean = cm.calibrate(BY_X, clean(60, 0), threshold=THRESHOLD, loss="l2")
    sizes = [clean_coverage(each, clean(50, 2))[1] for each in (by_products, of_clean)]
    assert sizes[1] <= sizes[0] < 0.6


def test_what_needs_a_truth_is_refused_with_what_does_not():
    with pytest.raises(InvalidArgumentError, match=r"CleanMean\('l2'\) .*guarantee expected or rcps"):
        cm.calibrate(BY_X, repeated(60, 0), threshold=0.05, loss="l1")
    with pytest.raises(InvalidArgumentError, match="noisy repeats"):
        cm.calibrate(
            BY_X, repeated(60, 0), threshold=0.05, loss=cm.MissRate("l1", 0.1),
            promise=cm.Promise("expected"),
        )  # fmt: skip


@pytest.mark.thorough
def test_means_hold_by_jensen():
    """E of the loss against the mean of two repeats is at least that against the clean image."""
    masker = cm.calibrate(
        BY_X, repeated(60, 0), threshold=0.03, loss="l1", promise=cm.Promise("expected"),
        selection=repeated(20, 1),
    )  # fmt: skip
    new = clean(100, 2)
    losses = [np.mean(masker(triplet) * np.abs(triplet.y - triplet.y_hat)) for triplet in new]
    assert np.mean(losses) <= 0.03


@pytest.mark.thorough
def test_it_is_evaluated_on_repeats_or_on_a_clean_image_and_kept(tmp_path):
    masker = cm.calibrate(
        BY_X, repeated(60, 0), threshold=THRESHOLD, loss=cm.CleanMean("l2"), selection=repeated(20, 1)
    )
    on_repeats, on_clean = (cm.evaluate(masker, each) for each in (repeated(60, 5), clean(60, 5)))
    assert on_clean.coverage == pytest.approx(clean_coverage(masker, clean(60, 5))[0])
    assert 0.75 <= on_repeats.coverage <= on_clean.coverage
    masker.save(tmp_path)
    again = cm.load(tmp_path, scorer=BY_X)
    assert again.loss == masker.loss
    assert "by the central limit theorem" in (tmp_path / "CARD.md").read_text()
    assert json.loads((tmp_path / "calibration.json").read_text())["loss"]["allowance"] == "clt"


@pytest.mark.thorough
@pytest.mark.leaf("train")
def test_a_score_learns_from_repeats_what_it_learns_from_the_truth(tmp_path):
    training = cm.TrainingConfig(epochs=30)
    sizes = {}
    for name, make in (("clean", clean), ("repeats", repeated)):
        loss = cm.CleanMean("l2")
        with warnings.catch_warnings(action="ignore"):
            scorer = cm.fit_scorer(
                make(64, 0, 16), selection=make(24, 1, 16), out=tmp_path / name, scorer="error", loss=loss,
                training=training,
            )  # fmt: skip
        masker = cm.calibrate(scorer, clean(60, 2, 16), threshold=THRESHOLD, loss=loss)
        sizes[name] = masker.card.hidden
    known = cm.calibrate(
        BY_X, clean(60, 2, 16), threshold=THRESHOLD, loss=cm.CleanMean("l2"), selection=clean(24, 1, 16)
    )
    assert sizes["repeats"] < 1.25 * sizes["clean"]
    assert sizes["repeats"] < 1.5 * known.card.hidden


# files


def written(folder, count, seed):
    arrays = images(count, seed)
    for role in ("x", "y_hat", "repeats"):
        (folder / role).mkdir(parents=True)
    for at in range(count):
        for role in ("x", "y_hat"):
            tifffile.imwrite(folder / role / f"cell{at}.tif", arrays[role][at])
    for place in (1, 2):
        for at, image in enumerate(noisy(arrays["y"], 1000 * seed + place)):
            tifffile.imwrite(folder / "repeats" / f"cell{at}_{place}.tif", image)
    return folder


@pytest.mark.thorough
def test_a_folder_of_repeats(tmp_path, capsys):
    data = written(tmp_path / "data", 80, 0)
    found = cm.Triplets.from_folder(data)
    assert found.reference == cm.Reference(2)
    expected = dict(zip((f"cell{at}" for at in range(80)), repeated(80, 0), strict=True))
    for triplet in found.select([0, 40]):
        np.testing.assert_allclose(triplet.y, expected[triplet.name].y, atol=1e-6)
        np.testing.assert_allclose(noise_of(triplet), noise_of(expected[triplet.name]), atol=1e-6)
    for over, reach, window in (("clean", 1, []), ("clean_local", 1.05, ["--window", "21"])):
        out = ["--threshold", "0.005", "--out", str(tmp_path / over), "--json"]
        loss = ["--loss", "l2", "--over", over, "--reach", str(reach), *window]
        main(["calibrate", str(data), "--scorer", "spread", *loss, *out])
        card = json.loads(capsys.readouterr().out)
        assert (card["loss"]["over"], card["loss"]["eta"], card["loss"]["reach"]) == (over, 0.002, reach)
        assert cm.load(tmp_path / over).loss.reach == reach
    (data / "repeats" / "cell7_2.tif").unlink()
    with pytest.raises(MissingFileError, match="no file of the name cell7_2"):
        cm.Triplets.from_folder(data)
    tifffile.imwrite(data / "repeats" / "cell7_2.tif", tifffile.imread(data / "repeats" / "cell7_1.tif"))
    with pytest.raises(ImageError, match="two repeats are the same image"):
        list(cm.Triplets.from_folder(data))


def test_columns_of_a_manifest(tmp_path):
    data = written(tmp_path, 3, 0)
    lines = [f"x/cell{a}.tif,y_hat/cell{a}.tif,repeats/cell{a}_1.tif,repeats/cell{a}_2.tif" for a in range(3)]
    (data / "manifest.csv").write_text("\n".join(["x,y_hat,y,repeat", *lines]))
    by_manifest = cm.Triplets.from_folder(data)
    assert by_manifest.reference == cm.Reference(2)
    np.testing.assert_allclose(by_manifest[1].y, repeated(3, 0)[1].y, atol=1e-6)
