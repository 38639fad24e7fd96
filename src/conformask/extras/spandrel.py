"""Networks of upscalers, such as ESRGAN, SwinIR and HAT, by spandrel. Needs the extra spandrel."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from conformask.arrays import Images, best_device
from conformask.errors import ImageError, MismatchError, one_line
from conformask.extras.make.predictors import (
    CustomPredictor,
    NetworkFormat,
    device_of,
    existing_file,
    predictor_of,
    required,
    settings_of,
)
from conformask.images.formats import blocks_of

TILE, CONTEXT = 512, 32
"""Side of the largest image that is run whole, and of tiles with the pixels around them that are cut off."""
PURPOSES = ("SR", "Restoration")
OTHER_PURPOSES = {"FaceSR": "restores faces alone", "Inpainting": "fills the holes of a mask"}


def from_file(path: str | Path) -> CustomPredictor:
    """Open the weights in a .pth, .pt, .ckpt or .safetensors file; spandrel finds architecture and scale.

    Only tensors are read: a file that contains code is refused. Images with a side above 512 pixels are run
    by tiles, unless spandrel advises against tiles for this architecture.

    Raises:
        MissingFileError: no such file, or spandrel is not installed.
        MismatchError: the file is damaged, contains more than weights, or its network does not restore or
            enlarge whole images.
    """
    library, path = required("spandrel"), Path(path)
    state = _weights(path)
    try:
        network = library.ModelLoader().load_from_state_dict(library.canonicalize_state_dict(state))
    except Exception as error:  # the type depends on which architecture the weights resemble
        raise MismatchError(
            f"{path} contains no weights of an architecture that spandrel knows "
            f"({one_line(error)}): update spandrel, or give the network as package.module:function"
        ) from error
    if network.purpose not in PURPOSES:
        raise MismatchError(
            f"{path} contains {network.architecture.name}, which {OTHER_PURPOSES[network.purpose]}: give a "
            "network for restoration or super-resolution of whole images"
        )
    network.to(best_device())
    module, tiled = network.model, network.tiling is library.ModelTiling.SUPPORTED

    def run(x: Images) -> Images:
        if x.ndim != 4 or x.shape[1] != network.input_channels:
            raise ImageError(
                f"{path.name} takes planes with {network.input_channels} channels, not images of "
                f"{tuple(x.shape[1:])}"
            )
        images = torch.split(x.to(device_of(module)), 1)
        return torch.cat(
            [by_tiles(network, image, network.scale) if tiled else network(image) for image in images]
        )

    facts = [network.scale, tiled, TILE, CONTEXT]
    return replace(predictor_of(module, run, "spandrel", settings_of(module), facts), name=path.name)


def _weights(path: Path) -> dict[str, Any]:
    """Return the tensors in a file, by name, without running code in it."""
    existing_file(str(path))
    try:
        if path.suffix.lower() == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the type depends on where it is damaged
        raise MismatchError(
            f"{path} is damaged, or contains more than weights, which could run code "
            f"({one_line(error)[:99]}): copy it again, or convert it to .safetensors where you trust it"
        ) from error
    if not isinstance(state, dict):
        raise MismatchError(f"{path} contains {type(state).__name__}, not the weights of a network by name")
    return state


def by_tiles(run: Callable[[Tensor], Tensor], image: Tensor, scale: int) -> Tensor:
    """Return what a network makes of an image (1, C, H, W), enlarged by a whole factor.

    An image with a side above TILE is run in tiles of at most this side; the outer CONTEXT pixels of each are
    cut off where the image continues.
    """
    size = tuple(image.shape[2:])
    if max(size) <= TILE:
        return run(image)
    output: Tensor | None = None
    for places in blocks_of(size, (TILE - 2 * CONTEXT,) * 2):
        wide = [
            slice(max(span.start - CONTEXT, 0), min(span.stop + CONTEXT, side))
            for span, side in zip(places, size, strict=True)
        ]
        tile = run(image[:, :, wide[0], wide[1]])
        if output is None:
            output = tile.new_empty((1, tile.shape[1], *(scale * side for side in size)))
        inner = [
            slice(scale * (span.start - of.start), scale * (span.stop - of.start))
            for span, of in zip(places, wide, strict=True)
        ]
        outer = [slice(scale * span.start, scale * span.stop) for span in places]
        output[:, :, outer[0], outer[1]] = tile[:, :, inner[0], inner[1]]
    assert output is not None
    return output


SPANDREL = NetworkFormat(lambda path, data_range: from_file(path), "FILE")
