"""Error maps of depth: the relative error, and the logarithm of the ratio of output and truth."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from conformask.losses.base import RatioMap
from conformask.records.numbers import rounded_up, written

if TYPE_CHECKING:
    from conformask.arrays import Images

LEAST = 2.0**-126
"""The least normal float32, for an output of 0, whose logarithm is not finite."""


@dataclass(frozen=True)
class Relative(RatioMap):
    """The error as a share of the true depth, as in AbsRel.

    Examples:
        >>> import torch
        >>> from conformask.extras.depth import RELATIVE
        >>> RELATIVE.error_map(torch.tensor([[0.4, 0.0]]), torch.tensor([[0.5, 0.5]]))
        tensor([[0.2500, 0.0000]])
    """

    name: ClassVar[str] = "relative"
    formula: ClassVar[str] = "|y − ŷ| / y"

    def error_map(self, y: "Images", y_hat: "Images") -> "Images":
        """Compute |y - y_hat| / y; 0 where y is 0, which counts nowhere."""
        return ((y - y_hat).abs() / y.clamp(min=LEAST)).where(y > 0, 0.0)

    def text(self, error: float, digits: int) -> str:
        """Return an error in words, in percent of the depth."""
        return f"{written(rounded_up(100 * error, digits))} % of the true depth"


@dataclass(frozen=True)
class LogRatio(RatioMap):
    """The logarithm of the ratio of output and truth, the same for depth and inverse depth.

    A pixel is off by 25 % where one of the two is 1.25 times the other: delta < 1.25 of depth benchmarks.

    Examples:
        >>> import torch
        >>> from conformask.extras.depth import LOG_RATIO
        >>> ratios = LOG_RATIO.error_map(torch.tensor([[0.4, 0.5]]), torch.tensor([[0.5, 0.4]])).exp()
        >>> [round(ratio, 4) for ratio in ratios[0].tolist()]
        [1.25, 1.25]
    """

    name: ClassVar[str] = "log_ratio"
    formula: ClassVar[str] = "|log(ŷ / y)|"

    def error_map(self, y: "Images", y_hat: "Images") -> "Images":
        """Compute |log(y_hat / y)|; 0 where y is 0, which counts nowhere."""
        return (y_hat.clamp(min=LEAST).log() - y.clamp(min=LEAST).log()).abs().where(y > 0, 0.0)

    def error_of(self, share: float) -> float:
        """Return the error of a pixel of which output or truth is larger by this share of the other."""
        return math.log1p(share)

    def symbol(self, error: float) -> str:
        """Return an error in formulas, as the logarithm of a factor."""
        return f"log {math.exp(error):g}"

    def text(self, error: float, digits: int) -> str:
        """Return an error in words, as a factor."""
        return f"a factor of {written(1 + rounded_up(math.expm1(error), digits))} in depth"


RELATIVE = Relative()
LOG_RATIO = LogRatio()
