"""What a score owes; your own function as a scorer; and steps: smoothed, without specks, and tile by tile.

Masks without specks: connected parts, shown or hidden, have at least a number of pixels. The area closing
raises every basin of the score that has too few pixels to the level at which it has enough, so that no
smaller part is ever shown; the area opening of that lowers every peak in the same way. It removes hidden
parts whole, and each touches a part that is shown: shown parts only grow, and both kinds are large enough at
every lambda. (With one kind of neighbours for both, one pass of each is enough.) Vincent 1993, "Grayscale
area openings and closings"; by union-find as in Meijster and Wilkinson 2002 (TPAMI 24(4)).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import chain, pairwise, product
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d, avg_pool2d, avg_pool3d, pad

from conformask.arrays import NO_LAYERS, Array, Batch, Images, Score, full_precision, window_index
from conformask.background import Tell
from conformask.errors import ImageError, InvalidArgumentError, MismatchError, expect
from conformask.images.formats import Places
from conformask.losses.base import Loss
from conformask.losses.window import sides_of
from conformask.masks.kernels import compiled
from conformask.records.fingerprints import fingerprint_of, name_of
from conformask.records.reading import Network, Size, ends
from conformask.records.record import BESIDE, Json, claim, write_json
from conformask.records.selection import Selection
from conformask.scores.networks import SliceWise, mean_of


class Scorer(ABC):
    """Scores the distrust in each pixel of y_hat from (x, y_hat), in float32, without seeing y.

    A scorer of your own needs a name, channels and `__call__`.
    """

    channels: int
    """Number of channels of the y_hat that it takes."""
    cue_channels: int = 0
    """Number of maps beside y_hat that it takes, as `__call__(x, y_hat, cues)`; 0 for none."""
    by_value: bool = False
    """True if only the order of its values counts, over all images: they are no estimates of errors."""
    network: nn.Module | None = None
    """The network behind `score_map`, whose weights an exported graph holds; None where there is none."""
    loss: Loss | None = None
    """The loss that the scorer was fitted for; None if it was fitted for none."""
    per_channel: bool = False
    """True if the score has the channels of y_hat."""
    family: str = "reciprocal"
    """The name of the family of grey masks that suits the scorer."""
    sizes: tuple[Size, ...] | None = None
    """Sizes of the images that it was trained on; None if it was trained on none."""
    tiles: tuple[int | Size, int | Size] | None = None
    """Tile and overlap by which it scores large images; None where it scores each image in one pass."""
    patches: int | None = None
    """The least number of pixels of a connected part of its masks; None where parts have any size."""
    trained_on: frozenset[str] = frozenset()
    """Hashes of pixels and groups of the images that it, or the predictor, was trained or selected on."""
    perceptual_hashes: Array | None = None
    """Perceptual hashes of the images that it was trained on, (n, w, b) uint8; None if on none."""
    about: Network | None = None
    """The network that made the y_hat of its training images; None where unknown, or without training."""
    selection: Selection | None = None
    """The record of the selection images."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The scorer's name."""

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers that `__call__` takes after x and y_hat: cues, where it takes any."""
        return ("cues",) if self.cue_channels else ()

    @property
    def x_channels(self) -> int:
        """Number of channels of the x that it takes; those of y_hat unless stated."""
        return self.channels

    @property
    def without_level(self) -> "Scorer":
        """The scorer whose score a level divides; the scorer itself where all images have one lambda."""
        return self

    @property
    def fingerprint(self) -> str:
        """A hash that changes whenever the scores do; of the class and its attributes unless stated."""
        return fingerprint_of(self)

    @abstractmethod
    def __call__(self, x: Images, y_hat: Images) -> Score:
        """Compute the score of each image."""

    def score_map(self, x: Images, y_hat: Images, *layers: Tensor) -> Images:
        """Compute the score map alone, in operations that an exporter can trace."""
        return called(self, x, y_hat, *layers).map

    def shown_text(self, lam: float) -> str | None:
        """Return which values of a map masks show at this lambda; None where the score is no map."""
        return None

    def in_map(self, scores: Array) -> Array:
        """Return scores as values of the map that they are read from; as they are where there is none."""
        return scores

    def save(self, folder: Path) -> None:
        """Write scorer.json to a run folder; the scorer itself must be passed again: load(..., scorer=)."""
        write_record(self, folder, {"heuristic": True})


def write_record(scorer: Scorer, folder: Path, stated: Mapping[str, Json]) -> None:
    """Write the record of the selection images, and scorer.json with what is `stated` of a scorer."""
    claim(folder / "scorer.json", {"finished": False}, BESIDE["scorer.json"])
    if scorer.selection is not None:
        scorer.selection.save(folder)
    record = {"scorer": scorer.name, **stated, "fingerprint": scorer.fingerprint}
    write_json(folder / "scorer.json", record)


def of(path: str) -> Any:
    """Make a property that returns an attribute of a field, such as `card.channels`."""
    return property(attrgetter(path), doc=f"The attribute `{path}`.")


@dataclass(frozen=True)
class WrappedScorer(Scorer):
    """A scorer that passes on what an object with the members of a scorer states about itself."""

    scorer: Scorer
    name = of("scorer.name")
    loss = of("scorer.loss")
    channels = of("scorer.channels")
    per_channel = of("scorer.per_channel")
    family = of("scorer.family")
    sizes = of("scorer.sizes")
    trained_on = of("scorer.trained_on")
    perceptual_hashes = of("scorer.perceptual_hashes")
    about = of("scorer.about")
    selection = of("scorer.selection")
    fingerprint = of("scorer.fingerprint")

    def __call__(self, x: Images, y_hat: Images, *layers: Tensor) -> Score:
        """Return the score that the scorer computes."""
        return called(self.scorer, x, y_hat, *layers)

    def save(self, folder: Path) -> None:
        """Write the scorer itself to a run folder."""
        self.scorer.save(folder)


@dataclass(frozen=True)
class Step(WrappedScorer):
    """A step on the score of a scorer: what it does not change is the scorer's."""

    layers = of("scorer.layers")
    cue_channels = of("scorer.cue_channels")
    by_value = of("scorer.by_value")
    network = of("scorer.network")
    x_channels = of("scorer.x_channels")
    tiles = of("scorer.tiles")
    patches = of("scorer.patches")


