"""Clean local means and regions from two repeats with noise: formulas, and promises on deployed masks."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from noise_around import by_noise_around
from scipy import ndimage, stats

import conformask as cm
from conformask.errors import InvalidArgumentError
from conformask.extras.noise.products import Products
from conformask.losses import stored_loss
from conformask.masks.critical import batch_curves, critical_lambdas, lambda_grid, measured_curves
from conformask.masks.families import family
from conformask.records.loss import read_loss
from promised import simulated

SIDE, WINDOW, SD, ETA, WEAK = 48, 15, 0.04, 0.05, 0.05
BY_X = cm.Heuristic(lambda x, y_hat: x.square(), channels=1)
"""A score that knows how large the error of each pixel is, up to eight values: ties."""


def images(count, side, generator):
    """Clean y, x and y_hat, which is too bright by x: smooth, with eight values, largest inside the image."""
    places = np.linspace(-1, 1, side)
    bump = np.exp(-3 * (places[:, None] ** 2 + places**2))
    x = generator.lognormal(-3.3, 0.3, (count, 1, 1)) * np.ceil(8 * bump) / 8
    y = np.full(x.shape, 0.4) + 0.2 * (places > 0)
    return {"x": x, "y_hat": y + x, "y": y}


def noisy(y, generator, kind):
    """A repeat: counts of about 150 and read noise, or normal noise that reaches over so many pixels.

    If photons, a pixel has the noise of half of one.
    If weak, WEAK times the noise of the pixels before it is added to that of each pixel, so that the absolute
    autocorrelations are in sum (1 + WEAK)^2 / (1 + WEAK^2) along each axis.
    """
    if kind == "counts":
        return generator.poisson(y * 300) / 300 + 0.01 * generator.standard_normal(y.shape)
    if kind == "photons":
        return y + math.sqrt(2) * SD * (generator.poisson(0.5, y.shape) - 0.5)
    if kind == "weak":
        white = generator.standard_normal(y.shape)
        for axis in (1, 2):
            white = white + WEAK * np.roll(white, 1, axis)
        return y + SD * white
    count, *sides = y.shape
    noise = generator.standard_normal((count, *(side + kind - 1 for side in sides)))
    for axis, side in enumerate(sides, start=1):
        noise = sum(noise.take(range(at, at + side), axis) for at in range(kind)) / math.sqrt(kind)
    return y + SD * noise


def triplets(arrays, generator, kind):
    """The images with two repeats; their middle half is the region."""
    b, c = (noisy(arrays["y"], generator, kind).astype(np.float32) for _ in range(2))
    x, y_hat = (arrays[role].astype(np.float32) for role in ("x", "y_hat"))
    return cm.Triplets.from_arrays(x, y_hat, b, repeats=c, regions=regions(x))


def regions(images):
    region = np.zeros(images.shape, np.float32)
    quarter = images.shape[1] // 4
    region[:, quarter:-quarter, : -quarter // 2] = 1
    return region


def batch_of(seed, side=40, count=3, kind=1, region=False):
    generator = np.random.default_rng(seed)
    found = triplets(images(count, side, generator), generator, kind)
    batch = next(found.batches(count))
    return batch, batch.layers["region"] if region else None


# formulas


def bounds_by_hand(batch, region, loss):
    """p_j + t_j of the first image, window by window."""
    b, c = ((batch.y + sign * batch.layers["noise"].sqrt())[0, 0].double().numpy() for sign in (1, -1))
    y_hat, half = batch.y_hat[0, 0].double().numpy(), loss.window // 2
    weights = np.ones(b.shape) if region is None else region[0, 0].double().numpy()
    around = weights**2 * by_noise_around(b, c, y_hat, (weights > 0).astype(float))
    bounds = np.zeros(b.shape)
    for row, column in np.argwhere(weights > 0):
        window = np.s_[max(row - half, 0) : row + half + 1, max(column - half, 0) : column + half + 1]
        products = (weights * (b - y_hat) * (c - y_hat))[window]
        allowed = 0.0
        reach = int(loss.reach) if loss.allowance == "exact" else 1
        for top in range(reach):
            for left in range(reach):
                rows, columns = np.mgrid[: b.shape[0], : b.shape[1]]
                grid = ((rows % reach == top) & (columns % reach == left))[window] & (weights[window] > 0)
                values, n = products[grid], grid.sum()
                if loss.allowance == "clt":
                    r, variance = loss.reach**2, max(values.var(ddof=1), around[window][grid].mean())
                    allowed += n * stats.t.ppf(1 - loss.eta, n / r - 1) * math.sqrt(variance * r / n)
                else:
                    ends = [(one - y_hat) * (other - y_hat) for one, other in ((0, 0), (0, 1), (1, 1))]
                    log, most = math.log(2 * reach**2 / loss.eta), np.ptp(ends)
                    t = math.sqrt(2 * values.var(ddof=1) * log / n) + 7 * most * log / (3 * (n - 1))
                    allowed += n * t
        bounds[row, column] = (products.sum() + allowed) / weights[window].sum()
    return bounds


@pytest.mark.quick(4)
@pytest.mark.parametrize(("allowance", "reach"), [("clt", 1), ("clt", 1.06), ("exact", 1), ("exact", 2)])
@pytest.mark.parametrize("kind", ["image", "region", "weights"])
def test_it_is_what_its_formula_says(allowance, reach, kind):
    batch, region = batch_of(0, region=kind != "image")
    region = region * torch.rand(region.shape) if kind == "weights" else region
    loss = cm.CleanLocal("l2", WINDOW + 2, allowance, ETA, reach, regional=region is not None)
    expected = bounds_by_hand(batch, region, loss)
    of_images = loss.on(batch.y, batch.y_hat, region, 1, batch.layers["noise"])
    np.testing.assert_allclose(of_images.means[0, 0], expected, rtol=1e-4, atol=1e-9)
    mask = (torch.rand(3, 1, 40, 40) < 0.1).float()
    inside = 1 if region is None else region[0, 0].numpy() > 0
    largest = (expected * inside * mask[0, 0].numpy()).max()
    assert float(of_images.of(mask)[0]) == pytest.approx(max(largest, 0), rel=1e-4)
    assert of_images.of(0 * mask).tolist() == [0] * 3
    without = loss.on(batch.y, batch.y_hat, region, 1)
    local = cm.Local("l2", WINDOW + 2).on(batch.y, batch.y_hat, region, 1)
    torch.testing.assert_close(without.means, local.means)


@pytest.mark.parametrize("allowance", ["clt", "exact"])
def test_the_mean_over_a_region_is_what_its_formula_says(allowance):
    """Weights have the mean and variance of w m^2 p over the pixels of the region."""
    batch, region = batch_of(1, region=True)
    loss = cm.CleanMean("l2", allowance, ETA, 1, regional=True)
    mask = torch.rand(3, 1, 40, 40)
    cut = region[0, 0].bool()
    weights, half = torch.rand(region.shape) * region, batch.layers["noise"].sqrt()
    of_weights = loss.on(batch.y, batch.y_hat, weights, 1, batch.layers["noise"]).of(mask)
    b, c, y_hat, mask, weights, inside = (
        each[:, 0].double().numpy()
        for each in (
            batch.y + half, batch.y - half, batch.y_hat, mask, weights, region
        )
    )  # fmt: skip
    for at in range(3):
        weight = weights[at] * mask[at] ** 2
        values, n = (weight * (b[at] - y_hat[at]) * (c[at] - y_hat[at]))[inside[at] > 0], int(cut.sum())
        if allowance == "clt":
            around = (weight**2 * by_noise_around(b[at], c[at], y_hat[at], inside[at]))[inside[at] > 0]
            t = stats.t.ppf(1 - ETA, n - 1) * math.sqrt(max(values.var(ddof=1), around.mean()) / n)
        else:
            ends = [(one - y_hat[at]) * (other - y_hat[at]) for one, other in ((0, 0), (0, 1), (1, 1))]
            log, most = math.log(2 / ETA), np.ptp(ends)
            t = math.sqrt(2 * values.var(ddof=1) * log / n) + 7 * most * log / (3 * (n - 1))
        assert float(of_weights[at]) == pytest.approx(
            (values.mean() + t) / weights[at][inside[at] > 0].mean(), rel=1e-4
        )


@pytest.mark.parametrize(
    "loss", [cm.CleanMean("l2", reach=1, regional=True), cm.CleanLocal("l2", 15, reach=1, regional=True)]
)
def test_curves_are_the_same_mask_by_mask(loss):
    batch, _ = batch_of(2)
    item, masks = batch.with_score(cm.Score(batch.x.square())), family(loss.traits.family)
    grid = lambda_grid(masks, loss, [item], 32)
    quick, slow = batch_curves(item, masks, loss, grid), measured_curves(item, masks, loss, grid)
    np.testing.assert_allclose(quick[0], slow[0], atol=1e-9, rtol=1e-5)


def test_the_critical_lambda_of_a_window_is_exact():
    """The smallest score of a pixel around which the bound is above the threshold."""
    batch, _ = batch_of(3)
    loss = cm.CleanLocal("l2", WINDOW, reach=1)
    masks = family(loss.traits.family)
    score = torch.rand(batch.x.shape)
    found = critical_lambdas(batch.with_score(cm.Score(score)), masks, loss, np.array([0, np.inf]), 2e-4)
    bounds = loss.on(batch.y, batch.y_hat, None, 1, batch.layers["noise"]).means
    expected = [float(score[at][bounds[at] > 2e-4].min()) for at in range(3)]
    np.testing.assert_allclose(found, expected)


# Monte Carlo: the clean loss, by the sentence alone

CASES = [
    *(("region", kind) for kind in (1, 2, 3, "counts", "weak", "photons")),
    *(("window", kind) for kind in (1, 2, "counts", "weak", "photons")),
]  # fmt: skip


def loss_for(over, kind, eta=ETA):
    reach = {"counts": 1, "photons": 1, "weak": (1 + WEAK) ** 2 / (1 + WEAK**2)}.get(kind, kind)
    if over == "region":
        return cm.CleanMean("l2", eta=eta, reach=reach, regional=True)
    return cm.CleanLocal("l2", math.ceil(WINDOW * reach), eta=eta, reach=reach, regional=True)


def local_means(errors, side):
    """Means over windows cut off at image and region, (N, H, W); 0 outside the region."""
    inside = regions(errors)
    filtered = (
        ndimage.uniform_filter(each.astype(float), (0, side, side), mode="constant")
        for each in (inside * errors, inside)
    )
    return np.where(inside > 0, np.divide(*filtered, where=inside > 0, out=np.zeros(errors.shape)), 0)


def clean_losses(masks, arrays, loss):
    """Of masks (N, H, W), with the clean image."""
    errors, inside = np.square(arrays["y"] - arrays["y_hat"]), regions(arrays["y"])
    if isinstance(loss, cm.CleanLocal):
        return (local_means(errors, loss.window) * (masks > 0)).max(axis=(1, 2))
    return (masks**2 * errors * inside).sum(axis=(1, 2)) / inside.sum(axis=(1, 2))


def deployed(masker, images):
    """The masks of images, (N, H, W)."""
    return np.concatenate([masker.masks(each.x, each.y_hat)[:, 0].numpy() for each in images.batches(50)])


@pytest.mark.quick(1)
@pytest.mark.parametrize(("over", "kind"), CASES)
def test_the_clean_loss_is_hardly_ever_above(over, kind):
    """Of a mask that shows all, or the worst pixel, in a share eta at most; in half without its allowance."""
    generator, draws, loss = np.random.default_rng(0), 400, loss_for(over, kind)
    arrays = {role: np.repeat(each, draws, axis=0) for role, each in images(1, SIDE, generator).items()}
    mask = np.ones((draws, SIDE, SIDE), np.float32)
    if over == "window":
        means = local_means(np.square(arrays["y"] - arrays["y_hat"]), loss.window)
        mask = (means == means.max()).astype(np.float32)
    truly = clean_losses(mask, arrays, loss)
    batches = list(triplets(arrays, generator, kind).batches(50))
    shown = torch.from_numpy(mask[:50])[:, None]
    found = np.concatenate([loss.of_batch(batch, 1).of(shown).numpy() for batch in batches])
    assert np.mean(truly > found) <= ETA + 3 * math.sqrt(ETA / draws)
    products = np.concatenate(
        [((each.y - each.y_hat) ** 2 - each.layers["noise"])[:, 0].numpy() for each in batches]
    )
    inside = regions(products)
    bare = (
        (local_means(products, loss.window) * mask).sum(axis=(1, 2)) / mask.sum(axis=(1, 2))
        if over == "window"
        else (products * inside).sum(axis=(1, 2)) / inside.sum(axis=(1, 2))
    )
    assert np.mean(truly > bare) > 0.4


@pytest.mark.thorough
@pytest.mark.parametrize(("over", "kind"), CASES)
def test_the_promise_holds_for_clean_images_that_calibration_never_saw(over, kind):
    """Of tiny sets of 19 images, with scores that tie."""
    covered, shown, loss = [], [], loss_for(over, kind, eta=0.01)
    threshold = {"region": 8e-4, "window": 2e-3}[over]
    for seed in simulated(8):
        generator = np.random.default_rng(seed)
        calibration, selection = (
            triplets(images(count, SIDE, generator), generator, kind) for count in (19, 10)
        )
        masker = cm.calibrate(BY_X, calibration, threshold=threshold, loss=loss, selection=selection)
        arrays = images(40, SIDE, generator)
        masks = deployed(masker, triplets(arrays, generator, kind))
        covered.append(np.mean(clean_losses(masks, arrays, loss) <= threshold))
        shown.append(masks.mean())
    assert np.mean(covered) >= 0.9 - loss.eta - 2 * np.std(covered) / math.sqrt(len(covered))
    assert np.mean(shown) > 0.1


@pytest.mark.thorough
def test_without_its_allowance_the_promise_would_not_hold(monkeypatch):
    """15 % of the images are just above the threshold, and seen above it in half of the draws."""
    loss, side, n = cm.CleanMean("l2", eta=0.01, regional=True), 16, 100

    def coverage(seed):
        generator = np.random.default_rng(seed)

        def drawn(count):
            bad = generator.random((count, 1, 1)) < 0.15
            x = np.where(bad, 0.0301, 0.005) * np.ones((count, side, side))
            return {"x": x, "y_hat": 0.5 + x, "y": np.full(x.shape, 0.5)}

        calibration, selection = (triplets(drawn(count), generator, 1) for count in (n, 10))
        masker = cm.calibrate(BY_X, calibration, threshold=9e-4, loss=loss, selection=selection)
        arrays = drawn(n)
        masks = deployed(masker, triplets(arrays, generator, 1))
        return float(np.mean(clean_losses(masks, arrays, loss) <= 9e-4))

    assert np.mean([coverage(seed) for seed in range(4)]) > 0.95
    monkeypatch.setattr(Products, "allowed", lambda self, sums, *_: torch.zeros_like(sums.product))
    assert np.mean([coverage(seed) for seed in simulated(30)]) < 0.89


# what is refused


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("l1", 15), "give the squared error, l2, and not 'l1'"),
        (("l2", 15, "exact", 0.01, 1.5), "must be a whole number of pixels"),
        (("l2", 0), "window = 0"),
    ],
)
def test_what_cannot_be_is_refused(arguments, words):
    with pytest.raises(InvalidArgumentError, match=words):
        cm.CleanLocal(*arguments)


def test_windows_too_small_for_the_central_limit_theorem_are_refused():
    batch, _ = batch_of(0)
    for loss, least in ((cm.CleanLocal("l2", 5, reach=1), 6), (cm.CleanLocal("l2", 11, reach=2), 12)):
        with pytest.raises(InvalidArgumentError, match=f"take one of {least} x {least} or more"):
            loss.on(batch.y, batch.y_hat, None, 1, batch.layers["noise"])
        cm.CleanLocal("l2", least, reach=loss.reach).on(batch.y, batch.y_hat, None, 1, batch.layers["noise"])
    cm.CleanLocal("l2", 9, "exact", reach=1).on(batch.y, batch.y_hat, None, 1, batch.layers["noise"])
    assert cm.CleanLocal("l2", 4).sides(3) == (4, 4, 4)


def test_its_terms_give_it_back_and_say_what_is_computed():
    loss = cm.CleanLocal("l2", 29, "clt", 0.01, 1.05, regional=True)
    assert stored_loss(read_loss(loss.to_json(), Path())) == loss
    assert "k = 2^d grids of pixels 2 apart" in cm.CleanLocal("l2", 15, "exact", reach=2.0).words.formula
    assert loss.name == "clean_local(l2, 29 px, clt) in the region"
    assert "p_j the mean of e − v over the N pixels of the 29 x 29 pixels" in loss.words.formula
    assert "1.05^d at most, summed over a pixel and those around" in loss.words.caveat
