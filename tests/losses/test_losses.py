"""Each loss against its formula, computed another way; and what its names, numbers and regions mean."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, uniform_filter

from conformask.arrays import Batch, Score
from conformask.errors import InvalidArgumentError, MismatchError
from conformask.losses import loss, loss_over, stored_loss
from conformask.losses.distances import CustomErrorMap, Lp
from conformask.losses.masked_distance import CustomLoss, code_of, measured_by
from conformask.losses.means import FalseOmissionRate, Mean, MeanShown, MissRate
from conformask.losses.of_images import around
from conformask.losses.perceptual import Ssim
from conformask.losses.window import Local, LocalShare, MaskedWindow
from conformask.masker.checks import check_spacing
from conformask.masks.critical import batch_curves, critical_lambdas, measured_curves
from conformask.masks.families import Binary, Power, Reciprocal, TrustedMean, WaterFilling, family
from conformask.records.loss import read_loss
from conformask.records.reading import Geometry
from untyped import UNTYPED

GENERATOR = torch.Generator().manual_seed(0)
Y = torch.rand(4, 3, 20, 24, generator=GENERATOR)
Y_HAT = (Y + 0.15 * torch.randn(Y.shape, generator=GENERATOR)).clamp(0, 1)
MASK = torch.rand(4, 1, 20, 24, generator=GENERATOR)
REGION = (torch.rand(4, 1, 20, 24, generator=GENERATOR) > 0.6).float()
ALL = [
    loss("l1"),
    loss("l2"),
    loss("ssim_map"),
    loss("ssim"),
    *(MeanShown(errors) for errors in ("l1", "ssim_map")),
    MaskedWindow("l1", 5),
    Local("l1", 5),
    Local("ssim_map", 4),
    LocalShare("l1", 5, 0.12),
    MissRate("l1", 0.1),
    FalseOmissionRate("ssim_map", 0.13),
]
SUMS_OF_ERRORS = [used for used in ALL if used.error_map is not None]


def name_of(used):
    return used.name


def under(used, mask, region=None):
    return used.on(Y, Y_HAT, region, mask.shape[1]).of(mask).numpy()


def by_formula(used, m, e, r):
    """Of one image: arrays (H, W), float64."""
    w = e > (vars(used).get("tolerance", 0))
    if used.over == "trusted":
        return float((r * m * e).sum() / (r * m).sum())
    if used.over == "missed":
        return float((r * m * w).sum() / (r * w).sum())
    if used.over == "wrong":
        return float((r * m * w).sum() / (r * m).sum())
    if used.over in ("local", "local_share"):
        local = local_by_formula(e, r, used.window)[(m > 0) & (r > 0)]
        return float(
            local.max()
            if used.over == "local"
            else (m * r)[(m > 0) & (r > 0)] @ (local > used.tolerance) / (m * r).sum()
        )
    if used.over == "masked_window":
        k = used.window
        means = uniform_filter(r * m * e, k)[k // 2 : -(k // 2), k // 2 : -(k // 2)]
        return float(means.max())
    return float((r * m ** (used.traits.exponent or 1) * e).sum() / r.sum())


def local_by_formula(e, r, k):
    """The mean of e in the region and the window of side k around each pixel, pixel by pixel."""
    found = np.zeros_like(e)
    for i, j in np.ndindex(e.shape):
        window = np.s_[max(0, i - k // 2) : i + (k + 1) // 2, max(0, j - k // 2) : j + (k + 1) // 2]
        found[i, j] = (r[window] * e[window]).sum() / max(r[window].sum(), 1e-9)
    return found


@pytest.mark.parametrize("regional", [False, True])
@pytest.mark.parametrize("used", SUMS_OF_ERRORS, ids=name_of)
def test_each_is_its_formula(used, regional):
    errors = used.error_map.error_map(Y, Y_HAT).double().mean(dim=1).numpy()
    region = REGION if regional else torch.ones_like(REGION)
    found = under(used.in_regions(True) if regional else used, MASK, region if regional else None)
    for k in range(len(Y)):
        arrays = (MASK[k, 0].double().numpy(), errors[k], region[k, 0].double().numpy())
        assert found[k] == pytest.approx(by_formula(used, *arrays), rel=1e-5)


@pytest.mark.parametrize("used", ALL, ids=name_of)
def test_the_closed_mask_loses_nothing_and_the_bound_is_one(used):
    assert (under(used, torch.zeros_like(MASK)) == 0).all()
    if used.traits.upper_bound is not None:
        far = used.on(torch.zeros_like(Y), torch.ones_like(Y), None, 1).of(torch.ones_like(MASK))
        assert (far <= used.traits.upper_bound * (1 + 1e-6)).all()


@pytest.mark.parametrize("used", [used for used in SUMS_OF_ERRORS if used.traits.monotone], ids=name_of)
def test_monotone_ones_never_fall_as_the_mask_opens(used):
    masks = [MASK * share for share in (0.1, 0.5, 0.9, 1.0)] + [MASK.pow(0.3), torch.ones_like(MASK)]
    values = np.array([under(used, mask) for mask in masks])
    assert (np.diff(values, axis=0) >= -1e-12).all()


@pytest.mark.parametrize("over", ["trusted", "wrong"])
def test_relative_ones_fall_where_right_pixels_open(over):
    used = loss_over("l1", over, {"tolerance": 0.1 if over == "wrong" else None})
    error = (Y - Y_HAT).abs().mean(dim=1, keepdim=True)
    worst = (error >= error.amax(dim=(2, 3), keepdim=True)).float()
    assert not used.traits.monotone
    assert (under(used, torch.ones_like(MASK)) < under(used, worst)).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_mask_of_one_channel_sees_the_mean_error_and_of_many_each(channels):
    error = (Y - Y_HAT).abs()
    error = error.mean(dim=1, keepdim=True) if channels == 1 else error
    mask = torch.ones_like(error)
    wrong = (error > 0.1).double().mean(dim=(1, 2, 3)).numpy()
    np.testing.assert_allclose(under(FalseOmissionRate("l1", 0.1), mask), wrong, rtol=1e-12)


@pytest.mark.parametrize(("over", "share"), [("wrong", 1 / 2), ("missed", 1 / 4)])
def test_outside_the_region_nothing_is_wrong(over, share):
    """Of four pixels in the region two are wrong; half of one of these is shown, and half of a right one."""
    y = torch.zeros(1, 1, 1, 6)
    y_hat, region, mask = (
        torch.tensor(values).reshape(y.shape)
        for values in (
            [0.5, 0.5, 0.0, 0.0, 0.5, 0.5],
            [1.0, 1.0, 1.0, 1.0, 0.0, 0.0],
            [0.0, 0.5, 0.5, 0.0, 1.0, 1.0],
        )
    )
    used = loss_over("l1", over, {"tolerance": 0.1, "regional": True})
    assert used.on(y, y_hat, region, 1).of(mask).tolist() == pytest.approx([share], rel=2e-7)


@pytest.mark.parametrize("tolerance", [0.0, 0.25])
@pytest.mark.parametrize("of", [FalseOmissionRate, lambda errors, tol: LocalShare(errors, 1, tol)])
def test_an_error_at_the_tolerance_is_not_wrong(of, tolerance):
    y_hat = torch.tensor([0.0, tolerance, 0.5, 0.75]).reshape(1, 1, 2, 2)
    used = of("l1", tolerance)
    assert used.on(torch.zeros_like(y_hat), y_hat, None, 1).of(torch.ones_like(y_hat)).tolist() == [0.5]


def test_without_any_wrong_pixel_nothing_is_missed():
    for over in ("missed", "wrong"):
        used = loss_over("l1", over, {"tolerance": 0.5})
        assert (used.on(Y, Y, None, 1).of(torch.ones_like(MASK)) == 0).all()


def test_an_image_repeated_is_itself():
    places = torch.tensor([2, 0, 0])
    for used in ALL:
        some = used.on(Y, Y_HAT, None, 1).take(places).of(MASK[places]).double().numpy()
        np.testing.assert_allclose(some, under(used, MASK)[places], rtol=1e-6)


def test_a_window_larger_than_the_image_is_the_image():
    np.testing.assert_allclose(under(MaskedWindow("l1", 99), MASK), under(loss("l1"), MASK), rtol=1e-6)


def test_around_is_the_mean_of_what_lies_in_the_window():
    values = torch.arange(5.0).reshape(1, 1, 1, 5)
    assert around(values, 3).flatten().tolist() == [0.5, 1, 2, 3, 3.5]
    assert around(values, 2).flatten().tolist() == [0, 0.5, 1.5, 2.5, 3.5]


def test_a_volume_has_windows_of_cubes():
    y, y_hat = torch.zeros(1, 1, 6, 8, 8), torch.zeros(1, 1, 6, 8, 8)
    y_hat[..., 2:4, 3:5, 5:7] = 0.5
    found = MaskedWindow("l1", 2).on(y, y_hat, None, 1).of(torch.ones(1, 1, 6, 8, 8))
    assert found.tolist() == [0.5]


def test_names_and_labels():
    assert [name_of(used) for used in ALL] == [
        "l1", "l2", "ssim_map", "ssim", "trusted(l1)", "trusted(ssim_map)", "masked_window(l1, 5 px)",
        "local(l1, 5 px)", "local(ssim_map, 4 px)", "local_share(l1, 5 px > 0.12)", "missed(l1 > 0.1)",
        "wrong(ssim_map > 0.13)",
    ]  # fmt: skip
    assert loss("l1").in_regions(True).name == "l1 in the region"
    assert Mean("l1") == loss("l1"), "the paper's form of lp"
    assert MaskedWindow("l1", 9).words.label == "mean L1 in any 9 x 9 pixels, what is hidden counted as right"
    assert Local("l1", 9).words.label == "largest mean L1 over 9 x 9 pixels around a pixel that is shown"


def test_what_the_paper_knows():
    assert measured_by(loss("l2")) == Lp(2.0)
    assert measured_by(loss("ssim")) == Ssim()
    assert all(loss(name).traits.masks_images for name in ("l2", "ssim"))
    assert not any(used.traits.masks_images for used in [*ALL[4:], ALL[2], loss("l1").in_regions(True)])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("ssim", "masked_window", 9), "'ssim' compares whole images: use ssim_map"),
        (("l1", "masked_window"), "over 'masked_window' needs a window, such as 9"),
        (("l1", "local"), "over 'local' needs a window, such as 9"),
        (("l1", "local_share", 9), "over 'local_share' needs a tolerance, such as 0.1"),
        (("l1", "local", 9, 0.1), "over 'local' takes no tolerance, but 0.1 was given"),
        (("l1", "missed"), "over 'missed' needs a tolerance, such as 0.1"),
        (("l1", "trusted", 9), "over 'trusted' takes no window, but 9 was given"),
        (("l1", None, None, 0.1), "over 'image' takes no tolerance"),
        (("ssim", None, 9), "loss 'ssim' takes no window"),
        (("l1", "masked_window", 0), "window = 0: must be a whole number of pixels, at least 1"),
        (("l1", "wrong", None, -0.1), "tolerance = -0.1: must be an error of at least 0"),
        pytest.param(("l1", "window", 9), "did you mean 'masked_window'", marks=UNTYPED),
        (("ssim_mapp",), "did you mean 'ssim_map'"),
    ],
)
def test_what_is_refused(words, message):
    distance, over, *numbers = (*words, None, None)
    with pytest.raises(InvalidArgumentError, match=message):
        loss_over(distance, over, dict(zip(("window", "tolerance"), numbers, strict=False)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: MaskedWindow("ssim", 9),
            "'ssim' is not an error map but compares whole images: use ssim_map",
        ),
        pytest.param(
            lambda: MaskedWindow("l1", 2.5),
            "window = 2.5: must be a whole number of pixels, at least 1",
            marks=UNTYPED,
        ),
        (lambda: MaskedWindow("l1", "5 apples"), "give a number of pixels, such as 9, or a length"),
        (lambda: MaskedWindow("l1", None), "a window needs a side, such as 9"),
        (lambda: LocalShare("l1", 9, -0.1), "tolerance = -0.1: must be an error of at least 0"),
        (lambda: MissRate("l1", -0.1), "tolerance = -0.1: must be an error of at least 0"),
        (lambda: Mean("ssim_mapp"), "did you mean 'ssim_map'"),
        (lambda: MeanShown(Ssim()), "'ssim' is not an error map"),
        (lambda: loss("ssim_mapp"), "did you mean 'ssim_map'"),
    ],
)
def test_values_are_checked_when_they_are_made(make, message):
    with pytest.raises(InvalidArgumentError, match=message):
        make()


def test_a_window_by_length_waits_for_the_spacing():
    used = MaskedWindow("l1", "5mm")
    assert (used.window, used.length) == (None, "5mm")
    with pytest.raises(InvalidArgumentError, match="no number of pixels yet"):
        under(used, MASK)
    converted = used.prepared(SimpleNamespace(values=None, window=Geometry((1.0, 2.0), "mm").window))
    assert (converted.window, converted.length) == ((5, 3), "5 x 6 mm")
    assert stored_loss(converted) == converted
    assert MaskedWindow("l1", "9") == MaskedWindow("l1", 9)


@pytest.mark.parametrize(
    ("length", "spacing", "unit", "sides", "true"),
    [
        ("5mm", (2.0, 2.0), "mm", (3, 3), "6 mm"),
        ("5mm", (2.5, 1.005, 1.005), "mm", (3, 5, 5), "7.5 x 5.025 x 5.025 mm"),
        ("5mm", (0.7, 0.7), "mm", (9, 9), "6.3 mm"),
        ("0.3 mm", (0.1, 0.1), "mm", (3, 3), "0.3 mm"),
        ("20um", (100.0, 5.0), "nm", (201, 4001), "20.1 x 20 µm"),
        ("1mm", (3.0, 3.0), "mm", (1, 1), "3 mm"),
    ],
)
def test_a_window_by_length_is_the_next_odd_number_of_pixels(length, spacing, unit, sides, true):
    geometry = Geometry(spacing, unit)
    window = geometry.window(length)
    assert (window.sides, window.length) == (sides, true)
    check_spacing(MaskedWindow("l1", window.sides, length=window.length), geometry)


def test_a_window_is_checked_at_the_spacing_of_new_images():
    used = MaskedWindow("l1", (2, 5, 5), length="5 mm")  # as conformask 0.2 rounded it
    check_spacing(used, Geometry((2.5, 1.005, 1.005), "mm"))
    for other in (Geometry((2.5, 1.2, 1.005), "mm"), Geometry((1.005, 1.005), "mm"), None):
        with pytest.raises(MismatchError, match=r"window of 5 mm was \(2, 5, 5\) pixels, but these images"):
            check_spacing(used, other)


def test_a_region_takes_a_map():
    with pytest.raises(InvalidArgumentError, match="cannot use a region: use ssim_map, or leave"):
        loss("ssim").in_regions(True)


def squared(y, y_hat):
    return (y - y_hat).square().mean(dim=1, keepdim=True)


def shown_edges(mask, y, y_hat, region):
    return (region * mask * (y - y_hat).abs()).amax(dim=(1, 2, 3))


def test_ones_own():
    used = MeanShown(CustomErrorMap(squared, upper_bound=1.0))
    assert (used.name, used.traits.upper_bound) == ("trusted(squared)", 1.0)
    own = CustomLoss(shown_edges, monotone=True)
    assert loss(own) is own
    np.testing.assert_allclose(under(own, MASK), (MASK * (Y - Y_HAT).abs()).amax(dim=(1, 2, 3)), rtol=1e-6)
    inside = (REGION * MASK * (Y - Y_HAT).abs()).amax(dim=(1, 2, 3))
    np.testing.assert_allclose(under(own.in_regions(True), MASK, REGION), inside, rtol=1e-6)
    assert (under(own.in_regions(True), MASK, REGION) < under(own, MASK)).any()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda y, y_hat: y - y_hat, "negative, NaN or infinite"),
        (lambda y, y_hat: (y - y_hat).abs().mean(), r"returned \(\); expected"),
        (lambda y, y_hat: (y - y_hat).abs()[..., :-1], "expected"),
    ],
)
def test_a_map_of_ones_own_that_is_none(function, message):
    with pytest.raises(InvalidArgumentError, match=message):
        under(MeanShown(CustomErrorMap(function)), MASK)


@pytest.mark.parametrize("kappa", [0.0, -0.25])
@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.1, 0.12, 1.0])
def test_the_critical_lambda_of_local_is_exact(kappa, threshold):
    """At it the mask is within the threshold, just above it is not; equal scores open together."""
    used, masks = Local("l1", 5), Binary("largest", kappa)
    score = (10 * torch.rand(Y[:, :1].shape, generator=torch.Generator().manual_seed(1))).ceil() / 10
    item = Batch(("image",) * len(Y), Y, Y_HAT, Y).with_score(Score(score))
    critical = critical_lambdas(item, masks, used, np.array([0.0, np.inf]), threshold)

    def loss_at(lambdas):
        return under(used, masks.apply(score, masks.level(score, torch.from_numpy(lambdas))))

    assert (loss_at(critical) <= threshold).all()
    assert (np.isinf(critical) | (loss_at(critical * (1 + 1e-6)) > threshold)).all()
    assert np.isinf(critical).all() == (threshold == 1)


@pytest.mark.parametrize("kappa", [0.0, -0.25])
def test_curves_of_local_are_those_of_its_masks(kappa):
    used, masks = Local("l1", 5), Binary("largest", kappa)
    score = torch.rand(Y[:, :1].shape, generator=torch.Generator().manual_seed(1))
    item = Batch(("image",) * len(Y), Y, Y_HAT, Y).with_score(Score(score))
    grid = np.array([0.0, 0.1, 0.3, 0.7, np.inf])
    for found, expected in zip(
        batch_curves(item, masks, used, grid), measured_curves(item, masks, used, grid), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


FAMILIES = (
    *(Reciprocal(), Power(), Power(10.0, 0.01, 0.0), TrustedMean(), WaterFilling(), WaterFilling(2.0)),
    *(Binary(bounds) for bounds in ("largest", "total", "mean")),
)


@pytest.mark.parametrize("masks", FAMILIES, ids=repr)
@pytest.mark.parametrize(
    ("shape", "window"), [((5, 1, 40, 30), 5), ((2, 2, 7, 12, 9), (3, 4, 2)), ((2, 1, 4, 4), 9)]
)
def test_few_windows_decide_where_all_would(masks, shape, window):
    """Curves are those of whole masks, critical lambdas the last to pass: smooth, tied, flat, no errors."""
    generator = np.random.default_rng(0)
    smooth = (0, 0, *(1.5,) * (len(shape) - 2))
    score = gaussian_filter(generator.gamma(0.5, 0.2, shape), smooth).astype(np.float32)
    y_hat = score * generator.random(shape, np.float32)
    score[0], y_hat[-1] = score[0].round(2), 0
    score, y_hat = torch.from_numpy(score), torch.from_numpy(y_hat)
    if len(score) > 2:
        score[2], y_hat[2] = 0.1, 0.3
    used, y = MaskedWindow("l1", window), torch.zeros_like(y_hat)
    item = Batch(("image",) * len(y), y, y_hat, y).with_score(Score(score))
    grid = np.concatenate([[0.0], np.geomspace(1e-4, 10, 50), [10, np.inf]])
    losses, sizes = batch_curves(item, masks, used, grid)
    all_losses, all_sizes = measured_curves(item, masks, used, grid)
    np.testing.assert_allclose(losses, all_losses, rtol=1e-6, atol=1e-15)
    np.testing.assert_allclose(sizes, all_sizes, atol=1e-6)

    def loss_at(lambdas):
        mask = masks.apply(score, masks.level(score, torch.from_numpy(lambdas)))
        return used.on(y, y_hat, None, mask.shape[1]).of(mask).numpy()

    for threshold in (0.0, *np.quantile(all_losses, [0.2, 0.6]), 1.0):
        lambdas = critical_lambdas(item, masks, used, grid, threshold)
        assert (loss_at(lambdas) <= threshold * (1 + 1e-9)).all()
        assert (np.isinf(lambdas) | (loss_at(lambdas * (1 + 3e-6) + 1e-36) > threshold)).all()
        assert np.isinf(lambdas[-1]), "an image without errors needs no mask"


@pytest.mark.parametrize("value", [torch.zeros(()), torch.full((4,), float("nan"))])
def test_a_loss_of_ones_own_that_is_none(value):
    with pytest.raises(InvalidArgumentError, match="returned"):
        under(CustomLoss(lambda *_: value), MASK)


def test_stored():
    for used in ALL:
        assert stored_loss(read_loss(used.to_json(), Path())) == used
    own = MeanShown(CustomErrorMap(squared))
    terms = read_loss(own.to_json(), Path())
    with pytest.raises(MismatchError, match="your own loss 'squared': pass it again"):
        stored_loss(terms)
    assert stored_loss(terms, CustomErrorMap(squared)) == own
    with pytest.raises(MismatchError, match=r"made for 'l1.5', not 'l1'"):
        stored_loss(loss("l1.5"), "l1")
    with pytest.raises(MismatchError, match="the code of distance 'squared' has changed"):
        stored_loss(terms, CustomErrorMap(squared), "0123")
    assert code_of(stored_loss(terms, CustomErrorMap(squared))) is not None
    assert code_of(MaskedWindow("l1", 9)) is None


def test_names_of_ours_are_taken():
    def ssim_map(y, y_hat):
        return (y - y_hat).abs()

    with pytest.raises(InvalidArgumentError, match="has the name of a built-in one, 'ssim_map'"):
        loss(CustomErrorMap(ssim_map))


@pytest.mark.parametrize("name", ["l1", "l2", "l1.5", "ssim_map"])
def test_error_maps(name):
    used = loss(name).error_map
    for y_hat in (Y_HAT, Y, torch.zeros_like(Y), 1 - Y):
        errors = used.error_map(Y, y_hat)
        assert errors.shape == Y.shape
        assert ((errors >= 0) & (errors <= used.upper_bound)).all()
    assert (used.error_map(Y, Y) == 0).all()


@pytest.mark.parametrize("name", ["water_filling", "trusted_mean"])
def test_just_as_many_wrong_pixels_are_shown_as_may_be(name):
    """j of k are j / k, though float32 weights of 1 / k summed exceeded it in a third of the cases."""
    generator, used, masks = np.random.default_rng(0), MissRate("l1", 0.5), family(name)
    score = torch.arange(1, 401, dtype=torch.float32).reshape(1, 1, 20, 20) / 400
    for k in range(2, 52, 7):
        places = np.sort(generator.choice(400, k, replace=False))
        y_hat = torch.zeros(400)
        y_hat[places] = 1
        shown = y_hat.reshape(score.shape)
        batch = Batch(("image",), shown, shown, torch.zeros(score.shape))
        for j in range(1, k):
            lam = critical_lambdas(batch.with_score(Score(score)), masks, used, np.array([0.0, 1.0]), j / k)
            mask = masks.apply(score, masks.level(score, torch.from_numpy(lam))).flatten()
            assert int((mask[places] > 1 - 1e-5).sum()) == j
            assert int((mask > 1 - 1e-5).sum()) == places[j], "all up to the next wrong one"
