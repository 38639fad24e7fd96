"""How images were read: ranges and axes, what y is and its noise, and the network that made y_hat."""

import math
import re
from dataclasses import asdict, dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal

from conformask.errors import InvalidArgumentError, MismatchError, warn

if TYPE_CHECKING:
    from conformask.records.record import Array


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
    promised: Network | None, shown: Network | None, what: str, *, allow_network_mismatch: bool
) -> Caveat | None:
    """Check that y_hat was made by the network that a promise, or a scorer, is about.

    `what` names the subject in messages, such as "the promise". A network is None where it is unknown;
    another one is refused, or with `allow_network_mismatch` warned of.
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
    if caveat.other and not allow_network_mismatch:
        raise MismatchError(
            f"{caveat.text}: calibrate on outputs of that network, or continue without a promise with "
            "--allow-network-mismatch (allow_network_mismatch=True)"
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

    def variance(self, mean: "Array") -> "Array":
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

    data_range: tuple[float, float] | None = None
    """Values of black and white, if the file type does not define them; x of 8 bits keeps 0 to 255."""
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
        """Return the values that become 0 and 1, given the range that a file itself defines, and its bits."""
        keeps_own = self.keeps_own_range and bits == EIGHT_BITS and of_file is not None
        return of_file if keeps_own else self.data_range or of_file

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
