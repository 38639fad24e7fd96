"""Masks of images larger than a machine: dask arrays, which any of dask's schedulers computes."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from conformask.arrays import Array, Batch, Score, best_device, window_index
from conformask.errors import InvalidArgumentError, MismatchError, MissingFileError, expect
from conformask.extensions import pip_install
from conformask.images.formats import Header, Places, arranged, header_of
from conformask.images.layers import OpenedLayer
from conformask.images.read import Image, Raster, grid, in_own_range, to_unit
from conformask.images.rows import OpenedTriplet
from conformask.masker.admission import NewImage
from conformask.masker.masker import Masker
from conformask.masker.whole import IN_MEMORY, WholeImage, needs_pixels
from conformask.masks.family import Family, StreamingLevel, refuse_unrelated
from conformask.records.reading import PLAIN, Reading, size_text
from conformask.scores.level import Levelled, level_features
from conformask.scores.scorer import Tile, Tiled

if TYPE_CHECKING:
    import dask.array
    from dask.delayed import Delayed

SIDES = {2: 4096, 3: 256}
"""Side of a block of a plane and of a volume: a score of 64 MiB, which a scheduler can keep count of."""
FAN_IN = 16
"""Number of sums that one task adds up."""


def masked(
    masker: Masker,
    x: "dask.array.Array",
    y_hat: "dask.array.Array",
    *,
    weight: float | None = None,
    category: str | None = None,
    cues: "dask.array.Array | None" = None,
) -> "dask.array.Array":
    """Return the mask of one image as a dask array; nothing is read before it is computed.

    It equals the mask that `conformask mask` writes: the image is scored by the same tiles, one task each.
    The level needs the whole score; until it is known, workers keep the score, 4 bytes a pixel, or spill it.
    Where the promise needs more of an image, as adaptive and expected do, one task holds all of it at once.

    Args:
        masker: a calibrated masker.
        x: the degraded input, (H, W), (H, W, C) or of the axes of the calibration, read as its images were.
        y_hat: the network's output, with the same axes as x.
        weight: the weight of the image, if the rule needs it.
        category: the category of the image, if the rule needs it.
        cues: the maps beside y_hat, of its size and any range, where the score is read from them.

    Returns:
        (*space), or (*space, C) where the score has channels; float32 in [0, 1], in blocks of 4096 pixels
        per side, for volumes 256.

    Raises:
        MissingFileError: dask is not installed.
        MismatchError: your own family without streaming_level, other channels than those of the calibration,
            an x that tiles cannot follow, or a score that is read from maps that are missing.
        InvalidArgumentError: an image too large for what the promise has to know about it, or masks in
            connected parts of a least size.
        ImageError: axes or a type that no image has; when it is computed, values outside the range, or NaN.

    Examples:
        >>> import numpy as np
        >>> import conformask as cm
        >>> y = np.random.default_rng(0).random((30, 16, 16), dtype=np.float32)
        >>> images = cm.Triplets.from_arrays(y**2, y**1.5, y)
        >>> scorer = cm.Heuristic(cm.residual, channels=1)
        >>> masker = cm.calibrate(scorer, images, threshold=0.05, loss="l1")
        >>> import dask.array
        >>> x, y_hat = (dask.array.from_array(image) for image in (y[0]**2, y[0]**1.5))
        >>> cm.masked(masker, x, y_hat).compute().shape
        (16, 16)
    """
    try:
        from dask.array import block, from_delayed
        from dask.delayed import delayed
    except ImportError as error:
        raise MissingFileError(f"masked needs dask: {pip_install('dask')}") from error
    expect(masker, Masker, "masker", "what calibrate() or load() returned")
    if masker.scorer.cue_channels and cues is None:
        raise MismatchError("the score is read from maps beside y_hat: give them, cues=")
    reading = masker.card.reading
    for role, array in (("x", x), ("y_hat", y_hat)):
        masker.card.check_axes(role, array.shape)
    x, y_hat = _arrange("x", x, reading), _arrange("y_hat", y_hat, reading)
    maps = [] if cues is None or not masker.scorer.cue_channels else [_arrange("cues", cues, reading)]
    rasters = in_own_range(masker.card.read, _raster("x", x, masker), _raster("y_hat", y_hat, masker))
    layers = {"cues": OpenedLayer.of(_raster("cues", maps[0], masker))} if maps else {}
    known = {"category": category, "weight": weight}
    facts = {name: fact for name, fact in known.items() if fact is not None}
    image = OpenedTriplet("the image", rasters[0], rasters[1], None, layers, facts)
    masker.admit(NewImage.of_opened(image)).warn()
    if masker.card.patches is not None:
        raise InvalidArgumentError(
            f"masks in {masker.card.parts} need the whole score at once: mask the image in memory, masker(x, "
            "y_hat), or calibrate without --patches (patches=None)"
        )
    whole = WholeImage(masker, image)
    whole.check()
    has_level = isinstance(masker.scorer, Levelled)
    if has_level and math.prod(image.y_hat.size) > IN_MEMORY:
        raise InvalidArgumentError(
            f"y_hat has {size_text(image.y_hat.size)} pixels: its level is computed in memory, here for up "
            f"to {IN_MEMORY} pixels; use conformask mask, or calibrate with --level one (level='one')"
        )
    _, channels, *size = whole.shape
    scores = _scores(whole, x, y_hat, *maps)
    if has_level:
        level = delayed(partial(_image_level, masker, image))(x, y_hat, scores)
        scores = [delayed(np.divide)(score, level) for score in scores]
    initial = partial(_initial_level, masker, channels * math.prod(size))
    refuse_unrelated(masker.family)
    passes = masker.family.streaming_level(1.0, math.prod(size)).count
    if needs_pixels(masker):
        before = delayed(partial(_level_by_pixels, whole, initial))(x, y_hat, scores)
    else:
        before = delayed(initial(whole.facts(), torch.empty(1, 1, *size, device="meta")), traverse=False)
    level = _level(before, passes, scores)
    blocks = [
        from_delayed(
            delayed(partial(_mask_block, masker.family))(score, level),
            (channels, *_sides(places)),
            np.float32,
        )
        for score, places in zip(scores, _blocks(image), strict=True)
    ]
    mask = block(_nested(blocks, [-(-side // SIDES[len(size)]) for side in size]))
    return mask[0] if channels == 1 else mask.transpose(*range(1, mask.ndim), 0)


def _arrange(role: str, image: "dask.array.Array", reading: Reading) -> "dask.array.Array":
    """Return a view (*space, C)."""
    if reading.axes is not None:
        return arranged(image, reading.axes, role)
    header_of(image, role)
    return image if image.ndim == 3 else image[..., None]


def _raster(role: str, array: "dask.array.Array", masker: Masker) -> Raster:
    """Return a raster of an array (*space, C), whose windows are computed immediately."""
    header = header_of(array, role, "YXC" if array.ndim == 3 else "ZYXC")
    reading = PLAIN if role == "cues" else masker.card.reading_of(role, array.dtype)
    return Raster(role, header, reading, lambda places: np.asarray(array[places]))


def _scores(whole: WholeImage, x: "dask.array.Array", *over_y_hat: "dask.array.Array") -> list["Delayed"]:
    """Return the score of each block of the mask, (1 or C, *space): its overlapping tiles added in order.

    Arrays over y_hat are y_hat itself and, where the score is read from them, the maps beside it.
    """
    from dask.delayed import delayed

    image, windows = whole.image, whole.windows
    scorer = delayed(whole.scorer, traverse=False)
    decoders: list[Callable[[Array], Image]] = [
        partial(_to_unit, raster.header, raster.reading, raster.name) for raster in (image.x, image.y_hat)
    ]
    decoders += [_as_it_is] * (len(over_y_hat) - 1)
    tiles = [
        delayed(partial(_score_of_tile, window, decoders))(
            scorer, x[whole.under(window)], *(array[window.places] for array in over_y_hat)
        )
        for window in windows
    ]
    blocks, channels = [], whole.shape[1]
    for block in _blocks(image):
        overlapping = [
            index
            for index, window in enumerate(windows)
            if all(a.start < b.stop and b.start < a.stop for a, b in zip(window.places, block, strict=True))
        ]
        places = [windows[index].places for index in overlapping]
        parts = [tiles[index] for index in overlapping]
        blocks.append(delayed(partial(_score_of_block, channels, block, places))(parts))
    return blocks


def _score_of_tile(
    window: Tile, decoders: Sequence[Callable[[Array], Image]], scorer: Tiled, *arrays: Array
) -> Array:
    """Return the weighted score of a tile, (1 or C, *space), from x, y_hat and perhaps maps (*space, K)."""
    images = [decode(array) for decode, array in zip(decoders, arrays, strict=True)]
    x, y_hat, *cues = (torch.from_numpy(image)[None].to(best_device()) for image in images)
    part: Array = scorer.part(window, x, y_hat, layers={"cues": cues[0]} if cues else {})[0].cpu().numpy()
    return part


def _to_unit(header: Header, reading: Reading, name: str, array: Array) -> Image:
    """Convert a window (*space, C) to (C, *space) in [0, 1], with 0 for NaN where NaN is allowed."""
    unit: Image = np.nan_to_num(to_unit(array, header, reading, name))
    return unit


def _as_it_is(array: Array) -> Image:
    """Convert a window of maps (*space, K) to (K, *space), with the values that it holds."""
    return np.ascontiguousarray(np.moveaxis(array, -1, 0), np.float32)


def _score_of_block(channels: int, block: Places, tiles: Sequence[Places], parts: Sequence[Array]) -> Array:
    score = np.zeros((channels, *_sides(block)), np.float32)
    for tile, part in zip(tiles, parts, strict=True):
        sides = zip(tile, block, strict=True)
        common = tuple(slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in sides)
        # tiles are added in the order of one pass over the image: the sum has the same last bits
        source = part[window_index(_relative_places(common, tile))]
        score[window_index(_relative_places(common, block))] += source
    return score


def _initial_level(masker: Masker, pixels: int, facts: Batch, score: Tensor) -> StreamingLevel:
    """Return the level before the first pass, with the lambda of the image."""
    (lam,) = masker.lambdas(facts.with_score(Score(score)))
    return masker.family.streaming_level(float(lam), pixels)


def _level_by_pixels(
    whole: WholeImage,
    initial: Callable[[Batch, Tensor], StreamingLevel],
    x: Array,
    y_hat: Array,
    parts: Sequence[Array],
) -> StreamingLevel:
    """Return the level before the first pass for a rule that needs pixels; parts are the blocks' scores."""
    *images, score = _in_memory(whole.image, x, y_hat, parts)
    return initial(whole.facts((images[0], images[1])), score)


