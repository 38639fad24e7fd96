"""For which images a promise holds, and whether these are among them."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

from conformask.errors import MismatchError
from conformask.records.network import Caveat, Network, check_network

Size = tuple[int, ...]
"""The spatial sides of an image in pixels, such as (H, W)."""
FACTOR = 2
"""How many times larger or smaller than those of the calibration whole images may be."""


@dataclass(frozen=True, kw_only=True)
class Domain:
    """Images like those of the calibration."""

    channels: int
    sizes: tuple[Size, ...]
    data_range: tuple[float, float] | None
    """Values of black and white, where it was stated; the file type says them otherwise."""
    population: str | None
    """For which images the promise holds, where the data say so."""
    tiles: tuple[int, int] | None = None
    """Side and overlap of the tiles by which whole images were scored; None where each was one pass."""
    network: Network | None = None
    """Who made y_hat; None where nobody said."""

    def check_channels(self, channels: int, where: str = "") -> None:
        """Refuse images of other channels; `where` is put before the message.

        Raises:
            MismatchError: they have others.
        """
        if channels != self.channels:
            raise MismatchError(
                f"{where}this masker takes y_hat with {self.channels} channels, not {channels}"
            )

    def check_sizes(self, sizes: Iterable[Size]) -> None:
        """Refuse images of sizes that the promise does not cover; whole images are warned about.

        Raises:
            MismatchError: says which.
        """
        for reason in filter(None, map(self.not_covered, sizes)):
            if self.tiles is None:
                raise MismatchError(reason)
            warnings.warn(reason, stacklevel=3)

    def check_network(self, network: Network | None, *, other_network: bool) -> Caveat | None:
        """What to say beside masks of this network's outputs; None where the promise is about them.

        Raises:
            MismatchError: they are another network's, and `other_network` does not allow it.
        """
        return check_network(self.network, network, "the promise", other_network=other_network)

    def not_covered(self, size: Size) -> str | None:
        """Why the promise does not cover images of this size; None where it does.

        Whole images scored by tiles differ in size; they are covered up to FACTOR times away.
        """
        if size in self.sizes:
            return None
        if self.tiles is None:
            return (
                f"images of {size}: the promise was calibrated on {list(self.sizes)} "
                "and does not cover other sizes"
            )
        smallest, largest = (tuple(map(end, zip(*self.sizes, strict=True))) for end in (min, max))
        sides = zip(size, smallest, largest, strict=True)
        if all(low / FACTOR <= side <= high * FACTOR for side, low, high in sides):
            return None
        return (
            f"images of {size}: the promise was calibrated on whole images of {smallest} to {largest} "
            f"and does not cover sides over {FACTOR} times as long or short"
        )
