"""The gallery of the report: best, typical and worst test images, as pictures."""

import numpy as np
import torch

from conformask.data.triplets import Triplets
from conformask.masker.masker import Masker
from conformask.records.evaluation import Example, ImageRecords
from conformask.report.pictures import as_bytes, error_bytes
from conformask.storage.as_arrays import Array
from conformask.types import Triplet

EACH = 3
"""Images of each kind."""


def examples_of(masker: Masker, test: Triplets, records: ImageRecords, by: Array) -> tuple[Example, ...]:
    """Three of each kind, the best those of the least `by`, (n_test,)."""
    order = np.argsort(by, kind="stable")
    middle = max(0, (len(order) - EACH) // 2)
    kinds = {"best": order[:EACH], "typical": order[middle : middle + EACH], "worst": order[::-1][:EACH]}
    chosen: dict[int, str] = {}
    for kind in ("worst", "best", "typical"):
        for index in kinds[kind]:
            chosen.setdefault(int(index), kind)
    return tuple(_example(masker, test[index], kind, records, index) for index, kind in chosen.items())


def _example(masker: Masker, triplet: Triplet, kind: str, records: ImageRecords, index: int) -> Example:
    x, y_hat = (torch.from_numpy(image)[None] for image in (triplet.x, triplet.y_hat))
    weight = None if triplet.weight is None else [triplet.weight]
    category = None if triplet.category is None else [triplet.category]
    mask = masker.masks(x, y_hat, weight=weight, category=category)[0].numpy()
    oracle = float(records.oracle_size[index])
    return picture_of(
        triplet,
        mask,
        kind=kind,
        size=float(records.size[index]),
        distance=float(records.distance[index]),
        oracle_size=None if np.isnan(oracle) else oracle,
    )


def picture_of(
    triplet: Triplet, mask: Array, *, kind: str, size: float, distance: float, oracle_size: float | None
) -> Example:
    """A triplet and its mask (1 or C, H, W), ready to show."""
    error, scale = error_bytes(triplet.truth(), triplet.y_hat)
    return Example(
        name=triplet.name,
        kind=kind,
        x=as_bytes(triplet.x),
        y=as_bytes(triplet.truth()),
        y_hat=as_bytes(triplet.y_hat),
        mask=as_bytes(mask),
        error=error,
        error_scale=scale,
        size=size,
        distance=distance,
        oracle_size=oracle_size,
    )