def called(scorer: Callable[..., Score], x: Images, y_hat: Images, *layers: Tensor) -> Score:
    """Call a scorer with the layers that it takes; one of a user's own need not be made to take any."""
    return scorer(x, y_hat, *layers)


MAPS = {"cues": "maps"}
"""What messages call a layer that is not called by its name."""


def score_of_batch(scorer: Scorer, batch: Batch) -> Score:
    """Compute the score of a batch, see score_of."""
    return score_of(scorer, batch.x, batch.y_hat, batch.names, batch.layers)


def score_of(
    scorer: Scorer,
    x: Images,
    y_hat: Images,
    names: Sequence[str] = ("the images",),
    layers: Mapping[str, Tensor] = NO_LAYERS,
) -> Score:
    """Compute the score in full float32 precision, and check it: an invalid score could open masks."""
    taken = _taken(scorer, layers, y_hat, names[0])
    with torch.no_grad(), full_precision(y_hat):
        score = called(scorer, x, y_hat, *taken)
    shape, expected = tuple(score.map.shape), tuple(y_hat.shape)
    if shape not in (expected, (expected[0], 1, *expected[2:])):
        raise ImageError(
            f"the score of {names[0]!r} has shape {shape}, but y_hat has {expected}: return the same size, "
            "with one channel or as many as y_hat"
        )
    usable = ((score.map >= 0) & score.map.isfinite()).flatten(1).all(dim=1)
    if score.features is not None:
        usable = usable & score.features.isfinite().all(dim=1)
    if not bool(usable.all()):
        first = int(usable.int().argmin())
        raise ImageError(
            f"the score of {names[min(first, len(names) - 1)]!r} is negative, NaN or infinite: scores must "
            "be finite and at least 0"
        )
    return score


def _taken(scorer: Scorer, layers: Mapping[str, Tensor], y_hat: Images, name: str) -> list[Tensor]:
    """Return the layers that the scorer takes, once checked."""
    taken = []
    for layer in scorer.layers:
        if layer not in layers:
            raise MismatchError(
                f"{name!r} comes without the {MAPS.get(layer, layer)} that its score needs: give them as in "
                f"the calibration, {layer}= (Python) or the folder of --score-from, --cues or --objects "
                "(command line)"
            )
        shape = tuple(layers[layer].shape)
        channels = scorer.cue_channels if layer == "cues" else shape[1]
        if shape != (expected := (len(y_hat), channels, *y_hat.shape[2:])):
            raise MismatchError(
                f"the {MAPS.get(layer, layer)} of {name!r} have shape {shape}, but the score is read from "
                f"{expected}"
            )
        taken.append(layers[layer])
    return taken


