"""Repeats: acquisitions with noise in the place of the truth, as a layer of images, or split from counts."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial, reduce
from operator import add, length_hint
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from conformask.arrays import Array, Triplet
from conformask.background import tracked
from conformask.errors import ImageError, InvalidArgumentError, MismatchError, MissingFileError, warn
from conformask.extras.noise import checks
from conformask.extras.noise.clean import Allowance
from conformask.images.formats import SourceImage, at_time, channels_first, channels_last
from conformask.images.layers import SHOWN, Findings, LayerKind, OpenedLayer, check_places, with_layer
from conformask.images.read import (
    OF_VOLUMES,
    Image,
    by_stem,
    decode_with_header,
    format_of,
    image_and_header,
    image_hash,
    name_and_suffix,
    read_header,
    times_of,
)
from conformask.records.numbers import plural, share as percentage
from conformask.records.reading import PLAIN, Reading, Reference
from conformask.records.record import (
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

if TYPE_CHECKING:
    from conformask.images.rows import TripletRow

HALVES = ("_even", "_EVN", "_half1", "_odd", "_ODD", "_half2")
"""Endings of halves of electron micrographs, which stand for _1 and _2, the first before the second."""
PAIRS = 32
"""Number of pairs of repeats from which the noise is estimated."""


@dataclass(frozen=True)
class Repeats(LayerKind):
    """Second acquisitions of y, whose noise is independent of that of y and x.

    A triplet has their mean for y and half their difference as a layer, and a batch the noise of y.
    """

    name: str = "repeat"
    found_by_stem = False
    plural = "repeats"
    may_be_empty = True
    makes_y = True

    def attach(self, rows: "list[TripletRow]", beside: Path, reading: Reading) -> "list[TripletRow]":
        """Return the rows with the repeats of each: in a folder NAME_1 and NAME_2, or NAME_1 alone for all.

        Halves may keep the names that programs give them, such as NAME_even and NAME_odd; see HALVES. A file
        NAME with two time points, or twice the channels of y_hat, holds both. Where there is a y they are
        left out.
        """
        folder = beside / self.plural
        if not folder.is_dir() or any(row.y is not None for row in rows):
            return rows
        files = by_stem(folder)
        for row in rows:
            if (path := files.pop(row.name, None)) is not None:
                files |= _repeats_in(path, row, reading)
            if f"{row.name}_1" not in files:
                halves = [files.pop(f"{row.name}{end}") for end in HALVES if f"{row.name}{end}" in files]
                files |= {f"{row.name}_{place}": path for place, path in enumerate(halves, start=1)}
        two = any(f"{row.name}_2" in files for row in rows)
        needed = [f"{row.name}_{place}" for row in rows for place in (1, 2)[: 1 + two]]
        missing, others = set(needed) - set(files), set(files) - set(needed)
        if missing or others:
            listed = ", ".join(sorted(missing or others)[:SHOWN])
            what = "no file of the name" if missing else "files of no image:"
            raise MissingFileError(
                f"{folder} has {what} {listed}; give NAME_1 and NAME_2 of each image, NAME_1 alone of each, "
                "halves NAME_even and NAME_odd, or files NAME with two time points or twice the channels"
            )
        last = 2 if two else 1
        return [
            self.complete(
                replace(
                    row,
                    y=files[f"{row.name}_1"] if two else None,
                    layers={**row.layers, self.name: files[f"{row.name}_{last}"]},
                )
            )
            for row in rows
        ]

    def complete(self, row: "TripletRow") -> "TripletRow":
        """Return the row with noisy y; a repeat alone is y."""
        if self.name not in row.layers:
            return row
        if row.y is not None:
            return replace(row, repeats=2)
        layers = dict(row.layers)
        return replace(row, y=layers.pop(self.name), layers=layers, repeats=1)

    def add(self, row: "TripletRow", triplet: Triplet, reading: Reading) -> Triplet:
        """Return the triplet with the mean of y and its repeat, and half their difference.

        Two of one file are its first and its second half of the channels.
        """
        source, y = row.layers[self.name], triplet.truth()
        repeat, header = image_and_header(source, reading.of("y"), row.text(self.name))
        if isinstance(row.y, Path) and row.y == source:
            y, repeat = np.array_split(y, 2)
        if repeat.shape != y.shape:
            raise ImageError(
                f"triplet {row.name!r}: its repeats have shapes {y.shape} and {repeat.shape}; they must be "
                "the same"
            )
        if np.array_equal(y, repeat):
            raise ImageError(
                f"triplet {row.name!r}: its two repeats are the same image; give two acquisitions"
            )
        check_places(row.name, {self.name: header}, triplet.y_hat.shape[1:], triplet.geometry)
        triplet = replace(triplet, y=(y + repeat) / 2)
        return with_layer(triplet, self.name, (y - repeat) / 2)

    def opened(self, row: "TripletRow", reading: Reading) -> OpenedLayer | None:
        """Return None: no loss of noisy references is computed window by window."""
        return None

    def batched(self, triplet: Triplet) -> dict[str, Image]:
        """Return the noise of y, where it is known."""
        noise = noise_of(triplet)
        return {} if noise is None else {"noise": noise}

    def measure(self, triplet: Triplet, place: int) -> checks.ReferenceMeasures | None:
        """Measure the reference of a triplet, if it has noise."""
        if triplet.y is None or not triplet.reference.is_noisy:
            return None
        b, c = repeats_of(triplet) or (triplet.y, None)
        return checks.measure_reference(b, triplet.x, triplet.y_hat, c, with_blocks=place < PAIRS)

    def verdicts(self, measures: Mapping[str, checks.ReferenceMeasures]) -> Iterable[tuple[str, bool]]:
        """Return what spoils a promise about noisy references, and whether beyond doubt."""
        return checks.verdicts(measures)

    def findings(self, measures: Mapping[str, checks.ReferenceMeasures]) -> Findings:
        """Return what is known of the noise by two repeats of each image, of PAIRS of them."""
        pooled = checks.pooled_correlation(measures.values())
        if pooled is None:
            return Findings({"transfer": None, "reach": None, "clt_reach": None})
        blocks = (each.two.blocks for each in measures.values() if each.two is not None)
        transfer = checks.estimate_noise(filter(None, blocks))
        model, reach, clt_reach = transfer.model, pooled.range, pooled.rounded_reach
        independent = f"independent from {plural(reach, 'pixel')} on (--allowance exact --reach {reach})"
        if reach > checks.FARTHEST:
            independent = f"shared by pixels more than {checks.FARTHEST} apart (--allowance exact is refused)"
        text = (
            f"variance gain * (value - offset) + read^2, {model.text}, values from 0 to 1 (--noise-model "
            f"{model.option} for one repeat); {independent}, by the central limit theorem --reach "
            f"{clt_reach:g}"
        )
        fields = {"transfer": transfer, "reach": reach, "clt_reach": clt_reach}
        return Findings(fields, (("noise", text),), partial(checks.photon_transfer_plot, transfer))


REPEATS = Repeats()


def repeats_of(triplet: Triplet) -> tuple[Array, Array] | None:
    """Return the two repeats b and c of a triplet; None if it has none."""
    if REPEATS.name not in triplet.layers:
        return None
    half = triplet.layers[REPEATS.name]
    return triplet.truth() + half, triplet.truth() - half


def noise_of(triplet: Triplet) -> Array | None:
    """Return an estimate of the variance of the noise of y, (C, *space), whose mean over draws it is.

    It is the square of half the difference of two repeats, or what a model says of one, which may be
    negative. None where y is the truth, or its noise is not known.
    """
    if REPEATS.name in triplet.layers:
        return np.asarray(np.square(triplet.layers[REPEATS.name]))
    model = triplet.reference.model
    return None if model is None or triplet.y is None else model.variance(triplet.y)


def reach_of(images: Iterable[Triplet], reference: Reference, allowance: Allowance) -> float:
    """Return the reach that an allowance needs for the noise that the repeats of images show."""
    if reference.repeats == 1:
        raise InvalidArgumentError(
            "one repeat does not show from which distance on its noise is independent: give reach= "
            "(--reach), 1 if that of neighbouring pixels is, or what `conformask check` measures on a few "
            "images taken twice"
        )
    pairs = map(repeats_of, tracked(images, "measuring noise", length_hint(images)))
    alike = ((b, checks.without_drift(b, c, checks.gain_of(b, c))) for b, c in filter(None, pairs))
    return checks.reach_shown(reduce(add, (checks.correlation(*pair) for pair in alike)), allowance)


def _repeats_in(path: Path, row: "TripletRow", reading: Reading) -> dict[str, Path]:
    """Return the file of NAME_1 and NAME_2: two time points of one, or one of which both are channels."""
    count, names = times_of(path, reading), [f"{row.name}_{place}" for place in (1, 2)]
    if count == 2:
        return {name: path.with_name(f"{path.name}#t={time}") for time, name in enumerate(names)}
    if count is None and read_header(path, reading).channels == 2 * row.header("y_hat", reading).channels:
        return dict.fromkeys(names, path)
    raise ImageError(
        f"{path} has {count or 'no'} time points, and not twice the channels of y_hat: give a file with two, "
        f"the repeats, or one repeat in a file named {names[0]}"
    )


RECORD = "counts.json"
"""Record of how images of counts were split."""
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
    means, noises = (checks.in_blocks(each, BLOCK).mean(axis=1) for each in (planes[:, :-1, :-1], variances))
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
