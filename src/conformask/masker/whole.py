"""Masks of images of any size, and of one that was scored once and is shown at many settings.

The score of a large image goes tile by tile to a temporary file, then the mask is made block by block. A
family such as water_filling looks at the whole score before it opens a pixel; it reads it from that file,
whose pages the system may drop from memory at any time.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from conformask.arrays import Array, Batch, Score, best_device, window_index
from conformask.background import Tell, prefetch, tracked
from conformask.errors import ImageError, InvalidArgumentError
from conformask.images.formats import Blocks, DiskArray, Places, SourceImage, check_disk
from conformask.images.read import Raster, grid, image_ids, write_blocks
from conformask.images.rows import OpenedTriplet
from conformask.images.triplets import Triplets
from conformask.masker.admission import Admission, NewImage
from conformask.masker.masker import Masker
from conformask.masks.family import Family
from conformask.records.reading import Size, size_text
from conformask.scores.level import Levelled, features_by_blocks, floors_of, level_features
from conformask.scores.scorer import Factors, Patches, Scorer, Tile, Tiled, reduced, remove_specks
from conformask.scores.scoring import scored_batches


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


def level_of(masker: Masker, item: Batch) -> tuple[float, Tensor]:
    """Return the lambda of an image, and the family's level for it, from the whole score."""
    lam = torch.as_tensor(masker.lambdas(item), device=item.score.map.device)
    return float(lam[0]), masker.family.level(item.score.map, lam)


def masks_of(family: Family, score: Tensor, level: Tensor) -> Iterator[tuple[Places, Tensor]]:
    """Yield each block of the mask, (C, D, H, W), with its place, from the score of an image."""
    for window in grid(tuple(score.shape[2:])):
        (mask,) = family.apply(score[window_index(window)], level)
        yield window, mask.reshape(len(mask), *(1, *mask.shape[1:])[-3:])


def add_depth(window: Places) -> Places:
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
    pixels: str
    """Hash by which the image is recognised, as by `pixel_ids`; "" where it is too large for one pass."""


def whole_images(masker: Masker, triplets: Triplets) -> "dict[int, WholeImage]":
    """Return the triplets, by index, that exceed a tile or are OME-Zarr; all are checked before any work."""
    scorer, images = masker.by_tiles, {}
    for index, suffix in enumerate(triplets.suffixes):
        if not scorer.holds(triplets.raster(index, "y_hat").size) or suffix.endswith("zarr"):
            images[index] = WholeImage(masker, triplets.opened(index))
            images[index].check()
    return images


def needs_pixels(masker: Masker) -> bool:
    """Return whether the rule needs more of an image than its category and weight."""
    needs = masker.rule.needs
    return bool(needs & {"features", "bound_curve"}) or ("weight" in needs and masker.weigh is not None)


