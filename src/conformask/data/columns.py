"""The groups, categories and weights of triplets, as columns of the curves."""

from dataclasses import replace
from typing import Any

import numpy as np

from conformask.data.triplets import Triplets
from conformask.records.curves import Curves
from conformask.types import Array


def columns_of(triplets: Triplets) -> dict[str, Array | None]:
    """Return group, category and weight of the triplets; None for what they do not have."""
    category, weight = triplets.categories, triplets.weights
    return {
        "group": np.array(triplets.groups),
        "category": None if None in category else np.array(category),
        "weight": None if None in weight else np.array(weight, dtype=np.float64),
    }


def labelled(curves: Curves, triplets: Triplets) -> Curves:
    """Add the columns of these triplets to their curves, except those that the curves already have."""
    columns: dict[str, Any] = columns_of(triplets)
    return replace(curves, **{name: columns[name] for name in columns if getattr(curves, name) is None})
