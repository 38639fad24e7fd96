"""Draws pictures of how-to pages, docs/images/{microscopy,notebooks,photo-software,...}.png.

    python docs/how_to_pictures.py [NAME ...]

All are of photographs that scikit-image packages, enlarged by bicubic interpolation, with the packaged score
network. Two minutes on two cores.
"""

import sys
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

import conformask as cm
from conformask.data.sources import TrueImages
from conformask.demo import packaged_photographs
from conformask.pictures.pixels import HATCH, as_bytes, heat, overlay
from conformask.predictors.classical import Bicubic
from conformask.preparation import predicted
from conformask.tasks import task
from conformask.types import Triplet

matplotlib.use("Agg")
from matplotlib import pyplot

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
PLUGIN = ROOT / "tests" / "plugins" / "example_package" / "conformask_pgm.py"
COLOURS = 256
"""Of a file."""
SIDE, SHOWN = 96, ("astronaut_r01_c02", "chelsea_r01_c01")
TISSUE = ("ihc_r02_c01", "ihc_r03_c03")
"""Of a tile; the tiles that are shown, of animals and of stained tissue, which take part in nothing else."""
TILE, GAP, LABEL = 256, 10, 24
THRESHOLDS = (0.02, 0.03, 0.04)
WHOLE, TILED, OVERLAP = "motorcycle_left", 256, 64
STREAM_SIDE, BEFORE, AFTER, NOISE = 64, 90, 60, 0.05
"""Of a tile of the stream; its images before and after the camera changes; the noise from then on."""


def tiles(side: int) -> list[Triplet]:
    """Return the tiles of all photographs, in random order."""
    enlarge = task("super_resolution")
    images = TrueImages.from_arrays(packaged_photographs(), side, side, split="tile")
    found = [triplet for _, triplet in predicted(images, enlarge, Bicubic(enlarge))]
    return [found[index] for index in np.random.default_rng(0).permutation(len(found))]


def as_triplets(found: list[Triplet]) -> cm.Triplets:
    columns = [[pixels(getattr(each, role)) for each in found] for role in ("x", "y_hat", "y")]
    return cm.Triplets.from_arrays(*columns, names=[each.name for each in found])


def pixels(image: np.ndarray) -> np.ndarray:
    return np.moveaxis(image, 0, -1)


def parts(names: tuple[str, ...] = SHOWN) -> tuple[list[Triplet], cm.Triplets, cm.Triplets]:
    """Return the tiles that are shown, and those for selection and calibration."""
    found = tiles(SIDE)
    others = [each for each in found if each.name not in names]
    shown = [next(each for each in found if each.name == name) for name in names]
    return shown, as_triplets(others[:60]), as_triplets(others[60:])


def notebooks(name: str = "notebooks", shown_names: tuple[str, ...] = SHOWN) -> None:
    """Images side by side, as cm.show shows them in a notebook."""
    shown, selection, calibration = parts(shown_names)
    masker = cm.calibrate(cm.packaged_scorer(), calibration, threshold=0.03, selection=selection)
    batch = next(as_triplets(shown).batches(2))
    with TemporaryDirectory() as folder:
        strip = cm.show(masker, batch.x, batch.y_hat, batch.y).save(Path(folder) / "figure.png")
        save(Image.open(strip), name)


def photo_software() -> None:
    """One photograph at three positions of a slider whose every position is promised."""
    shown, selection, calibration = parts()
    masker = cm.calibrate(
        cm.packaged_scorer(),
        calibration,
        threshold=THRESHOLDS[0],
        selection=selection,
        promise="simultaneous",
    )
    columns = [("output", as_bytes(shown[0].y_hat))]
    for threshold in THRESHOLDS:
        moved = masker.recalibrate(threshold=threshold)
        mask = moved(pixels(shown[0].x), pixels(shown[0].y_hat))
        title = f"threshold {moved.card.threshold:.2f}, hidden {hidden(mask)}"
        columns.append((title, hatched(shown[0], mask)))
    save(row(columns), "photo-software")


def plugin() -> None:
    """The error map of the page's plugin beside l1, and what a promise about each hides."""
    shown, selection, calibration = parts()
    spec = spec_from_file_location("conformask_pgm", PLUGIN)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    y, y_hat = (torch.from_numpy(getattr(shown[0], role)[None]) for role in ("y", "y_hat"))
    columns = [("output", as_bytes(shown[0].y_hat))]
    for name, loss, error in (
        ("l1", "l1", (y - y_hat).abs()),
        ("edges", module.EDGES, module.edges(y, y_hat)),
    ):
        masker = cm.calibrate(
            cm.packaged_scorer(), calibration, threshold="q0.5", loss=loss, selection=selection
        )
        mask = masker(pixels(shown[0].x), pixels(shown[0].y_hat))
        each = error[0].mean(dim=0).numpy()
        columns.append((f"error map {name}", heat(as_bytes(each[None] / np.quantile(each, 0.995)))))
        columns.append((f"hidden for {name}, {hidden(mask)}", hatched(shown[0], mask)))
    save(row(columns), "plugin")


