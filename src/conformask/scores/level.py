"""A level for each image: a factor on lambda that is predicted from the image and its score.

One lambda for all images hides as much of easy ones as hard ones need. Let G > 0 be any function of an image
that is fixed before a calibration image is looked at. The score divided by G is a score like any other, so
every promise about one lambda holds for it, by the same theorems. Where masks show what is below lambda, the
lambda of an image is then G times that of all; in other families it is multiplied by a power of G.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from conformask.arrays import Batch, Images, PerImage, Score, image_means, per_image, resized, window_index
from conformask.images.formats import Places
from conformask.losses.base import Loss
from conformask.masks.critical import concentrated, start_of
from conformask.masks.family import Family
from conformask.masks.kernels import compiled
from conformask.promises.kernel_ridge import KernelRidge, fitted
from conformask.promises.order import Curves, between_grid_points
from conformask.promises.promise import Promise
from conformask.records.names import Level
from conformask.records.reading import Size
from conformask.records.record import Array, hash_of_arrays
from conformask.records.selection import Selection
from conformask.scores.networks import FAINT, averaged, channel_mean, compared, cues
from conformask.scores.scorer import Scorer, Step, called

SIDES = (3, 7, 15)
"""Sides of the windows, in pixels, that separate details of one pixel, of a few and of many."""
WIDE = 13
"""Side of the window in which details of one pixel are averaged."""
HALO, BLOCK = 16, 1024
"""Pixels around a block that its maps depend on, at most; longest side of a block."""
FLOOR, TINY = 1e-3, 1e-12
"""Added to a score before its logarithm: a share of its mean over the image, and what keeps it above 0."""
STEPS = 2**16
"""Levels are rounded to exp(k / STEPS), so that they do not depend on the order of sums."""
Features = Float[Tensor, "n f"]


@dataclass(frozen=True)
class LevelModel:
    """A regression of the logarithms of critical lambdas on features of images."""

    ridge: KernelRidge
    held_out: Float[np.ndarray, "n"]
    """Logarithms of the levels of the selection images, each predicted without the images of its group."""

    def __call__(self, features: Features) -> PerImage:
        """Return the level of each image, in operations that an exporter can trace; about 1 where typical."""
        vectors = self.ridge.centre, self.ridge.scale, self.ridge.points, self.ridge.weights
        centre, scale, points, weights = (torch.from_numpy(each).to(features) for each in vectors)
        squares = (((features - centre) / scale)[:, None] - points).square().mean(dim=2)
        logs = (torch.exp(-self.ridge.width / 2 * squares) * weights).sum(dim=1)
        return ((logs * STEPS).round() / STEPS).exp().float()

    def arrays(self) -> dict[str, Array]:
        """Return the model as named arrays."""
        return {"held_out": self.held_out} | {
            name: np.asarray(each) for name, each in vars(self.ridge).items()
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> "LevelModel":
        """Read the arrays that arrays() returned."""
        vectors = {name: arrays[name] for name in ("centre", "scale", "points", "weights")}
        return cls(KernelRidge(**vectors, width=float(arrays["width"])), arrays["held_out"])


@dataclass(frozen=True)
class Levelled(Step):
    """A scorer whose score is divided by the level of each image."""

    model: LevelModel
    selection: Selection | None = None

    @property
    def without_level(self) -> Scorer:
        """The scorer whose score the level divides."""
        return self.scorer

    @property
    def fingerprint(self) -> str:
        """The scorer's fingerprint, followed by a hash of the model."""
        return f"{self.scorer.fingerprint}-level-{hash_of_arrays(self.model.arrays())[:16]}"

    def __call__(self, x: Images, y_hat: Images, *layers: Tensor) -> Score:
        """Compute the score of each image, divided by its level."""
        score = called(self.scorer, x, y_hat, *layers)
        levels = self.model(level_features(x, y_hat, score.map))
        return replace(score, map=score.map / per_image(levels, score.map))

    def score_map(self, x: Images, y_hat: Images, *layers: Tensor) -> Images:
        """Compute the score map alone, in operations that an exporter can trace."""
        score = self.scorer.score_map(x, y_hat, *layers)
        maps = level_maps(resized(x, y_hat), y_hat, score, floors_of(score))
        features = _features(_moments_in_graph(maps))
        return score / per_image(self.model(features), score)


def level_features(x: Images, y_hat: Images, score: Images) -> Features:
    """Return means and standard deviations of the level maps of each image, (N, 2 K) float64."""
    x, floors = resized(x, y_hat), floors_of(score)
    if y_hat[:, 0].numel() <= BLOCK**2:
        return _features(moments(level_maps(x, y_hat, score, floors)))
    rows = []
    for row in range(len(y_hat)):
        images = [each[row : row + 1] for each in (x, y_hat, score)]

        def read(around: Places, images: list[Images] = images) -> list[Images]:
            return [image[window_index(around)] for image in images]

        rows.append(features_by_blocks(tuple(y_hat.shape[2:]), read, floors[row : row + 1]))
    return torch.cat(rows)


