"""Methods of the literature: their losses against the papers' formulas, and what they find of known noise."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

import conformask as cm
from maskbench import methods
from maskbench.aim import Aim
from maskbench.methods import (
    any_quantile_head,
    ensemble,
    failure_masks,
    failure_net,
    gaussian_head,
    paper,
    paper_masks,
    quantile_head,
    residual_head,
    softmax_head,
)
from maskbench.methods._heads import HIGH, LOW, fitted, inputs, pinball, residuals, unet, width_around
from maskbench.triplets import Floats, Triplets

COUNT, SIDE = 24, 16
STEPS = {
    "quantile_head": 60,
    "gaussian_head": 40,
    "softmax_head": 220,
    "residual_head": 40,
    "any_quantile_head": 80,
    "ensemble": 40,
    "failure_net": 40,
}
"""Enough for the small world."""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def world(channels: int = 1, bias: float = 0) -> Triplets:
    """Return ramps in random directions, with noise of sd 0.15 x and an offset of bias x."""
    generator = np.random.default_rng(0)
    angle = generator.uniform(0, 2 * np.pi, (COUNT, 1, 1, 1))
    down, right = np.meshgrid(*(np.linspace(-0.25, 0.25, SIDE),) * 2, indexing="ij")
    x = 0.4 + np.cos(angle) * down[..., None] + np.sin(angle) * right[..., None]
    x = np.repeat(x, channels, axis=3).astype(np.float32)
    y = (x * (1 + bias + 0.15 * generator.standard_normal(x.shape))).clip(0, 1)
    return Triplets(x, x, y.astype(np.float32), np.arange(COUNT).astype(str))


def score_of(name: str, learn: Triplets, work: Path, steps: int) -> Floats:
    """Return the score of a method on the images that it learned from."""
    return methods.method(name).fit(learn, Aim.of(learn), work, steps)(learn.x, learn.y_hat, {})


def said(output: Tensor) -> nn.Module:
    """Return a network that always says the same."""

    class Fixed(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return output

    return Fixed()


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """Return random numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_pinball_weighs_what_is_above_a_quantile_by_its_level() -> None:
    output, target = drawn(2, 3, 4, 4), 2 * drawn(2, 3, 4, 4, seed=1)
    terms = [
        0.05 * (t - q) if t > q else 0.95 * (q - t)
        for q, t in zip(output.ravel().tolist(), target.ravel().tolist(), strict=True)
    ]
    assert pinball(output, target, LOW).item() == pytest.approx(np.mean(terms), rel=1e-5)


def test_quantile_head_has_a_pinball_loss_for_each_end() -> None:
    output, target = drawn(2, 4, 4, 4), drawn(2, 2, 4, 4, seed=1)
    expected = pinball(output[:, :2], target, 0.05) + pinball(output[:, 2:], target, 0.95)
    assert quantile_head.loss(said(output), target, target) == expected


def test_gaussian_loss_is_that_of_torch() -> None:
    output, target = drawn(2, 4, 4, 4), drawn(2, 2, 4, 4, seed=1)
    expected = nn.GaussianNLLLoss()(output[:, :2], target, output[:, 2:].exp())
    assert gaussian_head.loss(said(output), target, target).item() == pytest.approx(expected.item(), rel=1e-5)


def test_softmax_loss_is_the_cross_entropy_of_the_bin_of_y() -> None:
    output, y = drawn(2, 3 * softmax_head.BINS, 2, 2), drawn(2, 3, 2, 2, seed=1).sigmoid()
    shares = output.reshape(2, softmax_head.BINS, 3, 2, 2).softmax(dim=1).numpy()
    bins = np.floor(y.numpy() * softmax_head.BINS).astype(int)
    expected = -np.log(np.take_along_axis(shares, bins[:, None], axis=1)).mean()
    assert softmax_head.loss(said(output), y, softmax_head.binned(y)).item() == pytest.approx(
        expected, rel=1e-5
    )


def test_quantiles_of_bins_are_those_of_the_distribution() -> None:
    generator = np.random.default_rng(0)
    shares = generator.dirichlet(np.ones(softmax_head.BINS), 7)
    edges = np.linspace(0, 1, softmax_head.BINS + 1)
    for level in (LOW, HIGH):
        found = softmax_head.quantile(torch.from_numpy(shares), level).numpy()
        expected = [np.interp(level, np.concatenate([[0], row.cumsum()]), edges) for row in shares]
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_residual_head_regresses_the_absolute_error() -> None:
    output, target = drawn(2, 1, 4, 4), 3 * drawn(2, 1, 4, 4, seed=1)
    expected = ((output.abs() - target.abs()) ** 2).mean()
    assert residual_head.loss(said(output), target, target) == expected