def as_scorer(scorer: Scorer) -> Scorer:
    """Return the scorer, wrapped if its class does not inherit from Scorer but only has the members.

    A level, which was fitted for one calibration, is left out.
    """
    return scorer.without_level if isinstance(scorer, Scorer) else WrappedScorer(scorer)


@dataclass(frozen=True)
class Heuristic(Scorer):
    """A scorer from a callable (x, y_hat) -> map >= 0 of shape (N, 1 or C, *space); fitted for no loss.

    Examples:
        >>> import conformask as cm
        >>> cm.Heuristic(lambda x, y_hat: (x - y_hat).abs(), channels=1).family
        'reciprocal'
    """

    function: Callable[[Tensor, Tensor], Tensor]
    channels: int
    per_channel: bool = False
    family: str = "reciprocal"
    selection: Selection | None = None
    trained_on: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The callable's own name."""
        return name_of(self.function)

    @property
    def fingerprint(self) -> str:
        """A hash of the callable's code."""
        return fingerprint_of(self.function)

    def __call__(self, x: Images, y_hat: Images) -> Score:
        """Return the callable's map as a score."""
        score = self.function(x, y_hat)
        expect(score, Tensor, f"what {self.name!r} returns", "a tensor of shape (N, 1 or C, H, W)")
        return Score(score)


@dataclass(frozen=True)
class Patches(Step):
    """A scorer whose masks consist, in each channel, of connected parts of at least `area` pixels.

    Pixels are connected along sides. The masks of any nested family remain nested, and the parts of an image
    with fewer pixels are the whole image.
    """

    area: int
    patches = of("area")

    @property
    def fingerprint(self) -> str:
        """The scorer's fingerprint, followed by the area."""
        return f"{self.scorer.fingerprint}-patches-{self.area}"

    @property
    def selection(self) -> Selection | None:  # type: ignore[override]
        """The record of the selection images, without what is known of masks of parts of any size."""
        kept = self.scorer.selection
        return None if kept is None else replace(kept, curves={}, comparison=None)

    def __call__(self, x: Images, y_hat: Images, *layers: Tensor) -> Score:
        """Compute the score of each image without small basins and peaks."""
        score = called(self.scorer, x, y_hat, *layers)
        if not bool(((score.map >= 0) & score.map.isfinite()).all()):
            return score  # refused by score_of, which knows the name of the image
        filtered = score.map.detach().float().cpu().numpy().copy()
        remove_specks(self, filtered)
        return replace(score, map=torch.from_numpy(filtered).to(score.map.device))


def in_patches(scorer: Scorer, area: int | None) -> Scorer:
    """Return the scorer with masks of connected parts of at least this many pixels; itself for None."""
    return scorer if area is None or area == scorer.patches else Patches(scorer, area)


def remove_specks(scorer: Scorer, score: Array) -> None:
    """Remove small basins and peaks of scores, (N, C, *space) float32, in place, if its masks have none."""
    if scorer.patches is None:
        return
    shape = np.array(score.shape[2:])
    for image in score.reshape(-1, int(shape.prod())):
        image[:] = _closed(image, np.argsort(image), shape, scorer.patches)
        image[:] = -_closed(-image, np.argsort(-image), shape, scorer.patches)


@compiled
def _closed(values: Array, order: Array, shape: Array, area: int) -> Array:
    """Return the area closing of an image, flat: basins with fewer pixels are filled up.

    `order` sorts the values. Each pixel becomes the root of the basins beside it that are too small; each
    pixel of a basin takes the value of its root.
    """
    parent, count = np.full(values.size, -1, np.int64), np.zeros(values.size, np.int64)
    for pixel in order:
        parent[pixel], count[pixel] = pixel, 1
        stride = values.size
        for side in shape:
            stride //= side
            place = pixel // stride % side
            for inside, beside in ((place > 0, pixel - stride), (place + 1 < side, pixel + stride)):
                if not inside or parent[beside] < 0:
                    continue
                root = beside
                while parent[root] != root:
                    parent[root] = parent[parent[root]]
                    root = parent[root]
                if root == pixel:
                    continue
                if count[root] < area:
                    parent[root] = pixel
                    count[pixel] += count[root]
                else:
                    count[pixel] = max(count[pixel], area)
    closed = values.copy()
    for pixel in order[::-1]:
        closed[pixel] = closed[parent[pixel]]
    return closed


