"""An image in the viewer: its planes, contrast and pictures, its score and its loss."""

import io
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from conformask.arrays import Array, Batch, window_index
from conformask.background import Tell
from conformask.errors import ImageError, InvalidArgumentError, MissingFileError
from conformask.images.formats import FLOAT32, DataRange, Header, Places, zeros_on_disk
from conformask.images.layers import check_not_empty
from conformask.images.pictures import (
    NARROWEST,
    Contrast,
    Point,
    View,
    as_bytes,
    first_contrast,
    gray,
    in_colors,
    map_ends,
    overlay,
    views_of,
)
from conformask.images.read import grid
from conformask.images.rows import OpenedTriplet
from conformask.images.triplets import Triplets
from conformask.masker.admission import Admission, NewImage
from conformask.masker.masker import Masker
from conformask.masker.whole import ScoredImage, WholeImage, add_depth, scored_in_memory
from conformask.masks.family import Family
from conformask.records.extent import REGION
from conformask.records.numbers import UNIT
from conformask.records.reading import CLEAN, Geometry, Reference, Size

if TYPE_CHECKING:
    from conformask.extras.objects.loss import LabelledObjects

T = TypeVar("T")


class ByteCache(Generic[T]):
    """Thread-safe cache of the last used values, up to a limit of bytes; the very last is always kept."""

    def __init__(self, most: int, weigh: Callable[[T], int]) -> None:
        self._most, self._weigh = most, weigh
        self._kept: OrderedDict[str, T] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def get(self, key: str) -> T | None:
        """Return the value under this key; None if there is none."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: str, value: T) -> T:
        """Keep a value, and drop those that were not used for longest."""
        with self._lock:
            if key in self._kept:
                self._bytes -= self._weigh(self._kept.pop(key))
            self._kept[key] = value
            self._bytes += self._weigh(value)
            while self._bytes > self._most and len(self._kept) > 1:
                self._bytes -= self._weigh(self._kept.popitem(last=False)[1])
        return value


def window_of(data_range: DataRange, ends: tuple[float, float]) -> tuple[float, float]:
    """Return the level and the width of a window, in units of the file, from its ends in [0, 1]."""
    low, high = data_range
    start, end = (low + (high - low) * share for share in ends)
    return (start + end) / 2, max(end - start, NARROWEST * (high - low))


@dataclass(frozen=True)
class CollectionImage:
    """An image of a collection, with its views and ranges."""

    triplets: Triplets
    index: int
    upload_header: Header | None = None
    """Header of the file of an upload's y_hat, whose pixels are in memory now; else None."""

    @cached_property
    def header(self) -> Header:
        """Header of y_hat."""
        return self.upload_header or self.triplets.header(self.index)

    @property
    def geometry(self) -> Geometry | None:
        """Geometry of y_hat; None where it is unknown."""
        return self.header.geometry

    @cached_property
    def views(self) -> tuple[View, ...]:
        """Planes in which the image is shown."""
        return views_of(self.header.space, self.geometry)

    @property
    def steps(self) -> tuple[float, ...]:
        """Spacing along z, y and x, all 1 where it is unknown."""
        return (1.0, 1.0, 1.0) if self.geometry is None else (1.0, *self.geometry.spacing)[-3:]

    @cached_property
    def data_range(self) -> DataRange:
        """Values of y_hat that became 0 and 1."""
        reading = self.triplets.settled(self.index)
        return reading.stated_range or self.header.data_range or UNIT

    def contrast(self, image: "ViewedImage") -> Contrast:
        """Return the window that its pictures are first shown in."""
        return first_contrast(self.data_range, image.output_values.most)

    @property
    def known(self) -> NewImage:
        """What is known of it before it is scored."""
        return NewImage.of(self.triplets, self.index, self.header)

    @property
    def x_range(self) -> DataRange:
        """Values of x that became 0 and 1."""
        header = self.triplets.header(self.index, "x")
        return self.triplets.settled(self.index).of("x").ends(header.data_range, header.bits) or UNIT


MOST_PIXELS = 4096**2
"""Most pixels sent at once: a larger plane is sent reduced, and in parts when zoomed in."""
REDUCED_SIDE = 2048
"""Longest side of a reduced plane, in pixels."""
STRIP = 2**22
"""Number of pixels that are read at once."""


