"""Admission of new images: whether they are those that a promise is about, and what to say where not.

`Masker.admit` asks before an image is scored, by headers; `Masker.compared` after, by looks: brightness,
contrast, noise and sharpness, and the score. Nothing else asks.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from conformask.arrays import Array, Batch, Images
from conformask.errors import verb, warn
from conformask.images.formats import DataRange, Header
from conformask.images.rows import OpenedTriplet
from conformask.images.triplets import Triplets, refuse_others
from conformask.masks.critical import features_of
from conformask.masks.kernels import medians
from conformask.promises.order import Curves
from conformask.promises.promise import Promise
from conformask.records.card import CalibrationCard, Domain
from conformask.records.evaluation import Change
from conformask.records.extent import REGION
from conformask.records.reading import Caveat, Geometry
from conformask.records.words import clipped_text
from conformask.scores.level import Levelled
from conformask.scores.scorer import Patches, Scorer, Tiled, tiled

BY_TILES = "not whole images scored by tiles: calibrate whole images with --tiled for a promise that does"
"""What to add of an image that no tile holds."""


@dataclass(frozen=True)
class NewImage:
    """What is known of a new image before it is scored."""

    name: str
    """Its name; "" where messages need none."""
    shape: tuple[int, ...]
    """Shape (C, *space) of y_hat."""
    geometry: Geometry | None = None
    ranges: Mapping[str, DataRange | None] = field(default_factory=dict)
    """Stored values that became 0 and 1, by role, where a file or a type states them."""

    @classmethod
    def of(cls, images: Triplets, index: int, header: Header | None = None) -> "NewImage":
        """Return an image of a collection, by its headers or, for y_hat, by this one."""
        headers = {"x": images.header(index, "x"), "y_hat": header or images.header(index)}
        ranges = {role: each.stored_ends(images.reading.of(role)) for role, each in headers.items()}
        return cls(images.names[index], headers["y_hat"].shape, headers["y_hat"].geometry, ranges)

    @classmethod
    def of_opened(cls, image: OpenedTriplet) -> "NewImage":
        """Return an image that is read window by window."""
        header = image.y_hat.header
        return cls(image.name, header.shape, header.geometry)

    @classmethod
    def of_batch(cls, batch: Batch) -> "NewImage":
        """Return what the images of a batch have in common; one by itself has its name."""
        geometry = batch.geometry[0] if batch.geometry else None
        return cls(batch.names[0] if geometry else "", tuple(batch.y_hat.shape[1:]), geometry)


NewImages = Triplets | NewImage
"""New images before one of them is scored: a collection, or what is known of one image."""


@dataclass(frozen=True)
class Admission:
    """What is to be said of new images: nothing where they are those that a promise is about."""

    names: tuple[str, ...] = ()
    caveat: Caveat | None = None
    """Caveat on the network that made them: another one, or an unknown one."""
    groups: str | None = None
    """What to say of their groups."""
    sizes: Mapping[str, str] = field(default_factory=dict)
    """How the size of an image is not covered, by name."""
    spacings: Mapping[str, str] = field(default_factory=dict)
    """How the spacing of an image differs, by name."""
    ranges: Mapping[str, str] = field(default_factory=dict)
    """How the range of the stored values of an image differs, by name."""
    outliers: Mapping[str, str] = field(default_factory=dict)
    """How images lie far outside of all calibration images, by name."""
    clipped: Mapping[str, float] = field(default_factory=dict)
    """Share of the values of each image that were clipped to the range, by name."""
    clipped_before: float = 0.0
    """That share of the calibration images."""

    @classmethod
    def of_clipped(cls, names: tuple[str, ...], shares: Iterable[float], before: float) -> "Admission":
        """Return what is to be said of clipped values, of which these shares are known."""
        return cls(names, clipped=dict(zip(names, map(float, shares), strict=False)), clipped_before=before)

    @property
    def texts(self) -> tuple[str, ...]:
        """What to say of all of them, but for the caveat: of each kind once, with the name of the first."""
        facts = (next(iter(each.items()), None) for each in (self.sizes, self.spacings, self.ranges))
        first = [fact and ": ".join(filter(None, fact)) for fact in facts]
        return tuple(filter(None, (self.groups, *first, *self._scored)))

    @property
    def notes(self) -> tuple[str, ...]:
        """What to say beside the one image, but for the caveat."""
        facts = (text for each in (self.sizes, self.spacings, self.ranges) for text in each.values())
        return tuple(filter(None, (self.groups, *facts, *self._scored)))

    @property
    def _scored(self) -> tuple[str | None, ...]:
        far = outliers_text(self.outliers, len(self.names)) if self.outliers else None
        return far, clipped_text(self.clipped, self.clipped_before)

    def warn(self, where: str = "") -> "Admission":
        """Warn of `texts`, after the words `where`, and return this."""
        for text in self.texts:
            warn(where + text)
        return self


ADMITTED = Admission()
"""Nothing is to be said, or was said already."""


def admitted(
    domain: Domain,
    promise: Promise,
    tiled: Tiled,
    images: NewImages,
    *,
    headers: bool = True,
) -> Admission:
    """Check new images as `Masker.admit` does, by what a promise is about.

    `tiled` scores those that no tile holds.
    """
    groups: str | None = None
    if isinstance(images, NewImage):
        unknown, of_each = domain.unknown_network, iter([images])
        caveat = None if unknown is None else Caveat(unknown, other=False)
    else:
        refuse_others(images)
        domain.check_cues(images.provenance.cues)
        caveat = images.check_made_by(domain.network, "the promise")
        groups = promise.ungrouped_text(images.groups)
        of_each = (NewImage.of(images, index) for index in (range(len(images)) if headers else ()))
    names: list[str] = []
    sizes, spacings, ranges = dict[str, str](), dict[str, str](), dict[str, str]()
    for image in of_each:
        name, size = image.name, image.shape[1:]
        domain.check_shape(image.shape, f"{name}: " if name else "")
        names += [name] if name else []
        if (reason := domain.not_covered(size)) is not None:
            one_pass = domain.tiles is not None or tiled.holds(size)
            sizes[name] = reason if one_pass else f"{reason}, {BY_TILES}"
        if spacing := domain.other_spacing(image.geometry):
            spacings[name] = spacing
        of_roles = (domain.other_range(role, stored) for role, stored in image.ranges.items())
        if others := [text for text in of_roles if text]:
            ranges[name] = "; ".join(others)
    return Admission(tuple(names), caveat, groups, sizes, spacings, ranges)


def by_tiles(scorer: Scorer, domain: Domain) -> Tiled:
    """Return the scorer of tiles of whole images; see `Masker.by_tiles`."""
    while isinstance(scorer, Levelled | Patches):
        scorer = scorer.scorer
    if domain.tiles is not None:
        return cast(Tiled, scorer)
    return tiled(scorer, len(domain.sizes[0])).holding(domain.sizes)


def compared(admission: Admission, card: CalibrationCard, past: Curves | None, item: Batch) -> Admission:
    """Add what is to be said of scored images beside the calibration images, whose curves are `past`."""
    is_comparable = "region" in item.layers or card.loss.extent != REGION
    looks = appearance(item) if is_comparable else None
    past = None if card.promise.is_weighted else past  # the promise is about images unlike them
    texts = zip(item.names, outliers(past, looks, features_of(item.score)), strict=True)
    return replace(
        admission,
        names=item.names,
        outliers={name: text for name, text in texts if text},
        clipped=dict(zip(item.names, item.clipped, strict=False)),  # empty where it was not asked for
        clipped_before=card.clipped,
    )


Ends = Array | np.float64
"""The least, or the largest, value of one measure or of several."""
ROLES = ("x", "y_hat")
MEASURES = ("brightness", "contrast", "noise", "sharpness")
"""What `appearance` measures, in its order."""
HALVINGS = 3
"""Number of block halvings: blocks of 1, 2, 4 and 8 pixels along each axis; axes shorter than 8 are left."""
OF_DIFFERENCE = 6**0.5
"""The standard deviation of the second difference 1, -2, 1 of white noise with deviation 1."""
MEDIAN_OF_NORMAL = 0.6745
"""The median absolute value of a normal law with standard deviation 1."""
LEAST = 1e-3
"""Lower limits: of the noise as a fraction of the contrast, and of detail as a fraction of the variance."""
TINY = 1e-12
"""Constant added before a logarithm or a division."""


def appearance(batch: Batch) -> Float[np.ndarray, "n 2 4"]:
    """Return the logs of brightness, contrast, noise and sharpness of x and of y_hat; finite, float64.

    They are computed inside the region of an image where it has one of its size. Brightness is the mean,
    contrast the standard deviation of means of 4-pixel blocks divided by the mean, noise the standard
    deviation of white noise, sharpness the square root of the detail of 2 pixels divided by that of 4.

    The variance of block means shrinks as blocks grow; the difference from one block size to the next is the
    detail of that size. The part of it that white noise contributes is known and subtracted, so that noise is
    not mistaken for sharpness.
    """
    both = [_measured(images, _inside(batch, images)) for images in (batch.x, batch.y_hat)]
    return torch.stack(both, dim=1).cpu().double().numpy()


def _inside(batch: Batch, images: Images) -> Images:
    """Return 1 inside the region and 0 outside, (N, 1, *space), or one image of 1 for all without regions."""
    region = batch.layers.get("region")
    if region is None or region.shape[2:] != images.shape[2:]:
        return torch.ones_like(images[:1, :1])
    return (region > 0).to(images.dtype)


def _measured(images: Images, inside: Images) -> Float[Tensor, "n 4"]:
    means = (images * inside).flatten(2).sum(dim=2) / inside.flatten(2).sum(dim=2)
    centred = images - means.reshape(*means.shape, *[1] * (images.ndim - 2))
    noise, brightness = _noise(images, inside), means.mean(dim=1)
    variances, of_noise = _variances(centred * inside, inside)
    deviation = variances[:, 2].sqrt()
    detail = -(variances - noise[:, None] ** 2 * of_noise).diff(dim=1)
    detail = torch.maximum(detail, LEAST * variances[:, :1] + TINY)
    measures = (
        brightness,
        deviation / (brightness + TINY),
        torch.maximum(noise, LEAST * deviation),
        (detail[:, 1] / detail[:, 2]).sqrt(),
    )
    return (torch.stack(measures, dim=1) + TINY).log()


def _variances(centred: Images, inside: Images) -> tuple[Float[Tensor, "n sizes"], Float[Tensor, "n sizes"]]:
    """Return the variance of block means for each size, and its value for white noise with variance 1."""
    axes = [axis for axis in range(2, centred.ndim) if centred.shape[axis] >= 2**HALVINGS]
    for axis in axes:
        length = centred.shape[axis] >> HALVINGS << HALVINGS
        centred, inside = centred.narrow(axis, 0, length), inside.narrow(axis, 0, length)
    total = inside.flatten(1).sum(dim=1).clamp(min=1)
    variances, of_noise = [], []
    for size in range(HALVINGS + 1):
        for axis in axes if size else ():
            centred, inside = _paired(centred, axis), _paired(inside, axis)
        squares = centred**2 / inside.clamp(min=1)
        variances.append(squares.flatten(2).sum(dim=2).mean(dim=1) / total)
        of_noise.append((inside > 0).flatten(1).sum(dim=1) / total)
    return torch.stack(variances, dim=1), torch.stack(of_noise, dim=1)


def _paired(sums: Images, axis: int) -> Images:
    """Return the sums of pairs of neighbours, half as many along the axis."""
    pairs = sums.unfold(axis, 2, 2)
    return pairs[..., 0] + pairs[..., 1]


def _noise(images: Images, inside: Images) -> Float[Tensor, "n"]:
    """Estimate the deviation of white noise by the median absolute second difference along all axes."""
    scale = MEDIAN_OF_NORMAL
    for axis in range(2, images.ndim):
        length = images.shape[axis] - 2
        if length < 1:
            continue
        before, here, after = (images.narrow(axis, start, length) for start in range(3))
        images = before - 2 * here + after
        before, here, after = (inside.narrow(axis, start, length) for start in range(3))
        inside = before * here * after
        scale *= OF_DIFFERENCE
    return medians(images.abs(), inside.expand_as(images)).to(images) / scale


FAR = 0.5
"""Distance from the nearest calibration image, as a share of the range of all of them, that counts as far.

