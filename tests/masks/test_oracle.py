import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor

from conformask.arrays import Batch
from conformask.errors import InvalidArgumentError
from conformask.losses import loss, loss_over
from conformask.losses.base import Loss
from conformask.losses.distances import Lp, distance
from conformask.losses.of_images import exact_oracle
from conformask.losses.window import MaskedWindow
from conformask.masks.critical import _descend, paper_oracle

GENERATOR = torch.Generator().manual_seed(0)
Y = torch.rand(4, 3, 16, 16, generator=GENERATOR)
Y_HAT = (Y + 0.1 * torch.randn(Y.shape, generator=GENERATOR)).clamp(0, 1)
Y_HAT[3] = Y[3]


def size(mask: torch.Tensor) -> torch.Tensor:
    return (1 - mask.double()).mean((1, 2, 3))


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("p", [1.0, 2.0])
def test_paper_is_on_the_threshold_and_exact_is_smaller(p: float, per_channel: bool) -> None:
    lp = Lp(p)
    error = lp.error_map(Y, Y_HAT)
    error = error if per_channel else error.mean(1, keepdim=True)
    threshold = 0.3 * float(error[:3].mean())
    paper, reached = paper_oracle(lp, Y, Y_HAT, threshold, per_channel)
    exact = exact_oracle(error, threshold, p)
    assert reached.all()
    assert paper.shape == exact.shape == error.shape
    for mask in (paper, exact):
        masked = (mask.double() ** p * error.double()).mean((1, 2, 3))
        torch.testing.assert_close(masked[:3], torch.full_like(masked[:3], threshold), rtol=1e-6, atol=0)
        assert (masked <= threshold * (1 + 1e-6)).all()
        assert (mask[3] == 1).all()
    assert (size(exact)[:3] < size(paper)[:3]).all()


def test_exact_oracle_of_l1_is_binary_but_for_the_boundary() -> None:
    mask = exact_oracle((Y - Y_HAT).abs(), 0.02, 1.0)
    assert (((mask != 0) & (mask != 1)).sum((1, 2, 3)) <= 1).all()


@pytest.mark.parametrize(("p", "mu"), [(1.0, 20.0), (2.0, 200.0)])
def test_closed_form_agrees_with_adam_on_equation_9(p: float, mu: float) -> None:
    lp, mask = Lp(p), torch.ones_like(Y[:1], requires_grad=True)
    adam = torch.optim.Adam([mask], lr=0.01)
    for _ in range(600):
        adam.zero_grad()
        loss = ((mask - 1) ** 2).mean() + mu * lp(mask * Y[:1], mask * Y_HAT[:1]).sum()
        loss.backward()
        adam.step()
        mask.data.clamp_(0, 1)
    mask = mask.detach()
    threshold = float(lp(mask * Y[:1], mask * Y_HAT[:1]))
    closed, _ = paper_oracle(lp, Y[:1], Y_HAT[:1], threshold, per_channel=True)
    assert float((mask - closed).abs().mean()) < 2e-3


@pytest.mark.parametrize("p", [1.0, 2.0])
def test_closed_form_is_near_the_descent_with_doubling(p: float) -> None:
    lp = Lp(p)
    threshold = 0.3 * float(lp(Y, Y_HAT)[0])
    closed, _ = paper_oracle(lp, Y[:1], Y_HAT[:1], threshold, per_channel=True)
    adam, reached = _descend(lp, Y[:1], Y_HAT[:1], threshold, per_channel=True)
    assert reached.all()
    assert float(size(adam)[0]) == pytest.approx(float(size(closed)[0]), abs=0.06)


@pytest.mark.parametrize("per_channel", [False, True])
def test_other_distances_descend(per_channel: bool) -> None:
    ssim = distance("ssim")
    y, y_hat = Y[2:], Y_HAT[2:]
    threshold = 0.8 * float(ssim(y, y_hat)[0])
    mask, reached = paper_oracle(ssim, y, y_hat, threshold, per_channel)
    assert mask.shape == (2, 3 if per_channel else 1, 16, 16)
    assert reached.all()
    assert float(ssim(mask * y, mask * y_hat)[0]) <= threshold * (1 + 1e-5)
    assert (mask[1] == 1).all()
    assert ((mask >= 0) & (mask <= 1)).all()


def test_failure_is_reported() -> None:
    _, reached = paper_oracle(distance(lambda a, b: (a - b).mean((1, 2, 3)) * 0 + 1), Y, Y_HAT, 0.1, False)
    assert not reached.any()


def test_threshold_zero() -> None:
    assert (exact_oracle((Y - Y_HAT).abs()[:3], 0.0, 1.0) == 0).all()
    with pytest.raises(InvalidArgumentError, match="above 0"):
        paper_oracle(Lp(1.0), Y, Y_HAT, 0.0, True)


def of_loss(used: Loss, threshold: float, region: Tensor | None = None) -> Tensor:
    batch = Batch(("a", "b", "c", "d"), Y, Y_HAT, Y, {} if region is None else {"region": region})
    mask = used.of_batch(batch, 1).oracle(threshold)
    assert mask is not None
    assert (used.on(Y, Y_HAT, region, 1).of(mask) <= threshold * (1 + 1e-5)).all()
    return mask


@pytest.mark.parametrize("regional", [False, True])
@pytest.mark.parametrize("over", ["trusted", "wrong", "missed"])
def test_of_losses_the_linear_program(over: str, regional: bool) -> None:
    used = loss_over("l1", over, {"tolerance": None if over == "trusted" else 0.1})
    threshold = {"missed": 0.3}.get(over, 0.05)
    region = torch.rand(Y[:, :1].shape, generator=torch.Generator().manual_seed(1)) if regional else None
    mask = of_loss(used.in_regions(True) if regional else used, threshold, region)
    error = (Y - Y_HAT).abs().mean(dim=1, keepdim=True).double().flatten(1).numpy()
    r = np.ones_like(error) if region is None else region.double().flatten(1).numpy()
    e = error if over == "trusted" else (error > 0.1).astype(float)
    for k in range(len(Y)):
        bound = r[k] * (e[k] - threshold) if over != "missed" else r[k] * e[k]
        most = 0.0 if over != "missed" else threshold * (r[k] * e[k]).sum()
        best = linprog(-np.ones(len(bound)), A_ub=bound[None], b_ub=[most], bounds=(0, 1))
        assert float(mask[k].sum()) == pytest.approx(-best.fun, rel=2e-3 if over == "missed" else 1e-4)


def test_of_a_window_keeps_the_threshold_and_hides_less_than_everything() -> None:
    mask = of_loss(MaskedWindow("l1", 5), 0.05)
    assert 0 < float(size(mask).mean()) < 1


def test_of_the_paper_form_of_other_distances_none_is_known() -> None:
    assert loss("ssim").of_batch(Batch(("a",) * len(Y), Y, Y_HAT, Y), 1).oracle(0.1) is None