def watching() -> None:
    """The evidence that monitor reports, image by image, around a change of the camera."""
    found = tiles(STREAM_SIDE)
    used, stream = found[: -BEFORE - AFTER], found[-BEFORE - AFTER :]
    masker = cm.calibrate(
        cm.packaged_scorer(), as_triplets(used[60:]), threshold=0.03, selection=as_triplets(used[:60])
    )
    enlarge, noise = Bicubic(task("super_resolution")), np.random.default_rng(0)
    watch, evidence = cm.StreamMonitor(masker), []
    for index, each in enumerate(stream):
        x = each.x if index < BEFORE else (each.x + noise.normal(0, NOISE, each.x.shape)).clip(0, 1)
        y_hat = enlarge(torch.from_numpy(x[None]).float())[0].numpy()
        new = cm.Triplets.from_arrays(
            *([pixels(image.astype(np.float32))] for image in (x, y_hat)), names=[each.name]
        )
        evidence.append(watch.add(new).evidence)
    figure, axes = pyplot.subplots(figsize=(8, 3.2), layout="constrained")
    axes.semilogy(range(1, len(evidence) + 1), evidence, color="#00598f", linewidth=2)
    axes.axhline(100, color="#b84500", linestyle="--")
    axes.text(1, 130, "alarm at level 0.01", color="#b84500")
    axes.axvline(BEFORE + 0.5, color="#5d6470", linestyle=":")
    axes.text(BEFORE, 10, "from here on, images are noisier ", ha="right", color="#5d6470")
    axes.set(xlabel="new images", ylabel="largest evidence so far", xlim=(0, len(evidence)), ylim=(0.5, 1000))
    axes.set_yticks([1, 10, 100, 1000], ["1", "10", "100", "1000"])
    axes.spines[["top", "right"]].set_visible(False)
    with TemporaryDirectory() as folder:
        figure.savefig(Path(folder) / "watching.png", dpi=130)
        save(Image.open(Path(folder) / "watching.png"), "watching")


def whole_images() -> None:
    """A photograph that is masked by overlapping tiles, as one image."""
    enlarge, triplets = task("super_resolution"), []
    for name, image in packaged_photographs().items():
        height, width = (side // 4 * 4 for side in image.shape[:2])
        y = torch.from_numpy(np.moveaxis(image[:height, :width], -1, 0) / np.float32(255))[None]
        x = enlarge.degrade(y)
        triplets.append(Triplet(name, x[0].numpy(), Bicubic(enlarge)(x)[0].numpy(), y[0].numpy()))
    others = as_triplets([each for each in triplets if each.name != WHOLE])
    shown = next(each for each in triplets if each.name == WHOLE)
    scorer = cm.Tiled(cm.packaged_scorer().of(others), TILED, OVERLAP)
    masker = cm.calibrate(scorer, others, threshold=0.03)
    with TemporaryDirectory() as folder:
        cm.write_masks(masker, as_triplets([shown]), Path(folder) / "masks")
        after = Image.open(Path(folder) / "masks" / "overlays" / f"{WHOLE}.jpg")
        after.load()
    before = Image.fromarray(as_bytes(shown.y_hat))
    pen = ImageDraw.Draw(before)
    down, right = scorer.spans(shown.y_hat.shape[1:])
    for index, (rows, columns) in enumerate((rows, columns) for rows in down for columns in right):
        colour = ((255, 255, 255), HATCH)[index % 2]
        pen.rectangle((columns.start, rows.start, columns.stop - 1, rows.stop - 1), outline=colour, width=2)
    sheet = Image.new("RGB", (before.width, 2 * before.height + GAP), "white")
    sheet.paste(before, (0, 0))
    sheet.paste(after.resize(before.size), (0, before.height + GAP))
    sheet.save(IMAGES / "whole-images.jpg", quality=82)


def hidden(mask: np.ndarray) -> str:
    return f"{100 - 100 * mask.mean():.0f} %"


def hatched(triplet: Triplet, mask: np.ndarray) -> np.ndarray:
    return overlay(enlarged(as_bytes(triplet.y_hat)), enlarged(as_bytes(mask[None])))


def enlarged(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((TILE, TILE), Image.Resampling.NEAREST))


def row(columns: list[tuple[str, np.ndarray]]) -> Image.Image:
    """Return pictures side by side, with a title above each."""
    sheet = Image.new("RGB", (len(columns) * (TILE + GAP) - GAP, TILE + LABEL), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    for index, (title, image) in enumerate(columns):
        left = index * (TILE + GAP)
        pen.text((left, 0), title, fill=(40, 40, 48), font=font)
        sheet.paste(
            Image.fromarray(image).convert("RGB").resize((TILE, TILE), Image.Resampling.NEAREST),
            (left, LABEL),
        )
    return sheet


def save(image: Image.Image, name: str) -> None:
    image.convert("RGB").quantize(COLOURS, kmeans=2, dither=Image.Dither.NONE).save(
        IMAGES / f"{name}.png", optimize=True
    )


PICTURES = {
    "microscopy": partial(notebooks, "microscopy", TISSUE),
    "notebooks": notebooks,
    "photo-software": photo_software,
    "plugin": plugin,
    "watching": watching,
    "whole-images": whole_images,
}

if __name__ == "__main__":
    for name in sys.argv[1:] or PICTURES:
        PICTURES[name]()
