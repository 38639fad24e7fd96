"""Choice of a threshold before calibration, on the selection images."""

from dataclasses import dataclass

from conformask.calibration import size_at
from conformask.conformal.promise import AnyPromise
from conformask.conformal.promise import promise as promise_from
from conformask.data.reach import with_reach
from conformask.data.triplets import Triplets
from conformask.errors import InvalidArgumentError
from conformask.losses import AnyLoss
from conformask.masker.requirements import check_sample_size, columns_kept
from conformask.masker.resolve import family_for, loss_for, refuse_unbounded
from conformask.masks.mask_family import Family
from conformask.scorers.given import Given
from conformask.scorers.level_fit import along_levels, fit_level
from conformask.scorers.patches import in_patches, patch_area
from conformask.scorers.scorer import Scorer
from conformask.scorers.scoring import selection_record
from conformask.scorers.smoothed import for_loss
from conformask.scorers.untrained import Untrained, for_images

LISTED_QUANTILES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True)
class ThresholdChoice:
    """The effect of a threshold, judged on the selection images."""

    threshold: float
    pass_rate: float
    """The share of images that need no mask."""
    mask_size: float


def threshold_choices(
    scorer: Scorer | Untrained | Given,
    *,
    promise: AnyPromise = "marginal",
    family: str | Family | None = None,
    patches: int | str | None = None,
    loss: AnyLoss | None = None,
    selection: Triplets | None = None,
) -> list[ThresholdChoice]:
    """Return mask size and unmasked pass rate for several thresholds, on selection images.

    Args:
        scorer: the scorer to be calibrated.
        promise: as for `calibrate`.
        family: as for `calibrate`.
        patches: as for `calibrate`, for given selection images.
        loss: as for `calibrate`, for given selection images.
        selection: images that will not calibrate; if None, those that the scorer keeps.

    Raises:
        InvalidArgumentError: none are given, and the scorer keeps none.
        CalibrationError: too few selection images for this confidence.

    Examples:
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
    used, guarantee = loss_for(scorer, loss, selection), promise_from(promise).resolve()
    refuse_unbounded(guarantee, used)
    if selection is not None:
        used = with_reach(used, selection)
        scorer = for_images(scorer, selection, used, selection)
        scorer = in_patches(for_loss(scorer, used), patch_area(patches, selection))
        used_family = family_for(scorer, used, family)
        record = selection_record(scorer, selection, used, [used_family])
    elif isinstance(scorer, Untrained | Given) or scorer.selection is None:
        raise InvalidArgumentError("this scorer keeps no selection images to choose a threshold on")
    else:
        used_family, record = family_for(scorer, used, family), scorer.selection
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
        model = None if scorer.by_value else fit_level(record, used_family, used, guarantee, level)
        along = curves if model is None else along_levels(curves, model, used_family)
        size = size_at(along, level, guarantee, used)
        choices.append(ThresholdChoice(level, float((record.unmasked_loss <= level).mean()), size))
    return choices