def _image_level(
    masker: Masker, image: OpenedTriplet, x: Array, y_hat: Array, parts: Sequence[Array]
) -> Array:
    """Return the level of an image, (1,); parts are the blocks' scores."""
    assert isinstance(masker.scorer, Levelled)
    return masker.scorer.model(level_features(*_in_memory(image, x, y_hat, parts))).numpy()


def _in_memory(image: OpenedTriplet, x: Array, y_hat: Array, parts: Sequence[Array]) -> list[Tensor]:
    """Return x, y_hat and score of an image, each (1, C, *space); parts are the blocks' scores."""
    score = np.empty((len(parts[0]), *image.y_hat.size), np.float32)
    for block, part in zip(_blocks(image), parts, strict=True):
        score[window_index(block)] = part
    pairs = (image.x, x), (image.y_hat, y_hat)
    images = [_to_unit(raster.header, raster.reading, raster.name, array) for raster, array in pairs]
    return [torch.from_numpy(each)[None] for each in (*images, score)]


def _level(before: "Delayed", passes: int, scores: Sequence["Delayed"]) -> "Delayed":
    """Return the level after the last pass; each maps all blocks and adds up their sums, FAN_IN at a time."""
    from dask.delayed import delayed

    level: Any = before
    for _ in range(passes):
        sums = [level.sums_of(score) for score in scores]
        while len(sums) > 1:
            add = delayed(partial(np.sum, axis=0))
            sums = [add(sums[start : start + FAN_IN]) for start in range(0, len(sums), FAN_IN)]
        level = level.after(sums[0])
    return level


def _mask_block(family: Family, score: Array, last: StreamingLevel) -> Array:
    """Return the mask of a block, (1 or C, *space)."""
    assert last.level is not None
    mask: Array = family.apply(torch.from_numpy(score)[None], torch.from_numpy(last.level)[None])[0].numpy()
    return mask


def _blocks(image: OpenedTriplet) -> Iterator[Places]:
    size = image.y_hat.size
    return grid(size, SIDES[len(size)])


def _sides(places: Places) -> tuple[int, ...]:
    return tuple(side.stop - side.start for side in places)


def _relative_places(places: Places, window: Places) -> Places:
    """Return the places, counted from the start of a window."""
    sides = zip(places, window, strict=True)
    return tuple(slice(side.start - origin.start, side.stop - origin.start) for side, origin in sides)


def _nested(blocks: Sequence[Any], counts: Sequence[int]) -> Any:
    """Nest blocks, in the order of `grid`, as lists in lists, one level for each axis."""
    if not counts:
        return blocks[0]
    step = len(blocks) // counts[0]
    return [_nested(blocks[start : start + step], counts[1:]) for start in range(0, len(blocks), step)]
