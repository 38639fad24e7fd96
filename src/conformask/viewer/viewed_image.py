"""An image in the viewer, in memory or in files, with its score and its loss."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from conformask.arithmetic import window_index
from conformask.calibration import ScoredBatch, loss_under, unmasked_loss
from conformask.conformal.crossing import meets_threshold
from conformask.data.mask_files import grid
from conformask.data.memory import FLOAT32, zeros_on_disk
from conformask.data.regions import check_not_empty
from conformask.data.triplets import Triplets
from conformask.deployment.scored_image import ScoredImage, add_depth, level_of, masks_of
from conformask.deployment.whole import (
    IN_MEMORY,
    WholeImage,
    exponent_by_blocks,
    facts_of,
    finish_score,
    parts_of_score,
    scorer_of_whole,
    shape_of_score,
    whole_image,
    windows_of,
)
from conformask.errors import ImageError, InvalidArgumentError
from conformask.evaluation.risk import SHARES, risk_curves
from conformask.losses.objects import LabelledObjects, labels_of
from conformask.masker.data_leakage import image_ids
from conformask.masker.masker import Masker
from conformask.masker.resolve import has_theorem
from conformask.pictures.pixels import map_ends
from conformask.pictures.views import Places
from conformask.progress import Tell
from conformask.records.reference import CLEAN, Reference
from conformask.records.size import Size
from conformask.scorers.scoring import scored_batches
from conformask.scorers.tiled import Places as Window
from conformask.storage.as_arrays import Array
from conformask.storage.as_json import Json
from conformask.types import Score
from conformask.viewer.planes import PlaneSource

MOST_DECODED = 9 * FLOAT32 * 4096**2
"""Most bytes of x, y_hat and y as float32 held in memory; larger images are read where they are shown."""
SAMPLED_BLOCKS, SAMPLED = 64, 2**24
"""Samples for distributions of values: most blocks that are read, and most of their pixels."""
ERROR_QUANTILE = 0.995
MOST = 0.995
"""Share of the values below the upper end of the window of most values, and above the lower end."""
BINS = 64
"""Number of bars of a histogram."""


@dataclass(frozen=True)
class OutputValues:
    """Distribution of the values of an output, from 0 (black) to 1 (white)."""

    counts: list[int]
    """Number of sampled values in each of equal steps."""
    most: tuple[float, float]
    """Ends of the window that holds all values but a few at each end."""


@dataclass(frozen=True)
class ViewedImage(ScoredImage):
    """A scored image, and the sources of its pixels."""

    sources: Mapping[str, PlaneSource]
    """Sources: input, output, score; truth and error if it is known; region, map and labels, if any."""
    in_memory: bool
    reference: Reference
    """What y is."""

    @property
    def bytes(self) -> int:
        """Number of bytes that it keeps in memory, or in a temporary file."""
        batch = self.item.batch
        tensors = (batch.x, batch.y_hat, batch.y, batch.region, batch.cues, self.item.score.map)
        return sum(tensor.nbytes for tensor in tensors if tensor is not None)

    @cached_property
    def error_scale(self) -> float | None:
        """Error at which the colours end; None where the truth is not known."""
        if "error" not in self.sources:
            return None
        return float(np.quantile(self._sampled("error"), ERROR_QUANTILE)) or 1.0

    @cached_property
    def map_range(self) -> tuple[float, float] | None:
        """Values of the map at which the colours begin and end; None without a map."""
        if "map" not in self.sources:
            return None
        return map_ends(self._sampled("map"))

    @cached_property
    def output_values(self) -> OutputValues:
        """Values of the output."""
        values = self._sampled("output")
        low, high = np.quantile(values, [1 - MOST, MOST]).tolist()
        return OutputValues(np.histogram(values, BINS, (0, 1))[0].tolist(), (low, high))

    @cached_property
    def objects(self) -> LabelledObjects | None:
        """Objects of y_hat, with `of_pixel` (D, H, W); None where no promise is about them."""
        if "labels" not in self.sources:
            return None
        return LabelledObjects.of(self.sources["labels"].read(tuple(map(slice, self.deep)))[0])

    def _sampled(self, source: str) -> Array:
        """Return values of a source, evenly selected where there are many."""
        blocks = list(grid(self.size))
        blocks = blocks[:: -(-len(blocks) // SAMPLED_BLOCKS)]
        step = 1 + len(blocks) * _pixels(blocks[0]) // SAMPLED
        read = self.sources[source].read
        return np.concatenate([read(add_depth(block)).ravel()[::step] for block in blocks])


@dataclass(frozen=True)
class ImageLosses:
    """Loss of an image, and whether it is within the threshold."""

    loss: float
    """Loss under the mask."""
    unmasked: float
    met: bool


def open_image(masker: Masker, triplets: Triplets, index: int, report: Tell) -> ViewedImage:
    """Score an image as `conformask mask` would: large ones by tiles, each of which is reported to `report`.

    Raises:
        ImageError: the image cannot be used.
        MismatchError: it has other channels or axes than those that the masker takes.
        OutputError: the disk has no room for its score or region.
    """
    masker.card.check_shape(triplets.header(index).shape, f"{triplets.names[index]}: ")
    if decoded_bytes(triplets, index) > MOST_DECODED:
        return _open_in_files(masker, triplets, index, report)
    scorer = scorer_of_whole(masker, report)
    one = triplets.select([index])
    return _open_in_memory(masker, next(scored_batches(scorer, one, 1)), one.reference)


def decoded_bytes(triplets: Triplets, index: int) -> int:
    """Return the bytes of x, y_hat and y as float32, without decoding them."""
    x, y_hat = (triplets.raster(index, role).header.values for role in ("x", "y_hat"))
    return FLOAT32 * (x + y_hat * (2 if triplets.select([index]).has_truth else 1))


def _open_in_memory(masker: Masker, item: ScoredBatch, reference: Reference) -> ViewedImage:
    batch = item.batch
    maps, labels, of_objects = batch.cues, None, masker.card.loss.of_objects
    if of_objects and maps is not None:
        maps, labels = maps[:, :-1], labels_of(batch)
    if not masker.card.loss.region:
        batch = replace(batch, region=None)
    elif batch.region is None:
        # a promise about regions promises nothing for an image without one: nothing is measured
        batch = replace(batch, y=None)
    if of_objects and batch.y_labels is None:
        batch = replace(batch, y=None)
    images = {
        "input": batch.x, "output": batch.y_hat, "score": item.score.map, "truth": batch.y,
        "region": batch.region, "map": maps, "labels": labels,
    }  # fmt: skip
    sources = {
        name: _tensor_source(image) for name, image in images.items() if image is not None and image.shape[1]
    }
    if of_objects:  # hidden shares are those of the objects
        batch = replace(batch, region=masker.loss.region_of(batch))
    item = replace(item, batch=batch)
    return ViewedImage(item, tuple(batch.y_hat.shape[2:]), _add_error(sources), True, reference)


def _tensor_source(images: Tensor) -> PlaneSource:
    """Return a source of windows of the one image of a batch."""
    (image,) = images.detach().cpu().numpy()
    deep = image.reshape(len(image), *(1, *image.shape[1:])[-3:])
    return PlaneSource(deep.shape[1:], lambda places: deep[:, *places])


def _open_in_files(masker: Masker, triplets: Triplets, index: int, report: Tell) -> ViewedImage:
    """Score by tiles to a temporary file, whose pages the system may drop; keep the region in another."""
    triplet = triplets.select([index])
    whole = whole_image(triplet, 0, triplet.raster(0, "y_hat"))
    y_hat, y = whole.y_hat, whole.y
    if y is not None and y.header.shape != y_hat.header.shape:
        raise ImageError(
            f"{y.name} has shape {y.header.shape}, but y_hat has {y_hat.header.shape}: they must agree"
        )
    region = _region(triplet, y_hat.size) if masker.card.loss.region else None
    score = torch.from_numpy(_scores(masker, whole, report))
    rasters = {"input": whole.x, "output": y_hat} | ({} if y is None else {"truth": y})
    sources = {name: _window_source(raster.size, raster.read) for name, raster in rasters.items()} | {
        "score": _tensor_source(score)
    }
    if whole.cues is not None:
        sources["map"] = _window_source(whole.cues.size, whole.cues.values)
    if region is not None:
        sources["region"] = _tensor_source(region)
    item = ScoredBatch(replace(facts_of(masker, whole), region=region), Score(score))
    return ViewedImage(item, y_hat.size, _add_error(sources), False, CLEAN)


def _region(triplet: Triplets, size: Size) -> Tensor | None:
    """Return the region of the one triplet, (1, 1, *size), in a temporary file; None where it has none."""
    read, name = triplet.region(0), f"the region of {triplet.names[0]!r}"
    if read is None:
        return None
    region = zeros_on_disk(name, (1, 1, *size))
    for window in grid(size):
        region[window_index(window)] = read(window)
    check_not_empty(region, name)
    return torch.from_numpy(region)


def _window_source(size: Size, read: Callable[[Window], Array]) -> PlaneSource:
    """Return a source of an image in a file, of this size, from a reader of its windows (C, *space)."""

    def read_deep(places: Places) -> Array:
        window: Array = np.nan_to_num(read(places[-len(size) :]))
        return window.reshape(-1, *(len(range(*p.indices(p.stop))) for p in places))

    return PlaneSource((1, *size)[-3:], read_deep)


def _add_error(sources: Mapping[str, PlaneSource]) -> dict[str, PlaneSource]:
    """Add |y - y_hat|, averaged over channels, if y is known; have score and labels thinned, not averaged."""
    thinned = {name: replace(sources[name], thinned=True) for name in ("score", "labels") if name in sources}
    all_sources = {**sources, **thinned}
    if "truth" in sources:
        y, y_hat = sources["truth"].read, sources["output"].read
        all_sources["error"] = PlaneSource(
            sources["output"].size,
            lambda window: np.abs(y(window) - y_hat(window)).mean(axis=0, keepdims=True),
        )
    return all_sources


def _scores(masker: Masker, image: WholeImage, report: Tell) -> Array:
    """Return the score of an image, (1, C, *size), computed tile by tile."""
    score = zeros_on_disk(f"the score of {image.name}", shape_of_score(masker, image))
    count = len(windows_of(masker, image))
    report(0, count)
    for done, (window, part) in enumerate(parts_of_score(masker, image), start=1):
        report(done, count)
        score[window_index(window)] += part
    finish_score(masker, image, score)
    return score


def _pixels(window: Window) -> int:
    return math.prod(place.stop - place.start for place in window)


def is_measurable(masker: Masker, image: ViewedImage) -> bool:
    """Return whether the loss of an image is computed; for images in files only an lp distance, by blocks."""
    if "truth" not in image.sources or (masker.card.loss.region and "region" not in image.sources):
        return False
    if not has_theorem(masker.guarantee, masker.loss, image.reference):
        return False
    return image.in_memory or _exponent(masker) is not None


def truth_id(image: ViewedImage) -> str:
    """Return the hash by which the truth of an image is recognised; "" if it is too large for one pass."""
    if math.prod(image.size) > IN_MEMORY:
        return ""
    y = image.sources["truth"].read(tuple(map(slice, image.deep)))
    return str(image_ids([y.reshape(len(y), *image.size)])[0])


def risk_of(image: ViewedImage) -> dict[str, Json] | None:
    """Return the error that is left at hidden shares, by the score and at best; None if it is not known."""
    batch = image.item.batch
    if not image.in_memory or batch.y is None:
        return None
    by_score, best = risk_curves(image.item.score.map, batch.y, batch.y_hat, batch.region)[0].tolist()
    return {"shares": SHARES, "by_score": by_score, "best": best}


def losses_of(masker: Masker, image: ViewedImage, threshold: float) -> ImageLosses:
    """Return the loss of an image, masked and unmasked.

    Raises:
        InvalidArgumentError: the image is not measurable.
    """
    if image.in_memory:
        masked = loss_of(masker, image)
        unmasked = float(unmasked_loss(masker.loss, image.item.batch)[0])
    else:
        masked, unmasked = _measure_by_blocks(masker, image)
    return ImageLosses(masked, unmasked, met=bool(meets_threshold(np.array([masked]), threshold)[0]))


def loss_of(masker: Masker, image: ViewedImage) -> float:
    """Return the loss of an image under its mask.

    Raises:
        InvalidArgumentError: the image is not measurable.
    """
    if not image.in_memory:
        return _measure_by_blocks(masker, image)[0]
    return float(loss_under(masker.loss, masker.open(image.item), image.item.batch)[0])


def _exponent(masker: Masker) -> float | None:
    """Return p if the loss of an image, or of its region, is summed over blocks; else None."""
    return exponent_by_blocks(masker.loss.in_regions(False))


def _measure_by_blocks(masker: Masker, image: ViewedImage) -> tuple[float, float]:
    exponent = _exponent(masker)
    if exponent is None:
        raise InvalidArgumentError(
            "the loss of an image that is too large for memory is computed for lp distances only"
        )
    y, y_hat, region = image.sources["truth"], image.sources["output"], image.sources.get("region")
    masked = unmasked = values = 0.0
    for window, mask in masks_of(masker.family, image, level_of(masker, image)[1]):
        error = np.abs(y.read(add_depth(window)).astype(np.float64) - y_hat.read(add_depth(window)))
        inside = np.ones_like(error) if region is None else region.read(add_depth(window))
        masked += float((inside * (error * mask.cpu().numpy()) ** exponent).sum())
        unmasked += float((inside * error**exponent).sum())
        values += len(error) * float(inside[:1].sum(dtype=np.float64))
    return masked / values, unmasked / values
