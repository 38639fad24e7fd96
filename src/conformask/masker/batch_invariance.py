"""Check that nothing computed for an image depends on the others in its batch: no promise covers that."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from conformask.arithmetic import best_device
from conformask.data.triplets import Triplets
from conformask.errors import CalibrationError
from conformask.masker.integrity import probe_shapes
from conformask.scorers.scorer import Scorer
from conformask.scorers.scoring import score_of
from conformask.types import Images, Loss, Triplet, Weigh

TOLERANCE = 1e-3
"""Largest accepted relative difference; rounding differs by 1 % of it between batches of different sizes."""
FAINT = 0.25
"""Factor on the contrast of a probe image, which changes all of its statistics."""
LOOKED_AT = 8
"""Number of calibration images searched for one of the same shape as the first."""
Values = dict[str, Tensor]


def refuse_batch_dependence(scorer: Scorer, loss: Loss, weigh: Weigh | None, triplets: Triplets) -> None:
    """Compare score, loss and weight of a few images computed one by one and in one batch.

    The images are the first, the next of the same shape, and the first with a quarter of its contrast: a
    value divided by a maximum or a mean of the batch differs for at least one of them. Calibration and use
    combine different images in a batch, so such values would not be exchangeable.

    Raises:
        CalibrationError: a value differs; names it.
    """

    def values(x: Images, y_hat: Images, y: Images, cues: Images | None = None) -> Values:
        score = score_of(scorer, x, y_hat, cues=cues)
        found = {f"the score {scorer.name!r}": score.map}
        if score.features is not None:
            found[f"a feature of the score {scorer.name!r}"] = score.features
        ones = torch.ones_like(y[:, :1])
        found[f"the distance {loss.terms.name!r}"] = loss.on(y, y_hat, None, 1).of(ones).detach()
        return found if weigh is None else found | {"weight=": weigh(x, y_hat)}

    _compare(
        values,
        [torch.cat(images).to(best_device()) for images in zip(*_images(scorer, triplets), strict=True)],
    )


def _images(scorer: Scorer, triplets: Triplets) -> Iterator[tuple[Images, ...]]:
    """Yield x, y_hat and y of each probe image; only a corner of it if images are scored by tiles."""
    first, *others = (triplets[index] for index in range(min(LOOKED_AT, len(triplets))))
    shapes = (first.x.shape, first.y_hat.shape)
    alike = next((other for other in others if (other.x.shape, other.y_hat.shape) == shapes), None)
    corner = _corner(scorer, first)
    yield (images := corner(first))
    yield tuple(0.5 + FAINT * (image - 0.5) for image in images)
    if alike is not None:
        yield corner(alike)


def _corner(scorer: Scorer, triplet: Triplet) -> Callable[[Triplet], tuple[Images, ...]]:
    x, y_hat = probe_shapes(scorer, triplet)

    def corner(triplet: Triplet) -> tuple[Images, ...]:
        arrays = [(triplet.x, x), (triplet.y_hat, y_hat), (triplet.truth(), y_hat)]
        if triplet.cues is not None and scorer.cue_channels:
            arrays.append((triplet.cues, (scorer.cue_channels, *y_hat[1:])))
        return tuple(torch.from_numpy(array[tuple(map(slice, shape))])[None] for array, shape in arrays)

    return corner


def _compare(values: Callable[..., Values], batch: list[Images]) -> None:
    together = values(*batch)
    for place in range(len(batch[0])):
        for what, alone in values(*(images[place : place + 1] for images in batch)).items():
            difference = float((together[what][place : place + 1] - alone).abs().max())
            if not difference <= TOLERANCE * float(alone.abs().max()):
                raise CalibrationError(
                    f"{what} of an image differs by {difference:.3g} when there are other images in its "
                    "batch: compute it for each image separately, without batch statistics or randomness "
                    "(put a module in eval mode)"
                )
