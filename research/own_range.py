"""Bright and dim images in one range, and each in its own: what masks hide of both.

    python research/own_range.py DATA

Fields of nuclei (BBBC038, CC0) of very different brightness, blurred, sampled at half the resolution, with
photons counted, then denoised by total variation and enlarged. The packaged score is calibrated on some of
them in one range and with data_range "image", at thresholds that half of the selection images keep without a
mask. Writes docs/images/own-range.jpg and research/results/own_range.json. One minute.
"""

import argparse
import json
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter, zoom
from skimage.restoration import denoise_tv_chambolle

import conformask as cm
from conformask.images.pictures import as_bytes, error_bytes, heat, in_colors, overlay
from conformask.images.read import list_images, read_image
from conformask.masker.masker import Masker
from conformask.records.record import Array

HERE = Path(__file__).parent
PICTURE, RECORD = HERE.parent / "docs/images/own-range.jpg", HERE / "results/own_range.json"
SIDE, PHOTONS, WEIGHT = 256, 200, 0.08
SELECTION, CALIBRATION = 25, 75
TILE, GAP, HEAD, FOOT = 200, 8, 26, 22
QUANTILE = 0.9
RANGES = {"one": None, "own": "image"}
HEADS = {"one": "one range for all", "own": "each image's own range"}


def fields(data: Path) -> list[Array]:
    """Dark fields of at least SIDE pixels, cut to it, (H, W) in [0, 1], in an order drawn by a seed."""
    grey = [read_image(path).mean(axis=0) for path in list_images(data / "nuclei", recursive=True)]
    dark = [image[:SIDE, :SIDE] for image in grey if min(image.shape) >= SIDE and image.mean() < 0.4]
    return [dark[index] for index in np.random.default_rng(0).permutation(len(dark))]


def degraded(y: Array, generator: np.random.Generator) -> tuple[Array, Array]:
    """The input and the output."""
    x = generator.poisson(zoom(gaussian_filter(y, 1.2), 0.5, order=1).clip(0, 1) * PHOTONS) / PHOTONS
    y_hat = zoom(denoise_tv_chambolle(x, weight=WEIGHT), 2, order=1)
    return x.clip(0, 1).astype(np.float32), y_hat.clip(0, 1).astype(np.float32)


def calibrated(triplets: cm.Triplets) -> tuple[Masker, cm.Evaluation]:
    """The masker of the first images, and its evaluation on the others."""
    parts = (0, SELECTION), (SELECTION, SELECTION + CALIBRATION), (SELECTION + CALIBRATION, len(triplets))
    selection, calibration, test = (triplets.select(range(*ends)) for ends in parts)
    scorer = cm.packaged_scorer()
    masker = cm.calibrate(scorer, calibration, threshold="q0.5", loss="l1", selection=selection)
    return masker, cm.evaluate(masker, test, opt_images=0)


def draw(rows: list[list[tuple[str, Array, str]]]) -> None:
    """Write the picture: a row for each image, of heads, pictures and feet."""
    font = ImageFont.load_default(13)
    canvas = Image.new("RGB", (GAP + (TILE + GAP) * len(rows[0]), HEAD + (TILE + FOOT) * len(rows)), "white")
    ink = ImageDraw.Draw(canvas)
    for row, tiles in enumerate(rows):
        for column, (head, pixels, foot) in enumerate(tiles):
            left, top = GAP + column * (TILE + GAP), HEAD + row * (TILE + FOOT)
            canvas.paste(Image.fromarray(pixels).convert("RGB").resize((TILE, TILE)), (left, top))
            ink.text((left, top + TILE + 3), foot, "black", font)
            ink.text((left, 6), head * (row == 0), "black", font)
    canvas.save(PICTURE, quality=88)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    truths, generator = fields(parser.parse_args().data), np.random.default_rng(1)
    warnings.simplefilter("ignore", UserWarning)  # the packaged network has seen some of these fields
    pairs = [degraded(y, generator) for y in truths]
    columns = [*map(list, zip(*pairs, strict=True)), truths]
    brightest = np.array([y_hat.max() for _, y_hat in pairs])[SELECTION + CALIBRATION :]
    thirds = {
        "dim": brightest <= np.quantile(brightest, 1 / 3),
        "bright": brightest >= np.quantile(brightest, 2 / 3),
    }
    record: dict[str, dict[str, float | str]] = {}
    maskers, sizes = {}, {}
    for name, data_range in RANGES.items():
        maskers[name], measured = calibrated(cm.Triplets.from_arrays(*columns, data_range=data_range))
        sizes[name] = measured.images.size
        hidden = {third: float(measured.images.size[which].mean()) for third, which in thirds.items()}
        record[name] = {"sentence": maskers[name].sentence, "coverage": measured.coverage, **hidden}
        record[name] |= {"hidden": measured.mask_size, "test": measured.n_test}
    RECORD.write_text(json.dumps(record, indent=2) + "\n")
    rows = []
    for (third, which), name in zip(thirds.items(), ("own", "one"), strict=True):
        order = np.argsort(sizes[name][which], kind="stable")
        index = np.flatnonzero(which)[order[int(QUANTILE * len(order))]]
        x, y_hat, y = (column[SELECTION + CALIBRATION + index] for column in columns)
        shown = in_colors((y_hat / y_hat.max())[None])
        errors, scale = error_bytes(y[None], y_hat[None])
        row = [("output", shown, f"{third}: up to {y_hat.max():.0%}")]
        row.append(("error", heat(errors), f"white is {scale:.2g}"))
        for range_name, masker in maskers.items():
            mask = masker(x, y_hat)
            row.append(
                (HEADS[range_name], overlay(shown, as_bytes(mask[None])), f"hides {1 - mask.mean():.0%}")
            )
        rows.append(row)
    draw(rows)


if __name__ == "__main__":
    main()
