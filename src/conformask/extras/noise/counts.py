"""Images of counts, split at random into images that do not depend on each other: an x, and repeats of it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np

from conformask.background import tracked
from conformask.errors import ImageError, InvalidArgumentError, MismatchError, warn
from conformask.extras.noise.checks import in_blocks
from conformask.extras.noise.repeats import REPEATS
from conformask.images.formats import SourceImage, at_time, channels_first, channels_last
from conformask.images.read import (
    OF_VOLUMES,
    by_stem,
    decode_with_header,
    format_of,
    image_hash,
    name_and_suffix,
    times_of,
)
from conformask.records.numbers import share as percentage
from conformask.records.reading import PLAIN, Reading
from conformask.records.record import (
    Array,
    Json,
    atomic_write,
    claim,
    exclusive_folder,
    hash_of,
    read_json,
    refuse_unclaimed_in,
    remove_claimed,
    to_jsonable,
    write_json,
)

RECORD = "counts.json"
WHOLE = 0.25
"""Distance from a whole number up to which a value is one: files may have rounded gain * counts."""
MOST_ODD = 0.01
"""Largest share of values that may be other than whole, or negative, unless rounding is asked for."""
MOST_DARK = 0.5
"""Largest share of negative values with rounding: read noise alone makes half of the dark ones negative."""
BLOCK = 16
"""Side, in pixels, of the blocks in which noise is measured."""
LEAST_NOISE, MOST_NOISE = 0.5, 2.0
"""Noise, relative to that of counts: with less an image holds no counts, with more the gain is in doubt."""


def split_counts(counts: Array, shares: Sequence[float] = (0.5, 0.5), seed: int | Sequence[int] = 0) -> Array:
    """Split an image of counts: each count goes to one of the parts at random.

    If the counts are Poisson, the parts are Poisson and independent of each other, and part k has shares[k]
    of the mean at every pixel (multinomial thinning; Neufeld et al., Data thinning, arXiv:2301.07276). With
    other noise, such as a camera's read noise or a wrong gain, they are correlated.

    Args:
        counts: whole numbers >= 0 of any shape, in photons or events, not in grey levels.
        shares: the expected share of the counts in each part, above 0, with sum 1.
        seed: the seed; the same one gives the same parts.

    Returns:
        int64, (K, *counts.shape) for K shares. The sum of the parts is `counts`; part / share has its mean.

    Raises:
        ImageError: values that are not whole numbers >= 0.
        InvalidArgumentError: shares that are not those of two or more parts.

    Examples:
        >>> import numpy as np
        >>> import conformask as cm
        >>> counts = np.random.default_rng(0).poisson(20.0, (64, 64))
        >>> x, repeat = cm.split_counts(counts, (0.75, 0.25))
        >>> bool((x + repeat == counts).all()), round(float(repeat.mean()), 1)
        (True, 5.0)
    """
    counts = np.asarray(counts)
    if counts.dtype.kind not in "bui" and not (np.isfinite(counts) & (counts == np.rint(counts))).all():
        raise ImageError("counts contains values that are not whole numbers: divide by the gain, and round")
    if (counts < 0).any():
        raise ImageError("counts contains negative values: subtract the offset, and set the rest to 0")
    if len(shares) < 2 or not (min(shares) > 0 and math.isclose(sum(shares), 1)):
        raise InvalidArgumentError(
            f"shares is {tuple(shares)}; give one above 0 for each of two or more parts, with sum 1"
        )
    parts = np.random.default_rng(seed).multinomial(counts.astype(np.int64), shares)
    return np.moveaxis(parts, -1, 0)


@dataclass(frozen=True)
class Thinning:
    """How an image stores counts, value = offset + gain * counts, and how they are split."""

    gain: float = 1.0
    offset: float = 0.0
    shares: tuple[float, ...] = (0.5, 0.5)
    seed: int = 0
    rounded: bool = False
    """True if values between whole counts are rounded, and negative ones set to 0, however many there are."""

    def __post_init__(self) -> None:
        if not (0 < self.gain < math.inf and math.isfinite(self.offset)):
            raise InvalidArgumentError(
                f"gain is {self.gain}, offset {self.offset}: the gain is the value of one count, above 0, "
                "and the offset the value without light"
            )
        if self.seed < 0:
            raise InvalidArgumentError(f"seed is {self.seed}; give 0 or more")

    def counts(self, values: Array, name: str) -> tuple[Array, float, float]:
        """Return the counts, int64, and the shares of the values that were not whole, or negative."""
        exact = (values.astype(np.float64) - self.offset) / self.gain
        if not np.isfinite(exact).all():
            raise ImageError(f"{name} contains NaN or infinite values; replace them before use")
        whole = np.rint(exact)
        odd, negative = float((np.abs(exact - whole) > WHOLE).mean()), float((whole < 0).mean())
        if self.gain == 1 and 0 <= values.min() <= values.max() <= 1 and (values != np.rint(values)).any():
            raise ImageError(
                f"{name} holds values from 0 to 1, not counts: split images as the detector wrote them, "
                "before they are scaled"
            )
        if odd > MOST_ODD and not self.rounded:
            raise ImageError(
                f"{name}: {percentage(odd)} of its values are not whole counts at gain {self.gain:g} and "
                f"offset {self.offset:g}. Estimate the gain, the variance of repeats divided by their mean; "
                "if this is it, --round rounds the values, and the parts are only nearly independent"
            )
        if negative > (MOST_DARK if self.rounded else MOST_ODD):
            raise ImageError(
                f"{name}: {percentage(negative)} of its values lie below the offset {self.offset:g}; give "
                "the value of pixels without light"
            )
        return np.maximum(whole, 0).astype(np.int64), odd, negative


def relative_noise(counts: Array) -> float:
    """Return the variance of counts (..., H, W) between neighbours divided by their mean: 1 for Poisson.

    It is the median over blocks, from the differences of differences along both sides, so that slopes and
    straight edges do not count. Texture raises it; averaging, smoothing and saturation lower it. It is NaN
    for an image without counts, or one pixel wide.
    """
    planes = counts.reshape(-1, *counts.shape[-2:])
    if min(planes.shape[1:]) < 2:
        return math.nan
    variances = np.diff(np.diff(planes, axis=-1), axis=-2).astype(np.float64) ** 2 / 4
    means, noises = (in_blocks(each, BLOCK).mean(axis=1) for each in (planes[:, :-1, :-1], variances))
    lit = means > 0
    return float(np.median(noises[lit] / means[lit])) if lit.any() else math.nan


@dataclass(frozen=True)
class CountSplit:
    """What was split, and how much the images look like counts."""

    n: int
    """Number of images; a time point is one."""
    odd: float
    """Largest share of an image's values that were between whole counts, and rounded."""
    negative: float
    """Largest share of an image's values that were negative, and set to 0."""
    noise: float
    """Median of `relative_noise`, 1 for Poisson counts; NaN where none could be measured."""
    data_range: tuple[float, float]
    """The value of no counts, and the largest value of the parts."""


