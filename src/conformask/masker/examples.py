"""Examples of an evaluation: the best, typical and worst images under their masks, as pictures."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from conformask.arrays import Array, Triplet
from conformask.images.pictures import as_bytes, error_bytes, in_colors, planes_of
from conformask.images.triplets import Triplets, stacked
from conformask.masker.masker import Masker
from conformask.records.evaluation import Example, ImageRecords

EACH = 3
"""Number of images of each kind."""


def gain_of(records: ImageRecords, met: Array) -> Array:
    """Return how much less loss each mask leaves than a uniform mask of its size.

    It is -inf where a mask failed, or hides nothing. Images that are hidden altogether gain nothing.
    """
    uniform_loss = (1 - records.size) * records.unmasked_loss
    return np.where(met & (records.size > 0), uniform_loss - records.loss, -np.inf)


def examples_of(
    masker: Masker,
    test: Triplets,
    records: ImageRecords,
    by: Array,
    gain: Array,
    releases: Mapping[str, str],
) -> tuple[Example, ...]:
    """Return three of each kind: best by the largest gain, (n_test,), worst by the largest `by`, typical.

    The best hide something. For volumes it takes one of each kind, and shows selected slices of it.
    `releases` says by name whether an image would be released.
    """
    order, best = np.argsort(by, kind="stable"), np.argsort(-gain, kind="stable")
    count = EACH if test.dimensions == 2 else 1
    middle = max(0, (len(order) - count) // 2)
    kinds = {
        "best": best[:count][gain[best[:count]] > -np.inf],
        "typical": order[middle : middle + count],
        "worst": order[::-1][:count],
    }
    kind_by_index: dict[int, str] = {}
    # an image is shown once; one that is among the worst must not be shown as typical
    for kind in ("worst", "best", "typical"):
        for index in kinds[kind]:
            kind_by_index.setdefault(int(index), kind)
    return tuple(
        replace(example, release=releases.get(test.names[index], ""))
        for index, kind in kind_by_index.items()
        for example in _examples(masker, test[index], kind, records, index)
    )


def _examples(
    masker: Masker, triplet: Triplet, kind: str, records: ImageRecords, index: int
) -> Iterator[Example]:
    item = masker.scored(stacked([triplet]))
    mask = masker.open(item)[0].numpy()
    oracle = float(records.oracle_size[index])
    truth = triplet.truth()
    error = np.abs(truth - triplet.y_hat)
    images = triplet.x, triplet.y_hat, truth
    for (mask_plane, x, y_hat, y), plane in planes_of(mask, *images, geometry=triplet.geometry, error=error):
        name = triplet.name if plane is None else f"{triplet.name}, {plane}"
        yield picture_of(
            replace(triplet, name=name, x=x, y_hat=y_hat, y=y, layers={}),
            mask_plane,
            kind=kind,
            size=float(records.size[index]),
            loss=float(records.loss[index]),
            oracle_size=None if np.isnan(oracle) else oracle,
        )


def picture_of(
    triplet: Triplet, mask: Array, *, kind: str, size: float, loss: float, oracle_size: float | None
) -> Example:
    """Return the pictures of a triplet and its mask (1 or C, H, W), ready to show."""
    error, scale = error_bytes(triplet.truth(), triplet.y_hat)
    return Example(
        name=triplet.name,
        kind=kind,
        x=in_colors(triplet.x),
        y=in_colors(triplet.truth()),
        y_hat=in_colors(triplet.y_hat),
        mask=as_bytes(mask),
        error=error,
        error_scale=scale,
        size=size,
        loss=loss,
        oracle_size=oracle_size,
    )