TILE, OVERLAP = 1024, 64
"""Tile and overlap of planes, in pixels along each axis."""
DEEP_TILE, DEEP_OVERLAP = 128, 32
"""Tile and overlap of volumes, in pixels along each axis."""
SLICES_TILE, SLICES_OVERLAP = (64, 1024, 1024), (4, 64, 64)
"""Tile and overlap of volumes that are scored slice by slice, in pixels."""
GRAIN = 32
"""Tiles start at multiples of this many pixels, so that networks that halve their input see the same grid."""
Factors = tuple[int, ...]
"""Ratios of y_hat's size to x's, along each axis."""


@dataclass(frozen=True)
class TileSpan:
    """The position of a tile along one side, and the weight of each of its pixels."""

    start: int
    stop: int
    weight: Array
    """Weights, (stop - start,) float32; over all tiles the weights of a pixel sum to 1."""


@dataclass(frozen=True)
class Tile:
    """A tile: its span along each axis."""

    spans: tuple[TileSpan, ...]

    @property
    def places(self) -> Places:
        """The position of the tile, as slices."""
        return tuple(slice(span.start, span.stop) for span in self.spans)

    @property
    def weight(self) -> Array:
        """The weight of each pixel of the tile, (*space) float32."""
        weight: Array = reduce(np.multiply.outer, (span.weight for span in self.spans))
        return weight


