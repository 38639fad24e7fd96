"""The same promise for every score: exact critical lambdas, and split conformal on them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from maskbench.triplets import Floats

KAPPA = 0.25
"""Of `budgeted`: the share of an image's mean score in its lambda, as the exponent."""


@dataclass(frozen=True)
class Scored:
    """Images with their scores; a mask shows the pixels whose score is below lambda.

    Args:
        score: (n, P), higher = trusted less.
        errors: (n, P), |y - y_hat|.
        threshold: the largest mean error of what is shown.
    """

    score: Floats
    errors: Floats
    threshold: float

    @cached_property
    def _sorted(self) -> tuple[Floats, Floats]:
        order = np.argsort(self.score, axis=1, kind="stable")
        return np.take_along_axis(self.score, order, axis=1), np.take_along_axis(self.errors, order, axis=1)

    @cached_property
    def critical_lambdas(self) -> Floats:
        """The largest lambda with which each image is within the threshold, (n,); inf where all may show."""
        score, errors = self._sorted
        exceeds = errors.cumsum(axis=1) > self.threshold * score.shape[1]
        first = np.take_along_axis(score, exceeds.argmax(axis=1)[:, None], axis=1)[:, 0]
        return np.where(exceeds.any(axis=1), first, np.inf)

    def hidden_shares(self, lambdas: Floats) -> Floats:
        """Return the share of each image's pixels that are hidden at each lambda, (n, len(lambdas))."""
        score, _ = self._sorted
        return np.stack([1 - np.searchsorted(row, lambdas, side="left") / len(row) for row in score])

    @property
    def own_best(self) -> Floats:
        """The hidden share of each image at its own critical lambda, (n,)."""
        score, _ = self._sorted
        pairs = zip(score, self.critical_lambdas, strict=True)
        return np.array([1 - np.searchsorted(row, own, side="left") / len(row) for row, own in pairs])

    @property
    def area(self) -> float:
        """Area under the error left, as a share of all, against the share hidden; mean over images."""
        _, errors = self._sorted
        totals = errors.sum(axis=1, keepdims=True)
        left = errors.cumsum(axis=1)[totals[:, 0] > 0] / totals[totals > 0][:, None]
        return float(left.mean())


def smallest_masks(errors: Floats, threshold: float) -> Floats:
    """Return what the smallest masks of each image within the threshold hide, (n,), from the true errors.

    They show the smallest errors, and of equal ones as many as fit: no score can hide less.
    """
    beyond = np.sort(errors, axis=1).cumsum(axis=1) > threshold * errors.shape[1]
    return np.asarray(beyond.mean(axis=1))


def budgeted(score: Floats) -> Floats:
    """Return a score whose thresholds are budgets: the mean of all scores up to a pixel's, over mean^KAPPA.

    The order within an image stays. It suits scores that estimate the error: a mask shows pixels until their
    estimated errors add up to lambda.
    """
    order = np.argsort(score, axis=1, kind="stable")
    ordered = np.take_along_axis(score, order, axis=1).astype(np.float64)
    ends = np.stack([np.searchsorted(row, row, side="right") - 1 for row in ordered])
    spent = np.take_along_axis(ordered.cumsum(axis=1), ends, axis=1) / score.shape[1]
    means = ordered.mean(axis=1, keepdims=True).clip(min=np.finfo(float).tiny)
    budgets = np.empty_like(spent)
    np.put_along_axis(budgets, order, spent / means**KAPPA, axis=1)
    return budgets


READINGS = {"threshold": lambda score: score, "budget": budgeted}
"""How a score becomes nested masks; for each method the better one on the images to learn from is taken."""
