"""Masks of images of any size, and of one that was scored once and is shown at many settings.

The score of a large image goes tile by tile to a temporary file, then the mask is made block by block. A
family such as water_filling looks at the whole score before it opens a pixel; it reads it from that file,
whose pages the system may drop from memory at any time.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from conformask.arithmetic import best_device, window_index
from conformask.arrays import Batch, Score
from conformask.background import Tell, prefetch, tracked
from conformask.errors import ImageError, InvalidArgumentError
from conformask.images.formats import Blocks, DiskArray, SourceImage, check_disk
from conformask.images.read import Raster, grid, write_blocks
from conformask.images.rows import OpenedTriplet
from conformask.images.triplets import Triplets
from conformask.losses import paper_distance
from conformask.losses.base import Loss
from conformask.masker.admission import Admission, NewImage
from conformask.masker.data_leakage import image_ids
from conformask.masker.masker import Masker
from conformask.masks.family import Family
from conformask.records.geometry import Size, size_text
from conformask.records.record import Array
from conformask.scores.level import Levelled, features_by_blocks, floors_of, level_features
from conformask.scores.scorer import Scorer
from conformask.scores.steps import Factors, Patches, Places, Tile, reduced, remove_specks
from conformask.scores.steps import Places as Window


@dataclass(frozen=True)
class ScoredImage:
    """An image with its score."""

    item: Batch
    """Batch of one image and its score, for rules and families; without pixels where these stay in files.

    Its region is the one that the promise is about; None where the promise is about the whole image.
    """
    size: Size
    """Size of the image, (H, W) or (D, H, W)."""
    admission: Admission
    """What is to be said of the image."""

    @cached_property
    def region_share(self) -> float:
        """Share of the image's pixels in the region that the promise is about; 1 without a region."""
        region = self.item.layers.get("region")
        return 1.0 if region is None else float(region.cpu().numpy().mean(dtype=np.float64))

    @property
    def deep(self) -> Size:
        """Size (D, H, W), with D = 1 for a plane."""
        return (1, *self.size)[-3:]


@dataclass(frozen=True)
class MaskLevel:
    """Mask of an image at one lambda: its level and its size."""

    lam: float
    level: tuple[float, ...]
    """Level, as the family's apply takes it."""
    size: float
    """Mask size, mean(1 - m), in the region that the promise is about."""


def mask_level(masker: Masker, image: ScoredImage) -> MaskLevel:
    """Return lambda, level and mask size that the masker gives an image."""
    lam, level = level_of(masker, image)
    return MaskLevel(lam, tuple(level[0].tolist()), mask_size_of(masker.family, image, level))


def level_of(masker: Masker, image: ScoredImage) -> tuple[float, Tensor]:
    """Return the lambda of an image, and the family's level for it, from the whole score."""
    score = image.item.score.map
    lam = torch.as_tensor(masker.lambdas(image.item), device=score.device)
    return float(lam[0]), masker.family.level(score, lam)


def mask_size_of(family: Family, image: ScoredImage, level: Tensor) -> float:
    """Return mean(1 - m) in the region that the promise is about, computed block by block."""
    return mask_size_by_planes(image, trusted_shares(family, image, level)[0])


def mask_size_by_planes(image: ScoredImage, trusted: Array) -> float:
    """Return mean(1 - m) in the region that the promise is about, from the shown shares along one axis."""
    return float(1 - trusted.mean()) / image.region_share


def trusted_shares(family: Family, image: ScoredImage, level: Tensor) -> tuple[Array, Array, Array]:
    """Return the mean of the mask in each plane across z, y and x, by blocks; outside a region it is 1."""
    z, y, x = (np.zeros(side) for side in image.deep)
    region = image.item.layers.get("region")
    for window, mask in masks_of(family, image, level):
        if region is not None:
            mask = 1 - region[window_index(window)].reshape(1, *mask.shape[1:]) * (1 - mask)
        for axis, (sums, places) in enumerate(zip((z, y, x), add_depth(window), strict=True), start=1):
            other_axes = tuple(other for other in range(4) if other != axis)
            sums[places] += mask.sum(dim=other_axes, dtype=torch.float64).cpu().numpy()
    values = image.item.score.map.numel()
    return z * len(z) / values, y * len(y) / values, x * len(x) / values


def masks_of(family: Family, image: ScoredImage, level: Tensor) -> Iterator[tuple[Window, Tensor]]:
    """Yield each block of the mask, (C, D, H, W), with its place."""
    for window in grid(image.size):
        (mask,) = family.apply(image.item.score.map[window_index(window)], level)
        yield window, mask.reshape(len(mask), *(1, *mask.shape[1:])[-3:])