def test_any_quantile_head_tells_the_network_the_level_that_it_pays_for() -> None:
    seen: list[Tensor] = []

    class Seeing(nn.Module):
        def forward(self, images: Tensor, level: Tensor) -> list[Tensor]:
            seen.append(level)
            return [images * 0]

    above = drawn(5, 2, 4, 4)
    loss = any_quantile_head.loss(Seeing(), above, above)
    level = seen[0][:, :, None, None]
    assert level.flatten().unique().numel() == len(above)
    expected = torch.where(above > 0, level * above, (level - 1) * above).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_intervals_reach_to_the_prediction_as_in_the_public_code() -> None:
    lower, upper, prediction = drawn(3, 50)
    expected = torch.maximum(upper, prediction) - torch.minimum(lower, prediction)
    torch.testing.assert_close(width_around(lower, upper, prediction), expected)


def test_failure_net_regresses_the_squared_error_over_channels() -> None:
    output, target = drawn(2, 1, 4, 4), drawn(2, 3, 4, 4, seed=1)
    expected = ((output[:, 0] - (target**2).sum(dim=1) / 3) ** 2).mean()
    assert failure_net.loss(said(output), target, target).item() == pytest.approx(expected.item(), rel=1e-5)


def test_failure_net_has_the_layers_of_the_paper() -> None:
    layers = failure_net.ErrorNet(2, 1).layers
    block = ["Conv2d", "ReLU", "BatchNorm2d", "Dropout"]
    assert [type(layer).__name__ for layer in layers] == ["BatchNorm2d", *block, *block, "Conv2d"]


def test_mixture_of_an_ensemble_is_that_of_draws_from_all_members() -> None:
    means, variances = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[1.0], [4.0], [0.25]])
    draws = means + variances.sqrt() * drawn(3, 200_000)
    mean, variance = ensemble.mixture(means, variances)
    assert mean.item() == pytest.approx(draws.mean().item(), rel=0.02)
    assert variance.item() == pytest.approx(draws.var().item(), rel=0.02)
    around = gaussian_head.spread_around_y_hat(mean, variance).item()
    assert around == pytest.approx(draws.square().mean().sqrt().item(), rel=0.02)


@pytest.mark.parametrize(("name", "steps"), STEPS.items())
def test_heads_find_the_scale_of_noise(name: str, steps: int, tmp_path: Path) -> None:
    learn = world()
    score = score_of(name, learn, tmp_path, steps)
    assert spearmanr(score.ravel(), learn.x.ravel()).statistic > 0.8


def test_dropout_spreads_more_where_corrections_are_larger(tmp_path: Path) -> None:
    learn = world(bias=-0.5)
    score = score_of("mc_dropout", learn, tmp_path, 60)
    assert spearmanr(score.ravel(), learn.x.ravel()).statistic > 0.3


@pytest.mark.parametrize("name", [*STEPS, "mc_dropout"])
def test_three_channels_and_a_smaller_x_give_one_value_for_each_pixel(name: str, tmp_path: Path) -> None:
    learn = world(channels=3)
    smaller = Triplets(learn.x[:, ::2, ::2], learn.y_hat, learn.y, learn.groups)
    score = score_of(name, smaller, tmp_path, 2)
    assert score.shape == learn.y.shape[:3]
    assert np.isfinite(score).all()
    assert (score >= 0).all()


def test_weights_are_kept_and_the_same_for_the_same_seed(tmp_path: Path) -> None:
    learn, trainings = world(), 0

    def loss(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        nonlocal trainings
        trainings += 1
        return residual_head.loss(network, images, targets)

    def said_with(work: Path) -> Tensor:
        work.mkdir(exist_ok=True)
        network = fitted(lambda: unet(learn, 1), loss, learn, residuals(learn), work, 3)
        with torch.inference_mode():
            return network(inputs(learn.x, learn.y_hat))

    first, again, anew = (said_with(tmp_path / folder) for folder in "aab")
    assert trainings == 6
    assert torch.equal(first, again)
    assert torch.equal(first, anew)


def test_failure_masks_control_the_mean_over_all_pixels() -> None:
    generator = np.random.default_rng(0)
    score, errors = generator.random((5, 6, 6)).round(2), generator.random((5, 6, 6))
    lam = failure_masks.controlled(score, errors, 0.1)

    def bound(at: float) -> float:
        n, risk = score.size, (errors * (score < at)).mean()
        return float(n / (n + 1) * risk + 1 / (n + 1))

    assert bound(lam) <= 0.1 < bound(np.nextafter(lam, 1))
    assert failure_masks.controlled(score, errors, 1.1) == np.inf


def test_masks_of_the_paper_are_reciprocal_and_keep_their_promise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = replace(world(), groups=np.array(["a", "b"] * (COUNT // 2)))
    scorer = cm.Heuristic(cm.local_spread, channels=1)
    monkeypatch.setattr(paper, "trained", lambda learn, work: scorer)
    aim = Aim(0.02)
    masks = paper_masks.masks(images, images, aim, tmp_path / "paper_masks")(images.x, images.y_hat, {})
    losses = (masks * images.errors).mean(axis=(1, 2))
    assert masks.shape == images.errors.shape
    assert len(np.unique(masks)) > 2
    assert (losses <= aim.threshold).mean() >= aim.confidence