@dataclass(frozen=True)
class Tiled(Step):
    """A scorer of images of any size: one pass where a tile holds the image, else blended tiles.

    Neighbouring tiles share at least `overlap` pixels. Their scores are blended by raised cosines over half
    the overlap; the outermost quarter, where a network sees the end of the tile instead of the image, does
    not count. A network that looks at most a quarter of the overlap far gives the scores of one pass, to
    1e-5; others differ by what they would see further away (benchmarks/README.md). A score that depends on
    the whole image at once has no meaning by tiles.

    Tile and overlap are one number for all axes, or one per axis. If a network sees a volume slice by slice,
    those along the first axis may be any number.

    Raises:
        InvalidArgumentError: the scorer is not one for certain images; tile or overlap is not a multiple of
            32, or the overlap above a quarter of the tile.

    Examples:
        >>> import conformask as cm
        >>> cm.Tiled(cm.Heuristic(cm.residual, channels=1)).tiles
        (1024, 64)
    """

    tile: int | Size = TILE
    overlap: int | Size = OVERLAP
    tell: Tell | None = field(default=None, compare=False, repr=False)
    """Receives the number of tiles that are scored, and of all, where there are several."""
    sizes = None
    """None: images of any size are accepted."""

    def __post_init__(self) -> None:
        if not callable(self.scorer):
            raise InvalidArgumentError(
                f"scorer is a {type(self.scorer).__name__}, which takes any images; make one for your "
                "images first, Tiled(packaged_scorer().of(TRIPLETS))"
            )
        object.__setattr__(self, "scorer", as_scorer(self.scorer))
        dimensions = next((len(each) for each in self.tiles if isinstance(each, tuple)), 1)
        usable = (
            tile % grain == 0 and overlap % grain == 0 and 0 < 4 * overlap <= tile
            for tile, overlap, grain in zip(*self._along(dimensions), strict=True)
        )
        if not all(usable):
            raise InvalidArgumentError(
                f"tile {self.tile} and overlap {self.overlap} must be multiples of {GRAIN} pixels, and the "
                f"overlap at most a quarter of the tile, such as {TILE} and {OVERLAP}"
            )

    @property
    def tiles(self) -> tuple[int | Size, int | Size]:  # type: ignore[override]
        """Tile and overlap, as the card of a masker keeps them."""
        return self.tile, self.overlap

    @property
    def fingerprint(self) -> str:
        """The scorer's fingerprint, followed by the tiles."""
        return f"{self.scorer.fingerprint}-{self.tile}-{self.overlap}"

    def __call__(self, x: Images, y_hat: Images, *layers: Tensor) -> Score:
        """Compute the score of each image.

        Raises:
            MismatchError: x is larger than y_hat, or not a whole number of times smaller, where one tile
                does not hold the image; or the score comes with features of an image.
        """
        size = tuple(y_hat.shape[2:])
        factors = self.factors(tuple(x.shape[2:]), size)
        if self.holds(size):
            return called(self.scorer, x, y_hat, *layers)

        whole: Tensor | None = None
        windows = self.windows(size, factors)
        for done, window in enumerate(windows):
            if self.tell is not None:
                self.tell(done, len(windows))
            x_part, places = x[window_index(reduced(window.places, factors))], window_index(window.places)
            beside = {name: layer[places] for name, layer in zip(self.layers, layers, strict=True)}
            part = self.part(window, x_part, y_hat[places], layers=beside)
            whole = part.new_zeros((*part.shape[:2], *size)) if whole is None else whole
            whole[window_index(window.places)] += part
        assert whole is not None
        return Score(whole)

    def windows(self, size: Size, factors: Factors | None = None) -> list[Tile]:
        """Return the tiles of an image of this size, row by row, aligned to multiples of the factors."""
        return [Tile(spans) for spans in product(*self.spans(size, factors))]

    def part(
        self,
        window: Tile,
        x: Images,
        y_hat: Images,
        name: str = "the images",
        layers: Mapping[str, Tensor] = NO_LAYERS,
    ) -> Images:
        """Compute the weighted score of a tile; the sum of all tiles in their places is the score.

        Args:
            window: the position of the tile.
            x: the part of x in the window.
            y_hat: the part of y_hat in the window.
            name: the name of the image, for errors.
            layers: the parts in the window of the layers that the scorer takes.

        Raises:
            MismatchError: the score comes with features, which tiles do not have.
            ImageError: the score has NaN or negative values, or another size than y_hat.
        """
        score = score_of(self.scorer, x, y_hat, (name,), layers)
        if score.features is not None:
            raise MismatchError(
                f"scorer {self.name!r} returns features of images, which tiles do not have: drop them"
            )
        return score.map * torch.from_numpy(window.weight).to(score.map.device)

    def factors(self, x_size: Size, size: Size) -> Factors:
        """Return how many times smaller x is than y_hat along each axis; 1 where one tile holds the image.

        Raises:
            MismatchError: x is larger, or not a whole number of times smaller.
        """
        if self.holds(size):
            return (1,) * len(size)
        factors = tuple(side // of_x for side, of_x in zip(size, x_size, strict=True))
        if tuple(factor * side for factor, side in zip(factors, x_size, strict=True)) != size:
            raise MismatchError(
                f"x of {' x '.join(map(str, x_size))} and y_hat of {' x '.join(map(str, size))} pixels: by "
                "tiles, y_hat must be as large as x or a whole number of times as large along each side; "
                "resize x to y_hat's size"
            )
        tiles, _, grains = self._along(len(size))
        usable = (
            4 * math.lcm(grain, by) <= tile for grain, by, tile in zip(grains, factors, tiles, strict=True)
        )
        if not all(usable):
            raise MismatchError(
                f"x is {max(factors)} times smaller than y_hat, too much for tiles of {self.tile}: resize x "
                "to y_hat's size"
            )
        return factors

    def holds(self, size: Size) -> bool:
        """Return whether one tile holds an image of this size."""
        return all(side <= tile for side, tile in zip(size, self._along(len(size))[0], strict=True))

    def holding(self, sizes: Iterable[Size]) -> "Tiled":
        """Return this scorer with tiles that hold images of these sizes, each in one pass."""
        _, longest = ends(tuple(sizes))
        tile, overlap, grains = self._along(len(longest))
        sides = zip(tile, longest, grains, strict=True)
        larger = tuple(max(old, -(-side // grain) * grain) for old, side, grain in sides)
        return self if larger == tile else replace(self, tile=larger, overlap=overlap)

    def spans(self, size: Size, factors: Factors | None = None) -> list[list[TileSpan]]:
        """Return the tiles along each side, aligned to multiples of the factors."""
        factors = factors or (1,) * len(size)
        return [spans(*along) for along in zip(size, *self._along(len(size)), factors, strict=True)]

    def _along(self, dimensions: int) -> tuple[Size, Size, Size]:
        """Return tile, overlap and the unit of which both are multiples, along each axis."""
        tile, overlap = ((each,) * dimensions if isinstance(each, int) else each for each in self.tiles)
        if not len(tile) == len(overlap) == dimensions:
            raise MismatchError(
                f"tiles of {tile} that overlap by {overlap} do not fit images with {dimensions} axes"
            )
        first = 1 if dimensions == 3 and _by_slices(self.scorer) else GRAIN
        return tile, overlap, (first, *[GRAIN] * (dimensions - 1))


def tiled(scorer: Scorer, dimensions: int) -> Tiled:
    """Return the scorer with the tiles that suit planes (2) or volumes (3)."""
    for_planes = Tiled(scorer)
    if dimensions == 2:
        return for_planes
    by_slices = _by_slices(for_planes.scorer)
    return Tiled(scorer, *((SLICES_TILE, SLICES_OVERLAP) if by_slices else (DEEP_TILE, DEEP_OVERLAP)))


def _by_slices(scorer: Scorer) -> bool:
    return isinstance(scorer.network, SliceWise)


def spans(length: int, tile: int, overlap: int, grain: int = GRAIN, factor: int = 1) -> list[TileSpan]:
    """Return the fewest tiles along a side, equally long but for the last; starts are multiples of the grain.

    They also start and end at multiples of the factor, and share at least the overlap.
    """
    if length <= tile:
        return [TileSpan(0, length, np.ones(length, np.float32))]
    grain = math.lcm(grain, factor)
    overlap = -(-overlap // grain) * grain
    longest_step = (tile - overlap) // grain * grain
    fewest = math.ceil((length - overlap) / longest_step)
    step = math.ceil((length - overlap) / fewest / grain) * grain
    starts = range(0, length - overlap, step)
    ends = [min(start + step + overlap, length) for start in starts]
    ramps = []  # raised cosines from 0 to 1
    for start, end in zip(starts[1:], ends[:-1], strict=True):
        place = ((np.arange(length) + 0.5 - (start + end) // 2) / (overlap // 2)).clip(-0.5, 0.5)
        ramps.append((0.5 + 0.5 * np.sin(np.pi * place)).astype(np.float32))
    steps = [np.ones(length, np.float32), *ramps, np.zeros(length, np.float32)]
    weights = [up - down for up, down in pairwise(steps)]
    return [TileSpan(s, e, w[s:e]) for s, e, w in zip(starts, ends, weights, strict=True)]


def reduced(places: Places, factors: Factors) -> Places:
    """Return the position of a window in an image that is smaller by these factors."""
    sides = zip(places, factors, strict=True)
    return tuple(slice(side.start // factor, side.stop // factor) for side, factor in sides)


POOL = {3: avg_pool1d, 4: avg_pool2d, 5: avg_pool3d}
"""Pooling functions by the number of axes of a batch."""


@dataclass(frozen=True)
class Smoothed(Step):
    """A scorer whose score is averaged over the window around each pixel, cut off at the border.

    Where a score estimates the error of each pixel, this estimates its local mean.
    """

    side: int | tuple[int, ...]

    @property
    def fingerprint(self) -> str:
        """The scorer's fingerprint, followed by the window."""
        return f"{self.scorer.fingerprint}-around-{self.side}"

    def __call__(self, x: Images, y_hat: Images, *layers: Tensor) -> Score:
        """Compute the averaged score of each image."""
        score = called(self.scorer, x, y_hat, *layers)
        return replace(score, map=averaged(score.map, sides_of(self.side, y_hat.ndim - 2)))

    def score_map(self, x: Images, y_hat: Images, *layers: Tensor) -> Images:
        """Compute the averaged score map alone, in operations that an exporter can trace."""
        return averaged(self.scorer.score_map(x, y_hat, *layers), sides_of(self.side, y_hat.ndim - 2))


def averaged(score: Images, sides: tuple[int, ...]) -> Images:
    """Average over the window around each pixel, (N, C, *space), in operations that an exporter can trace.

    `losses.window.around` gives the same means within 2e-6, on the processor by running sums, whose time does
    not grow with the window: it takes a small part of the time for a window of 51 pixels.
    """

    def means(values: Tensor) -> Tensor:
        for axis, side in enumerate(sides):
            beyond = [(side // 2, (side - 1) // 2) if each == axis else (0, 0) for each in range(len(sides))]
            around, length = pad(values, list(chain(*reversed(beyond)))), values.shape[axis + 2]
            if values.device.type != "cpu" or torch.compiler.is_exporting():
                kernel = [side if each == axis else 1 for each in range(len(sides))]
                values = POOL[values.ndim](around, kernel, stride=1)
            else:  # the same sums in the same order, many times faster
                values = mean_of([around.narrow(axis + 2, at, length) for at in range(side)])
        return values

    return means(score) / means(torch.ones_like(score[:1, :1]))


def for_loss(scorer: Scorer, loss: Loss) -> Scorer:
    """Return the scorer as this loss uses it, such as averaged around pixels."""
    scorer, side = loss.extent.scorer(scorer), loss.traits.score_window
    if side is None:
        return scorer
    if isinstance(scorer, Tiled | Patches):
        return replace(scorer, scorer=for_loss(scorer.scorer, loss))
    return scorer if isinstance(scorer, Smoothed) and scorer.side == side else Smoothed(scorer, side)
