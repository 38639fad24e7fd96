"""How images were read: ranges and axes, what y is and its noise, and the network that made y_hat.

First, where their pixels are: spacing and orientation; sizes of images, and which of them count as alike.
"""

import math
import re
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import PurePath
from typing import Any, Final, Literal

import numpy as np

from conformask.errors import InvalidArgumentError, MismatchError, warn
from conformask.records.numbers import Values
from conformask.records.record import Array

CLOSE = 1e-3
"""Position tolerance in pixels, for images that should be in the same place."""
ENDS = ("LR", "PA", "IS")
"""Letters for the right, anterior and superior axes: the negative and the positive direction."""
OTHER = 1.1
"""Ratio from which two spacings count as different."""
UNITS = {"mm": 1e-3, "\u00b5m": 1e-6, "nm": 1e-9, "m": 1.0}
"""Units of length in metres."""


LENGTH = re.compile(r"(\d+(?:\.\d+)?)\s*(nm|um|\u00b5m|\u03bcm|mm|m)")
"""Pattern of a length such as 5mm or 2.5 um."""
EXTENT = re.compile(rf"{LENGTH.pattern}\s*(?:\^?([23])|([\u00b2\u00b3]))")
"""Pattern of an area or a volume, such as 25mm2 or 8 um^3."""


@dataclass(frozen=True)
class PhysicalWindow:
    """A window that was given as a length."""

    sides: int | tuple[int, ...] | None
    """Sides in pixels, of all axes or along each; None before the spacing of the images is known."""
    length: str
    """Its true length along all axes, such as 5 mm, or along each, such as 7.5 x 5 x 5 mm."""


