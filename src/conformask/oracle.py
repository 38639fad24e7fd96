"""The best mask given the truth: the exact one, and the paper's Opt."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from conformask.arithmetic import image_means, per_image
from conformask.calibration import bisect
from conformask.conformal.crossing import SLACK
from conformask.errors import InvalidArgumentError
from conformask.losses.map_loss import Sums
from conformask.losses.window import LargestShown, WindowOfImages, around
from conformask.masks.power import Reciprocal
from conformask.masks.water_filling import WaterFilling
from conformask.types import Batch, Distance, Images, Loss

STEPS, STEP_SIZE, FIRST_MU, DOUBLING = 1000, 0.01, 2.0, 50
"""Settings of Adam; mu starts at FIRST_MU and doubles every DOUBLING steps."""

SMALLEST_ERROR = 1e-6
"""Local mean errors below this are dimmed alike by the oracle for window losses."""

Curve = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


def exact_oracle(error_p: Images, threshold: float, exponent: float) -> Images:
    """Return the smallest mask (in mean(1 - m)) with mean(m^p * error) <= threshold: the optimum of (P1).

    error_p is |y - y_hat|^p, (N, C, H, W), averaged over channels for a one-channel mask; p the exponent.
    At p = 1 it is binary but for the boundary. With threshold 0 everything is masked.

    Raises:
        InvalidArgumentError: an error or the threshold is negative or NaN.
    """
    family = WaterFilling(exponent, kappa=0.0)
    budget = torch.full((len(error_p),), threshold, dtype=torch.float64)
    return family.apply(error_p, family.level(error_p, budget))


def oracle(loss: Loss, batch: Batch, channels: int, threshold: float) -> Images | None:
    """Return the smallest mask of each image within the threshold, given the truth; None where none is known.

    It is exact for losses that are sums over pixels: image and missed by `exact_oracle`, trusted and wrong by
    the smallest errors as long as their mean is within the threshold; local by hiding the pixels whose local
    mean is above it, and objects likewise where no wrong one may be shown. For window it uses the reciprocal
    family on the realised local mean errors, which is not always the smallest.
    """
    image_loss = loss.of_batch(batch, channels)
    if isinstance(image_loss, Sums):
        if loss.terms.of_objects:
            return None  # the best masks of pixels cut an object in two
        return _sums_oracle(image_loss, threshold)
    if isinstance(image_loss, LargestShown):
        return 1 - image_loss.beyond(threshold)
    return _windows_oracle(image_loss, threshold) if isinstance(image_loss, WindowOfImages) else None


def _sums_oracle(sums: Sums, threshold: float) -> Images:
    if sums.shown is None:
        return exact_oracle(sums.error, threshold, sums.exponent)
    costs = sums.error.double() - threshold * sums.shown.double()
    return torch.stack([_cheapest_mask(cost) for cost in costs])


def _cheapest_mask(cost: Tensor) -> Tensor:
    """Return the largest mask of an image with sum(m * cost) <= 0: cheapest first, the last pixel in part."""
    ascending, order = cost.flatten().sort()
    total = ascending.cumsum(0)
    total_before = total - ascending
    # a fractional knapsack: cheapest first is optimal, and at most one pixel is taken in part
    fraction = torch.where(total_before < 0, -total_before / ascending.where(ascending > 0, 1.0), 0.0)
    mask = torch.where(total <= 0, 1.0, fraction).clamp(0, 1)
    return torch.empty_like(mask).scatter_(0, order, mask).float().reshape(cost.shape)


def _windows_oracle(windows: WindowOfImages, threshold: float) -> Images:
    family, score = Reciprocal(epsilon=SMALLEST_ERROR), around(windows.error, windows.sides)
    lambdas = bisect(score, family, windows, threshold)
    return family.apply(score, family.level(score, lambdas))


def paper_oracle(
    distance: Distance, y: Images, y_hat: Images, threshold: float, per_channel: bool
) -> tuple[Images, Bool[Tensor, "n"]]:
    """Return the paper's Opt, eq. 9 on the realised error with mu per image, and where it succeeded.

    The mask has one channel, or those of y_hat if per_channel; it is 1 where an image passes unmasked. It is
    found for l1 and l2 in closed form with d_m = threshold, else by Adam with mu doubled until d_m <=
    threshold.

    Raises:
        InvalidArgumentError: the threshold is not above 0.
    """
    if not threshold > 0:
        raise InvalidArgumentError(f"threshold: {threshold}; the paper's oracle needs one above 0")
    exponent = distance.exponent
    if exponent is None or exponent not in CURVES:
        return _descend(distance, y, y_hat, threshold, per_channel)
    error = (y.cpu().double() - y_hat.cpu().double()).abs() ** exponent
    error = error if per_channel else error.mean(1, keepdim=True)
    mask, reached = _solve_closed_form(CURVES[exponent], error, threshold)
    return mask.to(y.device), reached.to(y.device)


def _linear(error: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the l1 mask max(0, 1 - c e), and d_m with its derivative with respect to c, per pixel."""
    mask = (1 - c * error).clamp(min=0)
    return mask, mask * error, -(error**2) * (mask > 0)


def _rational(error: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the l2 mask 1 / (1 + c e), e the squared error, d_m and its derivative by c, per pixel."""
    mask = 1 / (1 + c * error)
    return mask, mask**2 * error, -2 * mask**3 * error**2


CURVES: Mapping[float, Curve] = {1.0: _linear, 2.0: _rational}


def _solve_closed_form(curve: Curve, error: Tensor, threshold: float) -> tuple[Images, Bool[Tensor, "n"]]:
    """Solve d_m(c) = threshold by Newton: convex and decreasing in c, so it never overshoots from c = 0."""
    c = per_image(error.new_zeros(len(error)), error)
    for _ in range(STEPS):
        mask, masked_error, slope = curve(error, c)
        excess = per_image(image_means(masked_error), error) - threshold
        passed = excess <= threshold * SLACK / 2
        if passed.all():
            break
        c = torch.where(passed, c, c - excess / per_image(image_means(slope), error))
    return mask.float(), passed.flatten()


def _descend(
    distance: Distance, y: Images, y_hat: Images, threshold: float, per_channel: bool
) -> tuple[Images, Bool[Tensor, "n"]]:
    """Minimise mean (m - 1)^2 + mu * d_m by Adam from m = 1, clipped to [0, 1]; freeze images that pass."""
    mask = torch.ones_like(y_hat if per_channel else y_hat[:, :1], requires_grad=True)
    optimizer = torch.optim.Adam([mask], lr=STEP_SIZE)
    masks, reached = mask.detach().clone(), torch.zeros(len(y), dtype=torch.bool, device=y.device)
    for step in range(STEPS + 1):
        with torch.enable_grad():
            masked = distance(mask * y, mask * y_hat)
            mu = FIRST_MU * 2 ** (step // DOUBLING)
            loss = image_means((mask - 1) ** 2) + mu * masked
        # an image keeps the mask with which it first passed, while others go on
        masks = torch.where(per_image(reached, mask), masks, mask.detach())
        reached |= masked.detach() <= threshold * (1 + SLACK)
        if reached.all():
            break
        _step(optimizer, loss.sum(), mask)
    return masks, reached


def _step(optimizer: torch.optim.Optimizer, loss: Float[Tensor, ""], mask: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    with torch.no_grad():
        mask.clamp_(0, 1)
