"""How files and arrays are read where they do not say it themselves."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from conformask.errors import InvalidArgumentError

AXES = "TCZYX"
"""Times, channels, and the spatial axes."""


@dataclass(frozen=True)
class Reading:
    """What is given beside the files of images; the same for calibration and new images.

    Raises:
        InvalidArgumentError: axes that are none.
    """

    data_range: tuple[float, float] | None = None
    """The values that become 0 and 1."""
    x_range: tuple[float, float] | None = None
    """The same for x, if it has another range, such as raw counts."""
    axes: str | None = None
    """Of arrays, npy, and files that do not say it: letters of TCZYX in their order, such as ZYX."""
    clip: Literal["x", "all"] | None = None
    """Whose values outside the range are clipped to it; others are refused."""
    nan: Literal["outside"] | None = None
    """outside: NaN is outside the region of an image."""
    empty_chunks: bool = False
    """Whether a zarr may leave out chunks, which are read as its fill value."""
    turned: bool = False
    """Whether the smallest value is the brightest; a file says it itself, and no one else is asked."""

    def __post_init__(self) -> None:
        axes = self.axes
        if axes is None:
            return
        if not set(axes) <= set(AXES) or len(set(axes)) < len(axes) or not {"Y", "X"} <= set(axes):
            raise InvalidArgumentError(
                f"axes {axes!r}: letters of {AXES}, each once, Y and X among them, such as ZYX or CZYX"
            )

    def of(self, role: str) -> "Reading":
        """How images of x, y_hat or y are read: by their own range, with clip `all` or None."""
        data_range = self.x_range if role == "x" and self.x_range is not None else self.data_range
        clip: Literal["all"] | None = "all" if self.clip in ("all", role) else None
        return replace(self, data_range=data_range, x_range=None, clip=clip)

    @property
    def facts(self) -> list[object]:
        """What decides the pixels; as conformask 0.1 had it, where the range is all."""
        others = {name: value for name, value in asdict(self).items() if name != "data_range" and value}
        return [self.data_range, *([others] if others else [])]

    @property
    def kept(self) -> dict[str, Any]:
        """The fields of ReadAs."""
        return {name: getattr(self, name) for name in ("data_range", "x_range", "axes", "clip", "nan")}


PLAIN = Reading()


@dataclass(frozen=True, kw_only=True)
class ReadAs:
    """What a record keeps of a Reading: what decides the pixels."""

    data_range: tuple[float, float] | None
    """Values of black and white, where it was stated; the file type says them otherwise."""
    x_range: tuple[float, float] | None = None
    """The same for x, if another range was stated."""
    axes: str | None = None
    """Of arrays and of files that do not say it, where it was stated."""
    clip: Literal["x", "all"] | None = None
    """Whose values outside the range were clipped."""
    nan: Literal["outside"] | None = None
    """outside: NaN was outside the region of an image."""

    @property
    def reading(self) -> Reading:
        """How the images were read."""
        return Reading(self.data_range, self.x_range, self.axes, self.clip, self.nan)
