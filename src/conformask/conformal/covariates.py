"""Facts about images that a rule derives their lambdas from, known at prediction time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from conformask.conformal.curves import Curves


@dataclass(frozen=True)
class ImageCovariates:
    """Facts about n images, all known without their truth; a rule names the facts it needs."""

    n: int
    weight: Float[np.ndarray, "n"] | None = None
    """Likelihood ratio of each image."""
    category: Sequence[str] | None = None
    features: Float[np.ndarray, "n f"] | None = None
    """Features of the scores."""
    bound_curve: Float[np.ndarray, "n g"] | None = None
    """The largest loss that any truth could give, on the grid."""


def covariates_of(curves: Curves) -> ImageCovariates:
    """Return the facts about images whose curves are stored, where the curves have them.

    If no bound is stored, the mean of the mask, 1 - size, is used, which for an lp distance is a little above
    the image's own bound.
    """
    category = None if curves.category is None else curves.category.tolist()
    bound = 1 - curves.size if curves.bound is None else curves.bound
    return ImageCovariates(len(curves.names), curves.weight, category, curves.features, bound)
