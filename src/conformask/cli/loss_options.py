"""The options of a loss that train and calibrate share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, cast

from cyclopts import Parameter

from conformask import names
from conformask.cli.options import LOSS, WeightsPath
from conformask.errors import InvalidArgumentError

if TYPE_CHECKING:
    from conformask.records.loss import LossTerms
    from conformask.records.values import Values
    from conformask.types import Loss

RECORDED_AS: Mapping[str, names.Over] = {"window": "local", "masked_window": "window"}
"""Aggregates that are called otherwise in records, of 0.2 and now."""


@dataclass(frozen=True)
class LossOptions:
    """The loss that a promise is about."""

    distance: Annotated[
        str | None,
        Parameter(
            help=f"The distance or error map of the promise: {', '.join(names.DISTANCES)}, or another "
            "exponent such as l1.5, or one that an installed package adds. If not given, l1 for train, and "
            "afterwards the scorer's."
        ),
    ] = None
    over: Annotated[
        Literal[names.Over, "masked_window"] | None,
        Parameter(
            help="How an error map becomes one number: its mean over the image; its largest mean in a "
            "window around a shown pixel (local; window means the same); the share of shown pixels around "
            "which that mean is above the tolerance (local_share); its mean over the shown pixels (trusted); "
            "the share of the wrong pixels that is shown (missed), or of the shown pixels that is wrong; its "
            "largest mean in a window in which hidden pixels count as right (masked_window); where DATA has "
            "noisy repeats/NAME_1 and NAME_2 in the place of y/, or NAME_1 and --noise-model, the mean of l2 "
            "to the clean image (clean), or its largest mean in a window around a shown pixel (clean_local). "
            "With --objects: the share of the objects shown that is wrong, if not given; of the wrong ones "
            "that is shown (missed); whether any is (any)."
        ),
    ] = None
    window: Annotated[
        str | None,
        Parameter(
            help="The side of the window of --over local and others, in pixels, or in units, such as 5mm, if "
            "images have a spacing: the next odd number of pixels."
        ),
    ] = None
    tolerance: Annotated[
        str | None,
        Parameter(
            help="For --over local_share, missed and wrong: the error above which a pixel counts as wrong: a "
            "number, 10% of the range, or with --units such as 0.5m."
        ),
    ] = None
    allowance: Annotated[
        names.Allowance | None,
        Parameter(
            help="For --over clean and clean_local: how the allowance for noise is computed, exact (for "
            "images or windows of 200 x 200 pixels and more) or by the central limit theorem; clt if not "
            "given."
        ),
    ] = None
    reach: Annotated[
        float | None,
        Parameter(
            help="For --over clean and clean_local: pixels from which on noise is independent; if not given, "
            "as two repeats of the images set aside show it."
        ),
    ] = None
    iou: Annotated[
        float | None,
        Parameter(
            help="For --objects: the IoU with an object of y below which an object of y_hat is wrong; 0.5 if "
            "not given."
        ),
    ] = None
    weights_path: WeightsPath = None

    @property
    def is_given(self) -> bool:
        """True if a loss is chosen."""
        chosen = (self.distance, self.over, self.window, self.tolerance, self.allowance, self.reach, self.iou)
        return any(choice is not None for choice in chosen)

    @property
    def of_objects(self) -> "Loss":
        """The loss of objects that is chosen.

        Raises:
            InvalidArgumentError: an option that is about pixels.
        """
        from conformask.losses.objects import Objects

        of_pixels = ("distance", "window", "tolerance", "allowance", "reach")
        given = [name for name in of_pixels if getattr(self, name) is not None]
        if given:
            raise InvalidArgumentError(
                f"--{given[0]} is about pixels, and --objects counts objects: leave it out"
            )
        default = Objects()
        iou = default.iou if self.iou is None else self.iou
        return Objects(cast("names.OfObjects", self.over or default.over), iou)

    def loss(self, default: "LossTerms", values: "Values | None") -> "Loss":
        """Return the loss that is chosen; the distance is the default's where only the rest is given.

        `values` are those of the images, for a tolerance in their unit.
        """
        from conformask.losses import loss_of_terms
        from conformask.records.loss import LossTerms
        from conformask.records.threshold import tolerance_of

        if not self.is_given:
            return loss_of_terms(default, weights_path=self.weights_path)
        if self.iou is not None:
            raise InvalidArgumentError(
                "--iou goes with --objects of calibrate, which names labels of the objects"
            )
        in_pixels = self.window is not None and self.window.strip().isdecimal()
        distance = LossTerms(distance=self.distance or default.distance)
        tolerance = None if self.tolerance is None else tolerance_of(self.tolerance, distance, values)
        terms = LossTerms(
            distance=distance.distance,
            over=RECORDED_AS.get(self.over or "", cast("names.Over | None", self.over)),
            window=int(self.window) if in_pixels and self.window is not None else None,
            length=None if in_pixels else self.window,
            tolerance=tolerance,
            allowance=self.allowance,
            reach=self.reach,
        )
        return loss_of_terms(terms, weights_path=self.weights_path)


AboutLoss = Annotated[LossOptions, Parameter(name="*", group=LOSS)]
SAME_LOSS = LossOptions()
