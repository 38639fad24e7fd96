"""What an evaluation measures of images under their masks, and the examples that it shows."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import label
from torch import Tensor

from conformask.arrays import Array, Batch, Distance, Images, Triplet, image_means
from conformask.images.pictures import (
    Contrast,
    as_bytes,
    error_bytes,
    first_contrast,
    in_colors,
    map_ends,
    planes_of,
)
from conformask.images.triplets import Triplets, stacked
from conformask.losses.masked_distance import measured_by
from conformask.losses.of_images import with_channels
from conformask.masker.candidates import facts_for_release
from conformask.masker.masker import Masker
from conformask.masks.critical import critical_lambdas, loss_on, mask_size, paper_oracle, unmasked_loss
from conformask.records.evaluation import Example, ImageRecords
from conformask.records.numbers import UNIT

SHARES = tuple(round(0.05 * step, 2) for step in range(20))
"""Hidden shares at which the error is measured."""


def risk_curves(
    score: Images, y: Images, y_hat: Images, region: Images | None
) -> Float[np.ndarray, "n 2 shares"]:
    """Return the mean |y - y_hat| of what is shown at each of SHARES, float64.

    First with the pixels of the largest scores hidden, then with those of the largest errors, which is the
    least that any score can leave (the sparsification curves of Ilg et al. 2018). With a region, shares and
    means are those of its pixels.
    """
    errors = with_channels((y - y_hat).abs(), score.shape[1]).double()
    inside = torch.ones_like(score) if region is None else region.expand_as(score)
    curves = []
    for of_image, error, weight in zip(score, errors, inside, strict=True):
        here = weight > 0
        curves.append([_left(order, error[here]) for order in (of_image[here], error[here])])
    return np.array(curves)


def _left(order: Tensor, errors: Tensor) -> list[float]:
    """Return the mean of the errors that are left at each share, the largest of `order` hidden first."""
    sums = errors[order.argsort(descending=True, stable=True)].cumsum(0)
    hidden = [int(share * len(errors)) for share in SHARES]
    total = float(sums[-1])
    return [(total - (float(sums[k - 1]) if k else 0.0)) / (len(errors) - k) for k in hidden]


def measures_of(masker: Masker, opt_names: frozenset[str], item: Batch) -> dict[str, Array]:
    """Return the columns of ImageRecords for a batch, risk curves, and facts for what else is evaluated.

    The paper's Opt is computed for the names in `opt_names`.
    """
    judged_batch = masker.judge(item)
    assert judged_batch.loss is not None
    mask, region = judged_batch.mask, judged_batch.region
    noise, unknown = item.layers.get("noise"), np.full(len(item), np.nan)
    oracle = loss_on(item, masker.loss).oracle(masker.card.threshold)
    hidden_error, shown_error = _errors(mask, item, region)
    return {
        **masker.loss.extent.columns(mask, item),
        "name": np.array(item.names),
        "loss": judged_batch.loss,
        "unmasked_loss": _array(unmasked_loss(masker.loss, item)),
        "size": judged_batch.size,
        "oracle_size": unknown if oracle is None else _array(mask_size(oracle, region)),
        "paper_oracle_size": _paper_sizes(masker, item, opt_names),
        "critical_lambda": critical_lambdas_of(masker, item),
        "difficulty": _array(image_means(item.score.map)),
        "hidden_error": hidden_error,
        "shown_error": shown_error,
        "noise": unknown if noise is None else _array(image_means(noise)),
        **({} if masker.card.is_grey else _parts(mask)),
        **facts_for_release(masker, item),
        "risk": risk_curves(item.score.map, item.truth(), item.y_hat, region),
    }


def _errors(mask: Images, batch: Batch, region: Images | None) -> tuple[Array, Array]:
    """Return the means of |y - y_hat| over what is hidden and over what is shown; NaN where nothing is."""
    error = with_channels((batch.truth() - batch.y_hat).abs(), mask.shape[1])
    inside = torch.ones_like(mask) if region is None else region.expand_as(mask)
    means = []
    for weight in ((1 - mask) * inside, mask * inside):
        total, share = (image_means(each, torch.float64) for each in (weight * error, weight))
        means.append(_array(torch.where(share > 0, total / share, torch.nan)))
    hidden, shown = means
    return hidden, shown


def _parts(mask: Images) -> dict[str, Array]:
    """Return numbers of connected parts of masks of 0 and 1, and of the sides of pixels between them.

    Pixels are neighbours along sides, within a channel.
    """
    shown = mask.cpu().numpy() > 0
    axes = range(2, shown.ndim)
    boundary = sum(np.diff(shown, axis=axis).sum(axis=(1, *axes)) for axis in axes)
    shown_parts, hidden_parts = (
        np.array([sum(label(channel)[1] for channel in image) for image in each]) for each in (shown, ~shown)
    )
    columns = {"shown_parts": shown_parts, "hidden_parts": hidden_parts, "boundary": boundary}
    return {name: np.asarray(values, np.float64) for name, values in columns.items()}


def critical_lambdas_of(masker: Masker, item: Batch) -> Float[np.ndarray, "n"]:
    """Return critical lambdas as in calibration: exact for monotone losses, else on the masker's grid."""
    return critical_lambdas(item, masker.family, masker.loss, masker.grid, masker.card.threshold)