@dataclass(frozen=True)
class Geometry:
    """Spacing along each spatial axis of an image, (D, H, W) or (H, W), and its position where known."""

    spacing: tuple[float, ...]
    """The step from pixel to pixel along each axis, above 0."""
    unit: str
    """Unit of the spacing: mm, \u00b5m, nm or m."""
    affine: tuple[tuple[float, ...], ...] | None = None
    """A 4 x 4 matrix from pixel indices (x, y, z) to right, anterior, superior in mm; None where unknown."""

    @property
    def text(self) -> str:
        """The spacing in words, for example "2 x 0.5 x 0.5 mm"."""
        return f"{' x '.join(f'{step:.4g}' for step in self.spacing)} {self.unit}"

    @property
    def orientation(self) -> str | None:
        """Directions of x, y and z, such as RAS: right, anterior, superior; None where unknown.

        Each axis is named by the patient direction nearest to it, as in nibabel.
        """
        if self.affine is None:
            return None
        steps = np.array(self.affine)[:3, :3]
        lengths = np.linalg.norm(steps, axis=0)
        left, _, right = np.linalg.svd(steps / np.where(lengths > 0, lengths, 1))
        directions, ends = left @ right, [""] * 3
        for axis in np.argsort(-abs(directions).max(axis=0), kind="stable"):
            row = int(abs(directions[:, axis]).argmax())
            ends[axis] = ENDS[row][int(directions[row, axis] > 0)]
            directions[row] = 0
        return "".join(ends)

    @property
    def without_place(self) -> "Geometry":
        """A copy with the same spacing and directions, and the first pixel at the origin."""
        if self.affine is None:
            return self
        matrix = np.array(self.affine)
        matrix[:3, 3] = 0
        return replace(self, affine=affine_of(matrix))

    def differs(self, other: "Geometry") -> str | None:
        """Return how another image of the same shape differs in position; None where it does not."""
        scale = UNITS[other.unit] / UNITS[self.unit]
        steps, others = np.array(self.spacing), scale * np.array(other.spacing)
        if steps.shape != others.shape or (abs(steps - others) > CLOSE * steps).any():
            return f"different spacings, {self.text} and {other.text}"
        if self.affine is None or other.affine is None:
            return None
        offset = abs(np.array(self.affine) - np.array(other.affine)).max()
        closest = CLOSE * steps.min() * UNITS[self.unit] / UNITS["mm"]
        if offset <= closest:
            return None
        turned = self.orientation != other.orientation
        axes = f", axes towards {self.orientation} and {other.orientation}" if turned else ""
        return f"affines that differ by {offset:.4g} mm{axes}"

    def window(self, length: str) -> PhysicalWindow:
        """Convert a length such as 5mm or 20 um to the next odd number of pixels along each axis, at least 1.

        A window of odd sides has a pixel in its middle.
        """
        number, unit = parsed(length)
        steps = [step * UNITS[self.unit] / UNITS[unit] for step in self.spacing]
        sides = tuple(1 + 2 * math.ceil((number / step - 1 - CLOSE) / 2) for step in steps)
        lengths = [
            np.format_float_positional(side * step, precision=4, fractional=False, trim="-")
            for side, step in zip(sides, steps, strict=True)
        ]
        text = lengths[0] if len(set(lengths)) == 1 else " x ".join(lengths)
        return PhysicalWindow(sides, f"{text} {unit}")

    def spans(self, sides: tuple[int, ...], length: str) -> bool:
        """Return whether these sides in pixels are the length of a `PhysicalWindow`, to half a pixel."""
        numbers, _, unit = length.rpartition(" ")
        lengths = [parsed(f"{number} {unit}") for number in numbers.split(" x ")]
        if len(sides) != len(self.spacing) or len(lengths) not in (1, len(sides)):
            return False
        steps = UNITS[self.unit] * np.array(self.spacing)
        exact = np.array([number * UNITS[of_number] for number, of_number in lengths]) / steps
        return bool((abs(sides - exact.clip(min=1)) <= 0.5 + CLOSE * exact).all())

    def pixels(self, extent: str) -> int:
        """Convert an area such as 25mm2 of planes, or a volume such as 8mm3, to whole pixels, at least 1."""
        match, axes = EXTENT.fullmatch(extent.strip()), len(self.spacing)
        power = match and (match[3] or {"\u00b2": "2", "\u00b3": "3"}[match[4]])
        if match is None or power != str(axes):
            raise InvalidArgumentError(
                f"patches {extent!r}: for images with {axes} axes, give a number of pixels, such as 50, or "
                f"{'an area' if axes == 2 else 'a volume'}, such as 25mm{axes}"
            )
        number, unit = parsed(match[1] + match[2])
        pixel = math.prod(step * UNITS[self.unit] / UNITS[unit] for step in self.spacing)
        return max(1, math.ceil(number / pixel - CLOSE))

    def is_finer_or_coarser(self, other: "Geometry") -> bool:
        """Return whether the other spacing differs by more than a tenth along some axis."""
        if len(self.spacing) != len(other.spacing):
            return False
        scale = UNITS[self.unit] / UNITS[other.unit]
        ratios = (scale * mine / theirs for mine, theirs in zip(self.spacing, other.spacing, strict=True))
        return any(not 1 / OTHER <= ratio <= OTHER for ratio in ratios)


@dataclass(frozen=True)
class Ground:
    """Where an image lies in a coordinate system, such as that of a map."""

    system: int | None
    """The EPSG code of the system; None where it has none."""
    corners: tuple[tuple[float, float], ...]
    """The outer corners of the first pixel, of the last of its row, and of the last of its column."""

    def differs(self, other: "Ground", space: tuple[int, ...]) -> str | None:
        """Return how another image lies elsewhere than this one of H x W pixels; None where it does not."""
        if None not in (self.system, other.system) and self.system != other.system:
            return f"the coordinate systems EPSG:{other.system} and EPSG:{self.system}"
        first, right, down = mine = np.array(self.corners)
        pixel = min(np.linalg.norm(right - first) / space[1], np.linalg.norm(down - first) / space[0])
        offset = float(abs(mine - np.array(other.corners)).max() / pixel)
        return None if offset <= CLOSE else f"corners that lie up to {offset:.4g} pixels of y_hat apart"


