"""Detection of copies of images: resaved, turned, mirrored, scaled, brightened, noisy or slightly cropped.

A perceptual hash keeps the signs of low frequencies of an image and of windows in it. An image cannot be
reconstructed from it, and images of different things agree in no more signs than expected by chance.
"""

from collections.abc import Iterator
from itertools import product

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy.fft import dct

from conformask.data.images import Image
from conformask.progress import tracked

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
Signs = Float[np.ndarray, "_ s"]


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


def _agreement(new: PerceptualHashes, known: PerceptualHashes) -> Float[np.ndarray, "n m"]:
    """Return the largest mean product of signs over turned whole images and over windows, mirrored or not."""
    best = np.zeros((len(new), len(known)), np.float32)
    for left, right in _compared(new, known):
        np.maximum(best, left @ right.T / left.shape[1], out=best)
    return best


def _compared(new: PerceptualHashes, known: PerceptualHashes) -> Iterator[tuple[Signs, Signs]]:
    whole, known_whole = _signs(new[:, 0]), _signs(known[:, 0])
    yield from ((turned, known_whole) for turned in _turns(whole))
    # a cropped copy resembles a window of the original
    for window in range(1, WINDOWS):
        known_window = _signs(known[:, window])
        for mirrored in (1.0, _MIRROR):
            yield _signs(new[:, window]) * mirrored, known_whole
            yield whole * mirrored, known_window


def _turns(signs: Signs) -> Iterator[Signs]:
    """Yield the signs under the eight symmetries of a square."""
    for oriented in (signs, signs[:, _TRANSPOSED]):
        for flip in (1.0, _MIRROR, _UPSIDE_DOWN, _MIRROR * _UPSIDE_DOWN):
            yield (oriented * flip).astype(np.float32)


def _signs(packed: UInt8[np.ndarray, "n b"]) -> Signs:
    """Unpack signs as 1 and -1; 0 for images whose signs do not count."""
    bits = np.unpackbits(packed, axis=1)[:, : _BAND.sum() + 1].astype(np.float32)
    return (2 * bits[:, :-1] - 1) * bits[:, -1:]


def _reduced(grey: Float[np.ndarray, "h w"], side: int) -> Float[np.ndarray, "s s"]:
    """Return the means of side x side parts; pixels on an edge count for both parts, by their shares."""
    for _ in range(2):
        length = len(grey)
        # sums up to each edge, of which differences are the sums of parts
        total = np.concatenate([np.zeros((1, grey.shape[1])), grey.cumsum(axis=0)])
        edges = np.linspace(0, length, side + 1)
        pixel = np.minimum(edges.astype(int), length - 1)
        at_edges = total[pixel] + (edges - pixel)[:, None] * grey[pixel]
        grey = (np.diff(at_edges, axis=0) * side / length).T
    return grey


def _projection(share: float, start: float) -> Float[np.ndarray, "f s"]:
    """Return the matrix that maps the pixels of a side to the low frequencies of a part of it."""
    edges = SIDE * (start * (1 - share) + share * np.linspace(0, 1, REDUCED + 1))
    pixels = np.arange(SIDE)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    means = overlap.clip(0) / np.diff(edges)[:, None]
    return np.asarray(dct(means, axis=0, norm="ortho")[:FREQUENCIES])


_WINDOWS = ((1.0, 0.0, 0.0), *product(SHARES, PLACES, PLACES))
WINDOWS = len(_WINDOWS)
"""Number of windows per image; the first is the whole image."""
_ROWS = np.concatenate([_projection(share, top) for share, top, _ in _WINDOWS])
_COLUMNS = np.stack([_projection(share, left).T for share, _, left in _WINDOWS])
# mirroring an image changes the signs of its odd frequencies, and transposing it swaps the two frequencies
_DOWN, _ACROSS = np.indices((FREQUENCIES, FREQUENCIES))
_BAND: Bool[np.ndarray, "f f"] = _DOWN + _ACROSS >= SLOWEST
_MIRROR = (1.0 - 2 * (_ACROSS % 2))[_BAND]
_UPSIDE_DOWN = (1.0 - 2 * (_DOWN % 2))[_BAND]
_TRANSPOSED = np.cumsum(_BAND).reshape(_BAND.shape).T[_BAND] - 1
