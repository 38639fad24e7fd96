"""Heads: the meaning of a score network's output, its training loss, and the grey masks that suit it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Protocol, runtime_checkable

import torch

from conformask.arithmetic import image_means
from conformask.distances.lp import Lp
from conformask.errors import InvalidArgumentError, chosen
from conformask.losses import AnyLoss, stored_loss
from conformask.losses.map_loss import Sums
from conformask.losses.maps import errors_for, with_channels
from conformask.losses.wrong_pixels import wrong_pixels
from conformask.records.loss import LossTerms
from conformask.scorers.simple import MAP, SIMPLE, Simple
from conformask.training.clip import straight_through_clip
from conformask.types import Images, Loss, PerImage

TINY = torch.finfo(torch.float32).tiny
FLOOR = 1e-4
"""Scores of a mask network below this are no longer estimates; only their order counts."""
START_OF_ROOT, ROOT = 0.05, 0.01
"""Initial root of an expected squared error, and a root that is added to it."""
LOW, HIGH = 0.05, 0.95
"""The quantiles of the paper's baseline."""


@runtime_checkable
class Head(Protocol):
    """Interprets the raw output of a network, (N, outputs, *space)."""

    @property
    def name(self) -> str:
        """The name of the scorer in run folders and on the command line."""

    @property
    def family(self) -> str:
        """The family of grey masks that suits the score."""

    @property
    def fitted_for(self) -> Loss | None:
        """The loss that the score is fitted for; None if it is fitted for none."""

    @property
    def start(self) -> float:
        """The raw output from which training starts."""

    def outputs(self, channels: int, per_channel: bool) -> int:
        """Return the number of output channels, for `channels` of y_hat and a score of one or as many."""

    def loss(self, output: Images, y: Images, y_hat: Images, noise: Images | None = None) -> PerImage:
        """Compute the training loss of each image; `noise` is that of y, as in a `Batch`."""

    def score(self, output: Images) -> Images:
        """Return the score map, >= 0; for a score of one channel, the caller takes the mean over channels."""


@dataclass(frozen=True)
class MaskNetwork:
    """The paper's mask network (equation 6); the score is 1 - m.

    The mask is m = clip(1 - output, 0, 1), with straight-through clipping, starting at m = 1. For l1 it is
    equivalent to least squares: (m - 1)^2 + 2 m e = (1 - m - e)^2 + 2 e - e^2, so the score estimates the
    mean error E[e], as water-filling expects.
    """

    fitted_for: Loss
    name: ClassVar[str] = "mask"
    start: ClassVar[float] = 0.0

    @property
    def family(self) -> str:
        """The family: water_filling for lp, power for distances whose error is not a sum over pixels."""
        return "power" if self.fitted_for.exponent is None else "water_filling"

    def outputs(self, channels: int, per_channel: bool) -> int:
        """Return the number of channels of the score."""
        return channels if per_channel else 1

    def loss(self, output: Images, y: Images, y_hat: Images, noise: Images | None = None) -> PerImage:
        """Compute equation (6) with mu = 2."""
        return mask_loss(straight_through_clip(1 - output), y, y_hat, self.fitted_for)

    def score(self, output: Images) -> Images:
        """Return 1 - m, in (0, 1]; values that the clip would set to 0 approach 0 in their order instead.

        Water-filling never masks a pixel of score 0, so an image with errors there could not meet the
        threshold.
        """
        below = FLOOR**2 / (2 * FLOOR - output.clamp(max=FLOOR))
        return torch.where(output > FLOOR, output.clamp(max=1), below)


@dataclass(frozen=True)
class ErrorNetwork(MaskNetwork):
    """A network that estimates the loss's error map; for missed the probability that a pixel is wrong.

    It minimises least squares, which is what equation (6) does for l1. For lp the score of l1 is raised to
    the power p; docs/results/smaller-masks.md compares this with equation (6) for the distance itself, and
    docs/results/losses.md reports which estimate is best for which loss.

    Raises:
        InvalidArgumentError: the loss is not made of an error map.
    """

    name: ClassVar[str] = "error"
    family: ClassVar[str] = "water_filling"

    @property
    def start(self) -> float:  # type: ignore[override]
        """The initial output; a root of squared errors that starts at 0 would have no gradient."""
        return START_OF_ROOT if self._of_clean else 0.0

    def __post_init__(self) -> None:
        if self.fitted_for.errors is None:
            raise InvalidArgumentError(
                "scorer 'error' learns an error map, such as l1 or ssim_map, but "
                f"{self.fitted_for.terms.name!r} has none: use scorer 'mask'"
            )

    @property
    def _power(self) -> float:
        """The exponent that the score is raised to: p for lp where its error is estimated, else 1."""
        errors = self.fitted_for.errors
        return errors.p if isinstance(errors, Lp) and not self._of_wrong_pixels else 1.0

    @property
    def _of_clean(self) -> bool:
        return self.fitted_for.terms.subtracts_noise

    @property
    def _of_wrong_pixels(self) -> bool:
        return self.fitted_for.terms.over == "missed"

    def loss(self, output: Images, y: Images, y_hat: Images, noise: Images | None = None) -> PerImage:
        """Compute mean (m - 1)^2 + 2 m e, which is (1 - m - e)^2 up to a constant.

        For the error to the clean image, with y the mean of two repeats and `noise` as in a `Batch`, it is
        the mean of e / v + log v, v = s^2 + ROOT^2 (the likelihood of a normal law with variance v). It is
        linear in the product e of their errors, so that its gradient is that of the clean one on average.
        """
        if self._of_clean:
            products = errors_for(Lp(2.0), y, y_hat, output.shape[1])
            products = products if noise is None else products - with_channels(noise, output.shape[1])
            variance = output.square() + ROOT**2
            return image_means(products / variance + variance.log())
        mask = straight_through_clip(1 - output)
        expected = Sums(self._target(y, y_hat, output.shape[1])).of(mask).float()
        return image_means((mask - 1).square()) + 2 * expected

    def score(self, output: Images) -> Images:
        """Return (1 - m)^p, in (0, 1]."""
        return to_power(super().score(output), self._power)

    def _target(self, y: Images, y_hat: Images, channels: int) -> Images:
        errors = self.fitted_for.errors
        assert errors is not None
        if self._of_wrong_pixels:
            return wrong_pixels(errors, y, y_hat, channels, self.fitted_for.terms.tolerance or 0.0)
        return errors_for(Lp(1.0) if self._power > 1 else errors, y, y_hat, channels)


