"""Draws pictures of how-to pages, docs/images/{microscopy,photo-software,...}.png.

    python docs/how_to_pictures.py [NAME ...]

All are of photographs that scikit-image packages, enlarged by bicubic interpolation, with the packaged score
network, but for radiology, which shows what examples/volumes.py made. Two minutes on two cores.
"""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from skimage.restoration import denoise_tv_chambolle

import conformask as cm
from conformask.arrays import Triplet
from conformask.extras.make.demonstration import packaged_photographs
from conformask.extras.make.predictors import Bicubic
from conformask.extras.make.tasks import task
from conformask.extras.make.triplets import TrueImages, predicted
from conformask.extras.view.page import ASCII, Strip
from conformask.images.pictures import TITLES, as_bytes, heat, overlay

matplotlib.use("Agg")
from matplotlib import pyplot

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
VOLUMES = ROOT / "examples" / "out" / "volumes"
PLUGIN = ROOT / "tests" / "example_package" / "conformask_pgm.py"
COLOURS = 256
"""Of a file."""
SIDE, SHOWN = 96, ("astronaut_r01_c02", "chelsea_r01_c01")
TISSUE = ("ihc_r03_c03",)
"""Of a tile; the tiles that are shown, of animals and of stained tissue, which take part in nothing else."""
TILE, GAP, LABEL, FONT, INK, EDGE = 256, 10, 28, 19, (40, 40, 48), (214, 216, 212)
THRESHOLDS = (0.02, 0.03, 0.04)
WHOLE, TILED, OVERLAP = "motorcycle_left", 256, 64
GAIN, WEIGHT = 0.004, 0.05
"""Of the noise of three acquisitions; of the denoising."""
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


def microscopy() -> None:
    save(six(strip_of(TISSUE), 0), "microscopy")


def strip_of(names: tuple[str, ...]) -> Strip:
    shown, selection, calibration = parts(names)
    masker = cm.calibrate(cm.packaged_scorer(), calibration, threshold=0.03, selection=selection)
    batch = next(as_triplets(shown).batches(len(shown)))
    return cm.show(masker, batch.x, batch.y_hat, batch.y)


def radiology() -> None:
    """A slice of the volume that examples/volumes.py shows, which has to run before."""
    masker = cm.load(VOLUMES / "masker")
    data = cm.Triplets.from_folder(VOLUMES / "data", reading=cm.Reading(clip="x"), group_from="^([^_]+)")
    test = data.split(seed=1).test
    sizes = cm.Evaluation.load(VOLUMES).images.size
    volume = next(test.select([int(np.argsort(sizes)[int(0.9 * len(test))])]).batches(1))
    save(six(cm.show(masker, volume.x, volume.y_hat, volume.y), 1), "radiology")


def six(strip: Strip, index: int) -> Image.Image:
    """Return the six pictures of a row of the strip, three by three."""
    pictures = strip.rows[index].pictures
    return grid(list(pictures.items()), 3)


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
    columns = [(TITLES["output"], as_bytes(shown[0].y_hat))]
    for threshold in THRESHOLDS:
        moved = masker.recalibrate(threshold=threshold)
        mask = moved(pixels(shown[0].x), pixels(shown[0].y_hat))
        title = f"threshold {moved.card.threshold:.2f}, hidden {hidden(mask)}"
        columns.append((title, hatched(shown[0], mask)))
    save(grid(columns, 2), "photo-software")


def plugin() -> None:
    """The error map of the page's plugin beside l1, and what a promise about each hides."""
    shown, selection, calibration = parts()
    spec = spec_from_file_location("conformask_pgm", PLUGIN)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    y, y_hat = (torch.from_numpy(getattr(shown[0], role)[None]) for role in ("y", "y_hat"))
    ends = {
        "l1": (TITLES["output"], as_bytes(shown[0].y_hat)),
        "edges": (TITLES["truth"], as_bytes(shown[0].y)),
    }
    columns = []
    for name, loss, error in (
        ("l1", "l1", (y - y_hat).abs()),
        ("edges", module.EDGES, module.edges(y, y_hat)),
    ):
        masker = cm.calibrate(
            cm.packaged_scorer(), calibration, threshold="q0.5", loss=loss, selection=selection
        )
        mask = masker(pixels(shown[0].x), pixels(shown[0].y_hat))
        each = error[0].mean(dim=0).numpy()
        columns.append(ends[name])
        columns.append((f"error map {name}", heat(as_bytes(each[None] / np.quantile(each, 0.995)))))
        columns.append((f"hidden for {name}, {hidden(mask)}", hatched(shown[0], mask)))
    save(grid(columns, 3), "plugin")


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
        with Image.open(Path(folder) / "masks" / "overlays" / f"{WHOLE}.jpg") as overlaid:
            picture = overlaid.convert("RGB")
    pen = ImageDraw.Draw(picture)
    down, right = scorer.spans(shown.y_hat.shape[1:])
    for rows, columns in product(down, right):
        pen.rectangle((columns.start, rows.start, columns.stop - 1, rows.stop - 1), outline="white")
    picture.save(IMAGES / "whole-images.jpg", quality=85)


