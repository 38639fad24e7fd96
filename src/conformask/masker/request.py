"""What a calibration is asked for: the same request from Python, the command line and a first look."""

from dataclasses import dataclass
from typing import Literal, get_args

from conformask.background import DEFAULT_DEVICES, Compute
from conformask.errors import chosen
from conformask.images.triplets import Triplets
from conformask.losses import AnyLoss
from conformask.masks.families import Settings
from conformask.masks.family import Family
from conformask.promises.promise import AnyPromise
from conformask.records.names import Level
from conformask.records.selection import is_quantile
from conformask.scores.scorer import Scorer
from conformask.scores.untrained import Given, Untrained, check_scorer

AnyScorer = Scorer | Untrained | Given
"""A scorer, or what makes one for given images."""
AnyFamily = Settings | Family | None
"""The name of a family, its settings, or itself; None for the one that suits score and loss."""


@dataclass(frozen=True)
class Request:
    """All that a calibration is asked for, but for its images; `calibrate` has the meaning of each field.

    Raises:
        InvalidArgumentError: the scorer or the threshold is none, or the level is unknown.
    """

    scorer: AnyScorer
    threshold: float | str | None = None
    """None where only the effect of thresholds is asked for."""
    loss: AnyLoss | None = None
    promise: AnyPromise = "marginal"
    family: AnyFamily = None
    patches: int | str | None = None
    level: Level | None = None
    selection: Triplets | Literal["aside"] | None = None
    """Images for other choices than lambda; "aside" for those that `Triplets.set_aside` keeps from the
    images, unless the scorer keeps curves of such images."""
    tiled: bool = False
    """True if the scorer is to score whole images by overlapping tiles."""
    compute: Compute = DEFAULT_DEVICES

    def __post_init__(self) -> None:
        check_scorer(self.scorer)
        if self.threshold is not None:
            is_quantile(self.threshold)  # raises for what is no threshold
        if self.level is not None:
            chosen({name: name for name in get_args(Level)}, self.level, "level")
