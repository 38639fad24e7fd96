"""Scores whose masks have no specks: connected parts, shown or hidden, have at least a number of pixels.

The area closing raises every basin of the score that has too few pixels to the level at which it has enough,
so that no smaller part is ever shown; the area opening of that lowers every peak in the same way. It removes
hidden parts whole, and each touches a part that is shown: shown parts only grow, and both kinds are large
enough at every lambda. (With one kind of neighbours for both, one pass of each is enough.) Vincent 1993,
"Grayscale area openings and closings"; by union-find as in Meijster and Wilkinson 2002 (TPAMI 24(4)).
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from conformask.data.triplets import Triplets
from conformask.errors import InvalidArgumentError
from conformask.masks.kernels import compiled
from conformask.records.selection import Selection
from conformask.scorers.scorer import Scorer, WrappedScorer, called, of_scorer
from conformask.storage.as_arrays import Array
from conformask.types import Images, Score


@dataclass(frozen=True)
class Patches(WrappedScorer):
    """A scorer whose masks consist, in each channel, of connected parts of at least `area` pixels.

    Pixels are connected along sides. The masks of any nested family remain nested, and the parts of an image
    with fewer pixels are the whole image.
    """

    area: int
    tiles = of_scorer("tiles")

    @property
    def patches(self) -> int:
        """The least number of pixels of a connected part of a mask."""
        return self.area

    @property
    def fingerprint(self) -> str:
        """The scorer's fingerprint, followed by the area."""
        return f"{self.scorer.fingerprint}-patches-{self.area}"

    @property
    def selection(self) -> Selection | None:
        """The record of the selection images, without what is known of masks of parts of any size."""
        kept = self.scorer.selection
        return None if kept is None else replace(kept, curves={}, comparison=None)

    def __call__(self, x: Images, y_hat: Images, cues: Tensor | None = None) -> Score:
        """Compute the score of each image without small basins and peaks."""
        score = called(self.scorer, x, y_hat, cues)
        if not bool(((score.map >= 0) & score.map.isfinite()).all()):
            return score  # refused by score_of, which knows the name of the image
        filtered = score.map.detach().float().cpu().numpy().copy()
        remove_specks(self, filtered)
        return replace(score, map=torch.from_numpy(filtered).to(score.map.device))


def in_patches(scorer: Scorer, area: int | None) -> Scorer:
    """Return the scorer with masks of connected parts of at least this many pixels; itself for None."""
    return scorer if area is None or area == scorer.patches else Patches(scorer, area)


def patch_area(choice: int | str | None, images: Triplets) -> int | None:
    """Return the least number of pixels of a connected part: a number, or an area such as "25mm2".

    Raises:
        InvalidArgumentError: it is neither, or below 2 pixels or beyond any image, or the first image states
            no spacing.
    """
    if isinstance(choice, str) and not choice.strip().isdecimal():
        geometry = images.geometry(0)
        if geometry is None:
            raise InvalidArgumentError(
                f"patches {choice!r}: the file of y_hat of {images.names[0]!r} states no spacing; give a "
                "number of pixels"
            )
        choice = geometry.pixels(choice)
    area = None if choice is None else int(choice)
    if area is not None and area < 2:
        raise InvalidArgumentError(
            f"patches of {area} pixels: every part of a mask has that many; give at least 2, or leave it out"
        )
    if area is not None and area >= 2**63:  # which the kernel cannot count
        raise InvalidArgumentError(f"patches of {area} pixels: no image has that many; give fewer")
    return area


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