@dataclass(frozen=True)
class WholeImage:
    """An image of which only windows are in memory: its score goes to disk by tiles, its mask by blocks."""

    masker: Masker
    image: OpenedTriplet

    @property
    def name(self) -> str:
        """The name of the image."""
        return self.image.name

    @property
    def size(self) -> Size:
        """Size of y_hat and of the mask."""
        return self.image.y_hat.size

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the score, (1, 1 or C, *space)."""
        return 1, self.masker.card.channels if self.masker.scorer.per_channel else 1, *self.size

    @cached_property
    def scorer(self) -> Tiled:
        """The scorer of tiles."""
        return self.masker.by_tiles

    @cached_property
    def factors(self) -> Factors:
        """How many times smaller x is than y_hat along each axis; 1 where one tile holds the image."""
        return self.scorer.factors(self.image.x.size, self.size)

    @cached_property
    def windows(self) -> list[Tile]:
        """The tiles of the image."""
        return self.scorer.windows(self.size, self.factors)

    def under(self, window: Tile) -> Places:
        """Return the part of x under a tile: all of x where one tile holds the image."""
        if self.scorer.holds(self.size):
            return self.image.x.header.everywhere
        return reduced(window.places, self.factors)

    def check(self) -> None:
        """Raise for an image that cannot be masked, before any work."""
        masker, image, size, card = self.masker, self.image, self.size, self.masker.card
        masker.loss.extent.refuse("tiles", image.y_hat.name)
        _ = self.factors  # refuses an x that tiles cannot follow
        for layer in (image.layers[name] for name in masker.scorer.layers if name in image.layers):
            if layer.size != size:
                raise ImageError(
                    f"{layer.name} has {size_text(layer.size)} pixels, but y_hat has {size_text(size)}: by "
                    "tiles they must agree"
                )
        if image.y is not None and image.y.size != size:
            raise ImageError(
                f"{image.y.name} has {image.y.size} pixels, but y_hat has {size}; they must agree"
            )
        if math.prod(size) <= IN_MEMORY:
            return
        many = f"{image.y_hat.name} has {size_text(size)} pixels"
        if card.patches is not None:
            raise InvalidArgumentError(
                f"{many}: masks in {card.parts} are computed in memory, for up to {IN_MEMORY} pixels; "
                "calibrate without --patches (patches=None)"
            )
        if needs_pixels(masker):
            raise InvalidArgumentError(
                f"{many}: the {card.promise.guarantee} promise needs {', '.join(sorted(masker.rule.needs))} "
                f"of a whole image, which are computed in memory for up to {IN_MEMORY} pixels; calibrate "
                "with another guarantee, such as marginal or pac"
            )

    def score_into(self, score: Array) -> Iterator[int]:
        """Score the image into zeros (1, C, *space); yield the number of tiles that are done."""
        for done, (places, part) in enumerate(self._parts(), start=1):
            score[window_index(places)] += part
            yield done
        remove_specks(self.masker.scorer, score)
        if isinstance(self.masker.scorer, Levelled):
            level = self.masker.scorer.model(self._level_features(torch.from_numpy(score))).numpy()
            for window in grid(self.size):
                score[window_index(window)] /= level

    def _parts(self) -> Iterator[tuple[Places, Array]]:
        """Yield place and weighted score of each tile; added in their places they make the score."""
        image, device, scorer = self.image, best_device(), self.scorer
        names = [name for name in scorer.layers if name in image.layers]

        def read(window: Tile) -> list[Array]:
            layers = (image.layers[name].read(window.places) for name in names)
            return [_read(image.x, self.under(window)), _read(image.y_hat, window.places), *layers]

        images = prefetch(read, self.windows, lambda arrays: sum(array.nbytes for array in arrays), threads=1)
        for window, arrays in zip(self.windows, images, strict=True):
            x, y_hat, *layers = (torch.from_numpy(array)[None].to(device) for array in arrays)
            part = scorer.part(window, x, y_hat, image.name, dict(zip(names, layers, strict=True)))
            yield window.places, part.cpu().numpy()

    def _level_features(self, score: Tensor) -> Tensor:
        if self.scorer.holds(self.size):
            return level_features(*self._pixels(), score)

        def read(around: Places) -> list[Tensor]:
            return [*self._pixels(around), score[window_index(around)]]

        return features_by_blocks(self.size, read, floors_of(score), self.factors)

    def _pixels(self, places: Places | None = None) -> tuple[Tensor, Tensor]:
        """Return x and y_hat, each (1, C, *space), in a window of y_hat, or all of them."""
        x, y_hat = self.image.x, self.image.y_hat
        under, window = x.header.everywhere, y_hat.header.everywhere
        if places is not None and places != window:
            under, window = reduced(places, self.factors), places
        images = _read(x, under), _read(y_hat, window)
        return torch.from_numpy(images[0])[None], torch.from_numpy(images[1])[None]

    def facts(self, pixels: tuple[Tensor, Tensor] | None = None) -> Batch:
        """Return the facts that the rule may need; the pixels, x and y_hat, only if it needs them."""
        none = torch.empty(1, 1, 0, 0)
        if pixels is None:
            pixels = self._pixels() if needs_pixels(self.masker) else (none, none)
        facts = {name: (fact,) for name, fact in self.image.facts.items()}
        return Batch((self.name,), *pixels, None, {}, facts)

    def admission(self, score: Array) -> Admission:
        """Check the image with its score, (1, C, *space): all of its values, and how its middle looks."""
        places = self._middle()
        rasters = self.image.x, self.image.y_hat
        clipped = max(raster.clipped(grid(raster.size)) for raster in rasters)
        batch = replace(self.facts(self._pixels(places)), clipped=(clipped,))
        middle = batch.with_score(Score(torch.from_numpy(score[window_index(places)])))
        return self.masker.compared(middle, self.masker.admit(NewImage.of_opened(self.image)))

    def _middle(self) -> Places:
        """Return a window in the middle of the image, at borders of pixels of x, or all of a small one."""
        if math.prod(self.size) <= MIDDLE:
            return self.image.y_hat.header.everywhere
        longest, places = int(MIDDLE ** (1 / len(self.size))), []
        for whole, factor in zip(self.size, self.factors, strict=True):
            side = min(whole, longest) // factor * factor
            start = (whole - side) // 2 // factor * factor
            places.append(slice(start, start + side))
        return tuple(places)

    def scored(self, score: Array) -> ScoredImage:
        """Return the image with its score, (1, C, *space)."""
        item = self.facts().with_score(Score(torch.from_numpy(score)))
        return ScoredImage(item, self.size, self.admission(score))

    def write(self, path: Path, under: SourceImage) -> WrittenMask:
        """Write the mask over another image, 16 bits, rounded down; wholly or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        check_disk(f"the mask {path}", BYTES * math.prod(self.shape), path.parent, "choose another folder")
        score = DiskArray(self.shape, np.dtype(np.float32), path.parent).mapped()
        for _ in tracked(self.score_into(score), f"score of {self.name}", len(self.windows)):
            pass
        mask = _BlockwiseMask(self, self.facts().with_score(Score(torch.from_numpy(score))))
        write_blocks(path, score.shape[1:], mask.blocks(), under)
        return mask.summary(self.admission(score))


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

    def __init__(self, whole: WholeImage, item: Batch) -> None:
        self._whole, self._score = whole, item.score.map
        self._level = level_of(whole.masker, item)[1]
        self._trusted_sum, self._loss_sum = 0.0, 0.0
        y = whole.image.y
        self._exponent = None if y is None else whole.masker.loss.traits.block_exponent
        self._y = None if self._exponent is None else y
        self._y_hat = Overview(whole.image.y_hat.header.channels, whole.size)
        self._mask = Overview(self._score.shape[1], whole.size)

    def blocks(self) -> Blocks:
        places = list(grid(self._whole.size))
        read = partial(_read, self._whole.image.y_hat)
        y_hats = prefetch(read, places, lambda block: block.nbytes, threads=1)
        masks = masks_of(self._whole.masker.family, self._score, self._level)
        title = f"mask of {self._whole.name}"
        for (window, deep), y_hat in tracked(zip(masks, y_hats, strict=True), title, len(places)):
            mask = deep.reshape(len(deep), *y_hat.shape[1:]).numpy()
            self._trusted_sum += float(mask.sum(dtype=np.float64))
            if self._y is not None:  # the sum of m^p |y - y_hat|^p
                error = np.abs(self._y.read(window).astype(np.float64) - y_hat) * mask
                self._loss_sum += float((error**self._exponent).sum())
            self._mask.add(window, mask)
            self._y_hat.add(window, y_hat)
            yield window, mask

    def summary(self, admission: Admission) -> WrittenMask:
        """Return the summary of the mask, of an image of which this is to be said."""
        loss, y, y_hat = None, self._y, self._whole.image.y_hat
        if y is not None:
            loss = self._loss_sum / y_hat.header.values
        recognised, pixels = self._whole.image.y or y_hat, ""
        if math.prod(y_hat.size) <= IN_MEMORY:
            pixels = str(image_ids([_read(recognised, recognised.header.everywhere)])[0])
        size = 1 - self._trusted_sum / self._score.numel()
        return WrittenMask(size, loss, self._y_hat.image, self._mask.image, admission, pixels)


def _read(raster: Raster, places: Places) -> Array:
    """Read a window, with 0 for NaN where NaN is allowed, as in images that are read whole."""
    window: Array = np.nan_to_num(raster.read(places))
    return window


def scored_in_memory(masker: Masker, image: Triplets, tell: Tell) -> Batch:
    """Return the one image with its score, by the tiles of `Masker.by_tiles`, which it reports."""

    def around(scorer: Scorer) -> Scorer:
        if isinstance(scorer, Levelled | Patches):
            return replace(scorer, scorer=around(scorer.scorer))
        return replace(masker.by_tiles, tell=tell)

    return next(scored_batches(around(masker.scorer), image, 1))
