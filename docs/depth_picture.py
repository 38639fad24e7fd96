"""Draws docs/images/depth.png, the picture of docs/how-to/depth.md, of what its commands wrote.

python docs/depth_picture.py FOLDER  # in which examples/depth.py and the commands of the page ran
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import conformask as cm

OUT = Path(__file__).parent / "images" / "depth.png"
GAP, HIDDEN, WRONG, UNKNOWN = 8, (235, 225, 205), (200, 30, 30), (255, 255, 255)
NEAREST, FURTHEST = 2.0, 5.5
"""Metres that are drawn white and black."""


def grey(depth: np.ndarray) -> np.ndarray:
    """Return depth in metres as bytes (H, W, 3), white where it is near."""
    near = np.clip((FURTHEST - depth) / (FURTHEST - NEAREST), 0, 1)
    return np.repeat((255 * near).astype(np.uint8)[..., None], 3, axis=2)


def main(folder: Path) -> None:
    """Draw the scene from its crops: left image, depth, what is shown of it, and where it is wrong."""
    masker = cm.load(folder / "runs" / "ratio")
    panels: dict[str, np.ndarray] = {}
    for part in ("calibration", "new"):
        for triplet in cm.Triplets.from_folder(folder / f"depth-{part}", reading=masker.card.reading):
            row, column = map(int, triplet.name.split("_"))
            y_hat, y = (10 * image[0] for image in (triplet.y_hat, triplet.truth()))
            off = np.abs(np.log(y_hat / np.where(y > 0, y, y_hat))) > np.log(1.25)
            shown, wrong, known = (
                layer[..., None] for layer in (masker(triplet).reshape(y.shape) > 0, off, y > 0)
            )
            crops = {
                "x": np.moveaxis(255 * triplet.x, 0, -1).astype(np.uint8),
                "depth": grey(y_hat),
                "shown": np.where(shown, grey(y_hat), HIDDEN),
                "wrong": np.where(wrong, WRONG, np.where(known, grey(y), UNKNOWN)),
            }
            for name, crop in crops.items():
                panel = panels.setdefault(name, np.full((500, 741, 3), 255, np.uint8))
                panel[row : row + len(crop), column : column + len(crop)] = crop
    half = [Image.fromarray(panel[:480, :720]).resize((480, 320)) for panel in panels.values()]
    picture = Image.new("RGB", (2 * 480 + GAP, 2 * 320 + GAP), "white")
    for index, panel in enumerate(half):
        picture.paste(panel, (index % 2 * (480 + GAP), index // 2 * (320 + GAP)))
    picture.quantize(64).save(OUT, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
