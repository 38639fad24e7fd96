"""Scores of a whole collection of triplets, batch by batch."""

from collections.abc import Callable, Iterator, Sequence

import torch

from conformask.arithmetic import best_device, full_precision
from conformask.calibration import ScoredBatch
from conformask.data.batches import BATCH_SIZE
from conformask.data.triplets import Triplets
from conformask.errors import ImageError
from conformask.progress import tracked
from conformask.scorers.scorer import Scorer
from conformask.types import Images, Score

Scoring = Callable[[Images, Images], Score]
"""A function from (x, y_hat) to a score."""


def scored(
    scorer: Scorer, triplets: Triplets, title: str, batch_size: int = BATCH_SIZE
) -> Iterator[ScoredBatch]:
    """Yield each batch of images of one shape with its score, showing a progress bar.

    Raises:
        ImageError: see score_of.
    """
    return tracked(scored_batches(scorer, triplets, batch_size), title, len(triplets), len)


def scored_batches(
    scorer: Scoring, triplets: Triplets, batch_size: int = BATCH_SIZE
) -> Iterator[ScoredBatch]:
    """Yield batches with their scores without a progress bar; on the accelerator where there is one."""
    device = best_device()
    for batch in triplets.batches(batch_size):
        batch = batch.to(device)
        yield ScoredBatch(batch, score_of(scorer, batch.x, batch.y_hat, batch.names))


def score_of(scorer: Scoring, x: Images, y_hat: Images, names: Sequence[str] = ("the images",)) -> Score:
    """Compute the score in full float32 precision, and check it: an invalid score could open masks.

    Raises:
        ImageError: the score or a feature is NaN or infinite, the score negative, or of another size than
            y_hat; names the image.
    """
    with torch.no_grad(), full_precision(y_hat):
        score = scorer(x, y_hat)
    shape, expected = tuple(score.map.shape), tuple(y_hat.shape)
    if shape not in (expected, (expected[0], 1, *expected[2:])):
        raise ImageError(
            f"the score of {names[0]!r} has shape {shape}, but y_hat has {expected}: return the same size, "
            "with one channel or as many as y_hat"
        )
    usable = ((score.map >= 0) & score.map.isfinite()).flatten(1).all(dim=1)
    if score.features is not None:
        usable = usable & score.features.isfinite().all(dim=1)
    if not bool(usable.all()):
        first = int(usable.int().argmin())
        raise ImageError(
            f"the score of {names[min(first, len(names) - 1)]!r} is negative, NaN or infinite: scores must "
            "be finite and at least 0"
        )
    return score
