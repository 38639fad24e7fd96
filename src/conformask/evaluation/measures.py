"""Measures of each test image."""

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import label
from torch import Tensor

from conformask.arithmetic import image_means
from conformask.calibration import (
    ScoredBatch,
    critical_lambdas,
    like_score,
    loss_under,
    mask_size,
    unmasked_loss,
)
from conformask.evaluation.risk import risk_curves
from conformask.losses import paper_distance
from conformask.losses.objects import LabelledObjects, Objects, labels_of
from conformask.masker.masker import Masker
from conformask.masker.release import facts_for_release
from conformask.oracle import oracle, paper_oracle
from conformask.storage.as_arrays import Array
from conformask.types import Batch, Images, Loss


def measures_of(masker: Masker, opt_names: frozenset[str], item: ScoredBatch) -> dict[str, Array]:
    """Return the columns of ImageRecords for a batch, risk curves, and facts for what else is evaluated.

    The paper's Opt is computed for the names in `opt_names`.
    """
    mask, region = masker.open(item), masker.loss.region_of(item.batch)
    noise = item.batch.noise
    hidden_error, shown_error = _errors(mask, item.batch, region)
    return {
        **_object_counts(masker.loss, mask, item.batch),
        "name": np.array(item.batch.names),
        "loss": _array(loss_under(masker.loss, mask, item.batch)),
        "unmasked_loss": _array(unmasked_loss(masker.loss, item.batch)),
        "size": _array(mask_size(mask, region)),
        "oracle_size": _oracle_sizes(masker, item, region),
        "paper_oracle_size": _paper_sizes(masker, item, opt_names),
        "critical_lambda": critical_lambdas_of(masker, item),
        "difficulty": _array(image_means(item.score.map)),
        "hidden_error": hidden_error,
        "shown_error": shown_error,
        "noise": np.full(len(item.batch), np.nan) if noise is None else _array(image_means(noise)),
        **({} if masker.card.is_grey else _parts(mask)),
        **facts_for_release(masker, item),
        "risk": risk_curves(item.score.map, item.batch.truth(), item.batch.y_hat, region),
    }


def _object_counts(loss: Loss, masks: Images, batch: Batch) -> dict[str, Array]:
    """Return the fields of ObjectCounts of each image, (n, 6), as "objects"; nothing for other losses."""
    if not isinstance(loss, Objects) or batch.y_labels is None:
        return {}
    images = (each[:, 0].cpu().numpy() for each in (masks, labels_of(batch), batch.y_labels))
    counts = []
    for mask, own, true in zip(*images, strict=True):
        objects, truth = LabelledObjects.of(own), LabelledObjects.of(true)
        right, shown = objects.met_by(truth, loss.iou), objects.means(mask) > 0
        lacking = ~truth.met_by(objects, loss.iou)
        each = (right | True, right, shown, shown & right, lacking | True, lacking)
        counts.append([int(flags.sum()) for flags in each])
    return {"objects": np.array(counts)}


def _errors(mask: Images, batch: Batch, region: Images | None) -> tuple[Array, Array]:
    """Return the means of |y - y_hat| over what is hidden and over what is shown; NaN where nothing is."""
    error = like_score((batch.truth() - batch.y_hat).abs(), mask)
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


def critical_lambdas_of(masker: Masker, item: ScoredBatch) -> Float[np.ndarray, "n"]:
    """Return critical lambdas as in calibration: exact for monotone losses, else on the masker's grid."""
    return critical_lambdas(item, masker.family, masker.loss, masker.grid, masker.card.threshold)


def _oracle_sizes(masker: Masker, item: ScoredBatch, region: Images | None) -> Array:
    mask = oracle(masker.loss, item.batch, item.score.map.shape[1], masker.card.threshold)
    return np.full(len(item.batch.names), np.nan) if mask is None else _array(mask_size(mask, region))


def _paper_sizes(masker: Masker, item: ScoredBatch, opt_names: frozenset[str]) -> Array:
    distance, sizes = paper_distance(masker.loss), np.full(len(item.batch), np.nan)
    indices = [place for place, name in enumerate(item.batch.names) if name in opt_names]
    if distance is not None and indices:
        y, y_hat = item.batch.truth()[indices], item.batch.y_hat[indices]
        per_channel = item.score.map.shape[1] > 1
        mask, reached = paper_oracle(distance, y, y_hat, masker.card.threshold, per_channel)
        sizes[indices] = np.where(reached.cpu().numpy(), _array(mask_size(mask)), np.nan)
    return sizes


def _array(values: Tensor) -> Array:
    return values.detach().to(torch.float64).cpu().numpy()
