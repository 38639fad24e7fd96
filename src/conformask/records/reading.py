"""Settings for reading files and arrays that do not define these themselves."""

import math
import re
from dataclasses import asdict, dataclass, fields, replace
from pathlib import PurePath
from typing import Any, Literal

from conformask.errors import InvalidArgumentError
from conformask.records.reference import NoiseModel

AXES = "TCZYX"
"""Letters of axes: time, channel, and the spatial axes."""
EIGHT_BITS = 8
"""Bits of photographs, whose range is known: a range stated for y_hat and y is not theirs."""
COMPONENTS = "components:"
"""Beginning of `objects` where objects are the parts of an image above a threshold."""


@dataclass(frozen=True)
class Reading:
    """Instructions for reading images, in addition to their files; the same for calibration and new images.

    Raises:
        InvalidArgumentError: the axes, or the threshold of components, are not valid, or a folder of maps or
            labels is not one beside y_hat/.

    Examples:
        >>> import numpy as np
        >>> from conformask import Reading, Triplets
        >>> counts = np.full((4, 8, 8), 1000, np.int16)
        >>> volumes = Triplets.from_arrays([counts], [counts], reading=Reading((0, 4000), axes="ZYX"))
        >>> volumes[0].y_hat.shape, float(volumes[0].y_hat.max())
        ((1, 4, 8, 8), 0.25)
    """

    data_range: tuple[float, float] | None = None
    """The values that become 0 and 1; x of 8 bits keeps its own, 0 to 255."""
    x_range: tuple[float, float] | None = None
    """The values that become 0 and 1 in x, if it has another range, such as raw counts."""
    axes: str | None = None
    """Axes of arrays, npy, and files that do not specify them: letters of TCZYX in order, such as ZYX."""
    clip: Literal["x", "all"] | None = None
    """The roles whose values outside the range are clipped to it; for others they are refused."""
    nan: Literal["outside"] | None = None
    """"outside" if NaN marks pixels outside the region of an image."""
    empty_chunks: bool = False
    """True if a zarr may leave out chunks, which are read as its fill value."""
    group_from: str | None = None
    """Where the groups of images are found that nothing states; see `Triplets.grouped`."""
    cues: str | None = None
    """The folder beside y_hat/, or the column of a manifest, with the maps of each image; None without."""
    noise_model: NoiseModel | None = None
    """The noise of y where it is one repeat."""
    objects: str | None = None
    """The folder beside y_hat/ with labels of the objects of each image, in its folders y_hat/ and y/; or
    components:T, for the parts of y_hat and y above T in [0, 1]; None without objects."""
    units: str | None = None
    """The unit of the values of y_hat and y, such as m or HU, for sentences and thresholds."""
    turned: bool = False
    """True if the smallest value is the brightest; only a file itself specifies it."""
    as_stored: bool = False
    """True for maps, labels and regions, whose values count as they are even in a TIFF whose 0 is white."""
    is_x: bool = False
    """True for x: with 8 bits it has its own range, unless `x_range` is stated."""

    def __post_init__(self) -> None:
        axes, threshold = self.axes, self.components_above
        if threshold is not None and not 0 <= threshold < 1:
            raise InvalidArgumentError(
                f"objects {self.objects!r}: give a threshold of at least 0 and below 1, such as "
                "components:0.5"
            )
        for path in filter(None, (self.cues, self.objects)):
            if PurePath(path).is_absolute() or ".." in PurePath(path).parts:
                raise InvalidArgumentError(
                    f"{path!r} would give all images the maps or labels of these: name a folder beside "
                    "y_hat/, such as 'maps', which other images have too. Move or link it there; a run that "
                    "was calibrated with this path has to be calibrated again"
                )
        if self.units is not None and not re.fullmatch(r"[^\W\d_][^\s,;()]*", self.units):
            raise InvalidArgumentError(f"units {self.units!r}: give a unit such as m, HU or µm")
        if axes is None:
            return
        if not set(axes) <= set(AXES) or len(set(axes)) < len(axes) or not {"Y", "X"} <= set(axes):
            raise InvalidArgumentError(
                f"axes {axes!r}: give letters of {AXES}, each at most once and with Y and X, such as "
                "ZYX or CZYX"
            )

    @property
    def components_above(self) -> float | None:
        """The threshold above which parts of y_hat and y are objects; None where labels are given."""
        if self.objects is None or not self.objects.startswith(COMPONENTS):
            return None
        try:
            return float(self.objects.removeprefix(COMPONENTS))
        except ValueError:
            return math.nan

    def of(self, role: str) -> "Reading":
        """Return how images of a role are read: x by its own range, with clip `all` or None."""
        data_range = self.x_range if role == "x" and self.x_range is not None else self.data_range
        clip: Literal["all"] | None = "all" if self.clip in ("all", role) else None
        as_stored = role in ("cues", "labels", "region")
        x_range = self.x_range if role == "x" else None
        return replace(
            self, data_range=data_range, x_range=x_range, clip=clip, as_stored=as_stored, is_x=role == "x"
        )

    def ends(self, of_file: tuple[float, float] | None, bits: int) -> tuple[float, float] | None:
        """Return the values that become 0 and 1, given the range that a file itself defines, and its bits."""
        keeps_own = self.is_x and self.x_range is None and bits == EIGHT_BITS and of_file is not None
        return of_file if keeps_own else self.data_range or of_file

    @property
    def facts(self) -> list[object]:
        """Settings that determine pixel values: the range, and the others only if any are set."""
        ours = ("data_range", "group_from", "cues", "units")
        others = {name: value for name, value in asdict(self).items() if name not in ours and value}
        return [self.data_range, *([others] if others else [])]

    @property
    def kept(self) -> dict[str, Any]:
        """The fields that ReadAs keeps."""
        return {field.name: getattr(self, field.name) for field in fields(ReadAs)}


PLAIN = Reading()


@dataclass(frozen=True, kw_only=True)
class ReadAs:
    """The settings of a Reading that new images need too, as a record keeps them."""

    data_range: tuple[float, float] | None
    """Values of black and white, where stated; otherwise the file type determines them."""
    x_range: tuple[float, float] | None = None
    """Values of black and white in x, if another range was stated."""
    axes: str | None = None
    """Axes of arrays and of files that do not specify them, where stated."""
    clip: Literal["x", "all"] | None = None
    """The roles whose values outside the range were clipped."""
    nan: Literal["outside"] | None = None
    """"outside" if NaN marked pixels outside the region of an image."""
    group_from: str | None = None
    """Where the groups of the images were found, if in their names or files."""
    cues: str | None = None
    """The folder, or column of a manifest, of the maps of each image, where the score needs them."""
    noise_model: NoiseModel | None = None
    """The noise of one repeat, where it was stated."""
    objects: str | None = None
    """The folder of the labels of objects, or components:T, where the promise is about objects."""
    units: str | None = None
    """The unit of the values of y_hat and y, where stated."""

    @property
    def reading(self) -> Reading:
        """The Reading with which the images were read."""
        return Reading(**{field.name: getattr(self, field.name) for field in fields(ReadAs)})
