"""The packaged demonstration of a first look, on crops of photographs.

Its network is Real-ESRGAN (Wang et al. 2021, x4plus), which enlarges photographs four times. Its outputs were
made once, by research/demo_outputs.py, and lie in demo_outputs/ as WebP; inputs and truths are computed.
"""

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

import numpy as np
from PIL import Image as PillowImage

from conformask.extensions import required
from conformask.extras.make.look import Look, look
from conformask.images.read import decode, write_image
from conformask.images.rows import ROLES, Provenance
from conformask.records.reading import Network, Reading
from conformask.records.record import Array, refuse_unclaimed_in

COLOUR = ("astronaut.png", "chelsea.png", "coffee.png", "ihc.png", "motorcycle_left.png", "rocket.jpg")
GREY = ("brick.png", "camera.png", "coins.png", "grass.png", "gravel.png", "moon.png")
"""Photographs that come with scikit-image's wheel, in colour and grey."""
ENLARGED = (
    *COLOUR,
    "brick.png",
    "camera.png",
    "cell.png",
    "coins.png",
    "hubble_deep_field.jpg",
    "moon.png",
    "retina.jpg",
)
"""The photographs that the network enlarged."""
SIDE, MOST, SCALE = 256, 512, 4
"""Side of a crop, largest side of the middle that is cut into crops, and factor of the network."""
POPULATION = "new crops of these photographs"
PINNED = MappingProxyType({"astronaut-1": "a face", "chelsea-1": "the eyes of a cat"})
"""Crops that are tested whatever is drawn, and what they show, for which they were chosen: anybody can judge
a face. That the network errs in faces was known; masks and losses of these crops were not looked at.
"""


def packaged_photographs(names: tuple[str, ...] = COLOUR + GREY) -> dict[str, Array]:
    """Return real photographs by name, uint8 (H, W, 3); of the default, twelve of 300 to 741 pixels per side.

    Grey ones are repeated to three channels. Left out by default: drawings, text and masks of scikit-image,
    the right view of the motorcycle (nearly the left one), and photographs that are mostly black.
    """
    folder = Path(str(files(required("skimage", "the demonstration", "skimage")))) / "data"
    arrays = {Path(name).stem: decode(folder / name) for name in names}
    return {
        name: array if array.ndim == 3 else np.repeat(array[..., None], 3, axis=2)
        for name, array in arrays.items()
    }


def middles() -> dict[str, Array]:
    """Return the middles of the enlarged photographs by name, uint8 (H, W, 3), in whole crops."""
    found = {}
    for name, photograph in packaged_photographs(ENLARGED).items():
        height, width = (min(side // SIDE * SIDE, MOST) for side in photograph.shape[:2])
        top, left = (photograph.shape[0] - height) // 2, (photograph.shape[1] - width) // 2
        found[name] = photograph[top : top + height, left : left + width]
    return found


def quarter(y: Array) -> Array:
    """Return what the network was given: means of 4x4 pixels, uint8 (H / 4, W / 4, 3)."""
    height, width = y.shape[0] // SCALE, y.shape[1] // SCALE
    small: Array = np.round(y.reshape(height, SCALE, width, SCALE, 3).mean(axis=(1, 3))).astype(np.uint8)
    return small


def output_file(name: str) -> Path:
    """Return the file of the network's output for the middle of a photograph."""
    return Path(__file__).with_name("demo_outputs") / f"{name}.webp"


def write_crops(folder: Path) -> dict[str, Path]:
    """Write x/, y_hat/ and y/ of all crops into a folder, and return the three folders by role."""
    for role in ROLES:
        refuse_unclaimed_in(folder / role)
    crops = [crop for name, y in middles().items() for crop in _crops(name, y)]
    names = [f"{role}/{name}.png" for name, _ in crops for role in ROLES]
    network = Network("Real-ESRGAN x4plus")
    Provenance(network=network, population=POPULATION).claim(folder, names)
    for name, images in crops:
        for role in ROLES:
            unit = np.moveaxis(images[role], -1, 0) / np.float32(255)
            write_image(folder / role / f"{name}.png", unit)
    return {role: folder / role for role in ROLES}


def _crops(name: str, y: Array) -> Iterator[tuple[str, dict[str, Array]]]:
    """Yield each crop of a photograph with its name, such as astronaut-1."""
    whole = {"x": quarter(y), "y_hat": np.asarray(PillowImage.open(output_file(name))), "y": y}
    places = np.ndindex(y.shape[0] // SIDE, y.shape[1] // SIDE)
    for number, (row, column) in enumerate(places, start=1):
        crop = {}
        for role, image in whole.items():
            side = SIDE * len(image) // len(y)
            crop[role] = image[row * side : (row + 1) * side, column * side : (column + 1) * side]
        yield f"{name}-{number}", crop


def demonstrate(folders: dict[str, Path], out: Path, reading: Reading) -> Look:
    """Look at the crops that `write_crops` wrote; the promise is about crops of these photographs."""
    return look(
        folders,
        out,
        are_groups=lambda count, example: False,
        reading=reading,
        pinned=PINNED,
    )
