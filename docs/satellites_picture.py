"""Draws docs/images/satellites.png, the picture of docs/how-to/satellites.md, of what its commands wrote.

python docs/satellites_picture.py FOLDER  # in which examples/satellites.py and the commands of the page ran
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from conformask.images.read import decode, read_image
from conformask.records.reading import Reading

OUT = Path(__file__).parent / "images" / "satellites.png"
TILES, ZOOM, GAP, HIDDEN = 3, 6, 8, (235, 225, 205)


def as_bytes(image: np.ndarray) -> np.ndarray:
    """Return bytes (H, W, 3); 0 for nodata."""
    return (255 * np.clip(np.nan_to_num(image) / 255, 0, 1)).astype(np.uint8)


def main(folder: Path) -> None:
    """Draw the tiles with the most contrast: input, output, what is shown of it, the truth, the map."""
    reading = Reading(nan="outside")
    new = folder / "scene-new"
    names = sorted(path.name for path in (new / "y").glob("*.tif"))
    contrast = {name: np.nanstd(decode(new / "y" / name, reading)) for name in names}
    rows = []
    for name in sorted(names, key=contrast.__getitem__)[-TILES:]:
        x, y_hat, y = (as_bytes(decode(new / role / name, reading)) for role in ("x", "y_hat", "y"))
        shown = read_image(folder / "masks" / "masks" / name).min(axis=0)[..., None] > 0
        spread = decode(new / "map" / name)
        heat = np.repeat((255 * np.clip(spread / spread.max(), 0, 1)).astype(np.uint8)[..., None], 3, axis=2)
        side, gap = ZOOM * len(y), np.full((ZOOM * len(y), GAP, 3), 255, np.uint8)
        tiles = [x, y_hat, np.where(shown, y_hat, np.array(HIDDEN, np.uint8)), y, heat]
        resized = [
            np.asarray(Image.fromarray(tile).resize((side, side), Image.Resampling.NEAREST)) for tile in tiles
        ]
        rows.append(np.concatenate([part for tile in resized for part in (tile, gap)][:-1], axis=1))
    gap = np.full((GAP, rows[0].shape[1], 3), 255, np.uint8)
    picture = np.concatenate([part for row in rows for part in (row, gap)][:-1])
    Image.fromarray(picture).quantize(128).save(OUT, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
