"""What is measured on each test image."""

from collections.abc import Iterable
from dataclasses import fields

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from conformask.arithmetic import image_means
from conformask.calibration import (
    Scored,
    critical_lambdas,
    loss_under,
    mask_size,
    unmasked_loss,
)
from conformask.losses import paper_distance
from conformask.masker.masker import Masker
from conformask.oracle import oracle, paper_oracle
from conformask.records.evaluation import ImageRecords
from conformask.storage.as_arrays import Array


def image_records(
    masker: Masker, items: Iterable[Scored], opt_images: int, opt_sizes: Array | None = None
) -> ImageRecords:
    """Measure every image; the paper's Opt of an iterated distance only for the first `opt_images`.

    Where the sizes of Opt are given they are taken as they are.
    """
    batches: list[dict[str, Array]] = []
    done = 0
    for item in items:
        count = len(item.batch.names)
        if opt_sizes is None:
            opt = _paper_sizes(masker, item, max(0, opt_images - done))
        else:
            opt = opt_sizes[done : done + count]
        batches.append(_measure(masker, item) | {"paper_oracle_size": opt})
        done += count
    names = [field.name for field in fields(ImageRecords)]
    return ImageRecords(**{name: np.concatenate([batch[name] for batch in batches]) for name in names})


def _measure(masker: Masker, item: Scored) -> dict[str, Array]:
    mask = masker.open(item)
    return {
        "name": np.array(item.batch.names),
        "distance": _array(loss_under(masker.loss, mask, item.batch)),
        "unmasked_distance": _array(unmasked_loss(masker.loss, item.batch)),
        "size": _array(mask_size(mask)),
        "oracle_size": _oracle_sizes(masker, item),
        "critical_lambda": critical_lambdas_of(masker, item),
        "difficulty": _array(image_means(item.score.map)),
    }


def critical_lambdas_of(masker: Masker, item: Scored) -> Float[np.ndarray, "n"]:
    """Critical lambdas as calibration finds them: exact for monotone losses, else on the masker's grid."""
    return critical_lambdas(item, masker.family, masker.loss, masker.grid, masker.card.threshold)


def _oracle_sizes(masker: Masker, item: Scored) -> Array:
    mask = oracle(masker.loss, item.batch, item.score.map.shape[1], masker.card.threshold)
    return np.full(len(item.batch.names), np.nan) if mask is None else _array(mask_size(mask))


def _paper_sizes(masker: Masker, item: Scored, opt_images: int) -> Array:
    count, distance = len(item.batch.names), paper_distance(masker.loss)
    if distance is None or distance.exponent is None:
        count = 0 if distance is None else min(count, opt_images)
    sizes = np.full(len(item.batch.names), np.nan)
    if count and distance is not None:
        y, y_hat = item.batch.truth()[:count], item.batch.y_hat[:count]
        per_channel = item.score.map.shape[1] > 1
        mask, reached = paper_oracle(distance, y, y_hat, masker.card.threshold, per_channel)
        sizes[:count] = np.where(reached.cpu().numpy(), _array(mask_size(mask)), np.nan)
    return sizes


def _array(values: Tensor) -> Array:
    return values.detach().to(torch.float64).cpu().numpy()