def parsed(length: str) -> tuple[float, str]:
    """Parse a length: 5mm gives (5.0, "mm")."""
    match = LENGTH.fullmatch(length.strip())
    if match is None or float(match[1]) <= 0:
        raise InvalidArgumentError(
            f"window {length!r}: give a number of pixels, such as 9, or a length, such as 5mm or 20um"
        )
    return float(match[1]), "\u00b5m" if match[2] in ("um", "\u03bcm") else match[2]


def affine_of(matrix: Array) -> tuple[tuple[float, ...], ...]:
    """Return a 4 x 4 matrix as the tuples that a Geometry keeps."""
    return tuple(tuple(map(float, row)) for row in np.asarray(matrix))


Size = tuple[int, ...]
"""The spatial sides of an image in pixels, (H, W) or (D, H, W)."""
FACTOR = 2
"""Factor by which sides may be longer or shorter than the known ones, if there are many sizes."""
RGB = 3
MOST_CHANNELS = 16
"""Most channels of an array without stated axes; more suggest that its last axis is a side."""
MANY = 4
"""Number of sizes from which on images count as having many."""


def among(size: Size, sizes: Collection[Size], *, many: bool = False, factor: int = FACTOR) -> bool:
    """Return whether a size is a known one or, if there are many, within a factor of their range."""
    if size in sizes or not (many or len(sizes) >= MANY):
        return size in sizes
    smallest, largest = ends(sizes)
    sides = zip(size, smallest, largest, strict=False)
    return len(size) == len(smallest) and all(low / factor <= s <= high * factor for s, low, high in sides)


def ends(sizes: Collection[Size]) -> tuple[Size, Size]:
    """Return the shortest and the longest of each side."""
    shortest, longest = (tuple(map(end, zip(*sizes, strict=True))) for end in (min, max))
    return shortest, longest


def covered(sizes: Collection[Size], *, many: bool = False) -> str:
    """Describe the sizes that `among` accepts."""
    if not (many or len(sizes) >= MANY):
        return f"images of {', '.join(map(size_text, sizes))} pixels"
    smallest, largest = map(size_text, ends(sizes))
    between = smallest if smallest == largest else f"{smallest} to {largest}"
    return f"images of {between} pixels, with sides up to {FACTOR} times as long or short"


def size_text(size: Size) -> str:
    """Return a size as text, such as 256 x 256."""
    return " x ".join(map(str, size))


def extra_channels(x_channels: int, channels: int) -> int:
    """Return how many of x's last channels are not part of the image that y_hat is compared with.

    They are all channels beyond those of y_hat, such as a map of holes, except for a colour image with grey
    y_hat.
    """
    is_colour_to_grey = (x_channels, channels) == (RGB, 1)
    return 0 if is_colour_to_grey else max(0, x_channels - channels)


def extra_text(x_channels: int, channels: int) -> str | None:
    """Return a note on channels of x that are not part of the image; None where there are none."""
    if extra_channels(x_channels, channels) == 0:
        return None
    return (
        f"x has {x_channels} channels, but y_hat has {channels}: the first channels of x are compared with "
        "y_hat, and the packaged score uses the others (holes, noise, an uncertainty) only after it is "
        "trained (conformask train)"
    )


@dataclass(frozen=True)
class Network:
    """The network whose outputs are masked."""

    name: str
    fingerprint: str | None = None
    """A hash of the network's file, weights or code; None where only its name is known."""

    def is_other(self, network: "Network") -> bool:
        """Return whether the other network differs: by fingerprint where both are known, else by name."""
        if self.fingerprint is not None and network.fingerprint is not None:
            return self.fingerprint != network.fingerprint
        return self.name != network.name


@dataclass(frozen=True)
class Caveat:
    """A caveat to show beside masks of outputs that a promise may not be about."""

    text: str
    other: bool
    """True if another network made the outputs; otherwise it is unknown."""


