"""What the output of a score network means, how it is trained, and which family suits it."""

from collections.abc import Callable, Mapping
from typing import ClassVar, Protocol, runtime_checkable

from conformask.errors import chosen
from conformask.scorers.error_regression import ErrorRegression
from conformask.scorers.mask_network import MaskNetwork
from conformask.types import Distance, Images, PerImage


@runtime_checkable
class Head(Protocol):
    """Reads the raw output of a network, (N, 1 or C, H, W)."""

    name: ClassVar[str]
    family: ClassVar[str]

    @property
    def start(self) -> float:
        """The raw output from which training starts."""

    def loss(self, output: Images, y: Images, y_hat: Images) -> PerImage:
        """What training minimises, for each image."""

    def score(self, output: Images) -> Images:
        """The score map, >= 0."""


HEADS: Mapping[str, Callable[[Distance], Head]] = {"error": ErrorRegression, "mask": MaskNetwork}


def head(name: str, distance: Distance) -> Head:
    """The head of that name, for a distance.

    Raises:
        InvalidArgumentError: an unknown name.
    """
    return chosen(HEADS, name, "scorer")(distance)