def split_folder(images: Path, out: Path, thinning: Thinning, reading: Reading = PLAIN) -> CountSplit:
    """Split every image of a folder: out/x/NAME is the first part, out/repeats/NAME_1, NAME_2 the others.

    Parts are float32 images offset + gain * counts / share, so that their mean is that of the image: npy and
    NIfTI as the image is, else OME-TIFF, with its physical sizes. Time points are images, NAME_t003. Each
    image has its own draws, by the seed, its name and its content. A run that was killed resumes; counts.json
    says how parts were made.
    """
    files: dict[str, Path] = {}
    for path in by_stem(images).values():
        times = times_of(path, reading)
        points = [path] if times is None else [path.with_name(f"{path.name}#t={t}") for t in range(times)]
        files |= {name_and_suffix(point)[0]: point for point in points}
    parts = {name: _parts(name, path, reading, len(thinning.shares)) for name, path in files.items()}
    hashes = {name: image_hash(path) for name, path in files.items()}
    made = {**asdict(thinning), "axes": reading.axes, "images": hashes}

    def split(name: str) -> CountSplit:
        seed = thinning.seed, int(hash_of([name, hashes[name]])[:16], 16)
        return _split(files[name], [out / part for part in parts[name]], thinning, seed, reading)

    with exclusive_folder(out):
        _begin(out, made, [path for paths in parts.values() for path in paths])
        splits = list(tracked(map(split, files), "images", len(files)))
        noises = [split.noise for split in splits if math.isfinite(split.noise)]
        result = CountSplit(
            n=len(splits),
            odd=max(split.odd for split in splits),
            negative=max(split.negative for split in splits),
            noise=median(noises) if noises else math.nan,
            data_range=max(split.data_range for split in splits),
        )
        write_json(out / RECORD, {**read_json(out / RECORD), **asdict(result), "finished": True})
    if result.noise > MOST_NOISE:
        warn(
            f"the noise between neighbouring pixels is {result.noise:.3g} times that of counts: unless the "
            f"images are full of texture, the gain is about {thinning.gain * result.noise:.2g}, and the "
            "parts depend on each other"
        )
    return result


