"""Training of score networks; its settings, which load no torch."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

from conformask.errors import InvalidArgumentError
from conformask.records import names

LARGEST_SEED = 2**63 - 1
DEFAULT_EPOCHS = 30
"""Epochs if neither epochs nor minutes nor patience are given."""
SEEN = 6400
"""Least number of images seen in total by default, where few images make an epoch short."""
FROM_SCRATCH = 5e-4
"""Learning rate from random weights."""
BATCH_SIZE = 16
"""Images per step from random weights."""


@dataclass(frozen=True)
class TrainingConfig:
    """Training settings; training ends with the first of epochs, max_minutes and patience that is spent.

    Raises:
        InvalidArgumentError: a setting outside what is allowed.

    Examples:
        >>> import conformask as cm
        >>> cm.TrainingConfig(max_minutes=20, seed=1).epochs is None
        True
    """

    epochs: int | None = None
    """Number of passes over the images; 30 if neither a time limit nor a patience is given, more if there are
    few images."""
    max_minutes: float | None = None
    """Time limit for training, in minutes; for a resumed run, including the time before."""
    batch_size: int | None = None
    """Images per step, on each device: 16 from random weights; from the packaged network 4, or more of images
    smaller than 64 x 64 pixels."""
    learning_rate: float | None = None
    """The largest learning rate, 5e-4 from random weights and 1e-2 from the packaged network; it decays as a
    cosine, or with a patience in steps."""
    seed: int = 0
    """Seed of the weights and of the order of images."""
    patience: int | None = None
    """Stop when the selection loss has not improved for this many epochs."""
    grid_points: int | None = None
    """Number of lambdas at which the curves of a scorer's selection images are known; 256 if None."""
    resume: bool = False
    """Resume a stopped training run, or train a finished one for longer; then calibrate again."""

    def __post_init__(self) -> None:
        for name in ("epochs", "max_minutes", "batch_size", "learning_rate", "patience", "grid_points"):
            value = vars(self)[name]
            if value is not None and not 0 < value < math.inf:
                raise InvalidArgumentError(f"{name} = {value}: must be a number above 0")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise InvalidArgumentError(f"seed = {self.seed}: must be from 0 to 2**63 - 1")

    def resolved(
        self, n: int, learning_rate: float = FROM_SCRATCH, batch_size: int = BATCH_SIZE
    ) -> "TrainingConfig":
        """Return the settings for n training images, with all numbers that are not given."""
        used = replace(
            self,
            learning_rate=self.learning_rate or learning_rate,
            batch_size=self.batch_size or batch_size,
        )
        if (self.epochs, self.max_minutes, self.patience) == (None, None, None):
            return replace(used, epochs=max(DEFAULT_EPOCHS, math.ceil(SEEN / n)))
        return used

    def settings(self) -> dict[str, Any]:
        """Return the settings that determine the result: all but resume and grid_points."""
        return {key: value for key, value in asdict(self).items() if key not in ("resume", "grid_points")}


@dataclass(frozen=True)
class NetworkOptions:
    """The score network that `fit_scorer` trains.

    Raises:
        InvalidArgumentError: an unknown volume_mode.

    Examples:
        >>> import conformask as cm
        >>> cm.NetworkOptions(width=16).volume_mode is None
        True
    """

    module: Any = None
    """A torch module from 2 * (x, y_hat) - 1 on the channel axis to 1 or C channels, for the scorer quantile
    to 2 * C; it is trained on images and their mirror images, built-in ones on all flips and turns."""
    per_channel: bool = False
    """Make a mask with the channels of y_hat instead of one channel."""
    width: int | None = None
    """Channels of the first level of a U-Net from scratch; 32 if not given."""
    volume_mode: names.VolumeMode | None = None
    """How the network sees volumes: slice by slice (if trained from scratch, each with its neighbours), or in
    three dimensions (volume), from scratch. Slices if not given."""
    paper_form: bool = False
    """Use the U-Net of the paper, of up to eight levels and with transposed convolutions."""
    from_scratch: bool = False
    """Train a U-Net from random weights. Otherwise, training starts from the packaged network where it fits:
    for the scorers laplace, mask and error, unless a width, a mask per channel or volume mode volume is asked
    for."""

    def __post_init__(self) -> None:
        modes = get_args(names.VolumeMode)
        if self.volume_mode is not None and self.volume_mode not in modes:
            raise InvalidArgumentError(
                f"volume_mode {self.volume_mode!r} is unknown; choose from {list(modes)}"
            )

    def fits_packaged(self, channels: int) -> bool:
        """Return whether the packaged network is one as described here, for y_hat with these channels."""
        given = self.module is not None or self.width is not None
        other = given or self.from_scratch or self.paper_form or self.volume_mode == "volume"
        return not other and not (self.per_channel and channels > 1)


DEFAULT_TRAINING = TrainingConfig()