def add_depth(window: Window) -> Window:
    """Return the window with three axes, the first one plane deep if it has only two."""
    return (slice(0, 1), *window)[-3:]


IN_MEMORY = 2**26
"""Largest image, in pixels, of which a rule may use all pixels, such as for its features."""
MIDDLE = 2**22
"""Most pixels of an image that are compared with the calibration images."""
BYTES = 6
"""Bytes on disk for each pixel: a score of 32 and a mask of 16 bits."""
LONGEST, LONGEST_IN_VOLUMES = 2048, 256
"""Longest side of an overview, in pixels, of a plane and of a volume."""


@dataclass(frozen=True)
class WrittenMask:
    """Summary of a mask that was written to disk."""

    size: float
    """Mask size, mean(1 - m)."""
    loss: float | None
    """Loss under the mask; None unless the truth is known and the loss can be summed over blocks (lp)."""
    y_hat: Array
    """Overview of y_hat, (C, *space)."""
    mask: Array
    """Overview of the mask, (1 or C, *space)."""
    admission: Admission
    """What is to be said of the image."""
    truth: str
    """Hash by which y is recognised; "" where it is not measured, or too large for one pass."""


def scorer_of_whole(masker: Masker, tell: Tell) -> Scorer:
    """Return the masker's scorer with the tiles of `Masker.by_tiles`, which it reports."""

    def around(scorer: Scorer) -> Scorer:
        if isinstance(scorer, Levelled | Patches):
            return replace(scorer, scorer=around(scorer.scorer))
        return replace(masker.by_tiles, tell=tell)

    return around(masker.scorer)


def finish_score(masker: Masker, image: OpenedTriplet, score: Array) -> None:
    """Remove specks from the score of a whole image, (1, C, *space), and divide it by its level, in place."""
    remove_specks(masker.scorer, score)
    if isinstance(masker.scorer, Levelled):
        level = masker.scorer.model(_level_features(masker, image, torch.from_numpy(score))).numpy()
        for window in grid(image.y_hat.size):
            score[window_index(window)] /= level


def _level_features(masker: Masker, image: OpenedTriplet, score: Tensor) -> Tensor:
    factors = _factors(masker, image)

    def read(around: Places) -> list[Tensor]:
        rasters = (image.x, reduced(around, factors)), (image.y_hat, around)
        x, y_hat = (torch.from_numpy(_read(raster, places))[None] for raster, places in rasters)
        return [x, y_hat, score[window_index(around)]]

    if not masker.by_tiles.holds(image.y_hat.size):
        return features_by_blocks(image.y_hat.size, read, floors_of(score), factors)
    whole = (_read(raster, raster.header.everywhere) for raster in (image.x, image.y_hat))
    x, y_hat = (torch.from_numpy(each)[None] for each in whole)
    return level_features(x, y_hat, score)


def whole_images(masker: Masker, triplets: Triplets) -> dict[int, OpenedTriplet]:
    """Return the triplets, by index, that exceed a tile or are OME-Zarr; all are checked before any work."""
    scorer, images = masker.by_tiles, {}
    for index, suffix in enumerate(triplets.suffixes):
        if not scorer.holds(triplets.raster(index, "y_hat").size) or suffix.endswith("zarr"):
            images[index] = triplets.opened(index)
            check_whole(masker, images[index])
    return images