Of test images like those of the calibration, 0 to 2 % lie farther out, on five real tasks with 63 to 160
calibration images.
"""
NARROWEST = math.log(2)
"""The least width of that range, in logarithms: calibration images may all be equally bright."""
NAMED = 10
"""Most images that a warning names."""
SCORES = ("mean score", "spread / mean score", "median / mean score")
"""The features of a score map that `features_of` computes, before the score's own."""


def outliers(
    past: Curves | None, looks: Float[np.ndarray, "n 2 4"] | None, features: Float[np.ndarray, "n f"]
) -> list[str]:
    """Return in which respect each image lies far outside of all `past` ones; "" where it does not.

    `looks` are the appearance of new images, where it compares with that of the past ones, `features` those
    of their scores. It is a description, without a false-alarm rate; "" for all where the past images
    left nothing to compare with.
    """
    if past is None or past.features is None:
        return [""] * len(features)
    known, new = past.features[:, : len(SCORES)], features[:, : len(SCORES)]
    if past.appearance is not None and looks is not None:  # first, since it says more to a reader
        known, new = (
            np.hstack([each.reshape(len(each), -1), scores])
            for each, scores in ((past.appearance, known), (looks, new))
        )
    low, high = known.min(axis=0), known.max(axis=0)
    least, largest = _limits(low, high)
    return [
        _text(int(is_far.argmax()) - len(is_far), values, low, high, len(known)) if is_far.any() else ""
        for values, is_far in zip(new, (new < least) | (new > largest), strict=True)
    ]


