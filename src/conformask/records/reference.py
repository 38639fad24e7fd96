"""What stands in the place of the truth: a clean image, or one or two repeats with noise, and their noise."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from conformask.errors import InvalidArgumentError
from conformask.storage.as_arrays import Array


@dataclass(frozen=True)
class NoiseModel:
    """Poisson and Gaussian noise: the variance of a pixel is a linear function of its mean.

    All three are in units of the image's range, [0, 1]. A camera with a range of R digital numbers, k of
    them per electron, an offset of o digital numbers and a read noise of s electrons has k / R, o / R and
    k s / R.

    Raises:
        InvalidArgumentError: a value is not finite, or gain or read noise is negative.

    Examples:
        >>> import conformask as cm
        >>> cm.NoiseModel(0.01, 0.1, 0.02).option
        '0.01,0.1,0.02'
    """

    gain: float
    offset: float
    read: float

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.gain, self.offset, self.read))) or min(self.gain, self.read) < 0:
            raise InvalidArgumentError(
                f"{self}: gain and read noise must be at least 0, and all three finite"
            )

    def variance(self, mean: Array) -> Array:
        """Return gain * (mean - offset) + read^2, the variance of pixels with these means.

        As it is linear, its value at a noisy pixel is on average the variance of that pixel; it is not cut
        off at 0, which would make it too large on average.
        """
        return np.asarray(self.gain * (mean - self.offset) + self.read**2)

    @property
    def option(self) -> str:
        """The model as the command line takes it: GAIN,OFFSET,READ."""
        return f"{self.gain:.4g},{self.offset:.4g},{self.read:.4g}"

    @property
    def text(self) -> str:
        """The model in words."""
        return f"gain {self.gain:.4g}, offset {self.offset:.4g}, read noise {self.read:.4g}"


@dataclass(frozen=True)
class Reference:
    """What y is: the clean truth, or an image with noise in its place.

    Args:
        repeats: 0 if y is the truth, 1 if it is one acquisition b with noise of mean 0 that is independent
            of the input's, 2 if it is the mean of two, b and c, whose noise is independent of each other's.
        model: the noise of one repeat; None if it is not known.

    Raises:
        InvalidArgumentError: a model without one repeat; the noise of two is measured by their difference.

    Examples:
        >>> import conformask as cm
        >>> cm.Reference(1, cm.NoiseModel(0.01, 0, 0.02)).text
        'one noisy repeat and a noise model of gain 0.01, offset 0, read noise 0.02'
    """

    repeats: Literal[0, 1, 2] = 0
    model: NoiseModel | None = None

    def __post_init__(self) -> None:
        if self.model is not None and self.repeats != 1:
            raise InvalidArgumentError(
                f"a noise model is for one repeat, not for {self.repeats}: leave it out, or give one repeat"
            )

    @property
    def is_noisy(self) -> bool:
        """True if y has noise."""
        return self.repeats > 0

    @property
    def noun(self) -> str:
        """The word for y on screens: truth, or reference if it has noise."""
        return "reference" if self.is_noisy else "truth"

    @property
    def error(self) -> str:
        """The error of a pixel as a formula, with a note if it is one to a noisy y."""
        return f"|y − ŷ|{' to the noisy reference' * self.is_noisy}"

    @property
    def text(self) -> str:
        """What y is, in words."""
        model = "" if self.model is None else f" and a noise model of {self.model.text}"
        return ("the clean truth", f"one noisy repeat{model}", "two noisy repeats")[self.repeats]

    @property
    def formula(self) -> str | None:
        """y and the estimate v of the variance of its noise as formulas; None if v is not known."""
        if self.repeats == 2:
            return "y = (b + c) / 2 and v = ((b − c) / 2)^2, b and c the two repeats"
        if self.model is None:
            return None
        gain, offset, read = vars(self.model).values()
        above = f"(b {'−' if offset > 0 else '+'} {abs(offset):.4g})" if offset else "b"
        return f"y = b and v = {gain:.4g} {above} + {read:.4g}^2, b the repeat"

    def refuse_unknown_noise(self) -> None:
        """Refuse one repeat without a noise model where noise has to be subtracted.

        Raises:
            InvalidArgumentError: says what to give.
        """
        if self.repeats == 1 and self.model is None:
            raise InvalidArgumentError(
                "the noise of one repeat cannot be subtracted, as it is not known: give a second repeat, or "
                "a noise model (--noise-model GAIN,OFFSET,READ, Reading(noise_model=)), or promise a mean of "
                "l1 or l2, guarantee expected or rcps"
            )


CLEAN = Reference()
