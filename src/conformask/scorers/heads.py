"""Heads: the meaning of a score network's output, its training loss, and the family that suits it."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol, runtime_checkable

from conformask.errors import InvalidArgumentError, chosen
from conformask.losses import AnyLoss, stored_loss
from conformask.records.loss import LossTerms
from conformask.scorers.error_network import ErrorNetwork
from conformask.scorers.mask_network import MaskNetwork
from conformask.scorers.packaged import Packaged
from conformask.scorers.quantile import Quantile
from conformask.scorers.simple import SIMPLE, Simple
from conformask.types import Images, Loss, PerImage


@runtime_checkable
class Head(Protocol):
    """Interprets the raw output of a network, (N, outputs, *space)."""

    @property
    def name(self) -> str:
        """The name of the scorer in run folders and on the command line."""

    @property
    def family(self) -> str:
        """The family that suits the score."""

    @property
    def fitted_for(self) -> Loss | None:
        """The loss that the score is fitted for; None if it is fitted for none."""

    @property
    def start(self) -> float:
        """The raw output from which training starts."""

    def outputs(self, channels: int, per_channel: bool) -> int:
        """Return the number of output channels, for `channels` of y_hat and a score of one or as many."""

    def loss(self, output: Images, y: Images, y_hat: Images) -> PerImage:
        """Compute the training loss of each image."""

    def score(self, output: Images) -> Images:
        """Return the score map, >= 0; for a score of one channel, the caller takes the mean over channels."""


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
    return FREE[name] if name in FREE else head(name, stored_loss(stored, given, code))