@dataclass(frozen=True)
class PlaneSource:
    """Values of an image, read by windows."""

    size: Size
    """Size (D, H, W)."""
    read: Callable[[Places], Array]
    """Function that reads a window, float32 (C, D, H, W)."""
    thinned: bool = False
    """True if reduction takes the first of several pixels, as masks need, instead of their mean."""


@dataclass(frozen=True)
class Part:
    """A part of a plane as shown; step x step pixels become one."""

    top: int
    bottom: int
    left: int
    right: int
    step: int = 1


def reduction(view: View, size: Size) -> int:
    """Return the step at which a whole plane is sent."""
    rows, columns = view.sides(size)
    return 1 if rows * columns <= MOST_PIXELS else -(-max(rows, columns) // REDUCED_SIDE)


def check_part(view: View, size: Size, index: int, part: Part) -> None:
    """Raise for a plane or part that an image does not have, or that is too large to be sent."""
    if not 0 <= index < size[view.axis]:
        raise MissingFileError(
            f"there is no plane {index} along axis {view.axis}: the image has {size[view.axis]}"
        )
    rows, columns = view.sides(size)
    if not (0 <= part.top < part.bottom <= rows and 0 <= part.left < part.right <= columns and part.step > 0):
        raise MissingFileError(f"there is no such part of a plane of {rows} x {columns} pixels")
    if part.step > MOST_PIXELS:
        raise InvalidArgumentError(f"step {part.step}: give at most {MOST_PIXELS}")
    if (part.bottom - part.top) * (part.right - part.left) > MOST_PIXELS * part.step**2:
        raise InvalidArgumentError(f"at most {MOST_PIXELS} pixels are sent at once: ask for a larger step")


def plane(source: PlaneSource, size: Size, view: View, index: int, part: Part) -> Array:
    """Read a part of a plane as shown, (C, rows, columns), of an image that lies under one of this size.

    It reads strip by strip, so that a large plane is never in memory whole.
    """
    columns = part.left, part.right
    rows = max(1, STRIP // (part.right - part.left) // part.step) * part.step
    strips = []
    for top in range(part.top, part.bottom, rows):
        places = view.places(size, index, (top, min(top + rows, part.bottom)), columns)
        strips.append(_reduce(view.orient(_read_resampled(source, size, places)), part.step, source.thinned))
    return np.ascontiguousarray(np.concatenate(strips, axis=1))


def values_at(sources: Mapping[str, PlaneSource], size: Size, point: Point) -> dict[str, list[float]]:
    """Return the values of each source, channel by channel, at a pixel of an image of this size."""
    if not all(0 <= coordinate < side for coordinate, side in zip(point, size, strict=True)):
        z, y, x = point
        raise MissingFileError(f"there is no pixel x {x}, y {y}, z {z}: the image has {size} (D, H, W)")
    places = tuple(slice(coordinate, coordinate + 1) for coordinate in point)
    return {name: _read_resampled(source, size, places).ravel().tolist() for name, source in sources.items()}


def _read_resampled(source: PlaneSource, size: Size, places: Places) -> Array:
    """Read a window at this image size from a source of any size; each pixel is the nearest one."""
    if source.size == size:
        return source.read(places)
    sides = zip(places, source.size, size, strict=True)
    # pixel centres: (i + 1/2) / side of the shown image, times the side of the source, in integers
    nearest = [
        (2 * np.arange(window.start, window.stop) + 1) * source_side // (2 * side)
        for window, source_side, side in sides
    ]
    z, y, x = (slice(int(indices[0]), int(indices[-1]) + 1) for indices in nearest)
    values = source.read((z, y, x))
    for axis, indices in enumerate(nearest, start=1):
        values = values.take(indices - indices[0], axis)
    return values


def _reduce(values: Array, step: int, thinned: bool) -> Array:
    if step == 1 or thinned:
        return values[:, ::step, ::step]
    for axis, side in enumerate(values.shape[1:], start=1):
        starts = np.arange(0, side, step)
        counts = np.diff(starts, append=side).astype(np.float32)
        sums = np.add.reduceat(values, starts, axis=axis)
        values = sums / (counts[:, None] if axis == 1 else counts)
    return values


MOST_DECODED = 9 * FLOAT32 * 4096**2
"""Most bytes of x, y_hat and y as float32 held in memory; larger images are read where they are shown."""
SAMPLED_BLOCKS, SAMPLED = 64, 2**24
"""Samples for distributions of values: most blocks that are read, and most of their pixels."""
ERROR_QUANTILE = 0.995
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
        item = self.item
        tensors = (item.x, item.y_hat, item.y, *item.layers.values(), item.score.map)
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
        return OutputValues(np.histogram(values, BINS, (0, 1))[0].tolist(), map_ends(values))

    @cached_property
    def objects(self) -> "LabelledObjects | None":
        """Objects of y_hat, with `of_pixel` (D, H, W); None where no promise is about them."""
        if "labels" not in self.sources:
            return None
        from conformask.extras.objects.loss import LabelledObjects

        return LabelledObjects.of(self.sources["labels"].read(tuple(map(slice, self.deep)))[0])

    def _sampled(self, source: str) -> Array:
        """Return values of a source, evenly selected where there are many."""
        blocks = list(grid(self.size))
        blocks = blocks[:: -(-len(blocks) // SAMPLED_BLOCKS)]
        pixels = math.prod(place.stop - place.start for place in blocks[0])
        step = 1 + len(blocks) * pixels // SAMPLED
        read = self.sources[source].read
        return np.concatenate([read(add_depth(block)).ravel()[::step] for block in blocks])


def open_image(masker: Masker, image: CollectionImage, report: Tell) -> ViewedImage:
    """Score an image as `conformask mask` would: large ones by tiles, `report` is called for each."""
    triplets, index = image.triplets, image.index
    admission = masker.admit(image.known)
    one = triplets.select([index])
    x, y_hat = (triplets.raster(index, role).header.values for role in ("x", "y_hat"))
    if FLOAT32 * (x + y_hat * (2 if one.has_truth else 1)) > MOST_DECODED:
        return _open_in_files(masker, one.opened(0), report)
    item = scored_in_memory(masker, one, report)
    return _open_in_memory(masker, item, masker.compared(item, admission), one.reference)


def _open_in_memory(masker: Masker, item: Batch, admission: Admission, reference: Reference) -> ViewedImage:
    loss, layers = masker.loss, dict(item.layers)
    if loss.extent != REGION:
        layers.pop("region", None)
    # a promise about regions, or objects, promises nothing for an image without them: nothing is measured
    known = all(name in layers for name in loss.extent.layers)
    item = replace(item, y=item.y if known else None, layers=layers)
    images = {
        "input": item.x, "output": item.y_hat, "score": item.score.map, "truth": item.y,
        "region": layers.get("region"), "map": layers.get("cues"), "labels": layers.get("labels"),
    }  # fmt: skip
    sources = {name: _tensor_source(image) for name, image in images.items() if image is not None}
    region = loss.extent.weights(item) if loss.extent.counts_objects else None
    if region is not None:  # hidden shares are those of the objects
        item = replace(item, layers=layers | {"region": region})
    size = tuple(item.y_hat.shape[2:])
    return ViewedImage(item, size, admission, _add_error(sources), True, reference)


def _tensor_source(images: Tensor) -> PlaneSource:
    """Return a source of windows of the one image of a batch."""
    (image,) = images.detach().cpu().numpy()
    deep = image.reshape(len(image), *(1, *image.shape[1:])[-3:])
    return PlaneSource(deep.shape[1:], lambda places: deep[:, *places])


def _open_in_files(masker: Masker, whole: OpenedTriplet, report: Tell) -> ViewedImage:
    """Score by tiles to a temporary file, whose pages the system may drop; keep the region in another."""
    y_hat, y = whole.y_hat, whole.y
    if y is not None and y.header.shape != y_hat.header.shape:
        raise ImageError(
            f"{y.name} has shape {y.header.shape}, but y_hat has {y_hat.header.shape}: they must agree"
        )
    region = _region(whole) if masker.card.loss.extent == REGION else None
    engine = WholeImage(masker, whole)
    values = zeros_on_disk(f"the score of {whole.name}", engine.shape)
    count = len(engine.windows)
    report(0, count)
    for done in engine.score_into(values):
        report(done, count)
    scored, score = engine.scored(values), torch.from_numpy(values)
    rasters = {"input": whole.x, "output": y_hat, "truth": y, "map": whole.layers.get("cues")}
    sources = {name: _window_source(each.size, each.read) for name, each in rasters.items() if each}
    layers = {} if region is None else {"region": region}
    sources |= {name: _tensor_source(tensor) for name, tensor in {"score": score, **layers}.items()}
    item = replace(scored.item, layers=layers)
    return ViewedImage(item, scored.size, scored.admission, _add_error(sources), False, CLEAN)


def _region(image: OpenedTriplet) -> Tensor | None:
    """Return the region of an image, (1, 1, *size), in a temporary file; None where it has none."""
    if "region" not in image.layers:
        return None
    layer = image.layers["region"]
    region = zeros_on_disk(layer.name, (1, 1, *layer.size))
    for window in grid(layer.size):
        region[window_index(window)] = layer.read(window)
    check_not_empty(region, layer.name)
    return torch.from_numpy(region)


def _window_source(size: Size, read: Callable[[Places], Array]) -> PlaneSource:
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


PICTURES = ("input", "output", "truth", "error", "map")
THUMBNAIL = 256
"""Longest side, in pixels; smaller images are enlarged, so that stripes are finer than their pixels."""
OUTSIDE, VEIL = 128, 0.8
"""Grey level over what is outside a region, and its opacity."""
QUALITY = 85
"""Quality of JPEG."""


def picture(values: Array, contrast: Contrast, colors: Array | None) -> Array:
    """Draw values (C, H, W) under a contrast window, uint8 (H, W) or (H, W, 3).

    Colours are (C, 3) in [0, 1]. They belong to the output's channels: an input with another number of
    channels is shown without them.
    """
    channel_colors = colors if colors is not None and len(colors) == len(values) else None
    return in_colors(contrast(values), channel_colors)


def outside_layer(region: Array) -> Array:
    """Return grey and alpha, uint8 (H, W, 2), opaque where a region (1, H, W) is 0."""
    opacity = as_bytes(1 - region)
    return np.stack([np.full_like(opacity, OUTSIDE), opacity], axis=-1)


def thumbnail(
    image: ViewedImage,
    family: Family,
    level: Tensor,
    view: View,
    index: int,
    steps: tuple[float, ...],
    contrast: Contrast,
) -> bytes:
    """Draw a plane of the output, hatched where hidden, grey outside its region, as a JPEG.

    Its longer side is THUMBNAIL; `steps` are along z, y and x.
    """
    rows, columns = view.sides(image.deep)
    part = Part(0, rows, 0, columns, reduction(view, image.deep))
    output, score = (
        plane(image.sources[name], image.deep, view, index, part) for name in ("output", "score")
    )
    output_pixels = in_colors(contrast(output))
    mask = family.apply(torch.from_numpy(score)[None], level.cpu())[0].numpy()
    if "region" in image.sources:
        region = plane(image.sources["region"], image.deep, view, index, part)
        mask = 1 - region * (1 - mask)
        veil = VEIL * (1 - region.reshape(*output.shape[1:], *[1] * (output_pixels.ndim - 2)))
        output_pixels = np.rint(output_pixels + veil * (OUTSIDE - output_pixels.astype(np.float32)))
        output_pixels = output_pixels.astype(np.uint8)
    height, width = rows * steps[view.down.axis], columns * steps[view.right.axis]
    sides = [max(1, round(side * THUMBNAIL / max(height, width))) for side in (width, height)]
    small_output, small_mask = (
        np.asarray(Image.fromarray(array).convert(mode).resize(sides, Image.Resampling.BOX))
        for array, mode in ((output_pixels, "RGB"), (gray(as_bytes(mask)), "L"))
    )
    buffer = io.BytesIO()
    # the hatch is drawn after shrinking, or its stripes would blur into a tint
    Image.fromarray(overlay(small_output, small_mask)).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def png(pixels: Array) -> bytes:
    """Encode a uint8 image, (H, W), (H, W, 2) or (H, W, 3), with little compression, as it stays local."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
