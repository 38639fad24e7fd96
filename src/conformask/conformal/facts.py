"""What a masker knows of images when it asks a rule for their lambdas."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from conformask.records.curves import Curves


@dataclass(frozen=True)
class Facts:
    """Facts of n images, all made without their truth; a rule names those that it needs."""

    n: int
    weight: Float[np.ndarray, "n"] | None = None
    """Likelihood ratio of each image."""
    category: Sequence[str] | None = None
    features: Float[np.ndarray, "n f"] | None = None
    """What its score looks like."""
    bound_curve: Float[np.ndarray, "n g"] | None = None
    """The largest loss that any truth could give, on the grid."""


def facts_of(curves: Curves) -> Facts:
    """The facts of images whose curves are stored, as far as they say.

    Without a stored bound that of an lp distance is the mean of the mask, 1 - size: a little above its own.
    """
    category = None if curves.category is None else curves.category.tolist()
    bound = 1 - curves.size if curves.bound is None else curves.bound
    return Facts(len(curves.names), curves.weight, category, curves.features, bound)