def _paper_sizes(masker: Masker, item: Batch, opt_names: frozenset[str]) -> Array:
    distance, sizes = measured_by(masker.loss), np.full(len(item), np.nan)
    indices = [place for place, name in enumerate(item.names) if name in opt_names]
    if masker.loss.traits.masks_images and isinstance(distance, Distance) and indices:
        y, y_hat = item.truth()[indices], item.y_hat[indices]
        per_channel = item.score.map.shape[1] > 1
        mask, reached = paper_oracle(distance, y, y_hat, masker.card.threshold, per_channel)
        sizes[indices] = np.where(reached.cpu().numpy(), _array(mask_size(mask)), np.nan)
    return sizes


def _array(values: Tensor) -> Array:
    return values.detach().to(torch.float64).cpu().numpy()


EACH = 3
"""Number of images of each kind."""


def gain_of(records: ImageRecords, met: Array) -> Array:
    """Return how much less loss each mask leaves than a uniform mask of its size.

    It is -inf where a mask failed, or hides nothing. Images that are hidden altogether gain nothing.
    """
    uniform_loss = (1 - records.size) * records.unmasked_loss
    return np.where(met & (records.size > 0), uniform_loss - records.loss, -np.inf)


def examples_of(
    masker: Masker, test: Triplets, records: ImageRecords, by: Array, gain: Array, releases: Mapping[str, str]
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
    contrast = first_contrast(masker.card.range_of_y_hat or UNIT, map_ends(triplet.y_hat))
    for (mask_plane, x, y_hat, y), plane in planes_of(mask, *images, geometry=triplet.geometry, error=error):
        name = triplet.name if plane is None else f"{triplet.name}, {plane}"
        yield picture_of(
            replace(triplet, name=name, x=x, y_hat=y_hat, y=y, layers={}),
            mask_plane,
            contrast,
            kind=kind,
            size=float(records.size[index]),
            loss=float(records.loss[index]),
            oracle_size=None if np.isnan(oracle) else oracle,
        )


def picture_of(
    triplet: Triplet,
    mask: Array,
    contrast: Contrast,
    *,
    kind: str,
    size: float,
    loss: float,
    oracle_size: float | None,
) -> Example:
    """Return the pictures of a triplet and its mask (1 or C, H, W), ready to show."""
    error, scale = error_bytes(triplet.truth(), triplet.y_hat)
    x, y, y_hat = (in_colors(contrast(image)) for image in (triplet.x, triplet.truth(), triplet.y_hat))
    return Example(
        name=triplet.name,
        kind=kind,
        x=x,
        y=y,
        y_hat=y_hat,
        mask=as_bytes(mask),
        error=error,
        error_scale=scale,
        size=size,
        loss=loss,
        oracle_size=oracle_size,
        black=contrast.low,
        white=contrast.high,
    )