@dataclass(frozen=True)
class Packaged(MaskNetwork):
    """Head of the packaged network: the mean error, or for lp its power p."""

    name: ClassVar[str] = "packaged"

    def score(self, output: Images) -> Images:
        """Return the expected error, in (0, 1], or its power."""
        squared = self.fitted_for.terms.subtracts_noise
        return to_power(super().score(output), 2.0 if squared else self.fitted_for.exponent or 1.0)


@dataclass(frozen=True)
class Quantile:
    """The paper's baseline, pixelwise intervals of y by quantile regression; the score is their width.

    They are [l, u] = [y_hat - output_1, y_hat + output_2] for each channel of y_hat, fitted for no loss.

    The network has 2 * C outputs, first those of l, whatever the channels of the score: the paper's intervals
    are of y itself, and a one-channel score is the mean width over channels. Both outputs may be negative, so
    that the interval of a biased y_hat need not contain it; bounds that cross have width 0.
    """

    name: ClassVar[str] = "quantile"
    family: ClassVar[str] = "reciprocal"
    fitted_for: ClassVar[None] = None
    start: ClassVar[float] = 0.07
    """The initial output, -log(0.1) * 0.03: quantiles of a Laplace error of mean 0.03, a typical value."""

    def outputs(self, channels: int, per_channel: bool) -> int:
        """Return two outputs for each channel of y_hat."""
        return 2 * channels

    def loss(self, output: Images, y: Images, y_hat: Images, noise: Images | None = None) -> PerImage:
        """Compute the pinball loss at 0.05 of l and at 0.95 of u."""
        below, above = output.chunk(2, dim=1)
        return pinball(y_hat - below, y, LOW) + pinball(y_hat + above, y, HIGH)

    def score(self, output: Images) -> Images:
        """Return u - l, clipped to [0, 1], for each channel."""
        below, above = output.chunk(2, dim=1)
        return (below + above).clamp(0, 1)


def mask_loss(mask: Images, y: Images, y_hat: Images, loss: Loss, mu: float = 2.0) -> PerImage:
    """Compute equation (6): mean (m - 1)^2 + mu * loss(m, y, y_hat), over whole images."""
    opened = image_means((mask - 1).square())
    return opened + mu * loss.on(y, y_hat, None, mask.shape[1]).of(mask).float()


def pinball(bound: Images, y: Images, level: float) -> PerImage:
    """Compute mean max(level * (y - bound), (level - 1) * (y - bound)).

    Its minimiser is the quantile: y < bound with probability level.
    """
    excess = y - bound
    return image_means(torch.maximum(level * excess, (level - 1) * excess))


def to_power(score: Images, power: float) -> Images:
    """Convert a score of l1 into one of lp, still above 0."""
    return score.pow(power).clamp(min=TINY)


FREE: Mapping[str, Head] = {"quantile": Quantile(), **{name: Simple(name) for name in SIMPLE}}
"""Heads that are fitted for no distance, by name."""


def _whatever(name: str, loss: Loss) -> Head:
    """Return the head with this name, which is the same for every loss."""
    return FREE[name]


HEADS: Mapping[str, Callable[[Loss], Head]] = {
    "mask": MaskNetwork,
    "error": ErrorNetwork,
    "packaged": Packaged,
    **{name: partial(_whatever, name) for name in FREE},
}


def head(name: str | None, loss: Loss) -> Head:
    """Return the head with this name, or the one that suits, for a loss.

    Raises:
        InvalidArgumentError: an unknown name, or a loss that the head does not take.
    """
    if name == "mask" and loss.terms.over not in (None, "image"):
        raise InvalidArgumentError(
            f"scorer 'mask' is trained with a mean over the image, but {loss.terms.name!r} is not one: "
            "use scorer 'error'"
        )
    return chosen(HEADS, name or suited(loss), "scorer")(loss)


def suited(loss: Loss) -> str:
    """Return the default scorer: mask for l1 and for distances of the paper's form, else error."""
    return "mask" if loss.terms.over is None and (loss.exponent or 1.0) == 1 else "error"


def stored_head(name: str, stored: LossTerms, given: AnyLoss | None, code: str | None) -> Head:
    """Return the head of a run folder for the loss named by `stored`; a loss that is given must match it.

    Raises:
        MismatchError: another loss was given, or none where it is a user's own; or other code of it.
    """
    if MAP.fullmatch(name):
        return Simple(name)
    return FREE[name] if name in FREE else head(name, stored_loss(stored, given, code))