def write_whole(masker: Masker, image: OpenedTriplet, path: Path, under: SourceImage) -> WrittenMask:
    """Write the mask of a whole image over another, 16 bits, rounded down; wholly or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = shape_of_score(masker, image)
    check_disk(f"the mask {path}", BYTES * math.prod(shape), path.parent, "choose another folder")
    score = DiskArray(shape, np.dtype(np.float32), path.parent).mapped()
    count = len(windows_of(masker, image))
    for places, part in tracked(parts_of_score(masker, image), f"score of {image.name}", count):
        score[window_index(places)] += part
    finish_score(masker, image, score)
    mask = _BlockwiseMask(masker, image, torch.from_numpy(score))
    write_blocks(path, score.shape[1:], mask.blocks(), under)
    return mask.summary(admit_whole(masker, image, score))


def admit_whole(masker: Masker, image: OpenedTriplet, score: Array) -> Admission:
    """Check a whole image with its score, (1, C, *space): all of its values, and how its middle looks."""
    factors = _factors(masker, image)
    places = _middle(image.y_hat.size, factors)
    is_all = places == image.y_hat.header.everywhere
    under = image.x.header.everywhere if is_all else reduced(places, factors)
    x, y_hat = (
        torch.from_numpy(_read(raster, window))[None]
        for raster, window in ((image.x, under), (image.y_hat, places))
    )
    clipped = max(raster.clipped(grid(raster.size)) for raster in (image.x, image.y_hat))
    batch = replace(facts_of_pixels(image, x, y_hat), clipped=(clipped,))
    middle = batch.with_score(Score(torch.from_numpy(score[window_index(places)])))
    return masker.admit_scored(middle, NewImage.of_opened(image))


def _middle(size: Size, factors: Factors) -> Places:
    """Return a window in the middle of an image, at borders of pixels of x, or all of a small one."""
    if math.prod(size) <= MIDDLE:
        return tuple(slice(0, side) for side in size)
    longest = int(MIDDLE ** (1 / len(size)))
    sides = [min(side, longest) // factor * factor for side, factor in zip(size, factors, strict=True)]
    starts = [
        (whole - side) // 2 // factor * factor
        for whole, side, factor in zip(size, sides, factors, strict=True)
    ]
    return tuple(slice(start, start + side) for start, side in zip(starts, sides, strict=True))


def shape_of_score(masker: Masker, image: OpenedTriplet) -> tuple[int, ...]:
    """Return the shape of the score, (1, 1 or C, *space)."""
    return 1, masker.card.channels if masker.scorer.per_channel else 1, *image.y_hat.size


def parts_of_score(masker: Masker, image: OpenedTriplet) -> Iterator[tuple[Places, Array]]:
    """Yield place and weighted score of each tile; added in their places they make the score of the image."""
    device, scorer, windows = best_device(), masker.by_tiles, windows_of(masker, image)
    under = under_tiles(masker, image)

    def read(window: Tile) -> list[Array]:
        layers = (image.layers[name].read(window.places) for name in scorer.layers if name in image.layers)
        return [_read(image.x, under(window)), _read(image.y_hat, window.places), *layers]

    images = prefetch(read, windows, lambda arrays: sum(array.nbytes for array in arrays), threads=1)
    for window, arrays in zip(windows, images, strict=True):
        x, y_hat, *layers = (torch.from_numpy(array)[None].to(device) for array in arrays)
        part = scorer.part(window, x, y_hat, image.name, dict(zip(scorer.layers, layers, strict=False)))
        yield window.places, part.cpu().numpy()


def windows_of(masker: Masker, image: OpenedTriplet) -> list[Tile]:
    """Return the tiles of an image."""
    return masker.by_tiles.windows(image.y_hat.size, _factors(masker, image))


def under_tiles(masker: Masker, image: OpenedTriplet) -> Callable[[Tile], Places]:
    """Return a function from a tile to the part of x under it: all of x where one tile holds the image."""
    if masker.by_tiles.holds(image.y_hat.size):
        return lambda window: image.x.header.everywhere
    factors = _factors(masker, image)
    return lambda window: reduced(window.places, factors)


def _factors(masker: Masker, image: OpenedTriplet) -> Factors:
    return masker.by_tiles.factors(image.x.size, image.y_hat.size)


def exponent_by_blocks(loss: Loss) -> float | None:
    """Return p if a loss can be summed over the blocks of a whole image; else None."""
    distance = paper_distance(loss)
    return None if distance is None else distance.exponent


class Overview:
    """Mean over squares or cubes of pixels of an image (C, *space), to a limited longest side."""

    def __init__(self, channels: int, size: tuple[int, ...]) -> None:
        self.step = math.ceil(max(size) / (LONGEST if len(size) == 2 else LONGEST_IN_VOLUMES))
        sides = [math.ceil(side / self.step) for side in size]
        self._sums = np.zeros((channels, *sides), np.float32)
        self._counts = np.zeros(sides, np.float32)

    def add(self, places: tuple[slice, ...], block: Array) -> None:
        """Add a block (C, *window) that lies at these places; each pixel once."""
        sums, counts, window = block, np.ones((), np.float32), []
        for axis, side in enumerate(places, start=1):
            cells = np.arange(side.start, side.stop) // self.step
            # one sum for each run of pixels in a cell; a block may begin and end inside a cell
            sums = np.add.reduceat(sums, np.flatnonzero(np.diff(cells, prepend=-1)), axis=axis)
            counts = np.multiply.outer(counts, np.bincount(cells - cells[0]).astype(np.float32))
            window.append(slice(cells[0], cells[-1] + 1))
        self._sums[:, *window] += sums
        self._counts[*window] += counts

    @property
    def image(self) -> Array:
        """Overview, (C, *space) float32."""
        return self._sums / self._counts


class _BlockwiseMask:
    """The mask of a scored image, block by block, with its size, its loss and overviews."""

    def __init__(self, masker: Masker, image: OpenedTriplet, score: Tensor) -> None:
        self._family, self._image, self._score = masker.family, image, score
        lam = torch.from_numpy(masker.lambdas(facts_of(masker, image).with_score(Score(score))))
        self._level = masker.family.level(score, lam)
        self._trusted_sum, self._loss_sum = 0.0, 0.0
        self._exponent = exponent_by_blocks(masker.loss) if image.y is not None else None
        self._y_hat = Overview(image.y_hat.header.channels, image.y_hat.size)
        self._mask = Overview(score.shape[1], image.y_hat.size)

    def blocks(self) -> Blocks:
        places = list(grid(self._image.y_hat.size))
        y_hats = prefetch(partial(_read, self._image.y_hat), places, lambda block: block.nbytes, threads=1)
        title = f"mask of {self._image.name}"
        for window, y_hat in tracked(zip(places, y_hats, strict=True), title, len(places)):
            mask = self._family.apply(self._score[window_index(window)], self._level)[0].numpy()
            self._trusted_sum += float(mask.sum(dtype=np.float64))
            self._loss_sum += self._block_loss(window, mask, y_hat)
            self._mask.add(window, mask)
            self._y_hat.add(window, y_hat)
            yield window, mask

    def summary(self, admission: Admission) -> WrittenMask:
        """Return the summary of the mask, of an image of which this is to be said."""
        header = self._image.y_hat.header
        loss = None if self._exponent is None else self._loss_sum / header.values
        size = 1 - self._trusted_sum / self._score.numel()
        return WrittenMask(size, loss, self._y_hat.image, self._mask.image, admission, self._truth())

    def _truth(self) -> str:
        y = self._image.y
        if self._exponent is None or y is None or math.prod(y.size) > IN_MEMORY:
            return ""
        (truth,) = image_ids([_read(y, y.header.everywhere)]).tolist()
        return str(truth)

    def _block_loss(self, window: Places, mask: Array, y_hat: Array) -> float:
        """Return the sum of m^p |y - y_hat|^p over a block."""
        if self._exponent is None or self._image.y is None:
            return 0.0
        y = self._image.y.read(window)
        error = np.abs(y.astype(np.float64) - y_hat) * mask
        return float((error**self._exponent).sum())


def facts_of(masker: Masker, image: OpenedTriplet) -> Batch:
    """Return the facts that the rule may need; the pixels only if it needs them."""
    x = y_hat = torch.empty(1, 1, 0, 0)
    if asks_for_pixels(masker):
        x, y_hat = (
            torch.from_numpy(_read(raster, raster.header.everywhere))[None]
            for raster in (image.x, image.y_hat)
        )
    return facts_of_pixels(image, x, y_hat)


def facts_of_pixels(image: OpenedTriplet, x: Tensor, y_hat: Tensor) -> Batch:
    """Return a batch of the pixels, with the image's name and facts."""
    return Batch((image.name,), x, y_hat, None, {}, {name: (fact,) for name, fact in image.facts.items()})


