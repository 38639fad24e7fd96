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
    like_score,
    mask_size,
    masked_distance,
)
from conformask.masker.masker import Masker
from conformask.oracle import exact_oracle, paper_oracle
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
    y, y_hat, score = item.batch.truth(), item.batch.y_hat, item.score
    mask = masker.open(item)
    return {
        "name": np.array(item.batch.names),
        "distance": _array(masked_distance(masker.distance, mask, y, y_hat)),
        "unmasked_distance": _array(masker.distance(y, y_hat)),
        "size": _array(mask_size(mask)),
        "oracle_size": _exact_sizes(masker, item),
        "critical_lambda": critical_lambdas_of(masker, item),
        "difficulty": _array(image_means(score.map)),
    }


def critical_lambdas_of(masker: Masker, item: Scored) -> Float[np.ndarray, "n"]:
    """Critical lambdas as calibration finds them: exact for lp, else on the masker's grid."""
    return critical_lambdas(item, masker.family, masker.distance, masker.grid, masker.card.threshold)


def _exact_sizes(masker: Masker, item: Scored) -> Array:
    exponent = masker.distance.exponent
    if exponent is None:
        return np.full(len(item.batch.names), np.nan)
    error = masker.distance.error_map(item.batch.truth(), item.batch.y_hat)
    mask = exact_oracle(like_score(error, item.score.map), masker.card.threshold, exponent)
    return _array(mask_size(mask))


def _paper_sizes(masker: Masker, item: Scored, opt_images: int) -> Array:
    count = len(item.batch.names)
    if masker.distance.exponent is None:
        count = min(count, opt_images)
    sizes = np.full(len(item.batch.names), np.nan)
    if count:
        y, y_hat = item.batch.truth()[:count], item.batch.y_hat[:count]
        per_channel = item.score.map.shape[1] > 1
        mask, reached = paper_oracle(masker.distance, y, y_hat, masker.card.threshold, per_channel)
        sizes[:count] = np.where(reached.cpu().numpy(), _array(mask_size(mask)), np.nan)
    return sizes


def _array(values: Tensor) -> Array:
    return values.detach().to(torch.float64).cpu().numpy()