def check_network(
    promised: Network | None, shown: Network | None, what: str, *, any_network: bool
) -> Caveat | None:
    """Check that y_hat was made by the network that a promise, or a scorer, is about.

    `what` names the subject in messages, such as "the promise". A network is None where it is unknown;
    another one is refused, or with `any_network` warned of.
    """
    if promised is None:
        if shown is None:
            return None
        by = f"and these outputs were made by {shown.name}"
        caveat = Caveat(f"{what} does not record which network it is about, {by}", other=False)
    elif shown is None:
        unknown = "but it is not recorded which network made these: name it with --network (network=)"
        caveat = Caveat(f"{what} is about outputs of {promised.name}, {unknown}", other=False)
    elif promised.is_other(shown):
        by = "another network with that name" if shown.name == promised.name else shown.name
        caveat = Caveat(
            f"{what} is about outputs of {promised.name}, but these were made by {by}", other=True
        )
    else:
        return None
    if caveat.other and not any_network:
        raise MismatchError(
            f"{caveat.text}: calibrate on outputs of that network, or continue without a promise with "
            "--allow-network-mismatch (images.of_any_network())"
        )
    warn(caveat.text)
    return caveat


@dataclass(frozen=True)
class NoiseModel:
    """Poisson and Gaussian noise: the variance of a pixel is a linear function of its mean.

    All three are in units of the image's range, [0, 1]. A camera with a range of R digital numbers, k of
    them per electron, an offset of o digital numbers and a read noise of s electrons has k / R, o / R and
    k s / R.

    Raises:
        InvalidArgumentError: a value is not finite, or gain or read noise is negative.

    Examples:
        >>> import conformask as cm
        >>> cm.NoiseModel(0.01, 0.1, 0.02).option
        '0.01,0.1,0.02'
    """

    gain: float
    offset: float
    read: float

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.gain, self.offset, self.read))) or min(self.gain, self.read) < 0:
            raise InvalidArgumentError(
                f"{self}: gain and read noise must be at least 0, and all three finite"
            )

    def variance(self, mean: Array) -> Array:
        """Return gain * (mean - offset) + read^2, the variance of pixels with these means.

        As it is linear, its value at a noisy pixel is on average the variance of that pixel; it is not cut
        off at 0, which would make it too large on average.
        """
        return self.gain * (mean - self.offset) + self.read**2

    @property
    def option(self) -> str:
        """The model as the command line takes it: GAIN,OFFSET,READ."""
        return f"{self.gain:.4g},{self.offset:.4g},{self.read:.4g}"

    @property
    def text(self) -> str:
        """The model in words."""
        return f"gain {self.gain:.4g}, offset {self.offset:.4g}, read noise {self.read:.4g}"


@dataclass(frozen=True)
class Reference:
    """What y is: the clean truth, or an image with noise in its place.

    Args:
        repeats: 0 if y is the truth, 1 if it is one acquisition b with noise of mean 0 that is independent
            of the input's, 2 if it is the mean of two, b and c, whose noise is independent of each other's.
        model: the noise of one repeat; None if it is not known.

    Raises:
        InvalidArgumentError: a model without one repeat; the noise of two is measured by their difference.

    Examples:
        >>> import conformask as cm
        >>> cm.Reference(1, cm.NoiseModel(0.01, 0, 0.02)).text
        'one noisy repeat and a noise model of gain 0.01, offset 0, read noise 0.02'
    """

    repeats: Literal[0, 1, 2] = 0
    model: NoiseModel | None = None

    def __post_init__(self) -> None:
        if self.model is not None and self.repeats != 1:
            raise InvalidArgumentError(
                f"a noise model is for one repeat, not for {self.repeats}: leave it out, or give one repeat"
            )

    @property
    def is_noisy(self) -> bool:
        """True if y has noise."""
        return self.repeats > 0

    @property
    def noun(self) -> str:
        """The word for y on screens: truth, or reference if it has noise."""
        return "reference" if self.is_noisy else "truth"

    @property
    def error(self) -> str:
        """The error of a pixel as a formula, with a note if it is one to a noisy y."""
        return f"|y − ŷ|{' to the noisy reference' * self.is_noisy}"

    @property
    def text(self) -> str:
        """What y is, in words."""
        model = "" if self.model is None else f" and a noise model of {self.model.text}"
        return ("the clean truth", f"one noisy repeat{model}", "two noisy repeats")[self.repeats]

    @property
    def formula(self) -> str | None:
        """y and the estimate v of the variance of its noise as formulas; None if v is not known."""
        if self.repeats == 2:
            return "y = (b + c) / 2 and v = ((b − c) / 2)^2, b and c the two repeats"
        if self.model is None:
            return None
        gain, offset, read = vars(self.model).values()
        above = f"(b {'−' if offset > 0 else '+'} {abs(offset):.4g})" if offset else "b"
        return f"y = b and v = {gain:.4g} {above} + {read:.4g}^2, b the repeat"

    def refuse_unknown_noise(self) -> None:
        """Refuse one repeat without a noise model where noise has to be subtracted.

        Raises:
            InvalidArgumentError: says what to give.
        """
        if self.repeats == 1 and self.model is None:
            raise InvalidArgumentError(
                "the noise of one repeat cannot be subtracted, as it is not known: give a second repeat, or "
                "a noise model (--noise-model GAIN,OFFSET,READ, Reading(noise_model=)), or promise a mean of "
                "l1 or l2, guarantee expected or rcps"
            )


