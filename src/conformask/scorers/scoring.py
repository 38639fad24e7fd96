"""Scores of a whole collection of triplets, batch by batch."""

from collections.abc import Iterator

from conformask.calibration import Scored
from conformask.data.triplets import Triplets
from conformask.errors import ImageError
from conformask.progress import tracked
from conformask.types import Scorer

BATCH_SIZE = 16


def scored(scorer: Scorer, triplets: Triplets, title: str, batch_size: int = BATCH_SIZE) -> Iterator[Scored]:
    """Each batch of images of one shape with its score.

    Raises:
        ImageError: the score has NaN or negative values, or another size than y_hat.
    """
    batches = triplets.batches(batch_size)
    for batch in tracked(batches, title, len(triplets), batch_size):
        score = scorer(batch.x, batch.y_hat)
        if score.map.shape[-2:] != batch.y_hat.shape[-2:] or score.map.shape[1] not in (
            1,
            batch.y_hat.shape[1],
        ):
            raise ImageError(
                f"the score of {batch.names[0]!r} has shape {tuple(score.map.shape)}, y_hat has "
                f"{tuple(batch.y_hat.shape)}: same size, and one channel or those of y_hat"
            )
        if not bool((score.map >= 0).all()):
            raise ImageError(f"the score of an image among {batch.names} is negative or NaN; scores are >= 0")
        yield Scored(batch, score)
