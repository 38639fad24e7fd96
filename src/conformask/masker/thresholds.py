"""Choice of a threshold before calibration, on the selection images."""

from dataclasses import dataclass

from conformask.calibration import size_at
from conformask.conformal.promise import AnyPromise
from conformask.conformal.promise import promise as promise_from
from conformask.errors import InvalidArgumentError
from conformask.masker.requirements import check_sample_size, columns_kept
from conformask.masker.resolve import family_for, loss_for, refuse_unbounded
from conformask.masks.mask_family import Family
from conformask.scorers.scorer import Scorer

LISTED_QUANTILES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True)
class ThresholdChoice:
    """The effect of a threshold, judged on the selection images."""

    threshold: float
    pass_rate: float
    """The share of images that need no mask."""
    mask_size: float


def threshold_choices(
    scorer: Scorer,
    *,
    promise: AnyPromise = "marginal",
    family: str | Family | None = None,
) -> list[ThresholdChoice]:
    """Return mask size and unmasked pass rate for several thresholds, on the scorer's selection images.

    Raises:
        InvalidArgumentError: the scorer keeps none.
        CalibrationError: too few selection images for this confidence.

    Example:
        >>> import numpy as np
        >>> import conformask as cm
        >>> y = np.random.default_rng(0).random((30, 16, 16), dtype=np.float32)
        >>> images = cm.Triplets.from_arrays(y**2, y**1.5, y)
        >>> train, selection = images.select(range(10)), images.select(range(10, 30))
        >>> scorer = cm.fit_scorer(train, selection=selection, out="run", scorer="residual")
        >>> choices = cm.threshold_choices(scorer)
        >>> choices[0].mask_size >= choices[-1].mask_size
        True
    """
    if scorer.selection is None:
        raise InvalidArgumentError("this scorer keeps no selection images to choose a threshold on")
    record, used = scorer.selection, loss_for(scorer, None)
    guarantee = promise_from(promise).resolve()
    refuse_unbounded(guarantee, used)
    used_family = family_for(scorer, used, family)
    if used_family.name not in record.curves:
        raise InvalidArgumentError(f"no selection images are kept for the family {used_family.name}")
    curves = record.curves[used_family.name]
    thresholds = [fraction * record.threshold(0.1) for fraction in (0.25, 0.5)]
    thresholds += [record.threshold(quantile) for quantile in LISTED_QUANTILES]
    choices = []
    for level in sorted({t for t in thresholds if t > 0}):
        check_sample_size(
            guarantee, level, used, len(record.unmasked_loss), columns_kept(curves), "selection"
        )
        size = size_at(curves, level, guarantee, used)
        choices.append(ThresholdChoice(level, float((record.unmasked_loss <= level).mean()), size))
    return choices
