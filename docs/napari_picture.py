"""Photographs napari, into docs/images/napari.png, with a stained tissue enlarged four times.

xvfb-run -s "-screen 0 1280x800x24" python docs/napari_picture.py
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import napari
import numpy as np
from PIL import Image
from qtpy.QtWidgets import QApplication

import conformask as cm
from conformask.arrays import Triplet
from conformask.extras.make.demonstration import packaged_photographs
from conformask.extras.make.predictors import Bicubic
from conformask.extras.make.tasks import task
from conformask.extras.make.triplets import TrueImages, predicted

OUT = Path(__file__).parent / "images" / "napari.png"
TILE, SHOWN = 256, "ihc_r00_c01"
COLOURS = 256
"""Of the file."""


def main() -> None:
    enlarge = task("super_resolution")
    images = TrueImages.from_arrays(packaged_photographs(), TILE, TILE, split="tile")
    made = {triplet.name: triplet for _, triplet in predicted(images, enlarge, Bicubic(enlarge))}
    shown, others = made.pop(SHOWN), list(made.values())
    selection, calibration = (arrays(others[start::2]) for start in (0, 1))
    with TemporaryDirectory() as run:
        masker = cm.calibrate(cm.packaged_scorer(), calibration, threshold=0.048, selection=selection)
        masker.save(run)
        photograph(shown, Path(run))


def arrays(triplets: list[Triplet]) -> cm.Triplets:
    columns = ([pixels(getattr(each, role)) for each in triplets] for role in ("x", "y_hat", "y"))
    return cm.Triplets.from_arrays(*columns, names=[each.name for each in triplets])


def pixels(image: np.ndarray) -> np.ndarray:
    return np.moveaxis(image, 0, -1)


def photograph(triplet: Triplet, run: Path) -> None:
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1280, 800)
    step = TILE // triplet.x.shape[-1]
    viewer.add_image(pixels(triplet.x), name="low resolution", scale=(step, step), visible=False)
    viewer.add_image(pixels(triplet.y_hat), name="enlarged")
    _, widget = viewer.window.add_plugin_dock_widget("conformask")
    widget.run.value = run
    widget.x.value, widget.y_hat.value = viewer.layers["low resolution"], viewer.layers["enlarged"]
    widget.compute.native.click()
    while not widget.compute.enabled:
        QApplication.processEvents()
    with widget.run.line_edit.changed.blocked():  # else the widget says that there is no such folder
        widget.run.line_edit.value = "runs/enlarge"
    settle()
    viewer.reset_view()
    settle()
    screen = viewer.screenshot(canvas_only=False, flash=False)
    Image.fromarray(screen).convert("RGB").quantize(COLOURS).save(OUT, optimize=True)
    viewer.close()


def settle() -> None:
    for _ in range(50):
        QApplication.processEvents()


if __name__ == "__main__":
    main()