def outliers_text(found: Mapping[str, str], n: int) -> str:
    """Return a warning of the images that were found to be outliers, by name, among n."""
    far, texts = "far outside of the calibration images", [f"{name} ({how})" for name, how in found.items()]
    others = [f"and {len(texts) - NAMED} other{'s' * (len(texts) > NAMED + 1)}"] * (len(texts) > NAMED)
    name, how = next(iter(found.items()))
    which = (
        f"{name} is {far} ({how})"
        if n == 1
        else f"{len(found)} of {n} images {verb(len(found), 'is')} {far}: {', '.join(texts[:NAMED] + others)}"
    )
    return (
        f"{which}. The promise is an average over images like those of the calibration: nothing is known "
        "about such an image by itself. Check the range, the network that made y_hat, and that x and y_hat "
        "are in their places"
    )


def limits_of_means(card: CalibrationCard, curves: Curves | None) -> dict[str, tuple[float, float]]:
    """Return limits beyond which the mean of score, x or y_hat is far outside of the calibration's, by name.

    They are empty where nothing is known to compare with. The mean of x and y_hat is their brightness, where
    the promise is about whole images.
    """
    past = None if card.promise.is_weighted else curves
    if past is None or past.features is None:
        return {}
    logs = {"score": past.features[:, 0]}
    if past.appearance is not None and card.loss.extent != REGION:
        logs |= {role: past.appearance[:, place, 0] for place, role in enumerate(ROLES)}
    limits = {name: np.exp(_limits(values.min(), values.max())) for name, values in logs.items()}
    return {name: (float(least), float(largest)) for name, (least, largest) in limits.items()}


def _limits(low: Ends, high: Ends) -> tuple[Ends, Ends]:
    """Return the least and the largest logarithms that are not far outside of known ones, of this range."""
    margin = FAR * np.maximum(high - low, NARROWEST)
    return low - margin, high + margin


def _text(measure: int, values: Float[np.ndarray, "m"], low: Array, high: Array, n: int) -> str:
    """Describe the value of one measure, a negative place in the columns: looks, then scores."""
    end = high if values[measure] > high[measure] else low
    ratio = float(np.exp(values[measure] - end[measure]))
    if measure >= -len(SCORES):
        return f"{SCORES[measure]} {ratio:.2g} times that of the nearest of {n}"
    role, look = divmod(measure + len(SCORES) + len(ROLES) * len(MEASURES), len(MEASURES))
    return f"{ROLES[role]}: {Change(MEASURES[look], ROLES[role], ratio).text}, beside the nearest of {n}"
