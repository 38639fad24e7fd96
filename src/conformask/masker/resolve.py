"""Resolution of the loss and the family from arguments and the scorer, and checks of what they allow."""

from collections.abc import Mapping

from conformask.conformal.guarantee import Guarantee
from conformask.data.triplets import Triplets
from conformask.errors import InvalidArgumentError, MismatchError
from conformask.losses import AnyLoss, loss, stored_loss
from conformask.masks import family as family_by_name
from conformask.masks.mask_family import Family
from conformask.records.geometry import Geometry
from conformask.records.loss import LossTerms
from conformask.scorers.scorer import Scorer
from conformask.scorers.untrained import Untrained
from conformask.storage.as_json import Json
from conformask.types import Loss


def family_for(scorer: Scorer, used: Loss, choice: str | Mapping[str, Json] | Family | None) -> Family:
    """Return the chosen family (by name or settings), or the one that suits the loss, or the scorer's."""
    if choice is None or isinstance(choice, str | Mapping):
        return family_by_name(choice or used.family or scorer.family, used.exponent or 1.0)
    return choice


def loss_for(scorer: Scorer | Untrained, choice: AnyLoss | None, images: Triplets | None = None) -> Loss:
    """Return the loss that was chosen, for these images; the default is that of the scorer.

    A score may be used for any loss: the promise holds, but masks may be larger than with a score that was
    fitted for it. Where a scorer was fitted for none, the loss of its selection images is meant.

    Raises:
        InvalidArgumentError: no loss is given, and the scorer was fitted for none; or a length is given, and
            the images state no spacing.
    """
    used = scorer.loss if choice is None else loss(choice)
    if used is None and scorer.selection is not None:
        used = stored_loss(scorer.selection.of)
    if used is None:
        raise InvalidArgumentError("this scorer was fitted for no loss: pass loss=")
    return used if images is None else used.with_pixels(images.window).in_regions(images.has_regions)


def check_window(terms: LossTerms, geometry: Geometry | None) -> None:
    """Refuse a window given as a length if the images' spacing makes another number of pixels of it.

    Raises:
        MismatchError: the number of pixels differs, or the images have no spacing.
    """
    if terms.length is None:
        return
    window = None if geometry is None else geometry.window(terms.length)
    if window is None or window.sides != terms.window:
        spacing = "no spacing" if geometry is None else f"a spacing of {geometry.text}"
        raise MismatchError(
            f"the window of {terms.length} was {terms.window} pixels, but these images have {spacing}: give "
            "the window again, and train or calibrate with images of this spacing"
        )


def refuse_unbounded(promise: Guarantee, used: Loss) -> None:
    """Refuse a promise about the mean of a loss without an upper bound.

    Raises:
        InvalidArgumentError: the promise bounds a mean, and the loss has no upper bound.
    """
    if promise.statement.bounds_a_mean and used.upper_bound is None:
        raise InvalidArgumentError(
            f"the {promise.name} guarantee bounds a mean and needs a loss with an upper bound, but "
            f"{used.terms.name!r} declares none: choose a guarantee about a share of images, such as "
            "marginal"
        )
