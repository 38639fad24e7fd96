"""The masks of a layer at one setting, each computed when it is first looked at."""

from collections.abc import Sequence
from threading import Lock

import dask.array as da
import numpy as np
from torch import Tensor

from conformask.arithmetic import window_index
from conformask.deployment.scored_image import ScoredImage, level_of, mask_size_of
from conformask.masker.masker import Masker
from conformask.napari.layers import Index, Places, lazy
from conformask.records.size import Size
from conformask.types import Array


class MasksOfLayer:
    """The masks of the images of a layer."""

    def __init__(self, masker: Masker, images: Sequence[ScoredImage], lead: Size) -> None:
        self._masker, self._images, self._lead = masker, images, lead
        self._levels: dict[Index, Tensor] = {}
        self._one_at_a_time = Lock()

    @property
    def channels(self) -> int:
        """Number of channels: 1, or that of the images."""
        return self._images[0].item.score.map.shape[1]

    @property
    def array(self) -> da.Array:
        """Masks as `Masker.__call__` gives them, in [0, 1], (*lead, *size) or (*lead, *size, C)."""
        return lazy(self._read, self._lead, self._images[0].size, self.channels)

    def image(self, index: Index) -> ScoredImage:
        """Return the image at a place along the first axes."""
        return self._images[int(np.ravel_multi_index(index, self._lead)) if index else 0]

    def size(self, index: Index) -> float:
        """Return the mask size of one image, mean(1 - m).

        Raises:
            InvalidArgumentError: the promise needs a weight or category of the image.
        """
        return mask_size_of(self._masker.family, self.image(index), self._level(index))

    def _level(self, index: Index) -> Tensor:
        with self._one_at_a_time:
            if index not in self._levels:
                self._levels[index] = level_of(self._masker, self.image(index))[1]
            return self._levels[index]

    def _read(self, index: Index, places: Places) -> Array:
        score = self.image(index).item.score.map[window_index(places)]
        mask: Array = self._masker.family.apply(score, self._level(index))[0].numpy()
        return mask