def features_by_blocks(
    size: Size, read: Callable[[Places], list[Images]], floors: PerImage, factors: Size | None = None
) -> Features:
    """Return the features of one large image, block by block: those of `level_features`, up to rounding.

    Args:
        size: the size of y_hat.
        read: returns x, y_hat and score in a window, each (1, C, *window).
        floors: of the whole score, see `floors_of`.
        factors: how many times smaller x is than y_hat along each axis; windows are cut at its pixels.
    """
    total = torch.zeros(())
    for around, inner in _blocks(size, factors or (1,) * len(size)):
        x, y_hat, score = read(around)
        maps = [each[window_index(inner)] for each in level_maps(resized(x, y_hat), y_hat, score, floors)]
        total = total + moments(maps) * maps[0][0, 0].numel()
    return _features(total / math.prod(size))


def _blocks(size: Size, factors: Size) -> Iterator[tuple[Places, Places]]:
    """Yield for each block the window around it and its place in the window, cut at multiples of factors.

    Maps are computed plane by plane, so that only the last two axes have windows wider than the block.
    """
    planes = max(1, BLOCK**2 // math.prod(min(side, BLOCK) for side in size[-2:]))
    sides = (*[1] * (len(size) - 3), *([planes] if len(size) > 2 else []), *[BLOCK] * len(size[-2:]))
    halos = (*[0] * (len(size) - 2), *[HALO] * len(size[-2:]))
    for spans in product(*map(_spans, size, sides, halos, factors)):
        around, inner = zip(*spans, strict=True)
        yield around, inner


def _spans(length: int, side: int, halo: int, factor: int) -> list[tuple[slice, slice]]:
    side, halo = (-(-each // factor) * factor for each in (side, halo))
    spans = []
    for start in range(0, length, side):
        stop, first = min(start + side, length), max(start - halo, 0)
        spans.append((slice(first, min(stop + halo, length)), slice(start - first, stop - first)))
    return spans


def floors_of(score: Images) -> PerImage:
    """Return what is added to the score of each image before its logarithm."""
    return FLOOR * image_means(score, torch.float64).float() + TINY


def level_maps(x: Images, y_hat: Images, score: Images, floors: PerImage) -> list[Images]:
    """Compute maps whose means and deviations show how hard an image is, each (N, K, *space).

    They are logarithms of the score, of how steep and how fine x and y_hat are and of how far they are from
    each other, in windows of several sides; and y_hat itself. x has the size of y_hat.
    """
    pairs = compared(x, y_hat.shape[1]), y_hat, score.mean(dim=1, keepdim=True) + per_image(floors, score)
    x, y_hat, score = map(_planes, pairs)
    of_x, of_y_hat = (_coarser(channel_mean(images)) for images in (x, y_hat))
    difference = of_x[0] - of_y_hat[0]
    smooth = averaged(difference, SIDES[1])
    parts = [difference - smooth, smooth]
    for levels in (of_x, of_y_hat):
        parts += [fine - coarse for fine, coarse in pairwise(levels)]
        parts.append(averaged((levels[0] - levels[1]).abs(), WIDE))
    logarithms = [part.abs_().add_(FAINT).log_() for part in parts]  # in place: several times less memory
    maps = [cues(2 * x - 1, 2 * y_hat - 1), score.log(), *logarithms, of_y_hat[0]]
    if pairs[1].ndim == 4:
        return maps
    n, space = pairs[1].shape[0], pairs[1].shape[2:]
    split = [each.reshape(n, -1, *each.shape[1:]) for each in maps]
    return [each.transpose(1, 2).reshape(n, each.shape[2], *space) for each in split]


def _planes(images: Images) -> Float[Tensor, "planes _ h w"]:
    """Return the planes of images (N, C, *space) one after the other, (N P, C, H, W)."""
    if images.ndim == 3:
        return images[:, :, None]
    return images.flatten(2, -3).transpose(1, 2).flatten(0, 1) if images.ndim > 4 else images


def _coarser(image: Images) -> list[Images]:
    """Return an image, and its averages over windows of SIDES, one after the other."""
    levels = [image]
    for side in SIDES:
        levels.append(averaged(levels[-1], side))
    return levels


def moments(maps: Sequence[Images]) -> Float[Tensor, "n 2 k"]:
    """Return the means of maps and of their squares, float64; on a processor in one pass."""
    if maps[0].device.type != "cpu":
        return _moments_in_graph(maps)
    values = [each.flatten(2).contiguous() for each in maps]
    return torch.cat([torch.from_numpy(_sums(each.numpy())) / each.shape[2] for each in values], dim=2)


@compiled
def _sums(values: Array) -> Array:
    sums = np.zeros((values.shape[0], 2, values.shape[1]))
    for n in range(values.shape[0]):
        for k in range(values.shape[1]):
            row, total, squares = values[n, k], 0.0, 0.0
            for i in range(row.size):
                value = np.float64(row[i])
                total += value
                squares += value * value
            sums[n, 0, k], sums[n, 1, k] = total, squares
    return sums


def _moments_in_graph(maps: Sequence[Images]) -> Float[Tensor, "n 2 k"]:
    values = torch.cat(list(maps), dim=1).flatten(2).double()  # an exporter would ignore the dtype of mean
    return torch.stack([each.mean(dim=2) for each in (values, values.square())], dim=1)


def _features(of_maps: Float[Tensor, "n 2 k"]) -> Features:
    means, squares = of_maps.unbind(dim=1)
    return torch.cat([means, (squares - means.square()).clamp(min=0).sqrt()], dim=1)


FEWEST = 20
"""Number of selection images, or groups of them, from which a level is fitted."""
QUARTERED = 60
"""Number of selection images whose quarters are fitted too: with few images, they are worth many more."""
SIDE = 16
"""Least side of a quarter, in pixels."""
ALL_SHOWN = 1e-9
"""Mask size up to which all of an image is shown."""
BEYOND = 4.0
"""Largest factor by which an image that needs no mask counts as easier than one that just needs none."""
FARTHEST = math.log(1000)
"""Most that a logarithm may differ from the median: that of an image whose score is 0 is near -80."""


def quarters_of(item: Batch, loss: Loss) -> Iterator[Batch]:
    """Yield the quarters of images along their last two axes, by the score of the whole images.

    There are none where a quarter would be too small, or where the loss is not one of the errors of pixels.
    """
    sides = [side // 2 for side in item.y_hat.shape[-2:]]
    of_pixels = loss.error_map is not None and not loss.traits.truth.subtracts_noise
    if item.y_hat.ndim < 4 or min(sides) < SIDE or not of_pixels:
        return
    x = resized(item.x, item.y_hat)
    for starts in product((0, 1), repeat=2):
        corner = zip(starts, sides, strict=True)
        index = window_index(tuple(slice(start * side, (start + 1) * side) for start, side in corner))
        y, region = (None if each is None else each[index] for each in (item.y, item.layers.get("region")))
        if region is not None and not bool((region > 0).flatten(1).any(dim=1).all()):
            continue
        layers = {} if region is None else {"region": region}
        quarter = replace(item, x=x[index], y_hat=item.y_hat[index], y=y, layers=layers, known_loss=None)
        yield quarter.with_score(Score(item.score.map[index]))


def level_features_of(item: Batch) -> Float[np.ndarray, "n f"]:
    """Return the features that the level of each image is predicted from."""
    return level_features(item.x, item.y_hat, item.score.map).cpu().numpy()


def may_have_level(scorer: Scorer, choice: Level | None = None) -> bool:
    """Return whether images get a level if it pays; maps, unless it is chosen, have one value for all."""
    return choice == "image" or (choice is None and not scorer.by_value)


def fit_level(
    record: Selection, family: Family, loss: Loss, promise: Promise, threshold: float
) -> LevelModel | None:
    """Fit the level for a threshold; None where images are too few, or where one lambda does nearly as well.

    With scores divided by it, the critical lambdas of all images are predicted to be the same. There is none
    for a family whose masks do not change with the scale of a score.
    """
    curves, quarters = (of_families.get(family.name) for of_families in (record.curves, record.quarters))
    features = record.level_features
    if curves is None or curves.group is None or features is None or family.degree == 0:
        return None
    parts = [replace(curves, features=features), *([] if quarters is None else [quarters])]
    groups = np.concatenate([np.asarray(part.group) for part in parts])
    if len(np.unique(groups)) < FEWEST:
        return None
    start = start_of(curves, threshold, promise, loss)
    rows = np.concatenate([np.asarray(part.features) for part in parts])
    logs = np.concatenate([log_lambdas(part.from_start(start), threshold) for part in parts])
    logs /= family.degree
    middle = np.median(logs)
    logs = logs.clip(middle - FARTHEST, middle + FARTHEST)
    is_whole = np.arange(len(logs)) < len(features)
    ridge, left_out = fitted(rows, logs, groups, is_whole)
    return LevelModel(ridge, left_out[is_whole]) if ridge.weights.any() else None


def log_lambdas(curves: Curves, threshold: float) -> Float[np.ndarray, "n"]:
    """Return the logarithms of critical lambdas, finite ones also for images that need no mask.

    Those count as if their loss went on growing with lambda, in proportion, up to BEYOND.
    """
    grid = curves.grid
    critical = between_grid_points(grid, curves.loss, threshold)
    opened = grid[(curves.size <= ALL_SHOWN).argmax(axis=1)].clip(max=grid[-2])
    room = np.clip(threshold / np.maximum(curves.loss[:, -1], np.finfo(float).tiny), 1, BEYOND)
    return np.asarray(np.log(np.where(np.isfinite(critical), critical, opened * room).clip(min=grid[1])))


def along_levels(curves: Curves, model: LevelModel, family: Family) -> Curves:
    """Return the curves of the selection images for scores that are divided by their levels."""
    factors = np.exp(family.degree * model.held_out)
    even = np.geomspace(curves.grid[1] / factors.max(), curves.grid[-2] / factors.min(), len(curves.grid) - 2)
    along = curves.along(factors, concentrated(curves.along(factors, even)))
    if along.features is None:
        return along
    features = along.features.copy()
    features[:, 0] -= model.held_out  # the logarithm of the mean score, which levels divide
    return replace(along, features=features)