def _split(
    path: Path, parts: Sequence[Path], thinning: Thinning, seed: Sequence[int], reading: Reading
) -> CountSplit:
    """Split an image and write what is missing of its parts."""
    values, header = decode_with_header(path, reading)
    counts, odd, negative = thinning.counts(values, str(path))
    counts = channels_first(counts, len(header.space))
    noise = relative_noise(counts)
    if noise < LEAST_NOISE:
        raise ImageError(
            f"{path} has {noise:.2g} times the noise of Poisson counts: its values are not counts at this "
            "gain, or it was averaged, denoised or compressed; split images as the detector wrote them"
        )
    drawn = split_counts(counts, thinning.shares, seed)
    images = [
        (thinning.offset + thinning.gain / share * part).astype(np.float32)
        for share, part in zip(thinning.shares, drawn, strict=True)
    ]
    under = SourceImage(path, header.geometry, reading)
    for part, image in reversed(list(zip(parts, images, strict=True))):  # what is in x/ has its repeats
        if not part.exists():
            _write(part, image, under)
    largest = max(float(image.max()) for image in images)
    return CountSplit(1, odd, negative, noise, (thinning.offset, largest))


def _parts(name: str, path: Path, reading: Reading, count: int) -> list[str]:
    """Return the paths of the parts of an image, relative to their folder."""
    suffix, kind = name_and_suffix(path)[1], format_of(at_time(path)[0])
    if kind is None or not (kind.write_over or (kind.holds_floats and reading.axes is None)):
        suffix = OF_VOLUMES
    return [f"x/{name}{suffix}", *(f"{REPEATS.plural}/{name}_{part}{suffix}" for part in range(1, count))]


def _begin(out: Path, made: Mapping[str, Json], parts: Sequence[str]) -> None:
    """Claim the parts before the first is written.

    What an unfinished run with the same terms wrote is kept, and what one with others wrote is removed.
    """
    path = out / RECORD
    record = read_json(path) if path.exists() else {}
    if record and any(record.get(key) != value for key, value in to_jsonable(made).items()):
        if record.get("finished"):
            raise MismatchError(
                f"{out} contains parts of other images, or made in another way: choose another folder, or "
                "delete it"
            )
        remove_claimed(path)
    for folder in ("x", REPEATS.plural):
        refuse_unclaimed_in(out / folder)
    claim(path, {**made, "finished": False}, parts)


def _write(path: Path, image: Array, under: SourceImage) -> None:
    """Write a part (C, *space), float32, in the place of the image that was split."""
    kind = format_of(path)
    assert kind is not None
    with atomic_write(path) as aside:
        if kind.write_over is not None:
            kind.write_over(aside, image, under)
        elif kind.write is not None:
            kind.write(aside, channels_last(image))