def _read(raster: Raster, places: Places) -> Array:
    """Read a window, with 0 for NaN where NaN is allowed, as in images that are read whole."""
    window: Array = np.nan_to_num(raster.read(places))
    return window


def asks_for_pixels(masker: Masker) -> bool:
    """Return whether the rule needs more of an image than its category and weight."""
    needs = masker.rule.needs
    return bool(needs & {"features", "bound_curve"}) or ("weight" in needs and masker.weigh is not None)


def check_whole(masker: Masker, image: OpenedTriplet) -> None:
    """Raise for a whole image that cannot be masked, before any work."""
    size, card = image.y_hat.size, masker.card
    masker.loss.check_whole(image.y_hat.name)
    _factors(masker, image)
    for layer in (image.layers[name] for name in masker.scorer.layers if name in image.layers):
        if layer.size != size:
            raise ImageError(
                f"{layer.name} has {size_text(layer.size)} pixels, but y_hat has {size_text(size)}: by "
                "tiles they must agree"
            )
    if image.y is not None and image.y.size != size:
        raise ImageError(f"{image.y.name} has {image.y.size} pixels, but y_hat has {size}; they must agree")
    if card.patches is not None and math.prod(size) > IN_MEMORY:
        raise InvalidArgumentError(
            f"{image.y_hat.name} has {size_text(size)} pixels: masks in {card.parts} are computed in memory, "
            f"for up to {IN_MEMORY} pixels; calibrate without --patches (patches=None)"
        )
    if asks_for_pixels(masker) and math.prod(size) > IN_MEMORY:
        raise InvalidArgumentError(
            f"{image.y_hat.name} has {size_text(size)} pixels: the {card.promise.guarantee} promise needs "
            f"{', '.join(sorted(masker.rule.needs))} of a whole image, which are computed in memory for up "
            f"to {IN_MEMORY} pixels; calibrate with another guarantee, such as marginal or pac"
        )