CLEAN = Reference()


AXES = "TCZYX"
"""Letters of axes: time, channel, and the spatial axes."""
EIGHT_BITS = 8
"""Bits of photographs, whose range is known: a range stated for y_hat and y is not theirs."""
IMAGES = ("x", "y_hat", "y")
"""Roles of images, whose values are in the range."""
COMPONENTS = "components:"
"""Beginning of `objects` where objects are the parts of an image above a threshold."""


OWN: Final = "image"
"""The `data_range` with which each image has its own range."""
PERCENTILES = (0.1, 99.9)
"""The percentiles of an image that become 0 and 1 in its own range."""


@dataclass(frozen=True)
class Reading:
    """Instructions for reading images, in addition to their files; the same for calibration and new images.

    On the command line, they are the options of images.

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

    data_range: tuple[float, float] | Literal["image"] | None = None
    """Values of black and white, if the file type does not define them; x of 8 bits keeps 0 to 255. Or image:
    each image has its own range, from the 0.1 to the 99.9 percentile of x (of y_hat where x has an x_range),
    to which its x, y_hat and y are clipped, for images of very different brightness."""
    x_range: tuple[float, float] | None = None
    """Values of black and white in x, if they differ from those of y_hat and y."""
    axes: str | None = None
    """Axes of npy files, and of files that do not name them: letters of TCZYX, such as ZYX for a stack."""
    clip: Literal["x", "all"] | None = None
    """Clip values outside the range, in x or in all images; otherwise they are refused."""
    nan: Literal["outside"] | None = None
    """Treat NaN pixels as outside the region that the promise is about; otherwise they are refused."""
    no_truth: float | None = None
    """Treat pixels where y is NaN, or at most this value, as outside that region: 0 for sparse depth."""
    empty_chunks: bool = False
    """Read chunks missing from a zarr as empty."""
    group_from: str | None = None
    """How to find the group of an image: a regular expression for names with one part in brackets, such as
    'sub-([^_]+)', or patient, for the PatientID of DICOM files."""
    cues: str | None = None
    """The folder beside y_hat/, or the column of a manifest, with the maps of each image; None without."""
    noise_model: NoiseModel | None = None
    """Noise of y where DATA has one repeat of each image, repeats/NAME_1: GAIN,OFFSET,READ, in shares of the
    range, as conformask check prints them for two repeats."""
    objects: str | None = None
    """The folder beside y_hat/ with labels of the objects of each image, in its folders y_hat/ and y/; or
    components:T, for the parts of y_hat and y above T in [0, 1]; None without objects."""
    units: str | None = None
    """Unit of the values of y_hat and y, such as m or HU, for sentences, thresholds and tolerances."""
    inverted: bool = False
    """True if the smallest value is the brightest; only a file itself specifies it."""
    role: str | None = None
    """The role of the images, if these are the instructions for one: `of` states it."""

    def __post_init__(self) -> None:
        axes, threshold = self.axes, self.components_above
        if self.has_own_range and (self.units is not None or self.clip is not None):
            raise InvalidArgumentError(
                "data_range 'image' counts errors as shares of each image's own range, which has no unit, "
                "and clips all values to it: leave out units (--units) and clip (--clip)"
            )
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
    def has_own_range(self) -> bool:
        """True if each image has its own range, which is known once it is decoded; see `settled`."""
        return self.data_range == OWN

    @property
    def source_of_range(self) -> Literal["x", "y_hat"] | None:
        """The image whose percentiles are the range of a triplet; None where all have one range."""
        if not self.has_own_range:
            return None
        return "x" if self.x_range is None else "y_hat"

    @property
    def stated_range(self) -> tuple[float, float] | None:
        """The values of black and white of all images, where they are given."""
        return None if isinstance(self.data_range, str) else self.data_range

    def settled(self, own: tuple[float, float]) -> "Reading":
        """Return the instructions for one image whose own range this is."""
        return replace(self, data_range=own, x_range=self.x_range or own, clip="all")

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders beside y_hat/ that it names: of maps, and of labels where these are not components."""
        return tuple(each for each in (self.cues, self.objects) if each and not each.startswith(COMPONENTS))

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
        x_range = self.x_range if role == "x" else None
        return replace(self, data_range=data_range, x_range=x_range, clip=clip, role=role)

    def over(self, other: "Reading") -> "Reading":
        """Return these settings, and where they are not made those of the other."""
        return replace(other, **{name: value for name, value in vars(self).items() if is_set(value)})

    @property
    def leaves_out(self) -> bool:
        """True if pixels of images are outside the region by their values."""
        return self.nan is not None or self.no_truth is not None

    @property
    def highest_without_truth(self) -> float | None:
        """The value up to which pixels of y have no truth; None for other images, and where all have."""
        return self.no_truth if self.role == "y" else None

    @property
    def as_stored(self) -> bool:
        """True for layers such as maps and labels, whose values are kept even in a TIFF whose 0 is white."""
        return self.role not in (None, *IMAGES)

    @property
    def keeps_own_range(self) -> bool:
        """True for x without an `x_range`: with 8 bits it has its own range."""
        return self.role == "x" and self.x_range is None

    def ends(self, of_file: tuple[float, float] | None, bits: int) -> tuple[float, float] | None:
        """Return the values that become 0 and 1, given the range that a file itself defines, and its bits.

        None where they are not known, or those of the image itself.
        """
        if self.has_own_range:
            return None
        keeps_own = self.keeps_own_range and bits == EIGHT_BITS and of_file is not None
        return of_file if keeps_own else self.stated_range or of_file

    @property
    def facts(self) -> list[object]:
        """Settings that determine pixel values: the range, and the others only if any are set."""
        ours = ("data_range", "group_from", "cues", "units")
        others = {name: value for name, value in asdict(self).items() if name not in ours and is_set(value)}
        return [self.data_range, *([others] if others else [])]

    @property
    def kept(self) -> dict[str, Any]:
        """The settings that new images need too: records keep them among their own fields."""
        left_out = ("empty_chunks", "inverted", "role")
        return {name: value for name, value in vars(self).items() if name not in left_out}


def is_set(value: object) -> bool:
    """Return whether a setting is made; a number may be 0."""
    return value is not None and value is not False


PLAIN = Reading()


def values_of(reading: Reading, used: tuple[float, float] | None) -> Values | None:
    """Return the values that become 0 and 1, of which `used` are those of all images; None if not known."""
    if reading.has_own_range:
        return Values(0, 1, None, is_stated=False, of_each=True)
    return None if used is None else Values(*used, reading.units, reading.data_range is not None)
