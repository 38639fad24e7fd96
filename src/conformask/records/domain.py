"""For which images a promise holds, and whether these are among them."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from conformask.errors import MismatchError
from conformask.records.geometry import Geometry
from conformask.records.network import Caveat, Network, check_network
from conformask.records.reading import ReadAs, Reading
from conformask.records.size import Size, among, covered, size_text

UNIT = (0.0, 1.0)
"""The range of floats."""


@dataclass(frozen=True, kw_only=True)
class Domain(ReadAs):
    """Images like those of the calibration."""

    channels: int
    sizes: tuple[Size, ...]
    population: str | None
    """For which images the promise holds, where the data say so."""
    tiles: tuple[int | Size, int | Size] | None = None
    """Sides and overlap of the tiles by which whole images were scored; None where each was one pass."""
    network: Network | None = None
    """Who made y_hat; None where nobody said."""
    geometry: Geometry | None = None
    """Spacing and orientation of the first image, where its file says them; not its place."""
    range_of_x: tuple[float, float] | None = None
    """The least and the largest value of the first x, whoever stated them: a file, a type or a person."""
    range_of_y_hat: tuple[float, float] | None = None
    """The same for y_hat."""
    turned: tuple[str, ...] = ()
    """Of x and y_hat those whose files were MONOCHROME1, the least value brightest, and were turned round."""

    def reading_of(self, role: str, dtype: np.dtype[Any]) -> Reading:
        """How an array of a user's is read as x or y_hat: as the images of the calibration were.

        Floats are in [0, 1], or in the range that was stated. Integers have the range that was used, such as
        0 to 4095 of a DICOM file with 12 bits. Where the calibration's files were turned round, arrays hold
        what such files hold and are turned as well; floats in [0, 1] are not, larger is brighter.

        Raises:
            MismatchError: integers of a type that images of this range would not have; says what to give.
        """
        reading = self.reading.of(role)
        used = self.range_of_x if role == "x" else self.range_of_y_hat
        turned = role in self.turned
        if reading.data_range is not None and turned:
            return replace(reading, data_range=used, turned=True)
        if reading.data_range is not None or used is None or dtype.kind not in "ui":
            return reading
        if used == UNIT and dtype == np.uint8:
            return reading
        if used == UNIT or not _holds(dtype, used):
            raise MismatchError(
                f"{role} holds {dtype}, and the calibration's images had values from {used[0]:g} to "
                f"{used[1]:g}: give arrays of the same type and range, or floats in [0, 1]"
            )
        return replace(reading, data_range=used, turned=turned)

    def check_shape(self, shape: Sequence[int], where: str = "") -> None:
        """Refuse volumes for planes, and other channels, by (C, *space); `where` is put before the message.

        Raises:
            MismatchError: says what the masker takes.
        """
        channels, *space = shape
        if len(space) != len(self.sizes[0]):
            here, there = ("planes", "volumes") if len(space) == 2 else ("volumes", "planes")
            raise MismatchError(
                f"{where}the promise is about {there}, and these are {here} of {tuple(space)} pixels: "
                f"calibrate on {here} for a promise about them"
            )
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

    def check_spacing(self, geometries: Iterable[tuple[str, Geometry | None]]) -> None:
        """Warn of images of another spacing than the calibration's, by their names.

        Warns:
            UserWarning: it is another by more than a tenth; says which, of the first of them.
        """
        if self.geometry is None:
            return
        for name, geometry in geometries:
            if geometry is not None and geometry.is_finer_or_coarser(self.geometry):
                warnings.warn(
                    f"{name} has a spacing of {geometry.text}: the promise was calibrated on "
                    f"{self.geometry.text} and may not hold for others",
                    stacklevel=3,
                )
                return

    def check_network(self, network: Network | None, *, other_network: bool) -> Caveat | None:
        """What to say beside masks of this network's outputs; None where the promise is about them.

        Raises:
            MismatchError: they are another network's, and `other_network` does not allow it.
        """
        return check_network(self.network, network, "the promise", other_network=other_network)

    @property
    def unknown_network(self) -> str | None:
        """What to say beside an output that nobody named a network for; None where the promise names none."""
        if self.network is None:
            return None
        return f"The promise is about outputs of {self.network.name}; who made this is unknown."

    @property
    def covered(self) -> str:
        """Of which sizes the images are that the promise covers.

        Whole images scored by tiles, and those of a calibration on many sizes, differ in size; they are
        covered up to FACTOR times away.
        """
        whole = self.tiles is not None
        return f"{'whole ' if whole else ''}{covered(self.sizes, many=whole)}"

    def not_covered(self, size: Size) -> str | None:
        """Why the promise does not cover images of this size; None where it does."""
        if among(size, self.sizes, many=self.tiles is not None):
            return None
        return f"images of {size_text(size)} pixels: the promise covers only {self.covered}"


def _holds(dtype: np.dtype[Any], used: tuple[float, float]) -> bool:
    """Whether integers of a type may have a range: it fits into the type, and into none of half the size."""
    limits = np.iinfo(dtype)
    low, high = used
    if dtype.itemsize > 1:
        half = np.iinfo(f"{dtype.kind}{dtype.itemsize // 2}")
        if half.min <= low and high <= half.max:
            return False
    return limits.min <= low and high <= limits.max
