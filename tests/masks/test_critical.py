"""Critical lambdas, and the smallest mask that keeps the threshold, found with the truth."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from conformask.arrays import Batch, Score
from conformask.errors import InvalidArgumentError
from conformask.losses import loss, loss_over
from conformask.losses.distances import Lp, distance
from conformask.losses.means import FalseOmissionRate, MeanShown
from conformask.losses.of_images import LossOfImages, exact_oracle
from conformask.losses.window import MaskedWindow
from conformask.masks.critical import (
    GRID_POINTS,
    _descend,
    batch_curves,
    bound_curves,
    concatenate,
    critical_lambdas,
    curves,
    features_of,
    lambda_grid,
    mask_size,
    measured_curves,
    measures,
    paper_oracle,
    size_at,
)
from conformask.masks.families import FAMILIES, family
from conformask.masks.kernels import KAPPA
from conformask.promises.order import first_crossing, meets_threshold
from conformask.promises.promise import Promise

GENERATOR = torch.Generator().manual_seed(0)
COUNT = 14
Y = torch.rand(COUNT, 3, 12, 13, generator=GENERATOR)
SCALE = 0.2 * torch.rand(COUNT, 1, 12, 13, generator=GENERATOR)
Y_HAT = (Y + SCALE * torch.randn(Y.shape, generator=GENERATOR)).clamp(0, 1)
NAMES = tuple(f"image {k}" for k in range(COUNT))


def items(batch_size=COUNT, score=SCALE):
    for k in range(0, COUNT, batch_size):
        part = slice(k, k + batch_size)
        yield Batch(NAMES[part], Y[part, :1], Y_HAT[part], Y[part]).with_score(Score(score[part]))


def grid_of(chosen, used, points=GRID_POINTS, score=SCALE):
    return lambda_grid(chosen, used, list(items(score=score)), points)


def masked(used, mask, y, y_hat):
    return used.on(y, y_hat, None, mask.shape[1]).of(mask)


def signed(a, b):
    return (a - b).mean((1, 2, 3)).abs()


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("p", [1.0, 2.0])
def test_curves(name, p):
    chosen = family(name, p)
    grid = grid_of(chosen, loss(Lp(p)))
    found = curves(items(), chosen, loss(Lp(p)), grid)
    assert found.names.tolist() == list(NAMES)
    assert found.loss.shape == found.size.shape == (COUNT, len(grid))
    assert found.loss.dtype == found.size.dtype == np.float64
    assert (np.diff(found.loss, axis=1) >= -1e-12).all(), "an lp distance grows as the mask opens"
    assert (np.diff(found.size, axis=1) <= 1e-12).all()
    assert (found.loss[:, 0] == 0).all()
    assert (found.size[:, 0] == 1).all()
    assert (found.size[:, -1] == 0).all()
    np.testing.assert_allclose(found.loss[:, -1], Lp(p)(Y, Y_HAT).numpy(), rtol=1e-6)
    middle = len(grid) // 2
    lam = torch.full((COUNT,), grid[middle], dtype=torch.float64)
    mask = chosen.apply(SCALE, chosen.level(SCALE, lam))
    np.testing.assert_allclose(found.size[:, middle], 1 - mask.double().mean((1, 2, 3)), rtol=1e-6)
    expected = (mask * (Y - Y_HAT)).double().abs().pow(p).mean((1, 2, 3))
    np.testing.assert_allclose(found.loss[:, middle], expected, rtol=1e-4)


@pytest.mark.parametrize("p", [1.0, 2.0])
@pytest.mark.parametrize("name", FAMILIES)
def test_exact_solutions_meet_the_threshold_however_small_the_errors(name, p):
    y_hat = Y + 1e-4 * SCALE * torch.randn(Y.shape, generator=GENERATOR)
    (item,) = (Batch(NAMES, Y, y_hat, Y).with_score(Score(SCALE)),)
    threshold = 0.5 * float(Lp(p)(Y, y_hat).min())
    chosen = family(name, p)
    critical = torch.from_numpy(
        critical_lambdas(item, chosen, loss(Lp(p)), np.array([0.0, np.inf]), threshold)
    )
    for factor, met in ((1.0, True), (1.001, False)):
        mask = chosen.apply(SCALE, chosen.level(SCALE, factor * critical))
        distances = masked(loss(Lp(p)), mask, Y, y_hat).numpy()
        assert (meets_threshold(distances, threshold) == met).all(), distances / threshold - 1


def test_curves_are_kept_raw():
    y = torch.full((1, 1, 4, 4), 0.5)
    y_hat = y + torch.tensor([0.1, -0.1]).repeat(8).view(1, 1, 4, 4)
    score = torch.tensor([0.1, 0.9]).repeat(8).view(1, 1, 4, 4)
    item = Batch(("one",), y, y_hat, y).with_score(Score(score))
    chosen = family("reciprocal")
    found = curves([item], chosen, loss(signed), lambda_grid(chosen, loss(signed), [item]))
    assert found.loss.max() > 0.03
    assert found.loss[0, -1] == pytest.approx(0, abs=1e-6)
    critical = first_crossing(found.grid, found.loss, 0.01)
    assert 0 < critical[0] < 0.3, "it passes at the end, but not all the way"


@pytest.mark.parametrize("name", FAMILIES)
def test_the_grid_covers_all_sizes(name):
    chosen = family(name)
    scores = [SCALE[:5], 3 * SCALE[5:]]
    uneven = items(score=torch.cat(scores))
    grid = lambda_grid(chosen, loss(Lp(1.0)), list(uneven))
    assert grid[0] == 0
    assert grid[-1] == math.inf
    assert len(grid) == GRID_POINTS + 2
    assert (np.diff(grid) > 0).all()

    def size(lam):
        found = [
            mask_size(chosen.apply(s, chosen.level(s, torch.full((len(s),), lam, dtype=torch.float64))))
            for s in scores
        ]
        return float(torch.cat(found).mean())

    assert size(grid[1]) >= 0.999
    assert size(grid[1] * 9.9) >= 0.9989
    assert size(grid[1] * 10.1) <= 0.9991
    assert size(grid[-2]) == size(grid[-2] / 9.9) == 0
    assert size(grid[-2] / 10.1) > 0


@pytest.mark.parametrize("factor", [1e-20, 1e10, 1e25])
def test_the_grid_follows_scores_of_any_size(factor):
    chosen = family("water_filling")
    usual, scaled = (grid_of(chosen, loss(Lp(1.0)), score=score) for score in (SCALE, factor * SCALE))
    np.testing.assert_allclose(scaled, factor ** (1 - KAPPA) * usual, rtol=1e-3)
    large = family("power", 1.0)
    sizes = curves(
        items(score=1e10 * SCALE), large, loss(Lp(1.0)), grid_of(large, loss(Lp(1.0)), score=1e10 * SCALE)
    ).size
    assert np.abs(np.diff(sizes.mean(axis=0))).max() < 0.1


def test_scores_too_large_for_any_grid_are_refused():
    with pytest.raises(InvalidArgumentError, match=r"reaches 1\.\d+e\+37.*scale it"):
        grid_of(family("reciprocal"), loss(Lp(1.0)), score=1e38 * SCALE)


@pytest.mark.parametrize("wanted", ["l1", "ssim"])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_grid_lies_where_masks_and_distances_change(name, wanted):
    chosen, used = family(name), loss(wanted)

    def longest_steps(points):
        found = curves(items(), chosen, used, grid_of(chosen, used, points))
        risk = np.maximum.accumulate(found.loss, axis=1).mean(axis=0)
        return float(-np.diff(found.size.mean(axis=0)).min()), float(np.diff(risk).max() / risk[-1])

    for points in (24, 96):
        assert max(longest_steps(points)) < 6 / points


@pytest.mark.parametrize("score", [torch.zeros(3, 1, 4, 4), torch.full((3, 1, 4, 4), 0.25)])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_grid_of_flat_scores(name, score):
    images = (image[:3, :, :4, :4] for image in (Y[:, :1], Y_HAT, Y))
    flat = Batch(NAMES[:3], *images).with_score(Score(score))
    grid = lambda_grid(family(name), loss(Lp(1.0)), [flat])
    assert (np.diff(grid) > 0).all()
    assert not np.isnan(grid).any()


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("p", [1.0, 2.0])
@pytest.mark.parametrize("per_channel", [False, True])
def test_exact_against_the_grid(name, p, per_channel):
    score = SCALE.expand(-1, 3, -1, -1).contiguous() if per_channel else SCALE
    chosen = family(name, p)
    grid = grid_of(chosen, loss(Lp(p)), score=score)
    unmasked = Lp(p)(Y, Y_HAT).numpy()
    threshold = float(np.quantile(unmasked, 0.4))
    found = concatenate(measures(item, chosen, loss(Lp(p)), grid, threshold) for item in items(score=score))
    critical = found["critical_lambda"]
    on_grid = first_crossing(grid, found["distance"], threshold)
    np.testing.assert_array_equal(np.isinf(critical), unmasked <= threshold)
    if per_channel or p == 1:
        assert (critical >= on_grid * (1 - 1e-6)).all()
        finite = np.isfinite(critical)
        following = grid[np.searchsorted(grid, on_grid[finite]) + 1]
        assert finite.sum() >= 5
        assert (critical[finite] <= following * (1 + 1e-6)).all()
    for k in np.flatnonzero(np.isfinite(critical)):
        lam = torch.tensor([critical[k]])
        mask = chosen.apply(score[k : k + 1], chosen.level(score[k : k + 1], lam))
        reached = float(masked(loss(Lp(p)), mask, Y[k : k + 1], Y_HAT[k : k + 1])[0])
        if name == "binary":
            assert reached <= threshold * (1 + 1e-6), "the next score would exceed it, as the grid shows"
        else:
            assert reached == pytest.approx(threshold, rel=1e-4)


@pytest.mark.parametrize("wanted", ["l1", "l2", "ssim", signed])
def test_the_batch_size_does_not_matter(wanted):
    used = loss(wanted)
    chosen = family("reciprocal")
    grid = grid_of(chosen, used)
    threshold = 0.5 * float(masked(used, torch.ones_like(Y), Y, Y_HAT).median())
    whole, parts = (
        concatenate(measures(item, chosen, used, grid, threshold) for item in items(size))
        for size in (COUNT, 3)
    )
    assert whole["names"].tolist() == parts["names"].tolist()
    np.testing.assert_allclose(whole["distance"], parts["distance"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(whole["size"], parts["size"], atol=1e-7)
    np.testing.assert_allclose(whole["features"], parts["features"], rtol=1e-6)
    if used.traits.monotone:
        np.testing.assert_allclose(whole["critical_lambda"], parts["critical_lambda"], rtol=1e-5)
        assert len(np.unique(whole["critical_lambda"])) >= 3


def test_lambdas_a_call_do_not_matter(monkeypatch):
    (item,) = items()
    chosen, used = family("reciprocal"), loss("ssim")
    grid = grid_of(chosen, used)[::9]
    at_once = measured_curves(item, chosen, used, grid)
    monkeypatch.setattr("conformask.losses.of_images.VALUES_A_CALL", 1)
    one_by_one = measured_curves(item, chosen, used, grid)
    np.testing.assert_allclose(at_once, one_by_one, atol=2e-6)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("p", [1.0, 2.0])
def test_no_truth_is_further_than_the_bound(name, p):
    (item,) = items()
    chosen = family(name, p)
    grid = grid_of(chosen, loss(Lp(p)))
    bound = bound_curves(item, chosen, loss(Lp(p)), grid)
    furthest = replace(item, y=(Y_HAT < 0.5).float()).with_score(item.score)
    np.testing.assert_allclose(
        curves([furthest], chosen, loss(Lp(p)), grid).loss, bound, rtol=1e-5, atol=1e-9
    )
    generator = torch.Generator().manual_seed(1)
    other = replace(item, y=torch.rand(Y.shape, generator=generator)).with_score(item.score)
    found = curves([other], chosen, loss(Lp(p)), grid)
    assert (found.loss <= bound + 1e-9).all()
    assert (bound <= found.covariates.bound_curve + 1e-6).all(), "the mean of the mask is above both"


def test_features_are_finite_and_tell_scores_apart():
    maps = torch.stack([torch.zeros(1, 6, 7), torch.ones(1, 6, 7), torch.rand(1, 6, 7), SCALE[0, :, :6, :7]])
    found = features_of(Score(maps))
    assert found.shape == (4, 3)
    assert np.isfinite(found).all()
    assert len(np.unique(found.round(6), axis=0)) == 4
    with_own = features_of(Score(maps, torch.arange(8.0).reshape(4, 2)))
    np.testing.assert_array_equal(with_own[:, 3:], np.arange(8.0).reshape(4, 2))
    np.testing.assert_allclose(features_of(Score(100 * maps[1:]))[:, 1:], found[1:, 1:], atol=1e-6)


def test_a_fully_masked_image_passes_any_distance():
    for used in (loss("l1"), loss("l2"), loss("ssim")):
        assert (masked(used, torch.zeros(COUNT, 1, 12, 13), Y, Y_HAT) <= 1e-6).all()


def test_size_at_reads_off_the_curves():
    chosen = family("water_filling", 1.0)
    found = curves(items(), chosen, loss(Lp(1.0)), grid_of(chosen, loss(Lp(1.0))))
    wanted = Promise("marginal", 0.9)
    sizes = [size_at(found, t, wanted, loss(Lp(1.0))) for t in (1e-9, 0.01, 0.03, 0.06, 1.0)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 0
    lam = np.sort(first_crossing(found.grid, found.loss, 0.03))[0]
    column = int(np.flatnonzero(found.grid == lam)[0])
    assert sizes[2] == pytest.approx(found.size[:, column].mean())


@pytest.mark.parametrize("name", FAMILIES)
def test_bisection_comes_from_below_to_what_the_kernels_find(name):
    chosen, item = family(name), next(items())
    measured = loss("l1").of_batch(item, 1)
    for threshold in (0.001, 0.01, 0.03, 1.0):
        exact = chosen.critical_lambda(SCALE, measured.error, 1.0, threshold).numpy()
        bisection = LossOfImages.critical_lambda(measured, SCALE, chosen, threshold).numpy()
        assert (np.isinf(bisection) == np.isinf(exact)).all()
        finite = np.isfinite(exact)
        assert (bisection[finite] <= exact[finite] * (1 + 1e-6)).all()
        np.testing.assert_allclose(bisection[finite], exact[finite], rtol=2e-6)


def test_bisection_finds_exactly_0_where_no_mask_that_opens_anything_passes():
    """Pixels of score 0 are open at every lambda; the smallest that is tried would be no answer."""
    item = next(items(2, torch.cat([torch.zeros_like(SCALE[:1]), SCALE[1:]])))
    used, whole = MaskedWindow("l1", 5), torch.ones_like(item.score.map)
    threshold = 0.5 * float(masked(used, whole, item.truth(), item.y_hat).min())
    found = critical_lambdas(item, family("water_filling"), used, np.array([0.0, np.inf]), threshold)
    assert found[0] == 0
    assert found[1] > 1e-3


@pytest.mark.parametrize("over", ["trusted", "wrong"])
@pytest.mark.parametrize("name", FAMILIES)
def test_curves_of_what_is_relative_to_the_shown_are_those_of_the_masks(name, over):
    chosen, item = family(name), next(items())
    used = FalseOmissionRate("l1", 0.1) if over == "wrong" else MeanShown("l1")
    grid = grid_of(chosen, used, 24)
    by_kernels, by_masks = batch_curves(item, chosen, used, grid), measured_curves(item, chosen, used, grid)
    np.testing.assert_allclose(by_kernels[0], by_masks[0], rtol=2e-4, atol=1e-7)
    np.testing.assert_allclose(by_kernels[1], by_masks[1], atol=1e-6)
    assert (by_kernels[0][:, 0] == 0).all()
    first = by_masks[1][:, 1].mean()
    assert first == pytest.approx(0.99, abs=0.006), "its first point shows a hundredth"


SEEDED = torch.Generator().manual_seed(0)
TRUTHS = torch.rand(4, 3, 16, 16, generator=SEEDED)
OUTPUTS = (TRUTHS + 0.1 * torch.randn(TRUTHS.shape, generator=SEEDED)).clamp(0, 1)
OUTPUTS[3] = TRUTHS[3]


def size(mask):
    return (1 - mask.double()).mean((1, 2, 3))


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("p", [1.0, 2.0])
def test_paper_is_on_the_threshold_and_exact_is_smaller(p, per_channel):
    lp = Lp(p)
    error = lp.error_map(TRUTHS, OUTPUTS)
    error = error if per_channel else error.mean(1, keepdim=True)
    threshold = 0.3 * float(error[:3].mean())
    paper, reached = paper_oracle(lp, TRUTHS, OUTPUTS, threshold, per_channel)
    exact = exact_oracle(error, threshold, p)
    assert reached.all()
    assert paper.shape == exact.shape == error.shape
    for mask in (paper, exact):
        masked = (mask.double() ** p * error.double()).mean((1, 2, 3))
        torch.testing.assert_close(masked[:3], torch.full_like(masked[:3], threshold), rtol=1e-6, atol=0)
        assert (masked <= threshold * (1 + 1e-6)).all()
        assert (mask[3] == 1).all()
    assert (size(exact)[:3] < size(paper)[:3]).all()


def test_exact_oracle_of_l1_is_binary_but_for_the_boundary():
    mask = exact_oracle((TRUTHS - OUTPUTS).abs(), 0.02, 1.0)
    assert (((mask != 0) & (mask != 1)).sum((1, 2, 3)) <= 1).all()


@pytest.mark.parametrize(("p", "mu"), [(1.0, 20.0), (2.0, 200.0)])
def test_closed_form_agrees_with_adam_on_equation_9(p, mu):
    lp, mask = Lp(p), torch.ones_like(TRUTHS[:1], requires_grad=True)
    adam = torch.optim.Adam([mask], lr=0.01)
    for _ in range(600):
        adam.zero_grad()
        loss = ((mask - 1) ** 2).mean() + mu * lp(mask * TRUTHS[:1], mask * OUTPUTS[:1]).sum()
        loss.backward()
        adam.step()
        mask.data.clamp_(0, 1)
    mask = mask.detach()
    threshold = float(lp(mask * TRUTHS[:1], mask * OUTPUTS[:1]))
    closed, _ = paper_oracle(lp, TRUTHS[:1], OUTPUTS[:1], threshold, per_channel=True)
    assert float((mask - closed).abs().mean()) < 2e-3


@pytest.mark.parametrize("p", [1.0, 2.0])
def test_closed_form_is_near_the_descent_with_doubling(p):
    lp = Lp(p)
    threshold = 0.3 * float(lp(TRUTHS, OUTPUTS)[0])
    closed, _ = paper_oracle(lp, TRUTHS[:1], OUTPUTS[:1], threshold, per_channel=True)
    adam, reached = _descend(lp, TRUTHS[:1], OUTPUTS[:1], threshold, per_channel=True)
    assert reached.all()
    assert float(size(adam)[0]) == pytest.approx(float(size(closed)[0]), abs=0.06)


@pytest.mark.parametrize("per_channel", [False, True])
def test_other_distances_descend(per_channel):
    ssim = distance("ssim")
    y, y_hat = TRUTHS[2:], OUTPUTS[2:]
    threshold = 0.8 * float(ssim(y, y_hat)[0])
    mask, reached = paper_oracle(ssim, y, y_hat, threshold, per_channel)
    assert mask.shape == (2, 3 if per_channel else 1, 16, 16)
    assert reached.all()
    assert float(ssim(mask * y, mask * y_hat)[0]) <= threshold * (1 + 1e-5)
    assert (mask[1] == 1).all()
    assert ((mask >= 0) & (mask <= 1)).all()


def test_failure_is_reported():
    _, reached = paper_oracle(
        distance(lambda a, b: (a - b).mean((1, 2, 3)) * 0 + 1), TRUTHS, OUTPUTS, 0.1, False
    )
    assert not reached.any()


def test_threshold_zero():
    assert (exact_oracle((TRUTHS - OUTPUTS).abs()[:3], 0.0, 1.0) == 0).all()
    with pytest.raises(InvalidArgumentError, match="above 0"):
        paper_oracle(Lp(1.0), TRUTHS, OUTPUTS, 0.0, True)


def of_loss(used, threshold, region=None):
    batch = Batch(
        ("a", "b", "c", "d"),
        TRUTHS,
        OUTPUTS,
        TRUTHS,
        {} if region is None else {"region": region},
    )
    mask = used.of_batch(batch, 1).oracle(threshold)
    assert mask is not None
    assert (used.on(TRUTHS, OUTPUTS, region, 1).of(mask) <= threshold * (1 + 1e-5)).all()
    return mask


@pytest.mark.parametrize("regional", [False, True])
@pytest.mark.parametrize("over", ["trusted", "wrong", "missed"])
def test_of_losses_the_linear_program(over, regional):
    used = loss_over("l1", over, {"tolerance": None if over == "trusted" else 0.1})
    threshold = {"missed": 0.3}.get(over, 0.05)
    region = torch.rand(TRUTHS[:, :1].shape, generator=torch.Generator().manual_seed(1)) if regional else None
    mask = of_loss(used.in_regions(True) if regional else used, threshold, region)
    error = (TRUTHS - OUTPUTS).abs().mean(dim=1, keepdim=True).double().flatten(1).numpy()
    r = np.ones_like(error) if region is None else region.double().flatten(1).numpy()
    e = error if over == "trusted" else (error > 0.1).astype(float)
    for k in range(len(TRUTHS)):
        bound = r[k] * (e[k] - threshold) if over != "missed" else r[k] * e[k]
        most = 0.0 if over != "missed" else threshold * (r[k] * e[k]).sum()
        best = linprog(-np.ones(len(bound)), A_ub=bound[None], b_ub=[most], bounds=(0, 1))
        assert float(mask[k].sum()) == pytest.approx(-best.fun, rel=2e-3 if over == "missed" else 1e-4)


def test_of_a_window_keeps_the_threshold_and_hides_less_than_everything():
    mask = of_loss(MaskedWindow("l1", 5), 0.05)
    assert 0 < float(size(mask).mean()) < 1


def test_of_the_paper_form_of_other_distances_none_is_known():
    assert loss("ssim").of_batch(Batch(("a",) * len(TRUTHS), TRUTHS, OUTPUTS, TRUTHS), 1).oracle(0.1) is None
