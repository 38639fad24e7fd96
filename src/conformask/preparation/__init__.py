"""Preparation of triplets: x from true images by a task, y_hat by a network."""

from conformask.preparation.outputs import add_outputs
from conformask.preparation.triplets import (
    ROLES,
    population_of,
    predicted,
    predictor_named,
    provenance_of,
    true_images,
    write_triplets,
)

__all__ = [
    "ROLES",
    "add_outputs",
    "population_of",
    "predicted",
    "predictor_named",
    "provenance_of",
    "true_images",
    "write_triplets",
]