def no_clean_truth() -> None:
    """Denoised tissue, calibrated on two noisy repeats, and the error that nobody sees in practice."""
    generator = np.random.default_rng(0)
    tissue = packaged_photographs()["ihc"][..., 1:2] / np.float32(255)
    corners = product(*(range(0, side - STREAM_SIDE + 1, STREAM_SIDE) for side in tissue.shape[:2]))
    y = np.stack([tissue[top : top + STREAM_SIDE, left : left + STREAM_SIDE] for top, left in corners])
    x, b, c = (generator.poisson(y / GAIN) * GAIN for _ in range(3))
    y_hat = np.stack([denoise_tv_chambolle(each, weight=WEIGHT, channel_axis=-1) for each in x])
    x, b, c, y_hat = (each.clip(0, 1).astype(np.float32) for each in (x, b, c, y_hat))
    order = generator.permutation(len(y))
    shown, selection, calibration = order[0], order[1:21], order[21:]
    parts = [
        cm.Triplets.from_arrays(x[at], y_hat[at], b[at], repeats=c[at]) for at in (selection, calibration)
    ]
    masker = cm.calibrate(
        cm.Heuristic(cm.local_spread, channels=1), parts[1], threshold="q0.2", loss=cm.CleanMean("l2"),
        selection=parts[0],
    )  # fmt: skip
    mask = masker(x[shown], y_hat[shown])
    error = np.abs(y - y_hat)[shown, ..., 0]
    triplet = Triplet("tissue", *(np.moveaxis(each[shown], -1, 0) for each in (x, y_hat, y)))
    images = [("input", triplet.x), ("repeat b", np.moveaxis(b[shown], -1, 0))]
    images += [("repeat c", np.moveaxis(c[shown], -1, 0)), ("output", triplet.y_hat)]
    columns = [(title, np.squeeze(as_bytes(image))) for title, image in images]
    columns.append((f"hidden, {hidden(mask)}", hatched(triplet, mask)))
    columns.append(("error to the clean image", heat(as_bytes(error[None] / np.quantile(error, 0.995)))))
    save(grid(columns, 3), "no-clean-truth")


def hidden(mask: np.ndarray) -> str:
    return f"{100 - 100 * mask.mean():.0f} %"


def hatched(triplet: Triplet, mask: np.ndarray) -> np.ndarray:
    return overlay(enlarged(as_bytes(triplet.y_hat)), enlarged(as_bytes(mask[None])))


def enlarged(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((TILE, TILE), Image.Resampling.NEAREST))


def grid(pictures: list[tuple[str, np.ndarray]], columns: int) -> Image.Image:
    """Return pictures in rows, with a title above each."""
    height = max(round(TILE * image.shape[0] / image.shape[1]) for _, image in pictures)
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (TILE + GAP) - GAP, rows * (height + LABEL + GAP) - GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT)
    for index, (title, image) in enumerate(pictures):
        left, top = index % columns * (TILE + GAP), index // columns * (height + LABEL + GAP)
        pen.text((left, top), title.translate(ASCII), fill=INK, font=font)
        tile = Image.fromarray(image).convert("RGB").resize((TILE, height), Image.Resampling.NEAREST)
        sheet.paste(tile, (left, top + LABEL))
        pen.rectangle((left, top + LABEL, left + TILE - 1, top + LABEL + height - 1), outline=EDGE)
    return sheet


def save(image: Image.Image, name: str) -> None:
    image.convert("RGB").quantize(COLOURS, kmeans=2, dither=Image.Dither.NONE).save(
        IMAGES / f"{name}.png", optimize=True
    )


PICTURES = {
    "microscopy": microscopy,
    "no-clean-truth": no_clean_truth,
    "photo-software": photo_software,
    "plugin": plugin,
    "radiology": radiology,
    "watching": watching,
    "whole-images": whole_images,
}

if __name__ == "__main__":
    for name in sys.argv[1:] or PICTURES:
        PICTURES[name]()
