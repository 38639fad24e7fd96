"""The images that a promise holds for, and checks of whether given images are among them."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from conformask.errors import ConformaskWarning, MismatchError
from conformask.records.geometry import Geometry
from conformask.records.network import Caveat, Network, check_network
from conformask.records.reading import ReadAs, Reading
from conformask.records.size import MOST_CHANNELS, Size, among, covered, size_text
from conformask.records.values import UNIT, Values

KINDS = {2: "planes", 3: "volumes"}
"""Images in words, by the number of their axes beside channels."""


@dataclass(frozen=True, kw_only=True)
class Domain(ReadAs):
    """The domain of a promise: images like the calibration images."""

    channels: int
    sizes: tuple[Size, ...]
    population: str | None
    """The images that the promise holds for, where the data say so."""
    tiles: tuple[int | Size, int | Size] | None = None
    """Sides and overlap of the tiles by which whole images were scored; None where each was one pass."""
    network: Network | None = None
    """The network that made y_hat; None where unknown."""
    geometry: Geometry | None = None
    """Spacing and orientation of the first image, where its file has them; not its position."""
    range_of_x: tuple[float, float] | None = None
    """The least and the largest value of the first x, as stated by a file, a type or a person."""
    range_of_y_hat: tuple[float, float] | None = None
    """The least and the largest value of the first y_hat, as stated by a file, a type or a person."""
    clipped: float = 0.0
    """Mean share of the values of an image, the largest of x, y_hat and y, that were clipped to the range."""
    cues_made: str | None = None
    """How the maps from which the score is read were made, such as "samples,8"; None if not by conformask."""
    turned: tuple[str, ...] = ()
    """Roles (x, y_hat) whose files were MONOCHROME1, least value brightest, and were inverted."""

    @property
    def reading(self) -> Reading:
        """The Reading of the calibration images; up to 0.2 the stated range was that of x of 8 bits, too."""
        of_all = self.data_range if self.range_of_x in (None, self.data_range) else None
        return replace(super().reading, x_range=self.x_range or of_all)

    @property
    def values(self) -> Values | None:
        """The values of y_hat that become 0 and 1; None where they are not known."""
        if self.range_of_y_hat is None:
            return None
        return Values(*self.range_of_y_hat, self.units, self.data_range is not None)

    def reading_of(self, role: str, dtype: np.dtype[Any]) -> Reading:
        """Return how a user's array is read as x or y_hat: like the images of the calibration.

        Floats are in [0, 1], or in the range that was stated. Integers have the range that was used, such as
        0 to 4095 for a DICOM file with 12 bits. If the calibration's files were inverted, arrays are taken to
        hold what such files hold and are inverted as well; floats in [0, 1] are not: larger is brighter.

        Raises:
            MismatchError: integers of a type that images of this range would not have; says what to give.
        """
        reading = self.reading.of(role)
        used = self.range_of_x if role == "x" else self.range_of_y_hat
        turned = role in self.turned
        if reading.is_x and reading.x_range is None and not turned:  # a range that was stated was not for x
            reading = replace(reading, data_range=None)
        if reading.data_range is not None and turned:
            return replace(reading, data_range=used, turned=True)
        if reading.data_range is not None or used is None or dtype.kind not in "ui":
            return reading
        if used == UNIT and dtype == np.uint8:
            return reading
        if used == UNIT or not _holds(dtype, used):
            raise MismatchError(
                f"{role} contains {dtype}, but the calibration images had values from {used[0]:g} to "
                f"{used[1]:g}: give arrays of the same type and range, or floats in [0, 1]"
            )
        return replace(reading, data_range=used, turned=turned)

    def check_shape(self, shape: Sequence[int], where: str = "") -> None:
        """Refuse volumes for planes, or other channels, by (C, *space); `where` prefixes the message.

        Raises:
            MismatchError: the shape does not fit; says what the masker takes.
        """
        channels, *space = shape
        if len(space) != len(self.sizes[0]):
            here, there = (KINDS.get(n, f"images of {n} axes") for n in (len(space), len(self.sizes[0])))
            raise MismatchError(
                f"{where}the promise is about {there}, but these are {here} of {size_text(tuple(space))} "
                f"pixels: calibrate on {here} for a promise about them"
            )
        if channels != self.channels:
            plural = "s" * (self.channels != 1)
            raise MismatchError(
                f"{where}this masker takes y_hat with {self.channels} channel{plural}, not {channels}"
            )

    def check_axes(self, role: str, shape: tuple[int, ...]) -> None:
        """Refuse an array of a volume for a promise about planes, and the reverse, by its shape.

        Raises:
            MismatchError: the array has other axes; says what the masker takes.
        """
        axes, n, space = self.axes, len(shape), len(self.sizes[0])
        if axes is not None and n != len(axes):
            taken = f"arrays with the axes {axes}"
        elif axes is None and space == 2 and (n > 3 or (n == 3 and shape[-1] > MOST_CHANNELS)):
            taken = "(H, W) or (H, W, C); give the planes of a volume one by one, or calibrate on volumes"
        else:
            return
        raise MismatchError(f"{role} has shape {shape}, but the promise is about {KINDS[space]}: {taken}")

    def check_sizes(self, sizes: Iterable[Size]) -> None:
        """Refuse images of sizes that the promise does not cover; only warn of whole images.

        Raises:
            MismatchError: a size is not covered; names it.
        """
        for reason in filter(None, map(self.not_covered, sizes)):
            if self.tiles is None:
                raise MismatchError(reason)
            warnings.warn(reason, category=ConformaskWarning, stacklevel=3)

    def check_spacing(self, geometries: Iterable[tuple[str, Geometry | None]]) -> None:
        """Warn of images whose spacing differs from the calibration's, by their names.

        Warns:
            ConformaskWarning: the spacing differs by more than a tenth; names the first such image.
        """
        if self.geometry is None:
            return
        for name, geometry in geometries:
            if reason := self.other_spacing(geometry):
                warnings.warn(f"{name}: {reason}", category=ConformaskWarning, stacklevel=3)
                return

    def other_spacing(self, geometry: Geometry | None) -> str | None:
        """Return by which spacing an image differs from the calibration's; None up to a tenth, or unknown."""
        known = self.geometry
        if known is None or geometry is None or not geometry.is_finer_or_coarser(known):
            return None
        return (
            f"a spacing of {geometry.text}: the promise was calibrated on {known.text} and may not hold for "
            "others"
        )

    def check_network(self, network: Network | None, *, allow_network_mismatch: bool) -> Caveat | None:
        """Return a caveat for masks of this network's outputs; None where the promise is about them.

        Raises:
            MismatchError: another network made the outputs, and `allow_network_mismatch` is false.
        """
        return check_network(
            self.network, network, "the promise", allow_network_mismatch=allow_network_mismatch
        )

    def check_cues(self, made: str | None) -> None:
        """Check that maps beside y_hat were made as those of the calibration, where both are known.

        Raises:
            MismatchError: they were made otherwise.
        """
        if self.cues_made is not None and made not in (None, self.cues_made):
            raise MismatchError(
                f"the promise is about maps made by --cues {self.cues_made}, but these were made by {made}: "
                "make them in the same way, or calibrate again"
            )

    @property
    def unknown_network(self) -> str | None:
        """A caveat for an output of an unknown network; None where the promise names no network."""
        if self.network is None:
            return None
        return (
            f"The promise is about outputs of {self.network.name}; it is unknown which network made this one."
        )

    @property
    def covered(self) -> str:
        """The sizes of images that the promise covers, in words.

        Whole images scored by tiles, and images of a calibration on many sizes, differ in size; sides up to
        FACTOR times as long or short are covered.
        """
        whole = self.tiles is not None
        return f"{'whole ' if whole else ''}{covered(self.sizes, many=whole)}"

    def not_covered(self, size: Size) -> str | None:
        """Return why the promise does not cover images of this size; None where it does."""
        if among(size, self.sizes, many=self.tiles is not None):
            return None
        return f"images of {size_text(size)} pixels: the promise covers only {self.covered}"


def _holds(dtype: np.dtype[Any], used: tuple[float, float]) -> bool:
    """Return whether integers of a type may have a range: it fits the type, and no type of half the size."""
    limits = np.iinfo(dtype)
    low, high = used
    if dtype.itemsize > 1:
        half = np.iinfo(f"{dtype.kind}{dtype.itemsize // 2}")
        if half.min <= low and high <= half.max:
            return False
    return limits.min <= low and high <= limits.max
