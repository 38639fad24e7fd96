"""Masks as layers over images: read on demand, and drawn over what they hide."""

from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

import dask.array as da
import numpy as np
from napari.layers import Image
from napari.utils import Colormap

from conformask.data.formats.header import Places
from conformask.pictures.pixels import HATCH
from conformask.records.size import Size
from conformask.storage.as_arrays import Array

Index = tuple[int, ...]
"""Index of one image of a layer: its place along each axis before the spatial ones."""
ReadMask = Callable[[Index, Places], Array]
"""Function that reads a window of one mask, float32 (C, *space)."""
DENSITY = 0.75
"""Opacity where a mask hides; napari draws no hatch, so that the image has to shine through."""
SIDE = 1024
"""Side, in pixels, of the parts of a plane that are read at once."""
TRUSTED, HIDDEN = (np.array([*HATCH, 255 * opacity]) / 255 for opacity in (0, DENSITY))


def lazy_masks(read: ReadMask, lead: Size, size: Size, channels: int) -> da.Array:
    """Return masks as one array (*lead, *size) or (*lead, *size, C), read plane by plane on demand."""
    channel_axis = () if channels == 1 else (channels,)
    shape = (*lead, *size, *channel_axis)
    sides = (*(1,) * (len(lead) + len(size) - 2), SIDE, SIDE, *channel_axis)

    def read_block(block_info: Mapping[Any, Any]) -> Array:
        spans = block_info[None]["array-location"]
        index = tuple(start for start, _ in spans[: len(lead)])
        places = tuple(slice(*span) for span in spans[len(lead) : len(lead) + len(size)])
        mask = read(index, places)
        window: Array = np.moveaxis(mask, 0, -1) if channel_axis else mask[0]
        return window[(None,) * len(lead)]

    chunks = da.core.normalize_chunks(sides, shape)
    masks: da.Array = da.map_blocks(read_block, chunks=chunks, dtype=np.float32, name=f"masks-{uuid4().hex}")
    return masks


def layer_style(channels: int) -> dict[str, Any]:
    """Return how to draw a mask layer: yellow where it hides; several channels each darken their own."""
    common: dict[str, Any] = {"contrast_limits": (0.0, 1.0)}
    if channels > 1:
        return {**common, "rgb": True, "blending": "multiply"}
    hidden = Colormap([HIDDEN, TRUSTED], name="conformask hidden", display_name="hidden")
    # minip shows the smallest value along a ray through a volume: wherever something is hidden
    return {**common, "colormap": hidden, "blending": "translucent", "rendering": "minip"}


def finest_array(layer: Image) -> Any:
    """Return the array of a layer, for a pyramid that of its finest resolution."""
    return layer.data[0] if layer.multiscale else layer.data
