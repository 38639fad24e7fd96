"""What one pass over all triplets says: shapes, hashes, copies that look alike, folders that were swapped.

Copies are found if they were resaved, turned, mirrored, scaled, brightened, noisy or slightly cropped. A
perceptual hash keeps the signs of low frequencies of an image and of windows in it. An image cannot be
reconstructed from it, and images of different things agree in no more signs than expected by chance.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from scipy.fft import dct

from conformask.arrays import Array, Triplet, resized
from conformask.background import tracked
from conformask.errors import InvalidArgumentError
from conformask.images.layers import LAYERS, Measures
from conformask.images.read import Image, hash_unless_constant
from conformask.images.triplets import Triplets
from conformask.masks.kernels import compiled
from conformask.records.reading import Geometry, Size

SIDE, REDUCED, FREQUENCIES = 64, 32, 16
"""Pixels of the small image, pixels of a window of it, and frequencies along each side of a window."""
SLOWEST = 3
"""Smallest sum of the two frequencies that is kept; below it is shading, which many images share."""
SHARES, PLACES = (0.95, 0.9, 0.8), (0.0, 0.5, 1.0)
"""Sides of the windows as shares of the image's, and their starts as shares of the remaining length."""
ALIKE = 0.65
"""Mean product of signs: near 1 for copies, below 0.6 for like places in two patients, 0 by chance."""
FAINT = 5e-4
"""Standard deviation, of images in [0, 1], below which signs are noise, as in an empty field."""
CHUNK = 512
"""Number of images compared at once."""
PerceptualHashes = UInt8[np.ndarray, "_ w b"]
PackedSigns = UInt8[np.ndarray, "_ b"]
_ONE, _TWO, _FOUR, _LAST = map(np.uint64, (1, 2, 4, 56))
_PAIRS, _FOURS, _BYTES, _SUMMED = (np.uint64(byte * (2**64 // 255)) for byte in (0x55, 0x33, 0x0F, 0x01))


def perceptual_hash(image: Image) -> UInt8[np.ndarray, "w b"]:
    """Return the perceptual hash of an image (C, *space).

    It packs 250 signs of the image and of each window, and whether they count. A volume is hashed by its
    middle slice.
    """
    middle = image if image.ndim == 3 else image[:, image.shape[1] // 2]
    small = _reduced(middle.mean(axis=0, dtype=np.float64), SIDE)
    waves = ((_ROWS @ small).reshape(WINDOWS, FREQUENCIES, SIDE) @ _COLUMNS)[:, _BAND]
    clear = np.sqrt((waves**2).sum(axis=1)) > FAINT * REDUCED
    return np.packbits(np.column_stack([(waves > 0) & clear[:, None], clear]), axis=1)


def find_copies(
    new: PerceptualHashes, known: PerceptualHashes, title: str = "looking for copies"
) -> list[tuple[int, int]]:
    """Return the places (in new, in known) of images that are copies of each other."""
    starts = range(0, len(new), CHUNK)
    pairs = []
    for start in tracked(starts, title, len(starts)):
        rows, columns = np.nonzero(_agreement(new[start : start + CHUNK], known) > ALIKE)
        pairs += [(int(row) + start, int(column)) for row, column in zip(rows, columns, strict=True)]
    return pairs


def copies_within(hashes: PerceptualHashes, groups: Sequence[str], smallest: Size) -> list[tuple[int, int]]:
    """Return the places of images of two groups that look like copies; none if the `smallest` is tiny."""
    if min(smallest[-2:]) < REDUCED:
        return []
    return [(a, b) for a, b in find_copies(hashes, hashes) if a < b and groups[a] != groups[b]]


def copies_text(names: Sequence[str], pairs: Sequence[tuple[int, int]], images: str) -> str | None:
    """Return a warning of `images` with these names, some of which look like copies; None if none does."""
    if not pairs:
        return None
    (first, second), count = pairs[0], len({place for pair in pairs for place in pair})
    return (
        f"{count} of {len(names)} {images} look like copies (saved again, rotated, scaled or slightly "
        f"cropped) of others, such as {names[first]!r} of {names[second]!r}. If they are, keep one of each; "
        "if they show the same patient or scene again, such as at another visit, put them in one group: they "
        "are not independent"
    )


def _agreement(new: PerceptualHashes, known: PerceptualHashes) -> Float[np.ndarray, "n m"]:
    """Return the largest mean product of signs over turned whole images and over windows, mirrored or not."""
    fewest = np.full((len(new), len(known)), SIGNS // 2)
    for left, right in _compared(new, known):
        words, known_words = (np.ascontiguousarray(each).view(np.uint64) for each in (left, right))
        _count_unlike(words, known_words, _counts(left), _counts(right), fewest)
    return 1 - 2 * fewest / SIGNS


def _compared(new: PerceptualHashes, known: PerceptualHashes) -> Iterator[tuple[PackedSigns, PackedSigns]]:
    whole, known_whole = new[:, 0], known[:, 0]
    yield from ((turned, known_whole) for turned in _turns(whole))
    # a cropped copy resembles a window of the original
    for window in range(1, WINDOWS):
        new_window, known_window = new[:, window], known[:, window]
        for mirrored in (0, _MIRROR):
            yield new_window ^ mirrored, known_whole
            yield whole ^ mirrored, known_window


def _turns(packed: PackedSigns) -> Iterator[PackedSigns]:
    """Yield the signs under the eight symmetries of a square."""
    transposed = np.packbits(np.unpackbits(packed, axis=1)[:, _TRANSPOSED], axis=1)
    for oriented in (packed, transposed):
        for flip in (0, _MIRROR, _UPSIDE_DOWN, _MIRROR ^ _UPSIDE_DOWN):
            yield oriented ^ flip


def _counts(packed: PackedSigns) -> Bool[np.ndarray, "n"]:
    """Return whether the signs of each image count."""
    return np.asarray(np.unpackbits(packed[:, -1:], axis=1)[:, SIGNS % 8] > 0)


@compiled
def _count_unlike(new: Array, known: Array, new_counts: Array, known_counts: Array, fewest: Array) -> None:
    """Lower `fewest` (n, m) to the number of bits in which two images differ, where the signs of both count.

    new (n, words) and known (m, words) are uint64. The bits of each word are added in pairs, fours and
    bytes, and the bytes by a product.
    """
    for i in range(len(new)):
        for j in range(len(known)):
            if not (new_counts[i] and known_counts[j]):
                continue
            unlike = np.uint64(0)
            for word in range(new.shape[1]):
                bits = new[i, word] ^ known[j, word]
                bits = bits - ((bits >> _ONE) & _PAIRS)
                bits = (bits & _FOURS) + ((bits >> _TWO) & _FOURS)
                bits = (bits + (bits >> _FOUR)) & _BYTES
                unlike += (bits * _SUMMED) >> _LAST
            fewest[i, j] = min(fewest[i, j], np.int64(unlike))


def _reduced(grey: Float[np.ndarray, "h w"], side: int) -> Float[np.ndarray, "s s"]:
    """Return the means of side x side parts; pixels on an edge count for both parts, by their shares."""
    for _ in range(2):
        grey = (_means_between(np.linspace(0, len(grey), side + 1), len(grey)) @ grey).T
    return grey


def _means_between(edges: Float[np.ndarray, "e"], length: int) -> Float[np.ndarray, "e-1 n"]:
    """Return the matrix that maps pixels along an axis to their means between one edge and the next."""
    pixels = np.arange(length)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.asarray(overlap.clip(0) / np.diff(edges)[:, None])


def _projection(share: float, start: float) -> Float[np.ndarray, "f s"]:
    """Return the matrix that maps the pixels of a side to the low frequencies of a part of it."""
    edges = SIDE * (start * (1 - share) + share * np.linspace(0, 1, REDUCED + 1))
    return np.asarray(dct(_means_between(edges, SIDE), axis=0, norm="ortho")[:FREQUENCIES])


_WINDOWS = ((1.0, 0.0, 0.0), *product(SHARES, PLACES, PLACES))
WINDOWS = len(_WINDOWS)
"""Number of windows per image; the first is the whole image."""
_ROWS = np.concatenate([_projection(share, top) for share, top, _ in _WINDOWS])
_COLUMNS = np.stack([_projection(share, left).T for share, _, left in _WINDOWS])
# mirroring an image changes the signs of its odd frequencies, and transposing it swaps the two frequencies
_DOWN, _ACROSS = np.indices((FREQUENCIES, FREQUENCIES))
_BAND: Bool[np.ndarray, "f f"] = _DOWN + _ACROSS >= SLOWEST
SIGNS = int(_BAND.sum())
"""Number of signs of an image, or of a window of it; the bit after them says whether they count."""
_MIRROR, _UPSIDE_DOWN = (np.packbits(np.append(axis[_BAND] % 2 > 0, False)) for axis in (_ACROSS, _DOWN))
_TRANSPOSED = np.append(np.cumsum(_BAND).reshape(_BAND.shape).T[_BAND] - 1, SIGNS)


SWAPPED = 0.9
"""Share of images from which the question is asked; see `swap_question`."""


class RoleDistances(NamedTuple):
    """Mean absolute differences between the images of a triplet in its region, in units of [0, 1]."""

    x_to_y_hat: float
    x_to_y: float
    y_hat_to_y: float
    """0 where x has another size than y: then it is not swapped with y_hat."""


def role_distances(triplet: Triplet) -> RoleDistances | None:
    """Return the distances of a triplet, x resized to y; None where x has other channels."""
    x, y_hat, y, region = triplet.x, triplet.y_hat, triplet.truth(), triplet.layers.get("region")
    if len(x) != len(y):
        return None
    error = mean_difference(y_hat, y, region) if x.shape == y.shape else 0.0
    x = resized(torch.from_numpy(x)[None], torch.from_numpy(y)[None])[0].numpy()
    return RoleDistances(mean_difference(x, y_hat, region), mean_difference(x, y, region), error)


def mean_difference(a: Array, b: Array, region: Array | None) -> float:
    """Return the mean of |a - b| of images (C, *space) over a region (1, *space), or everywhere."""
    return float(np.average(np.abs(a - b).mean(axis=0), weights=None if region is None else region[0]))


def swap_question(distances: Sequence[RoleDistances | None]) -> str | None:
    """Ask whether two folders were swapped, where SWAPPED of the images say so; None where they do not.

    A network should bring y_hat nearer to y than x is, and y_hat should be nearer to x than y is, because it
    is made from x. The bound was measured (research/swaps.py) on 24 sets of 40 to 48 crops: real noise (FMD,
    PolyU, OCT), and noise, blur, JPEG and x4 enlargement of photographs, cells and nuclei, each with six
    simple predictors. In the 87 cases in which the predictor helps in 80 % of the images or more, 0.9 asks
    about x and y_hat without need in none and finds all of their swaps (0.95: 95 %); it asks about y and
    y_hat without need in 5 % (0.95: 1 %) and finds 66 % of their swaps (0.95: 62 %). A needless question
    costs less than a swap that is missed. Of a predictor that replaces detail by other detail it asks about
    y and y_hat in 9 of 10 cases, at either bound.
    """
    known = [each for each in distances if each is not None]
    if not known:
        return None
    to_y_hat, to_y, error = np.array(known).T
    if (nearer := np.mean(to_y < error)) >= SWAPPED:
        return f"x is nearer to y than y_hat is in {nearer:.0%} of the images: are x and y_hat swapped?"
    if (nearer := np.mean(to_y < to_y_hat)) >= SWAPPED:
        return (
            f"x is nearer to y than to y_hat in {nearer:.0%} of the images, as if y were the network's "
            "output: are y and y_hat swapped? A network that smooths more than noise away, or invents "
            "detail, looks like that too"
        )
    return None


@dataclass(frozen=True)
class DatasetSummary:
    """Facts about all images, from one pass over them."""

    channels: int
    x_channels: int
    sizes: tuple[Size, ...]
    names: tuple[str, ...]
    pixels: tuple[str | None, ...]
    """Pixel hash of each image's truth; None for constant images, which are all alike."""
    outputs: tuple[str | None, ...]
    """Pixel hash of each y_hat, by which an image is recognised where its truth is not known.

    None where it or the truth is constant, such as what a network makes of an empty field.
    """
    groups: tuple[str | None, ...]
    """Hash of each image's group name; None where it has no group."""
    perceptual_hashes: UInt8[np.ndarray, "n w b"]
    """Perceptual hashes of the truths; see `perceptual_hashes`."""
    geometries: tuple[Geometry | None, ...]
    """Geometry of each image, where its file states it."""
    contents: str
    """A hash of all pixels of all images, in their order."""
    swapped: str | None
    """The question whether two of the folders were swapped; None where nothing suggests it."""
    clipped: float
    """Mean of the shares of values that were clipped."""
    measures: Measures
    """What was measured of layers; empty where nothing is to be."""

    @property
    def geometry(self) -> Geometry | None:
        """Spacing and orientation of the first image, where its file states them, without its place."""
        first = self.geometries[0]
        return None if first is None else first.without_place

    @property
    def smallest(self) -> Size:
        """Size of the largest crop that fits into every image."""
        return tuple(map(min, zip(*self.sizes, strict=True)))

    @property
    def image_ids(self) -> tuple[str, ...]:
        """All hashes by which these images and groups are recognised, sorted."""
        return tuple(sorted(filter(None, {*self.pixels, *self.outputs, *self.groups})))

    @property
    def truth_ids(self) -> tuple[str, ...]:
        """The hashes of truths and groups, which other outputs for the same images leave as they are."""
        return tuple(sorted(filter(None, {*self.pixels, *self.groups})))


def scan(triplets: Triplets, title: str = "reading images") -> DatasetSummary:
    """Read every triplet once and return the facts."""
    if not triplets.has_truth:
        raise InvalidArgumentError(
            "these triplets have no y, but the truth is needed here: add a folder y/ (y= in Python) or, "
            "where nobody has it, repeats/ (repeats=) with one or two acquisitions of each image"
        )
    sizes, pixels, outputs = set(), [], []
    perceptual_hashes, contents = [], hashlib.sha256()
    geometries, distances, clipped, measures = [], [], [], Measures()
    for triplet in tracked(triplets.checked(), title, len(triplets)):
        geometries.append(triplet.geometry)
        clipped.append(triplet.clipped)
        truth = triplet.truth()
        sizes.add(truth.shape[1:])
        pixels.append(hash_unless_constant(truth))
        outputs.append(hash_unless_constant(triplet.y_hat) if pixels[-1] else None)
        perceptual_hashes.append(perceptual_hash(truth))
        distances.append(role_distances(triplet))
        measures.add(triplet)
        others = [layer for name, layer in triplet.layers.items() if not LAYERS[name].makes_y]
        for image in (triplet.x, triplet.y_hat, truth, *others):
            contents.update(repr(image.shape).encode() + np.ascontiguousarray(image).data)
    return DatasetSummary(
        channels=len(triplet.y_hat),
        x_channels=len(triplet.x),
        sizes=tuple(sorted(sizes)),
        names=triplets.names,
        pixels=tuple(pixels),
        outputs=tuple(outputs),
        groups=triplets.group_ids,
        perceptual_hashes=np.stack(perceptual_hashes),
        geometries=tuple(geometries),
        contents=contents.hexdigest(),
        swapped=swap_question(distances),
        clipped=float(np.mean(clipped)),
        measures=measures,
    )
