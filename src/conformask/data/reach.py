"""The reach of the noise of repeats: measured if a loss does not state it, compared with it if it does."""

from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from operator import add

from conformask.data.repeat_checks import FARTHEST, Correlation, correlation, drift, without_drift
from conformask.data.repeat_warnings import ReferenceMeasures, pooled_correlation, repeats_of
from conformask.data.triplets import Triplets
from conformask.errors import InvalidArgumentError
from conformask.losses.clean import CleanLoss
from conformask.names import Allowance
from conformask.progress import tracked
from conformask.records.loss import LossTerms
from conformask.types import Loss

SHORT = 1.2
"""Times that the reach of noise may be longer than that of a loss by the central limit theorem."""


def reach_shown(correlation: Correlation, allowance: Allowance) -> float:
    """Return the reach that an allowance needs for noise correlated in this way, see `CleanMean`."""
    return correlation.range if allowance == "exact" else correlation.rounded_reach


def with_reach(loss: Loss, images: Triplets) -> Loss:
    """Return a loss with the reach of the noise that the repeats of images show, unless it has one.

    A larger reach only makes masks smaller, and clean losses grow with the mask. So a promise holds if the
    reach is at least that of the noise, on whichever images it was measured.

    Raises:
        InvalidArgumentError: the noise of one repeat shows no reach, or that of two none for "exact".
    """
    if not isinstance(loss, CleanLoss) or loss.reach is not None or not images.reference.is_noisy:
        return loss
    if images.reference.repeats == 1:
        raise InvalidArgumentError(
            "one repeat does not show from which distance on its noise is independent: give reach= "
            "(--reach), 1 if that of neighbouring pixels is, or what `conformask check` measures on a few "
            "images taken twice"
        )
    pairs = map(repeats_of, tracked(images, "measuring noise", len(images)))
    alike = ((b, without_drift(b, c, drift(b, c).gain)) for b, c in filter(None, pairs))
    pooled = reduce(add, (correlation(*pair) for pair in alike))
    _refuse_endless(pooled, loss.allowance)
    return replace(loss, reach=reach_shown(pooled, loss.allowance))


def refuse_short_reach(terms: LossTerms, measures: Mapping[str, ReferenceMeasures]) -> None:
    """Refuse a loss whose reach is shorter than that of the noise of these images.

    Raises:
        InvalidArgumentError: says the reach to give.
    """
    pooled, allowance = pooled_correlation(measures.values()), terms.allowance
    if pooled is None or allowance is None or terms.reach is None:
        return
    _refuse_endless(pooled, allowance)
    shown = reach_shown(pooled, allowance)
    if shown > terms.reach * (1 if allowance == "exact" else SHORT):
        raise InvalidArgumentError(
            f"the noise of the repeats reaches {shown:g} pixels, and reach = {terms.reach:g} allows for "
            f"less: give reach={shown:g} (--reach {shown:g}). It may be chosen now, as it only makes masks "
            "smaller"
        )


def _refuse_endless(pooled: Correlation, allowance: Allowance) -> None:
    if allowance == "exact" and pooled.range > FARTHEST:
        raise InvalidArgumentError(
            f"pixels more than {FARTHEST} apart share noise of the repeats, so that no allowance is exact: "
            "take allowance clt"
        )
