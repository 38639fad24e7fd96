"""What a loss counts, and hidden shares are shares of: whole images, the region of each, or objects."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

from conformask.errors import MismatchError
from conformask.records.record import Array

Use = Literal["training", "patches", "tiles"]
"""What a loss may refuse: to train a score for it, masks in patches, and images masked tile by tile."""


class Layered(Protocol):
    """Images with layers beside them, such as a `Batch`; records know no tensors."""

    @property
    def names(self) -> Sequence[str]:
        """The names of the images."""

    @property
    def layers(self) -> Mapping[str, Any]:
        """The layers by name, each (N, C, *space)."""


@dataclass(frozen=True)
class Extent:
    """The pixels of whole images; others override what differs."""

    name: ClassVar[str] = "image"
    layers: ClassVar[tuple[str, ...]] = ()
    """The layers of an image that the loss needs."""
    whole: ClassVar[str] = "an image"
    """What hidden shares are shares of."""
    where: ClassVar[str] = ""
    """The words that limit a sentence; empty for whole images."""
    counts_objects: ClassVar[bool] = False
    """True if objects are counted, not pixels."""

    def refuse(self, use: Use, image: str = "") -> None:
        """Refuse a use that the extent does not allow, of the image with this name if it is about one."""

    def check_layers(self, has: Callable[[str], bool]) -> None:
        """Refuse a calibration without the layers that the loss needs; `has` says whether images have one."""

    def weights(self, batch: Layered) -> Any:
        """Return how much each pixel counts, (N, 1, *space) in [0, 1]; None where all count alike.

        Raises:
            MismatchError: the loss is about regions or objects, and the images have none.
        """
        return None

    def scorer(self, scorer: Any) -> Any:
        """Return a scorer as the loss uses it."""
        return scorer

    def counted_scores(self, scores: list[Any]) -> list[Any]:
        """Return the scores, of those of images, from which a grid of lambdas is made."""
        return scores

    def columns(self, mask: Any, batch: Layered) -> dict[str, Array]:
        """Return what an evaluation measures of each image beside the loss, by column."""
        return {}


@dataclass(frozen=True)
class Region(Extent):
    """The region of each image alone."""

    name = "region"
    layers = ("region",)
    whole = "the region of an image"
    where = " in the region"

    def weights(self, batch: Layered) -> Any:
        """Return the region of each image, (N, 1, *space) in [0, 1]."""
        if "region" not in batch.layers:
            raise MismatchError(
                f"the promise is about the region of each image, and {batch.names[0]!r} has none: add a "
                "folder region/ or a column region"
            )
        return batch.layers["region"]


IMAGE, REGION = Extent(), Region()


def extent_of(*, regional: bool) -> Extent:
    """Return the extent of a loss of pixels."""
    return REGION if regional else IMAGE
